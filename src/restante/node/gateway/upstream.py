"""What a gateway takes from its sources: everything verified before anybody gets it.

Checkpoints of equal trees are merged, so that the best signatures of all sources come together.
Blocking; a lock keeps what reads the log in line.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import TypeVar

from restante import limits
from restante.client.http import HttpSource
from restante.client.memory import Evidence, Memory
from restante.client.roster import Complaint, Roster
from restante.client.sources import Source
from restante.errors import Invalid, InvalidEncoding, Unavailable, VerificationFailed
from restante.formats import cid as cids
from restante.formats import entry as entries
from restante.formats import tiles
from restante.formats.contact import ContactNote, WatchNote
from restante.formats.cut import Block
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.level import Span, due_at, entry_window, is_index
from restante.formats.message import Certificate
from restante.formats.note import Note, verified_signatures
from restante.formats.paths import parse_segment_path, segment_path
from restante.formats.policy import Policy, merge
from restante.formats.segment import read_cars
from restante.formats.whisper import parse as parse_envelope
from restante.node.segment_reader import IndexReader, Section, SegmentReader
from restante.rules.verify import TrustedArchive, check_note

log = logging.getLogger("restante.gateway")

T = TypeVar("T")
_TILE_BYTES = tiles.WIDTH * 32
_BUNDLE_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)
_CERTIFICATES_BYTES = tiles.WIDTH * (2 + limits.MESSAGE_OVERHEAD_BYTES)


class Upstream:
    """The sources of one set's archive, and what is known to be true of it."""

    def __init__(
        self, d: Descriptor, policy: Policy, sources: Sequence[Source], memory: Memory
    ) -> None:
        self._d = d
        self._policy = policy
        self._sources = list(sources)
        self._memory = memory
        self._workers = ThreadPoolExecutor(limits.GATEWAY_WORKERS, "restante-gateway")
        self._lock = RLock()
        self._source: tuple[Roster, Source] | None = None
        self._log: tiles.LogReader | None = None
        self._note = b""
        self._asked_s = -limits.GATEWAY_FRESH_S
        self.complaints: dict[tuple[str, str], Complaint] = {}
        """The newest of each source and code."""
        self.requests = 0
        remembered = memory.checkpoint(policy)
        if remembered is not None:
            self._take(remembered[0].size, remembered[0].root, remembered[1])

    @property
    def size(self) -> int:
        """The tree size of the newest checkpoint that was accepted; 0 before any."""
        return 0 if self._log is None else self._log.size

    @property
    def sources(self) -> list[str]:
        return [source.name for source in self._sources]

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        for source in self._sources:
            source.close()

    # --- the checkpoint ---------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The newest checkpoint, asked for anew if it is not fresh. Raises Unavailable."""
        with self._lock:
            if time.monotonic() - self._asked_s >= limits.GATEWAY_FRESH_S:
                self._asked_s = time.monotonic()
                roster = Roster(self._sources)
                try:
                    self._refresh(roster)
                finally:
                    self._count(roster)
            if self._log is None:
                raise Unavailable("no source has a checkpoint yet", code="not-found")
            return self._note

    def _refresh(self, roster: Roster) -> None:
        by_text: dict[str, list[tuple[Source, bytes]]] = {}
        keys = [each.key for each in (*self._policy.logs, *self._policy.witnesses)]
        asked = [(s, self._workers.submit(self._ask_note, roster, s)) for s in self._sources]
        for source, future in asked:
            try:
                note = future.result()
                parsed = Note.parse(note)
                # Merging would pass over a bad line; whoever serves it is to be named.
                verified_signatures(parsed, keys)
                by_text.setdefault(parsed.text, []).append((source, note))
            except (Invalid, Unavailable) as error:
                roster.complain(source, error, "checkpoint")
        found: list[tuple[int, bytes, list[Source]]] = []
        for group in by_text.values():
            try:
                merged = merge([note for _, note in group], self._policy)
                size = check_note(self._policy, merged).size
            except Invalid as error:
                for source, _ in group:
                    roster.complain(source, error, "checkpoint")
                continue
            found.append((size, merged, [source for source, _ in group]))
        for size, note, sources in sorted(found, key=lambda each: -each[0]):
            if size < self.size or (size == self.size and len(note) <= len(self._note)):
                return
            if self._accept(roster, note, sources):
                return

    def _ask_note(self, roster: Roster, source: Source) -> bytes:
        return roster.fetch(source, "checkpoint", limits.NOTE_MAX_BYTES)

    def _accept(self, roster: Roster, note: bytes, sources: list[Source]) -> bool:
        """Take a note if it continues what is known; whoever served another tree is left."""
        remembered = self._memory.checkpoint(self._policy)
        known = None if remembered is None else remembered[0].checkpoint
        for source in sources:
            archive = TrustedArchive(self._policy, known)
            archive.update_descriptor(self._d.encode())
            files: dict[str, bytes] = {}

            def get(path: str, source: Source = source, files: dict[str, bytes] = files) -> bytes:
                files[path] = roster.fetch(source, path, _TILE_BYTES)
                return files[path]

            try:
                archive.update_checkpoint(note)
                checkpoint = archive.accept(get)
            except (VerificationFailed, Unavailable) as error:
                roster.complain(source, error, "checkpoint")
                if error.code == "split-view" and remembered is not None:
                    evidence = Evidence(str(error), (remembered[1], note), files)
                    path = self._memory.keep_evidence(self._d.set_id, evidence)
                    log.error("split view: %s; evidence: %s", error, path)
                    return False
                continue
            self._memory.accept(self._policy, checkpoint, note)
            self._take(checkpoint.size, checkpoint.root, note)
            return True
        return False

    def _take(self, size: int, root: bytes, note: bytes) -> None:
        if self._log is None or self._log.size != size:
            self._log = tiles.LogReader(self._read, size, root)
        self._note = note

    def _read(self, path: str) -> bytes:
        assert self._source is not None
        roster, source = self._source
        most = _BUNDLE_BYTES if path.startswith("tile/entries/") else _TILE_BYTES
        return roster.fetch(source, path, most)

    # --- immutable files --------------------------------------------------------------------

    def file(self, path: str) -> dict[str, bytes]:
        """A file that never changes, verified, by its path; perhaps others that came with it.

        Raises InvalidEncoding for no such path, Unavailable `not-found`, VerificationFailed.
        """
        if path == "descriptor":
            return {path: self._d.encode()}
        if path == "policy":
            return {path: self._policy.encode()}
        roster = Roster(self._sources)
        try:
            if path.startswith("tile/entries/"):
                return {path: self._entries(roster, *tiles.parse_entries_path(path))}
            if path.startswith("tile/"):
                return {path: self._tile(roster, tiles.parse_tile_path(path))}
            if path.startswith("certificate/"):
                return {path: self._certificates(roster, *tiles.parse_certificate_path(path))}
            return self._segment(roster, path)
        except Unavailable as error:
            _require_there(error, path)
            raise
        finally:
            self._count(roster)

    def _reading(self, roster: Roster, path: str, read: Callable[[tiles.LogReader], T]) -> T:
        """What `read` makes of the log, whose files come from the first source that is right."""

        def ask(source: Source) -> T:
            assert self._log is not None
            self._source = roster, source
            return read(self._log)

        with self._lock:
            return roster.first_verified(path, path, ask)

    def _reach(self, size: int, path: str) -> None:
        """Have a checkpoint of at least this size. Raises Unavailable `not-found`."""
        if self.size < size:
            self.checkpoint()
        if self.size < size:
            raise Unavailable(f"the log is not that large: {path}", code="not-found")

    def _tile(self, roster: Roster, tile: tiles.Tile) -> bytes:
        first = tile.n * tiles.WIDTH
        self._reach((first + tile.width) << 8 * tile.level, tile.path)

        def read(reader: tiles.LogReader) -> bytes:
            hash_at = reader.tiles.hash_at
            return b"".join(hash_at(8 * tile.level, first + i) for i in range(tile.width))

        return self._reading(roster, tile.path, read)

    def _bundle(self, roster: Roster, n: int, width: int, path: str) -> list[bytes]:
        self._reach(n * tiles.WIDTH + width, path)
        return self._reading(roster, path, lambda reader: reader.bundle(n)[:width])

    def _entries(self, roster: Roster, n: int, width: int) -> bytes:
        path = tiles.entries_path(n, width)
        return tiles.encode_bundle(self._bundle(roster, n, width, path))

    def _certificates(self, roster: Roster, n: int, width: int) -> bytes:
        path = tiles.certificate_path(n, width)
        leaves = self._bundle(roster, n, width, path)
        # A source may have let narrower bundles go: ask for what its log has now.
        wide = min(tiles.WIDTH, self.size - n * tiles.WIDTH)

        def ask(source: Source) -> bytes:
            def get(path: str) -> bytes:
                return roster.fetch(source, path, _CERTIFICATES_BYTES)

            data, full = tiles.read_cut(
                get, tiles.certificate_path(n, wide), tiles.certificate_path(n)
            )
            bundle = tiles.decode_bundle(data, tiles.WIDTH if full else wide)[:width]
            for index, (leaf, certificate) in enumerate(zip(leaves, bundle, strict=True)):
                self._check_certificate(n * tiles.WIDTH + index, leaf, certificate)
            return tiles.encode_bundle(bundle)

        return roster.first_verified(path, path, ask)

    def _check_certificate(self, index: int, leaf: bytes, data: bytes) -> None:
        certificate = Certificate.parse(data, self._d.set_id)
        certificate.verify(self._d)
        decided = (self._d.first_window + index, entries.parse(leaf).segment)
        if (certificate.window, certificate.cid) != decided:
            raise VerificationFailed("a certificate of another batch", code="certificate")

    def _segment(self, roster: Roster, path: str) -> dict[str, bytes]:
        _, window, _ = parse_segment_path(path)
        expected = self._entry(roster, window, path).segment

        def ask(source: Source) -> dict[str, bytes]:
            parts = self._parts(roster, source, window)
            contents = read_cars(
                parts,
                self._d,
                lambda raw: parse_envelope(raw).topic,
                lambda raw: parse_envelope(raw).sent_s,
            )
            if contents.segment.root_cid != expected:
                raise VerificationFailed("another segment than the log's", code="root-hash")
            return {segment_path(0, window, part): data for part, data in enumerate(parts)}

        found = roster.first_verified(path, path, ask)
        if path not in found:
            raise Unavailable(f"the segment has no {path}", code="not-found")
        return found

    def _entry(self, roster: Roster, window: int, path: str) -> LogEntry:
        """The log entry of a window, verified. Raises Unavailable `not-found`."""
        index = window - self._d.first_window
        if index < 0:
            raise Unavailable(f"this set has no {path}", code="not-found")
        n, place = divmod(index, tiles.WIDTH)
        self._reach(index + 1, path)
        return entries.parse(self._bundle(roster, n, place + 1, path)[place])

    # --- roll-ups ---------------------------------------------------------------------------

    def rollup(self, path: str, of: Span) -> tuple[list[Section], list[Block]]:
        """Where every block of a roll-up stands, and those that came with that: its root, its
        tables, a small one's pages.

        Raises Unavailable `not-found`, `pruned`; VerificationFailed.
        """
        roster = Roster(self._sources)
        try:
            entry = self._entry(roster, entry_window(self._d, of), path)
            due = due_at(self._d, entry.window)
            cid = dict(zip(due, entry.rollups, strict=True))[of]
            if cid is None:
                raise Unavailable(f"{path} was not made: it is too large", code="not-found")
            return roster.first_verified(path, path, lambda s: self._open(roster, s, of, cid))
        except Unavailable as error:
            _require_there(error, path)
            raise
        finally:
            self._count(roster)

    def _open(
        self, roster: Roster, source: Source, of: Span, cid: bytes
    ) -> tuple[list[Section], list[Block]]:
        def read(part: int, offset: int, length: int) -> bytes:
            path = segment_path(of.level, of.number, part)
            return roster.fetch(source, path, length, offset=offset, length=length)

        kind = IndexReader if is_index(self._d, of.level) else SegmentReader
        reader = kind(self._d, of, cid, read)
        sections = list(reader.sections())
        held = [(s.cid, reader.block(s)) for s in sections if reader.has(s)]
        return sections, held

    def blocks(self, path: str, of: Span, sections: Sequence[Section]) -> list[bytes]:
        """Neighbouring blocks of one part, each hashed. Raises as `rollup`."""
        first, last = sections[0], sections[-1]
        length = last.offset + last.length - first.offset
        part = segment_path(of.level, of.number, first.part)
        roster = Roster(self._sources)

        def ask(source: Source) -> list[bytes]:
            data = roster.fetch(source, part, length, offset=first.offset, length=length)
            found: list[bytes] = []
            for section in sections:
                at = section.offset - first.offset
                found.append(data[at : at + section.length])
                cids.check(section.cid, found[-1])
            return found

        try:
            return roster.first_verified(path, part, ask)
        except Unavailable as error:
            _require_there(error, path)
            raise
        finally:
            self._count(roster)

    def _parts(self, roster: Roster, source: Source, window: int) -> list[bytes]:
        parts = [roster.fetch(source, segment_path(0, window), limits.CAR_MAX_BYTES)]
        # Only a segment over 64 MiB has more.
        while (
            len(parts[-1]) >= limits.CAR_PART_BYTES // 2 and len(parts) < limits.SEGMENT_MAX_PARTS
        ):
            try:
                next_part = segment_path(0, window, len(parts))
                parts.append(roster.fetch(source, next_part, limits.CAR_MAX_BYTES))
            except Unavailable as error:
                if error.code != "not-found":
                    raise
                break
        return parts

    def block(self, cid: bytes) -> bytes:
        """A block by its CID from any source that serves blocks. Raises Unavailable `not-found`."""
        roster = Roster(self._sources)
        path = f"ipfs/{cids.to_text(cid)}"
        try:
            for source in self._sources:
                if not isinstance(source, HttpSource):
                    continue
                try:
                    return source.block(cid)
                except (Invalid, Unavailable) as error:
                    roster.complain(source, error, path)
        finally:
            self._count(roster)
        raise Unavailable(f"no source has block {cids.to_text(cid)}", code="not-found")

    # --- notes ------------------------------------------------------------------------------

    def named(self, path: str) -> bytes:
        """`watch/<name>` or `contact/<name>`: the newest that a source serves, verified.

        Raises Unavailable `not-found`.
        """
        kind, _, name = path.partition("/")
        best: tuple[int, bytes] | None = None
        roster = Roster(self._sources)
        for source in self._sources:
            try:
                data = roster.fetch(source, path, limits.CONTACT_MAX_BYTES)
                order = self._order(kind, name, data)
            except (Invalid, InvalidEncoding, Unavailable) as error:
                roster.complain(source, error, path)
                continue
            if best is None or order > best[0]:
                best = order, data
        self._count(roster)
        if best is None:
            raise Unavailable(f"no source has {path}", code="not-found")
        return best[1]

    def _order(self, kind: str, name: str, data: bytes) -> int:
        if kind == "watch":
            return WatchNote.open(data, self._d, name).size
        contact = ContactNote.open(data, self._d)
        if contact.name != name:
            raise VerificationFailed("a contact of another validator", code="contact")
        return contact.sequence

    def _count(self, roster: Roster) -> None:
        self.requests += roster.requests
        for complaint in roster.complaints:
            if complaint.code == "not-found":
                continue
            known = self.complaints.get((complaint.source, complaint.code))
            self.complaints[complaint.source, complaint.code] = complaint
            if known is None and complaint.lied:
                log.warning("a source lies: %s", complaint)


def _require_there(error: Unavailable, path: str) -> None:
    """Raise Unavailable `not-found` for what no source has; that none answers is another matter.

    A segment was asked for because the log names it: then it was given up, and it is `pruned`.
    """
    held = getattr(error, "complaints", ())
    if not held or any(complaint.code != "not-found" for complaint in held):
        return
    if all(complaint.path.startswith("segment/") for complaint in held):
        raise Unavailable(f"every source has given up {path}", code="pruned") from error
    raise Unavailable(f"no source has {path}", code="not-found") from error
