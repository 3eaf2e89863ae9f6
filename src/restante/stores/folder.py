"""The archive's files in a directory: a disk, or what nginx serves.

Trusted for nothing but keeping: who can change the folder can withhold files and serve old ones;
an altered one is found by its hash, and named, by whoever reads it.
"""

import asyncio
import errno
import os
from pathlib import Path

from restante.durable import Hook, make_directories, no_hook, read_range, remove_file, write_file
from restante.errors import Conflict, StateError, Unavailable
from restante.formats.paths import check_path, is_mutable
from restante.ports import Health


class FolderStore:
    """Store port over a directory. Several processes may share it."""

    def __init__(self, name: str, root: Path, *, hook: Hook = no_hook) -> None:
        """Use `create` or `open`."""
        self.name = name
        self._root = root
        self._hook = hook

    @classmethod
    def create(cls, name: str, root: Path, *, hook: Hook = no_hook) -> "FolderStore":
        """Make the directory where it is missing, and open it."""
        make_directories(root)
        return cls(name, root, hook=hook)

    @classmethod
    def open(cls, name: str, root: Path, *, hook: Hook = no_hook) -> "FolderStore":
        """Open an existing directory: a disk that is not mounted must not look like an empty store.

        Raises StateError `store-missing`.
        """
        if not root.is_dir():
            raise StateError(
                f"{root} is missing",
                code="store-missing",
                hint="mount the disk, or create the folder if the store is new",
            )
        return cls(name, root, hook=hook)

    async def put(self, path: str, data: bytes) -> None:
        """See `ports.Store`. Raises InvalidEncoding `path`, Conflict, Unavailable."""
        await asyncio.to_thread(self._put, check_path(path), data)

    async def get(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ports.Store`; nothing is left from an offset at the end or behind it.

        Raises InvalidEncoding `path`, Unavailable `not-found`.
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("an offset and a length are not negative")
        return await asyncio.to_thread(self._get, check_path(path), offset, length)

    async def has(self, path: str) -> bool:
        return self._at(check_path(path)).is_file()

    async def release(self, path: str) -> None:
        """See `ports.Store`. Raises InvalidEncoding `path`, Unavailable."""
        await asyncio.to_thread(self._release, check_path(path))

    async def health(self) -> Health:
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            return Health(False, f"{self._root} cannot be written")
        return Health(True)

    async def close(self) -> None:
        """Nothing is held open."""

    def _at(self, path: str) -> Path:
        return self._root / path

    def _put(self, path: str, data: bytes) -> None:
        target = self._at(path)
        try:
            # The root itself is never created here: see `open`.
            if not self._root.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the store's folder is missing")
            if not is_mutable(path) and target.exists():
                if target.stat().st_size != len(data) or target.read_bytes() != data:
                    raise Conflict(
                        f"{path} exists in store {self.name} with other bytes",
                        code="store-conflict",
                        hint="immutable files never change: one of the two is damaged or foreign",
                    )
                return
            write_file(target, data, hook=self._hook, step="store.put")
        except OSError as error:
            raise self._unavailable(path, error) from error

    def _get(self, path: str, offset: int, length: int | None) -> bytes:
        try:
            data = read_range(self._at(path), offset, length)
        except OSError as error:
            raise self._unavailable(path, error) from error
        if data is None:
            raise Unavailable(f"store {self.name} has no {path}", code="not-found")
        return data

    def _release(self, path: str) -> None:
        try:
            remove_file(self._at(path), hook=self._hook, step="store.release")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._unavailable(path, error) from error

    def _unavailable(self, path: str, error: OSError) -> Unavailable:
        return Unavailable(
            f"store {self.name}, {path}: {error.strerror or error}",
            code="store-unavailable",
            hint="check the disk of this store; what waits for it stays in the outbox",
        )
