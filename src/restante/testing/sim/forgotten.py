"""Plans in which everybody keeps a few windows only, and a validator is away for longer (R6)."""

from random import Random
from typing import TYPE_CHECKING, Any

from restante.testing.sim.histories import SPLIT, only_one_with
from restante.testing.sim.plan import WINDOW_MS, Plan, quiet_plan, some_time

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

WINDOWS = 13
K = 4
BOUND_MS = 300_000


def _forgetful(plan: Plan, rng: Random, away: str, first: int) -> Plan:
    """K windows count for *new*, one or two more are kept; `away` leaves in window
    `first` and is back late."""
    plan.parameters |= {"ttl_max_s": 20, "slack_s": 80}
    plan.kept_batches = K + rng.choice((1, 2))
    plan.windows = WINDOWS
    leaves_ms = WINDOW_MS * first + rng.randint(6_000, 12_000)
    back_ms = (WINDOWS - rng.choice((1, 2))) * WINDOW_MS + rng.randint(0, WINDOW_MS)
    plan.fault(leaves_ms, "crash", away, 0, back_ms - leaves_ms)
    for window in range(1, WINDOWS - 1):
        parties = [name for name in plan.names if name != away or window >= WINDOWS - 2]
        plan.envelope(some_time(rng, window), parties, ttl_s=20)
    plan.heal_ms = WINDOWS * WINDOW_MS
    plan.bound_ms = BOUND_MS
    return plan


def below_every_floor(rng: Random, n: int) -> Plan:
    """A validator comes back when nobody keeps what it missed, and dies in the midst of adopting;
    a Byzantine one says that it keeps all, and offers a log that nobody else signed."""
    plan = quiet_plan(rng, n)
    plan.proposers = {}
    away = rng.choice(plan.honest)
    deaths = rng.choice((0, 0, 1, 2))

    def strike(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        nonlocal deaths
        if verb == "adopts" and node == away and deaths:
            deaths -= 1
            sim.validators[node].down_ms = rng.choice((500, 4_000))
            sim.validators[node].crash_in = rng.randint(1, 12)

    plan.hooks.append(strike)
    return _forgetful(plan, rng, away, rng.choice((1, 2)))


def below_another_history(rng: Random, n: int) -> Plan:
    """The validator that is away was shown another history than the others, and cosigned it."""
    plan = quiet_plan(rng, n)
    away = rng.choice(plan.honest)
    only_one_with(plan, rng, away)
    plan = _forgetful(plan, rng, away, 2)
    plan.checks = SPLIT | {"passed"}
    return plan


FORGOTTEN = (below_every_floor, below_another_history)
