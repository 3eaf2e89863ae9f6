"""The supervisor of the replay clock: as fast as asked, slowing down rather than losing."""

import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

from restante.node.clock import write_record

BEHIND_MS_MAX = 1_000  # virtual: a node that is later than this is not left further behind
UNDECIDED_MAX = 2  # windows that may be open at once
SLOWEST = 0.5  # never to a stop
# While nine processes start on a busy machine: what arrives before they look has been missed.
_AT_START = 0.02
_FASTER, _SLOWER = 1.3, 0.6


class Conductor:
    """Writes the clock's record; only this process does."""

    def __init__(self, record: Path, start_ms: int, fastest: float) -> None:
        self._record = record
        self._fastest = fastest
        self._turns: list[tuple[int, int, float]] = []
        """(virtual ms, monotonic ns, speed) of every record written."""
        self._set(start_ms, _AT_START)

    @property
    def speed(self) -> float:
        return self._turns[-1][2]

    def now_ms(self) -> int:
        """Virtual time."""
        virtual_ms, monotonic_ns, speed = self._turns[-1]
        return virtual_ms + int((time.monotonic_ns() - monotonic_ns) * speed / 1e6)

    def real_ms(self, virtual_ms: int) -> float:
        """The monotonic time, in ms, at which the clock showed this."""
        at = max(0, bisect_right(self._turns, virtual_ms, key=lambda turn: turn[0]) - 1)
        turned_ms, monotonic_ns, speed = self._turns[at]
        return monotonic_ns / 1e6 + (virtual_ms - turned_ms) / speed

    def heed(self, statuses: dict[str, dict[str, Any]]) -> None:
        """Slow down while any live node lags, else speed up."""
        lagging = any(_lags(status) for status in statuses.values())
        wanted = self.speed * (_SLOWER if lagging else _FASTER)
        wanted = min(self._fastest, max(SLOWEST, wanted))
        if wanted != self.speed:
            self._set(self.now_ms(), wanted)

    def _set(self, virtual_ms: int, speed: float) -> None:
        monotonic_ns = time.monotonic_ns()
        self._turns.append((virtual_ms, monotonic_ns, speed))
        write_record(self._record, monotonic_ns, virtual_ms, speed)


def _lags(status: dict[str, Any]) -> bool:
    behind = status.get("behind_ms", 0) > BEHIND_MS_MAX
    undecided = status["window"] - 1 - status["decided"] if "decided" in status else 0
    return behind or undecided > UNDECIDED_MAX
