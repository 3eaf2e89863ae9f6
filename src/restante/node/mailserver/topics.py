"""The topic book: which topics there were, day by day, so that a filter becomes a list of topics.

A request's bloom filter names no topic, and so no bucket: without the book everything in its range
must be read. The book knows all topics of the windows [low, high) that were read from end to end;
there a filter asks for the few that pass it. It is a cache, rebuilt from the archive, and what it
says is used to leave out, never to make up: a topic that it lacks would be withheld, so it speaks
of whole windows alone, and forgets whole days.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from restante import limits
from restante.durable import write_file
from restante.networks.whisper import bloom

_VERSION = 1


class Matching(NamedTuple):
    """What the book says of a filter."""

    topics: tuple[bytes, ...]
    """All topics of the range's days that pass it, and perhaps of windows beside the range."""
    share: float
    """Of those days' envelopes, the part that has one of them."""


class TopicBook:
    """One archive's topics."""

    def __init__(self, path: Path, set_id: bytes, *, most: int = limits.MAIL_TOPICS) -> None:
        """What the file at `path` holds, or nothing yet; `most` is how many (day, topic) pairs."""
        self._path = path
        self._set_id = set_id
        self._most = most
        self._chapters: dict[int, dict[bytes, int]] = {}
        self._pairs = 0
        self.low = self.high = 0
        """It knows windows [low, high)."""
        self.full = False
        """Whether something was forgotten, so that nothing older is worth reading."""
        self._load()

    def __len__(self) -> int:
        return self._pairs

    def begin(self, window: int) -> None:
        """Know nothing yet, from `window` on."""
        self._chapters.clear()
        # Where not even a day had room, reading it again would lead nowhere.
        self.full = self.full and self.low == self.high
        self._pairs, self.low, self.high = 0, window, window

    def knows(self, windows: range) -> bool:
        """Whether every topic of these windows is in it."""
        return self.low <= windows.start and windows.stop <= self.high

    def learn(self, windows: range, records: Iterable[tuple[int, bytes]]) -> None:
        """Take the (window, topic) of all envelopes of windows that lie beside those it knows."""
        if windows.stop != self.low and windows.start != self.high:
            raise ValueError("windows are learnt beside those that are known")
        for window, topic in records:
            chapter = self._chapters.setdefault(window // limits.MAIL_CHAPTER_WINDOWS, {})
            count = chapter.get(topic, 0)
            self._pairs += not count
            chapter[topic] = count + 1
        self.low, self.high = min(self.low, windows.start), max(self.high, windows.stop)
        self._forget()

    def _forget(self) -> None:
        while self._pairs > self._most:
            oldest = min(self._chapters)
            self._pairs -= len(self._chapters.pop(oldest))
            # Where one day has too many, the book begins anew behind it.
            self.low = min((oldest + 1) * limits.MAIL_CHAPTER_WINDOWS, self.high)
            if not self._chapters:
                self.low = self.high
            self.full = True

    def matching(self, filter_: int, windows: range) -> Matching:
        """The topics that pass a filter in the days of windows that it knows."""
        first, last = (
            windows.start // limits.MAIL_CHAPTER_WINDOWS,
            (windows.stop - 1) // limits.MAIL_CHAPTER_WINDOWS,
        )
        passed: set[bytes] = set()
        refused: set[bytes] = set()
        matching = total = 0
        for number in range(first, last + 1):
            for topic, count in self._chapters.get(number, {}).items():
                total += count
                if topic in passed:
                    matching += count
                elif topic not in refused:
                    if bloom.matches(filter_, bloom.sample(topic)):
                        passed.add(topic)
                        matching += count
                    else:
                        refused.add(topic)
        return Matching(tuple(sorted(passed)), matching / max(1, total))

    # --- its file -----------------------------------------------------------------------------

    def save(self) -> None:
        """Write it. Raises OSError."""
        value = {
            "version": _VERSION,
            "set": self._set_id.hex(),
            "low": self.low,
            "high": self.high,
            "full": self.full,
            "days": {
                str(number): {topic.hex(): count for topic, count in chapter.items()}
                for number, chapter in self._chapters.items()
            },
        }
        write_file(self._path, json.dumps(value, separators=(",", ":")).encode())

    def _load(self) -> None:
        """A file that is not right is as good as none: everything in it can be read again."""
        try:
            with self._path.open("rb") as file:
                data = file.read(limits.MAIL_BOOK_BYTES + 1)
            if len(data) <= limits.MAIL_BOOK_BYTES:
                self._take(json.loads(data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.begin(0)

    def _take(self, value: dict[str, Any]) -> None:
        if value["version"] != _VERSION or value["set"] != self._set_id.hex():
            return
        chapters = {
            int(number): {bytes.fromhex(topic): int(count) for topic, count in chapter.items()}
            for number, chapter in value["days"].items()
        }
        low, high, full = int(value["low"]), int(value["high"]), bool(value["full"])
        if not 0 <= low <= high or any(len(t) != 4 for each in chapters.values() for t in each):
            raise ValueError("not a topic book")
        self._chapters, self.low, self.high, self.full = chapters, low, high, full
        self._pairs = sum(map(len, chapters.values()))
        self._forget()
