"""Segments: one set of envelopes, one CID; whatever deviates is named."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.samples import SET_ID, envelope, member, sent_of, topic_of
from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import car, cid, dagcbor, varint
from restante.formats.layout import (
    PREFIX_BYTES,
    directory_blocks_for,
    locate,
    page_blocks_for,
)
from restante.formats.page import (
    Member,
    PageRow,
    bucket_of,
    bucket_range,
    bucket_rows,
    place,
    rows_for_key,
    topic_key,
)
from restante.formats.root import check_directory_block, check_page_block, encode_keys
from restante.formats.segment import (
    Segment,
    build,
    check_directory,
    check_page,
    check_root,
    parse_directory_block,
    parse_root,
    read_cars,
)

D = SimpleNamespace(set_id=SET_ID, bucket_bits=6)
WINDOW = 7


def batch(raws: list[bytes]) -> Segment:
    return build(SET_ID, [member(raw, WINDOW) for raw in raws], WINDOW, bucket_bits=6)


def read(parts: list[bytes]) -> list[Member]:
    return read_cars(parts, D, topic_of, sent_of).members


@contextmanager
def small(**bounds: int) -> Iterator[None]:
    """Limits made small, so that few bytes fill pages, tables and parts."""
    before = {name: getattr(limits, name) for name in bounds}
    for name, value in bounds.items():
        setattr(limits, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(limits, name, value)


raws = st.lists(
    st.builds(envelope, st.integers(0, 9), st.integers(1000, 1003), st.binary(max_size=90)),
    unique=True,
    max_size=40,
)


@settings(max_examples=60)
@given(raws, st.randoms(use_true_random=False))
def test_a_set_has_one_cid_and_reads_back(raws: list[bytes], random: Random) -> None:
    """R3, I8: order of arrival does not show; every limit in play at once."""
    with small(PAGE_TARGET_BYTES=128, PAGE_TABLE_ROWS=3, DIRECTORY_KEYS=4, CAR_PART_BYTES=500):
        segment = batch(raws)
        shuffled = raws[:]
        random.shuffle(shuffled)
        again = batch(shuffled)
        assert again == segment
        parts = segment.cars()
        assert again.cars() == parts
        contents = read_cars(parts, D, topic_of, sent_of)
        assert contents.segment == segment
        assert contents.members == sorted(member(raw, WINDOW) for raw in raws)
        assert parse_root(segment.blocks[0][1]) == segment.root
        assert segment.count == len(raws)
        assert segment.bytes_ == sum(map(len, raws))
        assert segment.sent_min == min(map(sent_of, raws), default=None)
        assert segment.sent_max == max(map(sent_of, raws), default=None)
        assert segment.root.topics == len({topic_of(raw) for raw in raws})


@settings(max_examples=60)
@given(raws, st.integers(0, 11))
def test_ranges_find_what_a_search_of_everything_finds(raws: list[bytes], topic: int) -> None:
    """A client that reads only ranges sees exactly the envelopes of the topic."""
    with small(
        PAGE_TARGET_BYTES=128,
        PAGE_TABLE_ROWS=3,
        DIRECTORY_KEYS=4,
        CAR_PART_BYTES=500,
        PAGE_RANGE_MAX_BYTES=300,
    ):
        segment = batch(raws)
        parts = segment.cars()
        layout = locate(parts[0][:PREFIX_BYTES], segment.root_cid)
        root = layout.root
        assert root == segment.root
        key = topic_key(SET_ID, topic.to_bytes(4, "big"))
        wanted = sorted(member(raw, WINDOW) for raw in raws if topic_of(raw)[3] == topic)

        def tables(low: int, high: int) -> tuple[list[PageRow], list[int]]:
            rows, keys = list(root.pages or ()), list(root.directory or ())
            for index, named in page_blocks_for(root, low, high):
                at = layout.page_block_offsets[index]
                rows += check_page_block(named, parts[0][at : at + named.length])
            for index, listed in directory_blocks_for(root, low, high):
                at = layout.directory_block_offsets[index]
                keys += check_directory_block(listed, parts[0][at : at + 4 * listed.keys])
            return rows, keys

        def fetched(rows: list[PageRow]) -> list[Member]:
            found: list[Member] = []
            for piece in layout.page_ranges(rows):
                assert piece.length <= 300 or len(piece.rows) == 1
                data = parts[piece.part][piece.offset : piece.offset + piece.length]
                for row, page in piece.pages(data):
                    part, offset, length = layout.page_range(row)
                    assert parts[part][offset : offset + length] == page
                    found += check_page(root, row, page, topic_of, sent_of)
            return found

        rows, keys = tables(key, key)
        exact = fetched(rows_for_key(rows, key, root.depth))
        check_directory(keys, (m.topic_key for m in exact), key, key)
        assert (key in keys) == bool(wanted)
        low, high = bucket_range(root.depth, key)
        rows, keys = tables(low, high)
        bucket = fetched(bucket_rows(rows, root.depth, key))
        check_directory(keys, (m.topic_key for m in bucket), low, high)
        for found in (exact, bucket):
            assert [m for m in found if m.topic_key == key] == wanted


def test_every_flipped_bit_of_a_car_is_caught() -> None:
    segment = batch([envelope(t, 1000 + n, b"body") for n, t in enumerate((1, 2, 2, 3))])
    data = segment.cars()[0]
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(Invalid):
                read([bytes(changed)])
    for length in range(0, len(data), 7):
        with pytest.raises(Invalid):
            read([data[:length]])
    with pytest.raises(Invalid):
        read([data + data[-50:]])


def test_a_quiet_window_has_a_segment() -> None:
    segment = batch([])
    assert (segment.count, segment.bytes_, segment.sent_min, segment.rows) == (0, 0, None, ())
    assert len(segment.blocks) == 1
    assert read(segment.cars()) == []
    assert segment.root_cid != build(SET_ID, [], WINDOW + 1, bucket_bits=6).root_cid


def test_the_entry_is_of_the_segment() -> None:
    segment = batch([envelope(1, 1000, b"x"), envelope(1, 1009, b"y")])
    entry = segment.entry()
    assert (entry.window, entry.segment, entry.count) == (WINDOW, segment.root_cid, 2)
    assert (entry.bytes_, entry.sent_min, entry.sent_max) == (26, 1000, 1009)
    check_root(segment.root, entry, set_id=SET_ID, bucket_bits=6)
    for wrong in (
        {"window": 8},
        {"count": 3},
        {"bytes_": 27},
        {"sent_min": 999},
        {"sent_max": 1010},
    ):
        with pytest.raises(VerificationFailed) as caught:
            check_root(
                segment.root, dataclasses.replace(entry, **wrong), set_id=SET_ID, bucket_bits=6
            )
        assert caught.value.code == "root-contradicts-entry"
    with pytest.raises(VerificationFailed):
        check_root(segment.root, entry, set_id=bytes(32), bucket_bits=6)


# --- where pages are cut -------------------------------------------------------------------


def sized(topic: int, record_bytes: int, sent_s: int = 1000) -> bytes:
    """An envelope whose record has exactly this length."""
    for length_bytes in (1, 2, 3):
        raw = envelope(topic, sent_s, bytes(record_bytes - 1 - length_bytes - 12))
        if varint.size(len(raw)) == length_bytes:
            return raw
    raise AssertionError


def lengths(segment: Segment) -> list[int]:
    return [row.length for row in segment.rows]


def test_a_page_of_exactly_64_kib_is_one_page() -> None:
    segment = batch([sized(1, 30_000), sized(1, 35_536, 1001)])
    assert lengths(segment) == [65_536]
    assert len(read(segment.cars())) == 2


def test_one_byte_more_starts_another_page() -> None:
    segment = batch([sized(1, 30_000), sized(1, 35_537, 1001)])
    assert lengths(segment) == [30_000, 35_537]
    assert len(read(segment.cars())) == 2


def test_a_single_record_may_exceed_64_kib() -> None:
    segment = batch([sized(1, 100), sized(1, 65_537, 1001), sized(1, 100, 1002)])
    assert lengths(segment) == [100, 65_537, 100]


def test_the_largest_envelope_stands_alone() -> None:
    giant = envelope(1, 1001, bytes(limits.ENVELOPE_MAX_BYTES - 12))
    segment = batch([sized(1, 100), giant, sized(1, 100, 1002)])
    assert lengths(segment) == [100, limits.ENVELOPE_MAX_BYTES + 4, 100]
    assert len(read(segment.cars())) == 3
    with pytest.raises(ValueError, match="fits no page"):
        batch([giant + b"x"])


def test_a_page_never_spans_two_buckets() -> None:
    segment = batch([sized(topic, 700, 1000 + n) for topic in range(200) for n in range(2)])
    depth = segment.root.depth
    assert depth == 3
    pages = [block for _, block in segment.blocks[-len(segment.rows) :]]
    following: list[PageRow | None] = [*segment.rows[1:], None]
    for row, page, after in zip(segment.rows, pages, following, strict=True):
        members = check_page(segment.root, row, page, topic_of, sent_of, following=after)
        assert len({bucket_of(m.topic_key, depth) for m in members}) == 1
        if after is not None and bucket_of(after.topic_key, depth) == bucket_of(
            row.topic_key, depth
        ):
            assert row.length + 700 > limits.PAGE_TARGET_BYTES
    assert len({bucket_of(row.topic_key, depth) for row in segment.rows}) == 8
    assert any(row.length + 700 <= limits.PAGE_TARGET_BYTES for row in segment.rows)


def test_parts_are_cut_at_page_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 200_000)
    segment = batch([sized(1, 60_000, 1000 + n) for n in range(8)])
    assert [row.part for row in segment.rows] == [0, 0, 0, 1, 1, 1, 2, 2]
    parts = segment.cars()
    assert len(parts) == 3
    assert len(read(parts)) == 8
    for part in parts[1:]:
        root, blocks = car.read(part)
        assert root == segment.root_cid
        assert all(cid.codec(name) == cid.RAW for name, _ in blocks)
    for wrong in (parts[:2], parts[1:], [parts[0], parts[2], parts[1]], [*parts, parts[2]], []):
        with pytest.raises(Invalid):
            read(wrong)
    other = car.header(cid.cid_of(cid.DAG_CBOR, b"another")) + parts[1][car.HEADER_BYTES :]
    assert refusal([parts[0], other, parts[2]]) == "segment-parts"
    # The same blocks, cut elsewhere.
    joined = [parts[0] + parts[1][car.HEADER_BYTES :], parts[2]]
    with pytest.raises(VerificationFailed) as caught:
        read(joined)
    assert caught.value.code == "segment-not-canonical"


def test_a_page_larger_than_a_part_has_a_part_of_its_own() -> None:
    with small(CAR_PART_BYTES=1_000):
        segment = batch([sized(1, 60_000, 1000 + n) for n in range(3)])
        assert [(row.part, row.offset) for row in segment.rows] == [(0, 0), (1, 0), (2, 0)]
        assert len(read(segment.cars())) == 3


def test_a_full_size_segment_has_child_blocks_and_two_parts() -> None:
    """The real limits: 1,030 pages, 20,600 topics, 64 MiB."""
    body = bytes(3_258)
    segment = build(
        SET_ID,
        (
            Member(n << 17, WINDOW, 1000, sha256(bytes(4) + n.to_bytes(8, "big")).digest(), raw)
            for n in range(20_600)
            for raw in (n.to_bytes(12, "big") + body,)
        ),
        WINDOW,
        bucket_bits=6,
    )
    root = segment.root
    assert root.pages is None
    assert root.directory is None
    assert [b.keys for b in root.directory_blocks or ()] == [16_384, 4_216]
    assert next(b.rows for b in root.page_blocks or ()) == 1024
    assert all(len(block) <= limits.BLOCK_MAX_BYTES for _, block in segment.blocks)
    parts = segment.cars()
    assert len(parts) == 2
    assert len(parts[0]) <= limits.CAR_PART_BYTES + 512 * 1024
    layout = locate(parts[0][:PREFIX_BYTES], segment.root_cid)
    for row in (segment.rows[0], segment.rows[1000], segment.rows[-1]):
        part, offset, length = layout.page_range(row)
        cid.check(row.cid, parts[part][offset : offset + length])


# --- contradictions, each by its name ------------------------------------------------------


def forged(
    raws_of_pages: list[list[bytes]],
    *,
    rows: dict[int, dict[str, object]] | None = None,
    **change: object,
) -> list[bytes]:
    """The CAR of a segment whose author chose pages and root: hashes right, content as given."""
    table: list[PageRow] = []
    blocks: list[tuple[bytes, bytes]] = []
    part = end = 0
    everything = [raw for raws in raws_of_pages for raw in raws]
    for index, raws in enumerate(raws_of_pages):
        page = b"".join(b"\x00" + varint.encode(len(raw)) + raw for raw in raws)
        part, offset = place(part, end, len(page))
        end = offset + car.section_bytes(len(page))
        key = member(raws[0], WINDOW).topic_key
        name = cid.cid_of(cid.RAW, page)
        row = PageRow(key, WINDOW, part, offset, len(page), len(raws), name)
        table.append(row._replace(**(rows or {}).get(index, {})))  # type: ignore[arg-type]
        blocks.append((name, page))
    root = dataclasses.replace(
        batch(sorted(set(everything))).root,
        **{"count": len(everything), "pages": tuple(table), **change},  # type: ignore[arg-type]
    )
    block = root.encode()
    root_cid = cid.cid_of(cid.DAG_CBOR, block)
    return [car.write(root_cid, [(root_cid, block), *blocks])]


def in_order(raws: list[bytes]) -> list[bytes]:
    return [m.raw for m in sorted(member(raw, WINDOW) for raw in raws)]


RAWS = in_order([envelope(t, 1000 + n, b"body") for t in range(3) for n in range(2)])
KEYS = tuple(sorted({member(raw, WINDOW).topic_key for raw in RAWS}))
BIG = in_order([sized(t, 700, 1000 + n) for t in range(60) for n in range(2)])


def refusal(parts: list[bytes]) -> str:
    with pytest.raises(Invalid) as caught:
        read(parts)
    return caught.value.code


def test_the_forger_can_be_honest() -> None:
    """Otherwise the refusals below would prove nothing."""
    assert forged([RAWS]) == batch(RAWS).cars()
    assert [m.raw for m in read(forged([RAWS]))] == RAWS


@pytest.mark.parametrize(
    "keys",
    [KEYS[:-1], (*KEYS, 2**32 - 1), (KEYS[0], KEYS[2]), (*KEYS[:2], KEYS[2] - 1)],
    ids=["lacks the last", "names one more", "lacks one inside", "names another"],
)
def test_a_directory_that_contradicts_its_pages_is_named(keys: tuple[int, ...]) -> None:
    assert refusal(forged([RAWS], directory=keys)) == "directory-contradicts-page"


def test_a_partial_reader_sees_the_contradiction_too() -> None:
    held = [member(raw, WINDOW).topic_key for raw in RAWS]
    check_directory(KEYS, held, KEYS[1], KEYS[1])
    check_directory(KEYS, [], KEYS[1] + 1, KEYS[1] + 1)
    for keys, pages in ((KEYS, []), ((), held)):
        with pytest.raises(VerificationFailed) as caught:
            check_directory(keys, pages, KEYS[1], KEYS[1])
        assert caught.value.code == "directory-contradicts-page"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (forged([[RAWS[1], RAWS[0], *RAWS[2:]]]), "page-order"),
        (forged([[RAWS[0], RAWS[0], *RAWS[1:]]], bytes_=112), "page-order"),
        (forged([RAWS[:2], RAWS[2:]]), "segment-not-canonical"),
        (forged([RAWS[:1], RAWS[1:]]), "segment-not-canonical"),
        (forged([RAWS], count=7), "encoding"),
        (forged([RAWS], bytes_=97), "segment-not-canonical"),
        (forged([RAWS], sent_min=999), "segment-not-canonical"),
        (forged([RAWS], sent_max=1002), "segment-not-canonical"),
        (forged([RAWS], first_window=8), "encoding"),
        (forged([RAWS], windows=2), "encoding"),
        (forged([RAWS], depth=1), "encoding"),
        (forged([RAWS], set_id=bytes(32)), "segment-not-canonical"),
        (
            forged([RAWS[:2], RAWS[2:]], rows={0: {"records": 3}, 1: {"records": 3}}),
            "page-contradicts-table",
        ),
        (forged([RAWS], rows={0: {"topic_key": KEYS[1]}}), "page-contradicts-table"),
        (forged([RAWS], rows={0: {"length": 100}}), "page-contradicts-table"),
        (forged([RAWS], rows={0: {"offset": 5}}), "encoding"),
        (forged([RAWS], rows={0: {"window": 8}}), "encoding"),
        (forged([RAWS], rows={0: {"topic_key": KEYS[0] + 1}}), "encoding"),
        (forged([[*RAWS[:3], RAWS[4]], [RAWS[3], RAWS[5]]]), "page-order"),
        (forged([BIG[:60], BIG[60:]]), "page-bucket"),
        (forged([RAWS], directory=(*KEYS, *range(2**32 - 9, 2**32))), "encoding"),
    ],
)
def test_a_contradiction_is_named(parts: list[bytes], code: str) -> None:
    assert refusal(parts) == code


def test_a_page_of_another_hash_is_named() -> None:
    segment = batch(RAWS)
    row, page = segment.rows[0], segment.blocks[1][1]
    check_page(segment.root, row, page, topic_of, sent_of)
    with pytest.raises(VerificationFailed) as caught:
        check_page(segment.root, row, page[:-1] + b"?", topic_of, sent_of)
    assert caught.value.code == "block-hash"
    ranges = locate(segment.cars()[0], segment.root_cid).page_ranges([row])
    with pytest.raises(VerificationFailed):
        ranges[0].pages(page[:-1])


def test_blocks_missing_or_added_are_refused() -> None:
    segment = batch(RAWS)
    extra = (cid.cid_of(cid.RAW, b"x"), b"x")
    for blocks in (
        segment.blocks[:1],
        segment.blocks[1:],
        segment.blocks[::-1],
        [*segment.blocks, extra],
        [segment.blocks[0], extra],
        [],
    ):
        assert refusal([car.write(segment.root_cid, blocks)]) in {"segment-parts", "block-hash"}


@pytest.mark.parametrize("inner", ["pages", "directory"])
def test_a_child_block_is_held_to_what_the_root_says(inner: str) -> None:
    with small(PAGE_TARGET_BYTES=128, PAGE_TABLE_ROWS=2, DIRECTORY_KEYS=2):
        segment = batch([envelope(t, 1000, bytes(60)) for t in range(7)])
        root = segment.root
        assert root.page_blocks is not None
        assert root.directory_blocks is not None
        if inner == "pages":
            first = root.page_blocks[0]
            wrong = first._replace(length=first.length + 1)
            change: dict[str, object] = {"page_blocks": (wrong, *root.page_blocks[1:])}
        else:
            listed = root.directory_blocks[0]
            wrong_keys = listed._replace(topic_key=listed.topic_key - 1)
            change = {"directory_blocks": (wrong_keys, *root.directory_blocks[1:])}
        block = dataclasses.replace(root, **change).encode()  # type: ignore[arg-type]
        root_cid = cid.cid_of(cid.DAG_CBOR, block)
        parts = [car.write(root_cid, [(root_cid, block), *segment.blocks[1:]])]
        assert refusal(parts) == "table-contradicts-root"


@pytest.mark.parametrize("keys", [(), (1, 1), (2, 1), (0, 3, 3)])
def test_refuses_a_directory_block(keys: tuple[int, ...]) -> None:
    assert parse_directory_block(encode_keys((0, 1, 2**32 - 1))) == (0, 1, 2**32 - 1)
    with pytest.raises(InvalidEncoding):
        parse_directory_block(encode_keys(keys))


def test_a_page_table_block_follows_the_one_before() -> None:
    with small(PAGE_TARGET_BYTES=128, PAGE_TABLE_ROWS=2):
        segment = batch([envelope(t, 1000, bytes(60)) for t in range(7)])
        named = segment.root.page_blocks
        assert named is not None
        block = segment.blocks[2][1]
        rows = check_page_block(named[1], block, segment.rows[1])
        assert rows == segment.rows[2:4]
        for previous in (segment.rows[0], segment.rows[2]):
            with pytest.raises(InvalidEncoding):
                check_page_block(named[1], block, previous)


def _root_value() -> dict[str, dagcbor.Value]:
    value = dagcbor.decode(batch(RAWS).root.encode())
    assert isinstance(value, dict)
    return value


LINKS = [dagcbor.Link(cid.cid_of(codec, b"")) for codec in (cid.DAG_CBOR, cid.RAW)]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "index"},
        {"set": bytes(31)},
        {"level": 9},
        {"windows": 0},
        {"count": 0},
        {"count": 5},
        {"bytes": 5},
        {"sent_min": None},
        {"sent_min": 2000},
        {"depth": 17},
        {"depth": 1},
        {"pages": []},
        {"page_blocks": []},
        {"directory": b""},
        {"directory": b"abc"},
        {"directory": bytes(8)},
        {"directory_blocks": []},
        {"extra": 1},
    ],
)
def test_refuses_a_root(change: dict[str, dagcbor.Value]) -> None:
    with pytest.raises(InvalidEncoding):
        parse_root(dagcbor.encode({**_root_value(), **change}))


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [[0, 3, 300, LINKS[0]]],
        [[0, 3, 300, LINKS[0]], [1, 3, 300, LINKS[0]]],
        [[0, 1024, 300, LINKS[0]], [1, 0, 300, LINKS[0]]],
        [[0, 1024, 300, LINKS[0]], [1, 1025, 300, LINKS[0]]],
        [[1, 1024, 300, LINKS[0]], [0, 3, 300, LINKS[0]]],
        [[0, 1024, 300, LINKS[1]], [1, 3, 300, LINKS[0]]],
        [[0, 1024, 300, LINKS[0].cid], [1, 3, 300, LINKS[0]]],
        [[0, 1024, LINKS[0]], [1, 3, LINKS[0]]],
    ],
)
def test_refuses_page_blocks(blocks: dagcbor.Value) -> None:
    value = _root_value()
    del value["pages"]
    good: dagcbor.Value = [[0, 1024, 300, LINKS[0]], [1, 3, 300, LINKS[0]]]
    assert parse_root(dagcbor.encode({**value, "page_blocks": good})).page_blocks
    with pytest.raises(InvalidEncoding):
        parse_root(dagcbor.encode({**value, "page_blocks": blocks}))


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [[0, 3, LINKS[1]]],
        [[0, 16_384, LINKS[1]], [0, 3, LINKS[1]]],
        [[0, 16_384, LINKS[1]], [9, 0, LINKS[1]]],
        [[0, 16_383, LINKS[1]], [9, 3, LINKS[1]]],
        [[0, 16_384, LINKS[0]], [9, 3, LINKS[1]]],
        [[0, 16_384, LINKS[1]], [2**32, 3, LINKS[1]]],
    ],
)
def test_refuses_directory_blocks(blocks: dagcbor.Value) -> None:
    value = {**_root_value(), "count": 20_000, "bytes": 10**6, "pages": None}
    del value["directory"], value["pages"]
    value["page_blocks"] = [[0, 1024, 300, LINKS[0]], [1, 3, 300, LINKS[0]]]
    good: dagcbor.Value = [[0, 16_384, LINKS[1]], [9, 3, LINKS[1]]]
    assert parse_root(dagcbor.encode({**value, "directory_blocks": good})).directory_blocks
    with pytest.raises(InvalidEncoding):
        parse_root(dagcbor.encode({**value, "directory_blocks": blocks}))


def test_only_the_root_and_its_page_table_hold_links() -> None:
    """One recursive pin keeps exactly one segment: its links name its own blocks, all of them."""
    with small(PAGE_TARGET_BYTES=128, PAGE_TABLE_ROWS=2, DIRECTORY_KEYS=2):
        segment = batch([envelope(t, 1000, bytes(60)) for t in range(7)])

    def links(value: dagcbor.Value) -> Iterator[bytes]:
        if isinstance(value, dagcbor.Link):
            yield value.cid
        elif isinstance(value, list):
            for item in value:
                yield from links(item)
        elif isinstance(value, dict):
            for item in value.values():
                yield from links(item)

    named = {
        link
        for name, block in segment.blocks
        if cid.codec(name) == cid.DAG_CBOR
        for link in links(dagcbor.decode(block))
    }
    assert named == {name for name, _ in segment.blocks} - {segment.root_cid}


@pytest.mark.parametrize(
    "members",
    [
        [member(RAWS[0], WINDOW), member(RAWS[0], WINDOW)],
        [member(RAWS[0], WINDOW + 1)],
        [member(RAWS[0], WINDOW - 1)],
        [member(RAWS[0], WINDOW)._replace(topic_key=2**32)],
        [member(RAWS[0], WINDOW)._replace(topic_key=-1)],
        [member(RAWS[0], WINDOW)._replace(raw=b"")],
    ],
)
def test_what_no_segment_holds_is_the_callers_mistake(members: list[Member]) -> None:
    with pytest.raises(ValueError):
        build(SET_ID, members, WINDOW, bucket_bits=6)


def test_a_prefix_of_another_segment_is_refused() -> None:
    segment, other = batch(RAWS), batch(RAWS[1:])
    with pytest.raises(VerificationFailed) as caught:
        locate(other.cars()[0], segment.root_cid)
    assert caught.value.code == "wrong-root"
    with pytest.raises(InvalidEncoding):
        locate(segment.cars()[0][:200], segment.root_cid)


def test_a_segment_of_several_windows_reads_back() -> None:
    members = [member(envelope(t, 1000, bytes([w])), w) for t in range(5) for w in range(10, 20)]
    segment = build(SET_ID, members, 10, 10, 1, bucket_bits=6)
    assert read(segment.cars()) == sorted(members)
    assert [row.window for row in segment.rows] == [10]
