"""The embedded engine: one SQLite file that all processes of one machine append to.

Trusted for liveness only (R5): who can change the file can halt the index, not fork it, since
every validator re-verifies each certificate and remembers the last entry that it read.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Lock as Mutex

from restante import limits
from restante.durable import Hook, durable_step, make_directories, no_hook, sync_directory
from restante.errors import Invalid, StateError, Unavailable
from restante.ports import Health, Slot

# "Rest" in ASCII: another program's database is not taken for an engine.
_APPLICATION_ID = 0x52657374
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE slots(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  entry BLOB NOT NULL
    CHECK(typeof(entry) = 'blob' AND length(entry) BETWEEN 1 AND {limits.ENGINE_ENTRY_BYTES}));
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""


class LocalEngine:
    """Engine port over a shared SQLite file in WAL mode, synchronous=FULL.

    Appends run in a thread, since they wait for the disk. Reads run where they are called: they
    never wait for a writer, and a poll that finds nothing takes microseconds.
    """

    def __init__(self, path: Path, *, hook: Hook = no_hook) -> None:
        """Use `create` or `open`."""
        self._hook = hook
        self._path = path
        self._mutex = Mutex()
        self._writer = _connect(path)
        self._reader = _connect(path)
        self._closed = False

    @classmethod
    def create(cls, path: Path, *, hook: Hook = no_hook) -> "LocalEngine":
        """Make an empty engine. Raises StateError `engine-exists`."""
        if path.exists():
            raise StateError(f"{path} exists already", code="engine-exists")
        make_directories(path.parent)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        db = sqlite3.connect(temporary, isolation_level=None)
        try:
            db.executescript(_SCHEMA)
        finally:
            db.close()
        with durable_step(hook, "engine.create"):
            temporary.rename(path)
            sync_directory(path.parent)
        return cls.open(path, hook=hook)

    @classmethod
    def open(cls, path: Path, *, hook: Hook = no_hook) -> "LocalEngine":
        """Open an engine. Raises StateError `engine-missing`, `engine-format`."""
        if not path.exists():
            raise StateError(
                f"{path} is missing",
                code="engine-missing",
                hint="a set names one file, which `init` or `set create` makes, once",
            )
        try:
            engine = cls(path, hook=hook)
        except sqlite3.DatabaseError as error:
            raise StateError(f"{path} is no engine: {error}", code="engine-format") from error
        found = [engine._reader.execute(f"PRAGMA {p}").fetchone()[0] for p in _FORMAT]
        if found != list(_FORMAT.values()):
            engine._close()
            raise StateError(
                f"{path} is no engine of this version",
                code="engine-format",
                hint="every process that shares it needs the program that wrote it, or a newer one",
            )
        return engine

    async def append(self, entry: bytes) -> int:
        """See `ports.Engine`. Raises Invalid `engine-entry-size`, Unavailable."""
        if not 1 <= len(entry) <= limits.ENGINE_ENTRY_BYTES:
            raise Invalid(f"an engine entry of {len(entry)} bytes", code="engine-entry-size")
        return await asyncio.to_thread(self._append, entry)

    async def entries(self, after_slot: int, limit: int) -> Sequence[Slot]:
        """See `ports.Engine`; at most ENGINE_PAGE_ENTRIES of them at once."""
        limit = max(0, min(limit, limits.ENGINE_PAGE_ENTRIES))
        try:
            rows = self._reader.execute(
                "SELECT number, entry FROM slots WHERE number > ? ORDER BY number LIMIT ?",
                (after_slot, limit),
            ).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return [Slot(*row) for row in rows]

    async def health(self) -> Health:
        try:
            self._reader.execute("SELECT max(number) FROM slots").fetchone()
        except sqlite3.Error as error:
            return Health(False, f"{self._path}: {error}")
        return Health(True)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _append(self, entry: bytes) -> int:
        with self._mutex:
            db = self._writer
            try:
                # IMMEDIATE takes the write lock at once: upgrading later could not wait its turn.
                db.execute("BEGIN IMMEDIATE")
                number = db.execute("INSERT INTO slots(entry) VALUES(?)", (entry,)).lastrowid
                with durable_step(self._hook, "engine.append"):
                    db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._unavailable(error) from error
            finally:
                if not self._closed and db.in_transaction:
                    db.execute("ROLLBACK")
        assert number is not None
        return number

    def _close(self) -> None:
        with self._mutex:
            self._closed = True
            self._writer.close()
            self._reader.close()

    def _unavailable(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(
            f"{self._path}: {error}",
            code="engine-unavailable",
            hint="check the disk, and that every process names the same file",
        )


_FORMAT = {"application_id": _APPLICATION_ID, "user_version": _VERSION}


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
