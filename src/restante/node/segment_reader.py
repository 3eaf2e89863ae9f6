"""Segments and indexes read piece by piece, from the root that the log names down to the pages.

Whoever holds the bytes (the archive, a peer, a store, a gateway's source) is not trusted: every
block is hashed, and no more of it is held than is asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeAlias

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import car, whisper
from restante.formats import cid as cids
from restante.formats import index as indexes
from restante.formats.cut import Block
from restante.formats.layout import PREFIX_BYTES, layout_of
from restante.formats.level import Span
from restante.formats.page import PageRow
from restante.formats.root import (
    check_directory_block,
    check_page_block,
    check_rollup_root,
    parse_root,
)
from restante.formats.segment import SetParameters

Read: TypeAlias = Callable[[int, int, int], bytes]
"""(part, offset, length) → the bytes there; fewer at the part's end."""

TOPIC_OF: dict[str, Callable[[bytes], bytes]] = {"whisper-v6": whisper.topic_of}
"""Network → the topic of an envelope that was found canonical before."""


class Section(NamedTuple):
    """A block of a segment's CAR files: its part, its own offset and length there, its CID."""

    part: int
    offset: int
    length: int
    cid: bytes


class _Reader:
    """What segments and indexes have in common: a root, and blocks at known places.

    Raises InvalidEncoding, VerificationFailed `wrong-root`, `block-hash`, `truncated`, and what
    `read` raises.
    """

    def __init__(self, cid: bytes, read: Read) -> None:
        self.cid = cid
        self._read = read
        self.prefix = read(0, 0, PREFIX_BYTES)
        """The first bytes of part 0; beyond the root nothing of them is verified."""
        named, at = car.read_header(self.prefix)
        found, self.root_block, self.root_end = car.read_section(
            self.prefix, at, limits.SEGMENT_ROOT_MAX_BYTES
        )
        if not named == found == cid:
            raise VerificationFailed("the CAR of another segment", code="wrong-root")

    @property
    def root_section(self) -> Section:
        """Where the root stands."""
        length = len(self.root_block)
        return Section(0, self.root_end - length, length, self.cid)

    def has(self, section: Section) -> bool:
        """Whether a block came with the root."""
        return section.part == 0 and section.offset + section.length <= len(self.prefix)

    def block(self, section: Section) -> bytes:
        """A block, hashed."""
        part, offset, length, cid = section
        if self.has(section):
            block = self.prefix[offset : offset + length]
        else:
            block = self._read(part, offset, length)
        if len(block) != length:
            raise VerificationFailed(
                f"part {part} has {len(block)} bytes at {offset}, not {length}", code="truncated"
            )
        cids.check(cid, block)
        return block


class SegmentReader(_Reader):
    """A segment of bodies: `formats.merge.Child` and `formats.index_cut.Source`."""

    def __init__(self, d: SetParameters, of: Span, cid: bytes, read: Read) -> None:
        """Raises also VerificationFailed `root-contradicts-entry`."""
        super().__init__(cid, read)
        self.root = parse_root(self.root_block)
        check_rollup_root(self.root, of, set_id=d.set_id, bucket_bits=d.bucket_bits)
        self.layout = layout_of(self.root, cid, len(self.root_block))

    @property
    def pages_start(self) -> int:
        """Where part 0's first page section begins."""
        return self.layout.pages_start

    def rows(self) -> Iterator[PageRow]:
        """The page table, a block at a time."""
        if self.root.pages is not None:
            yield from self.root.pages
            return
        last: PageRow | None = None
        for named, section in zip(self.root.page_blocks or (), self._page_blocks(), strict=True):
            rows = check_page_block(named, self.block(section), last)
            if last is None and rows[0][2:4] != (0, 0):
                raise InvalidEncoding("page table: the first page is not at the start")
            yield from rows
            last = rows[-1]

    def topic_keys(self) -> Iterator[int]:
        """The directory, a block at a time."""
        if self.root.directory is not None:
            yield from self.root.directory
            return
        last = -1
        blocks = self.root.directory_blocks or ()
        for named, section in zip(blocks, self._directory_blocks(), strict=True):
            keys = check_directory_block(named, self.block(section))
            if keys[0] <= last:
                raise InvalidEncoding("directory: blocks out of order")
            yield from keys
            last = keys[-1]

    def page(self, row: PageRow) -> bytes:
        """The page of a row."""
        return self.block(self._page(row))

    def pages(self, rows: Iterable[PageRow]) -> Iterator[tuple[PageRow, bytes]]:
        """Pages with their rows, which are in table order: neighbours are read together."""
        left = iter(rows)
        while group := list(islice(left, limits.PAGES_AT_ONCE)):
            for each in self.layout.page_ranges(group):
                data = self._read(each.part, each.offset, each.length)
                if len(data) != each.length:
                    raise VerificationFailed("a part of a segment is cut off", code="truncated")
                yield from each.pages(data)

    def sections(self) -> Iterator[Section]:
        """All blocks, in the files' order."""
        yield self.root_section
        yield from self._page_blocks()
        yield from self._directory_blocks()
        yield from map(self._page, self.rows())

    def _page_blocks(self) -> Iterator[Section]:
        offsets = self.layout.page_block_offsets
        for named, offset in zip(self.root.page_blocks or (), offsets, strict=True):
            yield Section(0, offset, named.length, named.cid)

    def _directory_blocks(self) -> Iterator[Section]:
        offsets = self.layout.directory_block_offsets
        for named, offset in zip(self.root.directory_blocks or (), offsets, strict=True):
            yield Section(0, offset, 4 * named.keys, named.cid)

    def _page(self, row: PageRow) -> Section:
        return Section(*self.layout.page_range(row), row.cid)


class IndexReader(_Reader):
    """The index of a span."""

    def __init__(self, d: SetParameters, of: Span, cid: bytes, read: Read) -> None:
        """Raises also VerificationFailed `root-contradicts-entry`."""
        super().__init__(cid, read)
        self.root = indexes.parse_root(self.root_block)
        claimed = (self.root.set_id, self.root.level, self.root.first_window, self.root.windows)
        if claimed != (d.set_id, of.level, of.first, of.windows):
            raise VerificationFailed(
                f"an index of other windows than {of.first} to {of.stop - 1}",
                code="root-contradicts-entry",
            )

    def sections(self) -> Iterator[Section]:
        """All blocks, in the file's order."""
        yield self.root_section
        yield from (section for section, _ in self._tables())
        yield from (section for section, _ in self._names())

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the file's order, each hashed."""
        for section in self.sections():
            yield section.cid, self.block(section)

    def index_blocks(self) -> Iterator[tuple[indexes.IndexBlock, bytes]]:
        """The index blocks with their names, each hashed."""
        for section, name in self._names():
            yield name, self.block(section)

    def _tables(self) -> Iterator[tuple[Section, indexes.IndexTable]]:
        end = self.root_end
        for table in self.root.tables or ():
            section, end = _next(end, table.length, table.cid)
            yield section, table

    def _names(self) -> Iterator[tuple[Section, indexes.IndexBlock]]:
        end = self.root_end
        names: list[Iterable[indexes.IndexBlock]] = [self.root.blocks or ()]
        for section, table in self._tables():
            end = section.offset + section.length
            names.append(indexes.check_table(table, self.block(section)))
        for name in (name for group in names for name in group):
            section, end = _next(end, name.length, name.cid)
            yield section, name


def _next(end: int, length: int, cid: bytes) -> tuple[Section, int]:
    """The section that begins at `end`, and where it ends."""
    offset = end + car.section_overhead(length)
    return Section(0, offset, length, cid), offset + length
