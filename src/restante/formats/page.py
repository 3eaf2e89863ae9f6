"""Pages and their table: which envelopes stand where in a segment.

A page is a raw block: records `varint(window - first window) ‖ varint(length) ‖ envelope`, sorted
by (topic key, window, sent time, id). It is closed before the record that would take it over
64 KiB, unless it is empty, and wherever the topic bucket changes: a page never spans two buckets,
and an empty bucket has none. The table has one row for each page, in the same order.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import car, dagcbor, varint
from restante.formats import cid as cids
from restante.formats.dagcbor import Link, Value, is_int

TOPIC_KEY_BITS = 32
TOPIC_KEY_MAX = 2**TOPIC_KEY_BITS - 1
# varint(0) ‖ varint(1) ‖ one byte: no record is shorter.
RECORD_MIN_BYTES = 3


class Member(NamedTuple):
    """An envelope in a segment; as a tuple it sorts in the order of records."""

    topic_key: int
    window: int
    sent_s: int
    id: bytes
    raw: bytes


class PageRow(NamedTuple):
    """A row of the page table."""

    topic_key: int
    """Topic key of the page's first record."""
    window: int
    """Window of the page's first record, counted from genesis."""
    part: int
    """Which of the segment's CAR files holds the page."""
    offset: int
    """Of the page's CAR section, in bytes after the start of the part's pages."""
    length: int
    """Bytes of the page itself."""
    records: int
    """How many there are in the page."""
    cid: bytes
    """Binary CID of the page, a raw block."""


def topic_key(set_id: bytes, topic: bytes) -> int:
    """The first 32 bits of SHA-256(set id ‖ topic): spreads topics, and differs between sets."""
    return int.from_bytes(sha256(set_id + topic).digest()[:4], "big")


def depth_of(segment_bytes: int, bucket_bits: int) -> int:
    """clamp(⌈log₂(bytes / 64 KiB)⌉, 0, bucket_bits): buckets no smaller than a page, on average."""
    pages = -(-segment_bytes // limits.PAGE_TARGET_BYTES)
    return min(bucket_bits, (pages - 1).bit_length()) if pages > 1 else 0


def bucket_of(key: int, depth: int) -> int:
    """The first `depth` bits of a topic key."""
    return key >> (TOPIC_KEY_BITS - depth)


def parse(page: bytes, first_window: int, windows: int) -> list[tuple[int, bytes]]:
    """The (window, envelope) of a page's records, in order. Raises InvalidEncoding.

    Order and topic keys need the envelopes' own parser: see `segment.check_page`.
    """
    if not 0 < len(page) <= limits.BLOCK_MAX_BYTES:
        raise InvalidEncoding(f"a page of {len(page)} bytes")
    records: list[tuple[int, bytes]] = []
    at, size = 0, len(page)
    while at < size:
        if page[at] < 0x80:  # as of nearly all: a call spared
            window, at = page[at], at + 1
        else:
            window, at = varint.decode(page, at)
        length, at = varint.decode(page, at)
        if window >= windows:
            raise InvalidEncoding("a record's window is outside its segment")
        stop = at + length
        if not 0 < length <= limits.ENVELOPE_MAX_BYTES or stop > size:
            raise InvalidEncoding("a record's length is out of bounds")
        records.append((first_window + window, page[at:stop]))
        at = stop
    if size > limits.PAGE_TARGET_BYTES and len(records) > 1:
        raise InvalidEncoding("a page over 64 KiB holds more than one record")
    return records


def place(part: int, end: int, length: int) -> tuple[int, int]:
    """(part, offset) of a page of this length after pages that end at `end` of `part`."""
    if end and end + car.section_bytes(length) > limits.CAR_PART_BYTES:
        return part + 1, 0
    return part, end


def rows_value(rows: Iterable[PageRow]) -> Value:
    """Rows as DAG-CBOR."""
    return [[*row[:6], Link(row.cid)] for row in rows]


def read_rows(value: Value) -> tuple[PageRow, ...]:
    """Rows of DAG-CBOR, each well formed and each following from the one before.

    The first row's own place is taken as given. Raises InvalidEncoding.
    """
    if not isinstance(value, list) or len(value) > limits.PAGE_TABLE_ROWS:
        raise InvalidEncoding(f"page table: not a list of at most {limits.PAGE_TABLE_ROWS} rows")
    rows = tuple(map(_read_row, value))
    for previous, row in pairwise(rows):
        require_follows(previous, row)
    return rows


def require_follows(previous: PageRow, row: PageRow) -> None:
    """Refuse a row that cannot come after another. Raises InvalidEncoding."""
    if row[:2] < previous[:2]:
        raise InvalidEncoding("page table: rows are out of order")
    end = previous.offset + car.section_bytes(previous.length)
    if row[2:4] != place(previous.part, end, row.length):
        raise InvalidEncoding("page table: a row's place does not follow from the row before")


def _read_row(value: Value) -> PageRow:
    bounds = (
        TOPIC_KEY_MAX,
        limits.WINDOW_MAX,
        limits.SEGMENT_MAX_PARTS - 1,
        limits.CAR_PART_BYTES,
        limits.BLOCK_MAX_BYTES,
        limits.BLOCK_MAX_BYTES,
    )
    numbers, cid = read_table_row(value, bounds, cids.RAW, "page table")
    key, window, part, offset, length, records = numbers
    if records < 1 or length < records * RECORD_MIN_BYTES:
        raise InvalidEncoding("page table: a page is too short for its records")
    if length > limits.PAGE_TARGET_BYTES and records > 1:
        raise InvalidEncoding("page table: a page over 64 KiB holds more than one record")
    return PageRow(key, window, part, offset, length, records, cid)


def read_table_row(
    value: Value, bounds: tuple[int, ...], codec: int, what: str
) -> tuple[list[int], bytes]:
    """(numbers, CID) of a row `[number, …, link]`, each number in 0…its bound.

    Raises InvalidEncoding.
    """
    if not isinstance(value, list) or len(value) != len(bounds) + 1:
        raise InvalidEncoding(f"{what}: a row has not {len(bounds) + 1} fields")
    numbers: list[int] = []
    for number, most in zip(value, bounds, strict=False):
        if not is_int(number) or not 0 <= number <= most:
            raise InvalidEncoding(f"{what}: a number is out of bounds")
        numbers.append(number)
    link = value[-1]
    if not isinstance(link, Link) or cids.codec(link.cid) != codec:
        raise InvalidEncoding(f"{what}: a row's link is missing or of the wrong codec")
    return numbers, link.cid


def parse_page_block(block: bytes) -> tuple[PageRow, ...]:
    """The rows of a page-table block. Raises InvalidEncoding."""
    rows = read_rows(dagcbor.decode(block, max_bytes=limits.BLOCK_MAX_BYTES))
    if not rows:
        raise InvalidEncoding("page table: an empty block")
    return rows


def bucket_range(depth: int, key: int) -> tuple[int, int]:
    """(least, greatest) topic key of the bucket of a key."""
    width = TOPIC_KEY_BITS - depth
    low = key >> width << width
    return low, low + (1 << width) - 1


def bucket_rows(rows: Sequence[PageRow], depth: int, key: int) -> list[PageRow]:
    """The rows of the bucket of a topic key, hit or not: what bucket mode fetches."""
    low, high = bucket_range(depth, key)
    return [row for row in rows if low <= row.topic_key <= high]


def rows_for_key(rows: Sequence[PageRow], key: int, depth: int = 0) -> list[PageRow]:
    """The rows whose pages may hold a topic key: first key <= key, next row's first key >= key.

    With the segment's depth given, rows of other buckets are left out, since no page spans two.
    """
    return [
        row
        for row, after in _with_next_key(rows)
        if row.topic_key <= key <= after
        and bucket_of(row.topic_key, depth) == bucket_of(key, depth)
    ]


def _with_next_key(rows: Sequence[PageRow]) -> Iterator[tuple[PageRow, int]]:
    nexts = [row.topic_key for row in rows[1:]]
    return zip(rows, [*nexts, TOPIC_KEY_MAX], strict=False)
