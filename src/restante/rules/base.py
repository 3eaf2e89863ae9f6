"""The base of a window: where the log stands before it, and what *new* means there."""

from collections import deque
from collections.abc import Iterable

from restante.formats.descriptor import Descriptor
from restante.formats.tree import Frontier, leaf_hash


class Base:
    """(size, root) of the log after window w − 1, and the ids of the last K windows.

    Only K windows count for *new*, because R0 bounds sent time from below: an older batch cannot
    hold an id that is still valid.
    """

    def __init__(self, descriptor: Descriptor, frontier: Frontier = Frontier.EMPTY) -> None:
        self.descriptor = descriptor
        self.frontier = frontier
        self._recent: dict[bytes, int] = {}
        self._windows: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self.root = frontier.root()

    @property
    def size(self) -> int:
        return self.frontier.size

    @property
    def window(self) -> int:
        """The window that this base is the base of: the next to be decided."""
        return self.descriptor.first_window + self.frontier.size

    def is_new(self, id_: bytes) -> bool:
        """Whether no batch before this window holds the id (R0, *new*)."""
        return id_ not in self._recent

    def advance(self, entry: bytes, ids: Iterable[bytes]) -> None:
        """Append the log entry of `window`, whose batch holds `ids`."""
        window = self.window
        self.frontier = self.frontier.append(leaf_hash(entry))
        self.root = self.frontier.root()
        self.remember(window, ids)

    def remember(self, window: int, ids: Iterable[bytes]) -> None:
        """Count the ids of an already appended window as not new (restoring)."""
        members = tuple(ids)
        self._windows.append((window, members))
        self._recent.update(dict.fromkeys(members, window))
        while self._windows and self._windows[0][0] < self.window - self.descriptor.recent_windows:
            old, gone = self._windows.popleft()
            for id_ in gone:
                if self._recent.get(id_) == old:
                    del self._recent[id_]
