"""Where each block of the archive's segments stands, so that it can be served by its CID.

Rebuildable from the segments themselves, so it need not wait for the disk: SQLite in WAL mode with
synchronous=NORMAL loses its last transactions in a loss of power, never its order. Which windows
are indexed is part of the index; the archive adds what is missing when it opens.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, StateError
from restante.formats import car, varint
from restante.formats import cid as cids

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS block(digest BLOB, window INTEGER, part INTEGER NOT NULL,
  offset INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY(digest, window)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS block_window ON block(window);
CREATE TABLE IF NOT EXISTS indexed(window INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS floor(name TEXT PRIMARY KEY, window INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


class Place(NamedTuple):
    """Where a block stands: part of the segment of a window, byte offset of the block, length."""

    window: int
    part: int
    offset: int
    length: int


def block_places(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(CID, offset of the block, its length) of a CAR's sections; nothing is hashed.

    Raises InvalidEncoding.
    """
    _, at = car.read_header(data)
    while at < len(data):
        length, start = varint.decode(data, at)
        end = start + length
        if length < cids.CID_BYTES or end > len(data):
            raise InvalidEncoding("a CAR section is truncated")
        begin = start + cids.CID_BYTES
        yield cids.require(data[start:begin]), begin, end - begin
        at = end


class BlockIndex:
    """The open index. Any thread may call it."""

    def __init__(self, path: Path) -> None:
        """Open, or make an empty one. Raises StateError `block-index`: delete it, it is rebuilt."""
        self._mutex = RLock()
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=limits.SQLITE_BUSY_S
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{path}: {error}",
                code="block-index",
                hint="delete this file while the node is down; it is rebuilt from the segments",
            ) from error

    def close(self) -> None:
        with self._mutex:
            self._db.close()

    def add(self, window: int, cars: Iterable[bytes]) -> None:
        """Index the parts of a segment, in place of what its window had. Raises InvalidEncoding."""
        rows = [
            (cids.digest(cid), window, part, offset, length)
            for part, data in enumerate(cars)
            for cid, offset, length in block_places(data)
        ]
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("DELETE FROM block WHERE window = ?", (window,))
                self._db.executemany("INSERT OR REPLACE INTO block VALUES(?, ?, ?, ?, ?)", rows)
                self._db.execute("INSERT OR REPLACE INTO indexed VALUES(?)", (window,))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def remove_below(self, window: int) -> None:
        """Forget the segments of windows below."""
        with self._mutex:
            self._db.execute("DELETE FROM block WHERE window < ?", (window,))
            self._db.execute("DELETE FROM indexed WHERE window < ?", (window,))

    def find(self, cid: bytes) -> list[Place]:
        """Where a block of this CID stands, in any segment. Raises InvalidEncoding."""
        with self._mutex:
            rows = self._db.execute(
                "SELECT window, part, offset, length FROM block WHERE digest = ?",
                (cids.digest(cid),),
            ).fetchall()
        return [Place(*row) for row in rows]

    def indexed(self, window: int) -> bool:
        """Whether the segment of a window is indexed."""
        with self._mutex:
            row = self._db.execute("SELECT 1 FROM indexed WHERE window = ?", (window,)).fetchone()
        return row is not None

    def newest(self) -> int | None:
        """The newest window that is indexed."""
        with self._mutex:
            row = self._db.execute("SELECT max(window) FROM indexed").fetchone()
        return None if row[0] is None else int(row[0])

    def mark(self, name: str) -> int | None:
        """A window noted under a name."""
        with self._mutex:
            row = self._db.execute("SELECT window FROM floor WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def set_mark(self, name: str, window: int) -> None:
        """Note a window under a name."""
        with self._mutex:
            self._db.execute("INSERT OR REPLACE INTO floor VALUES(?, ?)", (name, window))
