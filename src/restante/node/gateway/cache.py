"""Files that a gateway fetched and verified: bounded, the least recently used go first.

Nothing in it is ever newer than its source, so losing any of it costs a request. A damaged file is
found by whoever reads it, as everywhere.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from restante.durable import make_directories, read_range


class Cache:
    """Immutable files by path. Any thread may call it."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self.size_bytes = 0
        self._serial = 0
        make_directories(directory)
        self._load()

    def length(self, path: str) -> int | None:
        """Bytes of a file, or None."""
        with self._lock:
            size = self._sizes.get(path)
            if size is not None:
                self._sizes.move_to_end(path)
            return size

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes | None:
        """Bytes of a file; None when it is not here (any more)."""
        if self.length(path) is None:
            return None
        data = read_range(self._directory / path, offset, length)
        if data is None:
            self._forget(path)
        return data

    def put(self, path: str, data: bytes) -> None:
        """Keep a file, and let old ones go."""
        with self._lock:
            self._serial += 1
            serial = self._serial
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{serial}.tmp")
        temporary.write_bytes(data)
        temporary.replace(target)
        with self._lock:
            self.size_bytes += len(data) - self._sizes.pop(path, 0)
            self._sizes[path] = len(data)
            old = self._surplus()
        for gone in old:
            (self._directory / gone).unlink(missing_ok=True)

    def remove(self, gone: Callable[[str], bool]) -> None:
        """Let every file go whose path `gone` says is to go."""
        with self._lock:
            paths = [path for path in self._sizes if gone(path)]
            for path in paths:
                self.size_bytes -= self._sizes.pop(path)
        for path in paths:
            (self._directory / path).unlink(missing_ok=True)

    def _surplus(self) -> list[str]:
        """What has to go; the newest file stays, however large it is."""
        gone = []
        while self.size_bytes > self._max_bytes and len(self._sizes) > 1:
            path, size = self._sizes.popitem(last=False)
            self.size_bytes -= size
            gone.append(path)
        return gone

    def _forget(self, path: str) -> None:
        with self._lock:
            self.size_bytes -= self._sizes.pop(path, 0)

    def _load(self) -> None:
        found = []
        for file in self._directory.rglob("*"):
            if not file.is_file():
                continue
            if file.name.startswith("."):
                file.unlink(missing_ok=True)
                continue
            stat = file.stat()
            found.append(
                (stat.st_mtime, file.relative_to(self._directory).as_posix(), stat.st_size)
            )
        for _, path, size in sorted(found):
            self._sizes[path] = size
            self.size_bytes += size
        for gone in self._surplus():
            (self._directory / gone).unlink(missing_ok=True)
