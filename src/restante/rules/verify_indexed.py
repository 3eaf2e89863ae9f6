"""Pages of a segment that is read through an index: its own root and tables are not needed."""

from collections.abc import Sequence
from itertools import pairwise

from restante.errors import VerificationFailed
from restante.formats.descriptor import Descriptor
from restante.formats.layout import Layout, PageRange
from restante.formats.page import Member, PageRow
from restante.formats.root import SegmentRoot
from restante.formats.segment import check_directory
from restante.rules.committed import Committed
from restante.rules.query import Mode
from restante.rules.verify import SetFault, renamed
from restante.rules.verify_index import Child
from restante.rules.verify_page import PageReader, pages_of
from restante.rules.verify_segment import Piece, key_ranges


class IndexedSegment:
    """What a mode reads of one child of an index: `take` while `needs` names pieces.

    The index stands for the segment's page table and directory, and is held to it: topic keys that
    it says are there must be in the pages, and no others of the ranges that were read whole.
    """

    def __init__(
        self, d: Descriptor, child: Child, mode: Mode, topics: Sequence[bytes], windows: range
    ) -> None:
        told, span = child.told, child.span
        self.of = Committed(span, told.cid)
        self._child = child
        self._reader = PageReader(d)
        self._root = SegmentRoot(
            set_id=d.set_id,
            level=span.level,
            first_window=span.first,
            windows=span.windows,
            count=told.envelopes,
            bytes_=told.bytes_,
            sent_min=told.sent_min,
            sent_max=told.sent_max,
            depth=told.depth,
            pages=(),
            page_blocks=None,
            directory=(),
            directory_blocks=None,
        )
        self._ranges = key_ranges(mode, topics, d.set_id, told.depth)
        self._members: dict[int, list[Member]] = {}
        self._shown: set[int] = set()
        self._following: dict[PageRow, PageRow] = {}
        rows = self._rows(mode, windows)
        layout = Layout(told.cid, self._root, (), (), told.pages_start)
        self._wanted: list[PageRange] = layout.page_ranges(rows)
        self._needed = [
            Piece(each.part, each.offset, each.length, "pages", number)
            for number, each in enumerate(self._wanted)
        ]
        if not self._needed:
            self._check_keys()

    def _rows(self, mode: Mode, windows: range) -> list[PageRow]:
        """The rows of the pages to read, in the order of the page table."""
        depth = self._child.told.depth
        wanted: set[PageRow] = set()
        for run in self._child.runs:
            self._following.update(pairwise(run))
            for low, high in self._ranges:
                if mode != "exact":
                    wanted.update(row for row in run if low <= row.topic_key <= high)
                elif low in self._child.keys:
                    found = pages_of(run, low, depth, windows)
                    wanted.update(run[i] for i in found.rows)
                    if found.shown:
                        self._shown.add(low)
        return sorted(wanted, key=lambda row: (row.part, row.offset))

    def needs(self) -> list[Piece]:
        """What is to be fetched and taken; empty once everything was verified."""
        return list(self._needed)

    def take(self, piece: Piece, data: bytes) -> None:
        """Verify one of the pieces of `needs`.

        Raises VerificationFailed `truncated`, `page-hash`; SetFault `page-content`, `sent-bounds`,
        `index-contradicts-page`.
        """
        if piece not in self._needed:
            raise RuntimeError("nobody asked for that piece")
        if len(data) < piece.length:
            raise VerificationFailed(
                f"{self.of}, pages: {len(data)} of {piece.length} bytes", code="truncated"
            )
        with renamed({"block-hash": "page-hash"}):
            pages = self._wanted[piece.number].pages(data[: piece.length])
        members: list[Member] = []
        for row, page in pages:
            members += self._reader.members(self._root, row, page, self._following.get(row))
        self._members[piece.number] = members
        self._needed.remove(piece)
        if not self._needed:
            self._check_keys()

    def members(self) -> list[Member]:
        """The members of every page that was read, in the segment's order."""
        if self._needed:
            raise RuntimeError("the segment is not read to the end")
        return [member for n in sorted(self._members) for member in self._members[n]]

    def _check_keys(self) -> None:
        members, told = self.members(), self._child.told
        held = [member.topic_key for member in members]
        sent = (told.sent_min or 0, told.sent_max or 0)
        if any(not sent[0] <= member.sent_s <= sent[1] for member in members):
            raise SetFault("an index knows other sent times", code="index-contradicts-page")
        try:
            for low, high in self._ranges:
                check_directory(self._child.keys, [*held, *self._shown], low, high)
        except VerificationFailed as error:
            raise SetFault(f"{self.of}: {error}", code="index-contradicts-page") from error
