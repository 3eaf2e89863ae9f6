"""What peers brought and reception has not taken yet. Groups of it: in turn among the peers, and in
order of arrival from each."""

import asyncio
from collections import deque
from typing import TypeAlias

from restante import limits
from restante.networks.whisper.peers import Batch, Peer
from restante.networks.whisper.relay import Live
from restante.ports import Arrival

# One envelope that is not judged: when it came, from whom, and its packet if that wants an answer.
# A plain tuple, since every arrival is one.
Came: TypeAlias = tuple[Arrival, Live, Peer, Batch | None]

_OVERHEAD = limits.SHH_ENVELOPE_OVERHEAD_BYTES


class Line:
    """What one peer brought, in order. bytes: of it, with what an envelope costs besides."""

    __slots__ = ("_packets", "_taken", "bytes", "came")

    def __init__(self) -> None:
        self.bytes = 0
        self.came: deque[Came] = deque()
        self._packets: deque[tuple[int, int]] = deque()
        """Where those of several envelopes begin and end, counted from the peer's first."""
        self._taken = 0

    def put(self, packet: list[Came], count: int, cost_bytes: int) -> None:
        if count > 1:
            start = self._taken + len(self.came)
            self._packets.append((start, start + count))
        self.came.extend(packet)
        self.bytes += cost_bytes

    def take(self, most: int, most_bytes: int, into: list[Came]) -> int:
        """Move up to so many envelopes, and bytes but for the last one; what these cost."""
        came, stop, cost = self.came, len(into) + most, 0
        before = len(came)
        while came and len(into) < stop and cost < most_bytes:
            one = came.popleft()
            into.append(one)
            cost += len(one[0].raw) + _OVERHEAD
        self._taken += before - len(came)
        while self._packets and self._packets[0][1] <= self._taken:
            self._packets.popleft()
        self.bytes -= cost
        return cost

    def drop(self, *, but_begun: bool) -> list[Came]:
        """Give all up, but perhaps the rest of a packet that was begun."""
        rest = 0
        if but_begun and self._packets and self._packets[0][0] < self._taken:
            rest = self._packets[0][1] - self._taken
        while len(self._packets) > bool(rest):
            self._packets.pop()
        whole = list(self.came)
        kept, dropped = whole[:rest], whole[rest:]
        self.came = deque(kept)
        self.bytes = sum(len(arrival.raw) + _OVERHEAD for arrival, _, _, _ in kept)
        return dropped


class Departed:
    """What peers brought that left since: one line for all of them, so that who comes and goes has
    no more turns than who stays."""

    def __init__(self) -> None:
        self.lines: dict[Peer, Line] = {}

    def __bool__(self) -> bool:
        return bool(self.lines)

    def take(self, most: int, most_bytes: int, into: list[Came]) -> int:
        stop, cost = len(into) + most, 0
        while self.lines and len(into) < stop and cost < most_bytes:
            peer, line = next(iter(self.lines.items()))
            cost += line.take(stop - len(into), most_bytes - cost, into)
            if not line.came:
                del self.lines[peer]
        return cost


class Queue:
    """Bounded by who fills it. A peer may have as much waiting as is still free: so one alone has
    half of limits.SHH_QUEUE_BYTES, and each of n that fill it one part of n + 1."""

    def __init__(self) -> None:
        self.bytes = 0
        self._count = 0
        self._lines: dict[Peer, Line] = {}  # in turn
        self._departed = Departed()
        self._filled = asyncio.Event()
        self._taken_s = 0.0
        self._closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether nobody may bring more, as too many have brought more than their share."""
        return self.bytes > limits.SHH_QUEUE_ALL_BYTES

    def has_room(self, peer: Peer) -> bool:
        """Whether a peer that had more than its share may go on: half of that is free."""
        line = self._lines.get(peer)
        half = line.bytes * 2 if line is not None else 0
        return not self.full and half <= max(0, limits.SHH_QUEUE_BYTES - self.bytes)

    def put(self, peer: Peer, came: list[Came], size_bytes: int) -> bool:
        """Add what one packet of a peer brought (`size_bytes`: of its envelopes); whether more than
        its share waits now."""
        line = self._lines.get(peer)
        if line is None:
            line = self._departed.lines.get(peer)
        if line is None:
            line = self._lines[peer] = Line()
        count = len(came)
        cost_bytes = size_bytes + count * _OVERHEAD
        line.put(came, count, cost_bytes)
        self.bytes += cost_bytes
        self._count += count
        self._filled.set()
        return line.bytes > limits.SHH_QUEUE_BYTES - self.bytes

    def departed(self, peer: Peer) -> None:
        """It is here no more, but what it brought is."""
        line = self._lines.pop(peer, None)
        if line is not None:
            self._departed.lines[peer] = line

    def drop(self, peer: Peer, *, but_begun: bool) -> list[Came]:
        """Give up what waits of a peer, but perhaps the rest of a packet that was begun; what that
        was."""
        lines = self._lines if peer in self._lines else self._departed.lines
        line = lines.get(peer)
        if line is None:
            return []
        before = line.bytes
        dropped = line.drop(but_begun=but_begun)
        if not line.came:
            del lines[peer]
        self.bytes -= before - line.bytes
        self._count -= len(dropped)
        return dropped

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    async def take(self) -> tuple[list[Arrival], list[Came]]:
        """The next group, as soon as there is one; empty once the queue is closed.

        The first after a quiet moment is given at once. Under load groups are SHH_LINGER_S apart,
        since each of them costs its taker an fsync.
        """
        while True:
            while not self._count and not self._closed:
                self._filled.clear()
                await self._filled.wait()
            loop = asyncio.get_running_loop()
            early_s = self._taken_s + limits.SHH_LINGER_S - loop.time()
            if early_s > 0 and self._count < limits.SHH_GROUP_ENVELOPES and not self._closed:
                await asyncio.sleep(early_s)
            self._taken_s = loop.time()
            if self._closed:
                return [], []
            if self._count:  # what waited may have been dropped meanwhile
                return self._group()

    def _group(self) -> tuple[list[Arrival], list[Came]]:
        """A turn for each peer that has something waiting, and one for all that left; again while
        there is room."""
        came: list[Came] = []
        cost, departed = 0, self._departed
        turns = len(self._lines) + bool(departed)
        share = max(1, limits.SHH_GROUP_ENVELOPES // turns)
        share_bytes = limits.SHH_GROUP_BYTES // turns
        while departed or self._lines:
            room = limits.SHH_GROUP_ENVELOPES - len(came)
            cost += departed.take(min(share, room), share_bytes, came)
            for peer in list(self._lines):
                room = limits.SHH_GROUP_ENVELOPES - len(came)
                if room <= 0 or cost >= limits.SHH_GROUP_BYTES:
                    break
                line = self._lines.pop(peer)
                cost += line.take(min(share, room), share_bytes, came)
                if line.came:
                    self._lines[peer] = line
            if len(came) >= limits.SHH_GROUP_ENVELOPES or cost >= limits.SHH_GROUP_BYTES:
                break
        self.bytes -= cost
        self._count -= len(came)
        if turns > 1:
            # A pool's times never go back: so within a group nothing is told later than it came.
            came.sort(key=lambda one: one[0].arrival_ms)
        return [one[0] for one in came], came
