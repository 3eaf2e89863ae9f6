"""Which objects hold a range of windows: disjoint, exact, in order, and as few as there are.

It is arithmetic, from the descriptor and the tree size alone, until an entry or an index says that
a roll-up is *none*: then its windows are covered by the level below. An object at the edge of the
range whose children may have been released already is taken whole, and what is outside left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

from restante.formats.descriptor import Descriptor
from restante.formats.level import (
    Span,
    body_levels,
    children_kept_until,
    entry_window,
    is_index,
    span_of,
)
from restante.rules.query import Mode


class Step(NamedTuple):
    """One object of a cover, and what of it belongs to the range."""

    span: Span
    windows: range
    """Those asked for, within the span."""


class Cover:
    """What covers windows at a tree size, from left to right.

    Modes `bucket` and `exact` take the largest spans within the range, and read the segments just
    below an index through it. Mode `all` takes the smallest that are surely still there, since it
    holds all records of the segment that it reads: those of the level below the index at most.
    """

    def __init__(self, d: Descriptor, size: int, mode: Mode) -> None:
        """`size` is the checkpoint's: only entries below it can be read."""
        self.d = d
        self.size = size
        self.mode = mode
        self._bodies = body_levels(d)
        self._none: set[Span] = set()

    def is_none(self, span: Span) -> None:
        """Take note that a body roll-up was not made: nor were those above it, which hold more."""
        for level in range(span.level, self._bodies.stop):
            self._none.add(span_of(self.d, level, span.first))

    def steps(self, windows: range) -> Iterator[Step]:
        """The steps of windows below the tree size, each as what is known by then demands it."""
        while windows:
            step = self.first(windows)
            yield step
            windows = range(step.windows.stop, windows.stop)

    def first(self, windows: range) -> Step:
        """The step that begins a range of windows; what it leaves of them is the next one's."""
        step = next(self.segments(windows))
        index = self._index_over(step.span)
        if index is None:
            return step
        stop = self._below(index, step, windows.stop)
        for more in self.segments(range(stop, windows.stop)):
            if self._index_over(more.span) != index:
                break
            stop = more.windows.stop
        return Step(index, range(windows.start, stop))

    def _below(self, index: Span, first: Step, stop: int) -> int:
        """Where the run of whole segments below an index ends that `first` begins, at the latest
        at `stop`: what `segments` would give, without a look at each."""
        of = first.span
        end = min(index.stop, stop) // of.windows
        gaps = (none.number for none in self._none if none.level == of.level)
        end = min((gap for gap in gaps if of.number < gap < end), default=end)
        return max(first.windows.stop, end * of.windows)

    def segments(self, windows: range) -> Iterator[Step]:
        """The segments that hold windows, also where an index stands over them."""
        while windows:
            span = self._segment(windows)
            stop = min(span.stop, windows.stop)
            yield Step(span, range(windows.start, stop))
            windows = range(stop, windows.stop)

    def _segment(self, windows: range) -> Span:
        """The segment that holds the first windows of a range."""
        if self.mode == "all":
            spans = (span_of(self.d, level, windows.start) for level in self._bodies)
            return next(span for span in spans if self._stands(span) and self._is_kept(span))
        span = span_of(self.d, 0, windows.start)
        for level in self._bodies[1:]:
            larger = span_of(self.d, level, windows.start)
            if larger.first < windows.start or larger.stop > windows.stop:
                break
            if not self._stands(larger):
                break
            span = larger
        while not self._is_kept(span):
            span = span_of(self.d, span.level + 1, span.first)
        return span

    def holding(self, window: int) -> list[Span]:
        """All segments that hold a window, as far as is known; the largest last."""
        spans = [span_of(self.d, level, window) for level in self._bodies]
        return [span for span in spans if self._stands(span)]

    def parent(self, span: Span) -> Span | None:
        """The roll-up of bodies that a segment is part of, if it stands."""
        if span.level + 1 not in self._bodies:
            return None
        above = span_of(self.d, span.level + 1, span.first)
        return above if self._stands(above) else None

    def _stands(self, span: Span) -> bool:
        """Whether the tree has the entry that names it, and nothing says that it is none."""
        return entry_window(self.d, span) < self.size and span not in self._none

    def _is_kept(self, span: Span) -> bool:
        """Whether a publisher surely keeps it still, but for its retention."""
        above = self.parent(span)
        return above is None or self.size - 1 <= children_kept_until(self.d, above)

    def _index_over(self, span: Span) -> Span | None:
        """The index that a segment is to be read through."""
        level = span.level + 1
        if self.mode == "all" or level > len(self.d.levels) or not is_index(self.d, level):
            return None
        index = span_of(self.d, level, span.first)
        return index if entry_window(self.d, index) < self.size else None
