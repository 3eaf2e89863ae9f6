"""Files that are wholly there or not at all, also after a loss of power.

It stands below the rooms because stores and the node both write this way. A *step* is one thing
that becomes durable at once; its hook is called as `<step>.before`, when nothing of it is on disk,
and as `<step>.after`, when all of it is. Tests raise or kill there; production passes no hook.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeAlias

Hook: TypeAlias = Callable[[str], None]

# Two writers of one path never share a temporary file: the process and this number name it.
_serial = count()


def no_hook(step: str) -> None:
    """The hook of production."""


@contextmanager
def durable_step(hook: Hook, name: str) -> Iterator[None]:
    """Bracket what makes one step durable with its two hooks."""
    hook(f"{name}.before")
    yield
    hook(f"{name}.after")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a synced file without its name is lost."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path) -> None:
    """Create `path` and its missing parents, each name durable in its parent."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: one call may write fewer. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class PendingFile:
    """A file that is written piece by piece, and appears under its name whole or not at all.

    Missing parents are created. A temporary `.<name>.<pid>-<n>.tmp` may stay behind after a crash;
    nothing reads it. Raises OSError.
    """

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        make_directories(path.parent)
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.tmp")
        """Where its bytes are until `keep`."""
        self._fd = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def write(self, data: bytes) -> None:
        """Append."""
        write_all(self._fd, data)

    def overwrite(self, offset: int, data: bytes) -> None:
        """Put bytes in the place of others."""
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written

    def pieces(self, length: int) -> Iterator[bytes]:
        """All that was written, `length` bytes at a time."""
        offset = 0
        while piece := os.pread(self._fd, length, offset):
            yield piece
            offset += len(piece)

    def sync(self) -> None:
        """Have what was written on disk, so that `keep` has little to wait for."""
        os.fsync(self._fd)

    def keep(self, *, hook: Hook = no_hook, step: str = "file") -> None:
        """Make `path` hold it, durably when it returns; a crash leaves old or new bytes."""
        try:
            with durable_step(hook, step):
                os.fsync(self._fd)
                self._close()
                # link() would tell a second writer of the same path; rename() keeps one of the two,
                # and both wrote the same bytes wherever the path is immutable.
                self.temporary.replace(self.path)
                sync_directory(self.path.parent)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give it up, if it was not kept."""
        self._close()
        self.temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def write_file(
    path: Path, data: bytes, *, hook: Hook = no_hook, step: str = "file", mode: int = 0o644
) -> None:
    """Make `path` hold exactly `data`, durably when it returns; see `PendingFile`."""
    with durable_step(hook, step):
        pending = PendingFile(path, mode)
        try:
            pending.write(data)
        except BaseException:
            pending.discard()
            raise
        pending.keep()


def remove_temporaries(path: Path) -> None:
    """Remove what crashed writers of a file left of it; there must be none at work."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def read_range(path: Path, offset: int = 0, length: int | None = None) -> bytes | None:
    """Bytes of a file from `offset`, at most `length`; None when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def remove_file(
    path: Path, *, hook: Hook = no_hook, step: str = "remove", sync: bool = True
) -> None:
    """Remove a file, durably unless `sync` is off; an absent one is fine. Raises OSError."""
    with durable_step(hook, step):
        try:
            path.unlink()
        except FileNotFoundError:
            return
        if sync:
            sync_directory(path.parent)
