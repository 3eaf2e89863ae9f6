"""Where each block of the archive's segments stands, so that it can be served by its CID.

Rebuildable from the segments themselves, so it need not wait for the disk: SQLite in WAL mode with
synchronous=NORMAL loses its last transactions in a loss of power, never its order. Which segments
are indexed is part of the index; `Segments` adds what is missing.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import BinaryIO, NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, StateError
from restante.formats import car, varint
from restante.formats import cid as cids

_VERSION = 2
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS block(digest BLOB, level INTEGER, number INTEGER, part INTEGER NOT NULL,
  offset INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY(digest, level, number))
  WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS block_segment ON block(level, number);
CREATE TABLE IF NOT EXISTS indexed(level INTEGER, number INTEGER, PRIMARY KEY(level, number))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floor(name TEXT PRIMARY KEY, window INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
# Version 1 knew level 0 alone. Its marks stay; the blocks are found again in the segments.
_FROM_1 = "DROP TABLE IF EXISTS block; DROP TABLE IF EXISTS indexed;"


class Place(NamedTuple):
    """Where a block stands: the segment, its part, byte offset of the block, length."""

    level: int
    number: int
    part: int
    offset: int
    length: int


BlockRow = tuple[bytes, int, int, int]
"""(SHA-256, part, offset of the block, its length)."""


def block_places(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(CID, offset of the block, its length) of a CAR's sections; nothing is hashed.

    Raises InvalidEncoding.
    """
    _, at = car.read_header(file.read(car.HEADER_BYTES))
    size = file.seek(0, 2)
    while at < size:
        file.seek(at)
        head = file.read(varint.VARINT_MAX_BYTES + cids.CID_BYTES)
        length, start = varint.decode(head)
        end = at + start + length
        if length < cids.CID_BYTES or end > size:
            raise InvalidEncoding("a CAR section is truncated")
        begin = start + cids.CID_BYTES
        yield cids.require(head[start:begin]), at + begin, end - at - begin
        at = end


def block_rows(parts: Sequence[BinaryIO]) -> Iterator[BlockRow]:
    """The rows of a segment's parts. Raises InvalidEncoding."""
    for part, file in enumerate(parts):
        for cid, offset, length in block_places(file):
            yield cids.digest(cid), part, offset, length


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
            if version == 1:
                self._db.executescript(_FROM_1)
            elif version not in (0, _VERSION):
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

    def add(self, level: int, number: int, rows: Iterable[BlockRow]) -> None:
        """Index a segment, in place of what its number had. Raises what `rows` raises.

        Readers get their turn between the groups of a large one's rows, and a segment counts as
        indexed with the last of them.
        """
        values = ((digest, level, number, *place) for digest, *place in rows)
        begun = done = False
        while not done:
            group = list(islice(values, limits.BLOCK_INDEX_GROUP))
            done = len(group) < limits.BLOCK_INDEX_GROUP
            with self._mutex, self._transaction():
                if not begun:
                    self._forget(level, number)
                self._db.executemany("INSERT OR REPLACE INTO block VALUES(?, ?, ?, ?, ?, ?)", group)
                if done:
                    self._execute("INSERT INTO indexed VALUES(?, ?)", level, number)
            begun = True

    def remove(self, level: int, number: int) -> None:
        """Forget a segment."""
        with self._mutex, self._transaction():
            self._forget(level, number)

    def _forget(self, level: int, number: int) -> None:
        self._execute("DELETE FROM block WHERE level = ? AND number = ?", level, number)
        self._execute("DELETE FROM indexed WHERE level = ? AND number = ?", level, number)

    def find(self, cid: bytes) -> list[Place]:
        """Where a block of this CID stands, in any segment. Raises InvalidEncoding."""
        with self._mutex:
            rows = self._db.execute(
                "SELECT level, number, part, offset, length FROM block WHERE digest = ?",
                (cids.digest(cid),),
            ).fetchall()
        return [Place(*row) for row in rows]

    def indexed(self, level: int) -> set[int]:
        """The numbers of a level's segments that are indexed."""
        with self._mutex:
            rows = self._db.execute("SELECT number FROM indexed WHERE level = ?", (level,))
            return {number for (number,) in rows.fetchall()}

    def mark(self, name: str) -> int | None:
        """A number noted under a name."""
        with self._mutex:
            row = self._db.execute("SELECT window FROM floor WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def set_mark(self, name: str, number: int) -> None:
        """Note a number under a name."""
        self._execute("INSERT OR REPLACE INTO floor VALUES(?, ?)", name, number)

    def _execute(self, sql: str, *values: object) -> None:
        with self._mutex:
            self._db.execute(sql, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
