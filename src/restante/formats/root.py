"""The root of a segment: what it covers, its page table and its directory of topic keys.

Both tables stand in the root while they are small, and in child blocks beyond: which of the two
follows from their size alone, so that a set of envelopes has one root (R3).
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid as cids
from restante.formats import dagcbor
from restante.formats.dagcbor import Fields, Link, Value
from restante.formats.entry import LogEntry, require_counts
from restante.formats.level import Span
from restante.formats.page import (
    TOPIC_KEY_MAX,
    PageRow,
    depth_of,
    parse_page_block,
    read_rows,
    read_table_row,
    require_follows,
    rows_value,
)


class PageBlock(NamedTuple):
    """A page-table block, as the root names it."""

    topic_key: int
    """Topic key of its first row."""
    rows: int
    """Rows in it: 1024, or fewer in the last."""
    length: int
    """Bytes of the block: with them the place of every page in the CAR is arithmetic."""
    cid: bytes


class DirectoryBlock(NamedTuple):
    """A block of the directory, as the root names it: big-endian u32, ascending."""

    topic_key: int
    """Its first key."""
    keys: int
    """How many are in it: 16,384, or fewer in the last."""
    cid: bytes


@dataclass(frozen=True, slots=True)
class SegmentRoot:
    """The parsed root block."""

    set_id: bytes
    """SHA-256 of the descriptor."""
    level: int
    """0 for a batch."""
    first_window: int
    """Counted from genesis."""
    windows: int
    """How many windows it covers: 1 for a batch."""
    count: int
    """Envelopes."""
    bytes_: int
    """Sum of the envelopes' lengths."""
    sent_min: int | None
    """Least sent time, unix seconds; None without envelopes."""
    sent_max: int | None
    """Greatest sent time, unix seconds; None without envelopes."""
    depth: int
    """Bits of the topic key that name a bucket."""
    pages: tuple[PageRow, ...] | None
    """The page table, if the root holds it."""
    page_blocks: tuple[PageBlock, ...] | None
    """Else the blocks that do."""
    directory: tuple[int, ...] | None
    """The strictly ascending topic keys present, if the root holds them."""
    directory_blocks: tuple[DirectoryBlock, ...] | None
    """Else the blocks that do."""

    def encode(self) -> bytes:
        """The root block."""
        value: dict[str, Value] = {
            "version": 1,
            "kind": "segment",
            "set": self.set_id,
            "level": self.level,
            "first_window": self.first_window,
            "windows": self.windows,
            "count": self.count,
            "bytes": self.bytes_,
            "sent_min": self.sent_min,
            "sent_max": self.sent_max,
            "depth": self.depth,
        }
        if self.pages is not None:
            value["pages"] = rows_value(self.pages)
        else:
            value["page_blocks"] = [[*b[:3], Link(b.cid)] for b in self.page_blocks or ()]
        if self.directory is not None:
            value["directory"] = encode_keys(self.directory)
        else:
            value["directory_blocks"] = [[*b[:2], Link(b.cid)] for b in self.directory_blocks or ()]
        return dagcbor.encode(value)

    @property
    def topics(self) -> int:
        """How many topic keys the directory has."""
        if self.directory is not None:
            return len(self.directory)
        return sum(block.keys for block in self.directory_blocks or ())


def parse_root(block: bytes) -> SegmentRoot:
    """The root of a block. Raises InvalidEncoding."""
    fields = Fields.decode(block, "segment", max_bytes=limits.SEGMENT_ROOT_MAX_BYTES)
    fields.version()
    fields.literal("kind", "segment")
    inline_pages, inline_directory = fields.has("pages"), fields.has("directory")
    root = SegmentRoot(
        set_id=fields.bytes_("set", size=32),
        level=fields.uint("level", limits.SEGMENT_MAX_LEVEL),
        first_window=fields.uint("first_window", limits.WINDOW_MAX),
        windows=fields.int_("windows", 1, limits.SEGMENT_MAX_WINDOWS),
        count=fields.uint("count"),
        bytes_=fields.uint("bytes"),
        sent_min=fields.optional_uint("sent_min"),
        sent_max=fields.optional_uint("sent_max"),
        depth=fields.uint("depth", limits.BUCKET_BITS_MAX),
        pages=read_rows(fields.value("pages")) if inline_pages else None,
        page_blocks=None if inline_pages else _page_blocks(fields),
        directory=parse_keys(fields.bytes_("directory")) if inline_directory else None,
        directory_blocks=None if inline_directory else _directory_blocks(fields),
    )
    fields.done()
    require_counts("segment", root.count, root.bytes_, root.sent_min, root.sent_max)
    _require_coherent(root)
    return root


def _require_coherent(root: SegmentRoot) -> None:
    """What the root's own fields say about each other."""
    if root.level == 0 and root.windows != 1:
        raise InvalidEncoding("segment: a batch covers one window")
    if root.depth > depth_of(root.bytes_, limits.BUCKET_BITS_MAX):
        raise InvalidEncoding("segment: deeper than its bytes allow")
    if not (bool(root.count) == bool(root.topics) and root.topics <= root.count):
        raise InvalidEncoding("segment: the directory's length contradicts the count")
    if root.pages is None:
        return
    if sum(row.records for row in root.pages) != root.count:
        raise InvalidEncoding("segment: the page table's counts do not add up")
    if root.pages and root.pages[0][2:4] != (0, 0):
        raise InvalidEncoding("segment: the first page is not at the start")
    end_window = root.first_window + root.windows
    if any(not root.first_window <= row.window < end_window for row in root.pages):
        raise InvalidEncoding("segment: a page's window is outside")
    first_keys = {row.topic_key for row in root.pages}
    if root.directory is not None and not first_keys <= set(root.directory):
        raise InvalidEncoding("segment: a page's first topic key is not in the directory")


def encode_keys(keys: tuple[int, ...]) -> bytes:
    """Topic keys as big-endian u32."""
    return struct.pack(f">{len(keys)}I", *keys)


def parse_keys(data: bytes) -> tuple[int, ...]:
    """Strictly ascending big-endian u32, at most 64 KiB of them. Raises InvalidEncoding."""
    if len(data) % 4 or len(data) > 4 * limits.DIRECTORY_KEYS:
        raise InvalidEncoding(f"directory: {len(data)} bytes")
    keys = struct.unpack(f">{len(data) // 4}I", data)
    if any(a >= b for a, b in pairwise(keys)):
        raise InvalidEncoding("directory: keys are not strictly ascending")
    return keys


def parse_directory_block(block: bytes) -> tuple[int, ...]:
    """The keys of a directory block. Raises InvalidEncoding."""
    if not block:
        raise InvalidEncoding("directory: an empty block")
    return parse_keys(block)


def _page_blocks(fields: Fields) -> tuple[PageBlock, ...]:
    bounds = (TOPIC_KEY_MAX, limits.PAGE_TABLE_ROWS, limits.BLOCK_MAX_BYTES)
    blocks: list[PageBlock] = []
    for value in fields.list_("page_blocks", limits.SEGMENT_MAX_CHILDREN):
        (key, rows, length), cid = read_table_row(value, bounds, cids.DAG_CBOR, "page blocks")
        blocks.append(PageBlock(key, rows, length, cid))
    _require_full("page blocks", [b.rows for b in blocks], limits.PAGE_TABLE_ROWS)
    if any(a.topic_key > b.topic_key for a, b in pairwise(blocks)):
        raise InvalidEncoding("page blocks: out of order")
    return tuple(blocks)


def _directory_blocks(fields: Fields) -> tuple[DirectoryBlock, ...]:
    bounds = (TOPIC_KEY_MAX, limits.DIRECTORY_KEYS)
    blocks: list[DirectoryBlock] = []
    for value in fields.list_("directory_blocks", limits.SEGMENT_MAX_CHILDREN):
        (key, keys), cid = read_table_row(value, bounds, cids.RAW, "directory blocks")
        blocks.append(DirectoryBlock(key, keys, cid))
    _require_full("directory blocks", [b.keys for b in blocks], limits.DIRECTORY_KEYS)
    if any(a.topic_key >= b.topic_key for a, b in pairwise(blocks)):
        raise InvalidEncoding("directory blocks: out of order")
    return tuple(blocks)


def _require_full(what: str, counts: list[int], full: int) -> None:
    """Child blocks exist only beyond what a root holds, and each but the last is full."""
    if len(counts) < 2 or counts[-1] < 1 or any(count != full for count in counts[:-1]):
        raise InvalidEncoding(f"{what}: not cut as they must be")


def check_root(root: SegmentRoot, entry: LogEntry, *, set_id: bytes, bucket_bits: int) -> None:
    """Refuse a batch's root that contradicts its log entry or the descriptor.

    Raises VerificationFailed, code `root-contradicts-entry`. That the root's CID is the entry's is
    asked where the block is read.
    """
    claimed = (root.first_window, root.count, root.bytes_, root.sent_min, root.sent_max)
    stated = (entry.window, entry.count, entry.bytes_, entry.sent_min, entry.sent_max)
    expected = (set_id, 0, depth_of(root.bytes_, bucket_bits))
    if claimed != stated or (root.set_id, root.level, root.depth) != expected:
        raise VerificationFailed(
            f"the root of window {entry.window} contradicts its log entry",
            code="root-contradicts-entry",
        )


def check_rollup_root(root: SegmentRoot, of: Span, *, set_id: bytes, bucket_bits: int) -> None:
    """Refuse a body roll-up's root that is not of this span, or contradicts the descriptor.

    Raises VerificationFailed, code `root-contradicts-entry`.
    """
    claimed = (root.set_id, root.level, root.first_window, root.windows, root.depth)
    expected = (set_id, of.level, of.first, of.windows, depth_of(root.bytes_, bucket_bits))
    if claimed != expected:
        raise VerificationFailed(
            f"a roll-up of windows {of.first} to {of.stop - 1} is of other windows",
            code="root-contradicts-entry",
        )


def check_page_block(
    named: PageBlock, block: bytes, previous: PageRow | None = None
) -> tuple[PageRow, ...]:
    """The rows of a page-table block, as the root names it; they follow `previous` if given.

    Raises InvalidEncoding; VerificationFailed, code `block-hash` or `table-contradicts-root`.
    """
    cids.check(named.cid, block)
    rows = parse_page_block(block)
    if (rows[0].topic_key, len(rows), len(block)) != named[:3]:
        raise VerificationFailed(
            "a page-table block is not what the root says", code="table-contradicts-root"
        )
    if previous is not None:
        require_follows(previous, rows[0])
    return rows


def check_directory_block(named: DirectoryBlock, block: bytes) -> tuple[int, ...]:
    """The topic keys of a directory block, as the root names it.

    Raises InvalidEncoding; VerificationFailed, code `block-hash` or `table-contradicts-root`.
    """
    cids.check(named.cid, block)
    keys = parse_directory_block(block)
    if (keys[0], len(keys)) != named[:2]:
        raise VerificationFailed(
            "a directory block is not what the root says", code="table-contradicts-root"
        )
    return keys
