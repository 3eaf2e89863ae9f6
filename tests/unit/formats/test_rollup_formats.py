"""Roll-ups: the same bytes from any level below, and an index that agrees with its hours."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.samples import SET_ID
from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import whisper
from restante.formats.index import (
    Contents,
    IndexBlock,
    blocks_for,
    check_block,
    check_table,
    parse_root,
)
from restante.formats.index_cut import Index, child_of
from restante.formats.index_cut import build as build_index
from restante.formats.level import (
    STANDARD,
    Level,
    Span,
    body_levels,
    check,
    children,
    due_at,
    ended_by,
    entry_window,
    read,
    span,
    span_of,
)
from restante.formats.merge import Merging, check_conserved
from restante.formats.page import Member, PageRow, bucket_of, parse, topic_key
from restante.formats.segment import Segment, build
from unit.formats.segments_in_memory import Built

D = SimpleNamespace(set_id=SET_ID, bucket_bits=6)


@contextmanager
def small(**bounds: int) -> Iterator[None]:
    """Limits made small, so that few bytes fill pages, tables and parts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(limits, name, value)
        yield


def members_of(random: Random, windows: range, most: int, topics: int) -> list[Member]:
    """A few envelopes in each window, of few topics, of very different sizes."""
    found = []
    for window in windows:
        for _ in range(random.randrange(most + 1)):
            topic = random.randrange(topics).to_bytes(4, "big")
            sent_s = 1_500_000_000 + 30 * window + random.randrange(30)
            data = random.randbytes(random.choice((10, 200, 900, 4_000)))
            raw = whisper.assemble(sent_s + 50, 50, topic, data, 0)
            key = topic_key(SET_ID, topic)
            found.append(Member(key, window, sent_s, sha256(raw).digest(), raw))
    return found


def segment_of(members: list[Member], of: Span) -> Segment:
    """The segment of the members in a span's windows, built at once: what merging must equal."""
    mine = [member for member in members if member.window in of]
    return build(SET_ID, mine, of.first, of.windows, of.level, bucket_bits=6)


def merge(of: Span, below: list[Segment]) -> Segment:
    merging = Merging(D, of, [Built(segment) for segment in below], whisper.topic_of)
    pages = list(merging.pages())
    cid, root, head = merging.head()
    return Segment(cid, root, tuple(row for row, _ in pages), head + [(r.cid, p) for r, p in pages])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 9))
def test_a_roll_up_is_the_segment_of_its_windows(seed: int, topics: int, most: int) -> None:
    """Merged from windows or from spans of some of them: one set of files (R3)."""
    random = Random(seed)
    first = 12 * random.randrange(100)
    whole = Span(2, first // 12, first, 12)
    members = members_of(random, range(whole.first, whole.stop), most, topics)
    with small(PAGE_TARGET_BYTES=5_000, PAGE_TABLE_ROWS=3, DIRECTORY_KEYS=2, CAR_PART_BYTES=30_000):
        expected = segment_of(members, whole)
        windows = [segment_of(members, Span(0, w, w, 1)) for w in range(whole.first, whole.stop)]
        parts = [Span(1, whole.first // 4 + i, whole.first + 4 * i, 4) for i in range(3)]
        middle = [merge(part, windows[4 * i : 4 * i + 4]) for i, part in enumerate(parts)]
        for i, part in enumerate(parts):
            assert middle[i].cars() == segment_of(members, part).cars()
        assert merge(whole, windows).cars() == expected.cars()
        assert merge(whole, middle).cars() == expected.cars()
        check_conserved(expected.root, expected.rows, [(s.root, s.rows) for s in windows])
        check_conserved(expected.root, expected.rows, [(s.root, s.rows) for s in middle])


def test_merging_holds_a_page_of_each_child() -> None:
    """Pages of the children are read as they are needed, not before."""
    members = members_of(Random(1), range(4), 400, 50)
    with small(PAGE_TARGET_BYTES=8_000):
        below = [Built(segment_of(members, Span(0, w, w, 1))) for w in range(4)]
        assert sum(len(child.rows()) for child in below) > 100
        merging = Merging(D, Span(1, 0, 0, 4), below, whisper.topic_of)
        next(merging.pages())
    assert sum(child.pages_read for child in below) < 12


def mutants(members: list[Member], whole: Span) -> Iterator[tuple[str, Segment]]:
    """Roll-ups that a wrong implementation would make of these members."""
    yield "dropped", segment_of(members[:-1], whole)
    other = members[0]._replace(raw=members[0].raw + b"x", id=bytes(32))
    yield "altered", segment_of([*members[1:], other], whole)


def test_a_roll_up_that_lost_or_doubled_records_is_told_by_its_counts() -> None:
    whole = Span(1, 3, 12, 4)
    members = members_of(Random(2), range(12, 16), 30, 9)
    below = [segment_of(members, Span(0, w, w, 1)) for w in range(12, 16)]
    listed = [(s.root, s.rows) for s in below]
    for name, wrong in mutants(members, whole):
        with pytest.raises(VerificationFailed) as error:
            check_conserved(wrong.root, wrong.rows, listed)
        assert error.value.code == "rollup-contradicts-children", name


def test_a_child_twice_or_missing_is_refused() -> None:
    members = members_of(Random(3), range(4), 5, 3)
    below = [Built(segment_of(members, Span(0, w, w, 1))) for w in range(4)]
    whole = Span(1, 0, 0, 4)
    for wrong in (below[:3], [*below, below[3]], [below[0], *below[:3]], below[::-1], []):
        with pytest.raises(VerificationFailed) as error:
            Merging(D, whole, wrong, whisper.topic_of)
        assert error.value.code == "rollup-children"


def test_a_child_whose_pages_lack_a_record_is_refused() -> None:
    members = members_of(Random(4), range(2), 40, 3)
    honest = [segment_of(members, Span(0, w, w, 1)) for w in range(2)]

    class Short(Built):
        def rows(self) -> tuple[PageRow, ...]:
            return self.segment.rows[:-1]

    merging = Merging(D, Span(1, 0, 0, 2), [Built(honest[0]), Short(honest[1])], whisper.topic_of)
    with pytest.raises(VerificationFailed) as error:
        list(merging.pages())
    assert error.value.code == "rollup-children"


def test_the_quick_reading_of_a_topic_agrees_with_the_parser() -> None:
    random = Random(5)
    for _ in range(500):
        expiry, ttl = random.randrange(2 ** random.randrange(33)), random.randrange(300)
        data = random.randbytes(random.choice((0, 1, 40, 60, 300, 70_000)))
        raw = whisper.assemble(expiry, ttl, random.randbytes(4), data, random.randrange(2**64))
        assert whisper.topic_of(raw) == whisper.parse(raw).topic


# --- levels ---------------------------------------------------------------------------------------


def levels_of(*levels: tuple[int, str]) -> SimpleNamespace:
    read_levels = read([list(level) for level in levels])
    return SimpleNamespace(levels=read_levels, rollup_lag=3, window_s=30)


DAYS = levels_of((2, "bodies"), (6, "bodies"), (24, "index"))


def test_every_span_ends_once_and_comes_due_once() -> None:
    ended = [each for w in range(100) for each in ended_by(DAYS, w)]
    due = [(w, each) for w in range(103) for each in due_at(DAYS, w)]
    assert ended == [each for _, each in due]
    assert all(entry_window(DAYS, each) == w == each.stop + 2 for w, each in due)
    for level, windows in ((1, 2), (2, 6), (3, 24)):
        mine = [each for each in ended if each.level == level]
        assert mine == [Span(level, i, i * windows, windows) for i in range(100 // windows)]
    assert list(body_levels(DAYS)) == [0, 1, 2]
    assert entry_window(DAYS, span(DAYS, 0, 7)) == 7


def test_children_make_up_their_parent() -> None:
    for level, number in ((1, 4), (2, 3), (3, 1)):
        parent = span(DAYS, level, number)
        below = children(DAYS, parent)
        assert [w for each in below for w in range(each.first, each.stop)] == list(
            range(parent.first, parent.stop)
        )
        assert all(span_of(DAYS, parent.level, each.first) == parent for each in below)


@pytest.mark.parametrize(
    "levels",
    [
        [Level(1)],
        [Level(10), Level(10)],
        [Level(10), Level(25)],
        [Level(20), Level(10)],
        [Level(10), Level(5_760)],
        [Level(10, "index"), Level(20)],
        [Level(10), Level(1_000, "index")],
        [Level(2**i) for i in range(1, 10)],
    ],
)
def test_levels_that_no_set_can_have(levels: list[Level]) -> None:
    with pytest.raises(InvalidEncoding):
        check(tuple(levels), batch_max_envelopes=50_000, rollup_limit_bytes=1 << 32)


def test_what_could_not_always_be_made_is_refused() -> None:
    check(STANDARD, batch_max_envelopes=400_000, rollup_limit_bytes=1 << 33)
    with pytest.raises(InvalidEncoding):
        check(STANDARD, batch_max_envelopes=50_000, rollup_limit_bytes=(1 << 33) + 1)
    with pytest.raises(InvalidEncoding):
        check((Level(1_000),), batch_max_envelopes=400_000, rollup_limit_bytes=1)


# --- the index ------------------------------------------------------------------------------------


def made_index(
    members: list[Member], day: Span, hours: int, none: frozenset[int] = frozenset()
) -> tuple[Index, list[Built | None]]:
    width = day.windows // hours
    spans = [Span(day.level - 1, 0, day.first + i * width, width) for i in range(hours)]
    sources = [
        None if i in none else Built(segment_of(members, each)) for i, each in enumerate(spans)
    ]
    return build_index(SET_ID, day, sources), sources


def read_back(index: Index) -> list[tuple[IndexBlock, Contents]]:
    """Every block by its name, from the root down."""
    blocks = dict(index.blocks)
    root = parse_root(blocks[index.root_cid])
    assert root == index.root
    names = list(root.blocks or ())
    for table in root.tables or ():
        names += check_table(table, blocks[table.cid])
    return [(name, check_block(name, blocks[name.cid], root)) for name in names]


def pages_for(contents: list[Contents], child: int, key: int, depth: int) -> set[PageRow]:
    """The pages of a child that may hold a key, from the blocks that a client read for it."""
    rows = sorted({row for each in contents for row in each.rows[child]}, key=lambda r: r[2:4])
    before = [row for row in rows if row.topic_key < key][-1:]
    mine = before + [row for row in rows if row.topic_key == key]
    return {row for row in mine if bucket_of(row.topic_key, depth) == bucket_of(key, depth)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 12))
def test_an_index_names_every_page_of_every_topic(seed: int, topics: int, most: int) -> None:
    """What its blocks say of a topic is what the children's own tables say."""
    random = Random(seed)
    day = Span(3, 2, 48, 24)
    members = members_of(random, range(day.first, day.stop), most, topics)
    none = frozenset(random.sample(range(6), random.randrange(3)))
    with small(PAGE_TARGET_BYTES=4_000, INDEX_BLOCK_CONTENT_BYTES=900, INDEX_NAMES=4):
        index, sources = made_index(members, day, 6, none)
        listed = read_back(index)
        names = [name for name, _ in listed]
        assert [child is None for child in index.root.children] == [i in none for i in range(6)]
        for number in range(topics):
            key = topic_key(SET_ID, number.to_bytes(4, "big"))
            held = [listed[i][1] for i in blocks_for(names, key, key)]
            mask = 0
            for contents in held:
                mask |= contents.keys.get(key, 0)
            for i, source in enumerate(sources):
                present = source is not None and key in set(source.topic_keys())
                assert present == bool(mask >> i & 1)
                if source is not None and present:
                    pages = [row for row in source.rows() if holds(source, row, key)]
                    assert set(pages) <= pages_for(held, i, key, source.root.depth)


def holds(source: Built, row: PageRow, key: int) -> bool:
    page = parse(source.page(row), source.root.first_window, source.root.windows)
    return any(topic_key(SET_ID, whisper.topic_of(raw)) == key for _, raw in page)


def test_a_bucket_is_whole_in_the_blocks_of_its_keys() -> None:
    day = Span(3, 0, 0, 12)
    members = members_of(Random(6), range(12), 60, 300)
    with small(PAGE_TARGET_BYTES=3_000, INDEX_BLOCK_CONTENT_BYTES=700):
        index, sources = made_index(members, day, 4)
        listed = read_back(index)
        assert len(listed) > 20
        for i, source in enumerate(sources):
            assert source is not None
            depth = source.root.depth
            for bucket in range(1 << depth):
                low, high = bucket << (32 - depth), ((bucket + 1) << (32 - depth)) - 1
                held = [listed[n][1] for n in blocks_for([name for name, _ in listed], low, high)]
                rows = {row for each in held for row in each.rows[i] if low <= row[0] <= high}
                assert rows == {row for row in source.rows() if low <= row[0] <= high}


def test_blocks_stay_below_their_bound_also_for_one_busy_topic() -> None:
    """A topic whose rows fill several blocks: each repeats its key."""
    day = Span(2, 0, 0, 4)
    members = members_of(Random(7), range(4), 400, 1)
    with small(PAGE_TARGET_BYTES=900, INDEX_BLOCK_CONTENT_BYTES=1_200):
        index, _ = made_index(members, day, 4)
        listed = read_back(index)
    assert len(listed) > 10
    assert {tuple(contents.keys) for _, contents in listed} == {(listed[0][0].topic_key,)}
    assert all(name.length <= 1_300 for name, _ in listed)


def test_an_index_of_quiet_hours_has_no_blocks() -> None:
    index, _ = made_index([], Span(2, 1, 4, 4), 4, frozenset({3}))
    assert read_back(index) == []
    assert index.root.blocks == ()


def test_what_a_child_is_said_to_be() -> None:
    members = members_of(Random(8), range(2), 9, 3)
    index, sources = made_index(members, Span(2, 0, 0, 2), 2)
    for source, child in zip(sources, index.root.children, strict=True):
        assert source is not None
        assert child == child_of(source)
        assert child.envelopes == source.root.count
        car = source.segment.cars()[0]
        section = car[child.pages_start : child.pages_start + 2_000]
        assert source.page(source.segment.rows[0])[:64] in section


def test_every_changed_byte_of_a_block_is_told() -> None:
    index, _ = made_index(members_of(Random(9), range(2), 20, 5), Span(2, 0, 0, 2), 2)
    (name, _), *_ = read_back(index)
    data = dict(index.blocks)[name.cid]
    for at in range(0, len(data), 7):
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Invalid):
            check_block(name, wrong, index.root)
