"""Plans with a hostile engine that shows validators different certified histories."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from restante.testing.sim.plan import WINDOW_MS, Plan, quiet_plan, some_time

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

SPLIT = frozenset({"I1", "I2", "I3", "I6", "holder", "busy"})


def _split(rng: Random, n: int) -> Plan:
    """Window 0 has two certified batches: empty, and {e}; e reached one validator in time."""
    plan = quiet_plan(rng, n)
    plan.engine, plan.checks, plan.bound_ms = "split", SPLIT, 30_000
    plan.proposers = {"p0": "honest", "h0": "empty"}
    plan.envelope(some_time(rng, 0), [rng.choice(plan.honest), "p0"], ttl_s=200)
    plan.heal_ms = plan.windows * WINDOW_MS
    return plan


def _with_or_without(wants: Callable[["Simulation", str], bool]) -> Any:
    """An engine that waits for both batches of window 0, then shows each validator one of them;
    of later windows the first that is certified."""

    def show(
        sim: "Simulation", node: str, window: int, batches: list[frozenset[bytes]]
    ) -> int | None:
        if window > 0:
            return 0
        if len({bool(batch) for batch in batches}) < 2:
            return None
        wanted = wants(sim, node)
        return next(i for i, batch in enumerate(batches) if bool(batch) is wanted)

    return show


def only_one_with(plan: Plan, rng: Random, name: str) -> None:
    """A split engine that shows {e} in window 0 to one validator alone."""
    plan.engine = "split"
    plan.proposers = {"h0": "empty"}
    plan.envelope(some_time(rng, 0), [name], ttl_s=20)
    plan.show = _with_or_without(lambda _, node: node == name)


def split_history(rng: Random, n: int) -> Plan:
    """Some validators are shown {e} in window 0, the others the empty batch."""
    plan = _split(rng, n)
    with_e = set(rng.sample(plan.honest, len(plan.honest) - plan.f))
    plan.show = _with_or_without(lambda _, node: node in with_e)
    return plan


def lost_log(rng: Random, n: int) -> Plan:
    """All are shown {e} and commit it; some die before they cosign, freeze window 1 when they are
    back, lose their log at once, and are shown the empty batch.

    Had they cosigned, they would halt on the other history, and accept nothing any more.
    """
    plan = _split(rng, n)
    losers = set(rng.sample(plan.honest, len(plan.honest) - plan.f))
    lost: set[str] = set()

    def lose(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        if node not in losers or node in lost:
            return
        if verb == "committed" and details[0] == 0:
            validator = sim.validators[node]
            validator.crash_in = 1
            validator.down_ms = 2 * WINDOW_MS + rng.randint(100, 900) - sim.since_genesis_ms
        if verb == "froze" and details[0] == 1:
            lost.add(node)
            sim.world.at(sim.world.now_ms + rng.randint(1, 5), sim.nemesis.lose_log, node)

    plan.hooks.append(lose)
    plan.show = _with_or_without(lambda _, node: node not in lost)
    return plan


def rebuilt_log(rng: Random, n: int) -> Plan:
    """One validator cosigns the tree that some follow, loses its log, and is shown the others'."""
    plan = _split(rng, n)
    plan.windows = 2
    honest = rng.sample(plan.honest, len(plan.honest))
    half = (len(honest) - 1) // 2
    turncoats = set(honest[2 * half :])
    with_e = set(honest[:half])
    lost: set[str] = set()

    def lose(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        if verb == "cosigned" and node in turncoats and node not in lost:
            lost.add(node)
            sim.world.at(sim.world.now_ms + rng.randint(1, 9_000), sim.nemesis.lose_log, node)

    plan.hooks.append(lose)
    plan.show = _with_or_without(
        lambda _, node: node in with_e or (node in turncoats and node not in lost)
    )
    return plan


def restored_backup(rng: Random, n: int) -> Plan:
    """One validator cosigns, gets its lock state of before back, and is shown another history.

    Its peers have read its cosignature by then: nothing else can tell it.
    """
    plan = rebuilt_log(rng, n)
    plan.hooks.clear()
    honest = plan.honest
    turncoat = rng.choice(honest)
    others = [v for v in honest if v != turncoat]
    with_e = set(others[: len(others) // 2])
    restored: set[str] = set()

    def restore(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        if verb == "cosigned" and node == turncoat and not restored:
            restored.add(node)
            sim.world.at(sim.world.now_ms + rng.randint(5_000, 9_000), sim.nemesis.restore, node)

    plan.hooks.append(restore)
    plan.ruined = {turncoat}
    plan.fault(rng.randint(-2_000, 28_000), "backup", turncoat)
    plan.show = _with_or_without(
        lambda _, node: node in with_e or (node == turncoat and node not in restored)
    )
    return plan
