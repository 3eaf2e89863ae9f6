"""The segments of an archive: the CAR files of all levels, and where their blocks stand.

A segment's first part is written last and removed last: where it is, the others are.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, SupportsIndex

from restante.durable import Hook, read_range, remove_file, sync_directory, write_file
from restante.errors import StateError, Unavailable
from restante.formats import cid as cids
from restante.formats.paths import segment_path
from restante.node.durable.blocks import BlockIndex, block_rows


class Parts(Protocol):
    """The CAR files of a segment: a list of them, or `formats.segment.Cars`."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: SupportsIndex, /) -> bytes: ...


class Segments:
    """Files and index. Readers may call it from any thread; a segment has one writer at a time."""

    def __init__(self, directory: Path, index: Path, hook: Hook) -> None:
        self.directory = directory
        self.index = BlockIndex(index)
        self._hook = hook

    def close(self) -> None:
        self.index.close()

    # --- writing

    def put(self, level: int, number: int, cars: Parts) -> tuple[str, ...]:
        """Write a segment, a part at a time; its paths in the order of writing."""
        paths = [segment_path(level, number, part) for part in range(len(cars))]
        for part in reversed(range(len(cars))):
            write_file(
                self.directory / paths[part], cars[part], hook=self._hook, step="archive.segment"
            )
        self.note(level, number)
        return tuple(reversed(paths))

    def note(self, level: int, number: int) -> None:
        """Index a segment whose files somebody wrote. Raises InvalidEncoding."""
        with ExitStack() as stack:
            paths = self.paths(level, number)
            files = [stack.enter_context((self.directory / path).open("rb")) for path in paths]
            self.index.add(level, number, block_rows(files))

    def remove(self, level: int, number: int) -> None:
        """Remove a segment: it is no longer served, then its files go."""
        self.index.remove(level, number)
        paths = self.paths(level, number)
        for path in reversed(paths):
            remove_file(self.directory / path, hook=self._hook, step="archive.release", sync=False)
        if paths:
            sync_directory((self.directory / paths[0]).parent)

    # --- reading

    def file(self, level: int, number: int, part: int = 0) -> Path:
        """Where a part stands, or would."""
        return self.directory / segment_path(level, number, part)

    def has(self, level: int, number: int) -> bool:
        return self.file(level, number).is_file()

    def paths(self, level: int, number: int) -> list[str]:
        """The parts that are here, the first one first."""
        paths: list[str] = []
        while (self.directory / (path := segment_path(level, number, len(paths)))).is_file():
            paths.append(path)
        return paths

    def parts(self, level: int, number: int) -> list[bytes]:
        """The parts in memory, which is for batches. Raises Unavailable `not-found`."""
        parts: list[bytes] = []
        while (data := read_range(self.file(level, number, len(parts)))) is not None:
            parts.append(data)
        if not parts:
            raise absent(segment_path(level, number))
        return parts

    def read(self, level: int, number: int, part: int, offset: int, length: int) -> bytes:
        """Bytes of a part; fewer at its end. Raises Unavailable `not-found`."""
        data = read_range(self.file(level, number, part), offset, length)
        if data is None:
            raise absent(segment_path(level, number, part))
        return data

    def numbers(self, level: int) -> list[int]:
        """The numbers of a level's segments that are here, ascending."""
        return segment_numbers(self.directory, level)

    def block(self, cid: bytes) -> bytes | None:
        """A block by its CID, hashed; None when no segment here has it.

        Raises InvalidEncoding for no CID of ours, StateError `archive-damaged`.
        """
        places = self.index.find(cid)
        for level, number, part, offset, length in places:
            data = read_range(self.file(level, number, part), offset, length)
            if data is not None and cids.cid_of(cids.codec(cid), data) == cid:
                return data
        for place in places:
            if self.has(place.level, place.number):
                path = segment_path(place.level, place.number, place.part)
                raise damaged(path, "a block has another hash")
        return None

    # --- the index

    def unindexed(self, level: int) -> list[int]:
        """The numbers of a level's segments that are here and not in the index, newest first."""
        indexed = self.index.indexed(level)
        return [number for number in reversed(self.numbers(level)) if number not in indexed]


def segment_numbers(directory: Path, level: int) -> list[int]:
    """The numbers of a level's segments that an archive's folder has, ascending."""
    return sorted(_numbers(directory / "segment" / str(level), 0))


def _numbers(directory: Path, above: int) -> Iterator[int]:
    try:
        found = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        name = entry.name
        if len(name) == 4 and name[0] == "x" and name[1:].isdecimal():
            yield from _numbers(directory / name, 1000 * (above + int(name[1:])))
        elif len(name) == 7 and name.endswith(".car") and name[:3].isdecimal():
            yield above + int(name[:3])


def absent(path: str) -> Unavailable:
    """What says that the archive has no such file."""
    return Unavailable(f"the archive has no {path}", code="not-found")


def damaged(path: str, error: object) -> StateError:
    """What says that a file of the archive is not what it must be."""
    return StateError(
        f"{path} of the archive is damaged: {error}",
        code="archive-damaged",
        hint="`restante fsck` names the damage, and what to delete so that it is made again",
    )
