"""Segments that were built, as what roll-ups and indexes are made of."""

from collections.abc import Iterable, Sequence

from restante.formats.layout import layout_of
from restante.formats.page import PageRow
from restante.formats.root import SegmentRoot
from restante.formats.segment import Segment


class Built:
    """A built segment, read block by block as one from an archive is."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._blocks = dict(segment.blocks)
        self.pages_read = 0

    @property
    def cid(self) -> bytes:
        return self.segment.root_cid

    @property
    def root(self) -> SegmentRoot:
        return self.segment.root

    @property
    def pages_start(self) -> int:
        return layout_of(self.root, self.cid, len(self._blocks[self.cid])).pages_start

    def rows(self) -> Sequence[PageRow]:
        return self.segment.rows

    def page(self, row: PageRow) -> bytes:
        self.pages_read += 1
        return self._blocks[row.cid]

    def topic_keys(self) -> Iterable[int]:
        if self.root.directory is not None:
            return self.root.directory
        blocks = [self._blocks[block.cid] for block in self.root.directory_blocks or ()]
        data = b"".join(blocks)
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]
