"""Where everything stands in a segment's CAR files, so that a client reads ranges of them.

A client asks for the first `PREFIX_BYTES` of part 0, verifies the root in them against the log
entry, and computes the range of any child block and of any page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.page import PageRow
from restante.formats.root import DirectoryBlock, PageBlock, SegmentRoot, parse_root

# Header and section of the largest root fit, with room for small segments to come in one answer.
PREFIX_BYTES = 320 * 1024


class PageRange(NamedTuple):
    """Neighbouring pages of one part, to be read by one range request."""

    part: int
    offset: int
    """In bytes from the start of the part's file: the first page itself, not its section."""
    length: int
    rows: tuple[PageRow, ...]

    def pages(self, data: bytes) -> list[tuple[PageRow, bytes]]:
        """Each row with its page, hashed. Raises VerificationFailed, code `block-hash`."""
        start = self.rows[0].offset + car.section_overhead(self.rows[0].length)
        out: list[tuple[PageRow, bytes]] = []
        for row in self.rows:
            at = row.offset + car.section_overhead(row.length) - start
            page = data[at : at + row.length]
            cids.check(row.cid, page)
            out.append((row, page))
        return out


@dataclass(frozen=True, slots=True)
class Layout:
    """The map of a segment's CAR files; offsets are bytes from the start of a file."""

    root_cid: bytes
    root: SegmentRoot
    page_block_offsets: tuple[int, ...]
    """Of each page-table block itself in part 0; its length is in `root.page_blocks`."""
    directory_block_offsets: tuple[int, ...]
    """Of each directory block itself in part 0; four bytes a key."""
    pages_start: int
    """Where part 0's first page section begins."""

    def start_of(self, part: int) -> int:
        """Where a part's page sections begin: later parts have a header before them only."""
        return self.pages_start if part == 0 else car.HEADER_BYTES

    def page_range(self, row: PageRow) -> tuple[int, int, int]:
        """(part, offset, length) of one page."""
        offset = self.start_of(row.part) + row.offset + car.section_overhead(row.length)
        return row.part, offset, row.length

    def page_ranges(self, rows: Iterable[PageRow]) -> list[PageRange]:
        """The fewest ranges that hold the pages of these rows (in table order), none too large."""
        runs: list[list[PageRow]] = []
        for row in rows:
            if runs and self._continues(runs[-1], row):
                runs[-1].append(row)
            else:
                runs.append([row])
        out: list[PageRange] = []
        for run in runs:
            part, offset, _ = self.page_range(run[0])
            _, last_offset, last_length = self.page_range(run[-1])
            out.append(PageRange(part, offset, last_offset + last_length - offset, tuple(run)))
        return out

    def _continues(self, run: list[PageRow], row: PageRow) -> bool:
        first, last = run[0], run[-1]
        return (
            row.part == last.part
            and row.offset == last.offset + car.section_bytes(last.length)
            and row.offset + car.section_bytes(row.length) - first.offset
            <= limits.PAGE_RANGE_MAX_BYTES
        )


def page_blocks_for(root: SegmentRoot, low: int, high: int) -> list[tuple[int, PageBlock]]:
    """(index, block) of the page-table blocks with rows of pages that may hold keys low…high.

    None for a root that holds its page table itself.
    """
    blocks = root.page_blocks or ()
    nexts = [block.topic_key for block in blocks[1:]]
    return [
        (index, block)
        for index, block in enumerate(blocks)
        if block.topic_key <= high and (index == len(nexts) or nexts[index] >= low)
    ]


def directory_blocks_for(
    root: SegmentRoot, low: int, high: int
) -> list[tuple[int, DirectoryBlock]]:
    """(index, block) of the directory blocks that may name keys low…high."""
    blocks = root.directory_blocks or ()
    nexts = [block.topic_key for block in blocks[1:]]
    return [
        (index, block)
        for index, block in enumerate(blocks)
        if block.topic_key <= high and (index == len(nexts) or nexts[index] > low)
    ]


def layout_of(root: SegmentRoot, root_cid: bytes, root_bytes: int) -> Layout:
    """The layout that follows from a root and the length of its block."""
    at = car.HEADER_BYTES + car.section_bytes(root_bytes)
    offsets: list[int] = []
    page_lengths = [block.length for block in root.page_blocks or ()]
    key_lengths = [4 * block.keys for block in root.directory_blocks or ()]
    for length in page_lengths + key_lengths:
        offsets.append(at + car.section_overhead(length))
        at += car.section_bytes(length)
    split = len(page_lengths)
    return Layout(root_cid, root, tuple(offsets[:split]), tuple(offsets[split:]), at)


def locate(prefix: bytes, root_cid: bytes) -> Layout:
    """The layout of a segment of the first bytes of its part 0, its root checked by hash.

    `root_cid` is what the log entry names. Raises InvalidEncoding, and VerificationFailed with code
    `block-hash` or `wrong-root`. What the root says is checked by `root.check_root`.
    """
    named, at = car.read_header(prefix)
    cid, block, _ = car.read_section(prefix, at, limits.SEGMENT_ROOT_MAX_BYTES)
    if not named == cid == root_cid:
        raise VerificationFailed("a CAR of another segment", code="wrong-root")
    if cids.codec(cid) != cids.DAG_CBOR:
        raise InvalidEncoding("a segment's root is not DAG-CBOR")
    return layout_of(parse_root(block), cid, len(block))
