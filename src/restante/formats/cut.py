"""Cutting sorted members into pages, and tables into blocks: the loops of `segment.build`."""

from collections.abc import Sequence

from restante import limits
from restante.formats import car, dagcbor, varint
from restante.formats import cid as cids
from restante.formats.page import (
    TOPIC_KEY_BITS,
    TOPIC_KEY_MAX,
    Member,
    PageRow,
    place,
    rows_value,
)
from restante.formats.root import DirectoryBlock, PageBlock, encode_keys

Block = tuple[bytes, bytes]


def cut(
    ordered: Sequence[Member], first_window: int, windows: int, depth: int
) -> tuple[list[PageRow], list[Block], list[int]]:
    """(rows, pages, topic keys) of members in order: a join of slices, page by page.

    Raises ValueError for members that no segment holds.
    """
    rows: list[PageRow] = []
    blocks: list[Block] = []
    directory: list[int] = []
    pieces: list[bytes] = []
    size = part = end = 0
    first: Member | None = None
    previous: Member | None = None
    bucket_width = TOPIC_KEY_BITS - depth

    def close(first: Member) -> None:
        nonlocal part, end
        block = b"".join(pieces)
        cid = cids.cid_of(cids.RAW, block)
        part, offset = place(part, end, size)
        end = offset + car.section_bytes(size)
        # A record is three pieces: window, length, envelope.
        row = PageRow(first[0], first[1], part, offset, size, len(pieces) // 3, cid)
        rows.append(row)
        blocks.append((cid, block))
        pieces.clear()

    for member in ordered:
        key, window, _, id_, raw = member
        if previous is None or key != previous[0]:
            directory.append(key)
        elif id_ == previous[3]:
            raise ValueError("an envelope stands twice in a segment")
        length = len(raw)
        prefix = varint.encode(window - first_window)
        _require_fits(key, window - first_window, windows, length)
        length_prefix = varint.encode(length)
        record_bytes = len(prefix) + len(length_prefix) + length
        if first is not None and (
            size + record_bytes > limits.PAGE_TARGET_BYTES
            or key >> bucket_width != first[0] >> bucket_width
        ):
            close(first)
            first = None
        if first is None:
            first, size = member, 0
        pieces += (prefix, length_prefix, raw)
        size += record_bytes
        previous = member
    if first is not None:
        close(first)
    return rows, blocks, directory


def _require_fits(key: int, window_index: int, windows: int, length: int) -> None:
    if not 0 <= key <= TOPIC_KEY_MAX:
        raise ValueError("a topic key has 32 bits")
    if not 0 <= window_index < windows:
        raise ValueError("a member's window is outside the segment")
    if not 0 < length <= limits.ENVELOPE_MAX_BYTES:
        raise ValueError(f"an envelope of {length} bytes fits no page")


def page_table(
    rows: list[PageRow],
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
    keys: list[int],
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
