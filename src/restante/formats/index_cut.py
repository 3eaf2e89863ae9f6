"""Making an index: the rows and keys of its children, merged and cut into blocks.

Children are read in streams; what is held is the blocks, 49 bytes for a page and 7 for a topic.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from restante import limits
from restante.formats import car, dagcbor
from restante.formats import cid as cids
from restante.formats.cut import Block
from restante.formats.dagcbor import Value
from restante.formats.index import (
    KEY,
    ROW,
    IndexBlock,
    IndexChild,
    IndexRoot,
    IndexTable,
    names_value,
)
from restante.formats.level import Span
from restante.formats.page import PageRow
from restante.formats.root import SegmentRoot


@dataclass(frozen=True, slots=True)
class Index:
    """A built index."""

    root_cid: bytes
    root: IndexRoot
    blocks: list[Block]
    """(CID, block) in canonical order: root, tables, index blocks."""

    def car(self) -> bytes:
        """The CAR file: it has one part."""
        return car.write(self.root_cid, self.blocks)


class Source(Protocol):
    """A child that an index is made from."""

    @property
    def cid(self) -> bytes: ...

    @property
    def root(self) -> SegmentRoot: ...

    @property
    def pages_start(self) -> int: ...

    def rows(self) -> Iterable[PageRow]:
        """The page table."""
        ...

    def topic_keys(self) -> Iterable[int]:
        """The directory, ascending."""
        ...


def child_of(source: Source) -> IndexChild:
    """What an index says of a segment."""
    root = source.root
    return IndexChild(
        source.cid,
        root.count,
        root.bytes_,
        root.sent_min,
        root.sent_max,
        root.depth,
        source.pages_start,
    )


def build(set_id: bytes, span: Span, children: Sequence[Source | None]) -> Index:
    """The one index of these children, in order. Its blocks are held, 49 bytes a page."""
    blocks = list(_cut(span.first, children))
    named = [IndexBlock(key, len(data), cids.cid_of(cids.DAG_CBOR, data)) for key, data in blocks]
    inline, tables, table_blocks = _table(named)
    root = IndexRoot(
        set_id=set_id,
        level=span.level,
        first_window=span.first,
        windows=span.windows,
        children=tuple(None if child is None else child_of(child) for child in children),
        blocks=inline,
        tables=tables,
    )
    encoded = root.encode()
    root_cid = cids.cid_of(cids.DAG_CBOR, encoded)
    held = [(name.cid, data) for name, (_, data) in zip(named, blocks, strict=True)]
    return Index(root_cid, root, [(root_cid, encoded), *table_blocks, *held])


Event = tuple[int, int, PageRow | None]
"""(topic key, its mask or the row's child, the row or None for the key itself)."""


def _events(children: Sequence[Source | None]) -> Iterator[Event]:
    present = [(i, child) for i, child in enumerate(children) if child is not None]
    keys = merge(*(_tagged_keys(child, i) for i, child in present))
    rows = merge(*(_tagged_rows(child, i) for i, child in present), key=itemgetter(0, 1))
    row = next(rows, None)
    for key, group in groupby(keys, key=itemgetter(0)):
        yield key, sum(1 << i for _, i in group), None
        while row is not None and row[0] == key:
            yield row
            row = next(rows, None)
    if row is not None:
        raise ValueError("a page begins with a topic key that no directory names")


def _tagged_keys(child: Source, number: int) -> Iterator[tuple[int, int]]:
    return ((key, number) for key in child.topic_keys())


def _tagged_rows(child: Source, number: int) -> Iterator[Event]:
    return ((row.topic_key, number, row) for row in child.rows())


def _cut(first_window: int, children: Sequence[Source | None]) -> Iterator[tuple[int, bytes]]:
    """(topic key of its first event, block)."""
    writer = _BlockWriter(first_window, len(children))
    for event in _events(children):
        if writer.is_over(event):
            yield writer.close()
        writer.add(event)
    if not writer.empty:
        yield writer.close()


class _BlockWriter:
    """The open block."""

    def __init__(self, first_window: int, children: int) -> None:
        self._first_window = first_window
        self._mask_bytes = -(-children // 8)
        self._last: list[bytes | None] = [None] * children
        """Of each child its last row so far, encoded."""
        self._key = b""
        """The key that was last, encoded."""
        self._start()

    def _start(self) -> None:
        self._keys: list[bytes] = []
        self._rows: list[list[bytes]] = [[] if row is None else [row] for row in self._last]
        self._bytes = ROW.size * sum(map(len, self._rows))
        self._first_key: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it has no event of its own."""
        return self._first_key is None

    def is_over(self, event: Event) -> bool:
        """Whether the block is closed before this event."""
        more = KEY.size + self._mask_bytes if event[2] is None else ROW.size
        return not self.empty and self._bytes + more > limits.INDEX_BLOCK_CONTENT_BYTES

    def add(self, event: Event) -> None:
        key, value, row = event
        if row is None:
            self._key = KEY.pack(key) + value.to_bytes(self._mask_bytes, "big")
            self._put_key()
        else:
            if self.empty:
                self._put_key()
            encoded = ROW.pack(
                row.topic_key,
                row.window - self._first_window,
                row.part,
                row.offset,
                row.length,
                row.records,
                cids.digest(row.cid),
            )
            self._rows[value].append(encoded)
            self._last[value] = encoded
            self._bytes += ROW.size
        if self._first_key is None:
            self._first_key = key

    def _put_key(self) -> None:
        self._keys.append(self._key)
        self._bytes += len(self._key)

    def close(self) -> tuple[int, bytes]:
        assert self._first_key is not None
        rows: list[Value] = [b"".join(rows) for rows in self._rows]
        done = self._first_key, dagcbor.encode([b"".join(self._keys), rows])
        self._start()
        return done


def _table(
    named: list[IndexBlock],
) -> tuple[tuple[IndexBlock, ...] | None, tuple[IndexTable, ...] | None, list[Block]]:
    """(inline names, or None and the tables as named; the tables)."""
    if len(named) <= limits.INDEX_NAMES:
        return tuple(named), None, []
    tables: list[IndexTable] = []
    blocks: list[Block] = []
    offset = 0
    for start in range(0, len(named), limits.INDEX_NAMES):
        chunk = named[start : start + limits.INDEX_NAMES]
        data = dagcbor.encode(names_value(chunk))
        cid = cids.cid_of(cids.DAG_CBOR, data)
        tables.append(IndexTable(chunk[0].topic_key, len(chunk), len(data), offset, cid))
        blocks.append((cid, data))
        offset += sum(car.section_bytes(block.length) for block in chunk)
    return None, tuple(tables), blocks
