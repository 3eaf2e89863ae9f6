"""An archive of a month that a real client reads, made in minutes: what the other scripts ask.

    python bench/month.py [still|quiet|lively|busy|production …] [--directory DIR] [--json]

A validator set of four with testing keys, the standard levels, and the traffic of a model
(traffic.py), sealed window by window without any node: the segments, roll-ups, indexes, tree and
notes are those that nodes would make of the same envelopes, but that no envelope has proof of
work, which a client leaves to the validators. Batches and 5-minute segments are kept for the last
hours only, as publishers do. Same arguments, same bytes.

Printed: what was made, how fast, and how much slower that is than making the envelopes alone,
which is the baseline.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

import machine
from traffic import COLD_WINDOWS_OF, GENESIS_S, WINDOW_S, Traffic

from restante.formats import car, index_cut, tiles, tree
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.layout import layout_of
from restante.formats.level import (
    STANDARD,
    Span,
    body_levels,
    children,
    due_at,
    is_index,
    span,
    span_of,
    windows_of,
)
from restante.formats.page import Member, PageRow, topic_key
from restante.formats.paths import segment_path
from restante.formats.root import SegmentRoot
from restante.formats.segment import Segment, build
from restante.rules.rollup import is_made
from restante.testing.archive_fixture import MadeSet, make_set

MAKING = 1
"""Counts up when the same arguments give other bytes."""
DAY_WINDOWS = 86_400 // WINDOW_S


@dataclass(frozen=True)
class Plan:
    """What an archive holds.

    days: whole ones, and the lag after them, so that the last day's index stands; extra: windows
    after that; children: for how many of the last windows batches and segments below the hours are
    kept; bucket_bits: of the descriptor.
    """

    traffic: Traffic
    days: int = 30
    extra: int = 0
    children: int = 2 * DAY_WINDOWS + 240
    bucket_bits: int = 6

    @property
    def size(self) -> int:
        """Windows, which is the tree size."""
        return self.days * DAY_WINDOWS + self.made.descriptor.rollup_lag + self.extra

    @cached_property
    def made(self) -> MadeSet:
        """The set with its keys."""
        return make_set(
            self.traffic.seed, genesis_s=GENESIS_S, levels=STANDARD, bucket_bits=self.bucket_bits
        )

    @property
    def descriptor(self) -> Descriptor:
        return self.made.descriptor

    @cached_property
    def cold_windows(self) -> tuple[int, ...]:
        """Where the cold topic's envelopes are."""
        return tuple(int(part * self.size) for part in COLD_WINDOWS_OF)

    @property
    def name(self) -> str:
        """A directory's name that no other plan has."""
        text = json.dumps([MAKING, asdict(self), self.descriptor.set_id.hex()])
        return sha256(text.encode()).hexdigest()[:16]


MODELS = {
    "still": Plan(Traffic(8_640, 500)),
    "quiet": Plan(Traffic(86_400, 2_000)),
    "lively": Plan(Traffic(864_000, 10_000), days=1, bucket_bits=9),
    "busy": Plan(Traffic(8_640_000, 50_000), days=1, children=360, bucket_bits=12),
    "production": Plan(Traffic(1_467_846 // 30, 2_000, production=True)),
}
"""Envelopes a second and topics: still 0.1 and 500, quiet 1 and 2,000, lively 10 and 10,000,
busy 100 and 50,000; production 0.57, skewed as it was there."""


class Top(index_cut.Source):
    """A segment of the highest level of bodies, as an index is made from it."""

    def __init__(self, segment: Segment, keys: Sequence[int]) -> None:
        self._cid, self._root = segment.root_cid, segment.root
        root_bytes = len(segment.blocks[0][1])
        self._start = layout_of(segment.root, segment.root_cid, root_bytes).pages_start
        self._rows, self._keys = segment.rows, keys

    @property
    def cid(self) -> bytes:
        return self._cid

    @property
    def root(self) -> SegmentRoot:
        return self._root

    @property
    def pages_start(self) -> int:
        return self._start

    def rows(self) -> Iterable[PageRow]:
        return self._rows

    def topic_keys(self) -> Iterable[int]:
        return self._keys


@dataclass
class Piece:
    """What came of one span of the highest level of bodies, or of its beginning.

    entries: of its windows, without their roll-ups; rollups: root CIDs by span; counts: envelopes
    of each topic.
    """

    entries: list[LogEntry]
    rollups: dict[Span, bytes]
    top: Top | None
    counts: Counter[bytes]
    bytes_: int
    envelopes_s: float
    """Seconds that making the envelopes took."""


_work: tuple[Plan, Path]
"""What a process of the pool works on: forked, since private keys do not travel."""


def _start(plan: Plan, root: Path) -> None:
    global _work  # noqa: PLW0603 - how a pool's processes are told
    _work = plan, root


def make_piece(windows: range) -> Piece:
    """Make and write the batches of some windows, and the roll-ups that lie within them."""
    plan, root = _work
    d, began = plan.descriptor, time.perf_counter()
    key_of: dict[bytes, int] = {}
    counts: Counter[bytes] = Counter()
    members: list[list[Member]] = []
    for window in windows:
        own = plan.traffic.window(window, plan.cold_windows)
        counts.update(topic for topic, _, _ in own)
        for topic in {topic for topic, _, _ in own} - key_of.keys():
            key_of[topic] = topic_key(d.set_id, topic)
        members.append(
            [Member(key_of[t], window, sent, sha256(raw).digest(), raw) for t, sent, raw in own]
        )
    took = time.perf_counter() - began
    piece = Piece([], {}, None, counts, 0, took)
    for window, own_members in zip(windows, members, strict=True):
        batch = build(d.set_id, own_members, window, bucket_bits=d.bucket_bits)
        piece.entries.append(batch.entry())
        piece.bytes_ += batch.bytes_
        if window >= plan.size - plan.children:
            write_segment(root, batch, 0, window)
    for of in spans_within(d, windows):
        own_windows = members[of.first - windows.start : of.stop - windows.start]
        held = [member for each in own_windows for member in each]
        if not is_made(d, of, sum(len(member.raw) for member in held)):
            continue
        segment = build(d.set_id, held, of.first, of.windows, of.level, bucket_bits=d.bucket_bits)
        piece.rollups[of] = segment.root_cid
        is_top = of.level == body_levels(d)[-1]
        if is_top or of.stop > plan.size - plan.children:
            write_segment(root, segment, of.level, of.number)
        if is_top:
            piece.top = Top(segment, sorted({member.topic_key for member in held}))
    return piece


def spans_within(d: Descriptor, windows: range) -> Iterator[Span]:
    """The spans of bodies above the batches that lie in these windows, lower levels first."""
    for level in body_levels(d)[1:]:
        width = windows_of(d, level)
        for number in range(-(-windows.start // width), windows.stop // width):
            yield span(d, level, number)


def write_segment(root: Path, segment: Segment, level: int, number: int) -> None:
    """The CAR files of a segment."""
    for part, blocks in enumerate(segment.part_blocks()):
        write(root, segment_path(level, number, part), car.write(segment.root_cid, blocks))


def write(root: Path, path: str, data: bytes) -> None:
    """A file of the archive."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def make(
    plan: Plan, root: Path, say: Callable[[str], None], processes: int = machine.cores()
) -> dict[str, Any]:
    """Write the archive below `root`; what it holds, as `month.json` keeps it."""
    d, began = plan.descriptor, time.perf_counter()
    width = windows_of(d, body_levels(d)[-1])
    tasks = [range(at, min(at + width, plan.size)) for at in range(0, plan.size, width)]
    entries: list[LogEntry] = []
    rollups: dict[Span, bytes] = {}
    tops: dict[Span, Top | None] = {}
    counts: Counter[bytes] = Counter()
    envelopes_s, bodies = 0.0, 0
    with multiprocessing.get_context("fork").Pool(processes, _start, (plan, root)) as pool:
        for done, piece in enumerate(pool.imap(make_piece, tasks), 1):
            entries += piece.entries
            rollups |= piece.rollups
            counts += piece.counts
            bodies += piece.bytes_
            envelopes_s += piece.envelopes_s
            tops[span_of(d, body_levels(d)[-1], piece.entries[0].window)] = piece.top
            for of in ended_indexes(d, len(entries), width):
                rollups[of] = make_index(d, root, of, tops)
            if done % 24 == 0 or done == len(tasks):
                say(f"{len(entries):,} windows, {counts.total():,} envelopes")
    size = write_log(plan, root, entries, rollups)
    assert size == plan.size
    seconds = time.perf_counter() - began
    return {
        "windows": size,
        "envelopes": counts.total(),
        "topics": len(counts),
        "bytes": bodies,
        "seconds": seconds,
        "envelopes_alone_s": envelopes_s / processes,
        "processes": processes,
        "counts": {topic.hex(): count for topic, count in sorted(counts.items())},
    }


def ended_indexes(d: Descriptor, windows: int, step: int) -> list[Span]:
    """The spans of an index that ended within the last `step` of so many windows."""
    top = len(d.levels)
    if not is_index(d, top):
        return []
    width = windows_of(d, top)
    before = (windows - 1) // step * step
    return [span(d, top, number) for number in range(before // width, windows // width)]


def make_index(d: Descriptor, root: Path, of: Span, tops: dict[Span, Top | None]) -> bytes:
    """Write an index; its root CID. What it was made from is forgotten."""
    index = index_cut.build(d.set_id, of, [tops.pop(child) for child in children(d, of)])
    write(root, segment_path(of.level, of.number), index.car())
    return index.root_cid


def write_log(
    plan: Plan, root: Path, entries: Sequence[LogEntry], rollups: dict[Span, bytes]
) -> int:
    """The tree over the entries, and everything that is signed; the tree size."""
    d, made = plan.descriptor, plan.made
    leaves = [
        replace(entry, rollups=tuple(map(rollups.get, due_at(d, entry.window)))).encode()
        for entry in entries
    ]
    files, tree_root = tiles.grow(0, [tree.leaf_hash(leaf) for leaf in leaves], _no_tile)
    for path, data in files.items():
        write(root, path, data)
    for n, width in tiles.bundles_for_growth(0, len(leaves)):
        first = n * tiles.WIDTH
        bundle = tiles.encode_bundle(leaves[first : first + width])
        write(root, tiles.entries_path(n, width), bundle)
    write(root, "descriptor", d.encode())
    write(root, "policy", made.policy().encode())
    write(root, "checkpoint", made.checkpoint(len(leaves), tree_root))
    for key in made.validators:
        write(root, f"watch/{key.name}", WatchNote(d.set_id, 0, len(leaves), ()).sign(key))
    return len(leaves)


def _no_tile(path: str) -> bytes:
    raise AssertionError(f"{path} of an empty tree")


@dataclass(frozen=True)
class Month:
    """An archive that was made."""

    plan: Plan
    root: Path
    facts: dict[str, Any]

    @cached_property
    def counts(self) -> Counter[bytes]:
        """Envelopes of each topic."""
        return Counter({bytes.fromhex(t): n for t, n in self.facts["counts"].items()})


def month(plan: Plan, directory: Path, say: Callable[[str], None]) -> Month:
    """The archive of a plan below a directory; made unless it is there already."""
    target = directory / plan.name
    kept = target / "month.json"
    if not kept.is_file():
        unfinished = directory / f"{plan.name}.unfinished"
        rmtree(unfinished, ignore_errors=True)
        rmtree(target, ignore_errors=True)
        facts = make(plan, unfinished / "archive", say)
        write(unfinished, "month.json", json.dumps(facts).encode())
        unfinished.rename(target)
    return Month(plan, target / "archive", json.loads(kept.read_text("utf-8")))


def tiny(plan: Plan, days: int) -> Plan:
    """The same in seconds instead of minutes, for tests: its figures mean nothing."""
    t = plan.traffic
    rate = 8 if t.topics > 10_000 else 3
    small = replace(t, per_day=rate * DAY_WINDOWS, topics=t.topics // 50, mean_bytes=100)
    return replace(plan, traffic=small, days=days)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What all scripts over archives take."""
    parser.add_argument(
        "--directory", type=Path, help="where archives are kept, for the next time (nowhere)"
    )
    parser.add_argument("--tiny", action="store_true", help="small archives, for tests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


class Archives:
    """The archives of a script, made when they are first asked for."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.directory = directory
        self._options = options
        self.filesystem = machine.filesystem(directory)

    def __getitem__(self, model: str) -> Month:
        plan = MODELS[model]
        plan = replace(plan, traffic=replace(plan.traffic, seed=self._options.seed))
        plan = tiny(plan, 1 + (model == "quiet")) if self._options.tiny else plan
        tell(f"the archive {model}")
        return month(plan, self.directory, tell)

    def facts(self, *models: str) -> dict[str, Any]:
        """What they hold."""
        every = {model: self[model].facts for model in models}
        return {m: {k: v for k, v in facts.items() if k != "counts"} for m, facts in every.items()}


def run(
    parser: argparse.ArgumentParser,
    measure: Callable[[Archives, argparse.Namespace], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
) -> int:
    """The main function of a script over archives: measure, and print."""
    add_options(parser)
    options = parser.parse_args()
    described = machine.describe()
    with tempfile.TemporaryDirectory() as name:
        directory = options.directory or Path(name)
        directory.mkdir(parents=True, exist_ok=True)
        archives = Archives(directory, options)
        result = {"machine": described, "filesystem": archives.filesystem, "seed": options.seed}
        result |= measure(archives, options)
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        print(machine.line())
        show(result)
    return 0


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(f"archives on {result['filesystem']}\n")
    print(
        f"{'':12}{'envelopes':>12}{'topics':>9}{'windows':>9}{'MB':>9}"
        f"{'s':>8}{'envelopes/s':>13}{'× baseline':>12}"
    )
    for name, facts in result["archives"].items():
        cells = f"{facts['envelopes']:>12,}{facts['topics']:>9,}{facts['windows']:>9,}"
        cells += f"{facts['bytes'] / 1e6:>9,.0f}"
        rows = (name, facts["seconds"]), ("baseline", facts["envelopes_alone_s"])
        for row, seconds in rows:
            rate = facts["envelopes"] / seconds
            times = seconds / facts["envelopes_alone_s"]
            print(f"{row:12}{cells}{seconds:>8.1f}{rate:>13,.0f}{times:>12.1f}")
            cells = " " * len(cells)
    print("\nbaseline: the envelopes alone, hashed; nothing built, nothing written")


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    return {"archives": archives.facts(*options.models)}


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", choices=MODELS, default=["quiet"])
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
