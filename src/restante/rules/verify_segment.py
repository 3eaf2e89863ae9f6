"""One segment, from its root down to envelopes: which bytes are needed, and that they are right."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import compress, pairwise
from operator import not_
from typing import NamedTuple

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import car, varint
from restante.formats.descriptor import Descriptor
from restante.formats.layout import (
    Layout,
    PageRange,
    directory_blocks_for,
    locate,
    page_blocks_for,
)
from restante.formats.page import (
    TOPIC_KEY_MAX,
    Member,
    PageRow,
    bucket_range,
    require_follows,
    topic_key,
)
from restante.formats.root import PageBlock, SegmentRoot, check_rollup_root, parse_root
from restante.formats.segment import (
    check_directory,
    check_directory_block,
    check_page_block,
    check_root,
)
from restante.rules.committed import Committed
from restante.rules.first_bytes import ROOT_LENGTH_BYTES, root_section_end
from restante.rules.query import Mode
from restante.rules.verify import SetFault, by_hash, failing_as, renamed
from restante.rules.verify_page import PageReader, pages_of


class Piece(NamedTuple):
    """Bytes of a segment's CAR that are to be fetched."""

    part: int
    offset: int
    length: int
    kind: str
    """`root` (the rest of it), `page-table`, `directory` or `pages`."""
    number: int
    """Which block, or which range of pages."""

    def within(self, prefix: bytes) -> bytes:
        """What of it the first bytes of part 0 hold."""
        return b"" if self.part else prefix[self.offset : self.offset + self.length]

    def origin(self, pieces: "Sequence[Piece]") -> "Piece | None":
        """The one of these that it is, or is the rest of."""
        return next((p for p in pieces if (p.kind, p.number) == (self.kind, self.number)), None)

    def beyond(self, prefix: bytes) -> "Piece":
        """What of it they do not hold."""
        had = len(self.within(prefix))
        return self._replace(offset=self.offset + had, length=self.length - had)


class WayTo(NamedTuple):
    """What leads from a segment's CID down to an envelope."""

    root: bytes
    """The root block."""
    page_block: bytes | None
    """The page-table block that has the page's row; None if the root has it."""
    page: bytes


def key_ranges(
    mode: Mode, topics: Sequence[bytes], set_id: bytes, depth: int
) -> list[tuple[int, int]]:
    """The ranges [low, high] of topic keys that a mode reads, ascending and disjoint."""
    if mode == "all":
        return [(0, TOPIC_KEY_MAX)]
    keys = {topic_key(set_id, topic) for topic in topics}
    return sorted({bucket_range(depth, key) if mode == "bucket" else (key, key) for key in keys})


class TrustedSegment:
    """One segment of bodies, read from its root down.

    `read_prefix`, then `take` while `needs` names pieces. In exact mode, pages that hold nothing of
    `windows` (all by default) are passed over where the page table shows it; `members` may still
    hold records of other windows, and of other topics.
    """

    def __init__(
        self,
        d: Descriptor,
        of: Committed,
        mode: Mode,
        topics: Sequence[bytes],
        windows: range | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """With `keep`, the verified blocks stay, for `way_to`."""
        self._d = d
        self._of = of
        self._mode = mode
        self._topics = topics
        self._windows = range(of.span.first, of.span.stop) if windows is None else windows
        self._layout: Layout | None = None
        self._prefix = b""
        self._ranges: list[tuple[int, int]] = []
        self._rows: dict[int, tuple[PageRow, ...]] = {}
        self._keys: dict[int, tuple[int, ...]] = {}
        self._wanted: list[PageRange] | None = None
        self._needed: list[Piece] = []
        self._pages: dict[int, list[Member]] = {}
        self._passed: set[int] = set()
        """Topic keys that pages begin with which were passed over."""
        self._following: dict[PageRow, PageRow] = {}
        self._reader = PageReader(d)
        self._blocks: dict[bytes, bytes] | None = {} if keep else None
        """CID → block: root, page-table blocks and pages, as far as they were read."""
        self._places: dict[bytes, PageRow] = {}
        """Id → the row of its page."""

    @property
    def layout(self) -> Layout:
        """Where everything stands; RuntimeError before `read_prefix`."""
        if self._layout is None:
            raise RuntimeError("the root comes first")
        return self._layout

    def read_prefix(self, data: bytes, asked: int | None = None) -> None:
        """Take the first bytes of part 0.

        `asked` is how many were asked for: fewer mean that the file ends there (None: they are all
        there is); with as many, the rest of a longer root is a piece of `needs`.
        Raises VerificationFailed `root-hash`, `wrong-set`, `wrong-window`, `truncated`; SetFault
        `root-contradicts-entry`.
        """
        if self._layout is not None:
            raise RuntimeError("the root was read")
        self._prefix = data
        missing = root_section_end(data) - len(data)
        if missing > 0 and asked is not None and len(data) >= asked:
            self._needed = [Piece(0, len(data), missing, "root", 0)]
            return
        self._read_root(data)

    def _read_root(self, data: bytes) -> None:
        try:
            layout = locate(data, self._of.cid)
        except Invalid as error:
            code = _diagnosis(data, self._of, self._d.set_id)
            fault = SetFault if code == "root-contradicts-entry" else VerificationFailed
            raise fault(f"{self._of}: {error}", code=code) from error
        with failing_as("root-contradicts-entry", SetFault):
            check_committed(layout.root, self._of, self._d)
        self._layout, self._prefix = layout, data
        root_block = car.read_section(data, car.HEADER_BYTES, limits.SEGMENT_ROOT_MAX_BYTES)[1]
        self._keep(self._of.cid, root_block)
        self._ranges = key_ranges(self._mode, self._topics, self._d.set_id, layout.root.depth)
        self._need_tables(layout)
        self._advance()

    def needs(self) -> list[Piece]:
        """What is to be fetched and taken next; empty once everything was verified."""
        if not self._needed:
            self.layout  # noqa: B018 - the order of calls
        return [piece.beyond(self._prefix) for piece in self._needed]

    def take(self, piece: Piece, data: bytes) -> None:
        """Verify one of the pieces of `needs`.

        Raises VerificationFailed `truncated`, `page-table`, `directory`, `page-hash`; SetFault
        `page-table`, `directory`, `page-content`, `sent-bounds`, `directory-contradicts-page`.
        """
        needed = piece.origin(self._needed)
        if needed is None or needed.beyond(self._prefix) != piece:
            raise RuntimeError("nobody asked for that piece")
        if piece.kind == "root":
            self._needed = []
            self._read_root(self._prefix + data[: piece.length])
            return
        self._verify(needed, needed.within(self._prefix) + data)
        self._needed.remove(needed)
        if not self._needed:
            self._advance()

    def members(self) -> list[Member]:
        """The members of every page that was read, in the segment's order."""
        if self._wanted is None or self._needed:
            raise RuntimeError("the segment is not read to the end")
        return [member for index in sorted(self._pages) for member in self._pages[index]]

    def way_to(self, id_: bytes) -> WayTo | None:
        """The blocks from the root down to an envelope that was read, of a segment that keeps
        them; None if it was not read."""
        row = self._places.get(id_)
        if row is None or self._blocks is None:
            return None
        numbers = (n for n, rows in self._rows.items() if row in rows)
        number = next(numbers, None)
        named = None if number is None else (self.layout.root.page_blocks or ())[number]
        block = None if named is None else self._blocks[named.cid]
        return WayTo(self._blocks[self._of.cid], block, self._blocks[row.cid])

    # --- tables -----------------------------------------------------------------------------

    def _need_tables(self, layout: Layout) -> None:
        root = layout.root
        tables: set[Piece] = set()
        for low, high in self._ranges:
            for index, block in page_blocks_for(root, low, high):
                offset = layout.page_block_offsets[index]
                tables.add(Piece(0, offset, block.length, "page-table", index))
            # A bucket's pages prove absence themselves; in exact mode the directory does.
            if self._mode == "exact":
                for index, listed in directory_blocks_for(root, low, high):
                    offset = layout.directory_block_offsets[index]
                    tables.add(Piece(0, offset, 4 * listed.keys, "directory", index))
        self._needed = sorted(tables)

    def _advance(self) -> None:
        """Take what the prefix holds, and go on to pages and the directory when that was all."""
        while True:
            for piece in [p for p in self._needed if self._in_prefix(p)]:
                self._verify(piece, self._prefix[piece.offset : piece.offset + piece.length])
                self._needed.remove(piece)
            if self._needed:
                return
            if self._wanted is not None:
                self._check_directory()
                self._prefix = b""
                return
            self._need_pages()

    def _in_prefix(self, piece: Piece) -> bool:
        return piece.part == 0 and piece.offset + piece.length <= len(self._prefix)

    def _verify(self, piece: Piece, data: bytes) -> None:
        root = self.layout.root
        if len(data) < piece.length:
            raise VerificationFailed(
                f"{self._of}, {piece.kind}: {len(data)} of {piece.length} bytes", code="truncated"
            )
        data = data[: piece.length]
        if piece.kind == "page-table":
            with by_hash("page-table"):
                block = (root.page_blocks or ())[piece.number]
                self._rows[piece.number] = self._page_block(piece.number, block, data)
        elif piece.kind == "directory":
            with by_hash("directory"):
                listed = (root.directory_blocks or ())[piece.number]
                self._keys[piece.number] = check_directory_block(listed, data)
        else:
            self._verify_pages(piece, data)

    def _page_block(self, number: int, block: PageBlock, data: bytes) -> tuple[PageRow, ...]:
        """The rows of a page-table block; they follow those of the block before, if it is known."""
        before = self._rows.get(number - 1)
        rows = check_page_block(block, data, before[-1] if before else None)
        self._keep(block.cid, data)
        after = self._rows.get(number + 1)
        if after is not None:
            require_follows(rows[-1], after[0])
        if number == 0 and (rows[0].part, rows[0].offset) != (0, 0):
            raise InvalidEncoding("the first page is not at the beginning of part 0")
        return rows

    def _check_count(self, rows: Sequence[PageRow]) -> None:
        """Where all rows are known, they must add up to the root's count."""
        root = self.layout.root
        blocks = root.page_blocks
        if blocks is not None and len(self._rows) < len(blocks):
            return
        if sum(row.records for row in rows) != root.count:
            raise SetFault("the page table does not add up to the root's count", code="page-table")

    def _table(self) -> list[PageRow]:
        """The rows that are known, in table order."""
        root = self.layout.root
        if root.pages is not None:
            return list(root.pages)
        rows = [row for index in sorted(self._rows) for row in self._rows[index]]
        with failing_as("page-table", SetFault):
            if any(b[:2] < a[:2] for a, b in pairwise(rows)):
                raise InvalidEncoding("page-table blocks are out of order")
        return rows

    def _directory(self) -> list[int] | None:
        """The topic keys that are known; None if they stand in blocks that were not asked for."""
        root = self.layout.root
        if root.directory is not None:
            return list(root.directory)
        if self._mode != "exact":
            return None
        return [key for index in sorted(self._keys) for key in self._keys[index]]

    # --- pages ------------------------------------------------------------------------------

    def _need_pages(self) -> None:
        rows, directory = self._table(), self._directory()
        self._check_count(rows)
        wanted: set[int] = set()
        for low, high in self._ranges:
            if self._mode != "exact":
                firsts = [row.topic_key for row in rows]
                wanted.update(range(bisect_left(firsts, low), bisect_right(firsts, high)))
            elif directory is not None and _holds(directory, low):
                found = pages_of(rows, low, self.layout.root.depth, self._windows)
                wanted.update(found.rows)
                if found.shown:
                    self._passed.add(low)
        self._following = dict(pairwise(rows))
        ranges = self.layout.page_ranges(rows[i] for i in sorted(wanted))
        self._wanted = self._cut_at_prefix(ranges)
        self._needed = [
            Piece(each.part, each.offset, each.length, "pages", number)
            for number, each in enumerate(self._wanted)
        ]

    def _cut_at_prefix(self, ranges: Sequence[PageRange]) -> list[PageRange]:
        """Cut a range that begins in the prefix where the prefix ends: it is not fetched twice."""
        cut: list[PageRange] = []
        for each in ranges:
            inside = [self._page_in_prefix(row) for row in each.rows]
            cut += self.layout.page_ranges(compress(each.rows, inside))
            cut += self.layout.page_ranges(compress(each.rows, map(not_, inside)))
        return cut

    def _page_in_prefix(self, row: PageRow) -> bool:
        part, offset, length = self.layout.page_range(row)
        return part == 0 and offset + length <= len(self._prefix)

    def _verify_pages(self, piece: Piece, data: bytes) -> None:
        assert self._wanted is not None
        with renamed({"block-hash": "page-hash"}):
            pages = self._wanted[piece.number].pages(data)
        root = self.layout.root
        members: list[Member] = []
        for row, page in pages:
            read = self._reader.members(root, row, page, self._following.get(row))
            if self._keep(row.cid, page):
                self._places.update((member.id, row) for member in read)
            members += read
        self._pages[piece.number] = members

    def _keep(self, cid: bytes, block: bytes) -> bool:
        if self._blocks is None:
            return False
        self._blocks[cid] = block
        return True

    def _check_directory(self) -> None:
        directory = self._directory()
        held = [member.topic_key for members in self._pages.values() for member in members]
        if self._mode == "all" and len(held) != self.layout.root.count:
            raise SetFault("the pages do not add up to the root's count", code="page-content")
        if directory is None:
            return
        with failing_as("directory-contradicts-page", SetFault):
            for low, high in self._ranges:
                check_directory(directory, [*held, *self._passed], low, high)


def _holds(ascending: Sequence[int], key: int) -> bool:
    at = bisect_left(ascending, key)
    return at < len(ascending) and ascending[at] == key


def check_committed(root: SegmentRoot, of: Committed, d: Descriptor) -> None:
    """Refuse a root that is not of what the log names it for.

    Raises VerificationFailed, code `root-contradicts-entry`.
    """
    if of.entry is None:
        check_rollup_root(root, of.span, set_id=d.set_id, bucket_bits=d.bucket_bits)
    else:
        check_root(root, of.entry, set_id=d.set_id, bucket_bits=d.bucket_bits)


def _diagnosis(prefix: bytes, of: Committed, set_id: bytes) -> str:
    """Why a segment's first bytes do not hold the root that the log names."""
    try:
        named, at = car.read_header(prefix)
        varint.decode(prefix, at)
    except InvalidEncoding:
        return "truncated" if len(prefix) < ROOT_LENGTH_BYTES else "root-hash"
    if named == of.cid:
        if root_section_end(prefix) > len(prefix):
            return "truncated"
        try:
            cid, _, _ = car.read_section(prefix, at, limits.SEGMENT_ROOT_MAX_BYTES)
        except Invalid:
            return "root-hash"
        # The right block, which no parser takes.
        return "root-contradicts-entry" if cid == named else "root-hash"
    try:
        root = parse_root(car.read_section(prefix, at, limits.SEGMENT_ROOT_MAX_BYTES)[1])
    except Invalid:
        return "root-hash"
    if root.set_id != set_id:
        return "wrong-set"
    return "wrong-window" if root.first_window != of.span.first else "root-hash"
