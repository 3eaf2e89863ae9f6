"""Which windows this validator watched: a durable heartbeat a window, and the signed note of it.

A window counts as watched only when the process lived, and its network was connected, from the
window's first instant to its last. What has no heartbeat was not watched.
"""

from collections.abc import Callable

from restante import limits
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.node.durable.state import State
from restante.ports import Clock


class Watch:
    """The heartbeats of one validator."""

    def __init__(
        self,
        d: Descriptor,
        key: SigningKey,
        state: State,
        clock: Clock,
        connected: Callable[[], bool],
    ) -> None:
        """`connected`: whether the network feeds this node now."""
        self._d = d
        self._key = key
        self._state = state
        self._clock = clock
        self._connected = connected
        self._unwatched = _ranges(state.lock.heartbeats(d.first_window), d.first_window)
        self._noted_to = max(state.lock.heartbeats(d.first_window), default=d.first_window - 1) + 1

    async def run(self) -> None:
        """Look several times a window; write a heartbeat at each window's end."""
        step_ms = max(1, self._d.window_s * 1000 // limits.WATCH_LOOKS)
        now_ms = self._clock.now_ms()
        window = self._d.window_of(now_ms)
        # A window that began before this process is watched only from a start at its very edge.
        watched = now_ms <= self._d.start_ms(window) + step_ms // 2 and self._connected()
        while True:
            looked_ms = self._clock.now_ms()
            await self._clock.sleep_until(min(looked_ms + step_ms, self._d.end_ms(window)))
            now_ms = self._clock.now_ms()
            # A process that stood still for a window (a laptop asleep) heard nothing meanwhile.
            slept = now_ms - looked_ms >= self._d.window_s * 1000
            watched = watched and self._connected() and not slept
            while self._d.window_of(now_ms) > window:
                self.note(window, watched)
                window += 1
                watched = self._connected() and not slept

    def note(self, window: int, watched: bool) -> None:
        """A window is over."""
        if window < self._d.first_window:
            return
        self._state.lock.put_heartbeat(window, watched)
        if self._noted_to < window:
            _add(self._unwatched, self._noted_to, window)
        if not watched:
            _add(self._unwatched, window, window + 1)
        self._noted_to = max(self._noted_to, window + 1)

    def publish(self, size: int) -> None:
        """Sign and publish the note for all windows that are decided."""
        first, stop = self._d.first_window, self._d.first_window + size
        # A window that is decided before its heartbeat was written is not vouched for yet.
        stop = min(stop, max(self._noted_to, first))
        ranges = [(a, min(b, stop)) for a, b in self._unwatched if a < stop]
        floor = first
        if len(ranges) > limits.WATCH_RANGES:
            # A note has room for so many: it speaks of the newest windows only.
            ranges = ranges[-limits.WATCH_RANGES :]
            floor = ranges[0][0]
        note = WatchNote(self._d.set_id, floor, stop, tuple(ranges))
        self._state.publish_named(f"watch/{self._key.name}", note.sign(self._key))


def _ranges(heartbeats: dict[int, bool], first: int) -> list[tuple[int, int]]:
    """Unwatched half-open ranges between `first` and the newest heartbeat."""
    ranges: list[tuple[int, int]] = []
    expected = first
    for window, watched in heartbeats.items():
        if window > expected:
            _add(ranges, expected, window)
        if not watched:
            _add(ranges, window, window + 1)
        expected = window + 1
    return ranges


def _add(ranges: list[tuple[int, int]], start: int, stop: int) -> None:
    if ranges and ranges[-1][1] >= start:
        ranges[-1] = (ranges[-1][0], max(ranges[-1][1], stop))
    else:
        ranges.append((start, stop))
