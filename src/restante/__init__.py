"""Restante: a verifiable replacement for the mail servers of gossip messengers."""

__version__ = "0.1.0"
