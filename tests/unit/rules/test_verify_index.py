"""Reading through an index: what each mode reads of it, and whose fault it is when it is wrong."""

import dataclasses
import random

import pytest

from restante import limits
from restante.errors import VerificationFailed
from restante.formats import car, dagcbor, index_cut
from restante.formats import cid as cids
from restante.formats.index import KEY, ROW, IndexBlock
from restante.formats.level import Level, Span, children
from restante.formats.page import bucket_range, topic_key
from restante.formats.segment import build
from restante.rules import verify
from restante.rules.committed import Committed
from restante.rules.verify import SetFault
from restante.rules.verify_index import TrustedIndex
from restante.rules.verify_indexed import IndexedSegment
from restante.testing.archive_fixture import IndexedChild, envelope, make_set, member

MADE = make_set(levels=(Level(2), Level(8, "index")), bucket_bits=6)
D = MADE.descriptor
DAY = Span(2, 3, 24, 8)
HOURS = children(D, DAY)
WHOLE = range(DAY.first, DAY.stop)


class failing:
    """`with` a VerificationFailed of exactly this code, and of this kind."""

    def __init__(self, code, kind=VerificationFailed):
        self.code, self.kind = code, kind

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert isinstance(error, VerificationFailed), error
        assert (error.code, type(error)) == (self.code, self.kind), str(error)
        assert error.code in verify.CODES
        return True


@pytest.fixture
def small(monkeypatch):
    """Small limits, so that a few envelopes make many pages, blocks and tables of them."""
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 400)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 4_000)
    monkeypatch.setattr(limits, "PAGE_RANGE_MAX_BYTES", 1_500)
    monkeypatch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 500)
    monkeypatch.setattr(limits, "INDEX_NAMES", 4)


class Day:
    """Four made segments of two windows, and their index; some hours may be none or empty."""

    def __init__(self, seed=0, count=60, topics=12, none=()):
        rng = random.Random(seed)
        self.topics = [rng.randbytes(4) for _ in range(topics)]
        self.members, self.segments = [], {}
        for number, span in enumerate(HOURS):
            for window in range(span.first, span.stop):
                low, high = D.sent_bounds_s(window)
                for _ in range(0 if number == 3 else rng.randrange(count)):
                    # A busy topic fills pages of its own.
                    topic = rng.choice([self.topics[0], rng.choice(self.topics)])
                    data = rng.randbytes(rng.randrange(120))
                    raw = envelope(topic, rng.randint(low, high), data)
                    self.members.append(member(D.set_id, window, raw))
            self.segments[span] = self.segment(span)
        self.none = {HOURS[i] for i in none}
        self.build()

    def segment(self, span):
        mine = [m for m in self.members if m.window in span]
        return build(D.set_id, mine, span.first, span.windows, span.level, bucket_bits=6)

    def build(self):
        below = [None if span in self.none else IndexedChild(self.segments[span]) for span in HOURS]
        self.index = index_cut.build(D.set_id, DAY, below)
        self.car = self.index.car()
        self.cid = self.index.root_cid

    def forge(self, **fields):
        """The index with another root over the same blocks, signed by the set."""
        self.replace_blocks({}, dataclasses.replace(self.index.root, **fields))

    def replace_blocks(self, changed, root=None):
        """Other blocks in place of some, and a root that names them (one without tables)."""
        root = root or self.index.root
        named, blocks = [], []
        for (cid, data), name in zip(self.index.blocks[1:], self.index.root.blocks, strict=True):
            data = changed.get(cid, data)
            cid = cids.cid_of(cids.DAG_CBOR, data)
            named.append(IndexBlock(name.topic_key, len(data), cid))
            blocks.append((cid, data))
        if changed:
            root = dataclasses.replace(root, blocks=tuple(named))
        block = root.encode()
        self.cid = cids.cid_of(cids.DAG_CBOR, block)
        self.car = car.write(self.cid, [(self.cid, block), *blocks])


class Reading:
    """What one query read, and how."""

    def __init__(self, day, mode, topics, windows=WHOLE, first=1 << 20, change=None):
        self.day, self.change, self.pieces = day, change or (lambda piece, data: data), []
        self.members = {}
        self.index = TrustedIndex(D, Committed(DAY, day.cid), mode, topics, windows)
        self.index.read_prefix(self.change(None, day.car[:first]), first)
        self.take(self.index, [day.car])
        for span in self.index.spans:
            child = self.index.child(span)
            own = range(max(span.first, windows.start), min(span.stop, windows.stop))
            if child is None:
                self.members[span] = None
                continue
            segment = IndexedSegment(D, child, mode, topics, own)
            self.take(segment, day.segments[span].cars())
            self.members[span] = segment.members()

    def take(self, trusted, parts):
        while needs := trusted.needs():
            for piece in needs:
                self.pieces.append((trusted is self.index or trusted.of.span, piece))
                data = parts[piece.part][piece.offset : piece.offset + piece.length]
                trusted.take(piece, self.change(piece, data))


PREFIXES = {"nothing but its length": 70, "some": 1_000, "all": 1 << 20}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mode", ["bucket", "exact"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_mode_finds_all_of_its_topics(small, seed, mode, prefix):
    none = random.Random(seed).choice([(), (1,), (0, 3)])
    day = Day(seed, none=none)
    rng = random.Random(seed + 100)
    topics = (*rng.sample(day.topics, rng.randint(1, 3)), rng.randbytes(4))
    keys = {topic_key(D.set_id, topic) for topic in topics}
    a = rng.randint(WHOLE.start, WHOLE.stop - 1)
    windows = rng.choice([WHOLE, range(a, rng.randint(a + 1, WHOLE.stop))])
    read = Reading(day, mode, topics, windows, PREFIXES[prefix])
    assert set(read.members) == {s for s in HOURS if any(w in s for w in windows)}
    for span, members in read.members.items():
        if span in day.none:
            assert members is None
            continue
        mine = [m for m in members if m.topic_key in keys and m.window in windows]
        expected = [m for m in sorted(day.members) if m.window in span and m.window in windows]
        assert mine == [m for m in expected if m.topic_key in keys]
    assert len(set(read.pieces)) == len(read.pieces)


def test_small_limits_make_what_is_to_be_tested(small):
    day = Day()
    assert day.index.root.tables
    assert len(day.index.root.tables) > 2
    assert day.index.root.blocks is None
    assert any(len(segment.cars()) > 1 for segment in day.segments.values())


def test_bucket_mode_reads_the_same_for_every_topic_of_a_bucket(small):
    """An observer of all fetches learns the finest bucket and not the topic, hit or not."""
    day = Day()
    depths = [s.root.depth for s in day.segments.values() if s.count]
    by_bucket = {}
    for number in range(300):
        topic = number.to_bytes(4, "big")
        bucket = bucket_range(max(depths), topic_key(D.set_id, topic))
        read = Reading(day, "bucket", (topic,), first=200)
        by_bucket.setdefault(bucket, set()).add(tuple(read.pieces))
    assert all(len(fetches) == 1 for fetches in by_bucket.values())
    assert len({fetch for fetches in by_bucket.values() for fetch in fetches}) > 1


def test_exact_reads_a_block_or_two_and_no_page_without_a_hit(small):
    day = Day()
    read = Reading(day, "exact", (b"none",), first=200)
    assert all(members == [] for members in read.members.values())
    assert {piece.kind for _, piece in read.pieces} <= {"root", "index-table", "index-block"}
    assert sum(piece.kind == "index-block" for _, piece in read.pieces) <= 2


def test_pages_outside_the_windows_are_not_read_where_rows_tell(small):
    """A busy topic fills pages of its own, whose rows say their windows."""
    day = Day(count=120)
    busy = day.topics[0]

    def pages(windows):
        read = Reading(day, "exact", (busy,), windows)
        return sum(piece.length for _, piece in read.pieces if piece.kind == "pages")

    hour = HOURS[1]
    both = pages(range(hour.first, hour.stop))
    one, other = pages(range(hour.first, hour.first + 1)), pages(range(hour.first + 1, hour.stop))
    assert max(one, other) < both
    assert one + other <= both + 3 * limits.PAGE_TARGET_BYTES


# --- lies -----------------------------------------------------------------------------------


def flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


LIES = {
    "root": "root-hash",
    "index-table": "index-block",
    "index-block": "index-block",
    "pages": "page-hash",
}


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("mode", ["bucket", "exact"])
def test_each_piece_is_checked(small, kind, mode):
    day = Day()
    topics = (day.topics[0],)

    def lying(change):
        return lambda piece, data: change(data) if piece and piece.kind == kind else data

    with failing(LIES[kind]):
        Reading(day, mode, topics, first=100, change=lying(flip))
    with failing("truncated"):
        Reading(day, mode, topics, first=100, change=lying(lambda data: data[:-1]))


def test_roots():
    day = Day()
    other = Day(seed=1)
    end = car.HEADER_BYTES + car.section_bytes(len(day.index.blocks[0][1]))
    for prefix, code in (
        (b"", "truncated"),
        (day.car[:20], "truncated"),
        (day.car[: end - 1], "truncated"),
        (bytes(len(day.car)), "root-hash"),
        (b"<html>not a CAR</html>" * 9, "root-hash"),
        (other.car, "root-hash"),
        (day.segments[HOURS[0]].cars()[0], "root-hash"),
        (flip(day.car[:end]), "root-hash"),
    ):
        index = TrustedIndex(D, Committed(DAY, day.cid), "exact", (b"none",), WHOLE)
        with failing(code):
            index.read_prefix(prefix)


def test_out_of_order_is_a_programming_error(small):
    day = Day()
    index = TrustedIndex(D, Committed(DAY, day.cid), "exact", day.topics[:1], WHOLE)
    for call in (lambda: index.root, lambda: index.child(HOURS[0])):
        with pytest.raises(RuntimeError):
            call()
    index.read_prefix(day.car[:200], 200)
    with pytest.raises(RuntimeError):
        index.child(HOURS[0])
    with pytest.raises(RuntimeError):
        index.take(index.needs()[0]._replace(length=1), b"x")


# --- what the set signed wrongly --------------------------------------------------------------


def child(day, number, **fields):
    told = list(day.index.root.children)
    told[number] = told[number]._replace(**fields)
    return {"children": tuple(told)}


WRONG_ROOTS = {
    "another day": lambda day: {"first_window": DAY.first + 8},
    "another set": lambda day: {"set_id": bytes(32)},
    "another level": lambda day: {"level": 1},
    "a child too few": lambda day: {"windows": 6, "children": day.index.root.children[:3]},
    "a depth that its bytes do not have": lambda day: child(day, 0, depth=6),
    "impossible sent times": lambda day: child(day, 0, sent_min=5),
    "over the limit": lambda day: child(day, 0, bytes_=1 << 40, depth=6),
}


@pytest.mark.parametrize("name", WRONG_ROOTS)
def test_a_root_that_contradicts_its_entry(name):
    day = Day()
    day.forge(**WRONG_ROOTS[name](day))
    with failing("root-contradicts-entry", SetFault):
        Reading(day, "exact", day.topics[:1])


def block_of(keys, runs):
    mask = b"".join(KEY.pack(key) + bytes([bits]) for key, bits in keys.items())
    first = DAY.first
    rows = [
        b"".join(ROW.pack(r.topic_key, r.window - first, *r[2:6], cids.digest(r.cid)) for r in run)
        for run in runs
    ]
    return dagcbor.encode([mask, rows])


def rewritten(day, change, number=0):
    """A day whose set signed one block of the index otherwise."""
    cid, _ = day.index.blocks[1 + number]
    contents = day_contents(day, number)
    keys, runs = dict(contents.keys), [list(run) for run in contents.rows]
    change(keys, runs)
    day.replace_blocks({cid: block_of(keys, runs)})
    return day


def day_contents(day, number):
    from restante.formats.index import check_block

    named = day.index.root.blocks[number]
    return check_block(named, day.index.blocks[1 + number][1], day.index.root)


def test_the_writer_of_blocks_here_writes_what_the_index_has():
    day = Day()
    assert len(day.index.blocks) == 2
    contents = day_contents(day, 0)
    assert block_of(contents.keys, contents.rows) == day.index.blocks[1][1]


@pytest.mark.parametrize("mode", ["bucket", "exact"])
def test_a_page_that_begins_with_a_key_its_hour_lacks(mode):
    day = Day()
    key = next(row.topic_key for row in day.segments[HOURS[0]].rows)
    rewritten(day, lambda keys, runs: keys.update({key: keys[key] & ~1 or 2}))
    with failing("index-block", SetFault):
        Reading(day, mode, day.topics)


def hidden_day():
    """A day, and a topic whose key stands within a page of the first hour, not at its beginning."""
    day = Day(topics=30)
    begin = {row.topic_key for row in day.segments[HOURS[0]].rows}
    within = sorted(m for m in day.members if m.window in HOURS[0] and m.topic_key not in begin)
    topic = next(t for t in day.topics if topic_key(D.set_id, t) == within[0].topic_key)
    return day, topic, within[0].topic_key


def test_an_index_that_hides_an_hour():
    day, topic, key = hidden_day()

    def hidden(keys, runs):
        keys[key] &= ~1
        if not keys[key]:
            keys[key] = 8  # an hour without envelopes

    rewritten(day, hidden)
    # The pages of the bucket prove otherwise, and any page that is read and holds it.
    with failing("index-contradicts-page", SetFault):
        Reading(day, "bucket", (topic,))
    with failing("index-contradicts-page", SetFault):
        Reading(day, "exact", (topic, *day.topics))


def test_an_index_that_names_what_is_not_there():
    day, topic, key = hidden_day()
    rewritten(day, lambda keys, runs: keys.update({key: 15}))
    with failing("index-contradicts-page", SetFault):
        Reading(day, "bucket", (topic,))
    with failing("index-contradicts-page", SetFault):
        Reading(day, "exact", (topic,))


def test_rows_of_another_page():
    day = Day()
    key = day.segments[HOURS[0]].rows[0].topic_key

    def fewer(keys, runs):
        runs[0][0] = runs[0][0]._replace(records=1)

    rewritten(day, fewer)
    topic = next(t for t in day.topics if topic_key(D.set_id, t) == key)
    with pytest.raises(SetFault) as caught:
        Reading(day, "exact", (topic,))
    assert caught.value.code in ("page-content", "index-block")


@pytest.mark.parametrize("mode", ["bucket", "exact"])
def test_rows_that_do_not_add_up(mode):
    day = Day()
    rewritten(day, lambda keys, runs: runs[1].pop())
    with failing("index-block", SetFault):
        Reading(day, mode, day.topics[:1])


def test_rows_of_another_child():
    day = Day()
    rewritten(day, lambda keys, runs: runs.__setitem__(0, runs[1]))
    with failing("index-block", SetFault):
        Reading(day, "exact", day.topics[:1])


def test_a_row_of_another_childs_window():
    """Seen in the block, though its page is not read."""
    day = Day()

    def later(keys, runs):
        runs[0] = [row._replace(window=row.window + 2) for row in runs[0]]

    rewritten(day, later)
    with failing("index-block", SetFault):
        Reading(day, "exact", (b"none",))


def test_other_sent_times_than_the_pages_have():
    day = Day()
    told = day.index.root.children[0]
    day.forge(**child(day, 0, sent_min=told.sent_max))
    with failing("index-contradicts-page", SetFault):
        Reading(day, "exact", day.topics)


@pytest.mark.parametrize("lost", ["its last row before", "all rows"])
def test_blocks_that_do_not_follow_each_other(small, monkeypatch, lost):
    """Of two neighbours, where the rest of the index is not read and nothing is to be added up."""
    monkeypatch.setattr(limits, "INDEX_NAMES", 1_000)
    day = Day(count=120, topics=60)
    assert len(day.index.root.blocks) > 4
    before, contents = day_contents(day, 1), day_contents(day, 2)
    by_key = {topic_key(D.set_id, topic): topic for topic in day.topics}
    asked = (by_key[list(before.keys)[-2]], by_key[list(contents.keys)[-2]])
    # An hour whose rows go on in the second block, behind one that repeats its last.
    bit = next(
        i
        for i, run in enumerate(contents.rows)
        if len(run) > 1 and run[0].topic_key < next(iter(contents.keys)) <= run[1].topic_key
    )

    def change(keys, runs):
        runs[bit] = [] if lost == "all rows" else runs[bit][1:]

    Reading(day, "exact", asked)
    rewritten(day, change, number=2)
    with failing("index-block", SetFault):
        Reading(day, "exact", asked)


def test_a_block_with_keys_of_the_next(small, monkeypatch):
    monkeypatch.setattr(limits, "INDEX_NAMES", 1_000)
    day = Day()
    rewritten(day, lambda keys, runs: keys.update({0xFFFF_FFFF: 1}), number=1)
    with failing("index-block", SetFault):
        Reading(day, "bucket", day.topics)
