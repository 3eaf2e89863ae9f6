"""A source over an archive of month.py that serves any tree size it once had, and writes a log.

The archive is on disk at its last size. Seen from an earlier one, its tiles and bundles are cut
shorter, the checkpoint and the watch notes are of that size, no segment is there that is named
later, and those of lower levels that a publisher may have released by then are gone.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from month import Month

from restante import limits
from restante.client import (
    Client,
    FolderSource,
    Memory,
    ProcessMemory,
    Query,
    SourceFailed,
    read_policy,
)
from restante.formats import car, tiles
from restante.formats.contact import WatchNote
from restante.formats.layout import PREFIX_BYTES, Layout, locate
from restante.formats.level import (
    body_levels,
    children_kept_until,
    entry_window,
    is_index,
    span,
    span_of,
)
from restante.formats.paths import parse_segment_path

KINDS = ("log", "index", "pages")
RTT_S, BYTES_PER_S = 0.15, 20e6 / 8
"""The link that bytes and rounds are put in seconds by: 150 ms, 20 Mbit/s."""


def link_s(rounds: int, requests: int, bytes_: int) -> float:
    """Seconds on that link, as a model: the dependent rounds, and then bytes or requests, of which
    a client has so many under way, whichever takes longer."""
    waits = requests / limits.CLIENT_WORKERS * RTT_S
    return rounds * RTT_S + max(waits, bytes_ / BYTES_PER_S)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was answered: bytes [offset, offset + length) of a file."""

    path: str
    offset: int
    length: int
    """Bytes of the answer."""
    missing: bool = False


class Served:
    """The source. `size` may be set between two calls of a client."""

    in_place = True  # as the folder that it reads

    def __init__(self, month: Month, size: int | None = None) -> None:
        self.name = "the archive"
        self.month = month
        self.size = month.plan.size if size is None else size
        self.log: list[Asked] = []
        self._folder = FolderSource(month.root)
        self._lock = threading.Lock()
        self._signed = cache(self._sign)

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """See `restante.client.Source`."""
        try:
            data = self._bytes(path, self.size, offset, length, max_bytes)
        except SourceFailed:
            self._note(Asked(path, offset, 0, missing=True))
            raise
        self._note(Asked(path, offset, len(data)))
        return data

    def close(self) -> None:
        """Nothing is held open."""

    def _note(self, asked: Asked) -> None:
        with self._lock:
            self.log.append(asked)

    @contextmanager
    def noting(self) -> Iterator[list[Asked]]:
        """The log of what is asked within."""
        self.log = []
        yield self.log

    def _bytes(self, path: str, size: int, offset: int, length: int | None, most: int) -> bytes:
        if path.startswith("segment/") and not self._is_there(path, size):
            raise SourceFailed(f"no {path} at size {size}", code="not-found")
        if size != self.month.plan.size:
            if path == "checkpoint" or path.startswith("watch/"):
                return self._signed(path, size)
            if path.startswith("tile/"):
                data = self._cut(path)
                return data[offset : None if length is None else offset + length]
        return self._folder.get(path, offset=offset, length=length, max_bytes=most)

    def _sign(self, path: str, size: int) -> bytes:
        plan = self.month.plan
        if path == "checkpoint":
            reader = tiles.TileReader(self._read, plan.size)
            return plan.made.checkpoint(size, reader.root_at(size))
        name = path.partition("/")[2]
        key = next(key for key in plan.made.validators if key.name == name)
        return WatchNote(plan.descriptor.set_id, 0, size, ()).sign(key)

    def _cut(self, path: str) -> bytes:
        """A tile or bundle as wide as its path says, of what the last size has."""
        if path.startswith("tile/entries/"):
            n, width = tiles.parse_entries_path(path)
            whole = min(tiles.WIDTH, self.month.plan.size - n * tiles.WIDTH)
            entries = tiles.decode_bundle(self._read(tiles.entries_path(n, whole)), whole)
            return tiles.encode_bundle(entries[:width])
        tile = tiles.parse_tile_path(path)
        now = tiles.tile_of(tile.level, tile.n, self.month.plan.size)
        return self._read(now.path)[: 32 * tile.width]

    def _read(self, path: str) -> bytes:
        return self._folder.get(path, max_bytes=1 << 30)

    def _is_there(self, path: str, size: int) -> bool:
        """Whether a publisher has a segment: named by an entry, and not released yet."""
        d = self.month.plan.descriptor
        level, number, _ = parse_segment_path(path)
        if level > len(d.levels):
            return False
        own = span(d, level, number)
        if entry_window(d, own) >= size:
            return False
        if level + 1 not in body_levels(d):
            return True
        return size <= children_kept_until(d, span_of(d, level + 1, own.first)) + 1


def split(log: Iterable[Asked], month: Month) -> Counter[str]:
    """Bytes by kind: the `log` (checkpoint, notes, tiles, entries), the `index` (of days, and what
    stands before a segment's pages), the `pages`."""
    bytes_: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for asked in log:
        if asked.missing:
            continue
        if not asked.path.startswith("segment/"):
            bytes_["log"] += asked.length
            continue
        level, _, part = parse_segment_path(asked.path)
        if is_index(month.plan.descriptor, level):
            bytes_["index"] += asked.length
            continue
        start = car.HEADER_BYTES if part else layout(month.root, asked.path).pages_start
        before = max(0, min(asked.length, start - asked.offset))
        bytes_["index"] += before
        bytes_["pages"] += asked.length - before
    return bytes_


@lru_cache(10_000)
def layout(root: Path, path: str) -> Layout:
    """The layout of a segment in an archive, of its part 0."""
    with (root / path).open("rb") as file:
        head = file.read(PREFIX_BYTES)
    return locate(head, car.read_header(head)[0])


def objects(log: Iterable[Asked]) -> Counter[str]:
    """Requests by kind of file: `segment/2`, `tile/0`, `watch`, …"""
    found: Counter[str] = Counter()
    for asked in log:
        kind, _, rest = asked.path.partition("/")
        found[f"{kind}/{rest.partition('/')[0]}" if kind in ("segment", "tile") else kind] += 1
    return found


@dataclass(frozen=True)
class Cost:
    """What one query cost.

    envelopes: of the answer; matching: their bytes; bytes_: fetched, by kind; seconds: on this
    machine, from the folder, the checkpoint included; link_s: what it would take on the link.
    """

    envelopes: int
    matching: int
    bytes_: dict[str, int]
    total: int
    requests: int
    rounds: int
    seconds: float
    link_s: float


def ask(source: Served, query: Query, memory: Memory | None = None) -> Cost:
    """Ask with a new client, which knows nothing but its policy if it is given no memory."""
    policy = read_policy(source.month.root / "policy")
    began = time.perf_counter()
    with source.noting() as log, Client(policy, [source], memory or ProcessMemory()) as client:
        answer = client.query(query)
        envelopes = matching = 0
        for found in answer:
            envelopes += 1
            matching += len(found.raw)
        told = answer.summary
    seconds = time.perf_counter() - began
    if told.complaints:
        raise SystemExit(f"the archive was found wrong: {told.complaints}")
    bytes_ = split(log, source.month)
    if bytes_.total() != told.bytes_fetched:
        raise SystemExit(f"{bytes_.total()} bytes served, {told.bytes_fetched} counted")
    return Cost(
        envelopes,
        matching,
        dict(bytes_),
        told.bytes_fetched,
        told.requests,
        told.rounds,
        seconds,
        link_s(told.rounds, told.requests, told.bytes_fetched),
    )
