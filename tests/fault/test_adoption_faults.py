"""A validator that adopts a tree (R6) dies at every durable step of it, and starts again."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from away_set import a_set, adopt, away, forgetful, require_clean
from local_set import LocalSet, opened
from restante import limits
from restante.node.durable.state import State
from restante.node.home import Home
from restante.testing.faults import FailAt, InjectedFault, Recorder

STEPS = {
    "lock.adopt",
    "archive.certificate",
    "archive.entries",
    "archive.tile",
    "archive.checkpoint",
    "archive.segment",
}
MISSING = ("segment-missing", "rollup-missing", "segment-unreleased", "leftover")


def signed(local: LocalSet) -> list[tuple[int, bytes]]:
    """What the key of v4 has signed, by its lock; nothing may come to it by adopting."""
    state = State.open(Home(local.root / "v4"), local.descriptor, local.keys[3].vkey(), [])
    try:
        return [(each.size, each.root) for each in state.lock.cosignatures()]
    finally:
        state.close()


def test_it_dies_at_every_step_of_an_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETENTION_EVERY", 1)
    monkeypatch.setattr(limits, "ADOPT_ASKS", 60)

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            home, before = tmp_path / "v4", tmp_path / "before"
            shutil.copytree(home, before)
            known = signed(local)

            def again() -> None:
                shutil.rmtree(home)
                shutil.copytree(before, home)

            recorder = Recorder()
            assert await adopt(local, "v4", recorder) is not None
            steps = list(dict.fromkeys(recorder.steps))
            assert {step.rpartition(".")[0] for step in steps} >= STEPS
            for step in steps:
                for nth in {1, recorder.steps.count(step)}:
                    again()
                    with contextlib.suppress(InjectedFault):
                        await adopt(local, "v4", FailAt(step, nth))
                    assert signed(local) == known, (step, nth)
                    require_clean(local, "v4", "archive-behind", *MISSING)
                    await adopt(local, "v4")
                    require_clean(local, "v4", *MISSING)
                    state = State.open(Home(home), local.descriptor, local.keys[3].vkey(), [])
                    adopted = state.lock.adopted()
                    assert adopted is not None
                    assert adopted.lost_from == next_window
                    assert state.archive.root(adopted.size) == adopted.root
                    assert state.restored().adopted.root() == adopted.root
                    state.close()
            v4 = forgetful(local.open("v4"))
            await local.decided(v4.node.machine.base.size + 1)

    asyncio.run(asyncio.wait_for(scenario(), 240))
