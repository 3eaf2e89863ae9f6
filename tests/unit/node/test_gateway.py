"""The gateway hands on nothing that it has not verified, and asks once for what many want."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from restante import limits
from restante.client import Client, FolderMemory, ProcessMemory, Query
from restante.client.sources import FolderSource, Source, SourceFailed
from restante.errors import Unavailable, VerificationFailed
from restante.formats import car, tiles
from restante.formats import cid as cids
from restante.formats.paths import segment_path
from restante.node.clock import WallClock
from restante.node.gateway.cache import Cache
from restante.node.gateway.role import Gateway
from restante.node.gateway.upstream import Upstream
from restante.node.wire.http import build_app
from restante.node.wire.routes_network import HandedIn
from restante.node.wire.routes_node import common_routes
from restante.testing.archive_fixture import GENESIS_S, MadeArchive, envelope, make_archive

TOPIC = b"\x5a\x4e\xa1\x31"


def raws(window: int) -> list[bytes]:
    return [envelope(TOPIC, GENESIS_S + 30 * window + n, b"%d %d" % (window, n)) for n in range(3)]


def archive(root: Path, windows: int = 5) -> MadeArchive:
    return make_archive(root, {w: raws(w) for w in range(windows)}, windows)


class Wrapped:
    """A source that counts, and changes what it gives."""

    def __init__(
        self, inner: Source, change: Callable[[str, bytes], bytes] = lambda path, data: data
    ) -> None:
        self._inner = inner
        self._change = change
        self.name = f"wrapped {id(self)}"
        self.asked: list[str] = []
        self.slow: threading.Event | None = None

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        self.asked.append(path)
        if self.slow is not None:
            self.slow.wait(5)
        data = self._inner.get(path, offset=offset, length=length, max_bytes=max_bytes)
        return self._change(path, data)

    def close(self) -> None:
        self._inner.close()


def gateway_over(
    tmp_path: Path, made: MadeArchive, sources: Sequence[Source], max_bytes: int = 2**30
) -> Gateway:
    upstream = Upstream(made.made.descriptor, made.made.policy(), sources, ProcessMemory())
    return Gateway(made.made.descriptor, upstream, tmp_path / "cache", max_bytes, WallClock())


def client_of(gateway: Gateway) -> httpx2.AsyncClient:
    routes = common_routes(gateway.status, None, 1) + gateway.routes()
    app = build_app(routes, WallClock())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def all_paths(made: MadeArchive) -> list[str]:
    size = made.size
    paths = ["descriptor", "policy", "watch/v01", *(segment_path(0, w) for w in range(size))]
    paths += [tile.path for tile in tiles.right_edge(size)]
    return [*paths, tiles.entries_path(0, size)]


def test_it_serves_every_file_as_the_archive_has_it(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")

    async def scenario() -> None:
        source = Wrapped(FolderSource(tmp_path / "archive"))
        gateway = gateway_over(tmp_path, made, [source])
        async with client_of(gateway) as client:
            assert (await client.get("/checkpoint")).content == made.note
            for path in all_paths(made):
                assert (await client.get(f"/{path}")).content == made.read(path), path
            asked = len(source.asked)
            for path in all_paths(made):
                if not path.startswith("watch/"):
                    await client.get(f"/{path}")
            assert len(source.asked) == asked, "what is immutable is fetched once"
            # An older reader asks for narrower files: cut from what is verified.
            entries = (await client.get(f"/{tiles.entries_path(0, 2)}")).content
            assert made.read(tiles.entries_path(0, made.size)).startswith(entries)
            tile = (await client.get(f"/{tiles.tile_path(0, 0, 2)}")).content
            assert tile == made.read(tiles.tile_path(0, 0, made.size))[:64]
            for missing in (tiles.tile_path(0, 0, 9), segment_path(0, 9), "watch/v99"):
                assert (await client.get(f"/{missing}")).status_code == 404
            status = (await client.get("/status")).json()
            assert (status["size"], status["reasons"]) == (made.size, [])
        gateway.close()

    go(scenario())


@pytest.mark.parametrize("kind", ["segment/", "tile/0", "tile/entries", "checkpoint", "watch/"])
def test_a_lying_source_is_left_and_named(tmp_path: Path, kind: str) -> None:
    made = archive(tmp_path / "archive")

    def lie(path: str, data: bytes) -> bytes:
        return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if path.startswith(kind) else data

    async def scenario() -> None:
        liar = Wrapped(FolderSource(tmp_path / "archive"), lie)
        honest = Wrapped(FolderSource(tmp_path / "archive"))
        gateway = gateway_over(tmp_path, made, [liar, honest])
        async with client_of(gateway) as client:
            for path in ["checkpoint", *all_paths(made)]:
                assert (await client.get(f"/{path}")).content == made.read(path), path
            reasons = (await client.get("/status")).json()["reasons"]
            assert any(liar.name in reason["message"] for reason in reasons)
            assert not any(honest.name in reason["message"] for reason in reasons)
        gateway.close()

    go(scenario())


def test_with_liars_alone_nothing_comes_out(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")

    def lie(path: str, data: bytes) -> bytes:
        return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if "segment" in path else data

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [Wrapped(FolderSource(tmp_path / "archive"), lie)])
        async with client_of(gateway) as client:
            response = await client.get(f"/{segment_path(0, 1)}")
            assert response.status_code == 403
            assert "code" in response.json()
        gateway.close()

    go(scenario())


def test_lines_of_equal_checkpoints_are_merged(tmp_path: Path) -> None:
    """No source alone has a quorum; together they have."""
    made = archive(tmp_path / "archive")
    text = made.note.decode().split("\n\n")[0] + "\n"
    log_line = made.made.log_key.note_signature(text).line()
    from restante.formats.note import Note, Signature

    lines = [key.cosignature(text, 1_800_000_000) for key in made.made.validators]

    def only(*which: int) -> Callable[[str, bytes], bytes]:
        signatures = [Signature.parse(log_line.rstrip("\n")), *(lines[i] for i in which)]
        note = Note(text, tuple(signatures)).encode()
        return lambda path, data: note if path == "checkpoint" else data

    folder = FolderSource(tmp_path / "archive")
    two = Upstream(
        made.made.descriptor,
        made.made.policy(),
        [Wrapped(folder, only(0, 1)), Wrapped(folder, only(1))],
        ProcessMemory(),
    )
    with pytest.raises(Unavailable):
        two.checkpoint()
    three = Upstream(
        made.made.descriptor,
        made.made.policy(),
        [Wrapped(folder, only(0, 1)), Wrapped(folder, only(3)), Wrapped(folder, only(2))],
        ProcessMemory(),
    )
    verified = made.made.policy().verify_checkpoint(three.checkpoint())
    assert [name for name, _ in verified.cosigners] == ["v01", "v02", "v03", "v04"]


def test_a_stale_or_split_checkpoint_changes_nothing(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")
    other = make_archive(tmp_path / "fork", {0: [raws(0)[0]]}, 7, made=made.made)
    memory = FolderMemory(tmp_path / "memory")
    policy = made.made.policy()
    first = Upstream(
        made.made.descriptor, policy, [FolderSource(tmp_path / "archive", "honest")], memory
    )
    assert first.checkpoint() == made.note
    forked = Upstream(
        made.made.descriptor, policy, [FolderSource(tmp_path / "fork", "fork")], memory
    )
    assert forked.checkpoint() == made.note, "what was accepted stays"
    assert [c.code for c in forked.complaints.values() if c.lied] == ["split-view"]
    assert list((tmp_path / "memory").rglob("evidence-*.json"))
    assert other.size > made.size


def test_many_requests_for_one_object_ask_once(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")

    async def scenario() -> None:
        source = Wrapped(FolderSource(tmp_path / "archive"))
        gateway = gateway_over(tmp_path, made, [source])
        async with client_of(gateway) as client:
            await client.get("/checkpoint")
            path = segment_path(0, 2)
            source.slow = threading.Event()
            waiting = [asyncio.ensure_future(client.get(f"/{path}")) for _ in range(20)]
            await asyncio.sleep(0.05)
            source.slow.set()
            answers = await asyncio.gather(*waiting)
            assert {answer.content for answer in answers} == {made.read(path)}
            assert source.asked.count(path) == 1
        gateway.close()

    go(scenario())


def test_blocks_come_from_cached_segments(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")])
        root, blocks = car.read(made.read(segment_path(0, 1)))
        async with client_of(gateway) as client:
            url = f"/ipfs/{cids.to_text(root)}"
            assert (await client.get(f"{url}?format=raw")).status_code == 404
            await client.get(f"/{segment_path(0, 1)}")
            await asyncio.sleep(limits.GATEWAY_ABSENT_S)
            assert (await client.get(f"{url}?format=raw")).content == blocks[0][1]
            assert car.read((await client.get(f"{url}?format=car")).content) == (root, blocks)
        gateway.close()

    go(scenario())


def test_a_client_reads_through_the_gateway(tmp_path: Path) -> None:
    made = archive(tmp_path / "archive")
    gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    class Through:
        """What an HTTP client of the gateway would get."""

        name = "gateway"

        def get(
            self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
        ) -> bytes:
            async def read() -> bytes:
                size = await gateway.length(path)
                return await gateway.read(path, offset, size if length is None else length)

            try:
                return asyncio.run_coroutine_threadsafe(read(), loop).result(10)
            except (Unavailable, VerificationFailed) as error:
                raise SourceFailed(str(error), code=error.code) from error

        def close(self) -> None:
            """Nothing to close."""

    with Client(made.made.policy(), [Through()], ProcessMemory()) as client:
        found = list(client.query(Query((TOPIC,))))
    assert {each.raw for each in found} == {raw for _, raw in made.envelopes}
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    gateway.close()


def test_the_cache_is_bounded_and_survives_a_restart(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for number in range(10):
        cache.put(f"segment/0/{number:03}.car", bytes(300))
        cache.read("segment/0/000.car")
    assert cache.size_bytes <= 1000
    assert cache.length("segment/0/000.car") == 300, "what is read stays"
    assert cache.length("segment/0/005.car") is None
    assert not (tmp_path / "segment/0/005.car").exists()
    again = Cache(tmp_path, 1000)
    assert again.size_bytes == cache.size_bytes
    # One larger than the whole cache is kept alone: its reader needs it.
    again.put("large", bytes(5000))
    assert again.length("large") == 5000
    (tmp_path / "large").unlink()
    assert again.read("large") is None
    assert again.length("large") is None


def test_a_gateway_says_where_envelopes_are_taken() -> None:
    async def scenario() -> None:
        routes = common_routes(lambda: {"reasons": []}, None, 1)
        app = build_app(routes, WallClock())
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            response = await client.post("/envelopes", content=b"x")
            assert (response.status_code, response.json()["code"]) == (405, "method")
            assert "a validator or a proposer" in response.json()["hint"]

    go(scenario())


def test_too_many_envelopes_of_one_source_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENVELOPE_BURST", 2)
    monkeypatch.setattr(limits, "ENVELOPE_RATE_PER_S", 0.001)

    async def scenario() -> None:
        app = build_app(common_routes(dict, lambda raw: HandedIn(raw, 0), 10), WallClock())
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
            told = [await client.post("/envelopes", content=b"x") for _ in range(3)]
            assert [each.status_code for each in told] == [202, 202, 429]
            assert told[2].json()["code"] == "rate"
            assert told[2].json()["hint"]

    go(scenario())
