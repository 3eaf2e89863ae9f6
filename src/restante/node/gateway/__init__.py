"""The gateway role: a verifying cache without a key."""
