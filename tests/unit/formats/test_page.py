"""Pages, their rows, and which rows a reader needs."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import car, cid, dagcbor, varint
from restante.formats.dagcbor import Link, Value
from restante.formats.page import (
    PageRow,
    bucket_of,
    bucket_range,
    bucket_rows,
    depth_of,
    parse,
    parse_page_block,
    place,
    rows_for_key,
    rows_value,
    topic_key,
)


def record(window_index: int, raw: bytes) -> bytes:
    return varint.encode(window_index) + varint.encode(len(raw)) + raw


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(min_size=1, max_size=200)), min_size=1))
def test_a_page_gives_its_records(records: list[tuple[int, bytes]]) -> None:
    page = b"".join(record(*r) for r in records)
    assert parse(page, 100, 10) == [(100 + w, raw) for w, raw in records]


@given(st.binary(max_size=60))
def test_what_parses_is_the_encoding(data: bytes) -> None:
    try:
        records = parse(data, 0, 200)
    except InvalidEncoding:
        return
    assert b"".join(record(*r) for r in records) == data


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\x02x",
        b"\x01\x01x",
        b"\x00\x81\x00x",
        b"\x80\x00\x01x",
        b"\x00\x01x\x00",
        record(0, bytes(limits.ENVELOPE_MAX_BYTES + 1)),
        record(0, bytes(40_000)) + record(0, bytes(40_000)),
        bytes(limits.BLOCK_MAX_BYTES + 1),
    ],
)
def test_refuses_a_page(page: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        parse(page, 7, 1)


def test_the_largest_envelope_has_a_page() -> None:
    page = record(2879, bytes(limits.ENVELOPE_MAX_BYTES))
    assert len(page) <= limits.BLOCK_MAX_BYTES
    assert len(parse(page, 0, 2880)) == 1


@pytest.mark.parametrize(
    ("size", "depth"),
    [
        (0, 0),
        (1, 0),
        (65_536, 0),
        (65_537, 1),
        (131_072, 1),
        (131_073, 2),
        (2**21, 5),
        (2**21 + 1, 6),
        (2**22, 6),
        (2**22 + 1, 6),
        (2**32, 6),
    ],
)
def test_depth_follows_from_bytes(size: int, depth: int) -> None:
    assert depth_of(size, 6) == depth
    wanted = next(d for d in range(64) if limits.PAGE_TARGET_BYTES << d >= size)
    assert depth == min(6, wanted)


def test_a_topic_key_is_the_head_of_a_hash() -> None:
    assert topic_key(b"s" * 32, b"abcd") == int(sha256(b"s" * 32 + b"abcd").hexdigest()[:8], 16)


@given(st.integers(0, 2**32 - 1), st.integers(0, 16))
def test_a_bucket_is_a_range(key: int, depth: int) -> None:
    low, high = bucket_range(depth, key)
    assert low <= key <= high
    assert bucket_of(low, depth) == bucket_of(key, depth) == bucket_of(high, depth)
    assert high - low + 1 == 2**32 >> depth


RAW_CID = cid.cid_of(cid.RAW, b"page")


def rows_of(keys: list[tuple[int, int]], length: int = 1000) -> list[PageRow]:
    """Rows of equal pages with these (topic key, window)."""
    rows: list[PageRow] = []
    part = end = 0
    for key, window in keys:
        part, offset = place(part, end, length)
        rows.append(PageRow(key, window, part, offset, length, 3, RAW_CID))
        end = offset + car.section_bytes(length)
    return rows


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 5)), min_size=1, max_size=30))
def test_rows_survive(keys: list[tuple[int, int]]) -> None:
    rows = rows_of(sorted(keys))
    assert parse_page_block(dagcbor.encode(rows_value(rows))) == tuple(rows)


def test_rows_go_on_in_the_next_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 3 * car.section_bytes(1000))
    rows = rows_of([(n, 0) for n in range(7)])
    assert [row.part for row in rows] == [0, 0, 0, 1, 1, 1, 2]
    assert [row.offset == 0 for row in rows] == [True, False, False] * 2 + [True]
    assert parse_page_block(dagcbor.encode(rows_value(rows))) == tuple(rows)


ROW = rows_of([(5, 7)])[0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [[]],
        [[5, 7, 0, 0, 1000, 3]],
        [[5, 7, 0, 0, 1000, 3, RAW_CID]],
        [[5, 7, 0, 0, 1000, 3, Link(cid.cid_of(cid.DAG_CBOR, b""))]],
        [[2**32, 7, 0, 0, 1000, 3, Link(RAW_CID)]],
        [[-1, 7, 0, 0, 1000, 3, Link(RAW_CID)]],
        [[True, 7, 0, 0, 1000, 3, Link(RAW_CID)]],
        [[5, "7", 0, 0, 1000, 3, Link(RAW_CID)]],
        [[5, 7, limits.SEGMENT_MAX_PARTS, 0, 1000, 3, Link(RAW_CID)]],
        [[5, 7, 0, 0, 0, 0, Link(RAW_CID)]],
        [[5, 7, 0, 0, 1000, 0, Link(RAW_CID)]],
        [[5, 7, 0, 0, 8, 3, Link(RAW_CID)]],
        [[5, 7, 0, 0, 65_537, 2, Link(RAW_CID)]],
        [[5, 7, 0, 0, limits.BLOCK_MAX_BYTES + 1, 1, Link(RAW_CID)]],
        rows_value([ROW, ROW]),
        rows_value([*rows_of([(5, 7), (6, 7)])][::-1]),
        rows_value([ROW, rows_of([(5, 7), (4, 7)])[1]]),
        rows_value([ROW, rows_of([(5, 7), (5, 6)])[1]]),
        rows_value([ROW, rows_of([(5, 7), (6, 7)])[1]._replace(part=1, offset=0)]),
        rows_value([ROW, rows_of([(5, 7), (6, 7)])[1]._replace(offset=1041)]),
        rows_value(rows_of([(n, 0) for n in range(limits.PAGE_TABLE_ROWS + 1)])),
    ],
)
def test_refuses_rows(value: Value) -> None:
    with pytest.raises(InvalidEncoding):
        parse_page_block(dagcbor.encode(value))


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40),
    st.integers(0, 63),
    st.integers(1, 6),
    st.integers(0, 6),
)
def test_selected_rows_are_those_a_search_of_every_page_finds(
    keys: list[int], wanted: int, per_page: int, depth: int
) -> None:
    """A dumb model: pages as lists of keys, cut by number and by bucket."""
    scaled = sorted(key << 26 for key in keys)
    key = wanted << 26
    pages: list[list[int]] = []
    for k in scaled:
        fits = pages and len(pages[-1]) < per_page
        if fits and bucket_of(pages[-1][0], depth) == bucket_of(k, depth):
            pages[-1].append(k)
        else:
            pages.append([k])
    rows = rows_of([(page[0], 0) for page in pages])
    holding = [row for row, page in zip(rows, pages, strict=True) if key in page]
    for found in (rows_for_key(rows, key), rows_for_key(rows, key, depth)):
        assert set(holding) <= set(found)
        # Beyond the pages that hold it, only the one before the first key that is not less.
        assert len(found) <= len(holding) + 1
    bucket = [
        row
        for row, page in zip(rows, pages, strict=True)
        if any(bucket_of(k, depth) == bucket_of(key, depth) for k in page)
    ]
    assert bucket_rows(rows, depth, key) == bucket
    assert set(rows_for_key(rows, key, depth)) <= set(bucket)
