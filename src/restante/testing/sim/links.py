"""Virtual time, and the network between nodes: request and answer, late, lost, doubled or cut."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from random import Random
from typing import Any, Protocol

TIMEOUT_MS = 4_000
LOCAL_MS = 1

Reply = Callable[[Any], None]


class World:
    """The event heap: what happens next, in order of time, then of scheduling."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.events = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, when_ms: int, do: Callable[..., None], *args: Any) -> None:
        """Do something at a time, not before now."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(when_ms, self.now_ms), self._sequence, do, args))

    def step(self) -> bool:
        """Carry out the next event; False when there is none."""
        if not self._heap:
            return False
        self.now_ms, _, do, args = heapq.heappop(self._heap)
        self.events += 1
        do(*args)
        return True

    def next_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None


class Party(Protocol):
    """Whoever can be asked."""

    name: str
    up: bool
    life: int

    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None:
        """Answer a request by calling `reply`, now, later or never."""
        ...


@dataclass(slots=True)
class Quality:
    """How good links are: log-normal delay, and the chance that a message is lost or doubled."""

    median_ms: float = 60.0
    sigma: float = 0.6
    loss: float = 0.0
    duplicate: float = 0.0


class Links:
    """Every directed link between two parties."""

    def __init__(self, world: World, rng: Random, quality: Quality) -> None:
        self.quality = quality
        self.parties: dict[str, Party] = {}
        self.cut: set[tuple[str, str]] = set()
        # A deliberate adversary: extra delay for one message in ms, or None to drop it.
        self.adversary: Callable[[str, str, str], int | None] | None = None
        # Told of every message between two parties: op, and the request's arguments or the answer.
        self.meter: Callable[[str, Any], None] | None = None
        self._world = world
        self._rng = rng

    def delay_ms(self) -> int:
        q = self.quality
        return 1 + int(self._rng.lognormvariate(log(q.median_ms), q.sigma))

    def _passes(self, source: str, target: str, op: str) -> int | None:
        """The delay of one message, or None when it is lost."""
        if source == target:
            return LOCAL_MS
        if (source, target) in self.cut or self._rng.random() < self.quality.loss:
            return None
        extra = self.adversary(source, target, op) if self.adversary is not None else 0
        return None if extra is None else self.delay_ms() + extra

    def call(
        self,
        source: Party,
        target_name: str,
        op: str,
        args: tuple[Any, ...],
        on_reply: Callable[[Any], None],
        on_failure: Callable[[], None],
    ) -> None:
        """Ask a party. Exactly one of the callbacks is called, if the asker still lives then."""
        life = source.life
        settled = False

        def settle(answer: Any, failed: bool) -> None:
            nonlocal settled
            if settled or source.life != life or not source.up:
                return
            settled = True
            if failed:
                on_failure()
            else:
                on_reply(answer)

        measured = self.meter if source.name != target_name else None

        def reply(answer: Any) -> None:
            if measured is not None:
                measured(f"{op} answer", answer)
            back = self._passes(target_name, source.name, op)
            if back is not None:
                self._world.at(self._world.now_ms + back, settle, answer, False)

        def deliver() -> None:
            target = self.parties[target_name]
            if target.up:
                target.serve(op, source.name, args, reply)

        if measured is not None:
            measured(op, args)
        there = self._passes(source.name, target_name, op)
        now = self._world.now_ms
        if there is not None:
            self._world.at(now + there, deliver)
            if self._rng.random() < self.quality.duplicate:
                self._world.at(now + there + self.delay_ms(), deliver)
        self._world.at(now + TIMEOUT_MS, settle, None, True)
