"""The lock state of one validator key: what it froze, accepted, decided and cosigned.

It must be right and it must be the newest: **never restore it from a backup**. A key that signs
with an older lock state can sign what contradicts it, so a lost one is a lost key (R6). Nothing
here is ever overwritten by another value: each record is written once, a repetition of the same
value is fine, and a different one is a StateError. SQLite in WAL mode with synchronous=FULL: a
transaction is durable when its commit returns.
"""

import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from restante import limits
from restante.durable import Hook, make_directories, no_hook, sync_directory
from restante.errors import StateError
from restante.rules.adopt import Adoption

VERSION = 1
ADOPTED_VERSION = 2
"""Of a lock state with an adoption: who does not know of it would build another tree."""
FILE_NAME = "lock.db"
_SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE freeze(window INTEGER PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE accept(window INTEGER, base_size INTEGER, base_root BLOB, cid BLOB,
  members BLOB NOT NULL, PRIMARY KEY(window, base_size, base_root, cid)) WITHOUT ROWID;
CREATE TABLE decision(window INTEGER PRIMARY KEY, slot INTEGER NOT NULL, cid BLOB NOT NULL,
  certificate BLOB NOT NULL, entry BLOB NOT NULL);
CREATE TABLE cosignature(size INTEGER PRIMARY KEY, root BLOB NOT NULL, line BLOB NOT NULL);
CREATE TABLE peer_cosignature(key_id BLOB PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
  value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE engine(one INTEGER PRIMARY KEY CHECK(one = 1), slot INTEGER NOT NULL,
  entry_hash BLOB NOT NULL);
CREATE TABLE heartbeat(window INTEGER PRIMARY KEY, watched INTEGER NOT NULL);
CREATE TABLE cursor(peer TEXT PRIMARY KEY, pool_id BLOB NOT NULL, position INTEGER NOT NULL)
  WITHOUT ROWID;
"""
_ADOPTION = """
CREATE TABLE IF NOT EXISTS adoption(lost_from INTEGER PRIMARY KEY, size INTEGER NOT NULL,
  root BLOB NOT NULL, floor INTEGER NOT NULL, note BLOB NOT NULL);
"""


class AcceptRecord(NamedTuple):
    """A batch that this validator signed an accept for, and the base it named."""

    window: int
    base_size: int
    base_root: bytes
    cid: bytes
    members: tuple[tuple[int, int], ...] = ()
    """Its envelopes, as half-open runs of pool positions."""


class Decision(NamedTuple):
    """A decided window: its slot in the engine, its batch, the certificate and the log entry."""

    window: int
    slot: int
    cid: bytes
    certificate: bytes
    entry: bytes


class Cosignature(NamedTuple):
    """A tree that this key cosigned, with the bytes that left."""

    size: int
    root: bytes
    line: bytes


class PeerCosignature(NamedTuple):
    """The newest cosignature of a peer that was seen here."""

    key_id: bytes
    size: int
    root: bytes
    value: bytes


class Lock:
    """The open lock state. One process holds it; its methods may be called from any thread."""

    def __init__(self, path: Path, guard_fd: int, hook: Hook) -> None:
        """Use `create` or `open`."""
        self._path = path
        self._guard_fd = guard_fd
        self._hook = hook
        self._mutex = RLock()
        self._depth = 0
        self._db = _connect(path)

    @classmethod
    def create(
        cls,
        directory: Path,
        set_id: bytes,
        key_id: bytes,
        *,
        first_window: int = 0,
        hook: Hook = no_hook,
    ) -> "Lock":
        """Make the lock state of a new key, once. Raises StateError `lock-exists`."""
        path = directory / FILE_NAME
        if path.exists():
            raise StateError(
                f"{path} exists already",
                code="lock-exists",
                hint="lock state is made once for a key; start with `up` instead",
            )
        make_directories(directory)
        temporary = directory / f".{FILE_NAME}.tmp"
        temporary.unlink(missing_ok=True)
        hook("lock.create.before")
        db = sqlite3.connect(temporary, isolation_level=None)
        try:
            db.executescript(_SCHEMA)
            meta = {
                "version": VERSION,
                "set_id": set_id,
                "key_id": key_id,
                "first_window": first_window,
                "pruned": 0,
            }
            db.executemany("INSERT INTO meta VALUES(?, ?)", list(meta.items()))
        finally:
            db.close()
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        # It appears under its name whole or not at all, and never over another one.
        os.link(temporary, path)
        temporary.unlink()
        sync_directory(directory)
        hook("lock.create.after")
        return cls.open(directory, set_id, key_id, hook=hook)

    @classmethod
    def open(
        cls, directory: Path, set_id: bytes, key_id: bytes | None, *, hook: Hook = no_hook
    ) -> "Lock":
        """Open the lock state of this key in this set; None takes any key, and is for `fsck`.

        Raises StateError: `lock-missing`, `lock-mismatch` (another set or key), `lock-version`
        (written by a newer program), `lock-busy` (another process), `lock-damaged`.
        """
        path = directory / FILE_NAME
        if not path.exists():
            raise StateError(
                f"{path} is missing",
                code="lock-missing",
                hint=(
                    "if this key ever signed, it is lost with its lock state and the set needs a "
                    "successor; do not restore an old copy. A new key gets its lock state by "
                    "`init` or `set join`"
                ),
            )
        guard_fd = _guard(path)
        try:
            lock = cls(path, guard_fd, hook)
        except sqlite3.DatabaseError as error:
            os.close(guard_fd)
            raise _damaged(path, error) from error
        try:
            lock._check(set_id, key_id)
        except BaseException:
            lock.close()
            raise
        return lock

    def close(self) -> None:
        """Close the file. Whatever was committed is durable already."""
        with self._mutex:
            self._db.close()
            if self._guard_fd >= 0:
                os.close(self._guard_fd)
                self._guard_fd = -1

    @contextmanager
    def transaction(self, step: str = "transaction") -> Iterator[None]:
        """Make all that is written inside durable at once, or nothing of it."""
        with self._mutex:
            if self._depth:
                # Part of the outer transaction, which alone commits.
                yield
                return
            self._depth = 1
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._hook(f"lock.{step}.before")
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StateError(
                        f"{self._path} cannot be written: {error}",
                        code="lock-write",
                        hint="nothing may be signed until it can: free or replace the disk",
                    ) from error
                raise
            finally:
                self._depth = 0
            self._hook(f"lock.{step}.after")

    # --- freeze and accept (R1, R2)

    def freeze(self, window: int, position: int) -> None:
        """Write the frozen position of a window. Raises StateError `freeze-changed`."""
        with self.transaction("freeze"):
            self._refuse_pruned(window)
            known = self._one("SELECT position FROM freeze WHERE window = ?", window)
            if known is None:
                self._db.execute("INSERT INTO freeze VALUES(?, ?)", (window, position))
            elif known[0] != position:
                raise StateError(
                    f"window {window} was frozen at {known[0]}, not at {position}",
                    code="freeze-changed",
                )

    def freezes(self) -> dict[int, int]:
        """Window → frozen position, ascending."""
        return dict(self._all("SELECT window, position FROM freeze ORDER BY window"))

    def accept(
        self,
        window: int,
        base_size: int,
        base_root: bytes,
        cid: bytes,
        members: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Note, before the signature leaves, that this batch is accepted on this base."""
        flat = [position for run in members for position in run]
        with self.transaction("accept"):
            self._refuse_pruned(window)
            self._db.execute(
                "INSERT OR IGNORE INTO accept VALUES(?, ?, ?, ?, ?)",
                (window, base_size, base_root, cid, struct.pack(f">{len(flat)}Q", *flat)),
            )

    def accepts(self, window: int) -> list[AcceptRecord]:
        """What was accepted in a window, ordered by base and CID."""
        return [
            AcceptRecord(w, size, root, cid, tuple(struct.iter_unpack(">QQ", packed)))
            for w, size, root, cid, packed in self._all(
                "SELECT window, base_size, base_root, cid, members FROM accept WHERE window = ?"
                " ORDER BY base_size, base_root, cid",
                window,
            )
        ]

    # --- decisions and the engine's place

    @property
    def key_id(self) -> bytes:
        """The cosigner key id that this lock state belongs to, 4 bytes."""
        return bytes(self._meta("key_id"))

    @property
    def first_window(self) -> int:
        """The window of the log's first entry."""
        return int(self._meta("first_window"))

    def size(self) -> int:
        """How many windows are decided or adopted: the size of the log."""
        adopted = self.adopted()
        row = self._one("SELECT max(window) FROM decision")
        decided = 0 if row is None or row[0] is None else int(row[0]) + 1 - self.first_window
        return max(decided, 0 if adopted is None else adopted.size)

    def decide(self, window: int, slot: int, cid: bytes, certificate: bytes, entry: bytes) -> None:
        """Write a decided window; it must be the next one, or equal what is written.

        Raises StateError `decision-changed`, `decision-order`.
        """
        decision = Decision(window, slot, cid, certificate, entry)
        with self.transaction("decide"):
            next_window = self.first_window + self.size()
            if window == next_window:
                self._db.execute("INSERT INTO decision VALUES(?, ?, ?, ?, ?)", decision)
            elif window > next_window:
                raise StateError(
                    f"window {window} decided where {next_window} is next", code="decision-order"
                )
            elif self.decision(window) != decision:
                raise StateError(f"window {window} was decided otherwise", code="decision-changed")

    def adopt(self, adoption: Adoption) -> None:
        """Take over a tree that k cosigned; one that was taken from the same window is replaced.

        Raises StateError `adoption-behind` for a tree that is behind this lock state.
        """
        with self.transaction("adopt"):
            newest = self.newest_cosignature()
            least = max(self.size(), 0 if newest is None else newest.size)
            if adoption.size < least:
                raise StateError(
                    f"a tree of {adoption.size} adopted where {least} is known",
                    code="adoption-behind",
                )
            self._db.execute(_ADOPTION)
            self._db.execute(
                "INSERT OR REPLACE INTO adoption VALUES(?, ?, ?, ?, ?)",
                (
                    adoption.lost_from,
                    adoption.size,
                    adoption.root,
                    adoption.floor,
                    adoption.note,
                ),
            )
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'version'", (ADOPTED_VERSION,))

    def adopted(self) -> Adoption | None:
        """The newest tree that was taken over."""
        return next(reversed(self.adoptions()), None)

    def adoptions(self) -> list[Adoption]:
        """All trees that were taken over, ascending."""
        if self._meta("version") < ADOPTED_VERSION:
            return []
        rows = self._all("SELECT size, root, floor, lost_from, note FROM adoption ORDER BY size")
        return [Adoption(*row) for row in rows]

    def decision(self, window: int) -> Decision | None:
        """One decided window, unless undecided or pruned."""
        row = self._one(
            "SELECT window, slot, cid, certificate, entry FROM decision WHERE window = ?", window
        )
        return None if row is None else Decision(*row)

    def decisions(self, from_window: int, limit: int) -> list[Decision]:
        """Up to `limit` decided windows from `from_window` on, ascending."""
        return [
            Decision(*row)
            for row in self._all(
                "SELECT window, slot, cid, certificate, entry FROM decision WHERE window >= ?"
                " ORDER BY window LIMIT ?",
                from_window,
                limit,
            )
        ]

    def engine_at(self) -> tuple[int, bytes]:
        """(slot, SHA-256 of its entry) of the last engine entry that was read; (0, b"") if none."""
        row = self._one("SELECT slot, entry_hash FROM engine")
        return (0, b"") if row is None else (int(row[0]), bytes(row[1]))

    def advance_engine(self, slot: int, entry_hash: bytes) -> None:
        """Note how far the engine was read. Raises StateError `engine-behind`, `engine-differs`."""
        with self.transaction("advance"):
            at, known = self.engine_at()
            if slot < at:
                raise StateError(f"the engine went back from {at} to {slot}", code="engine-behind")
            if slot == at and known not in (b"", entry_hash):
                raise StateError(f"the engine's slot {slot} changed", code="engine-differs")
            self._db.execute("INSERT OR REPLACE INTO engine VALUES(1, ?, ?)", (slot, entry_hash))

    # --- cosignatures (R6)

    def cosign(self, size: int, root: bytes, line: bytes) -> bytes:
        """Store the signature line of (size, root) before it leaves, and answer what is stored.

        A line that is stored already is answered instead of the new one: a tree is signed once.
        Raises StateError `double-cosign` (another root), `cosign-behind` (a size below the newest
        that was passed over).
        """
        with self.transaction("cosign"):
            known = self.cosignature(size)
            if known is not None:
                if known.root != root:
                    raise StateError(
                        f"size {size} was cosigned with another root",
                        code="double-cosign",
                        hint="the log was rebuilt otherwise than before: nothing is signed",
                    )
                return known.line
            newest = self.newest_cosignature()
            if newest is not None and size < newest.size:
                raise StateError(
                    f"size {size} is below {newest.size}, which is cosigned", code="cosign-behind"
                )
            self._db.execute("INSERT INTO cosignature VALUES(?, ?, ?)", (size, root, line))
        return line

    def cosignature(self, size: int) -> Cosignature | None:
        """What was cosigned at a size."""
        row = self._one("SELECT size, root, line FROM cosignature WHERE size = ?", size)
        return None if row is None else Cosignature(*row)

    def newest_cosignature(self) -> Cosignature | None:
        """The cosignature of the largest size."""
        row = self._one("SELECT size, root, line FROM cosignature ORDER BY size DESC LIMIT 1")
        return None if row is None else Cosignature(*row)

    def cosignatures(self, from_size: int = 0) -> Iterator[Cosignature]:
        """All cosignatures kept, ascending from a size."""
        found = self.cosignature(from_size)
        while True:
            if found is not None:
                yield found
                from_size = found.size
            row = self._one(
                "SELECT size, root, line FROM cosignature WHERE size > ? ORDER BY size LIMIT 1",
                from_size,
            )
            if row is None:
                return
            found = Cosignature(*row)

    def put_peer_cosignature(self, key_id: bytes, size: int, root: bytes, value: bytes) -> None:
        """Remember a peer's cosignature if it is newer: its start asks us for it (§8)."""
        with self.transaction("peer-cosignature"):
            self._db.execute(
                "INSERT INTO peer_cosignature VALUES(?, ?, ?, ?) ON CONFLICT(key_id) DO UPDATE SET"
                " size = excluded.size, root = excluded.root, value = excluded.value"
                " WHERE excluded.size > size",
                (key_id, size, root, value),
            )

    def peer_cosignatures(self) -> list[PeerCosignature]:
        """The newest cosignature of each peer, by key id."""
        rows = self._all("SELECT key_id, size, root, value FROM peer_cosignature ORDER BY key_id")
        return [PeerCosignature(*row) for row in rows]

    # --- what was watched, and what was read of peers

    def put_heartbeat(self, window: int, watched: bool) -> None:
        """Note whether the network was watched in all of a window; unwatched is never undone."""
        with self.transaction("heartbeat"):
            self._db.execute(
                "INSERT INTO heartbeat VALUES(?, ?) ON CONFLICT(window) DO UPDATE SET"
                " watched = min(watched, excluded.watched)",
                (window, int(watched)),
            )

    def heartbeats(self, floor: int) -> dict[int, bool]:
        """Window → watched, from `floor` on; a window that is missing was not watched."""
        rows = self._all(
            "SELECT window, watched FROM heartbeat WHERE window >= ? ORDER BY window", floor
        )
        return {window: bool(watched) for window, watched in rows}

    def put_cursor(self, peer: str, pool_id: bytes, position: int) -> None:
        """Note that all below `position` of this peer's pool is pooled here or invalid (R7)."""
        with self.transaction("cursor"):
            self._db.execute(
                "INSERT OR REPLACE INTO cursor VALUES(?, ?, ?)", (peer, pool_id, position)
            )

    def cursors(self) -> dict[str, tuple[bytes, int]]:
        """Peer → (its pool's id, position)."""
        rows = self._all("SELECT peer, pool_id, position FROM cursor")
        return {peer: (pool_id, position) for peer, pool_id, position in rows}

    def prune(self, below_window: int, *, archived_below: int = 0) -> None:
        """Forget freezes and accepts of windows below `below_window`, for good.

        Decisions, heartbeats and cosignatures go below `archived_below`, which the caller gives
        only once the archive holds them or gave them up; the newest of each always stays.
        """
        newest = self.newest_cosignature()
        with self.transaction("prune"):
            below = max(below_window, int(self._meta("pruned")))
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'pruned'", (below,))
            self._db.execute("DELETE FROM freeze WHERE window < ?", (below,))
            self._db.execute("DELETE FROM accept WHERE window < ?", (below,))
            last = self.first_window + self.size() - 1
            old = min(archived_below, last)
            self._db.execute("DELETE FROM decision WHERE window < ?", (old,))
            self._db.execute("DELETE FROM heartbeat WHERE window < ?", (old,))
            if newest is not None:
                size = min(old - self.first_window, newest.size)
                self._db.execute("DELETE FROM cosignature WHERE size < ?", (size,))

    # --- inside

    def _check(self, set_id: bytes, key_id: bytes | None) -> None:
        try:
            version = self._meta("version")
            if version not in (VERSION, ADOPTED_VERSION):
                raise StateError(
                    f"{self._path} has version {version}, this program knows {ADOPTED_VERSION}",
                    code="lock-version",
                    hint="start the program that wrote it, or a newer one",
                )
            if self._meta("set_id") != set_id or key_id not in (None, self.key_id):
                raise StateError(
                    f"{self._path} belongs to another validator set or key",
                    code="lock-mismatch",
                    hint="a lock state stays with its key: check the folder and the key file",
                )
        except sqlite3.DatabaseError as error:
            raise _damaged(self._path, error) from error

    def _meta(self, name: str) -> Any:
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        if row is None:
            raise _damaged(self._path, f"no {name}")
        return row[0]

    def _refuse_pruned(self, window: int) -> None:
        if window < int(self._meta("pruned")):
            raise StateError(f"window {window} was pruned", code="lock-pruned")

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._mutex:
            row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            return row

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._mutex:
            return self._db.execute(sql, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=limits.SQLITE_BUSY_S
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _guard(path: Path) -> int:
    """Hold the lock state for this process: two that sign with one key would contradict."""
    fd = os.open(path.with_name("guard"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StateError(
            f"{path} is in use by another process",
            code="lock-busy",
            hint="one validator runs once; stop the other process first",
        ) from error
    return fd


def _damaged(path: Path, error: object) -> StateError:
    return StateError(
        f"{path} is damaged: {error}",
        code="lock-damaged",
        hint="this key may not sign any more; do not restore an old copy of lock/",
    )
