"""One batch, from its root down to envelopes: which bytes are needed, and that they are right."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, pairwise
from operator import not_
from typing import NamedTuple

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import car, varint, whisper
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.layout import (
    PREFIX_BYTES,
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
    bucket_of,
    bucket_range,
    require_follows,
    topic_key,
)
from restante.formats.root import PageBlock, SegmentRoot, parse_root
from restante.formats.segment import (
    check_directory,
    check_directory_block,
    check_page,
    check_page_block,
    check_root,
)
from restante.rules.query import Mode
from restante.rules.verify import SetFault, failing_as, renamed


class Reading(NamedTuple):
    """What a client reads of an envelope."""

    topic: bytes
    sent_s: int


def _read_whisper(raw: bytes) -> Reading:
    scanned = whisper.scan(raw)
    return Reading(scanned.topic, scanned.expiry_s - scanned.ttl_s)


READERS: dict[str, Callable[[bytes], Reading]] = {"whisper-v6": _read_whisper}
"""Network → its envelopes' reader, which raises InvalidEncoding."""


class Piece(NamedTuple):
    """Bytes of a segment's CAR that are to be fetched."""

    part: int
    offset: int
    length: int
    kind: str
    """`page-table`, `directory` or `pages`."""
    number: int
    """Which block, or which range of pages."""


def key_ranges(
    mode: Mode, topics: Sequence[bytes], set_id: bytes, depth: int
) -> list[tuple[int, int]]:
    """The ranges [low, high] of topic keys that a mode reads, ascending and disjoint."""
    if mode == "all":
        return [(0, TOPIC_KEY_MAX)]
    keys = {topic_key(set_id, topic) for topic in topics}
    return sorted({bucket_range(depth, key) if mode == "bucket" else (key, key) for key in keys})


class TrustedSegment:
    """One batch, read from its root down: `read_prefix`, then `take` while `needs` names pieces."""

    def __init__(self, d: Descriptor, entry: LogEntry, mode: Mode, topics: Sequence[bytes]) -> None:
        self._d = d
        self._entry = entry
        self._mode = mode
        self._topics = topics
        self._layout: Layout | None = None
        self._prefix = b""
        self._ranges: list[tuple[int, int]] = []
        self._rows: dict[int, tuple[PageRow, ...]] = {}
        self._keys: dict[int, tuple[int, ...]] = {}
        self._wanted: list[PageRange] | None = None
        self._needed: list[Piece] = []
        self._pages: dict[int, list[Member]] = {}
        self._following: dict[PageRow, PageRow] = {}
        self._last: tuple[bytes, Reading] | None = None

    @property
    def layout(self) -> Layout:
        """Where everything stands; RuntimeError before `read_prefix`."""
        if self._layout is None:
            raise RuntimeError("the root comes first")
        return self._layout

    def read_prefix(self, data: bytes) -> SegmentRoot:
        """Take the first bytes (PREFIX_BYTES, or all there are) of part 0.

        Raises VerificationFailed `root-hash`, `wrong-set`, `wrong-window`, `truncated`; SetFault
        `root-contradicts-entry`.
        """
        if self._layout is not None:
            raise RuntimeError("the root was read")
        try:
            layout = locate(data, self._entry.segment)
        except Invalid as error:
            code = _diagnosis(data, self._entry, self._d.set_id)
            fault = SetFault if code == "root-contradicts-entry" else VerificationFailed
            raise fault(f"segment {self._entry.window}: {error}", code=code) from error
        with failing_as("root-contradicts-entry", SetFault):
            check_root(
                layout.root,
                self._entry,
                set_id=self._d.set_id,
                bucket_bits=self._d.bucket_bits,
            )
        self._layout, self._prefix = layout, data
        root = layout.root
        self._ranges = key_ranges(self._mode, self._topics, self._d.set_id, root.depth)
        self._need_tables(layout)
        self._advance()
        return root

    def needs(self) -> list[Piece]:
        """What is to be fetched and taken next; empty once everything was verified."""
        self.layout  # noqa: B018 - the order of calls
        return list(self._needed)

    def take(self, piece: Piece, data: bytes) -> None:
        """Verify one of the pieces of `needs`.

        Raises VerificationFailed `truncated`, `page-table`, `directory`, `page-hash`; SetFault
        `page-table`, `directory`, `page-content`, `sent-bounds`, `directory-contradicts-page`.
        """
        if piece not in self._needed:
            raise RuntimeError("nobody asked for that piece")
        self._verify(piece, data)
        self._needed.remove(piece)
        if not self._needed:
            self._advance()

    def members(self) -> list[Member]:
        """The members of every page that was read, in the segment's order."""
        if self._wanted is None or self._needed:
            raise RuntimeError("the segment is not read to the end")
        return [member for index in sorted(self._pages) for member in self._pages[index]]

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
                f"window {self._entry.window}, {piece.kind}: {len(data)} of {piece.length} bytes",
                code="truncated",
            )
        data = data[: piece.length]
        if piece.kind == "page-table":
            with _by_hash("page-table"):
                block = (root.page_blocks or ())[piece.number]
                self._rows[piece.number] = self._page_block(piece.number, block, data)
        elif piece.kind == "directory":
            with _by_hash("directory"):
                listed = (root.directory_blocks or ())[piece.number]
                self._keys[piece.number] = check_directory_block(listed, data)
        else:
            self._verify_pages(piece, data)

    def _page_block(self, number: int, block: PageBlock, data: bytes) -> tuple[PageRow, ...]:
        """The rows of a page-table block; they follow those of the block before, if it is known."""
        before = self._rows.get(number - 1)
        rows = check_page_block(block, data, before[-1] if before else None)
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
        depth = self.layout.root.depth
        firsts = [row.topic_key for row in rows]
        wanted: dict[int, None] = {}
        for low, high in self._ranges:
            if self._mode == "exact":
                if directory is not None and _holds(directory, low):
                    # The last page that begins before the key may hold it, and all that begin
                    # with it; no other bucket's.
                    first = max(0, bisect_left(firsts, low) - 1)
                    inside = range(first, bisect_right(firsts, low))
                    bucket = bucket_of(low, depth)
                    wanted |= dict.fromkeys(
                        i for i in inside if bucket_of(firsts[i], depth) == bucket
                    )
            else:
                inside = range(bisect_left(firsts, low), bisect_right(firsts, high))
                wanted |= dict.fromkeys(inside)
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
        with failing_as("page-content", SetFault):
            for row, page in pages:
                members += check_page(
                    root,
                    row,
                    page,
                    self._topic_of,
                    self._sent_of,
                    following=self._following.get(row),
                )
        for member in members:
            least, greatest = self._d.sent_bounds_s(member.window)
            if not least <= member.sent_s <= greatest:
                raise SetFault("an envelope's sent time is outside its window", code="sent-bounds")
        self._pages[piece.number] = members

    def _check_directory(self) -> None:
        directory = self._directory()
        held = [member.topic_key for members in self._pages.values() for member in members]
        if self._mode == "all" and len(held) != self.layout.root.count:
            raise SetFault("the pages do not add up to the root's count", code="page-content")
        if directory is None:
            return
        with failing_as("directory-contradicts-page", SetFault):
            for low, high in self._ranges:
                check_directory(directory, held, low, high)

    # check_page asks for both of each envelope, one after the other: read it once.

    def _topic_of(self, raw: bytes) -> bytes:
        self._last = (raw, READERS[self._d.network](raw))
        return self._last[1].topic

    def _sent_of(self, raw: bytes) -> int:
        if self._last is None or self._last[0] is not raw:
            self._topic_of(raw)
        assert self._last is not None
        return self._last[1].sent_s


def _holds(ascending: Sequence[int], key: int) -> bool:
    at = bisect_left(ascending, key)
    return at < len(ascending) and ascending[at] == key


@contextmanager
def _by_hash(code: str) -> Iterator[None]:
    """A block with another hash is its source's lie; one with the right hash is the set's fault."""
    try:
        yield
    except Invalid as error:
        fault = VerificationFailed if error.code == "block-hash" else SetFault
        raise fault(str(error), code=code) from error


def _diagnosis(prefix: bytes, entry: LogEntry, set_id: bytes) -> str:
    """Why a segment's first bytes do not hold the root that the log entry names."""
    try:
        named, at = car.read_header(prefix)
        length, start = varint.decode(prefix, at)
    except InvalidEncoding:
        return "truncated" if len(prefix) < car.HEADER_BYTES + 2 else "root-hash"
    if named == entry.segment:
        if start + length > len(prefix) and len(prefix) < PREFIX_BYTES:
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
    return "wrong-window" if root.first_window != entry.window else "root-hash"
