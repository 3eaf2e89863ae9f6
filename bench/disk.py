"""Bytes on disk for an envelope and for a window: what an operator's arithmetic starts from.

    python bench/disk.py [--rates 0.57 1 10] [--topics N] [--directory DIR] [--json]

An hour of windows (120 of 30 s) of a set of four goes through a validator's own durable state, as
commits do: pool, lock state, archive, block index. Roll-ups are made of the same envelopes. Each
part is measured as files' lengths, and as what the file system takes for them (*allocated*); log,
certificates and lock state go by the window, whatever it holds. Envelopes have 300 to 2,000 bytes,
even in between, and topics by Zipf.

*raw* is the envelopes themselves, which is the baseline. The last table is the steady state of a
publisher that keeps 30 days: hours and day indexes for all of it, 5-minute segments and batches
for a day after their parent, entries and certificates for all of it, tiles for ever (one year
here), the lock state for ever (one year). A folder store holds the archive once more.
"""

import argparse
import bisect
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import machine

from restante.formats import car, index_cut, whisper
from restante.formats.descriptor import Descriptor
from restante.formats.level import STANDARD, Span
from restante.formats.message import Certificate, accept_statement
from restante.formats.page import Member, PageRow, topic_key
from restante.formats.root import SegmentRoot
from restante.formats.segment import Segment, build
from restante.node.durable.pool import ID_BYTES
from restante.node.durable.state import State
from restante.node.home import Home
from restante.node.setup import new_key
from restante.rules import actions as act

WINDOW_S, HOUR, DAY = 30, 120, 2_880
GENESIS_S = 1_500_000_000 - 1_500_000_000 % WINDOW_S
RETENTION_DAYS = 30
TILE_BYTES = 32 * 257 / 256
"""A window's hash in level 0, and its share of the levels above."""
BUCKET_BITS = 6


@dataclass(frozen=True)
class Part:
    """One part of the state after the hour."""

    bytes_: int
    allocated: int


@dataclass(frozen=True)
class Result:
    """One rate; `parts` by name, `levels` by their number."""

    rate: float
    envelopes: int
    raw_bytes: int
    parts: dict[str, Part]
    levels: dict[int, int]
    """Bytes of the hour's segments: batches, 5 minutes, the hour; its share of a day's index."""


def envelopes(window: int, count: int, topics: int) -> list[bytes]:
    """One window's traffic, from its number alone."""
    rng = random.Random(window)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, topics + 1)))
    found = []
    for _ in range(count):
        topic = bisect.bisect(weights, rng.random() * weights[-1]).to_bytes(4, "big")
        sent_s = GENESIS_S + window * WINDOW_S + rng.randrange(WINDOW_S)
        data = rng.randbytes(rng.randint(270, 1_970))
        found.append(whisper.assemble(sent_s + 50, 50, topic, data, 0))
    return found


class Writer:
    """A validator's durable state that is given decided windows."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.keys = [new_key(f"v{number}") for number in range(1, 5)]
        self.d = Descriptor(
            origin="bench.example/disk-0011223344556677",
            genesis_s=GENESIS_S,
            f=1,
            validators=tuple(key.vkey() for key in self.keys),
            pow_floor_millionths=1,
        )
        own = self.keys[0]
        State.create(self.home, self.d, own, b"p" * ID_BYTES, b"s" * ID_BYTES)
        self.state = State.open(self.home, self.d, own.vkey(), ["folder"])
        self.members: list[Member] = []

    def window(self, window: int, raws: Sequence[bytes]) -> None:
        """Pool, freeze, accept, commit and cosign one window."""
        d, state = self.d, self.state
        records = tuple((d.start_ms(window), raw) for raw in raws)
        position = state.pool.size
        members = [member(d.set_id, window, raw) for raw in raws]
        self.members += members
        segment = build(d.set_id, members, window, bucket_bits=BUCKET_BITS)
        base = state.archive.size, state.archive.root()
        statement = accept_statement(d.set_id, window, *base, segment.root_cid)
        accepts = sorted((key.vkey().key_id, key.sign(statement)) for key in self.keys[:3])
        certificate = Certificate(d.set_id, window, *base, segment.root_cid, tuple(accepts))
        entry_hash = sha256(certificate.encode()).digest()
        actions: list[act.Action] = [act.Append(position, records)] if records else []
        stop = position + len(records)
        actions += [
            act.Freeze(window, stop),
            act.Accept(window, *base, segment.root_cid, ((position, stop),) if records else ()),
            act.Commit(
                window,
                window + 1,
                entry_hash,
                segment,
                certificate.encode(),
                segment.entry().encode(),
            ),
        ]
        state.persist(actions)
        size, root = state.archive.size, state.archive.root()
        state.persist([act.Cosign(size, root, "", 0, bytes(72))])
        state.lock.put_heartbeat(window, True)
        state.lock.prune(window)

    def close(self) -> None:
        self.state.close()


def member(set_id: bytes, window: int, raw: bytes) -> Member:
    """An envelope as a segment's member."""
    parsed = whisper.parse(raw)
    id_ = sha256(raw).digest()
    return Member(topic_key(set_id, parsed.topic), window, parsed.sent_s, id_, raw)


# --- roll-ups ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hour:
    """An hour's segment as an index reads it."""

    segment: Segment
    keys: Sequence[int]

    @property
    def cid(self) -> bytes:
        return self.segment.root_cid

    @property
    def root(self) -> SegmentRoot:
        return self.segment.root

    @property
    def pages_start(self) -> int:
        return car.HEADER_BYTES

    def rows(self) -> Iterable[PageRow]:
        return self.segment.rows

    def topic_keys(self) -> Iterable[int]:
        return self.keys


def rollups(set_id: bytes, members: Sequence[Member]) -> dict[int, int]:
    """Bytes of the hour's roll-ups, and of a day's index with this hour alone."""
    found = {}
    by_span: dict[int, list[Member]] = {first: [] for first in range(0, HOUR, 10)}
    for each in members:
        by_span[each.window - each.window % 10].append(each)
    found[1] = sum(
        _length(build(set_id, held, first, 10, 1, bucket_bits=BUCKET_BITS))
        for first, held in by_span.items()
    )
    hour = build(set_id, members, 0, HOUR, 2, bucket_bits=BUCKET_BITS)
    found[2] = _length(hour)
    keys = sorted({each.topic_key for each in members})
    children = [Hour(hour, keys) if members else None, *[None] * (DAY // HOUR - 1)]
    index = index_cut.build(set_id, Span(3, 0, 0, DAY), children)
    found[3] = len(index.car())
    return found


def _length(segment: Segment) -> int:
    return sum(map(len, segment.cars()))


# --- measuring --------------------------------------------------------------------------------


def _widest(directory: Path) -> Path:
    """The bundle of all windows so far: narrower ones stay for twenty windows only."""
    return max((directory / "000.p").iterdir(), key=lambda path: int(path.name))


def measure(paths: Iterable[Path]) -> Part:
    """The files below some paths."""
    stats = [
        file.stat()
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else (path,))
        if file.is_file()
    ]
    return Part(sum(s.st_size for s in stats), sum(s.st_blocks * 512 for s in stats))


def run(directory: Path, rate: float, topics: int) -> Result:
    """An hour at a rate."""
    writer = Writer(directory)
    carried = raw_bytes = count = 0
    for window in range(HOUR):
        due = int(rate * WINDOW_S * (window + 1)) - carried
        raws = envelopes(window, due, topics)
        carried, count = carried + due, count + len(raws)
        raw_bytes += sum(map(len, raws))
        writer.window(window, raws)
    set_id, members, home = writer.d.set_id, writer.members, writer.home
    writer.close()
    archive = home.archive
    parts = {
        "segment/0": measure([archive / "segment"]),
        "entries": measure([_widest(archive / "tile" / "entries")]),
        "certificates": measure([_widest(archive / "certificate")]),
        "block index": measure([archive / ".state"]),
        "pool": measure([home.pool]),
        "lock": measure([home.lock]),
    }
    levels = {0: parts["segment/0"].bytes_, **rollups(set_id, members)}
    return Result(rate, count, raw_bytes, parts, levels)


# --- arithmetic -------------------------------------------------------------------------------


def steady(result: Result) -> dict[str, float]:
    """MB on disk of a validator that keeps RETENTION_DAYS, from an hour's measures."""
    hours = RETENTION_DAYS * 24
    parts = {name: part.bytes_ for name, part in result.parts.items()}
    # The index's keys are those of all hours together: 24 times one hour's is the most it can be.
    index = 24 * result.levels[3] * RETENTION_DAYS
    tiles = 365 * DAY * TILE_BYTES
    row_share = (result.levels[2] * hours + (result.levels[0] + result.levels[1]) * 25) / max(
        1, result.levels[0]
    )
    found = {
        "hours, 30 days": result.levels[2] * hours,
        "day indexes, 30 days, at most": index,
        "5 minutes, 25 hours": result.levels[1] * 25,
        "batches, 24 h 5 min": result.levels[0] * (24 + 1 / 12),
        "entries, 30 days": parts["entries"] * hours,
        "certificates, 30 days": parts["certificates"] * hours,
        "tiles, a year": tiles,
        "block index": parts["block index"] * row_share,
        "lock state, a year": parts["lock"] * 365 * 24,
    }
    return {name: value / 1e6 for name, value in found.items()}


def show(results: Sequence[Result], described: str) -> None:
    """Tables for people."""
    print(described)
    print("an hour of windows of 30 s, n = 4\n")
    heads = [f"{result.rate:g}/s" for result in results]
    print(f"{'bytes per envelope':34}" + "".join(f"{head:>12}" for head in heads))
    rows: list[tuple[str, list[float]]] = [
        ("raw (baseline)", [r.raw_bytes / r.envelopes for r in results])
    ]
    for level, name in enumerate(("batches", "5-minute segments", "hour segment")):
        rows.append((name, [r.levels[level] / r.envelopes for r in results]))
    rows.append(("day index, this hour alone", [r.levels[3] / r.envelopes for r in results]))
    both = ("pool", "block index")
    rows += [(name, [r.parts[name].bytes_ / r.envelopes for r in results]) for name in both]
    for name, values in rows:
        print(f"{name:34}" + "".join(f"{value:>12,.0f}" for value in values))
    print(f"\n{'bytes per window':34}")
    for name in ("entries", "certificates", "lock"):
        values = [r.parts[name].bytes_ / HOUR for r in results]
        print(f"{name:34}" + "".join(f"{value:>12,.0f}" for value in values))
    print(f"{'tiles':34}" + f"{TILE_BYTES:>12,.0f}" * len(results))
    print(f"\n{'allocated / bytes':34}")
    for name in ("segment/0", "pool"):
        values = [r.parts[name].allocated / max(1, r.parts[name].bytes_) for r in results]
        print(f"{name:34}" + "".join(f"{value:>12,.2f}" for value in values))
    print(f"\n{'MB in the steady state, 30 days':34}" + "".join(f"{head:>12}" for head in heads))
    tables = [steady(result) for result in results]
    for name in tables[0]:
        print(f"{name:34}" + "".join(f"{table[name]:>12,.1f}" for table in tables))
    print(f"{'all':34}" + "".join(f"{sum(table.values()):>12,.1f}" for table in tables))
    raw = [r.raw_bytes * 24 * RETENTION_DAYS / 1e6 for r in results]
    print(f"{'the envelopes of 30 days, raw':34}" + "".join(f"{value:>12,.1f}" for value in raw))


def main() -> int:
    assert [level.windows for level in STANDARD] == [10, HOUR, DAY]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.57, 1, 10], metavar="R")
    parser.add_argument("--topics", type=int, default=20_000, help="by Zipf (20000)")
    parser.add_argument("--directory", type=Path, help="where it stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        described = f"{machine.line()}, {machine.filesystem(Path(name))}"
        for number, rate in enumerate(options.rates):
            print(f"{rate:g} envelopes/s", file=sys.stderr)
            results.append(run(Path(name) / str(number), rate, options.topics))
    if options.json:
        value: dict[str, Any] = {
            "machine": machine.describe(),
            "rates": [asdict(r) | {"steady_mb": steady(r)} for r in results],
        }
        json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        show(results, described)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
