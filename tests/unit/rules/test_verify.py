"""Verification from the policy down: order of calls, codes, and what each mode reads."""

import dataclasses
import random
from hashlib import sha256

import pytest

from restante import limits
from restante.errors import InvalidEncoding, Unavailable, VerificationFailed
from restante.formats import car, layout, tiles, whisper
from restante.formats import entry as entries
from restante.formats.checkpoint import Checkpoint
from restante.formats.note import Note
from restante.formats.page import topic_key
from restante.formats.policy import Policy
from restante.formats.segment import build
from restante.rules import verify, verify_page
from restante.rules.committed import Committed
from restante.rules.verify import SetFault, TrustedArchive, check_note
from restante.rules.verify_page import READERS
from restante.rules.verify_segment import TrustedSegment
from restante.testing.archive_fixture import (
    envelope,
    make_archive,
    make_set,
    member,
)

MADE = make_set()
D = MADE.descriptor
POLICY = MADE.policy()


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


# --- policy, descriptor, checkpoint ---------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    envelopes = {w: [envelope(b"aaaa", D.start_s(w), bytes([w]))] for w in range(12)}
    return make_archive(tmp_path_factory.mktemp("archive"), envelopes, 12, made=MADE)


def trusted(archive, remembered=None):
    known = TrustedArchive(POLICY, remembered)
    known.update_descriptor(D.encode())
    known.update_checkpoint(archive.note)
    known.accept(archive.read)
    return known


def test_the_whole_way_down(archive):
    known = trusted(archive)
    assert known.checkpoint.size == 12
    assert [entry.window for entry in known.bundle(0, archive.read)] == list(range(12))


def test_out_of_order_is_a_programming_error(archive):
    known = TrustedArchive(POLICY)
    for call in (
        lambda: known.descriptor,
        lambda: known.checkpoint,
        lambda: known.update_checkpoint(archive.note),
        lambda: known.accept(archive.read),
        lambda: known.bundle(0, archive.read),
        lambda: known.require_contains(Checkpoint(D.origin, 1, bytes(32)), archive.read),
    ):
        with pytest.raises(RuntimeError):
            call()
    known.update_descriptor(D.encode())
    known.update_checkpoint(archive.note)
    for call in (lambda: known.checkpoint, lambda: known.bundle(0, archive.read)):
        with pytest.raises(RuntimeError):
            call()
    known.accept(archive.read)
    with pytest.raises(RuntimeError):
        known.bundle(1, archive.read)
    segment = TrustedSegment(
        D, Committed.batch(known.bundle(0, archive.read)[0]), "bucket", (b"aaaa",)
    )
    for call in (segment.needs, segment.members, lambda: segment.layout):
        with pytest.raises(RuntimeError):
            call()


def test_a_policy_without_a_set():
    with failing("no-set"):
        TrustedArchive(dataclasses.replace(POLICY, set_id=None))


def test_descriptors():
    known = TrustedArchive(POLICY)
    with failing("wrong-set"):
        known.update_descriptor(make_set(seed=1).descriptor.encode())
    with failing("wrong-set"):
        known.update_descriptor(D.encode() + b"x")
    junk = dataclasses.replace(POLICY, set_id=sha256(b"junk").digest())
    with failing("descriptor", SetFault):
        TrustedArchive(junk).update_descriptor(b"junk")
    other = make_set(network="waku-v2").descriptor
    with failing("descriptor", SetFault):
        policy = dataclasses.replace(POLICY, set_id=other.set_id)
        TrustedArchive(policy).update_descriptor(other.encode())
    foreign = make_set(seed=2)
    with failing("origin"):
        policy = dataclasses.replace(foreign.policy(), set_id=D.set_id)
        TrustedArchive(policy).update_descriptor(D.encode())


def altered(note, **fields):
    return dataclasses.replace(Note.parse(note), **fields).encode()


def test_checkpoint_notes(archive):
    good = Note.parse(archive.note)
    for data in (b"", b"junk", archive.note[:-1], archive.note * 2, good.text.encode()):
        with failing("checkpoint"):
            check_note(POLICY, data)
    with failing("origin"):
        check_note(POLICY, make_set(seed=1).checkpoint(3, bytes(32)))
    with failing("log-signature"):
        check_note(POLICY, altered(archive.note, signatures=good.signatures[1:]))
    with failing("quorum"):
        check_note(POLICY, altered(archive.note, signatures=good.signatures[:-1]))
    with failing("quorum"):  # lines count once for each key
        lines = (*good.signatures[:-1], good.signatures[1])
        check_note(POLICY, altered(archive.note, signatures=lines))
    text = good.text.replace("\n12\n", "\n13\n")
    with failing("bad-signature"):
        check_note(POLICY, altered(archive.note, text=text))


def test_what_is_remembered_binds(archive):
    def update(remembered, note):
        known = TrustedArchive(POLICY, remembered)
        known.update_descriptor(D.encode())
        known.update_checkpoint(note)
        known.accept(archive.read)
        return known

    newer = Checkpoint(D.origin, 13, bytes(32))
    with failing("stale-checkpoint"):
        update(newer, archive.note)
    with failing("split-view"):
        update(Checkpoint(D.origin, 12, bytes(32)), archive.note)
    same = Checkpoint(D.origin, 12, archive.tree_root)
    assert update(same, archive.note).checkpoint.size == 12
    with failing("split-view"):
        update(Checkpoint(D.origin, 5, bytes(32)), archive.note)


def test_an_older_checkpoint_is_a_prefix(archive, tmp_path):
    older = make_archive(
        tmp_path,
        {w: [raw for at, raw in archive.envelopes if at == w] for w in range(5)},
        5,
        made=MADE,
    )
    known = trusted(archive, Checkpoint(D.origin, 5, older.tree_root))
    assert known.checkpoint.size == 12
    known.require_contains(Checkpoint(D.origin, 5, older.tree_root), archive.read)
    with failing("split-view"):
        known.require_contains(Checkpoint(D.origin, 4, older.tree_root), archive.read)


def test_a_liar_about_tiles_is_not_a_split_view(archive):
    known = TrustedArchive(POLICY, Checkpoint(D.origin, 5, bytes(32)))
    known.update_descriptor(D.encode())
    known.update_checkpoint(archive.note)

    def flipped(path):
        data = archive.read(path)
        return bytes([data[0] ^ 1]) + data[1:]

    for get in (flipped, lambda path: archive.read(path)[:-1], lambda path: b""):
        with failing("tile"):
            known.accept(get)

    def gone(path):
        raise Unavailable("gone", code="not-found")

    with pytest.raises(Unavailable):
        known.accept(gone)


def test_entries_are_what_the_tiles_say(archive):
    known = trusted(archive)
    path = tiles.entries_path(0, 12)

    def lying(change):
        return lambda asked: change(archive.read(asked)) if asked == path else archive.read(asked)

    for change in (
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:],
        lambda data: b"",
    ):
        with failing("entry"):
            known.bundle(0, lying(change))
    # What failed left nothing behind.
    assert len(known.bundle(0, archive.read)) == 12


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"window": 7}, "wrong-window"),
        ({"sent_min": 0}, "sent-bounds"),
        ({"sent_max": 1 << 40}, "sent-bounds"),
        (None, "entry"),
    ],
)
def test_what_the_set_signed_wrongly_is_the_sets_fault(tmp_path, change, code):
    made = make_archive(tmp_path, {}, 1, made=MADE)
    leaf = b"junk"
    if change is not None:
        raw = envelope(b"aaaa", D.start_s(1))
        leaf = dataclasses.replace(made.segment(1, [raw]).entry(), **change).encode()
    made._append_entry(leaf)
    made.cosign()
    known = trusted(made)
    read = known.bundle(0, made.read)
    with failing(code, SetFault):
        read[1]


# --- segments -------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Small limits, so that a few envelopes make many pages, table and directory blocks."""
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 400)
    monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 3)
    monkeypatch.setattr(limits, "DIRECTORY_KEYS", 4)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 4_000)
    monkeypatch.setattr(limits, "PAGE_RANGE_MAX_BYTES", 1_500)


def batch(seed=0, count=60, topics=20, window=0):
    rng = random.Random(seed)
    names = [rng.randbytes(4) for _ in range(topics)]
    low, high = D.sent_bounds_s(window)
    raws = [
        envelope(rng.choice(names), rng.randint(low, high), rng.randbytes(rng.randrange(150)))
        for _ in range(count)
    ]
    members = [member(D.set_id, window, raw) for raw in raws]
    return build(D.set_id, members, window, bucket_bits=D.bucket_bits), members, names


class Fetcher:
    """The parts of a segment, and what was read of them."""

    def __init__(self, segment):
        self.parts = segment.cars()
        self.pieces = []

    def __call__(self, piece):
        self.pieces.append(piece)
        return self.parts[piece.part][piece.offset : piece.offset + piece.length]


def read(segment, mode, topics, prefix_bytes, change=lambda piece, data: data):
    fetch = Fetcher(segment)
    found = TrustedSegment(D, Committed.batch(segment.entry()), mode, topics)
    found.read_prefix(fetch.parts[0][:prefix_bytes])
    while needs := found.needs():
        for piece in needs:
            found.take(piece, change(piece, fetch(piece)))
    return found.members(), fetch.pieces


def root_end(segment):
    return car.HEADER_BYTES + car.section_bytes(len(segment.blocks[0][1]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mode", ["bucket", "exact", "all"])
@pytest.mark.parametrize("prefix", ["root", "middle", "whole"])
def test_each_mode_finds_all_of_its_topics(small, seed, mode, prefix):
    segment, members, names = batch(seed, topics=random.Random(seed).randint(1, 30))
    rng = random.Random(seed + 100)
    topics = (*rng.sample(names, min(len(names), rng.randint(1, 3))), rng.randbytes(4))
    first = {"root": root_end(segment), "middle": root_end(segment) + 1_700, "whole": 1 << 20}
    got, pieces = read(segment, mode, topics, first[prefix])
    keys = {topic_key(D.set_id, topic) for topic in topics}
    assert [m for m in got if m.topic_key in keys] == sorted(
        m for m in members if m.topic_key in keys
    )
    if mode == "all":
        assert got == sorted(members)
    if mode != "exact":  # pages prove absence themselves
        assert all(piece.kind != "directory" for piece in pieces)
    assert len(pieces) == len(set(pieces))


def test_small_limits_make_what_is_to_be_tested(small):
    segment, _, _ = batch()
    assert segment.root.page_blocks
    assert segment.root.directory_blocks
    assert len(segment.cars()) > 1
    assert segment.root.depth > 3


def test_bucket_mode_reads_the_same_for_every_topic_of_a_bucket(small):
    """An observer of all fetches learns the bucket and not the topic, hit or not."""
    segment, _, _ = batch()
    by_bucket = {}
    for number in range(400):
        topic = number.to_bytes(4, "big")
        bucket = topic_key(D.set_id, topic) >> (32 - segment.root.depth)
        _, pieces = read(segment, "bucket", (topic,), root_end(segment))
        by_bucket.setdefault(bucket, set()).add(tuple(pieces))
    assert all(len(fetches) == 1 for fetches in by_bucket.values())
    assert len({fetch for fetches in by_bucket.values() for fetch in fetches}) > 1


def test_exact_reads_no_page_without_a_hit(small):
    segment, _, _ = batch()
    got, pieces = read(segment, "exact", (b"none",), root_end(segment))
    assert got == []
    assert all(piece.kind != "pages" for piece in pieces)


def test_nothing_is_fetched_twice(small):
    """What the prefix holds is not asked for again."""
    segment, _, _ = batch()
    end = root_end(segment) + 1_700
    _, pieces = read(segment, "all", (), end)
    assert all(piece.part or piece.offset + piece.length > end for piece in pieces)
    assert read(batch(count=3)[0], "all", (), 1 << 20)[1] == []


def flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("kind", "mode", "code"),
    [
        ("pages", "all", "page-hash"),
        ("pages", "bucket", "page-hash"),
        ("page-table", "bucket", "page-table"),
        ("directory", "exact", "directory"),
    ],
)
def test_each_piece_is_checked(small, kind, mode, code):
    segment, members, _ = batch()
    topics = (whisper.parse(members[0].raw).topic,)
    with failing(code):
        read(
            segment,
            mode,
            topics,
            root_end(segment),
            lambda piece, data: flip(data) if piece.kind == kind else data,
        )
    with failing("truncated"):
        read(
            segment,
            mode,
            topics,
            root_end(segment),
            lambda piece, data: data[:-1] if piece.kind == kind else data,
        )


def test_a_page_in_the_prefix_is_checked_too():
    segment, _, _ = batch(count=3)
    data = segment.cars()[0]
    found = TrustedSegment(D, Committed.batch(segment.entry()), "all", ())
    with failing("page-hash"):
        found.read_prefix(flip(data))


def test_a_piece_that_nobody_asked_for(small):
    segment, _, _ = batch()
    found = TrustedSegment(D, Committed.batch(segment.entry()), "all", ())
    found.read_prefix(segment.cars()[0][: root_end(segment)])
    with pytest.raises(RuntimeError):
        found.take(found.needs()[0]._replace(length=1), b"x")
    with pytest.raises(RuntimeError):
        found.members()
    with pytest.raises(RuntimeError):
        found.read_prefix(segment.cars()[0])


def test_roots():
    segment, _, _ = batch(count=3)
    data = segment.cars()[0]
    found = lambda: TrustedSegment(D, Committed.batch(segment.entry()), "bucket", (b"aaaa",))  # noqa: E731
    foreign = make_set(seed=1)
    other_set = build(foreign.set_id, [], 0, bucket_bits=6).cars()[0]
    other_window = batch(count=3, window=5)[0].cars()[0]
    same_window = batch(seed=9, count=3)[0].cars()[0]
    end = root_end(segment)
    for prefix, code in (
        (b"", "truncated"),
        (data[:20], "truncated"),
        (data[: end - 1], "truncated"),
        (bytes(len(data)), "root-hash"),
        (data[: end - 1] + bytes([data[end - 1] ^ 1]), "root-hash"),
        (other_set, "wrong-set"),
        (other_window, "wrong-window"),
        (same_window, "root-hash"),
        (b"<html>not a CAR</html>" * 9, "root-hash"),
    ):
        with failing(code):
            found().read_prefix(prefix)


def test_a_root_that_contradicts_its_entry_is_the_sets_fault():
    segment, _, _ = batch(count=3)
    entry = dataclasses.replace(segment.entry(), count=4)
    with failing("root-contradicts-entry", SetFault):
        TrustedSegment(D, Committed.batch(entry), "all", ()).read_prefix(segment.cars()[0])


def forged(segment, **fields):
    """A segment with another root over the same blocks, and an entry that commits to it."""
    from restante.formats import cid

    root = dataclasses.replace(segment.root, **fields)
    block = root.encode()
    root_cid = cid.cid_of(cid.DAG_CBOR, block)
    blocks = [(root_cid, block), *segment.blocks[1:]]
    return dataclasses.replace(segment, root=root, root_cid=root_cid, blocks=blocks)


@pytest.mark.parametrize("mode", ["bucket", "exact", "all"])
@pytest.mark.parametrize("lie", ["names", "lacks"])
def test_a_directory_that_contradicts_its_pages(mode, lie):
    segment, _, names = batch(count=9, topics=4)
    topic = names[0] if lie == "lacks" else b"none"
    key = topic_key(D.set_id, topic)
    keys = set(segment.root.directory) ^ {key}
    wrong = forged(segment, directory=tuple(sorted(keys)))
    if lie == "lacks" and mode == "exact":
        # Believed: in exact mode the directory alone proves absence, and the set signed it.
        assert read(wrong, mode, (topic,), 1 << 20)[0] == []
        return
    with failing("directory-contradicts-page", SetFault):
        read(wrong, mode, (topic,), 1 << 20)


def test_pages_against_their_rows_are_the_sets_fault():
    segment, _, _ = batch(count=9, topics=4)
    row = segment.root.pages[0]
    wrong = forged(segment, pages=(row._replace(topic_key=row.topic_key ^ 1),))
    # The parser of the root finds some of these lies by itself.
    with pytest.raises((InvalidEncoding, SetFault)):
        read(wrong, "all", (), 1 << 20)


@pytest.mark.parametrize("mode", ["bucket", "exact", "all"])
def test_a_page_table_that_does_not_add_up_to_the_count(small, mode):
    segment, _, names = batch()
    wrong = forged(segment, count=segment.count + 1)
    with failing("page-table", SetFault):  # the topics reach every block of the table
        read(wrong, mode, names, root_end(wrong))


def test_part_of_a_page_table_is_not_counted(small):
    segment, _, names = batch()
    wrong = forged(segment, count=segment.count + 1)
    assert read(wrong, "exact", names[:1], root_end(wrong))[0]


def shifted(segment, number):
    """The segment, the places of one page-table block all a byte too far, and the root of that."""
    from restante.formats import cid, dagcbor

    named = segment.root.page_blocks[number]
    rows = dagcbor.decode(dict(segment.blocks)[named.cid])
    for row in rows:
        row[3] += 1
    block = dagcbor.encode(rows)
    changed = named._replace(length=len(block), cid=cid.cid_of(cid.DAG_CBOR, block))
    blocks = [(changed.cid, block) if c == named.cid else (c, b) for c, b in segment.blocks]
    listed = [changed if i == number else b for i, b in enumerate(segment.root.page_blocks)]
    return forged(dataclasses.replace(segment, blocks=blocks), page_blocks=tuple(listed))


@pytest.mark.parametrize("number", [0, 1])
def test_page_table_blocks_follow_each_other(small, number):
    segment, _, _ = batch()
    wrong = shifted(segment, number)
    for prefix in (root_end(wrong), 1 << 20):
        with failing("page-table", SetFault):
            read(wrong, "all", (), prefix)


def test_the_first_page_is_at_the_beginning(small):
    """Said of the first block alone, where none that could contradict it is read."""
    segment, members, _ = batch()
    first = min(members)
    wrong = shifted(segment, 0)
    with failing("page-table", SetFault):
        read(wrong, "exact", (READERS[D.network](first.raw)[0],), root_end(wrong))


def test_a_page_that_reaches_beyond_the_next_one():
    """What is read of a table by first keys alone would miss its records."""
    from restante.formats import cid, varint
    from restante.formats.page import PageRow

    one, two, three = sorted(
        member(D.set_id, 0, envelope(bytes([i, 1, 2, 3]), D.start_s(0))) for i in range(3)
    )
    segment = build(D.set_id, [one, two, three], 0, bucket_bits=6)
    pages = [
        b"".join(varint.encode(0) + varint.encode(len(m.raw)) + m.raw for m in members)
        for members in ([one, three], [two])
    ]
    blocks = [(cid.cid_of(cid.RAW, page), page) for page in pages]
    end = car.section_bytes(len(pages[0]))
    rows = (
        PageRow(one.topic_key, 0, 0, 0, len(pages[0]), 2, blocks[0][0]),
        PageRow(two.topic_key, 0, 0, end, len(pages[1]), 1, blocks[1][0]),
    )
    wrong = forged(dataclasses.replace(segment, rows=rows), pages=rows)
    wrong = dataclasses.replace(wrong, blocks=[wrong.blocks[0], *blocks])
    with failing("page-content", SetFault):
        read(wrong, "all", (), 1 << 20)


def test_impossible_sent_times_are_the_sets_fault():
    raw = envelope(b"aaaa", D.sent_bounds_s(0)[1] + 1)
    segment = build(D.set_id, [member(D.set_id, 0, raw)], 0, bucket_bits=6)
    with failing("sent-bounds", SetFault):
        read(segment, "all", (), 1 << 20)


@pytest.mark.parametrize("early", [True, False])
def test_sent_times_are_held_to_their_own_records_window(early):
    """A page of several windows: what the first of them could hold, a later one could not; and
    what a later one can, the first could not."""
    least, greatest = D.sent_bounds_s(0)
    sent_s = least if early else greatest + 1
    raws = [envelope(b"aaaa", greatest), envelope(b"aaaa", sent_s, b"later")]
    members = [member(D.set_id, window, raw) for window, raw in enumerate(raws)]
    segment = build(D.set_id, members, 0, 2, 1, bucket_bits=6)
    (row,), page = segment.rows, segment.blocks[-1][1]
    reader = verify_page.PageReader(D)
    if early:
        with failing("sent-bounds", SetFault):
            reader.members(segment.root, row, page, None)
    else:
        assert reader.members(segment.root, row, page, None) == members


def test_the_reader_of_every_network_is_there():
    assert set(verify_page.READERS) == verify.NETWORKS


def test_every_code_is_explained():
    assert all(verify.CODES.values())
    assert layout.PREFIX_BYTES > limits.SEGMENT_ROOT_MAX_BYTES
    assert entries.parse(batch()[0].entry().encode())
    assert Policy.parse(POLICY.encode()) == POLICY
