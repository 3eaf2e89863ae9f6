"""Log entries, batches and watch notes under one trusted checkpoint, from whoever serves them."""

from collections.abc import Callable
from concurrent.futures import Executor

from restante import limits
from restante.client.roster import Roster
from restante.client.sources import Source
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats import tiles
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.layout import PREFIX_BYTES
from restante.formats.page import Member
from restante.formats.paths import segment_path
from restante.rules.query import Mode
from restante.rules.verify import TrustedArchive
from restante.rules.verify_segment import TrustedSegment

TILE_MAX_BYTES = tiles.WIDTH * 32
BUNDLE_MAX_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)


class Reader:
    """What a query reads. `entry` is for one thread, `members` for many."""

    def __init__(self, archive: TrustedArchive, roster: Roster, workers: Executor) -> None:
        self._archive = archive
        self._roster = roster
        self._workers = workers
        self._bundle: tuple[int, list[LogEntry]] | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The set's parameters."""
        return self._archive.descriptor

    def entry(self, window: int) -> LogEntry:
        """The log entry of a window below the tree size. Raises Unverifiable, Missing, SetFault."""
        n = window // tiles.WIDTH
        if self._bundle is None or self._bundle[0] != n:
            self._bundle = n, self._read_bundle(n)
        return self._bundle[1][window % tiles.WIDTH]

    def _read_bundle(self, n: int) -> list[LogEntry]:
        size = self._archive.checkpoint.size
        first, last = n * tiles.WIDTH, min((n + 1) * tiles.WIDTH, size)
        path = tiles.entries_path(n, last - first)

        def ask(source: Source) -> list[LogEntry]:
            return self._archive.bundle(n, self._ahead(source, [path], first, last, size))

        what = f"the log entries of {self._span(first, last)}"
        return self._roster.first_verified(what, path, ask)

    def _ahead(
        self, source: Source, paths: list[str], first: int, last: int, size: int
    ) -> Callable[[str], bytes]:
        """A getter for one source, which asks at once for all that a first bundle needs."""

        def get(path: str) -> bytes:
            most = BUNDLE_MAX_BYTES if path.startswith("tile/entries/") else TILE_MAX_BYTES
            return self._roster.fetch(source, path, most)

        if self._bundle is not None:  # the tiles above are known: two files are left to read
            return get
        paths = paths + [tile.path for tile in tiles.tiles_to_verify(first, last, size)]
        asked = {path: self._workers.submit(get, path) for path in dict.fromkeys(paths)}

        def ahead(path: str) -> bytes:
            future = asked.pop(path, None)
            return get(path) if future is None else future.result()

        return ahead

    def members(self, entry: LogEntry, mode: Mode, topics: tuple[bytes, ...]) -> list[Member]:
        """What the pages hold that a mode reads of a batch, verified.

        Raises Unverifiable, Missing, SetFault.
        """
        window = entry.window
        path = segment_path(0, window)

        def ask(source: Source) -> list[Member]:
            segment = TrustedSegment(self.descriptor, entry, mode, topics)
            segment.read_prefix(self._range(source, window, 0, 0, PREFIX_BYTES))
            while needs := segment.needs():
                for piece in needs:
                    segment.take(piece, self._range(source, window, *piece[:3]))
            return segment.members()

        what = f"the segment of {self._span(window, window + 1)}"
        return self._roster.first_verified(what, path, ask)

    def _range(self, source: Source, window: int, part: int, offset: int, length: int) -> bytes:
        path = segment_path(0, window, part)
        return self._roster.fetch(source, path, length, offset=offset, length=length)

    def _span(self, first: int, end: int) -> str:
        d = self.descriptor
        name = f"window {first}" if end == first + 1 else f"windows {first} to {end - 1}"
        return f"{name} (arrivals from {d.start_s(first)} to {d.start_s(end)})"

    def watch_notes(self, size: int) -> list[WatchNote]:
        """For each validator its watch note that reaches furthest; none where there is none.

        A note that is missing is no error: what it would have said is unknown.
        """
        names = [key.name for key in self.descriptor.validators]
        notes = self._workers.map(lambda name: self._watch_note(name, size), names)
        return [note for note in notes if note is not None]

    def _watch_note(self, name: str, size: int) -> WatchNote | None:
        path = f"watch/{name}"
        best: WatchNote | None = None
        for source in self._roster.candidates():
            try:
                data = self._roster.fetch(source, path, limits.CONTACT_MAX_BYTES)
                note = self._open(data, name)
            except (Invalid, Unavailable) as error:
                if error.code != "not-found":
                    self._roster.complain(source, error, path)
                continue
            if best is None or note.size > best.size:
                best = note
            if best.size >= size:
                break
        return best

    def _open(self, data: bytes, name: str) -> WatchNote:
        try:
            return WatchNote.open(data, self.descriptor, name)
        except Invalid as error:
            raise VerificationFailed(str(error), code="watch") from error
