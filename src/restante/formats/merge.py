"""A roll-up of bodies: the records of the spans below, merged by topic key and cut into pages anew.

Children cover windows that follow one another, and each holds its records by (topic key, window,
…): taken in the children's order within each topic key, they are in the parent's order. So nothing
is sorted or hashed again but the pages, no more than a page of each child is held, and the same
bytes come out whatever lower level it is made from.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Protocol

from restante.errors import VerificationFailed
from restante.formats.cut import Block, Record, cut
from restante.formats.level import Span
from restante.formats.page import PageRow, depth_of, parse
from restante.formats.page import topic_key as key_of
from restante.formats.root import SegmentRoot
from restante.formats.segment import Place, SetParameters, Totals, make_head


class Child(Protocol):
    """A segment that is merged, read block by block; whoever reads has checked every hash."""

    @property
    def root(self) -> SegmentRoot: ...

    def rows(self) -> Iterable[PageRow]:
        """The page table."""
        ...

    def page(self, row: PageRow) -> bytes:
        """The page of a row."""
        ...


TopicOf = Callable[[bytes], bytes]


def totals_of(roots: Sequence[SegmentRoot]) -> Totals:
    """What children add up to."""
    sent_min = [root.sent_min for root in roots if root.sent_min is not None]
    sent_max = [root.sent_max for root in roots if root.sent_max is not None]
    return Totals(
        count=sum(root.count for root in roots),
        bytes_=sum(root.bytes_ for root in roots),
        sent_min=min(sent_min, default=None),
        sent_max=max(sent_max, default=None),
    )


class Merging:
    """One roll-up in the making: iterate over `pages`, then take the `head` that goes before them.

    Raises VerificationFailed `rollup-children` for children that are not the span's windows in
    order, or whose pages do not hold what their roots say.
    """

    def __init__(
        self, d: SetParameters, span: Span, children: Sequence[Child], topic_of: TopicOf
    ) -> None:
        self._d = d
        self._span = span
        self._children = children
        self._topic_of = topic_of
        self._directory = array("I")
        self._count = 0
        self.rows: list[PageRow] = []
        """The page table so far."""
        roots = [child.root for child in children]
        at = span.first
        for root in roots:
            if root.set_id != d.set_id or root.first_window != at:
                raise _children("they are not the windows of the span, in order")
            at += root.windows
        if at != span.stop:
            raise _children("they do not cover the span")
        self._totals = totals_of(roots)
        self._depth = depth_of(self._totals.bytes_, d.bucket_bits)

    def pages(self) -> Iterator[tuple[PageRow, bytes]]:
        """The pages with their rows, in order, as they are made."""
        streams = [self._records(child) for child in self._children]
        records = streams[0] if len(streams) == 1 else merge(*streams, key=itemgetter(0))
        span = self._span
        counted = self._counted(records)
        for row, page in cut(counted, span.first, span.windows, self._depth, self._directory):
            self.rows.append(row)
            yield row, page
        if self._count != self._totals.count:
            raise _children("their pages hold another number of records than their roots say")

    def head(self) -> tuple[bytes, SegmentRoot, list[Block]]:
        """(root CID, root, the blocks before the pages), once all pages were taken."""
        span = self._span
        place = Place(span.level, span.first, span.windows)
        return make_head(
            self._d.set_id, place, self._totals, self._depth, self.rows, self._directory
        )

    def _counted(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self._count += 1
            yield record

    def _records(self, child: Child) -> Iterator[Record]:
        topic_of, set_id = self._topic_of, self._d.set_id
        first, windows = child.root.first_window, child.root.windows
        known, key = b"", -1
        for row in child.rows():
            for window, raw in parse(child.page(row), first, windows):
                topic = topic_of(raw)
                if topic != known:
                    # In order of keys, so a topic's records follow one another.
                    known, key = topic, key_of(set_id, topic)
                yield key, window, raw


def _children(message: str) -> VerificationFailed:
    return VerificationFailed(f"children of a roll-up: {message}", code="rollup-children")


def bucket_counts(root: SegmentRoot, rows: Iterable[PageRow], depth: int) -> list[int]:
    """Records in each of the 2^depth topic buckets; depth is at most the segment's own."""
    if depth > root.depth:
        raise ValueError("counts are known to a segment's own depth only")
    counts = [0] * (1 << depth)
    for row in rows:
        counts[row.topic_key >> (32 - depth)] += row.records
    return counts


def check_conserved(
    parent: SegmentRoot,
    rows: Iterable[PageRow],
    children: Sequence[tuple[SegmentRoot, Sequence[PageRow]]],
) -> None:
    """That a roll-up holds in every bucket what its children hold, at the coarsest depth of all.

    Raises VerificationFailed `rollup-contradicts-children`. It says nothing of which records.
    """
    depth = min([parent.depth, *(root.depth for root, _ in children)])
    expected = [0] * (1 << depth)
    for root, own in children:
        for bucket, count in enumerate(bucket_counts(root, own, depth)):
            expected[bucket] += count
    totals = totals_of([root for root, _ in children])
    claimed = Totals(parent.count, parent.bytes_, parent.sent_min, parent.sent_max)
    if claimed != totals or bucket_counts(parent, rows, depth) != expected:
        raise VerificationFailed(
            f"the roll-up of {parent.windows} windows from {parent.first_window} on holds other "
            "records than its children",
            code="rollup-contradicts-children",
        )
