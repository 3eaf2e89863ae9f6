"""Runs by seed, and their outcome."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from unittest import mock

from restante.formats import level, message, note
from restante.testing.sim.generators import GENERATORS
from restante.testing.sim.invariants import Violation
from restante.testing.sim.mutants import MUTANTS
from restante.testing.sim.plan import WINDOW_MS, Plan
from restante.testing.sim.simulation import Simulation

_verify = note.ed25519_verifies


@lru_cache(maxsize=65_536)
def _remembered_verify(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    return _verify(public_key, signature, signed)


@contextmanager
def remembered_signatures() -> Iterator[None]:
    """Verify every (key, signature, message) once: all nodes of a run share the work."""
    with (
        mock.patch.object(note, "ed25519_verifies", _remembered_verify),
        mock.patch.object(message, "ed25519_verifies", _remembered_verify),
    ):
        yield


def short_days(plan: Plan) -> AbstractContextManager[object]:
    """How long children of roll-ups are kept: a day is longer than any run."""
    if plan.kept_windows is None:
        return nullcontext()
    return mock.patch.object(level, "DAY_S", plan.kept_windows * WINDOW_MS // 1000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    seed: int
    generator: str
    n: int
    events: int
    virtual_s: float
    decided: int
    violated: tuple[str, ...] = ()
    """The invariants that do not hold."""
    detail: str = ""
    mutant: str | None = None
    trace: list[str] = field(default_factory=list)

    def report(self) -> str:
        """For a person: what failed, how to see it again, and the last events before it."""
        again = (
            f"restante dev sim --seed {self.seed} --runs 1"
            f" --generator {self.generator} --validators {self.n}"
            + (f" --mutant {self.mutant}" if self.mutant else "")
        )
        return "\n".join([f"violated: {self.detail}", f"run again: {again}", *self.trace])


def simulate(
    seed: int, generator: str = "random", n: int = 4, mutant: str | None = None
) -> Outcome:
    """One run: a pure function of its arguments."""
    plan = GENERATORS[generator](Random(f"{generator} {n} {seed}"), n)
    switched_off = MUTANTS[mutant].applied() if mutant else nullcontext()
    with remembered_signatures(), short_days(plan), switched_off:
        sim = Simulation(plan)
        violated: tuple[str, ...] = ()
        detail = ""
        try:
            sim.run()
        except Violation as violation:
            violated, detail = violation.invariants, str(violation)
    return Outcome(
        seed,
        generator,
        n,
        sim.world.events,
        sim.since_genesis_ms / 1000,
        max(len(chain) for chain in sim.history.chains.values()),
        violated,
        detail,
        mutant,
        sim.history.lines() if violated else [],
    )
