"""The archives that benchmarks read are those that nodes would make, at any size they once had."""

import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from restante.client import Client, ProcessMemory, Query, SourceFailed, read_policy
from restante.formats import index, tiles, tree, whisper
from restante.formats.car import read as read_car
from restante.formats.entry import LogEntry, check_rollups
from restante.formats.entry import parse as parse_entry
from restante.formats.level import Span, children, due_at, ended_by, is_index
from restante.formats.merge import Merging
from restante.formats.page import PageRow, topic_key
from restante.formats.paths import segment_path
from restante.formats.segment import Contents, read_cars

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from month import MODELS, Month, Plan, make, month
from served import KINDS, Served, ask, split
from traffic import GENESIS_S, SIZES, Traffic, envelope

DAY = 2_880
TRAFFIC = Traffic(3 * DAY, 40, mean_bytes=200)
PLAN = Plan(TRAFFIC, days=1, extra=131, children=2 * DAY)


def silent(text: str) -> None:
    """Nobody looks on."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Month:
    """A day and an hour of three envelopes a window, all children kept."""
    return month(PLAN, tmp_path_factory.mktemp("month"), silent)


class Read:
    """A segment of the archive as one that is merged."""

    def __init__(self, made: Month, of: Span) -> None:
        car = (made.root / segment_path(of.level, of.number)).read_bytes()
        self.contents: Contents = read_cars(
            [car], made.plan.descriptor, whisper.topic_of, lambda raw: whisper.parse(raw).sent_s
        )
        self.cid = self.contents.segment.root_cid
        self.root = self.contents.segment.root

    def rows(self) -> tuple[PageRow, ...]:
        return self.contents.segment.rows

    def page(self, row: PageRow) -> bytes:
        return dict(self.contents.segment.blocks)[row.cid]


def entries(made: Month) -> Iterator[LogEntry]:
    """The log."""
    size = made.plan.size
    for n, width in tiles.bundles_for_growth(0, size):
        data = (made.root / tiles.entries_path(n, width)).read_bytes()
        yield from map(parse_entry, tiles.decode_bundle(data, width))


@pytest.mark.parametrize("length", [2, 42, 43, 44, 55, 56, 243, 244, 255, 256, 65_530, 108_000])
def test_envelopes_are_canonical(length: int) -> None:
    made = envelope(b"abcd", GENESIS_S, bytes(length))
    assert made == whisper.assemble(GENESIS_S + 50, 50, b"abcd", bytes(length), 0)


def test_traffic() -> None:
    traffic = Traffic(3 * DAY, 40)
    found = [one for window in range(DAY) for one in traffic.window(window, (5, 77))]
    assert len(found) == 3 * DAY == len({raw for *_, raw in found})
    counts = Counter(topic for topic, *_ in found)
    assert counts[traffic.steady] == DAY
    assert counts[traffic.cold] == 2
    assert counts[traffic.ranked[0]] > 5 * counts[traffic.ranked[30]] > 0
    assert traffic.absent not in counts
    mean = sum(len(raw) for *_, raw in found) / len(found)
    assert 0.8 < mean / sum(s * (a + b) / 2 for s, a, b in SIZES) < 1.25
    for topic, sent_s, raw in found[:100]:
        parsed = whisper.parse(raw)
        assert (parsed.topic, parsed.sent_s) == (topic, sent_s)


def test_production_is_skewed_as_it_was() -> None:
    traffic = MODELS["production"].traffic
    assert sum(traffic.weights) == pytest.approx(1)
    assert traffic.weights[:2] == pytest.approx([0.711, 0.239], abs=0.001)
    assert 30 * traffic.per_day == pytest.approx(1_467_846, abs=30)
    assert sum(topic == traffic.steady for topic, *_ in traffic.window(7)) > 5


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    plan = Plan(TRAFFIC, days=0, extra=150, children=60)
    facts = [make(plan, tmp_path / str(n), silent, n) for n in (1, 2)]
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "1", tmp_path / "2")
    )
    assert one == two
    assert facts[0]["counts"] == facts[1]["counts"]
    other = replace(plan, traffic=replace(TRAFFIC, seed=2))
    assert other.name != plan.name
    # Of the last 60 windows of 160 the batches and 5-minute segments are kept, and every hour.
    kept = Counter(path.parts[1] for path in one if path.parts[0] == "segment")
    assert kept == {"0": 60, "1": 6, "2": 1}


def test_it_is_made_once(made: Month) -> None:
    again = month(PLAN, made.root.parents[1], silent)
    assert again.facts == made.facts
    assert again.counts.total() == made.facts["envelopes"]


def test_entries_name_every_segment(made: Month) -> None:
    d = made.plan.descriptor
    log = list(entries(made))
    assert [entry.window for entry in log] == list(range(PLAN.size))
    hashes = [tree.leaf_hash(entry.encode()) for entry in log]
    _, root = tiles.grow(0, hashes, lambda path: b"")
    note = (made.root / "checkpoint").read_bytes()
    assert PLAN.made.checkpoint(PLAN.size, root) == note
    named = 0
    for entry in log:
        check_rollups(entry, d)
        own = [(Span(0, entry.window, entry.window, 1), entry.segment)]
        own += zip(due_at(d, entry.window), entry.rollups, strict=True)
        for of, cid in own:
            car = (made.root / segment_path(of.level, of.number)).read_bytes()
            assert read_car(car, max_block_bytes=1 << 18)[0] == cid
            named += 1
    assert named == PLAN.size + 288 + 13 + 25 + 1
    assert sum(entry.count for entry in log) == made.facts["envelopes"]


def test_rollups_are_what_merging_gives(made: Month) -> None:
    d = made.plan.descriptor
    due = [of for window in range(240) for of in ended_by(d, window)]
    assert len(due) == 26
    for of in due:
        merging = Merging(d, of, [Read(made, c) for c in children(d, of)], whisper.topic_of)
        assert list(merging.pages())
        assert merging.head()[0] == Read(made, of).cid


def test_the_index_knows_its_hours(made: Month) -> None:
    d = made.plan.descriptor
    (of,) = (
        of for window in range(PLAN.size) for of in ended_by(d, window) if is_index(d, of.level)
    )
    blocks = read_car((made.root / segment_path(of.level, of.number)).read_bytes())[1]
    root = index.parse_root(blocks[0][1])
    hours = [Read(made, child) for child in children(d, of)]
    for child, hour in zip(root.children, hours, strict=True):
        assert child is not None
        assert (child.cid, child.envelopes) == (hour.cid, hour.root.count)
    names = root.blocks or ()
    for topic in TRAFFIC.ranked[:3]:
        key = topic_key(d.set_id, topic)
        (number,) = index.blocks_for(names, key, key)
        contents = index.check_block(names[number], dict(blocks)[names[number].cid], root)
        mask = contents.keys.get(key, 0)
        has = [topic in {whisper.topic_of(m.raw) for m in hour.contents.members} for hour in hours]
        assert [bool(mask >> n & 1) for n in range(24)] == has


@pytest.mark.parametrize("mode", ["exact", "bucket", "all"])
def test_a_client_reads_it(made: Month, mode: str) -> None:
    wanted = (TRAFFIC.ranked[0], TRAFFIC.cold)
    sent = [
        raw
        for window in range(PLAN.size)
        for topic, _, raw in TRAFFIC.window(window, PLAN.cold_windows)
        if topic in wanted
    ]
    served = Served(made)
    with Client(read_policy(made.root / "policy"), [served], ProcessMemory()) as client:
        answer = client.query(Query(wanted, mode=mode))  # type: ignore[arg-type]
        assert sorted(found.raw for found in answer) == sorted(sent)
    told = answer.summary
    assert (told.size, told.blind, told.complaints) == (PLAN.size, (), ())
    assert told.counts[TRAFFIC.cold] == 3
    bytes_ = split(served.log, made)
    assert set(bytes_) == set(KINDS)
    assert bytes_.total() == told.bytes_fetched
    assert all(bytes_.values())


def test_it_serves_every_size_it_once_had(made: Month) -> None:
    rng = random.Random(3)
    served = Served(made)
    memory = ProcessMemory()
    sizes = sorted({1, 255, 256, 257, 512, *rng.sample(range(2, PLAN.size), 12), PLAN.size})
    for size in sizes:
        served.size = size
        cost = ask(served, Query((TRAFFIC.steady,), since=max(0, size - 7)), memory)
        assert cost.envelopes == min(7, size)
        assert cost.total == sum(cost.bytes_.values())


def test_what_a_publisher_does_not_have(made: Month) -> None:
    def has(path: str, size: int) -> bool:
        try:
            Served(made, size).get(path, max_bytes=1 << 20)
        except SourceFailed:
            return False
        return True

    # Named in the entries of windows 0, 19, 129 and 2,889, released a day after their parent's.
    first = [segment_path(level, 0) for level in range(4)]
    named = [0, 19, 129, 2_889]
    for path, window in zip(first, named, strict=True):
        assert [has(path, window), has(path, window + 1)] == [False, True]
    assert [has(first[0], size) for size in (19 + DAY + 1, 19 + DAY + 2)] == [True, False]
    assert [has(first[1], size) for size in (129 + DAY + 1, 129 + DAY + 2)] == [True, False]
    assert has(first[2], PLAN.size)
