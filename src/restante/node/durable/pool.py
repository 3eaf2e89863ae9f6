"""The pool on disk: envelopes in order of arrival, appended and never changed.

    pool                  DAG-CBOR {version, kind: "pool", id: 16 bytes, salt: 16 bytes}
    <first position>.log  records: u32 first << 31 | length ‖ u64 arrival_ms ‖ u32 crc ‖ raw

Numbers are big-endian; the CRC-32 starts from that of the salt and covers all else. The bit *first*
marks the first record of an append. An append begins only after the one before it was synced, so
a damaged record with a marked one behind it was acknowledged: that is damage, anything else is the
torn tail of an append that nobody was promised. The salt never leaves this folder: who sends
envelopes cannot put a record inside one.
"""

import fcntl
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from restante import limits
from restante.durable import (
    Hook,
    durable_step,
    make_directories,
    no_hook,
    sync_directory,
    write_all,
    write_file,
)
from restante.errors import InvalidEncoding, StateError
from restante.formats import dagcbor

ID_BYTES = 16
_HEAD = Struct(">IQ")
_CRC = Struct(">I")
_RECORD_HEAD = Struct(">IQI")
_RECORD_HEAD_BYTES = _RECORD_HEAD.size
_FIRST = 1 << 31
# A marked head: bit 31 set and a length of at most 1 MiB.
_MARKED = re.compile(rb"(?=\x80[\x00-\x10])", re.DOTALL)
# Offset and length share one word of the in-memory index: lengths have 21 bits.
_LENGTH_BITS = 21
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_NAME = re.compile(r"([0-9]{20})\.log")


class Record(NamedTuple):
    """One pooled envelope with its place and its time of arrival."""

    position: int
    arrival_ms: int
    raw: bytes


class Identity(NamedTuple):
    """What the file `pool` holds."""

    id: bytes
    salt: bytes


class _File(NamedTuple):
    first: int
    fd: int
    path: Path


class Pool:
    """The open pool of one process. Positions count from 0 and are never reused."""

    def __init__(self, directory: Path, identity: Identity, lock_fd: int, hook: Hook) -> None:
        """Use `create` or `open`."""
        self._directory = directory
        self._identity = identity
        self._seed = crc32(identity.salt)
        self._lock_fd = lock_fd
        self._hook = hook
        self._files: list[_File] = []
        self._firsts: list[int] = []
        """The files' first positions."""
        self._index = array("Q")
        self._tail_bytes = 0
        self._bytes = 0
        self._newest_ms = 0
        self._failed = False

    @classmethod
    def create(
        cls, directory: Path, pool_id: bytes, salt: bytes, *, hook: Hook = no_hook
    ) -> "Pool":
        """Make an empty pool; `pool_id` and `salt` are 16 random bytes each.

        Raises StateError `pool-exists`.
        """
        if len(pool_id) != ID_BYTES or len(salt) != ID_BYTES:
            raise ValueError(f"a pool's id and salt have {ID_BYTES} bytes each")
        if (directory / "pool").exists():
            raise StateError(f"{directory} already holds a pool", code="pool-exists")
        make_directories(directory)
        # The identity comes last: a pool without its first file would look as if it lost it.
        os.close(_new_file(directory, 0))
        fields: dagcbor.Value = {"version": 1, "kind": "pool", "id": pool_id, "salt": salt}
        write_file(directory / "pool", dagcbor.encode(fields), hook=hook, step="pool.create")
        return cls.open(directory, hook=hook)

    @classmethod
    def open(cls, directory: Path, *, at_least: int = 0, hook: Hook = no_hook) -> "Pool":
        """Open a pool, cut a torn tail off, and index its records.

        `at_least` is a position known to have been acknowledged (the newest freeze); a shorter
        pool is refused as it stands. Raises StateError `pool-missing`, `pool-busy`, `pool-damaged`.
        """
        identity = read_identity(directory)
        fd = os.open(directory / "pool", os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise StateError(
                f"{directory} is in use by another process", code="pool-busy"
            ) from error
        pool = cls(directory, identity, fd, hook)
        try:
            pool._load(at_least)
        except BaseException:
            pool.close()
            raise
        return pool

    @property
    def id(self) -> bytes:
        """16 bytes that tell this pool's positions from those of one that replaced it."""
        return self._identity.id

    @property
    def floor(self) -> int:
        """The lowest position still held."""
        return self._files[0].first

    @property
    def size(self) -> int:
        """The position that the next record takes."""
        return self.floor + len(self._index)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return self._bytes

    @property
    def newest_arrival_ms(self) -> int:
        return self._newest_ms

    def append(self, arrivals: Sequence[tuple[int, bytes]]) -> int:
        """Add envelopes, each behind its time of arrival, in one write and one sync; the position
        of the first.

        Durable when it returns. An arrival before the one in front of it is raised to that. On an
        error nothing was acknowledged; after one that leaves the disk's state in doubt every
        further append is refused. Raises StateError `pool-write`.
        """
        if self._failed:
            raise _write_failed("an earlier write failed")
        first = self.size
        data, index, newest_ms = self._records(arrivals)
        if not index:
            return first
        try:
            if self._tail_bytes >= limits.POOL_FILE_BYTES:
                self.roll()
            fd = self._files[-1].fd
            self._hook("pool.append.before")
            write_all(fd, data)
        except OSError as error:
            self._cut_back()
            raise _write_failed(str(error)) from error
        except BaseException:
            self._failed = True
            raise
        try:
            # After a failed sync the kernel may call the lost pages clean: never try again.
            os.fdatasync(fd)
            self._hook("pool.append.after")
        except BaseException as error:
            self._failed = True
            if isinstance(error, OSError):
                raise _write_failed(str(error)) from error
            raise
        self._index.extend(entry + (self._tail_bytes << _LENGTH_BITS) for entry in index)
        self._tail_bytes += len(data)
        self._bytes += len(data)
        self._newest_ms = newest_ms
        return first

    def read(self, position: int) -> bytes:
        """The raw bytes at `position`. Raises StateError `pool-position`, `pool-damaged`."""
        # Half of building a batch is reading it: this is `_read` without what only a start needs.
        place = position - self._firsts[0]
        if not 0 <= place < len(self._index):
            raise self._not_held(position)
        file = self._file_of(position)
        entry = self._index[place]
        offset, length = entry >> _LENGTH_BITS, entry & _LENGTH_MASK
        data = os.pread(file.fd, _RECORD_HEAD_BYTES + length, offset)
        raw = data[_RECORD_HEAD_BYTES:]
        if len(raw) != length:
            raise _damaged(file.path, offset)
        word, _, crc = _RECORD_HEAD.unpack_from(data)
        if word & ~_FIRST != length or crc32(raw, crc32(data[: _HEAD.size], self._seed)) != crc:
            raise _damaged(file.path, offset)
        return raw

    def records(self, start: int | None = None) -> Iterator[Record]:
        """Records from position `start` (the floor when None) to the end, in order."""
        position = self.floor if start is None else max(start, self.floor)
        while position < self.size:
            yield self._read(position)
            position += 1

    def roll(self) -> None:
        """Begin a new file, so that the records before it can be released."""
        if self._tail_bytes == 0:
            return
        first = self.size
        with durable_step(self._hook, "pool.roll"):
            fd = _new_file(self._directory, first)
            self._files.append(_File(first, fd, _path(self._directory, first)))
            self._firsts.append(first)
            self._tail_bytes = 0

    def release(self, position: int) -> None:
        """Drop every whole file below `position`; the file that is written to always stays."""
        while len(self._files) > 1 and self._files[1].first <= position:
            with durable_step(self._hook, "pool.release"):
                gone = self._files[0]
                gone.path.unlink()
                sync_directory(self._directory)
                self._bytes -= os.fstat(gone.fd).st_size
                os.close(gone.fd)
                del self._index[: self._files[1].first - gone.first]
                del self._files[0], self._firsts[0]

    def close(self) -> None:
        """Give the files back. Whatever was acknowledged is durable already."""
        for file in self._files:
            os.close(file.fd)
        self._files.clear()
        self._firsts.clear()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        self._failed = True

    def _records(self, arrivals: Sequence[tuple[int, bytes]]) -> tuple[bytes, list[int], int]:
        """The bytes of one append, each record's index word from offset 0, the last arrival."""
        parts: list[bytes] = []
        index: list[int] = []
        offset, newest_ms, mark = 0, self._newest_ms, _FIRST
        for arrival_ms, raw in arrivals:
            if not 1 <= len(raw) <= limits.ENVELOPE_MAX_BYTES:
                raise ValueError(f"a pooled envelope of {len(raw)} bytes")
            newest_ms = max(newest_ms, arrival_ms)
            head = _HEAD.pack(mark | len(raw), newest_ms)
            crc = crc32(raw, crc32(head, self._seed))
            parts += (head, _CRC.pack(crc), raw)
            index.append(offset << _LENGTH_BITS | len(raw))
            offset += _RECORD_HEAD_BYTES + len(raw)
            mark = 0
        return b"".join(parts), index, newest_ms

    def _cut_back(self) -> None:
        fd = self._files[-1].fd
        try:
            os.ftruncate(fd, self._tail_bytes)
        except OSError:
            self._failed = True

    def _read(self, position: int) -> Record:
        if not self.floor <= position < self.size:
            raise self._not_held(position)
        file = self._file_of(position)
        entry = self._index[position - self.floor]
        offset, length = entry >> _LENGTH_BITS, entry & _LENGTH_MASK
        data = os.pread(file.fd, _RECORD_HEAD_BYTES + length, offset)
        record = _parse(data, 0, self._seed)
        if record is None or len(record.raw) != length:
            raise _damaged(file.path, offset)
        return Record(position, record.arrival_ms, record.raw)

    def _file_of(self, position: int) -> _File:
        return self._files[bisect_right(self._firsts, position) - 1]

    def _not_held(self, position: int) -> StateError:
        return StateError(
            f"position {position} of a pool that holds {self.floor} to {self.size}",
            code="pool-position",
        )

    def _load(self, at_least: int) -> None:
        self._files = [
            _File(first, os.open(path, os.O_RDWR | os.O_APPEND), path)
            for first, path in list_files(self._directory)
        ]
        self._firsts = [file.first for file in self._files]
        for number, file in enumerate(self._files):
            if file.first != self.size:
                raise StateError(
                    f"{file.path.name} follows position {self.size}",
                    code="pool-damaged",
                    hint=_DAMAGE_HINT,
                )
            data = _whole(file.fd)
            good = 0
            for offset, record in scan(data, self._seed, self._newest_ms):
                self._index.append(offset << _LENGTH_BITS | len(record.raw))
                self._newest_ms = record.arrival_ms
                good = record_end(offset, record.raw)
            self._bytes += good
            self._tail_bytes = good
            if good < len(data):
                last = number == len(self._files) - 1
                if not last or acknowledged_follows(data, good, self._seed):
                    raise _damaged(file.path, good)
        if self.size < at_least:
            raise StateError(
                f"the pool ends at {self.size}, but {at_least} positions were acknowledged",
                code="pool-damaged",
                hint=_DAMAGE_HINT,
            )
        tail = self._files[-1].fd
        if os.fstat(tail).st_size > self._tail_bytes:
            with durable_step(self._hook, "pool.cut"):
                os.ftruncate(tail, self._tail_bytes)
                os.fsync(tail)


class _Parsed(NamedTuple):
    marked: bool
    arrival_ms: int
    raw: bytes


def _parse(data: bytes, offset: int, seed: int) -> _Parsed | None:
    """The record at `offset`, or None when there is no whole and sound one."""
    body = offset + _RECORD_HEAD_BYTES
    if body > len(data):
        return None
    word, arrival_ms = _HEAD.unpack_from(data, offset)
    length = word & ~_FIRST
    raw = data[body : body + length]
    if not 1 <= length <= limits.ENVELOPE_MAX_BYTES or len(raw) != length:
        return None
    head = data[offset : offset + _HEAD.size]
    (crc,) = _CRC.unpack_from(data, offset + _HEAD.size)
    if crc32(raw, crc32(head, seed)) != crc:
        return None
    return _Parsed(bool(word & _FIRST), arrival_ms, raw)


def scan(data: bytes, seed: int, newest_ms: int) -> Iterator[tuple[int, _Parsed]]:
    """(offset, record) of a file's sound records, up to the first that is not."""
    offset = 0
    while (record := _parse(data, offset, seed)) is not None and record.arrival_ms >= newest_ms:
        yield offset, record
        newest_ms = record.arrival_ms
        offset = record_end(offset, record.raw)


def record_end(offset: int, raw: bytes) -> int:
    """Where the record that begins at `offset` ends."""
    return offset + _RECORD_HEAD_BYTES + len(raw)


def acknowledged_follows(data: bytes, offset: int, seed: int) -> bool:
    """Whether a later append begins behind the damage at `offset`: then it was acknowledged."""
    for match in _MARKED.finditer(data, offset + 1):
        record = _parse(data, match.start(), seed)
        if record is not None and record.marked:
            return True
    return False


def read_identity(directory: Path) -> Identity:
    """What the file `pool` says. Raises StateError `pool-missing`, `pool-damaged`."""
    try:
        data = (directory / "pool").read_bytes()
    except FileNotFoundError as error:
        raise StateError(
            f"{directory} holds no pool",
            code="pool-missing",
            hint="`init` and `set join` make one, once; a node only opens it",
        ) from error
    try:
        fields = dagcbor.Fields.decode(data, "pool", max_bytes=limits.NAMED_FILE_BYTES)
        fields.version()
        fields.literal("kind", "pool")
        identity = Identity(
            fields.bytes_("id", size=ID_BYTES), fields.bytes_("salt", size=ID_BYTES)
        )
        fields.done()
    except InvalidEncoding as error:
        raise StateError(f"{directory / 'pool'}: {error}", code="pool-damaged") from error
    return identity


def list_files(directory: Path) -> list[tuple[int, Path]]:
    """(first position, path) of a pool's files, in order; at least one, or StateError."""
    found = []
    for path in sorted(directory.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    if not found:
        raise StateError(f"{directory} has lost its files", code="pool-damaged", hint=_DAMAGE_HINT)
    return found


_DAMAGE_HINT = (
    "acknowledged envelopes are gone or altered: check the disk; "
    "`restante fsck` names what is affected"
)


def _damaged(path: Path, offset: int) -> StateError:
    return StateError(
        f"{path}: the record at {offset} is damaged", code="pool-damaged", hint=_DAMAGE_HINT
    )


def _write_failed(detail: str) -> StateError:
    return StateError(
        f"the pool cannot be written: {detail}",
        code="pool-write",
        hint="free the disk, or replace it, and start the node again",
    )


def _path(directory: Path, first: int) -> Path:
    return directory / f"{first:020}.log"


def _new_file(directory: Path, first: int) -> int:
    # Not exclusive: a crash just after creating an empty file leaves it for us.
    fd = os.open(_path(directory, first), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    os.fsync(fd)
    sync_directory(directory)
    return fd


def _whole(fd: int) -> bytes:
    """All bytes of a file."""
    size = os.fstat(fd).st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
