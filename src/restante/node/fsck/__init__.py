"""Durable state proved from its bytes."""
