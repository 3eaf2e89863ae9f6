"""Plans by chance: the random generator, and the plain ones it grew out of."""

from collections.abc import Callable
from random import Random

from restante.testing.sim.aged import (
    ALL_LEVELS,
    FOURS,
    INDEX_OF_FOURS,
    INDEX_OF_PAIRS,
    PAIRS,
    leveled,
)
from restante.testing.sim.directed import DIRECTED
from restante.testing.sim.links import Quality
from restante.testing.sim.plan import GENESIS_S, WINDOW_MS, Plan

Generator = Callable[[Random, int], Plan]

HOSTILE_PROPOSERS = (
    "omit",
    "empty",
    "worst",
    "invalid",
    "repeat",
    "foreign-cid",
    "withhold",
    "copies",
)
LEVELED = 0.15
"""The part of random runs that have roll-ups: they need more windows, and take longer."""
MANNERS = ("accept", "silent", "fresh", "liar", "mixed", "conflict", "turning")


def faulty(n: int) -> int:
    """f of a set of n."""
    return (n - 1) // 3


def calm(rng: Random, n: int) -> Plan:
    """Nothing goes wrong; everyone sees everything, a little apart."""
    plan = Plan(rng, n, faulty(n))
    for _ in range(rng.randint(2, 6)):
        at = rng.randint(-2_000, plan.windows * WINDOW_MS - 2_000)
        plan.envelope(at, [*plan.names, "p0"], spread_ms=800)
    return plan


def random(rng: Random, n: int) -> Plan:
    """A bit of everything, each by chance."""
    f = faulty(n)
    plan = Plan(rng, n, f, windows=rng.choice((2, 3, 3, 4)))
    plan.quality = Quality(
        median_ms=rng.choice((20, 60, 300)),
        sigma=rng.choice((0.3, 0.8, 1.2)),
        loss=rng.choice((0.0, 0.01, 0.1)),
        duplicate=rng.choice((0.0, 0.1)),
    )
    for name in rng.sample(plan.names, rng.choice((0, f, f))):
        plan.byzantine[name] = rng.choice(MANNERS)
    plan.proposers = {"p0": "honest"} if rng.random() < 0.8 else {}
    for i in range(rng.choice((0, 0, 1, 2))):
        plan.proposers[f"h{i}"] = rng.choice(HOSTILE_PROPOSERS)
    if rng.random() < 0.3:
        plan.parameters["batch_max_envelopes"] = rng.randint(1, 3)
    elif rng.random() < 0.1:
        plan.parameters["batch_max_bytes"] = 4_096
    if rng.random() < LEVELED:
        _levels(plan, rng)
    end_ms = plan.windows * WINDOW_MS
    _engine(plan, rng, end_ms)
    _envelopes(plan, rng, end_ms)
    _faults(plan, rng, end_ms)
    plan.heal_ms = end_ms + rng.randint(0, 20_000)
    return plan


def _levels(plan: Plan, rng: Random) -> None:
    few = ((PAIRS,), (INDEX_OF_PAIRS,), (PAIRS, FOURS), (PAIRS, INDEX_OF_FOURS))
    leveled(plan, rng.choice((*few, *few, ALL_LEVELS)), lag=rng.choice((1, 1, 2)))
    plan.rollup_ms = (20, rng.choice((400, 400, 30_000)))
    if rng.random() < 0.3:
        plan.rollup_slow[rng.choice(plan.honest)] = (60_000, 120_000)
    if rng.random() < 0.3:
        plan.parameters["rollup_limit_bytes"] = rng.choice((60, 150, 300))
    plan.kept_windows = rng.choice((None, 0, 1))


def _engine(plan: Plan, rng: Random, end_ms: int) -> None:
    plan.junk = rng.choice((0.0, 0.0, 0.3, 0.6))
    plan.engine_loss = rng.choice((0.0, 0.0, 0.3))
    plan.engine_delay_ms = rng.choice((50, 500, 5_000))
    if rng.random() < 0.25:
        start = rng.randint(0, end_ms)
        plan.engine_stalls.append((start, start + rng.randint(10_000, 70_000)))
    if rng.random() < 0.25:
        plan.engine = rng.choice(("split", "split", "forging"))
        plan.checks -= {"I5"}
        plan.bound_ms = 60_000


def _envelopes(plan: Plan, rng: Random, end_ms: int) -> None:
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(-5_000, end_ms - 1_000)
        everyone = [*plan.names, *plan.proposers]
        some = rng.choice((everyone, rng.sample(everyone, rng.randint(1, len(everyone)))))
        if rng.random() < 0.15:
            plan.deliver(plan.mint.random_defect(at // 1000 + GENESIS_S), at, some)
            continue
        ttl_s = rng.choice((20, 60, 300))
        age_s = rng.choice((-5, 0, 0, 5, ttl_s - 1))
        made = plan.envelope(at, some, ttl_s, age_s, rng.choice((0, 700, 6_000)))
        if rng.random() < 0.3:
            plan.deliver(made, at, some, 15_000)


def _faults(plan: Plan, rng: Random, end_ms: int) -> None:
    honest = plan.honest
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        steps = rng.choice((0, rng.randint(1, 60)))
        plan.fault(
            rng.randint(-5_000, end_ms),
            "crash",
            rng.choice(honest),
            steps,
            rng.choice((500, 4_000, 50_000)),
        )
    if rng.random() < 0.06:
        at = rng.randint(0, end_ms + 9_000)
        for name in honest:
            plan.fault(at, "crash", name, 0, rng.choice((500, 4_000)))
    if rng.random() < 0.3:
        at = rng.randint(0, end_ms)
        side = rng.sample(plan.names, rng.randint(1, plan.n))
        plan.fault(at, "cut", tuple(side), at + rng.randint(2_000, 60_000))
    for name in honest:
        if rng.random() < 0.5:
            plan.fault(-8_000, "skew", name, rng.randint(-450, 450))
    if rng.random() < 0.1:
        plan.fault(rng.randint(0, end_ms), "skew", rng.choice(honest), rng.choice((-9_000, 4_000)))
    if plan.engine != "honest" and rng.random() < 0.6:
        plan.fault(rng.randint(WINDOW_MS, end_ms + 8_000), "lose-log", rng.choice(honest))


GENERATORS: dict[str, Generator] = {"random": random, "calm": calm, **DIRECTED}

__all__ = ["GENERATORS", "HOSTILE_PROPOSERS", "MANNERS", "Generator", "Quality"]
