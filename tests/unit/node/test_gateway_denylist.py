"""What is on the denylist is answered 410, in every way to ask for it, and is not kept."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from restante import limits
from restante.client import ProcessMemory
from restante.client.sources import FolderSource
from restante.errors import ConfigError, InvalidEncoding
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.paths import segment_path
from restante.node.clock import WallClock
from restante.node.gateway import denylist
from restante.node.gateway.role import Gateway
from restante.node.gateway.upstream import Upstream
from restante.node.wire.http import build_app
from restante.node.wire.routes_node import common_routes
from restante.testing.archive_fixture import GENESIS_S, MadeArchive, envelope, make_archive

TOPIC = b"\x5a\x4e\xa1\x31"


@pytest.fixture(autouse=True)
def looked_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DENYLIST_LOOK_S", 0.0)
    monkeypatch.setattr(limits, "GATEWAY_ABSENT_S", 0.0)


@pytest.fixture
def made(tmp_path: Path) -> MadeArchive:
    raws = {w: [envelope(TOPIC, GENESIS_S + 30 * w, b"%d" % w)] for w in range(4)}
    return make_archive(tmp_path / "archive", raws, 4)


def root_of(made: MadeArchive, window: int) -> bytes:
    return car.read(made.read(segment_path(0, window)))[0]


def page_of(made: MadeArchive, window: int) -> bytes:
    return car.read(made.read(segment_path(0, window)))[1][-1][0]


def write(path: Path, *lines: str) -> None:
    """Replace the list; its time differs though the test is fast."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text("\n".join(lines))
    os.utime(path, ns=(before + 10**9, before + 10**9))


class Asking:
    """A gateway over the archive, asked over its routes."""

    def __init__(self, tmp_path: Path, made: MadeArchive, listed: Path | None) -> None:
        d, policy = made.made.descriptor, made.made.policy()
        source = FolderSource(made.root)
        upstream = Upstream(d, policy, [source], ProcessMemory())
        self.cache = tmp_path / "cache" / "files"
        self.gateway = Gateway(d, upstream, tmp_path / "cache", 2**30, WallClock(), listed)
        routes = common_routes(self.gateway.status, None, 1) + self.gateway.routes()
        transport = httpx2.ASGITransport(build_app(routes, WallClock()))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://gateway")

    async def statuses(self, *paths: str, **headers: str) -> list[int]:
        return [(await self.client.get(path, headers=headers)).status_code for path in paths]

    async def refused(self, *paths: str) -> None:
        for path in paths:
            response = await self.client.get(path)
            assert response.status_code == 410, path
            body = response.json()
            assert body["code"] == "withheld"
            assert body["hint"]
            assert response.headers["cache-control"] == "no-store"

    def kept(self) -> set[str]:
        return {p.relative_to(self.cache).as_posix() for p in self.cache.rglob("*") if p.is_file()}


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def ipfs(cid: bytes, form: str = "raw") -> str:
    return f"/ipfs/{cids.to_text(cid)}?format={form}"


@pytest.mark.parametrize("which", [root_of, page_of])
def test_a_listed_block_withholds_its_segment_everywhere(
    tmp_path: Path, made: MadeArchive, which: Any
) -> None:
    listed = tmp_path / "deny"
    write(listed, f"{cids.to_text(which(made, 1))}  # by order of …")

    async def scenario() -> None:
        asking = Asking(tmp_path, made, listed)
        path = f"/{segment_path(0, 1)}"
        await asking.refused(path)
        assert await asking.statuses(path, Range="bytes=0-9") == [410]
        assert (await asking.client.head(path)).status_code == 410
        unchanged = {
            "If-None-Match": (await asking.client.get("/segment/0/000.car")).headers["etag"]
        }
        assert (await asking.client.get(path, headers=unchanged)).status_code == 410
        root, page = root_of(made, 1), page_of(made, 1)
        await asking.refused(ipfs(root), ipfs(page), ipfs(root, "car"), ipfs(page, "car"))
        # The same bytes under the other codec are the same bytes.
        other = cids.RAW if which is root_of else cids.DAG_CBOR
        await asking.refused(ipfs(cids.cid_from_digest(other, cids.digest(which(made, 1)))))
        assert segment_path(0, 1) not in asking.kept(), "what is withheld is not kept"
        # Everything else is served, also what says that the window is there.
        fine = [f"/{segment_path(0, w)}" for w in (0, 2, 3)]
        fine += ["/checkpoint", "/tile/entries/000.p/4", "/tile/0/000.p/4"]
        assert await asking.statuses(*fine, ipfs(root_of(made, 0))) == [200] * 7
        status = (await asking.client.get("/status")).json()
        assert status["withheld"] == {"cids": 1, "segments": 1}
        assert status["reasons"] == []
        asking.gateway.close()
        # After a restart it is known without being fetched again.
        again = Asking(tmp_path, made, listed)
        assert again.gateway.status()["withheld"] == {"cids": 1, "segments": 1}
        await again.refused(path)
        assert again.gateway.status()["requests"] == 0
        again.gateway.close()

    go(scenario())


def test_a_change_of_the_file_counts_at_once(tmp_path: Path, made: MadeArchive) -> None:
    listed = tmp_path / "deny"
    write(listed, "# nothing yet", "")

    async def scenario() -> None:
        asking = Asking(tmp_path, made, listed)
        paths = [f"/{segment_path(0, w)}" for w in range(4)]
        assert await asking.statuses(*paths) == [200] * 4
        assert segment_path(0, 2) in asking.kept()
        write(listed, f"/ipfs/{cids.to_text(root_of(made, 2))}")
        assert await asking.statuses(*paths) == [200, 200, 410, 200]
        assert segment_path(0, 2) not in asking.kept()
        write(listed, cids.to_text(page_of(made, 3)))
        assert await asking.statuses(*paths) == [200, 200, 200, 410]
        # A list that cannot be read changes nothing but the status.
        for damage in ("bafynonsense", "Qm" + "a" * 44):
            write(listed, "", damage)
            assert await asking.statuses(*paths) == [200, 200, 200, 410]
            (reason,) = asking.gateway.status()["reasons"]
            assert reason["code"] == "denylist"
            assert "line 2" in reason["message"]
        listed.unlink()
        assert await asking.statuses(*paths) == [200, 200, 200, 410]
        assert asking.gateway.status()["reasons"]
        write(listed, "")
        assert await asking.statuses(*paths) == [200] * 4
        assert asking.gateway.status()["reasons"] == []
        asking.gateway.close()

    go(scenario())


def test_blocks_that_were_fetched_one_by_one_go_too(tmp_path: Path, made: MadeArchive) -> None:
    listed = tmp_path / "deny"
    write(listed)

    async def scenario() -> None:
        asking = Asking(tmp_path, made, listed)
        page = page_of(made, 1)
        _, blocks = car.read(made.read(segment_path(0, 1)))
        asking.gateway._cache.put(f"blocks/{cids.to_text(page)}", blocks[-1][1])
        assert await asking.statuses(ipfs(page)) == [200]
        write(listed, cids.to_text(page))
        await asking.refused(ipfs(page))
        assert asking.kept() == set()
        asking.gateway.close()

    go(scenario())


def test_without_a_list_nothing_is_withheld(tmp_path: Path, made: MadeArchive) -> None:
    async def scenario() -> None:
        asking = Asking(tmp_path, made, None)
        assert await asking.statuses(f"/{segment_path(0, 1)}") == [200]
        assert asking.gateway.status()["withheld"] == {"cids": 0, "segments": 0}
        asking.gateway.close()

    go(scenario())


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["", "Qmfoo"], "line 2"),
        (["bafkqaaa"], "line 1"),
        (["\udcff"], "UTF-8"),
        (["bafkrei" + "a" * 52, "bafkrei" + "b" * 51 + "a"], "more than 1"),
    ],
)
def test_a_gateway_with_a_bad_list_does_not_start(
    tmp_path: Path, made: MadeArchive, monkeypatch: pytest.MonkeyPatch, lines: Sequence[str],
    named: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(limits, "DENYLIST_CIDS", 1)
    listed = tmp_path / "deny"
    listed.write_text("\n".join(lines), errors="surrogateescape")
    with pytest.raises(ConfigError, match=named) as raised:
        Asking(tmp_path, made, listed)
    assert raised.value.code == "denylist"
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError):
            Asking(tmp_path, made, missing)
    monkeypatch.setattr(limits, "DENYLIST_BYTES", 0)
    with pytest.raises(ConfigError, match="bytes"):
        Asking(tmp_path, made, listed)


def test_a_list_is_read_by_line() -> None:
    cid = cids.cid_of(cids.RAW, b"a")
    text = cids.to_text(cid)
    data = f"# head\r\n\r\n  {text}  # why\n/ipfs/{text}\n".encode()
    assert denylist.parse(data) == {cids.digest(cid)}
    with pytest.raises(InvalidEncoding):
        denylist.parse(f"/ipfs/{text}/path".encode())
    with pytest.raises(InvalidEncoding):
        denylist.parse(text.upper().encode())
