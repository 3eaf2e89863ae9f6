"""A failing disk ends the process, whoever asked for what could not be written."""

import asyncio
from pathlib import Path

import pytest

from local_set import LocalSet
from restante.errors import StateError, Unavailable
from restante.node.durable.fuse import Fuse
from restante.ports import Arrival
from restante.rules.window import Pace


def test_after_a_failure_everything_is_refused() -> None:
    async def scenario() -> None:
        fuse = Fuse()
        with fuse.guard():
            pass
        with pytest.raises(OSError, match="full"), fuse.guard():
            raise OSError("disk full")
        with pytest.raises(Unavailable), fuse.guard():
            raise AssertionError("never reached")
        with pytest.raises(OSError, match="full"):
            await fuse.watch()

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["pool", "lock", "archive"])
def test_a_failing_disk_ends_the_validator(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged, and the process ends with the cause."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=Pace(1_000, 1_000))
        party = local.open("v1")
        await asyncio.sleep(0.02)

        def fail(step: str) -> None:
            raise OSError(f"no space left ({step})")

        hook = {"pool": party.state.pool, "lock": party.state.lock, "archive": party.state.archive}
        monkeypatch.setattr(hook[where], "_hook", fail)
        async with local.client() as client:
            response = await client.post("http://v1/envelopes", content=local.envelope(1))
            if where == "pool":
                assert response.status_code == 500
                assert "space" not in response.text
                response = await client.post("http://v1/envelopes", content=local.envelope(2))
                assert (response.status_code, response.json()["code"]) == (503, "stopping")
        assert party.task is not None
        with pytest.raises(BaseExceptionGroup) as raised:
            await asyncio.wait_for(party.task, 10)
        party.task = None
        assert raised.group_contains((OSError, StateError))
        await local.close("v1")

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_what_was_refused_is_not_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1)
        party = local.open("v1", run=False)
        party.validating.hand_in(local.envelope(1))

        def fail(step: str) -> None:
            if step == "pool.append.before":
                raise OSError("no space left")

        party.state.pool._hook = fail
        with pytest.raises(StateError):
            party.validating.hand_in(local.envelope(2))
        await local.close("v1")
        party = local.open("v1", run=False)
        assert party.state.pool.size == 1
        assert len(party.node.machine.index) == 1
        assert isinstance(party.state.pool.append([Arrival(0, local.envelope(3))]), int)
        await local.close("v1")

    asyncio.run(scenario())
