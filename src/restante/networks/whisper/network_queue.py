"""What peers brought and reception has not taken yet: groups of it, in order of arrival."""

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


class Queue:
    """Bounded by who fills it: reading stops while `full`, and goes on once it is `low`."""

    def __init__(self) -> None:
        self.bytes = 0
        self._came: deque[Came] = deque()
        self._filled = asyncio.Event()
        self._taken_s = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._came)

    @property
    def full(self) -> bool:
        return self.bytes > limits.SHH_QUEUE_BYTES

    @property
    def low(self) -> bool:
        return self.bytes * 2 <= limits.SHH_QUEUE_BYTES

    def put(self, came: list[Came], size_bytes: int) -> None:
        """Add what one packet brought; `size_bytes`: of its envelopes."""
        self._came.extend(came)
        self.bytes += size_bytes + len(came) * limits.SHH_ENVELOPE_OVERHEAD_BYTES
        self._filled.set()

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    async def take(self) -> tuple[list[Arrival], list[Came]]:
        """The next group, as soon as there is one; empty once the queue is closed.

        The first after a quiet moment is given at once. Under load groups are SHH_LINGER_S apart,
        since each of them costs its taker an fsync.
        """
        while not self._came and not self._closed:
            self._filled.clear()
            await self._filled.wait()
        loop = asyncio.get_running_loop()
        early_s = self._taken_s + limits.SHH_LINGER_S - loop.time()
        if early_s > 0 and len(self._came) < limits.SHH_GROUP_ENVELOPES and not self._closed:
            await asyncio.sleep(early_s)
        self._taken_s = loop.time()
        if self._closed:
            return [], []
        return self._group()

    def _group(self) -> tuple[list[Arrival], list[Came]]:
        arrivals: list[Arrival] = []
        came: list[Came] = []
        size = 0
        while self._came and len(came) < limits.SHH_GROUP_ENVELOPES:
            one = self._came.popleft()
            came.append(one)
            arrivals.append(one[0])
            size += len(one[0].raw)
            if size >= limits.SHH_GROUP_BYTES:
                break
        self.bytes -= size + len(came) * limits.SHH_ENVELOPE_OVERHEAD_BYTES
        return arrivals, came
