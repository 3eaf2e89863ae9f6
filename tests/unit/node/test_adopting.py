"""A validator that was away until no peer kept what it missed: it takes over what k cosigned."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from away_set import K, a_set, adopt, away, forgetful, require_clean
from local_set import id_of, opened
from restante import limits


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETENTION_EVERY", 1)


def test_it_comes_back_and_signs_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.lost_from == next_window < adopted.floor <= adopted.size - K
            # The rest comes beside the work, as what an archive has lost.
            require_clean(local, "v4", "segment-missing", "rollup-missing", "segment-unreleased")
            v4 = forgetful(local.open("v4"))
            assert v4.node.machine.base.size == adopted.size
            assert v4.validating.status()["adopted"]["lost"] == [next_window, adopted.floor]
            late = local.envelope(2, ttl_s=1)
            v4.network.bring(late)
            await local.until(lambda: not v4.node.machine.base.is_new(id_of(late)))
            await local.decided(adopted.size + 10)
            sizes = [each.size for each in v4.state.lock.cosignatures(adopted.size)]
            assert min(sizes) > adopted.size, "k have signed that one"
            archive, keeping = v4.state.archive, v4.state.keeping
            await local.until(lambda: not keeping.missing(archive.floor, archive.stop))
            await local.until(lambda: v4.validating.status()["reasons"] == [])
            await local.close("v4")
            require_clean(local, "v4", "segment-unreleased")
            # A restart goes on from there.
            assert await adopt(local, "v4") is None
            v4 = forgetful(local.open("v4"))
            await local.decided(v4.node.machine.base.size + 2)

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_one_peer_that_keeps_it_is_enough_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And a peer's word that it keeps it is worth nothing."""

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            keeper = local.parties["v3"]
            for party in local.parties.values():
                if party is not keeper:
                    forgetful(party)
            await local.decided(2)
            await local.close("v4")
            others = [local.parties[name].state.archive for name in ("v1", "v2")]
            await local.until(lambda: all(archive.floor > 8 for archive in others), 60)
            assert await adopt(local, "v4") is None
            # Now it only says so: the first byte of every file is there, and nothing more.
            forgetful(keeper)
            await local.until(lambda: keeper.state.archive.floor > 8, 60)
            inner = local.router.apps["v3"]

            async def claiming(scope: Any, receive: Any, send: Any) -> None:
                if (b"range", b"bytes=0-0") not in scope["headers"]:
                    await inner(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 206, "headers": []})
                await send({"type": "http.response.body", "body": b"\0"})

            local.router.apps["v3"] = claiming
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.floor > adopted.lost_from
            assert "v3 claims to have window" in caplog.text

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_one_peer_alone_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_MAX_S", 0.1)

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            local.router.down |= {"v2", "v3"}
            assert await adopt(local, "v4") is None
            local.router.down.clear()
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.lost_from == next_window

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_lost_archive_is_adopted_again(tmp_path: Path) -> None:
    """The lock cannot make the tree again from its decisions alone."""

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            first = await adopt(local, "v4")
            assert first is not None
            shutil.rmtree(tmp_path / "v4" / "archive")
            again = await adopt(local, "v4")
            assert again is not None
            assert again.lost_from == next_window
            assert again.size >= first.size
            v4 = forgetful(local.open("v4"))
            await local.decided(again.size + 2)
            archive, keeping = v4.state.archive, v4.state.keeping
            await local.until(lambda: not keeping.missing(archive.floor, archive.stop))
            await local.close("v4")
            require_clean(local, "v4", "segment-unreleased")

    asyncio.run(asyncio.wait_for(scenario(), 120))
