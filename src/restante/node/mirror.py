"""A copy of somebody's archive, every byte of it verified from the policy down.

What is copied can be served as it is, from a disk or a web server: nobody has to trust who does it.
Files appear in the order that survives: segments, then the log, the checkpoint last. A copy that
broke off goes on where it was; one that is there gets what is new. What the source has given up is
left out, and what was copied before stays.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from restante import limits
from restante.client import Client
from restante.client.failures import ABSENT
from restante.client.roster import Complaint, Roster
from restante.client.sources import Source
from restante.durable import make_directories, no_hook, read_range, write_file
from restante.errors import Invalid, RestanteError, Unavailable, VerificationFailed
from restante.formats import tiles
from restante.formats.contact import ContactNote, WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry, check_rollups
from restante.formats.entry import parse as parse_entry
from restante.formats.level import Span, due_at, is_index
from restante.formats.message import Certificate
from restante.formats.page import PageRow
from restante.formats.paths import segment_path
from restante.formats.policy import VerifiedCheckpoint
from restante.formats.root import SegmentRoot
from restante.node.durable.archive import STATE
from restante.node.durable.rollups import RollUps
from restante.node.durable.segments import Segments
from restante.node.segment_reader import IndexReader, Read, SegmentReader

T = TypeVar("T")
_TILE_BYTES = tiles.WIDTH * 32
_BUNDLE_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)
_CERTIFICATES_BYTES = tiles.WIDTH * (2 + limits.MESSAGE_OVERHEAD_BYTES)

Progress = Callable[[str, int, int], None]
"""What is copied, how many of them are done, of how many."""


@dataclass(slots=True)
class Copied:
    """What a call did."""

    size: int = 0
    """Tree size of the checkpoint that the copy has now."""
    windows: int = 0
    """Whose entries were copied now."""
    segments: int = 0
    envelopes: int = 0
    bytes_: int = 0
    """Sum of their lengths; an envelope counts in each segment that has it."""
    gone: int = 0
    """Segments and bundles that no source has any more."""


class _Wanted(NamedTuple):
    """A segment that the log names."""

    span: Span
    cid: bytes
    entry: LogEntry | None
    """Of a batch."""


class Mirror:
    """A copy in a folder. Raises what `Client.refresh` raises, Unverifiable, OSError."""

    def __init__(self, client: Client, directory: Path, workers: int = limits.MIRROR_WORKERS):
        self._client = client
        self._directory = directory
        self._workers = workers
        self._copied = Copied()

    def copy(self, progress: Progress = lambda what, done, total: None) -> Copied:
        """Copy what is there now."""
        trusted = self._client.refresh()
        d, checkpoint = trusted.descriptor, trusted.checkpoint
        make_directories(self._directory / STATE)
        copied = self._copied = Copied(size=checkpoint.size)
        segments = Segments(self._directory, self._directory / STATE / "blocks.db", no_hook)
        try:
            log = _Log(d, checkpoint, self._client, self._directory)
            bundles = range(-(-checkpoint.size // tiles.WIDTH))
            for n in bundles:
                entries = log.read(n)
                if entries is None:
                    copied.gone += 1
                else:
                    self._segments(d, segments, entries)
                    copied.windows += log.keep(n)
                progress("bundles of 256 windows", n + 1, len(bundles))
        finally:
            segments.close()
        self._named(d, trusted.note)
        return copied

    # --- segments -----------------------------------------------------------------------------

    def _segments(self, d: Descriptor, segments: Segments, entries: list[LogEntry]) -> None:
        wanted = [w for w in _named_by(d, entries) if not segments.has(w.span.level, w.span.number)]
        rollups = RollUps(d, segments)
        with ThreadPoolExecutor(self._workers, "restante-mirror") as workers:
            for root in workers.map(lambda each: self._segment(d, rollups, each), wanted):
                if root is None:
                    self._copied.gone += 1
                else:
                    self._copied.segments += 1
                    self._copied.envelopes += root.envelopes
                    self._copied.bytes_ += root.bytes_

    def _segment(self, d: Descriptor, rollups: RollUps, wanted: _Wanted) -> "_Held | None":
        roster = Roster(self._client.sources)
        path = segment_path(wanted.span.level, wanted.span.number)

        def ask(source: Source) -> _Held:
            read = _reading(source, wanted.span)
            if is_index(d, wanted.span.level):
                index = IndexReader(d, wanted.span, wanted.cid, read)
                rollups.write_index(wanted.span, wanted.cid, index.blocks())
                return _Held(0, 0)
            child = _Streamed(SegmentReader(d, wanted.span, wanted.cid, read))
            _require_entry(child.root, wanted.entry)
            # Built anew of its own records: what is not in order, or counted wrong, is refused.
            rollups.write(wanted.span, [child], wanted.cid)
            return _Held(child.root.count, child.root.bytes_)

        try:
            return roster.first_verified(path, path, ask)
        except (Unavailable, VerificationFailed) as error:
            if _is_gone(error):
                return None
            raise

    # --- files that change --------------------------------------------------------------------

    def _named(self, d: Descriptor, note: bytes) -> None:
        files = {"descriptor": d.encode(), "policy": self._client.policy.encode()}
        for key in d.validators:
            files |= self._note(f"watch/{key.name}", partial(_watch, d, key.name))
            files |= self._note(f"contact/{key.name}", partial(_contact, d, key.name))
        for path, data in (files | {"checkpoint": note}).items():
            write_file(self._directory / path, data)

    def _note(self, path: str, check: Callable[[bytes], None]) -> dict[str, bytes]:
        """A note of one validator, where somebody has a good one."""
        for source in self._client.sources:
            with suppress(Invalid, Unavailable):
                data = source.get(path, max_bytes=limits.CONTACT_MAX_BYTES)
                check(data)
                return {path: data}
        return {}


def _watch(d: Descriptor, name: str, data: bytes) -> None:
    WatchNote.open(data, d, name)


def _contact(d: Descriptor, name: str, data: bytes) -> None:
    if ContactNote.open(data, d).name != name:
        raise VerificationFailed("a contact of another validator", code="contact")


class _Held(NamedTuple):
    """What a copied segment holds."""

    envelopes: int
    bytes_: int


def _named_by(d: Descriptor, entries: Iterable[LogEntry]) -> Iterator[_Wanted]:
    for entry in entries:
        yield _Wanted(Span(0, entry.window, entry.window, 1), entry.segment, entry)
        for span, cid in zip(due_at(d, entry.window), entry.rollups, strict=True):
            if cid is not None:
                yield _Wanted(span, cid, None)


def _require_entry(root: SegmentRoot, entry: LogEntry | None) -> None:
    if entry is None:
        return
    told = (entry.count, entry.bytes_, entry.sent_min, entry.sent_max)
    if (root.count, root.bytes_, root.sent_min, root.sent_max) != told:
        raise VerificationFailed(
            "a batch's root contradicts its entry", code="root-contradicts-entry"
        )


def _is_gone(error: RestanteError) -> bool:
    """Whether nobody who may be honest has it: some say so, and the others lied.

    Otherwise one liar with junk in the place of a released segment would keep everybody from
    ever having a mirror.
    """
    held: Sequence[Complaint] = getattr(error, "complaints", ())
    absent = any(complaint.code in ABSENT for complaint in held)
    return absent and all(each.lied or each.code in ABSENT for each in held)


def _reading(source: Source, span: Span) -> Read:
    """Ranges of a segment's parts; what came with the first one is not asked for again."""
    first: list[bytes] = []

    def read(part: int, offset: int, length: int) -> bytes:
        if part == 0 and first and offset + length <= len(first[0]):
            return first[0][offset : offset + length]
        path = segment_path(span.level, span.number, part)
        data = source.get(path, offset=offset, length=length, max_bytes=length)
        if not first:
            first.append(data)
        return data

    return read


class _Streamed:
    """A segment whose pages are read in groups: they are taken in the order of its rows."""

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader
        self._page = b""

    @property
    def root(self) -> SegmentRoot:
        return self._reader.root

    def rows(self) -> Iterator[PageRow]:
        for row, page in self._reader.pages(self._reader.rows()):
            self._page = page
            yield row

    def page(self, row: PageRow) -> bytes:
        """The page of the row that came last."""
        return self._page


class _Log:
    """The log's files, from the first source that has them right; `keep` writes what was read."""

    def __init__(
        self, d: Descriptor, checkpoint: VerifiedCheckpoint, client: Client, directory: Path
    ) -> None:
        self._d = d
        self._client = client
        self._directory = directory
        self._files: dict[str, bytes] = {}
        self._source: tuple[Roster, Source] | None = None
        self._reader = tiles.LogReader(self._get, checkpoint.size, checkpoint.root)
        self._size = checkpoint.size

    def read(self, n: int) -> list[LogEntry] | None:
        """The entries of a bundle; None if no source has them any more, but for their tile."""
        self._verified(f"tile {n}", lambda: self._reader.tiles.leaves(n))
        leaves = self._present(f"bundle {n}", lambda: self._reader.bundle(n))
        if leaves is None:
            self.keep(n)
            return None
        # Nothing that a client needs rests on certificates: who has none is a source all the same.
        self._present(f"certificates {n}", lambda: self._certificates(n, leaves))
        entries = [parse_entry(leaf) for leaf in leaves]
        for entry in entries:
            check_rollups(entry, self._d)
        return entries

    def keep(self, n: int) -> int:
        """Write what was read; how many windows are new."""
        count = min(tiles.WIDTH, self._size - n * tiles.WIDTH)
        fresh = 0
        for path, data in self._files.items():
            if read_range(self._directory / path) != data:
                write_file(self._directory / path, data)
                fresh = count if path.startswith("tile/entries/") else fresh
        self._files.clear()
        return fresh

    def _present(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return self._verified(what, read)
        except (Unavailable, VerificationFailed) as error:
            if not _is_gone(error):
                raise
            return None

    def _verified(self, what: str, read: Callable[[], T]) -> T:
        roster = Roster(self._client.sources)

        def ask(source: Source) -> T:
            self._source = roster, source
            return read()

        return roster.first_verified(what, what, ask)

    def _get(self, path: str) -> bytes:
        assert self._source is not None
        own = read_range(self._directory / path)
        if own is not None:  # copied before; it is verified again like any other
            return own
        roster, source = self._source
        most = _TILE_BYTES if path.startswith("tile/") else _CERTIFICATES_BYTES
        most = _BUNDLE_BYTES if path.startswith("tile/entries/") else most
        data = roster.fetch(source, path, most)
        self._files[path] = data
        return data

    def _certificates(self, n: int, leaves: list[bytes]) -> None:
        """Check the certificates of a bundle: each is of the batch that was decided."""
        path, full = tiles.certificate_path(n, len(leaves)), tiles.certificate_path(n)
        data, whole = tiles.read_cut(self._get, path, full)
        count = tiles.WIDTH if whole else len(leaves)
        found = tiles.decode_bundle(data, count)[: len(leaves)]
        for leaf, raw in zip(leaves, found, strict=True):
            certificate = Certificate.parse(raw, self._d.set_id)
            certificate.verify(self._d)
            entry = parse_entry(leaf)
            if (certificate.window, certificate.cid) != (entry.window, entry.segment):
                raise VerificationFailed("a certificate of another batch", code="certificate")
