"""What roll-ups hold, and what is wrong with one that its children do not make again.

Its files are what the log names, to the last byte: whatever is found here was computed wrongly.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import merge
from itertools import groupby
from operator import itemgetter

from restante.errors import Invalid
from restante.formats import index as indexes
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.index_cut import Source, child_of
from restante.formats.level import Span
from restante.formats.merge import Child
from restante.formats.page import PageRow, bucket_of, parse, topic_key
from restante.node.segment_reader import IndexReader, SegmentReader
from restante.rules.valid import Facts, in_window


class Wrong(Exception):
    """The first thing that is wrong."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(slots=True)
class Counts:
    """What the records of one window add up to, as its log entry has it."""

    count: int = 0
    bytes_: int = 0
    sent_min: int | None = None
    sent_max: int | None = None

    def add(self, sent_s: int, length: int) -> None:
        self.count += 1
        self.bytes_ += length
        self.sent_min = sent_s if self.sent_min is None else min(self.sent_min, sent_s)
        self.sent_max = sent_s if self.sent_max is None else max(self.sent_max, sent_s)


Record = tuple[int, int, int, bytes, bytes]
"""(topic key, window, sent time, id, envelope): records sort as these do."""


class Bodies:
    """One pass over a roll-up of bodies."""

    def __init__(
        self, d: Descriptor, span: Span, reader: SegmentReader, examine: Callable[[bytes], Facts]
    ) -> None:
        self._d = d
        self._span = span
        self._reader = reader
        self._examine = examine
        self.envelopes = 0
        self.bytes_ = 0

    def check(self, entries: Mapping[int, LogEntry]) -> int:
        """Each record in its place, valid in its window and nowhere else, and every window what
        its entry counts, if there is one; a sum over the set of records. Raises Wrong."""
        windows = {window: Counts() for window in range(self._span.first, self._span.stop)}
        keys = self._reader.topic_keys()
        records = 0
        for key, group in groupby(self._records(), key=itemgetter(0)):
            if next(keys, None) != key:
                raise Wrong("rollup-directory", f"it does not name topic key {key:08x}")
            seen: set[bytes] = set()
            for _, window, sent_s, id_, raw in group:
                if id_ in seen:
                    raise Wrong("rollup-repeats", f"envelope {id_.hex()} stands in it twice")
                seen.add(id_)
                if not in_window(sent_s, window, self._d):
                    detail = f"envelope {id_.hex()} lies outside window {window}"
                    raise Wrong("batch-invalid", detail)
                windows[window].add(sent_s, len(raw))
                records += record_hash(window, raw)
        if next(keys, None) is not None:
            raise Wrong("rollup-directory", "it names topic keys that no record has")
        self._check_counts(windows, entries)
        return records

    def _check_counts(self, found: Mapping[int, Counts], entries: Mapping[int, LogEntry]) -> None:
        for window, counts in found.items():
            self.envelopes += counts.count
            self.bytes_ += counts.bytes_
            entry = entries.get(window)
            if entry is None:
                continue
            named = Counts(entry.count, entry.bytes_, entry.sent_min, entry.sent_max)
            if counts != named:
                detail = f"{counts.count} records of window {window}, its entry has {entry.count}"
                raise Wrong("rollup-records", detail)

    def _records(self) -> Iterator[Record]:
        last: Record | None = None
        for row in self._reader.rows():
            page = self._page(row)
            for record in page:
                if last is not None and record[:4] < last[:4]:
                    raise Wrong("rollup-content", "its records are out of order")
                last = record
                yield record

    def _page(self, row: PageRow) -> list[Record]:
        """The records of a page, which is what its row says."""
        root, page = self._reader.root, self._reader.page(row)
        try:
            records = [
                self._record(window, raw)
                for window, raw in parse(page, root.first_window, root.windows)
            ]
        except Invalid as error:
            raise Wrong("rollup-content", str(error)) from error
        if (len(records), *records[0][:2]) != (row.records, row.topic_key, row.window):
            raise Wrong("rollup-content", "a page is not what its row says")
        if bucket_of(records[0][0], root.depth) != bucket_of(records[-1][0], root.depth):
            raise Wrong("rollup-content", "a page spans two topic buckets")
        return records

    def _record(self, window: int, raw: bytes) -> Record:
        facts = self._examine(raw)
        return topic_key(self._d.set_id, facts.topic), window, facts.sent_s, facts.id, raw


def record_hash(window: int, raw: bytes) -> int:
    """What a record adds to the sum over a set: equal sums, equal sets."""
    return int.from_bytes(sha256(window.to_bytes(8, "big") + raw).digest(), "big")


def sum_of(children: Iterable[Child]) -> int:
    """The sum over the records of some segments."""
    return sum(
        record_hash(window, raw)
        for child in children
        for row in child.rows()
        for window, raw in parse(child.page(row), child.root.first_window, child.root.windows)
    )


def check_index(reader: IndexReader, sources: Sequence[Source | None]) -> None:
    """What is wrong with an index that these children do not make. Raises Wrong, always."""
    root = reader.root
    found = tuple(None if source is None else child_of(source) for source in sources)
    if root.children != found:
        pairs = zip(root.children, found, strict=True)
        number = next(i for i, (a, b) in enumerate(pairs) if a != b)
        raise Wrong("index-children", f"it says something else of child {number} than that itself")
    named = groupby(_named_keys(reader), key=itemgetter(0))
    present = [(i, source) for i, source in enumerate(sources) if source is not None]
    held = groupby(merge(*(_held_keys(source, i) for i, source in present)), key=itemgetter(0))
    for (key, masks), (other, numbers) in zip(named, held, strict=False):
        mask = sum(1 << i for _, i in numbers)
        if key != other or any(each != mask for _, each in masks):
            raise Wrong("index-mask", f"topic key {other:08x} is in other children than it says")
    raise Wrong("index-rows", "it names other pages than its children have, or other topics")


def _held_keys(source: Source, number: int) -> Iterator[tuple[int, int]]:
    return ((key, number) for key in source.topic_keys())


def _named_keys(reader: IndexReader) -> Iterator[tuple[int, int]]:
    root = reader.root
    for name, block in reader.index_blocks():
        yield from indexes.check_block(name, block, root).keys.items()
