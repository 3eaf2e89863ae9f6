"""Segments and indexes, from whoever serves them."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from restante import limits
from restante.client.failures import SourceFailed
from restante.client.machine import Ask, Machine, Named, got
from restante.client.retention import Retention, describe
from restante.client.roster import Standings, Target, fetch
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span
from restante.formats.paths import segment_path
from restante.rules.committed import Committed
from restante.rules.first_bytes import first_bytes
from restante.rules.query import Mode
from restante.rules.verify_index import Child, TrustedIndex
from restante.rules.verify_indexed import IndexedSegment
from restante.rules.verify_segment import Piece, TrustedSegment

T = TypeVar("T")
MayHold = Callable[[int | None, int | None], bool]
"""Whether a segment with these sent times can hold what is asked for."""


class _Pieces(Protocol):
    """What is read piece by piece."""

    def needs(self) -> list[Piece]: ...

    def take(self, piece: Piece, data: bytes) -> None: ...


class Segments:
    """What one query reads of segments and indexes; all of it raises Unverifiable, Missing,
    SetFault."""

    def __init__(
        self,
        d: Descriptor,
        standings: Standings,
        retention: Retention,
        mode: Mode,
        topics: Sequence[bytes],
    ) -> None:
        self._d = d
        self._standings = standings
        self._retention = retention
        self._mode = mode
        self._topics = topics

    def segment(
        self, of: Committed, windows: range, may_hold: MayHold
    ) -> Machine[TrustedSegment | None]:
        """A segment, read from its root down; None if its sent times show that it is not needed."""
        return self._segment(of, windows, may_hold, keep=False)

    def whole(self, of: Committed, windows: range) -> Machine[TrustedSegment]:
        """The same whatever its sent times, with its blocks."""
        read = yield from self._segment(of, windows, lambda *_: True, keep=True)
        assert read is not None
        return read

    def _segment(
        self, of: Committed, windows: range, may_hold: MayHold, *, keep: bool
    ) -> Machine[TrustedSegment | None]:
        def attempt(source: Named) -> Machine[TrustedSegment | None]:
            trusted = TrustedSegment(self._d, of, self._mode, self._topics, windows, keep=keep)
            yield from _begin(source, of, trusted, self._first(of))
            if trusted.needs() and trusted.needs()[0].kind == "root":
                yield from _take(source, of.span, trusted)
            root = trusted.layout.root
            if not may_hold(root.sent_min, root.sent_max):
                return None
            while trusted.needs():
                yield from _take(source, of.span, trusted)
            return trusted

        return self._verified(of.span, windows, attempt)

    def index(self, of: Committed, windows: range) -> Machine[TrustedIndex]:
        """An index, with the blocks of the query's topics."""

        def attempt(source: Named) -> Machine[TrustedIndex]:
            trusted = TrustedIndex(self._d, of, self._mode, self._topics, windows)
            yield from _begin(source, of, trusted, self._first(of))
            while trusted.needs():
                yield from _take(source, of.span, trusted)
            return trusted

        return self._verified(of.span, windows, attempt)

    def indexed(self, child: Child, windows: range) -> Machine[IndexedSegment]:
        """What of a segment is read through an index."""

        def attempt(source: Named) -> Machine[IndexedSegment]:
            trusted = IndexedSegment(self._d, child, self._mode, self._topics, windows)
            while trusted.needs():
                yield from _take(source, child.span, trusted)
            return trusted

        return self._verified(child.span, windows, attempt)

    def _first(self, of: Committed) -> int:
        return first_bytes(of, self._d.bucket_bits, whole=self._mode == "all")

    def _verified(
        self, span: Span, windows: range, attempt: Callable[[Named], Machine[T]]
    ) -> Machine[T]:
        """`attempt` at one source after the other; those that released these windows say so."""

        def explained(source: Named) -> Machine[T]:
            self._retention.require(source, windows)
            try:
                return (yield from attempt(source))
            except SourceFailed as error:
                yield from self._retention.explain(source, windows, error)
                raise

        what = f"the segment of {describe(self._d, span.first, span.stop)}"
        target = Target(what, _path(span))
        return self._standings.verified(target, explained)


def _begin(
    source: Named, of: Committed, trusted: TrustedSegment | TrustedIndex, asked: int
) -> Machine[None]:
    data = yield from fetch(source, _path(of.span), asked, length=asked)
    trusted.read_prefix(data, asked)


def _take(source: Named, span: Span, trusted: _Pieces) -> Machine[None]:
    """All that is needed next: in one round, but for what may not be held at once."""
    left = trusted.needs()
    queued = False
    while left:
        size, count = left[0].length, 1
        while count < len(left) and size + left[count].length <= limits.CLIENT_AHEAD_BYTES:
            size, count = size + left[count].length, count + 1
        now, left = left[:count], left[count:]
        replies = yield [
            Ask(source, _path(span, p.part), p.length, p.offset, p.length, queued=queued)
            for p in now
        ]
        for piece, reply in zip(now, replies, strict=True):
            trusted.take(piece, got(reply))
        queued = True


def _path(span: Span, part: int = 0) -> str:
    return segment_path(span.level, span.number, part)
