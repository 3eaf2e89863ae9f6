"""What a validator process does about roll-ups: makes them late and one after the other, installs
them, and lets their children go.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import sha256

from restante.formats import level, whisper
from restante.formats.entry import parse as parse_entry
from restante.formats.index_cut import build as build_index
from restante.formats.layout import layout_of
from restante.formats.level import Span
from restante.formats.merge import Merging
from restante.formats.page import PageRow
from restante.formats.page import parse as parse_page
from restante.formats.root import SegmentRoot
from restante.formats.segment import Segment
from restante.rules import rollup
from restante.testing.sim.disk import RolledUp
from restante.testing.sim.party import Crash
from restante.testing.sim.serving import ServingParty

RETRY_MS = 1_000


class MissingChild(Exception):
    """A child is not on disk."""


class Held:
    """A segment on disk, as what roll-ups are made from."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._blocks = dict(segment.blocks)

    @property
    def cid(self) -> bytes:
        return self._segment.root_cid

    @property
    def root(self) -> SegmentRoot:
        return self._segment.root

    @property
    def pages_start(self) -> int:
        return layout_of(self.root, self.cid, len(self._blocks[self.cid])).pages_start

    def rows(self) -> Sequence[PageRow]:
        return self._segment.rows

    def page(self, row: PageRow) -> bytes:
        return self._blocks[row.cid]

    def topic_keys(self) -> Iterable[int]:
        assert self.root.directory is not None, "the simulation's directories are small"
        return self.root.directory


class RollingParty(ServingParty):
    """The part of a validator process that works beside everything else."""

    _spans: deque[Span]

    @abstractmethod
    def poll_soon(self) -> None: ...

    @abstractmethod
    def step(self) -> None: ...

    # --- making them --------------------------------------------------------------------------

    def begin_rolling(self) -> None:
        """A process began: nothing is under way."""
        self._spans = deque()

    def roll_up(self, span: Span) -> None:
        """The machine asks for a roll-up."""
        self._spans.append(span)
        if len(self._spans) == 1:
            self._begin()

    def _begin(self) -> None:
        sim, span = self.sim, self._spans[0]
        done = self.disk.rolled_up(span) is not None
        took_ms = 1 if done else sim.plan.rollup_time_ms(self.name, sim.rng)
        sim.world.at(sim.world.now_ms + took_ms, self._end, span, self.life)

    def _end(self, span: Span, life: int) -> None:
        machine = self.machine
        if self.life != life or machine is None:
            return
        try:
            cid = self._rolled_up(span)
        except Crash:
            self.crash()
            return
        except MissingChild:
            self.sim.world.at(self.sim.world.now_ms + RETRY_MS, self._end, span, life)
            return
        self._spans.popleft()
        if self._spans:
            self._begin()
        self.run(lambda now: machine.rolled_up(span, cid, now))
        self.poll_soon()

    def _rolled_up(self, span: Span) -> bytes | None:
        """The root CID of a roll-up that is durable now, or None for none."""
        if not rollup.is_made(self.sim.d, span, self._committed_bytes(span)):
            return None
        found = self.disk.rolled_up(span)
        if found is None:
            found = self._make(span)
            self.sim.history.note("makes", self.name, span.level, span.number)
            self._durably(self.disk.archive, found)
            self.sim.history.note("installs", self.name, span.level, span.number, found.cid)
        self.step()
        return found.cid

    def _committed_bytes(self, span: Span) -> int:
        decided = self.disk.decisions()[span.first : span.stop]
        return sum(parse_entry(decision.entry).bytes_ for decision in decided)

    def _make(self, span: Span) -> RolledUp:
        d = self.sim.d
        if level.is_index(d, span.level):
            index = build_index(d.set_id, span, [self._child(of) for of in level.children(d, span)])
            return RolledUp(span, index.root_cid, index)
        children = self._children(span)
        merging = Merging(d, span, [Held(segment) for segment in children], whisper.topic_of)
        pages = list(merging.pages())
        cid, root, head = merging.head()
        blocks = [*head, *((row.cid, page) for row, page in pages)]
        segment = Segment(cid, root, tuple(merging.rows), blocks)
        return RolledUp(span, cid, segment, records_of(segment))

    def _children(self, span: Span) -> list[Segment]:
        """Of any level below that is whole here: the same bytes come out. Raises MissingChild."""
        levels = list(range(span.level))
        self.sim.rng.shuffle(levels)
        for number in levels:
            windows = level.windows_of(self.sim.d, number)
            numbers = range(span.first // windows, span.stop // windows)
            found = [self._segment(level.span(self.sim.d, number, i)) for i in numbers]
            whole = [segment for segment in found if segment is not None]
            if len(whole) == len(found):
                return whole
        raise MissingChild

    def _child(self, of: Span) -> Held | None:
        """Of an index; None for a roll-up that is none. Raises MissingChild."""
        if of.level and not rollup.is_made(self.sim.d, of, self._committed_bytes(of)):
            return None
        segment = self._segment(of)
        if segment is None:
            raise MissingChild
        return Held(segment)

    def _segment(self, of: Span) -> Segment | None:
        """What is on disk of a span of bodies."""
        if of.level == 0:
            decision = self.disk.decisions()[of.first]
            archived = self.disk.batch(decision.window, decision.cid)
            return None if archived is None else archived.segment
        rolled = self.disk.rolled_up(of)
        return rolled.made if rolled is not None and isinstance(rolled.made, Segment) else None

    # --- what follows from a commit -----------------------------------------------------------

    def require_installed(self, entry: bytes) -> None:
        """What a log entry names is durable here, unless it went since (I6)."""
        parsed = parse_entry(entry)
        due = level.due_at(self.sim.d, parsed.window)
        for span, cid in zip(due, parsed.rollups, strict=False):
            if cid is None or span in self.disk.released:
                continue
            if self.disk.rolled_up(span, cid) is None:
                self.sim.history.lost.append(f"{self.name} names a roll-up that it has not got")

    def release_children(self, window: int) -> None:
        """Let go of what roll-ups in the log make needless, `plan.kept_windows` after them: a day,
        in earnest, or longer than any run."""
        d = self.sim.d
        for entry in map(parse_entry, [decision.entry for decision in self.disk.decisions()]):
            for span, cid in zip(level.due_at(d, entry.window), entry.rollups, strict=False):
                if cid is None or level.is_index(d, span.level):
                    continue
                if level.children_kept_until(d, span) < window:
                    for child in level.children(d, span):
                        if child not in self.disk.released:
                            self.disk.release(child)
                            self.sim.history.note("releases", self.name, *child[:2])


def records_of(segment: Segment) -> tuple[tuple[int, bytes, bytes], ...]:
    """(window, id, envelope) of a segment's pages, in order."""
    root = segment.root
    return tuple(
        (window, sha256(raw).digest(), raw)
        for _, page in segment.blocks[len(segment.blocks) - len(segment.rows) :]
        for window, raw in parse_page(page, root.first_window, root.windows)
    )
