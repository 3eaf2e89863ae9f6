"""A validator dies at every durable step, before it and after it, and starts again.

What was acknowledged before is in the log afterwards, once; fsck finds nothing but notes.
"""

import asyncio
from pathlib import Path

import pytest

from local_set import LocalSet, Party, id_of, keccak
from restante.formats.level import Level
from restante.node.durable import state as states
from restante.node.durable.state import State
from restante.node.fsck.check import fsck
from restante.rules.valid import examine
from restante.rules.window import Pace
from restante.stores.folder import FolderStore
from restante.testing.faults import FailAt, InjectedFault, Recorder

PACE = Pace(500, 500)
SPEED = 100.0
STEPS = (
    "pool.append",
    "lock.freeze",
    "lock.accept",
    "lock.decide",
    "lock.heartbeat",
    "archive.segment",
    "archive.rollup",
    "archive.certificate",
    "archive.entries",
    "archive.tile",
    "archive.checkpoint",
    "archive.named",
    "outbox.enqueue",
)


def open_party(local: LocalSet, store: FolderStore, hook: states.Hook) -> Party:
    original = State.open

    def hooked(*arguments: object) -> State:
        return original(*arguments, hook)  # type: ignore[arg-type]

    State.open = hooked  # type: ignore[method-assign,assignment]
    try:
        return local.open("v1", stores=[store])
    finally:
        State.open = original  # type: ignore[method-assign]


async def until_dead_or_decided(local: LocalSet, party: Party, window: int) -> None:
    while party.task is not None and not party.task.done():
        newest = party.node.machine.cosigner.newest
        if newest is not None and newest.size > window:
            return
        await asyncio.sleep(0.005)


async def bury(local: LocalSet, party: Party) -> None:
    """End a node without the courtesies of a stop: nothing more is written."""
    local.router.apps.pop("v1", None)
    local.parties.pop("v1")
    if party.task is not None:
        party.task.cancel()
        await asyncio.gather(party.task, return_exceptions=True)
    group, party.state._group = party.state._group, None
    if group is not None:
        group.__exit__(InjectedFault, InjectedFault(), None)
    party.state.close()
    await party.engine.close()


async def live(tmp_path: Path, hook: states.Hook) -> tuple[LocalSet, FolderStore, set[bytes]]:
    """Two lives: one that the hook may end, one that goes on; what was acknowledged in both."""
    local = LocalSet.create(
        tmp_path,
        1,
        speed=SPEED,
        start_s=-5,
        pace=PACE,
        parameters={"levels": (Level(2), Level(4), Level(8, "index")), "rollup_lag": 1},
    )
    store = FolderStore.create("folder", tmp_path / "store")
    acknowledged: set[bytes] = set()
    try:
        party = open_party(local, store, hook)
    except InjectedFault:
        party = None
    if party is not None:
        for number in range(3):
            raw = local.envelope(number)
            try:
                party.validating.hand_in(raw)
            except Exception:  # the fault, or a node that it stopped
                break
            acknowledged.add(id_of(raw))
            await asyncio.sleep(0.03)
        await until_dead_or_decided(local, party, 2)
        await bury(local, party)
    party = local.open("v1", stores=[store])
    raw = local.envelope(100)
    await asyncio.sleep(0.01)
    party.validating.hand_in(raw)
    acknowledged.add(id_of(raw))
    window = local.descriptor.window_of(local.clock.now_ms()) + 1
    await local.decided(window)
    await local.until(lambda: party.state.outbox.pending("folder") == 0)
    found: list[bytes] = []
    for each in range(party.state.archive.size):
        found += local.members("v1", each)
    assert len(found) == len(set(found)), "nothing twice"
    assert acknowledged <= set(found)
    note = await store.get("checkpoint")
    assert local.policy.verify_checkpoint(note).size > window
    await local.close("v1")
    report = fsck(tmp_path / "v1", local.descriptor, lambda r: examine(r, local.descriptor, keccak))
    assert report.ok, report.findings
    return local, store, acknowledged


def test_all_steps_are_known(tmp_path: Path) -> None:
    recorder = Recorder()
    asyncio.run(asyncio.wait_for(live(tmp_path, recorder), 20))
    seen = {step.rpartition(".")[0] for step in recorder.steps}
    assert set(STEPS) <= seen
    # Steps that a longer life takes; a cosignature shares the transaction of its decision.
    rest = {"outbox.done", "archive.superseded", "lock.transaction", "lock.prune", "lock.group"}
    assert seen <= set(STEPS) | rest | {"lock.advance"}, seen


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step",
    [
        step
        if step in ("lock.accept", "lock.decide", "archive.rollup")
        else pytest.param(step, marks=pytest.mark.slow)
        for step in STEPS
    ],
)
def test_dying_at_a_step_loses_nothing(tmp_path: Path, step: str, when: str) -> None:
    # The first files are named, and queued, before the node is at work.
    nth = {"archive.named": 5, "outbox.enqueue": 5, "archive.rollup": 1}.get(step, 2)
    asyncio.run(asyncio.wait_for(live(tmp_path, FailAt(f"{step}.{when}", nth)), 20))


@pytest.mark.parametrize("step", ["archive.named", "outbox.enqueue"])
def test_dying_at_the_start_loses_nothing(tmp_path: Path, step: str) -> None:
    asyncio.run(asyncio.wait_for(live(tmp_path, FailAt(f"{step}.before")), 20))
