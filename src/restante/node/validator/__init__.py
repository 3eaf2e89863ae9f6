"""The validator role: the machine of `rules.validator`, driven."""
