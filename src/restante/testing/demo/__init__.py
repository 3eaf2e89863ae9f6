"""The demonstration: real processes, a real trace, a hostile proposer and a lying gateway."""
