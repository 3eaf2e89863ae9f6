"""Makes roll-ups from an archive's own segments and installs them: streamed, and the same bytes
again after a crash at any point.

Pages go into temporary files part by part. A later part begins with a header of fixed length that
names the root, and is put there once the root is known; part 0 begins with the head, so its pages
wait in a file of their own. Part 0 appears last: where it is, the others are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from restante.durable import Hook, PendingFile, no_hook, remove_temporaries
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats import car, index_cut
from restante.formats.cut import Block
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.level import Span, is_index
from restante.formats.merge import Child, Merging
from restante.formats.page import PageRow
from restante.formats.paths import segment_path
from restante.formats.root import SegmentRoot
from restante.node.durable.segments import Segments
from restante.node.segment_reader import TOPIC_OF, IndexReader, Read, SegmentReader

_PIECE = 1024 * 1024


class Named(NamedTuple):
    """A span with the root's CID that the log names for it, or will; None if it is not made."""

    span: Span
    cid: bytes | None


class ChildLost(Unavailable):
    """A segment that a roll-up is made of is missing or damaged here."""

    code = "rollup-child"
    hint = "it is fetched again from the stores and the peers"

    def __init__(self, span: Span, error: Exception) -> None:
        super().__init__(f"{segment_path(span.level, span.number)}: {error}")
        self.span = span


class OwnSegment:
    """A segment of the archive as a roll-up's child. Everything raises ChildLost."""

    def __init__(self, d: Descriptor, named: Named, read: Read, go_on: Callable[[], None]) -> None:
        self._span = named.span
        self._go_on = go_on
        assert named.cid is not None
        self.cid = named.cid
        with self._losing():
            self._reader = SegmentReader(d, named.span, named.cid, read)

    @property
    def root(self) -> SegmentRoot:
        return self._reader.root

    @property
    def pages_start(self) -> int:
        return self._reader.pages_start

    def rows(self) -> Iterator[PageRow]:
        """The page table."""
        with self._losing():
            for row in self._reader.rows():
                self._go_on()
                yield row

    def topic_keys(self) -> Iterator[int]:
        """The directory."""
        with self._losing():
            yield from self._reader.topic_keys()

    def page(self, row: PageRow) -> bytes:
        """The page of a row."""
        with self._losing():
            return self._reader.page(row)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (Invalid, Unavailable) as error:
            raise ChildLost(self._span, error) from error


class RollUps:
    """The roll-ups of one archive. Blocking: whoever serves others calls it in a thread."""

    def __init__(self, d: Descriptor, segments: Segments, hook: Hook = no_hook) -> None:
        self._d = d
        self._segments = segments
        self._hook = hook

    def read_of(self, span: Span) -> Read:
        """How the bytes of a segment of the archive are read."""
        level, number = span.level, span.number
        return lambda part, offset, length: self._segments.read(level, number, part, offset, length)

    def open(self, named: Named, go_on: Callable[[], None] = lambda: None) -> OwnSegment:
        """A segment of the archive, its root checked. Raises ChildLost."""
        return OwnSegment(self._d, named, self.read_of(named.span), go_on)

    def found(self, span: Span, entries: Sequence[LogEntry]) -> bytes | None:
        """The root's CID of a roll-up that was installed before, perhaps in an earlier life.

        Its first part appeared last, so that the root there tells: it is hashed, and for bodies
        must add up to the entries of its windows.
        """
        read = self.read_of(span)
        try:
            cid, _ = car.read_header(read(0, 0, car.HEADER_BYTES))
            if is_index(self._d, span.level):
                IndexReader(self._d, span, cid, read)
                return cid
            root = SegmentReader(self._d, span, cid, read).root
        except (Invalid, Unavailable):
            return None
        expected = (sum(e.count for e in entries), sum(e.bytes_ for e in entries))
        return cid if (root.count, root.bytes_) == expected else None

    def make(
        self,
        span: Span,
        children: Iterable[Named],
        expected: bytes | None = None,
        go_on: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Make and install the roll-up of a span, if it is what is expected; its root's CID.

        `go_on` is called again and again, and may break it off. Raises ChildLost, OSError;
        VerificationFailed `root-hash`, and where the children are at odds with each other.
        """
        if not is_index(self._d, span.level):
            return self.write(span, [self.open(child, go_on) for child in children], expected)
        sources = [None if c.cid is None else self.open(c, go_on) for c in children]
        index = index_cut.build(self._d.set_id, span, sources)
        _require(expected, index.root_cid)
        self.write_index(span, index.root_cid, index.blocks)
        return index.root_cid

    def write(self, span: Span, children: Sequence[Child], expected: bytes | None = None) -> bytes:
        """Merge children and install what comes of it, if it is what is expected; the root's CID.

        Raises what the children raise, OSError, VerificationFailed `root-hash`.
        """
        merging = Merging(self._d, span, children, TOPIC_OF[self._d.network])
        files = _PartFiles(self._segments.file, span, self._hook)
        try:
            for row, page in merging.pages():
                files.add(row, page)
            cid, _, head = merging.head()
            _require(expected, cid)
            files.install(cid, head)
        finally:
            files.discard()
        self._segments.note(span.level, span.number)
        return cid

    def write_index(self, span: Span, cid: bytes, blocks: Iterable[Block]) -> None:
        """Install an index. Raises OSError."""
        files = _PartFiles(self._segments.file, span, self._hook)
        try:
            files.install(cid, blocks)
        finally:
            files.discard()
        self._segments.note(span.level, span.number)


def _require(expected: bytes | None, cid: bytes) -> None:
    if expected not in (None, cid):
        raise VerificationFailed("these children make another roll-up", code="root-hash")


class _PartFiles:
    """The CAR files of one segment in the making."""

    def __init__(self, path_of: Callable[[int, int, int], Path], span: Span, hook: Hook) -> None:
        self._path_of = path_of
        self._span = span
        self._hook = hook
        self._parts: list[PendingFile] = []
        """By part; of part 0 its pages alone."""
        remove_temporaries(self._path(0))

    def _path(self, part: int) -> Path:
        return self._path_of(self._span.level, self._span.number, part)

    def add(self, row: PageRow, page: bytes) -> None:
        """Append a page where its row says that it stands."""
        if row.part == len(self._parts):
            self._begin(row.part)
        self._parts[row.part].write(car.section(row.cid, page))

    def _begin(self, part: int) -> None:
        if self._parts:
            # It is complete: have the disk at work meanwhile.
            self._parts[-1].sync()
        path = self._path(part)
        if part:
            remove_temporaries(path)
        pending = PendingFile(path)
        self._parts.append(pending)
        if part:
            pending.write(bytes(car.HEADER_BYTES))

    def install(self, cid: bytes, head: Iterable[Block]) -> None:
        """Give every part its name, the first one last."""
        for pending in reversed(self._parts[1:]):
            pending.overwrite(0, car.header(cid))
            pending.keep(hook=self._hook, step="archive.rollup")
        first = PendingFile(self._path(0))
        try:
            first.write(car.header(cid))
            for each, block in head:
                first.write(car.section(each, block))
            if self._parts:
                for piece in self._parts[0].pieces(_PIECE):
                    first.write(piece)
            first.keep(hook=self._hook, step="archive.rollup")
        finally:
            first.discard()

    def discard(self) -> None:
        """Give up what was not kept."""
        for pending in self._parts:
            pending.discard()
