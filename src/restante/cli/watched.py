"""Where a watcher stands, in files of its own: how far was printed, and what was printed live."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from restante import limits
from restante.errors import StateError

if TYPE_CHECKING:
    from restante.client.shown import Shown

_LINE_BYTES = 2 * 32 + 1 + 12 + 1


class Place:
    """How far was printed: the tree size that was begun at, and a cursor.

    Beside it, `….shown`: a line `<id> <sent time>` for each envelope that was printed lately and
    may come again by another way. It is written before the cursor moves on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shown_file = path.with_name(path.name + ".shown")

    def read(self) -> tuple[int, str | None] | None:
        """(tree size, cursor); None the first time. Raises StateError `watch-state`."""
        try:
            with self._path.open("rb") as file:
                value = json.loads(file.read(2 * limits.CURSOR_CHARACTERS))
            if value["version"] != 1:
                raise ValueError(f"version {value['version']}")
            since, cursor = value["since"], value["cursor"]
            possible = type(since) is int and 0 <= since <= limits.TREE_SIZE_MAX
            if not possible or not isinstance(cursor, str | None):
                raise ValueError("no tree size and cursor")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise StateError(
                f"{self._path} does not say how far was printed: {error}",
                code="watch-state",
                hint="--fresh begins anew",
            ) from error
        return since, cursor

    def write(self, since: int, cursor: str | None) -> None:
        """Keep it, durably."""
        from restante.durable import write_file

        value = {"version": 1, "since": since, "cursor": cursor}
        write_file(self._path, json.dumps(value).encode())

    def shown(self) -> Iterator[tuple[bytes, int]]:
        """(id, sent time) of what was printed lately, oldest first."""
        if not self.shown_file.is_file():
            return
        with self.shown_file.open("rb") as file:
            while line := file.readline(_LINE_BYTES + 1):
                # A line that a crash cut short is of an envelope that was being printed.
                with suppress(ValueError):
                    id_, sent_s = line.decode().split()
                    yield bytes.fromhex(id_), int(sent_s)

    def add_shown(self, id_: bytes, sent_s: int) -> None:
        """Remember, durably, that this one was printed."""
        with self.shown_file.open("ab") as file:
            file.write(_line(id_, sent_s))
            file.flush()
            os.fsync(file.fileno())

    def keep_shown(self, shown: "Shown") -> None:
        """Remember these alone."""
        from restante.durable import write_file

        write_file(self.shown_file, b"".join(_line(*item) for item in shown.items()))

    def forget(self) -> None:
        """Begin anew."""
        self._path.unlink(missing_ok=True)
        self.shown_file.unlink(missing_ok=True)


def _line(id_: bytes, sent_s: int) -> bytes:
    return b"%s %d\n" % (id_.hex().encode(), sent_s)
