"""How much it costs to agree when every validator has lost some of what the network carried.

n validators and one proposer, each losing every envelope with the same probability, independently
of the others; links between them are good. Views of thousands then differ everywhere, and equality
would never be reached: the rule is containment.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

from restante.formats.message import Answer, PoolPage, Proposal
from restante.testing.sim.invariants import Violation
from restante.testing.sim.links import Quality
from restante.testing.sim.plan import GENESIS_S, WINDOW_MS, Plan
from restante.testing.sim.run import remembered_signatures
from restante.testing.sim.simulation import Simulation
from restante.testing.sim.workload import Made

GROUP_MS = 250  # arrivals that are handled as one group


@dataclass(frozen=True, slots=True)
class Divergence:
    """What came of it."""

    loss: float
    windows: int
    envelopes: int
    """A window."""
    certified: int
    """Windows that were decided and cosigned."""
    amendments: tuple[int, ...]
    """Of the proposal that was certified first, window by window."""
    bodies_missing: int
    """Over all parties: envelopes of the union that each had not received itself."""
    bodies_sent: Counter[str]
    """Envelopes sent between parties, by what they were sent for."""
    id_bytes: Counter[str]
    """Bytes of proposals, answers and pool pages."""

    @property
    def median_amendments(self) -> float:
        return median(self.amendments)

    @property
    def ratio(self) -> float:
        """Bodies sent to bodies missing."""
        return sum(self.bodies_sent.values()) / max(1, self.bodies_missing)

    def report(self) -> str:
        """A few lines for a person."""
        bodies = ", ".join(f"{what} {count}" for what, count in sorted(self.bodies_sent.items()))
        ids = ", ".join(f"{what} {size // 1000} kB" for what, size in sorted(self.id_bytes.items()))
        return (
            f"loss {self.loss:.1%}: {self.certified} of {self.windows} windows of {self.envelopes}"
            f" certified; amendments {list(self.amendments)}, median {self.median_amendments:g}\n"
            f"  bodies sent {sum(self.bodies_sent.values())} for {self.bodies_missing} missing"
            f" ({self.ratio:.2f} x): {bodies or 'none'}\n"
            f"  ids: {ids}"
        )


class _Meter:
    """Counts what goes between parties."""

    def __init__(self) -> None:
        self.bodies: Counter[str] = Counter()
        self.id_bytes: Counter[str] = Counter()
        self._sizes: dict[int, tuple[Any, int]] = {}

    def __call__(self, op: str, content: Any) -> None:
        match op, content:
            case "push", (_, _, raws):
                self.bodies["pushed"] += len(raws)
            case "bodies answer", raws:
                self.bodies["fetched"] += len(raws)
            case "batch answer", archived if archived is not None:
                self.bodies["in batches"] += len(archived.raws)
            case "proposal", (Proposal() as p,):
                kind = "proposals" if p.against is None else "differences"
                self.id_bytes[kind] += self._size(p)
            case _, Answer() as answer:
                self.id_bytes["answers"] += self._size(answer)
            case _, PoolPage() as page:
                self.id_bytes["pool pages"] += self._size(page)

    def _size(self, message: Proposal | Answer | PoolPage) -> int:
        known = self._sizes.get(id(message))
        if known is None:
            known = self._sizes[id(message)] = (message, len(message.encode()))
        return known[1]


def measure(
    loss: float,
    *,
    windows: int = 3,
    envelopes: int = 3_000,
    n: int = 4,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Divergence:
    """One run; invariants are checked all the while. Raises Violation."""
    rng = Random(f"divergence {seed} {loss}")
    plan = Plan(rng, n, (n - 1) // 3, windows, quality=Quality(median_ms=40, sigma=0.5))
    plan.pool_page_ids, plan.events_max = 4_096, 10**7
    parties = [*plan.names, "p0"]
    amendments: dict[int, int] = {}

    def certified(_: Simulation, verb: str, node: str, details: tuple[Any, ...]) -> None:
        if verb == "certified" and details[0] < windows:
            amendments.setdefault(details[0], details[1])
            tell(f"loss {loss:.1%}: window {details[0]} certified by {node}")

    plan.hooks.append(certified)
    missing, groups = _views(plan, rng, parties, loss, envelopes)
    with remembered_signatures():
        sim = Simulation(plan)
        meter = sim.links.meter = _Meter()
        for (at_ms, party), raws in groups.items():
            sim.world.at(sim.genesis_ms + at_ms, sim.parties[party].observe, raws)
        sim.run()
    decided = min(len(sim.history.chains[v]) for v in plan.honest)
    return Divergence(
        loss,
        windows,
        envelopes,
        min(decided, windows),
        tuple(amendments[w] for w in sorted(amendments)),
        missing,
        meter.bodies,
        meter.id_bytes,
    )


def _views(
    plan: Plan, rng: Random, parties: list[str], loss: float, envelopes: int
) -> tuple[int, dict[tuple[int, str], list[bytes]]]:
    """(bodies that parties lack, (time, party) → what arrives then)."""
    missing = 0
    groups: dict[tuple[int, str], list[bytes]] = {}
    for window in range(plan.windows):
        for _ in range(envelopes):
            at = window * WINDOW_MS + rng.randrange(WINDOW_MS)
            made: Made = plan.mint.make(GENESIS_S + at // 1000)
            seen = [party for party in parties if rng.random() >= loss]
            if seen:
                missing += len(parties) - len(seen)
            for party in seen:
                late = at + rng.randrange(1_500)
                group = late // GROUP_MS * GROUP_MS
                groups.setdefault((group, party), []).append(made.raw)
    return missing, groups


__all__ = ["Divergence", "Violation", "measure"]
