"""Cutting sorted records into pages, and tables into blocks: the loops of building a segment."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

from restante import limits
from restante.formats import car, dagcbor, varint
from restante.formats import cid as cids
from restante.formats.page import (
    TOPIC_KEY_BITS,
    TOPIC_KEY_MAX,
    PageRow,
    place,
    rows_value,
)
from restante.formats.root import DirectoryBlock, PageBlock, encode_keys

Block = tuple[bytes, bytes]
Record = tuple[int, int, bytes]
"""(topic key, window, envelope)."""


def cut(
    records: Iterable[Record], first_window: int, windows: int, depth: int, directory: "array[int]"
) -> Iterator[tuple[PageRow, bytes]]:
    """Each page with its row, of records in order: a join of slices, page by page.

    The topic keys are appended to `directory`. Nothing else is held than the open page. Raises
    ValueError for records that no segment holds.
    """
    pieces: list[bytes] = []
    size = part = end = 0
    first_key = first_in = 0
    key = -1
    bucket_width = TOPIC_KEY_BITS - depth

    def close() -> tuple[PageRow, bytes]:
        nonlocal part, end
        block = b"".join(pieces)
        cid = cids.cid_of(cids.RAW, block)
        part, offset = place(part, end, size)
        end = offset + car.section_bytes(size)
        # A record is three pieces: window, length, envelope.
        row = PageRow(first_key, first_in, part, offset, size, len(pieces) // 3, cid)
        pieces.clear()
        return row, block

    for next_key, window, raw in records:
        length = len(raw)
        _require_fits(next_key, window - first_window, windows, length)
        if next_key != key:
            if next_key < key:
                raise ValueError("records out of order")
            directory.append(next_key)
            key = next_key
        prefix = varint.encode(window - first_window)
        length_prefix = varint.encode(length)
        record_bytes = len(prefix) + len(length_prefix) + length
        if pieces and (
            size + record_bytes > limits.PAGE_TARGET_BYTES
            or key >> bucket_width != first_key >> bucket_width
        ):
            yield close()
        if not pieces:
            first_key, first_in, size = key, window, 0
        pieces += (prefix, length_prefix, raw)
        size += record_bytes
    if pieces:
        yield close()


def _require_fits(key: int, window_index: int, windows: int, length: int) -> None:
    if not 0 <= key <= TOPIC_KEY_MAX:
        raise ValueError("a topic key has 32 bits")
    if not 0 <= window_index < windows:
        raise ValueError("a member's window is outside the segment")
    if not 0 < length <= limits.ENVELOPE_MAX_BYTES:
        raise ValueError(f"an envelope of {length} bytes fits no page")


def page_table(
    rows: Sequence[PageRow],
) -> tuple[tuple[PageRow, ...] | None, tuple[PageBlock, ...] | None, list[Block]]:
    """(inline rows, or None and their blocks as named; the blocks)."""
    if len(rows) <= limits.PAGE_TABLE_ROWS:
        return tuple(rows), None, []
    named: list[PageBlock] = []
    blocks: list[Block] = []
    for start in range(0, len(rows), limits.PAGE_TABLE_ROWS):
        chunk = rows[start : start + limits.PAGE_TABLE_ROWS]
        block = dagcbor.encode(rows_value(chunk))
        cid = cids.cid_of(cids.DAG_CBOR, block)
        named.append(PageBlock(chunk[0].topic_key, len(chunk), len(block), cid))
        blocks.append((cid, block))
    return None, tuple(named), blocks


def directory_table(
    keys: "array[int]",
) -> tuple[tuple[int, ...] | None, tuple[DirectoryBlock, ...] | None, list[Block]]:
    """(inline keys, or None and their blocks as named; the blocks)."""
    if len(keys) <= limits.DIRECTORY_KEYS:
        return tuple(keys), None, []
    named: list[DirectoryBlock] = []
    blocks: list[Block] = []
    for start in range(0, len(keys), limits.DIRECTORY_KEYS):
        chunk = tuple(keys[start : start + limits.DIRECTORY_KEYS])
        block = encode_keys(chunk)
        cid = cids.cid_of(cids.RAW, block)
        named.append(DirectoryBlock(chunk[0], len(chunk), cid))
        blocks.append((cid, block))
    return None, tuple(named), blocks
