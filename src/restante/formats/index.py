"""The index of a day: where every topic's pages stand in the hours below it, and in which of them.

A client that reads one block of it (16 KiB) for a topic needs no hour's own tables: it reads pages
of the hours' CAR files at once. A block is self-contained. It holds topic keys with a mask of the
children that have them, and of each child a run of page rows. Blocks are cut from one sequence of
*events*: for each topic key in ascending order the key itself, then the rows of pages that begin
with it, by child and place. A block has the events from its start to the next block's, and besides
what else may hold records of them: each child's last row before the start, and the key again if
the start is within one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import car, dagcbor
from restante.formats import cid as cids
from restante.formats.dagcbor import UINT_MAX, Fields, Link, Value, is_int
from restante.formats.entry import require_counts
from restante.formats.page import (
    RECORD_MIN_BYTES,
    TOPIC_KEY_MAX,
    PageRow,
    read_table_row,
)

KEY = Struct(">I")
ROW = Struct(">IHBIIH32s")
"""Topic key, window − first window of the index, part, offset, length, records, SHA-256."""


class IndexChild(NamedTuple):
    """What an index says of a segment below it."""

    cid: bytes
    """Its root's CID; a byte string, since links stay within a segment."""
    envelopes: int
    bytes_: int
    """Sum of their lengths."""
    sent_min: int | None
    sent_max: int | None
    """Unix seconds; None without envelopes."""
    depth: int
    """Bits of the topic key that name a bucket there."""
    pages_start: int
    """Where in part 0 of its CAR the first page's section begins."""


class IndexBlock(NamedTuple):
    """A block, as the root or a table names it."""

    topic_key: int
    """Topic key of its first event."""
    length: int
    """Bytes."""
    cid: bytes


class IndexTable(NamedTuple):
    """A table of up to 1,024 blocks' names, as the root names it."""

    topic_key: int
    """Of its first block."""
    blocks: int
    length: int
    """Bytes of the table itself."""
    offset: int
    """Of its first block's section, in bytes after the start of the blocks' region."""
    cid: bytes


@dataclass(frozen=True, slots=True)
class IndexRoot:
    """The parsed root."""

    set_id: bytes
    level: int
    first_window: int
    windows: int
    children: tuple[IndexChild | None, ...]
    """Of the level below, in order; None for a span that has no roll-up."""
    blocks: tuple[IndexBlock, ...] | None
    """If there are at most 1,024."""
    tables: tuple[IndexTable, ...] | None
    """Else the tables that name them."""

    def encode(self) -> bytes:
        """The root block."""
        value: dict[str, Value] = {
            "version": 1,
            "kind": "index",
            "set": self.set_id,
            "level": self.level,
            "first_window": self.first_window,
            "windows": self.windows,
            "children": [None if child is None else list[Value](child) for child in self.children],
        }
        if self.blocks is not None:
            value["blocks"] = names_value(self.blocks)
        else:
            value["tables"] = [[*table[:4], Link(table.cid)] for table in self.tables or ()]
        return dagcbor.encode(value)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index block holds."""

    keys: dict[int, int]
    """Topic key → mask of the children that have it; child 0 is bit 0. In ascending order."""
    runs: tuple[bytes, ...]
    """Of each child a run of its page table, as it stands in the block."""
    first_window: int
    windows: int

    def rows_of(self, child: int) -> tuple[PageRow, ...]:
        """The rows of one child. Raises InvalidEncoding."""
        return _read_run(self.runs[child], self.first_window, self.windows)

    @property
    def rows(self) -> tuple[tuple[PageRow, ...], ...]:
        """Of each child. Raises InvalidEncoding."""
        return tuple(map(self.rows_of, range(len(self.runs))))


def names_value(blocks: Iterable[IndexBlock]) -> Value:
    """The names of blocks as DAG-CBOR."""
    return [[*block[:2], Link(block.cid)] for block in blocks]


def parse_root(block: bytes) -> IndexRoot:
    """The root of a block. Raises InvalidEncoding."""
    fields = Fields.decode(block, "index", max_bytes=limits.INDEX_ROOT_MAX_BYTES)
    fields.version()
    fields.literal("kind", "index")
    inline = fields.has("blocks")
    root = IndexRoot(
        set_id=fields.bytes_("set", size=32),
        level=fields.int_("level", 1, limits.SEGMENT_MAX_LEVEL),
        first_window=fields.uint("first_window", limits.WINDOW_MAX),
        windows=fields.int_("windows", 2, limits.SEGMENT_MAX_WINDOWS),
        children=tuple(map(_child, fields.list_("children", limits.INDEX_MAX_CHILDREN))),
        blocks=_read_names(fields.value("blocks"), "index") if inline else None,
        tables=None if inline else _read_tables(fields),
    )
    fields.done()
    if not root.children or root.windows % len(root.children):
        raise InvalidEncoding("index: its children do not share its windows")
    has_bodies = any(child is not None and child.envelopes for child in root.children)
    if has_bodies != bool(root.blocks or root.tables):
        raise InvalidEncoding("index: blocks without envelopes, or envelopes without blocks")
    return root


def _child(value: Value) -> IndexChild | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 7:
        raise InvalidEncoding("index: a child is neither null nor a list of 7")
    cid, *numbers = value
    if not isinstance(cid, bytes) or cids.codec(cid) != cids.DAG_CBOR:
        raise InvalidEncoding("index: a child has no root's CID")
    envelopes, bytes_, sent_min, sent_max, depth, start = map(_number, numbers)
    if envelopes is None or bytes_ is None or depth is None or start is None:
        raise InvalidEncoding("index: a child's number is missing")
    require_counts("index", envelopes, bytes_, sent_min, sent_max)
    if depth > limits.BUCKET_BITS_MAX or start > limits.SEGMENT_HEAD_MAX_BYTES:
        raise InvalidEncoding("index: a child's depth or place is out of bounds")
    return IndexChild(cid, envelopes, bytes_, sent_min, sent_max, depth, start)


def _number(value: Value) -> int | None:
    if value is not None and (not is_int(value) or not 0 <= value <= UINT_MAX):
        raise InvalidEncoding("index: a child's number is out of bounds")
    return value


def _read_names(value: Value, what: str) -> tuple[IndexBlock, ...]:
    if not isinstance(value, list) or len(value) > limits.INDEX_NAMES:
        raise InvalidEncoding(f"{what}: not a list of at most {limits.INDEX_NAMES} blocks")
    bounds = (TOPIC_KEY_MAX, limits.INDEX_BLOCK_MAX_BYTES)
    blocks: list[IndexBlock] = []
    for item in value:
        (key, length), cid = read_table_row(item, bounds, cids.DAG_CBOR, what)
        if not length:
            raise InvalidEncoding(f"{what}: a block of no bytes")
        blocks.append(IndexBlock(key, length, cid))
    if any(a.topic_key > b.topic_key for a, b in pairwise(blocks)):
        raise InvalidEncoding(f"{what}: blocks out of order")
    return tuple(blocks)


def _read_tables(fields: Fields) -> tuple[IndexTable, ...]:
    bounds = (TOPIC_KEY_MAX, limits.INDEX_NAMES, limits.BLOCK_MAX_BYTES, UINT_MAX)
    tables: list[IndexTable] = []
    for item in fields.list_("tables", limits.SEGMENT_MAX_CHILDREN):
        (key, blocks, length, offset), cid = read_table_row(
            item, bounds, cids.DAG_CBOR, "index tables"
        )
        tables.append(IndexTable(key, blocks, length, offset, cid))
    counts = [table.blocks for table in tables]
    if len(tables) < 2 or not counts[-1] or any(n != limits.INDEX_NAMES for n in counts[:-1]):
        raise InvalidEncoding("index tables: not cut as they must be")
    if any(a.topic_key > b.topic_key or a.offset >= b.offset for a, b in pairwise(tables)):
        raise InvalidEncoding("index tables: out of order")
    if tables[0].offset:
        raise InvalidEncoding("index tables: the first block is not at the start")
    return tuple(tables)


def parse_table(block: bytes) -> tuple[IndexBlock, ...]:
    """The names of a table of blocks. Raises InvalidEncoding."""
    names = _read_names(dagcbor.decode(block, max_bytes=limits.BLOCK_MAX_BYTES), "index table")
    if not names:
        raise InvalidEncoding("index table: empty")
    return names


def check_table(named: IndexTable, block: bytes) -> tuple[IndexBlock, ...]:
    """The names of a table, as the root names it.

    Raises InvalidEncoding; VerificationFailed `block-hash`, `table-contradicts-root`.
    """
    cids.check(named.cid, block)
    names = parse_table(block)
    if (names[0].topic_key, len(names), len(block)) != named[:3]:
        raise VerificationFailed(
            "a table of index blocks is not what the root says", code="table-contradicts-root"
        )
    return names


def parse_block(
    block: bytes, first_window: int, windows: int, children: int, *, later: bool = False
) -> Contents:
    """The contents of an index block. Raises InvalidEncoding.

    `later`: rows are read, and may be refused, when they are asked for. Of most children, in a
    month's query, they never are.
    """
    value = dagcbor.decode(block, max_bytes=limits.INDEX_BLOCK_MAX_BYTES)
    match value:
        case [bytes() as keys, list() as runs] if len(runs) == children:
            pass
        case _:
            raise InvalidEncoding("index block: not keys and a run of rows for each child")
    texts = tuple(run for run in runs if isinstance(run, bytes))
    if len(texts) != children:
        raise InvalidEncoding("index block: a run of rows is no byte string")
    contents = Contents(_read_keys(keys, children), texts, first_window, windows)
    if not later:
        _ = contents.rows
    return contents


def _read_keys(data: bytes, children: int) -> dict[int, int]:
    width = KEY.size + -(-children // 8)
    if not data or len(data) % width:
        raise InvalidEncoding("index block: its keys are cut off")
    keys: dict[int, int] = {}
    last = -1
    for at in range(0, len(data), width):
        key = int.from_bytes(data[at : at + 4], "big")
        mask = int.from_bytes(data[at + 4 : at + width], "big")
        if key <= last or not 0 < mask < 1 << children:
            raise InvalidEncoding("index block: keys out of order, or an impossible mask")
        keys[key] = mask
        last = key
    return keys


def _read_run(data: bytes, first_window: int, windows: int) -> tuple[PageRow, ...]:
    if len(data) % ROW.size:
        raise InvalidEncoding("index block: a row is cut off")
    rows: list[PageRow] = []
    # A cold query over a month reads thousands of rows for the few it wants: hardly a call in here.
    part_bytes, most_length = limits.CAR_PART_BYTES, limits.BLOCK_MAX_BYTES
    target, raw_cid = limits.PAGE_TARGET_BYTES, cids.RAW_PREFIX
    before_key = before_window = -1
    before_part = end = 0
    for key, window, part, offset, length, records, digest in ROW.iter_unpack(data):
        if window >= windows or offset > part_bytes or length > most_length:
            raise InvalidEncoding("index block: a row's number is out of bounds")
        if not records or length < records * RECORD_MIN_BYTES:
            raise InvalidEncoding("index block: a page is too short for its records")
        if length > target and records > 1:
            raise InvalidEncoding("index block: a page over 64 KiB holds more than one record")
        size = car.section_bytes(length)
        if rows:
            # As page.require_follows has it.
            if key < before_key or (key == before_key and window < before_window):
                raise InvalidEncoding("index block: rows are out of order")
            fits = not end or end + size <= part_bytes
            if part != before_part + (not fits) or offset != (end if fits else 0):
                raise InvalidEncoding("index block: a row's place does not follow")
        rows.append(
            PageRow(key, first_window + window, part, offset, length, records, raw_cid + digest)
        )
        before_key, before_window, before_part, end = key, window, part, offset + size
    return tuple(rows)


def check_block(
    named: IndexBlock, block: bytes, root: IndexRoot, *, later: bool = False
) -> Contents:
    """The contents of a block, as the root or its table names it; `later` as in parse_block.

    Raises InvalidEncoding; VerificationFailed `block-hash`, `table-contradicts-root`.
    """
    cids.check(named.cid, block)
    children = len(root.children)
    contents = parse_block(block, root.first_window, root.windows, children, later=later)
    if (next(iter(contents.keys)), len(block)) != named[:2]:
        raise VerificationFailed(
            "an index block is not what its name says", code="table-contradicts-root"
        )
    for child, run in zip(root.children, contents.runs, strict=True):
        if child is None and run:
            raise InvalidEncoding("index block: rows of a child that is none")
    return contents


def blocks_for(names: Sequence[IndexBlock | IndexTable], low: int, high: int) -> list[int]:
    """Which of these blocks (or tables) have events of topic keys low…high; `names` in order."""
    nexts = [name.topic_key for name in names[1:]]
    return [
        i
        for i, name in enumerate(names)
        if name.topic_key <= high and (i == len(nexts) or nexts[i] >= low)
    ]
