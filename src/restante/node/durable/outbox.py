"""The durable queue from the archive to the stores: publishing waits for them, sealing never does.

One row is one file for one store. Immutable files are read from the archive when their turn comes;
of mutable ones the row holds the bytes, so that a store never shows a checkpoint before the files
under it. Every store also has a mark, the log's size up to which all was queued: after a crash
between commit and queueing, or for a new store, `catch_up` queues the rest. A lost queue is queued
anew from there; puts of the same bytes change nothing.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from restante import limits
from restante.durable import Hook, durable_step, no_hook
from restante.errors import Conflict, RestanteError, StateError, Unavailable
from restante.formats.paths import is_mutable
from restante.node.durable.archive import Archive, Changes
from restante.ports import Store

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS pending(number INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL,
  path TEXT NOT NULL, release INTEGER NOT NULL, data BLOB, refused INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS pending_store ON pending(store, refused, number);
CREATE TABLE IF NOT EXISTS reached(store TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


class _Row(NamedTuple):
    number: int
    path: str
    release: bool
    data: bytes | None


class Outbox:
    """The open queue of one process; all calls come from its event loop's thread."""

    def __init__(
        self, path: Path, archive: Archive, stores: Sequence[str], *, hook: Hook = no_hook
    ) -> None:
        """Open, or make an empty one. Raises StateError `outbox`: delete it, it is queued anew."""
        self._archive = archive
        self._stores = tuple(stores)
        self._hook = hook
        self._mutex = RLock()
        self._errors: dict[str, RestanteError] = {}
        self._wake = {store: asyncio.Event() for store in stores}
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=limits.SQLITE_BUSY_S
        )
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            # Losing the last rows in a loss of power costs a repetition: the mark goes with them.
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            self._db.executescript(_SCHEMA)
            # What a store refused is offered again once per start.
            self._db.execute("UPDATE pending SET refused = 0")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StateError(
                f"{path}: {error}",
                code="outbox",
                hint="delete this file while the node is down; everything is queued anew",
            ) from error

    def close(self) -> None:
        with self._mutex:
            self._db.close()

    def enqueue(self, changes: Changes, size: int | None = None) -> None:
        """Queue changes for every store, in their order; durable when it returns.

        `size` is the log's size once these are in a store, when they complete it.
        """
        for store in self._stores:
            self._enqueue(store, changes, size)

    def catch_up(self) -> None:
        """Queue for each store what the archive has beyond that store's mark."""
        for store in self._stores:
            changes = self._archive.changes(self.reached(store), self._archive.size)
            if changes.written:
                self._enqueue(store, changes, self._archive.size)

    def reached(self, store: str) -> int:
        """The log's size up to which everything was queued for a store."""
        with self._mutex:
            row = self._db.execute("SELECT size FROM reached WHERE store = ?", (store,)).fetchone()
        return 0 if row is None else int(row[0])

    def pending(self, store: str) -> int:
        """Files that still wait for a store, also those that it refused."""
        with self._mutex:
            row = self._db.execute("SELECT count(*) FROM pending WHERE store = ?", (store,))
            return int(row.fetchone()[0])

    def paths(self) -> list[str]:
        """The paths that wait for any store, to be put (for fsck)."""
        with self._mutex:
            rows = self._db.execute("SELECT DISTINCT path FROM pending WHERE NOT release")
            return [path for (path,) in rows]

    def last_error(self, store: str) -> RestanteError | None:
        """Why the newest attempt at a store failed; None once one has succeeded.

        A refused file stays the last error until the next start: nobody repairs it unseen.
        """
        return self._errors.get(store)

    async def drain(self, store: Store) -> None:
        """Bring everything queued to a store, for ever, until cancelled.

        A failure is tried again after a pause that doubles up to OUTBOX_RETRY_MAX_S.
        """
        pause_s = limits.OUTBOX_RETRY_FIRST_S
        while True:
            # Cleared before looking: what is queued from here on sets it again.
            self._wake[store.name].clear()
            if await self.flush(store):
                pause_s = limits.OUTBOX_RETRY_FIRST_S
                await self._wake[store.name].wait()
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, limits.OUTBOX_RETRY_MAX_S)

    async def flush(self, store: Store) -> bool:
        """Bring what is queued to a store until nothing is left (True) or it fails (False)."""
        while (row := self._next(store.name)) is not None:
            try:
                await self._deliver(store, row)
            except Conflict as error:
                # Another file is no better for waiting: this one stays behind, and is shown.
                self._errors[store.name] = error
                self._execute("UPDATE pending SET refused = 1 WHERE number = ?", row.number)
                continue
            except RestanteError as error:
                self._errors[store.name] = error
                return False
            with durable_step(self._hook, "outbox.done"):
                self._execute("DELETE FROM pending WHERE number = ?", row.number)
            if not isinstance(self._errors.get(store.name), Conflict):
                self._errors.pop(store.name, None)
        return True

    async def _deliver(self, store: Store, row: _Row) -> None:
        if row.release:
            await store.release(row.path)
            return
        data = row.data
        if data is None:
            try:
                data = await asyncio.to_thread(self._archive.read, row.path)
            except Unavailable as error:
                if error.code != "not-found":
                    raise
                # Superseded or released since: its release is queued behind it.
                return
        await store.put(row.path, data)

    def _enqueue(self, store: str, changes: Changes, size: int | None) -> None:
        rows = [
            (store, path, False, self._archive.read(path) if is_mutable(path) else None)
            for path in changes.written
        ]
        rows += [(store, path, True, None) for path in changes.released]
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "INSERT INTO pending(store, path, release, data) VALUES(?, ?, ?, ?)", rows
                )
                if size is not None:
                    self._db.execute(
                        "INSERT INTO reached VALUES(?, ?) ON CONFLICT(store) DO UPDATE SET"
                        " size = max(size, excluded.size)",
                        (store, size),
                    )
                with durable_step(self._hook, "outbox.enqueue"):
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        self._wake[store].set()

    def _next(self, store: str) -> _Row | None:
        with self._mutex:
            row = self._db.execute(
                "SELECT number, path, release, data FROM pending WHERE store = ? AND refused = 0"
                " ORDER BY number LIMIT 1",
                (store,),
            ).fetchone()
        return None if row is None else _Row(*row)

    def _execute(self, sql: str, *values: object) -> None:
        with self._mutex:
            self._db.execute(sql, values)
