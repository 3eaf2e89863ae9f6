"""Plans that contain one fault for sure: chance alone finds some of them once in 500 runs.

One for each row of the table of missing clauses (docs/simulation.md), and one for each fault that
the simulation has found. Seeds vary delays, order and what does not matter for the fault.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from restante.testing.sim.aged import AGED
from restante.testing.sim.forgotten import FORGOTTEN
from restante.testing.sim.histories import lost_log, rebuilt_log, restored_backup, split_history
from restante.testing.sim.plan import GENESIS_S, WINDOW_MS, Plan, quiet_plan, some_time

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation


def _slow(name: str) -> Callable[["Simulation", str, str, str], int | None]:
    """An adversary who keeps one validator out of every verdict and every proposal."""

    def rule(_: "Simulation", source: str, target: str, op: str) -> int | None:
        return None if source == name and op in ("proposal", "push") else 0

    return rule


def late_decisions(rng: Random, n: int) -> Plan:
    """The engine shows nothing until two windows or more are open."""
    plan = quiet_plan(rng, n)
    plan.engine_stalls = [(WINDOW_MS, WINDOW_MS * rng.choice((2, 3)) + rng.randint(100, 20_000))]
    plan.heal_ms = plan.engine_stalls[0][1]
    plan.envelope(some_time(rng, 0), rng.sample(plan.honest, rng.randint(1, len(plan.honest))))
    plan.envelope(some_time(rng, 0), plan.honest)
    plan.envelope(some_time(rng, 1), [*plan.honest, "p0"])
    return plan


def full_batch(rng: Random, n: int) -> Plan:
    """More than fits, and every validator saw something else."""
    plan = quiet_plan(rng, n, manner=rng.choice(("accept", "silent")))
    plan.parameters["batch_max_envelopes"] = 1
    one, other = rng.sample(plan.honest, 2) if len(plan.honest) > 1 else plan.honest * 2
    plan.envelope(some_time(rng, 0), [one])
    plan.envelope(some_time(rng, 0), [other])
    return plan


def worst_first(rng: Random, n: int) -> Plan:
    """A hostile proposer fills the batch with what has the least work."""
    plan = quiet_plan(rng, n)
    plan.parameters["batch_max_envelopes"] = rng.choice((1, 2))
    plan.proposers = {"p0": "honest", "h0": "worst"}
    for _ in range(4):
        plan.envelope(some_time(rng, 0), plan.names, ttl_s=rng.choice((30, 60, 120)))
    return plan


def carried_over(rng: Random, n: int) -> Plan:
    """A limit of one, and four envelopes in the first window."""
    plan = quiet_plan(rng, n, windows=4)
    plan.parameters["batch_max_envelopes"] = 1
    for _ in range(4):
        plan.envelope(some_time(rng, 0), [*plan.names, "p0"], ttl_s=120)
    return plan


def junk_first(rng: Random, n: int) -> Plan:
    """Junk, stale and doubled entries come before every certificate."""
    plan = quiet_plan(rng, n)
    plan.junk = 0.8
    for window in range(plan.windows):
        plan.envelope(some_time(rng, window), [*plan.names, "p0"])
    return plan


def left_out_holder(rng: Random, n: int) -> Plan:
    """A certificate leaves out the only holder of an envelope; Byzantine keys cosign nothing."""
    plan = quiet_plan(rng, n)
    plan.proposers = {"h0": "empty"}
    plan.envelope(some_time(rng, 0), [rng.choice(plan.honest)])
    return plan


def enough_holders(rng: Random, n: int) -> Plan:
    """f + 1 honest validators hold an envelope that a hostile proposer leaves out."""
    plan = quiet_plan(rng, n)
    plan.proposers = {"p0": "honest", "h0": "empty"}
    plan.envelope(some_time(rng, 0), rng.sample(plan.honest, plan.f + 1))
    return plan


def endless_arrivals(rng: Random, n: int) -> Plan:
    """Envelopes, still valid in the window, reach one validator each all through the amending;
    Byzantine ones answer first, every time with an envelope that nobody has."""
    plan = quiet_plan(rng, n, windows=1, manner="fresh")
    plan.bound_ms = 70_000
    plan.pool_page_ids = 64
    for at in range(26_000, 100_000, 120):
        made = plan.mint.make(GENESIS_S + min(at, 38_000) // 1000, ttl_s=200)
        plan.deliver(made, at, [plan.honest[at // 120 % len(plan.honest)]])
    return plan


def late_arrivals(rng: Random, n: int) -> Plan:
    """Envelopes come between a window's cut-off and its commit: the next one owes them."""
    plan = quiet_plan(rng, n)
    for window in (1, 2):
        for _ in range(2):
            plan.envelope(window * WINDOW_MS + rng.randint(300, 4_500), plan.names)
    return plan


def withheld_bodies(rng: Random, n: int) -> Plan:
    """A hostile proposer names an envelope that it gives to nobody."""
    plan = quiet_plan(rng, n)
    plan.proposers = {"h0": "withhold"}
    plan.envelope(some_time(rng, 0), plan.names)
    return plan


def foreign_cid(rng: Random, n: int) -> Plan:
    """A hostile proposer names the right envelopes and another CID."""
    plan = quiet_plan(rng, n)
    plan.proposers = {"h0": "foreign-cid"}
    plan.envelope(some_time(rng, 0), plan.names)
    return plan


def bad_certificate(rng: Random, n: int) -> Plan:
    """More than f validators accept an invalid batch: the rest may not commit it.

    Beyond what the rules promise anything for, but I2 on those who are honest.
    """
    plan = quiet_plan(rng, n)
    plan.byzantine = dict.fromkeys(plan.names[1:][: n - plan.f], "accept")
    plan.checks = frozenset({"I2"})
    plan.proposers = {"h0": rng.choice(("invalid", "repeat"))}
    for window in (0, 1):
        plan.envelope(some_time(rng, window), plan.names)
    plan.deliver(plan.mint.random_defect(GENESIS_S + 3), 3_000, plan.names)
    return plan


def invalid_envelopes(rng: Random, n: int) -> Plan:
    """The network carries what R0 refuses, and a proposer puts it into batches."""
    plan = quiet_plan(rng, n)
    plan.proposers = {"p0": "honest", "h0": rng.choice(("invalid", "repeat"))}
    for window in range(plan.windows):
        plan.envelope(some_time(rng, window), plan.names)
        at = some_time(rng, window)
        plan.deliver(plan.mint.random_defect(GENESIS_S + at // 1000), at, [*plan.names, "p0"])
    return plan


def kept_out(rng: Random, n: int) -> Plan:
    """No certificate ever hears the one holder of an envelope that is no longer relayed."""
    plan = quiet_plan(rng, n, windows=4)
    holder = rng.choice(plan.honest)
    plan.adversary = _slow(holder)
    plan.envelope(some_time(rng, rng.choice((0, 1))), [holder], ttl_s=60)
    plan.envelope(some_time(rng, 1), [*plan.names, "p0"])
    return plan


def lost_bodies(rng: Random, n: int) -> Plan:
    """As `kept_out`, and the holder's first answers with bodies are lost."""
    plan = kept_out(rng, n)
    slow, lost = plan.adversary, [0]
    assert slow is not None

    def rule(sim: "Simulation", source: str, target: str, op: str) -> int | None:
        if op == "bodies" and slow(sim, source, target, "proposal") is None and lost[0] < n:
            lost[0] += 1
            return None
        return slow(sim, source, target, op)

    plan.adversary = rule
    return plan


def kept_out_and_old(rng: Random, n: int) -> Plan:
    """As `kept_out`, with an envelope that arrives just before it expires."""
    plan = quiet_plan(rng, n, windows=3)
    holder = rng.choice(plan.honest)
    plan.adversary = _slow(holder)
    ttl_s = plan.d.ttl_max_s
    plan.envelope(some_time(rng, 0), [holder], ttl_s=ttl_s, age_s=ttl_s - rng.randint(0, 1))
    return plan


def no_outsiders(rng: Random, n: int) -> Plan:
    """Nobody proposes but the validators; Byzantine ones keep silent."""
    plan = quiet_plan(rng, n, manner="silent")
    plan.proposers = {}
    for window in range(plan.windows):
        some = rng.sample(plan.honest, rng.randint(1, len(plan.honest)))
        plan.envelope(some_time(rng, window), some)
    return plan


def false_conflict(rng: Random, n: int) -> Plan:
    """A Byzantine validator tells every proposer, first of all, that its base is passed."""
    plan = quiet_plan(rng, n, manner="conflict")
    plan.envelope(some_time(rng, 0), plan.honest)
    plan.adversary = lambda _, source, target, op: (
        0 if source in plan.byzantine or target in plan.byzantine else 250
    )
    return plan


def turned_away(rng: Random, n: int) -> Plan:
    """A Byzantine validator lets a proposer wait, then refuses its amendment, while another one
    is out of reach: the failure of the first request comes after the refusal of the second."""
    plan = quiet_plan(rng, n, manner="turning")
    away, holder = rng.sample(plan.honest, 2) if len(plan.honest) > 1 else plan.honest * 2
    plan.envelope(some_time(rng, 0), [holder])
    plan.fault(25_000, "cut", (away,), 2 * WINDOW_MS)
    plan.heal_ms = 2 * WINDOW_MS
    return plan


def blackout(rng: Random, n: int) -> Plan:
    """Everyone restarts when a certificate is in the engine and nobody has committed it."""
    plan = quiet_plan(rng, n, windows=2)
    plan.envelope(some_time(rng, 0), plan.honest)
    struck: set[int] = set()

    def strike(sim: "Simulation", verb: str, node: str, details: tuple[Any, ...]) -> None:
        if verb == "submits" and details[0] not in struck:
            struck.add(details[0])
            for validator in sim.validators.values():
                sim.world.at(sim.world.now_ms, validator.crash)

    plan.hooks.append(strike)
    return plan


def clocks_out(rng: Random, n: int) -> Plan:
    """One clock is out by more than N/30 for a while: it gives no verdict, and nothing is lost."""
    plan = quiet_plan(rng, n)
    plan.byzantine.clear()
    off = rng.choice((-20_000, -3_000, 3_000, 12_000))
    plan.fault(rng.randint(-8_000, 30_000), "skew", rng.choice(plan.names), off)
    plan.heal_ms = plan.windows * WINDOW_MS
    for window in range(plan.windows):
        plan.envelope(some_time(rng, window), rng.sample(plan.names, plan.f + 1))
    return plan


DIRECTED: dict[str, Callable[[Random, int], Plan]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        late_decisions,
        split_history,
        lost_log,
        rebuilt_log,
        restored_backup,
        full_batch,
        worst_first,
        carried_over,
        junk_first,
        left_out_holder,
        enough_holders,
        endless_arrivals,
        late_arrivals,
        withheld_bodies,
        foreign_cid,
        bad_certificate,
        invalid_envelopes,
        kept_out,
        lost_bodies,
        kept_out_and_old,
        no_outsiders,
        false_conflict,
        turned_away,
        blackout,
        clocks_out,
        *AGED,
        *FORGOTTEN,
    )
}
