"""The proposer role of one who is no validator."""
