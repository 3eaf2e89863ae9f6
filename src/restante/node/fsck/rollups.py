"""The roll-ups' part of fsck: the log names what it must, and every file is what the log names.

A roll-up whose children are here is made again from them. Where they were given up, its records
must add up to the log entry of every window, each envelope be valid there, and none stand twice.
Everything is streamed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from restante import limits
from restante.errors import Invalid, InvalidEncoding, Unavailable
from restante.formats import car, index_cut
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry, check_rollups
from restante.formats.level import Span, children, due_at, entry_window, is_index, span
from restante.formats.merge import Merging
from restante.formats.paths import segment_path
from restante.node.durable.keeping import Demand, Marks
from restante.node.durable.segments import segment_numbers
from restante.node.fsck.car_files import check_files, reading
from restante.node.fsck.contents import Bodies, Wrong, check_index, sum_of
from restante.node.fsck.findings import Progress, Report
from restante.node.segment_reader import TOPIC_OF, IndexReader, SegmentReader
from restante.rules.rollup import is_made
from restante.rules.valid import Facts


class Owed:
    """What an archive owes of each segment, as far as its marks say."""

    def __init__(self, directory: Path, d: Descriptor, marks: Marks | None) -> None:
        """Without marks (their file is gone) a segment may be gone where the one above is here."""
        self.named: dict[Span, bytes | None] = {}
        """What the entries that are kept name."""
        self.whole: set[Span] = set()
        """What was read and is what the log names."""
        self.here = {
            level: set(segment_numbers(directory, level)) for level in range(len(d.levels) + 1)
        }
        self._d = d
        self._marks = marks or Marks(d.first_window, d.first_window)
        if marks is None:
            for level in range(1, len(d.levels) + 1):
                if not is_index(d, level):
                    self._marks.children[level] = max(self.here[level], default=-1) + 1
                    self._marks.children_done[level] = 0

    def demand(self, of: Span) -> Demand:
        """Whether a segment that the log names must be here."""
        return self._marks.demand(self._d, of, lambda parent: self.named.get(parent) is None)

    def is_released(self, of: Span) -> bool:
        """Whether all its windows lie below what is kept."""
        return of.stop <= self._marks.floor


class RollUpCheck:
    """One pass over the roll-ups of an archive."""

    def __init__(
        self,
        directory: Path,
        d: Descriptor,
        owed: Owed,
        entries: Mapping[int, LogEntry],
        stop: int,
        examine: Callable[[bytes], Facts],
        report: Report,
        progress: Progress,
    ) -> None:
        """`entries` by window, as far as they are kept; `stop` is the window after the log."""
        self._directory = directory
        self._d = d
        self._owed = owed
        self._entries = entries
        self._stop = stop
        self._examine = examine
        self._report = report
        self._progress = progress
        self._unnamed: dict[Span, bytes] = {}
        """Roll-ups that are right and whose entry is still to come."""

    def run(self) -> None:
        """Check what the log names, then the files, in order of levels."""
        for entry in self._entries.values():
            self._check_entry(entry)
        spans = sorted(s for s, cid in self._owed.named.items() if s.level and cid is not None)
        for done, each in enumerate(spans):
            self._check_span(each)
            self._progress("roll-ups", done + 1, len(spans))
        for level, numbers in self._owed.here.items():
            for number in sorted(numbers):
                self._check_unnamed(span(self._d, level, number))

    # --- the log

    def _check_entry(self, entry: LogEntry) -> None:
        """That it names the roll-ups that are due there, and none only for what is too large."""
        detail = f"the entry of window {entry.window}"
        try:
            check_rollups(entry, self._d)
        except InvalidEncoding as error:
            self._report.add("rollup-due", "archive/tile/entries", f"{detail}: {error}")
            return
        due = due_at(self._d, entry.window)
        for each, cid in zip(due, entry.rollups, strict=True):
            windows = range(each.first, each.stop)
            if is_index(self._d, each.level) or not all(w in self._entries for w in windows):
                continue
            committed = sum(self._entries[w].bytes_ for w in windows)
            if is_made(self._d, each, committed) != (cid is not None):
                what = "names a roll-up" if cid is not None else "names none"
                detail = f"{detail} {what} over {committed:,} bytes"
                self._report.add("rollup-limit", "archive/tile/entries", detail)

    # --- the files

    def _check_span(self, each: Span) -> None:
        demand = self._owed.demand(each)
        if each.number not in self._owed.here[each.level]:
            if demand is Demand.KEPT:
                self._add("rollup-missing", each, _described(each))
            return
        if demand is Demand.GONE:
            self._add("segment-unreleased", each, "it was given up")
        cid = self._owed.named[each]
        assert cid is not None
        reader = self._opened(each, cid)
        if reader is None:
            return
        try:
            if isinstance(reader, IndexReader):
                self._check_index(each, reader)
            else:
                self._check_bodies(each, reader)
        except Wrong as wrong:
            self._add(wrong.code, each, str(wrong))

    def _opened(self, each: Span, cid: bytes) -> SegmentReader | IndexReader | None:
        """The roll-up, all its files' bytes checked; None, and a finding, if they are damaged."""
        read = reading(self._directory, each)
        try:
            found, _ = car.read_header(read(0, 0, car.HEADER_BYTES))
            kind = IndexReader if is_index(self._d, each.level) else SegmentReader
            reader = kind(self._d, each, found, read)
            if found != cid:
                self._add("rollup", each, "it is another one than the log names")
                return None
            check_files(read, cid, reader.sections())
        except (Invalid, Unavailable) as error:
            code = "rollup"
            if error.code == "root-contradicts-entry":
                code = "rollup-span" if found == cid else "rollup-misplaced"
            self._add(code, each, f"{error} ({error.code})")
            return None
        return reader

    def _check_bodies(self, each: Span, reader: SegmentReader) -> None:
        below = self._children(each)
        if below is not None and _merged(self._d, each, below) == reader.cid:
            self._is_whole(each)
            return
        bodies = Bodies(self._d, each, reader, self._examine)
        records = bodies.check(self._entries)
        if below is not None:
            if records != sum_of(below):
                raise Wrong("rollup-records", "it holds other records than its children")
            raise Wrong("rollup-pages", "its pages are cut otherwise than its children's records")
        self._is_whole(each)
        self._report.envelopes += bodies.envelopes
        self._report.envelope_bytes += bodies.bytes_

    def _check_index(self, each: Span, reader: IndexReader) -> None:
        below = self._sources(each)
        if below is not None:
            if index_cut.build(self._d.set_id, each, below).root_cid != reader.cid:
                check_index(reader, below)
        else:
            for child, said in zip(children(self._d, each), reader.root.children, strict=True):
                named = self._cid(child)
                if child in self._owed.named and named != (said.cid if said else None):
                    raise Wrong("index-children", f"it says another CID of {_described(child)}")
        self._report.indexes += 1

    def _is_whole(self, each: Span) -> None:
        self._report.rollups += 1
        self._owed.whole.add(each)

    # --- children

    def _cid(self, each: Span) -> bytes | None:
        return self._owed.named.get(each) or self._unnamed.get(each)

    def _children(self, each: Span) -> list[SegmentReader] | None:
        """What a roll-up of bodies was made of; None if it is not all here, and whole."""
        found = self._sources(each)
        if found is None or None in found:
            return None
        return [reader for reader in found if reader is not None]

    def _sources(self, each: Span) -> list[SegmentReader | None] | None:
        """The children, None for one that was not made; None if they are not all here."""
        found: list[SegmentReader | None] = []
        for child in children(self._d, each):
            if child not in self._owed.named and child not in self._unnamed:
                return None
            cid = self._cid(child)
            if cid is None:
                found.append(None)
            elif child in self._owed.whole:
                read = reading(self._directory, child)
                found.append(SegmentReader(self._d, child, cid, read))
            else:
                return None  # it has its own finding, or was given up
        return found

    # --- files that no entry names

    def _check_unnamed(self, each: Span) -> None:
        if self._owed.named.get(each) is not None:
            return
        if self._owed.is_released(each):
            if self._owed.demand(each) is Demand.GONE:
                self._add("segment-unreleased", each, "it was given up")
            return
        if each.level == 0 and each.number < self._stop + limits.COMMIT_GROUP_WINDOWS:
            return  # a batch is written before it is decided
        if each.level == 0 or each.stop > self._stop or each in self._owed.named:
            self._add("segment-stray", each, "the log names no such segment")
            return
        if entry_window(self._d, each) >= self._stop:
            self._check_early(each)

    def _check_early(self, each: Span) -> None:
        """A roll-up that is here before its entry: the next start takes it for what it must be."""
        read = reading(self._directory, each)
        below = self._sources(each)
        if below is None:
            return
        expected: bytes | None = None
        if is_index(self._d, each.level):
            expected = index_cut.build(self._d.set_id, each, below).root_cid
        elif (bodies := self._children(each)) is not None:
            expected = _merged(self._d, each, bodies)
        if expected is None:
            return
        try:
            kind = IndexReader if is_index(self._d, each.level) else SegmentReader
            check_files(read, expected, kind(self._d, each, expected, read).sections())
        except (Invalid, Unavailable) as error:
            self._add("rollup", each, f"{error} ({error.code})")
        else:
            self._unnamed[each] = expected
            self._owed.whole.add(each)

    def _add(self, code: str, each: Span, detail: str) -> None:
        self._report.add(code, f"archive/{segment_path(each.level, each.number)}", detail)


def _merged(d: Descriptor, each: Span, below: Sequence[SegmentReader]) -> bytes | None:
    """The root's CID of the roll-up that these children make; None if they are at odds."""
    try:
        merging = Merging(d, each, below, TOPIC_OF[d.network])
        for _ in merging.pages():
            pass
        return merging.head()[0]
    except (Invalid, Unavailable):
        return None


def _described(each: Span) -> str:
    return f"the roll-up of windows {each.first} to {each.stop - 1}"
