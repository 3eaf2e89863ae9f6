"""The archive's part of fsck: all from the checkpoint down, computed again from the bytes."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from restante.durable import read_range
from restante.errors import Invalid, InvalidEncoding, StateError, VerificationFailed
from restante.formats import tiles, tree
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.entry import parse as parse_entry
from restante.formats.level import due_at, span, windows_of
from restante.formats.message import Certificate
from restante.formats.note import Note, verified_signatures
from restante.formats.paths import segment_path
from restante.formats.segment import Contents, read_cars
from restante.node.durable.archive import STATE, count_leaves
from restante.node.durable.blocks import BlockIndex
from restante.node.durable.keeping import Demand, Marks
from restante.node.durable.lock import Decision
from restante.node.fsck.findings import Progress, Report
from restante.node.fsck.rollups import Owed, RollUpCheck
from restante.rules.valid import Facts, in_window

_PROGRESS_EVERY = 64


class ArchiveCheck:
    """One pass over an archive. `roots` holds the root of every size, for the lock's check."""

    def __init__(
        self,
        directory: Path,
        descriptor: Descriptor,
        examine: Callable[[bytes], Facts],
        report: Report,
        progress: Progress,
    ) -> None:
        self.present = directory.is_dir()
        self.size = 0
        self.roots: dict[int, bytes] = {0: tree.EMPTY_ROOT}
        self._directory = directory
        self._d = descriptor
        self._examine = examine
        self._report = report
        self._progress = progress
        self._floor = 0
        self._entries: dict[int, bytes] = {}
        self._certificates: dict[int, bytes] = {}
        # Ids of the last K windows: older ones cannot be valid any more (R0).
        self._recent: dict[bytes, int] = {}
        self._recent_windows: deque[tuple[int, list[bytes]]] = deque()
        self._examined: tuple[bytes, Facts] | None = None

    def run(self) -> None:
        """Check descriptor, tree, bundles, checkpoint and segments."""
        if not self.present:
            self._report.add("archive-missing", "archive", "there is no archive")
            return
        if self._read("descriptor") not in (None, self._d.encode()):
            self._report.add("descriptor", "archive/descriptor", "its hash is not the set id")
        self.size = count_leaves(self._directory)
        marks = self._read_marks()
        self._owed = Owed(self._directory, self._d, marks)
        self._floor = self._first_kept() if marks is None else marks.floor
        self._check_tree()
        self._check_checkpoint()
        self._check_segments()

    def compare(self, index: int, decision: Decision) -> None:
        """Hold a decision of the lock against the entry and certificate kept here."""
        for kept, decided, code, path in (
            (self._entries.get(index), decision.entry, "entry", tiles.entries_path),
            (
                self._certificates.get(index),
                decision.certificate,
                "certificate",
                tiles.certificate_path,
            ),
        ):
            if kept is not None and kept != decided:
                name = path(*_bundle_of(index, self.size))
                self._report.add(code, f"archive/{name}", f"entry {index} is not what was decided")

    def _read(self, path: str) -> bytes | None:
        return read_range(self._directory / path)

    def _read_marks(self) -> Marks | None:
        """What may be gone; None, and a finding, if nothing says it."""
        path = self._directory / STATE / "blocks.db"
        if not path.exists():
            self._report.add("block-index", "archive/.state/blocks.db", "it is missing")
            return None
        try:
            index = BlockIndex(path)
        except StateError as error:
            self._report.add("block-index", "archive/.state/blocks.db", str(error))
            return None
        try:
            return Marks.read(index, self._d, self._d.first_window)
        finally:
            index.close()

    def _first_kept(self) -> int:
        """Without marks the first window of which anything is here must do."""
        firsts = [
            min(numbers) * windows_of(self._d, level)
            for level, numbers in self._owed.here.items()
            if numbers
        ]
        return min(firsts, default=0)

    # --- tree, bundles and checkpoint

    def _check_tree(self) -> None:
        """Recompute every tile and root from the leaves; below the floor the leaves are tiles."""
        frontier = tree.Frontier.EMPTY
        hashes: list[list[bytes]] = [[]]
        for n in range(-(-self.size // tiles.WIDTH)):
            width = min(tiles.WIDTH, self.size - n * tiles.WIDTH)
            for leaf in self._leaves(n, width):
                frontier = frontier.append(leaf)
                self.roots[frontier.size] = frontier.root()
                _add_hash(hashes, 0, leaf)
            self._progress("tree", n * tiles.WIDTH + width, self.size)
        for level, row in enumerate(hashes[1:], 1):
            for n in range(-(-len(row) // tiles.WIDTH)):
                part = row[n * tiles.WIDTH : (n + 1) * tiles.WIDTH]
                path = tiles.tile_path(level, n, len(part))
                if self._read(path) != b"".join(part):
                    self._report.add("tile", f"archive/{path}", "it is not what its leaves give")
        self._report.windows = self.size

    def _leaves(self, n: int, width: int) -> list[bytes]:
        """Leaf hashes of tile `n`: those of the kept entries, held against the tile."""
        path = tiles.tile_path(0, n, width)
        tile = self._read(path) or b""
        kept = [tile[i : i + 32] for i in range(0, len(tile), 32)]
        entries = self._bundle(n, width, tiles.entries_path, "entry")
        certificates = self._bundle(n, width, tiles.certificate_path, "certificate")
        for i, certificate in enumerate(certificates or ()):
            self._certificates[n * tiles.WIDTH + i] = certificate
        if entries is None:
            if len(tile) != 32 * width:
                self._report.add("tile", f"archive/{path}", f"it has {len(tile)} bytes")
                kept = (kept + [bytes(32)] * width)[:width]
            return kept
        for i, entry in enumerate(entries):
            self._entries[n * tiles.WIDTH + i] = entry
        leaves = [tree.leaf_hash(entry) for entry in entries]
        if kept != leaves:
            self._report.add("tile", f"archive/{path}", "it is not what its entries give")
        return leaves

    def _bundle(
        self, n: int, width: int, path_of: Callable[[int, int], str], code: str
    ) -> list[bytes] | None:
        path = path_of(n, width)
        data = self._read(path)
        if data is None:
            if (n * tiles.WIDTH) + width > self._floor - self._d.first_window:
                self._report.add("archive-file", f"archive/{path}", "it is missing")
            return None
        try:
            return tiles.decode_bundle(data, width)
        except InvalidEncoding as error:
            self._report.add(code, f"archive/{path}", str(error))
            return None

    def _check_checkpoint(self) -> None:
        data = self._read("checkpoint")
        if data is None:
            return
        try:
            note = Note.parse(data)
            checkpoint = Checkpoint.parse_text(note.text)
            if checkpoint.origin != self._d.origin:
                raise VerificationFailed("it is of another log")
            if self.roots.get(checkpoint.size) != checkpoint.root:
                raise VerificationFailed(f"size {checkpoint.size} has another root here")
            if not verified_signatures(note, self._d.validators):
                raise VerificationFailed("no validator signed it")
        except Invalid as error:
            self._report.add("checkpoint", "archive/checkpoint", str(error))

    # --- certificates and segments

    def _check_segments(self) -> None:
        d = self._d
        parsed = {
            d.first_window + index: entry
            for index, data in self._entries.items()
            if (entry := self._parsed(index, data)) is not None
        }
        for entry in parsed.values():
            due = due_at(d, entry.window)
            self._owed.named[span(d, 0, entry.window)] = entry.segment
            self._owed.named.update(zip(due, entry.rollups, strict=False))
        for window in range(max(d.first_window, self._floor), d.first_window + self.size):
            index = window - d.first_window
            if window in parsed:
                self._check_window(index, parsed[window])
            if index % _PROGRESS_EVERY == 0:
                self._progress("segments", index, self.size)
        self._progress("segments", self.size, self.size)
        RollUpCheck(
            self._directory,
            d,
            self._owed,
            parsed,
            d.first_window + self.size,
            self._facts,
            self._report,
            self._progress,
        ).run()

    def _parsed(self, index: int, data: bytes) -> LogEntry | None:
        """An entry, or None and a finding."""
        try:
            entry = parse_entry(data)
            if entry.window != self._d.first_window + index:
                raise VerificationFailed(f"it names window {entry.window}")
        except Invalid as error:
            path = tiles.entries_path(*_bundle_of(index, self.size))
            self._report.add("entry", f"archive/{path}", f"entry {index}: {error}")
            return None
        return entry

    def _check_window(self, index: int, entry: LogEntry) -> None:
        window = entry.window
        self._check_certificate(index, entry)
        path = segment_path(0, window)
        parts = self._parts(window)
        demand = self._owed.demand(span(self._d, 0, window))
        if not parts:
            if demand is Demand.KEPT:
                what = f"the batch of window {window}"
                self._report.add("segment-missing", f"archive/{path}", what)
            return
        if demand is Demand.GONE:
            self._report.add("segment-unreleased", f"archive/{path}", "it was given up")
        try:
            contents = read_cars(parts, self._d, self._topic_of, self._sent_of)
            if contents.segment.root_cid != entry.segment:
                raise VerificationFailed("it is another batch than its entry's")
        except Invalid as error:
            self._report.add("segment", f"archive/{path}", f"{error} ({error.code})")
            return
        if contents.segment.entry(entry.rollups) != entry:
            self._report.add("segment", f"archive/{path}", "its counts are not its entry's")
        self._owed.whole.add(span(self._d, 0, window))
        self._check_batch(window, path, contents)

    def _check_certificate(self, index: int, entry: LogEntry) -> None:
        data = self._certificates.get(index)
        if data is None:
            return
        try:
            certificate = Certificate.parse(data, self._d.set_id)
            certificate.verify(self._d)
            expected = (entry.window, index, self.roots[index], entry.segment)
            c = certificate
            if (c.window, c.base_size, c.base_root, c.cid) != expected:
                raise VerificationFailed("it is of another batch or base")
        except Invalid as error:
            path = tiles.certificate_path(*_bundle_of(index, self.size))
            self._report.add("certificate", f"archive/{path}", f"entry {index}: {error}")

    def _parts(self, window: int) -> list[bytes]:
        parts: list[bytes] = []
        while (data := self._read(segment_path(0, window, len(parts)))) is not None:
            parts.append(data)
        return parts

    def _check_batch(self, window: int, path: str, contents: Contents) -> None:
        """R0 in this window for every envelope, *new*, and the limits (I2)."""
        d = self._d
        ids = [member.id for member in contents.members]
        self._report.segments += 1
        self._report.envelopes += len(ids)
        self._report.envelope_bytes += contents.segment.bytes_
        for member in contents.members:
            if not in_window(member.sent_s, window, d):
                detail = f"envelope {member.id.hex()} lies outside window {window}"
                self._report.add("batch-invalid", f"archive/{path}", detail)
            earlier = self._recent.get(member.id)
            if earlier is not None:
                detail = f"envelope {member.id.hex()} is in window {earlier} already"
                self._report.add("batch-repeats", f"archive/{path}", detail)
        if len(ids) > d.batch_max_envelopes or contents.segment.bytes_ > d.batch_max_bytes:
            self._report.add("batch-invalid", f"archive/{path}", "it is over the limits")
        self._recent.update(dict.fromkeys(ids, window))
        self._recent_windows.append((window, ids))
        while self._recent_windows[0][0] <= window - d.recent_windows:
            old, gone = self._recent_windows.popleft()
            for id_ in gone:
                if self._recent.get(id_) == old:
                    del self._recent[id_]

    def _topic_of(self, raw: bytes) -> bytes:
        return self._facts(raw).topic

    def _sent_of(self, raw: bytes) -> int:
        return self._facts(raw).sent_s

    def _facts(self, raw: bytes) -> Facts:
        # Topic and sent time of one envelope are asked for one after the other.
        if self._examined is None or self._examined[0] is not raw:
            self._examined = (raw, self._examine(raw))
        return self._examined[1]


def _bundle_of(index: int, size: int) -> tuple[int, int]:
    n = index // tiles.WIDTH
    return n, min(tiles.WIDTH, size - n * tiles.WIDTH)


def _add_hash(hashes: list[list[bytes]], level: int, digest: bytes) -> None:
    """Add a hash to a tile level; 256 of them make one of the level above."""
    if level == len(hashes):
        hashes.append([])
    row = hashes[level]
    row.append(digest)
    if len(row) % tiles.WIDTH == 0:
        part = row[-tiles.WIDTH :]
        while len(part) > 1:
            part = [tree.node_hash(part[i], part[i + 1]) for i in range(0, len(part), 2)]
        _add_hash(hashes, level + 1, part[0])
