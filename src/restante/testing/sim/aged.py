"""Plans with roll-ups: late ones, crashes around them, spans over the limit, and a validator that
was away until only roll-ups were left of what it missed.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from restante.formats.level import Level
from restante.testing.sim.plan import WINDOW_MS, Plan, quiet_plan, some_time

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

PAIRS = Level(2)
FOURS = Level(4)
INDEX_OF_PAIRS = Level(2, "index")
INDEX_OF_FOURS = Level(4, "index")
INDEX_OF_EIGHTS = Level(8, "index")
ALL_LEVELS = (PAIRS, FOURS, INDEX_OF_EIGHTS)
BOUND_MS = 300_000
"""After all faults: passed windows are decided in a row, as fast as batches come."""


def leveled(plan: Plan, levels: tuple[Level, ...], lag: int = 2) -> None:
    """Give a plan roll-ups, and windows enough for one of every level."""
    plan.parameters |= {"levels": levels, "rollup_lag": lag}
    plan.windows = levels[-1].windows + lag


def _quiet(
    rng: Random, n: int, levels: tuple[Level, ...], manner: str = "accept", lag: int = 2
) -> Plan:
    """A few envelopes in most windows."""
    plan = quiet_plan(rng, n, manner=manner)
    leveled(plan, levels, lag)
    for window in range(plan.windows - lag):
        for _ in range(rng.choice((0, 1, 2))):
            plan.envelope(some_time(rng, window), [*plan.names, "p0"], spread_ms=500)
    return plan


def rollups(rng: Random, n: int) -> Plan:
    """Three levels of roll-ups, of a few envelopes."""
    plan = _quiet(rng, n, ALL_LEVELS, lag=rng.choice((1, 2)))
    plan.envelope(some_time(rng, 0), [*plan.names, "p0"])
    return plan


def full_pages(rng: Random, n: int) -> Plan:
    """Roll-ups of several pages, and of more topic buckets than their children have."""
    plan = _quiet(rng, n, (PAIRS, rng.choice((FOURS, INDEX_OF_FOURS))), lag=1)
    plan.pool_page_ids = 64
    for at in range(rng.randint(26, 60)):
        plan.envelope(some_time(rng, at % 3), [*plan.names, "p0"], heavy=True)
    return plan


def late_rollups(rng: Random, n: int) -> Plan:
    """Some validators, or all, make their roll-ups long after they are due."""
    plan = _quiet(rng, n, (PAIRS, rng.choice((FOURS, INDEX_OF_FOURS))), lag=rng.choice((1, 2)))
    plan.envelope(some_time(rng, 0), [*plan.names, "p0"])
    slow_ms = rng.choice(((70_000, 80_000), (95_000, 130_000)))
    for name in rng.sample(plan.honest, rng.randint(1, len(plan.honest))):
        plan.rollup_slow[name] = slow_ms
    plan.heal_ms = plan.windows * WINDOW_MS
    return plan


def crashed_rollups(rng: Random, n: int) -> Plan:
    """Validators die before they install a roll-up, after it, and while the window waits for it."""
    plan = _quiet(rng, n, (PAIRS, FOURS), lag=rng.choice((1, 2)))
    plan.envelope(some_time(rng, 0), [*plan.names, "p0"])
    plan.rollup_ms = (20, rng.choice((400, 40_000)))
    struck: set[tuple[str, Any, Any]] = set()

    def strike(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        if verb not in ("makes", "installs") or (verb, node, details[0]) in struck:
            return
        struck.add((verb, node, details[0]))
        if rng.random() < 0.6:
            sim.validators[node].down_ms = rng.choice((500, 4_000, WINDOW_MS))
            sim.validators[node].crash_in = rng.choice((1, 2, 3, 5))

    plan.hooks.append(strike)
    plan.heal_ms = plan.windows * WINDOW_MS
    plan.bound_ms = BOUND_MS
    return plan


def over_the_limit(rng: Random, n: int) -> Plan:
    """Spans whose envelopes are just over what a roll-up may hold, and others just under it."""
    plan = _quiet(rng, n, (PAIRS, rng.choice((FOURS, INDEX_OF_FOURS))), manner="silent")
    some = [plan.envelope(some_time(rng, 0), [*plan.names, "p0"]) for _ in range(3)]
    plan.parameters["rollup_limit_bytes"] = sum(len(made.raw) for made in some) - rng.choice((0, 1))
    return plan


def long_away(rng: Random, n: int) -> Plan:
    """A validator comes back when its peers have released the batches that it missed, and a
    Byzantine one serves it roll-ups with other records."""
    plan = _quiet(rng, n, ALL_LEVELS, manner=rng.choice(("accept", "mixed")))
    plan.kept_windows = rng.choice((0, 1))
    away = rng.choice(plan.honest)
    leaves_ms = rng.randint(-2_000, 2 * WINDOW_MS)
    for window in range(2, 6):
        parties = [name for name in [*plan.names, "p0"] if name != away]
        plan.envelope(some_time(rng, window), parties, ttl_s=rng.choice((20, 200)))
    back_ms = plan.windows * WINDOW_MS - rng.randint(0, WINDOW_MS)
    plan.fault(leaves_ms, "crash", away, 0, back_ms - leaves_ms)
    plan.heal_ms = plan.windows * WINDOW_MS
    plan.bound_ms = BOUND_MS
    return plan


AGED = (rollups, full_pages, late_rollups, crashed_rollups, over_the_limit, long_away)
