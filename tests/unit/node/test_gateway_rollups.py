"""A gateway serves roll-ups and indexes by ranges, out of blocks that it verified each."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from restante import limits
from restante.client import ProcessMemory
from restante.client.sources import FolderSource, Source
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.level import Level, span
from restante.formats.paths import segment_path
from restante.formats.segment import Segment
from restante.node.clock import WallClock
from restante.node.gateway.role import Gateway
from restante.node.gateway.rollup_files import PartMap
from restante.node.gateway.upstream import Upstream
from restante.node.segment_reader import Section
from restante.node.wire.http import build_app
from restante.node.wire.routes_node import common_routes
from restante.testing.archive_fixture import GENESIS_S, MadeArchive, envelope, make_set

LEVELS = (Level(2), Level(4), Level(8, "index"))
WINDOWS = 14


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes fill pages, tables and parts, and little of a file comes with its root."""
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 1_200)
    monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 4)
    monkeypatch.setattr(limits, "DIRECTORY_KEYS", 3)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 8_000)
    monkeypatch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 300)
    monkeypatch.setattr(limits, "INDEX_NAMES", 2)
    monkeypatch.setattr("restante.node.segment_reader.PREFIX_BYTES", 1_500)


def raws(window: int) -> list[bytes]:
    data = random.Random(window).randbytes
    return [
        envelope((7 * n % 11).to_bytes(4, "big"), GENESIS_S + 30 * window + n, data(300))
        for n in range(12)
    ]


def made_archive(root: Path) -> MadeArchive:
    made = MadeArchive(root, make_set(levels=LEVELS, rollup_lag=2, bucket_bits=2))
    for window in range(WINDOWS):
        made.append(raws(window))
    made.cosign()
    return made


class Counting:
    """A source that counts, and may change what it gives."""

    def __init__(
        self, root: Path, change: Callable[[str, bytes], bytes] = lambda path, data: data
    ) -> None:
        self._inner = FolderSource(root)
        self._change = change
        self.name = f"source {id(self)}"
        self.asked: list[tuple[str, int]] = []

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        data = self._inner.get(path, offset=offset, length=length, max_bytes=max_bytes)
        self.asked.append((path, len(data)))
        return self._change(path, data)

    def close(self) -> None:
        """Nothing is open."""

    def bytes_of(self, level: int) -> int:
        return sum(size for path, size in self.asked if path.startswith(f"segment/{level}/"))


def gateway_over(
    tmp_path: Path,
    made: MadeArchive,
    sources: Sequence[Source],
    max_bytes: int = 2**30,
    denylist: Path | None = None,
) -> Gateway:
    d = made.made.descriptor
    upstream = Upstream(d, made.made.policy(), sources, ProcessMemory())
    return Gateway(d, upstream, tmp_path / "cache", max_bytes, WallClock(), denylist)


def client_of(gateway: Gateway) -> httpx2.AsyncClient:
    app = build_app(common_routes(gateway.status, None, 1) + gateway.routes(), WallClock())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def files(made: MadeArchive) -> Iterator[str]:
    """The files of all roll-ups."""
    for level in (1, 2, 3):
        for path in sorted((made.root / "segment" / str(level)).rglob("*.car")):
            yield path.relative_to(made.root).as_posix()


async def part_of(client: httpx2.AsyncClient, path: str, offset: int, length: int) -> bytes:
    span_ = f"bytes={offset}-{offset + length - 1}"
    response = await client.get(f"/{path}", headers={"Range": span_})
    assert response.status_code == 206, response.text
    return response.content


def test_every_range_of_every_file_is_as_the_archive_has_it(tmp_path: Path) -> None:
    made = made_archive(tmp_path / "archive")
    paths = list(files(made))
    assert any(path.count(".") > 1 for path in paths), "roll-ups of several parts"

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")])
        rng = random.Random(5)
        async with client_of(gateway) as client:
            for path in paths:
                data = made.read(path)
                head = await client.head(f"/{path}")
                assert head.headers["content-length"] == str(len(data))
                for _ in range(25):
                    start = rng.randrange(len(data))
                    length = rng.choice((1, 40, 700, 5_000))
                    assert (
                        await part_of(client, path, start, length) == data[start : start + length]
                    ), (path, start, length)
                assert (await client.get(f"/{path}")).content == data, path
            for absent in (segment_path(1, 400), segment_path(4, 0), segment_path(3, 0, 1)):
                response = await client.get(f"/{absent}")
                assert (response.status_code, response.json()["code"]) == (404, "not-found")
        gateway.close()

    go(scenario())


def test_a_range_costs_the_tables_and_the_blocks_that_it_touches(tmp_path: Path) -> None:
    made = made_archive(tmp_path / "archive")

    async def scenario() -> None:
        source = Counting(tmp_path / "archive")
        gateway = gateway_over(tmp_path, made, [source])
        path = segment_path(2, 1)
        size = sum(len(made.read(p)) for p in files(made) if p.startswith("segment/2/001"))
        async with client_of(gateway) as client:
            middle = len(made.read(path)) - 3_000
            await part_of(client, path, middle, 100)
            first = source.bytes_of(2)
            assert 0 < first < size / 3
            # A neighbouring range of the same page is in the cache, another page is not.
            await part_of(client, path, middle + 20, 60)
            assert source.bytes_of(2) == first
            await part_of(client, path, middle + 1_400, 10)
            assert first < source.bytes_of(2) < first + 2_700
            # Its blocks are served by CID, too.
            roots = made.rollups[span(made.made.descriptor, 2, 1)]
            assert roots is not None
            response = await client.get(f"/ipfs/{cids.to_text(roots.root_cid)}?format=raw")
            assert response.content == roots.blocks[0][1]
        gateway.close()
        # After a restart what was kept is there, the map is asked for anew.
        gateway = gateway_over(tmp_path, made, [source])
        source.asked.clear()
        async with client_of(gateway) as client:
            await part_of(client, path, middle, 100)
            assert source.bytes_of(2) < first
        gateway.close()

    go(scenario())


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_lying_source_is_left_and_named(tmp_path: Path, level: int) -> None:
    made = made_archive(tmp_path / "archive")

    def lie(path: str, data: bytes) -> bytes:
        if not path.startswith(f"segment/{level}/"):
            return data
        at = random.Random(path).randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    async def scenario() -> None:
        liar = Counting(tmp_path / "archive", lie)
        honest = Counting(tmp_path / "archive")
        gateway = gateway_over(tmp_path, made, [liar, honest])
        async with client_of(gateway) as client:
            for path in files(made):
                assert (await client.get(f"/{path}")).content == made.read(path), path
            reasons = (await client.get("/status")).json()["reasons"]
            assert any(liar.name in reason["message"] for reason in reasons)
            assert not any(honest.name in reason["message"] for reason in reasons)
        gateway.close()
        alone = gateway_over(tmp_path / "alone", made, [liar])
        async with client_of(alone) as client:
            response = await client.get(f"/{segment_path(level, 0)}")
            assert response.status_code == 403, response.text
        alone.close()

    go(scenario())


def test_what_the_set_signed_for_another_span_is_not_served(tmp_path: Path) -> None:
    made = MadeArchive(tmp_path / "archive", make_set(levels=LEVELS, rollup_lag=2))
    d = made.made.descriptor
    made.forged[span(d, 1, 2)] = lambda right: made.rollups[span(d, 1, 1)]
    for window in range(WINDOWS):
        made.append(raws(window))
    made.cosign()

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")])
        async with client_of(gateway) as client:
            response = await client.get(f"/{segment_path(1, 2)}")
            assert (response.status_code, response.json()["code"]) == (
                403,
                "root-contradicts-entry",
            )
            assert (await client.get(f"/{segment_path(1, 1)}")).status_code == 200
        gateway.close()

    go(scenario())


def test_what_every_source_gave_up_is_pruned(tmp_path: Path) -> None:
    made = made_archive(tmp_path / "archive")
    d = made.made.descriptor
    made.release([span(d, 0, 0), span(d, 1, 0), span(d, 2, 1)])

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")])
        async with client_of(gateway) as client:
            for path in (segment_path(0, 0), segment_path(1, 0), segment_path(2, 1)):
                for _ in range(2):
                    response = await client.get(f"/{path}")
                    assert (response.status_code, response.json()["code"]) == (404, "pruned")
                    assert response.json()["hint"]
        gateway.close()

    go(scenario())


def test_a_listed_page_withholds_its_roll_up_and_none_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DENYLIST_LOOK_S", 0.0)
    made = made_archive(tmp_path / "archive")
    hour = made.rollups[span(made.made.descriptor, 2, 0)]
    assert isinstance(hour, Segment)
    path, page = segment_path(2, 0), hour.rows[-1].cid
    denylist = tmp_path / "denylist"
    denylist.write_text("")

    async def scenario() -> None:
        source = FolderSource(tmp_path / "archive")
        gateway = gateway_over(tmp_path, made, [source], denylist=denylist)
        async with client_of(gateway) as client:
            assert (await client.get(f"/{path}")).status_code == 200
            root = f"/ipfs/{cids.to_text(hour.root_cid)}?format=raw"
            assert (await client.get(root)).status_code == 200
            denylist.write_text(f"{cids.to_text(page)}\n")
            for each in (path, segment_path(2, 0, 1), root[1:]):
                assert (await client.get(f"/{each}")).status_code == 410, each
            assert (await client.get(f"/{segment_path(2, 1)}")).status_code == 200
            kept = {p.name for p in (tmp_path / "cache/files/blocks").iterdir()}
            # A block of the directory may be another roll-up's as well.
            assert not kept & {cids.to_text(row.cid) for row in hour.rows}
        gateway.close()
        # A gateway that starts with the list never keeps any of it.
        gateway = gateway_over(tmp_path / "new", made, [source], denylist=denylist)
        async with client_of(gateway) as client:
            assert (await client.get(f"/{path}")).status_code == 410
            blocks = tmp_path / "new/cache/files/blocks"
            assert not blocks.exists() or not list(blocks.iterdir())
        gateway.close()

    go(scenario())


def test_the_cache_stays_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GATEWAY_SECTIONS", 40)
    made = made_archive(tmp_path / "archive")

    async def scenario() -> None:
        gateway = gateway_over(tmp_path, made, [FolderSource(tmp_path / "archive")], 10_000)
        async with client_of(gateway) as client:
            for path in files(made):
                assert (await client.get(f"/{path}")).content == made.read(path)
        assert gateway._cache.size_bytes <= 10_000
        assert gateway._rollups._size() <= 40 or len(gateway._rollups._maps) == 1
        gateway.close()

    go(scenario())


def test_which_blocks_a_range_touches() -> None:
    part = PartMap()
    at = car.HEADER_BYTES
    spans = []
    for length in (10, 200, 1, 50):
        start, offset = at, at + car.section_overhead(length)
        at = offset + length
        spans.append((start, at))
        part.add(Section(0, offset, length, cids.cid_of(cids.RAW, bytes(length))))
    assert part.length == at
    for start in range(at):
        for stop in range(start + 1, at + 1):
            touched = set(part.touched(start, stop))
            needed = {i for i, (a, b) in enumerate(spans) if a < stop and b > start}
            assert needed <= touched <= needed | {max(needed, default=-1) + 1}
