"""Which segments an archive has to hold, and which it gives up.

Two clocks, both the operator's own. *Retention*: below the floor entry bundles and certificates go
that lie wholly below, and a segment once all its windows do; `tile/` stays. *Children*: once a
roll-up of bodies has stood in the log for some windows, the segments that it was made of go; where
it is none they stay, since nothing else holds their envelopes.

A mark goes up before anything goes, so that nobody is promised it any more, and a second one
follows once it is queued for the stores and gone from here: after a crash the rest is repeated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from restante import limits
from restante.durable import Hook, no_hook, remove_file
from restante.formats import tiles
from restante.formats.level import (
    Leveled,
    Span,
    body_levels,
    children,
    entry_window,
    span,
    span_of,
    windows_of,
)
from restante.node.durable.archive import Archive, Changes
from restante.node.durable.blocks import BlockIndex
from restante.node.durable.rollups import Named


class Demand(Enum):
    """What an archive owes of a segment that the log names."""

    KEPT = "it must be there"
    EITHER = "it may be gone"
    GONE = "it must be gone"


@dataclass(slots=True)
class Marks:
    """How far releases have come: what may be gone, and what is."""

    floor: int
    """The lowest window that is kept."""
    floor_done: int
    children: dict[int, int] = field(default_factory=dict)
    """Level of bodies → the first span whose children must be there."""
    children_done: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, index: BlockIndex, d: Leveled, floor: int) -> "Marks":
        """What the index has noted; `floor` where it has not."""

        def mark(name: str, default: int = 0) -> int:
            found = index.mark(name)
            return default if found is None else found

        levels = body_levels(d)[1:]
        return cls(
            mark("floor", floor),
            mark("released", floor),
            {level: mark(f"children-{level}") for level in levels},
            {level: mark(f"children-{level}-released") for level in levels},
        )

    def write(self, index: BlockIndex) -> None:
        """Note them; a change of one is whole or not at all."""
        index.set_mark("floor", self.floor)
        index.set_mark("released", self.floor_done)
        for level, number in self.children.items():
            index.set_mark(f"children-{level}", number)
        for level, number in self.children_done.items():
            index.set_mark(f"children-{level}-released", number)

    def demand(self, d: Leveled, of: Span, is_none: Callable[[Span], bool]) -> Demand:
        """What is owed of a segment that the log names; `is_none` is asked of the roll-up above."""
        if of.stop <= self.floor:
            return Demand.GONE if of.stop <= self.floor_done else Demand.EITHER
        if of.level + 1 in self.children:
            parent = span_of(d, of.level + 1, of.first)
            if parent.number < self.children[parent.level] and not is_none(parent):
                done = parent.number < self.children_done[parent.level]
                return Demand.GONE if done else Demand.EITHER
        return Demand.KEPT


@dataclass(frozen=True, slots=True)
class Release:
    """A group of segments and bundles that go."""

    spans: list[Span]
    bundles: list[str]
    changes: Changes
    """For the stores' queue, before anything goes from here."""
    marks: Marks
    """As they are once all of it is gone."""


class Keeping:
    """Releases of one archive: `plan`, queue its changes, `carry_out`; until there is no plan.

    One thread at a time, which need not be the archive's writer.
    """

    def __init__(self, archive: Archive, hook: Hook = no_hook) -> None:
        self._archive = archive
        self._d = archive.d
        self._hook = hook

    def marks(self) -> Marks:
        """How far releases have come."""
        return Marks.read(self._archive.segments.index, self._d, self._archive.floor)

    def rollup(self, of: Span) -> bytes | None:
        """The root's CID that the log names for a span of a level above 0; None for none.

        Raises ValueError where the log has not come that far, Unavailable below the floor.
        """
        window = entry_window(self._d, of)
        return dict(self._archive.named(window, window + 1))[of]

    def children(self, of: Span) -> list[Named]:
        """The segments that a roll-up was made of, as the log names them. Raises as `rollup`."""
        below = children(self._d, of)
        if of.level > 1:
            return [Named(each, self.rollup(each)) for each in below]
        named = dict(self._archive.named(of.first, of.stop))
        return [Named(each, named[each]) for each in below]

    # --- what is missing

    def missing(self, start: int, stop: int) -> list[Span]:
        """The segments that the log names, with a window in [start, stop), which must be here and
        are not. Batches first. Raises Unavailable, StateError."""
        marks = self.marks()
        named = dict(self._archive.named(max(start, marks.floor), self._archive.stop))
        here = {
            level: set(self._archive.segments.numbers(level))
            for level in range(len(self._d.levels) + 1)
        }

        def is_none(parent: Span) -> bool:
            return named.get(parent) is None

        return sorted(
            of
            for of, cid in named.items()
            if cid is not None
            and of.number not in here[of.level]
            and of.first < stop
            and of.stop > start
            and marks.demand(self._d, of, is_none) is Demand.KEPT
        )

    # --- what goes

    def plan(self, floor: int, kept_windows: int, recent: int) -> Release | None:
        """What goes next, a bounded group; None when nothing does.

        `floor` is the lowest window to keep, `kept_windows` how long children stay after the entry
        of their roll-up, `recent` how many of the newest windows' batches stay whatever else holds.
        Their marks go up here. Raises Unavailable, StateError.
        """
        marks = self.marks()
        self._raise_marks(marks, floor, kept_windows, recent)
        spans = list(self._children(marks))
        bundles = self._below_floor(marks, spans)
        if marks == self.marks():
            return None
        segments = self._archive.segments
        paths = [p for s in spans for p in reversed(segments.paths(s.level, s.number))]
        return Release(spans, bundles, Changes((), tuple(paths + bundles)), marks)

    def carry_out(self, release: Release) -> None:
        """Remove what goes, then say that it is gone. Raises OSError."""
        archive = self._archive
        for each in release.spans:
            archive.segments.remove(each.level, each.number)
        for path in release.bundles:
            remove_file(archive.directory / path, hook=self._hook, step="archive.release")
        release.marks.write(archive.segments.index)

    def _raise_marks(self, marks: Marks, floor: int, kept_windows: int, recent: int) -> None:
        stop = self._archive.stop
        marks.floor = max(marks.floor, min(floor, stop - recent))
        for level in marks.children:
            # A span p is past its time if (p + 1) · windows − 1 + lag + kept < newest window.
            past = stop - 1 - self._d.rollup_lag - kept_windows
            if level == 1:
                past = min(past, stop - recent)
            number = marks.children[level]
            most = min(past // windows_of(self._d, level), number + limits.RELEASE_GROUP)
            while number < most and self._may_replace(span(self._d, level, number), marks):
                number += 1
            marks.children[level] = number
        marks.write(self._archive.segments.index)

    def _may_replace(self, parent: Span, marks: Marks) -> bool:
        """Whether a roll-up need not be made, or fetched, from its children any more."""
        if parent.stop <= marks.floor or self._archive.segments.has(parent.level, parent.number):
            return True
        if self.rollup(parent) is None:
            return True
        return marks.demand(self._d, parent, self._is_none) is not Demand.KEPT

    def _is_none(self, parent: Span) -> bool:
        return self.rollup(parent) is None

    def _children(self, marks: Marks) -> Iterator[Span]:
        """The children that go, of the first spans that are past their time."""
        for level, mark in marks.children.items():
            done = marks.children_done[level]
            stop = min(mark, done + limits.RELEASE_GROUP)
            for number in range(done, stop):
                parent = span(self._d, level, number)
                if parent.stop > marks.floor and self.rollup(parent) is not None:
                    yield from children(self._d, parent)
            marks.children_done[level] = stop

    def _below_floor(self, marks: Marks, spans: list[Span]) -> list[str]:
        """Add the spans that lie wholly below the floor; the bundles that do."""
        done = marks.floor_done
        floor = min(marks.floor, done + limits.RELEASE_GROUP)
        for level in range(len(self._d.levels) + 1):
            windows = windows_of(self._d, level)
            numbers = range(done // windows, floor // windows)
            spans += [span(self._d, level, number) for number in numbers]
        marks.floor_done = floor
        first = self._d.first_window
        numbers = range((done - first) // tiles.WIDTH, (floor - first) // tiles.WIDTH)
        return [path(n) for n in numbers for path in (tiles.entries_path, tiles.certificate_path)]
