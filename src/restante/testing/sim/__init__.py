"""The state machines of `restante.rules` on virtual time, with everything that may go wrong.

A run is a pure function of (generator, seed, n): see `run.simulate`, and docs/simulation.md.
"""
