"""A validator's archive: the folder of files that everybody reads, in the order that survives.

    segment and certificates → lock.decide → entry bundles, tiles → checkpoint

and, beside all that, roll-ups before the commit of the entry that names them.

The lock's decision makes a window count. What comes before it is unreferenced until then, what
comes after it is made again from the lock (`integrate`). Within a growth the tiles go from the top
level down, level 0 last: the widest tile of level 0 says how far everything reaches.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from restante import limits
from restante.durable import (
    Hook,
    make_directories,
    no_hook,
    read_range,
    remove_file,
    write_file,
)
from restante.errors import InvalidEncoding, StateError
from restante.formats import entry as entries
from restante.formats import tiles, tree
from restante.formats.entry import LogEntry
from restante.formats.level import Leveled, Span, due_at
from restante.formats.paths import check_path
from restante.node.durable.lock import Decision
from restante.node.durable.segments import Parts, Segments, absent, damaged

STATE = ".state"
_NAMED = ("descriptor", "policy", "watch/", "contact/")


class Changes(NamedTuple):
    """What a step did to the files, in order: first all that were written, then all released."""

    written: tuple[str, ...] = ()
    released: tuple[str, ...] = ()

    def __or__(self, other: "Changes") -> "Changes":
        return Changes(self.written + other.written, self.released + other.released)


class Shape(Leveled, Protocol):
    """What of a descriptor says which files there are."""

    @property
    def first_window(self) -> int: ...


class Decided(Protocol):
    """The lock state, as far as `integrate` reads it."""

    def size(self) -> int: ...

    def decisions(self, from_window: int, limit: int) -> list[Decision]: ...


class Archive:
    """The open archive of one validator. Readers may call it from any thread, one writes."""

    def __init__(self, directory: Path, d: Shape, hook: Hook) -> None:
        """Use `create` or `open`."""
        self.directory = directory
        self.d = d
        self.segments = Segments(directory, directory / STATE / "blocks.db", hook)
        self._hook = hook
        self._first = d.first_window
        # The right edge of the tree is read at every growth.
        self._edge: dict[str, bytes] = {}
        self._size = count_leaves(directory)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether there is an archive to open."""
        return (directory / STATE).is_dir()

    @classmethod
    def create(cls, directory: Path, d: Shape, *, hook: Hook = no_hook) -> "Archive":
        """Make an empty archive. Raises StateError `archive-exists`."""
        if (directory / STATE).exists():
            raise StateError(f"{directory} already holds an archive", code="archive-exists")
        make_directories(directory / STATE)
        return cls.open(directory, d, hook=hook)

    @classmethod
    def open(cls, directory: Path, d: Shape, *, hook: Hook = no_hook) -> "Archive":
        """Open an archive and index the newest segments that are not indexed yet.

        Raises StateError `archive-missing`.
        """
        if not cls.exists(directory):
            raise StateError(
                f"{directory} holds no archive",
                code="archive-missing",
                hint="an archive can be rebuilt: `up` does it, from lock/, stores and peers",
            )
        archive = cls(directory, d, hook)
        archive.index_missing(limits.INDEX_AT_START)
        return archive

    def close(self) -> None:
        """Give the index back. All files are durable already."""
        self.segments.close()

    @property
    def size(self) -> int:
        """Log entries whose bundles and tiles are all there."""
        return self._size

    @property
    def floor(self) -> int:
        """The lowest window whose segment, certificate and entry are kept.

        Where the index with its mark was lost, the first bundle that is here says it.
        """
        mark = self.segments.index.mark("floor")
        return self._first + self._first_bundle() * tiles.WIDTH if mark is None else mark

    def _first_bundle(self) -> int:
        n = 0
        while (n + 1) * tiles.WIDTH <= self._size and not self._has_bundle(n):
            n += 1
        return n

    def _has_bundle(self, n: int) -> bool:
        return (self.directory / tiles.entries_path(n)).is_file()

    @property
    def spool(self) -> Path:
        """Where roll-ups are taken apart: nothing there outlives the process."""
        return self.directory / STATE / "spool"

    @property
    def stop(self) -> int:
        """The window after the newest that is in the log."""
        return self._first + self._size

    def root(self, size: int | None = None) -> bytes:
        """The root hash of the first `size` entries (all when None)."""
        return self.frontier(size).root()

    def frontier(self, size: int | None = None) -> tree.Frontier:
        """What is needed to append to the tree of the first `size` entries (all when None)."""
        reader = tiles.TileReader(self._read_whole, self._size)
        return tree.frontier_at(self._size if size is None else size, reader.hash_at)

    # --- writing, in the order of a commit

    def put_segment(self, window: int, cars: Parts) -> Changes:
        """Write a batch's parts, the first one last: where that is, the others are."""
        return Changes(self.segments.put(0, window, cars))

    def put_certificates(self, index: int, certificates: Sequence[bytes]) -> Changes:
        """Write the certificates of entries from `index` on, in bundles as wide as they reach."""
        stop = index + len(certificates)
        paths = []
        for n, width in tiles.bundles_for_growth(index, stop):
            path = tiles.certificate_path(n, width)
            self._write(
                path,
                self._bundle(n, width, index, certificates, tiles.certificate_path),
                "archive.certificate",
            )
            paths.append(path)
        return Changes(tuple(paths))

    def append_entries(self, index: int, entries: Sequence[bytes]) -> Changes:
        """Grow the log by the entries from `index` on, which must be its size.

        Superseded partial files that no client needs any more go, and are named as released.
        """
        if index != self._size:
            raise ValueError(f"entry {index} appended to a log of {self._size}")
        paths = []
        for n, width in tiles.bundles_for_growth(index, index + len(entries)):
            path = tiles.entries_path(n, width)
            data = self._bundle(n, width, index, entries, tiles.entries_path)
            self._write(path, data, "archive.entries")
            paths.append(path)
        grown = self.append_leaves([tree.leaf_hash(entry) for entry in entries])
        return Changes(tuple(paths)) | grown

    def append_leaves(self, leaves: Sequence[bytes]) -> Changes:
        """Grow the tree alone, as `append_entries` does: of entries that are below the floor."""
        index, paths = self._size, []
        stop = index + len(leaves)
        files, _ = tiles.grow(index, leaves, self._read_whole)
        for path in reversed(files):
            self._write(path, files[path], "archive.tile")
            paths.append(path)
        self._size = stop
        edge = {tile.path for tile in tiles.right_edge(stop)}
        kept = {p: d for p, d in self._edge.items() if p in edge}
        self._edge = kept | {p: d for p, d in files.items() if p in edge}
        return Changes(tuple(paths), tuple(self._drop_partials(index, stop)))

    def raise_floor(self, window: int) -> None:
        """Keep nothing below a window any more; what is there goes with the next releases."""
        index, floor = self.segments.index, self.floor
        if window > floor:
            if index.mark("released") is None:
                index.set_mark("released", floor)
            index.set_mark("floor", window)

    def put_checkpoint(self, note: bytes) -> Changes:
        """Replace the checkpoint; everything that it covers is there already."""
        self._write("checkpoint", note, "archive.checkpoint")
        return Changes(("checkpoint",))

    def put_named(self, path: str, data: bytes) -> Changes:
        """Write `descriptor`, `policy`, `watch/<name>` or `contact/<name>`."""
        if not check_path(path).startswith(_NAMED) or len(data) > limits.NAMED_FILE_BYTES:
            raise ValueError(f"{path} of {len(data)} bytes is no named file")
        self._write(path, data, "archive.named")
        return Changes((path,))

    def integrate(self, lock: Decided) -> Changes:
        """Make the entries, tiles and certificates of all that the lock decided and we lack.

        Raises StateError: `lock-behind-archive` (the lock was lost or restored),
        `archive-differs`, `archive-behind` (the lock has forgotten what is missing here).
        """
        decided = lock.size()
        if self._size > decided:
            raise StateError(
                f"the archive has {self._size} entries, the lock state decided {decided}",
                code="lock-behind-archive",
                hint="this lock state is older than the archive: the key may not sign any more",
            )
        self._compare_last(lock)
        changes = Changes()
        while self._size < decided:
            window = self._first + self._size
            group = lock.decisions(window, limits.COMMIT_GROUP_WINDOWS)
            if not group or group[0].window != window:
                raise StateError(
                    f"the log lacks window {window}, which the lock state has pruned",
                    code="archive-behind",
                    hint="copy tile/, certificate/ and segment/ from another validator's archive",
                )
            changes |= self.put_certificates(self._size, [d.certificate for d in group])
            changes |= self.append_entries(self._size, [d.entry for d in group])
        return changes

    # --- reading

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file. Raises InvalidEncoding `path`, Unavailable `not-found`."""
        data = read_range(self.directory / check_path(path), offset, length)
        if data is None:
            raise absent(path)
        return data

    def entry(self, index: int) -> bytes:
        """A log entry. Raises Unavailable below the floor, ValueError outside the log."""
        return self._from_bundle(index, tiles.entries_path)

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Log entries in order, a bundle at a time. Raises as `entry`."""
        while start < stop:
            n = start // tiles.WIDTH
            width = min(tiles.WIDTH, self._size - n * tiles.WIDTH)
            bundle = self._read_bundle(n, width, tiles.entries_path)
            yield from bundle[start - n * tiles.WIDTH : stop - n * tiles.WIDTH]
            start = (n + 1) * tiles.WIDTH

    def certificate(self, index: int) -> bytes:
        """The certificate of an entry. Raises as `entry`."""
        return self._from_bundle(index, tiles.certificate_path)

    def segment(self, window: int) -> list[bytes]:
        """The parts of a batch's CAR. Raises Unavailable `not-found`."""
        return self.segments.parts(0, window)

    def has_segment(self, window: int) -> bool:
        """Whether a window's batch is here."""
        return self.segments.has(0, window)

    def block(self, cid: bytes) -> bytes | None:
        """A block by its CID; see `Segments.block`."""
        return self.segments.block(cid)

    def log(self, start: int, stop: int) -> Iterator[LogEntry]:
        """The log entries of windows [start, stop). Raises as `entry`."""
        return map(entries.parse, self.entries(start - self._first, stop - self._first))

    def named(self, start: int, stop: int) -> Iterator[tuple[Span, bytes | None]]:
        """What the log entries of windows [start, stop) name: each batch, and the roll-ups that
        are due there with None for what was not made. Raises as `entry`."""
        for entry in self.log(start, stop):
            yield Span(0, entry.window, entry.window, 1), entry.segment
            yield from zip(due_at(self.d, entry.window), entry.rollups, strict=True)

    def changes(self, old: int, new: int) -> Changes:
        """All files of entries [old, new) in the order of commits, for a store that lacks them."""
        if old >= new:
            return Changes()
        paths: list[str] = []
        for span, cid in self.named(max(self._first + old, self.floor), self._first + new):
            if cid is not None:
                paths += reversed(self.segments.paths(span.level, span.number))
        for name in (tiles.certificate_path, tiles.entries_path):
            paths += [name(n, width) for n, width in tiles.bundles_for_growth(old, new)]
        paths += [tile.path for tile in reversed(tiles.tiles_for_growth(old, new))]
        paths += [p for p in self._named_paths() if p != "checkpoint"]
        paths.append("checkpoint")
        return Changes(tuple(p for p in paths if (self.directory / p).is_file()))

    # --- the index of blocks

    def index_missing(
        self, most: int | None = None, go_on: Callable[[], None] = lambda: None
    ) -> None:
        """Index segments that were written and not indexed, or lost from the index: all of them, or
        the newest `most` batches and the newest roll-up of each level. `go_on` may break it off.

        A damaged one is passed over: whoever reads it finds that out, and fsck.
        """
        for level in range(len(self.d.levels) + 1):
            newest = most if most is None or level == 0 else 1
            for number in self.segments.unindexed(level)[:newest]:
                go_on()
                with suppress(InvalidEncoding):
                    self.segments.note(level, number)

    # --- inside

    def _write(self, path: str, data: bytes, step: str) -> None:
        write_file(self.directory / path, data, hook=self._hook, step=step)

    def _read_whole(self, path: str) -> bytes:
        known = self._edge.get(path)
        return self.read(path) if known is None else known

    def _named_paths(self) -> list[str]:
        names = ["descriptor", "policy", "checkpoint"]
        for kind in ("watch", "contact"):
            names += sorted(f"{kind}/{p.name}" for p in (self.directory / kind).glob("[!.]*"))
        return names

    def _from_bundle(self, index: int, name: "_BundlePath") -> bytes:
        if not 0 <= index < self._size:
            raise ValueError("the log has no such entry")
        n = index // tiles.WIDTH
        return self._read_bundle(n, min(tiles.WIDTH, self._size - n * tiles.WIDTH), name)[
            index % tiles.WIDTH
        ]

    def _read_bundle(self, n: int, width: int, name: "_BundlePath") -> list[bytes]:
        data, full = tiles.read_cut(self.read, name(n, width), name(n))
        try:
            return tiles.decode_bundle(data, tiles.WIDTH if full else width)[:width]
        except InvalidEncoding as error:
            raise damaged(name(n, width), error) from error

    def _bundle(
        self, n: int, width: int, index: int, items: Sequence[bytes], name: "_BundlePath"
    ) -> bytes:
        """The bundle's bytes: what it held before `index`, then the new items."""
        start = n * tiles.WIDTH
        held = max(0, index - start)
        before = self._read_bundle(n, held, name) if held else []
        first = max(start, index) - index
        return tiles.encode_bundle([*before, *items[first : start + width - index]])

    def _compare_last(self, lock: Decided) -> None:
        if self._size == 0:
            return
        last = self._size - 1
        known = lock.decisions(self._first + last, 1)
        if known and known[0].window == self._first + last and self.entry(last) != known[0].entry:
            raise StateError(
                f"entry {last} of the archive is not what the lock state decided",
                code="archive-differs",
                hint="the archive is damaged or of another node; move it away, it is rebuilt",
            )

    def _drop_partials(self, old: int, new: int) -> list[str]:
        """Remove partial files that only trees smaller than the newest few need."""
        horizon = max(0, new - limits.PARTIALS_KEPT)
        kept = {t for size in (horizon, new) for t in tiles.right_edge(size)}
        gone: list[str] = []
        for size in range(max(0, old - limits.PARTIALS_KEPT), horizon):
            gone += self._partials_of(t for t in tiles.right_edge(size) if t not in kept)
        unique = list(dict.fromkeys(gone))
        for path in unique:
            # One that comes back after a loss of power harms nobody.
            step = "archive.superseded"
            remove_file(self.directory / path, hook=self._hook, step=step, sync=False)
        return unique

    def _partials_of(self, edge: Iterable[tiles.Tile]) -> list[str]:
        paths: list[str] = []
        for tile in edge:
            paths.append(tile.path)
            if tile.level == 0:
                paths += [
                    tiles.entries_path(tile.n, tile.width),
                    tiles.certificate_path(tile.n, tile.width),
                ]
        return [path for path in paths if (self.directory / path).is_file()]


def count_leaves(directory: Path) -> int:
    """The log's size from its files: full tiles of level 0, then the widest partial one."""

    def has(n: int) -> bool:
        return (directory / tiles.tile_path(0, n)).is_file()

    full, step = 0, 1
    # Full tiles never go, so they are one run from 0: double, then halve.
    while has(full + step - 1):
        full += step
        step *= 2
    while step > 1:
        step //= 2
        if has(full + step - 1):
            full += step
    partial = (directory / f"{tiles.tile_path(0, full)}.p").glob("[!.]*")
    return full * tiles.WIDTH + max((int(p.name) for p in partial), default=0)


class _BundlePath(Protocol):
    def __call__(self, n: int, width: int = tiles.WIDTH) -> str: ...
