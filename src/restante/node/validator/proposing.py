"""Drives one `rules.propose.Proposing`: the proposals, pushes and fetches of one window.

A validator that proposes judges its own proposals in its own process, through the same machine
that judges everybody else's.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from restante import limits
from restante.errors import Unavailable
from restante.formats.message import Answer, Proposal
from restante.node.waiting import until
from restante.node.wire.peers import Peers
from restante.ports import Clock
from restante.rules import actions as act
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.propose import Proposing


class Seat(Protocol):
    """The validator that shares this process, if one does."""

    name: str

    def judge(self, proposal: Proposal) -> Answer: ...

    def push(self, key: bytes, cid: bytes, raws: Sequence[bytes]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a round needs of its node.

    persist: carries out durable actions and answers the others; body: of an id in the pool, None
    when it is not there; certified: takes the certificate; spawn: runs a request on, also after the
    round is over (breaking it off would cost the connection); seat: the own validator.
    """

    peers: Peers
    clock: Clock
    base: Base
    key: bytes
    persist: Callable[[Sequence[Action]], list[Action]]
    body: Callable[[bytes], bytes | None]
    certified: Callable[[int, bytes], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    seat: Seat | None = None


class Round:
    """One window's proposals by one proposer, until certified, overtaken or decided."""

    def __init__(self, machine: Proposing, around: Surroundings) -> None:
        self.machine = machine
        self._around = around
        self._wake = asyncio.Event()
        self._queue: deque[Action] = deque()
        self._in_flight = 0

    @property
    def over(self) -> bool:
        """Whether nothing more can come of it: its base is gone, or it reached its end."""
        return self.machine.over or self._around.base.window != self.machine.window

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._in_flight > 0

    async def run(self) -> None:
        """Propose until it is over."""
        self.begin()
        while not self.over:
            await until(self._around.clock, self.machine.next_ms(), self._wake)
            if not self.over:
                self._carry(self.machine.tick(self._around.clock.now_ms()))
            if self.machine.next_ms() is None and not self.busy:
                # Nobody is left to answer: the window is decided without this round, or the next
                # one is started by time.
                return

    def begin(self) -> None:
        """Send the first proposals; with the own validator alone that is already all."""
        self._carry(self.machine.start())

    def stop(self) -> None:
        """The base moved: end soon."""
        self._wake.set()

    def _carry(self, actions: Iterable[Action]) -> None:
        """Carry out actions, and those that follow at once from the own validator's answers."""
        idle = not self._queue
        self._queue.extend(actions)
        if not idle:
            return
        while self._queue and self._around.base.window == self.machine.window:
            batch = list(self._queue)
            self._queue.clear()
            for action in self._around.persist(batch):
                self._one(action)
        self._queue.clear()

    def _one(self, action: Action) -> None:
        around = self._around
        match action:
            case act.SendProposal(peer, proposal):
                if around.seat is not None and peer == around.seat.name:
                    self._answered(peer, proposal.cid, around.seat.judge(proposal))
                else:
                    self._spawn(self._send(peer, proposal))
            case act.PushBodies(peer, cid, ids):
                if around.seat is not None and peer == around.seat.name:
                    self._answered(peer, cid, around.seat.push(around.key, cid, self._bodies(ids)))
                else:
                    self._spawn(self._push(peer, cid, ids))
            case act.FetchBodies(peer, ids):
                self._spawn(self._fetch(peer, ids))
            case act.Certified(window, certificate):
                around.certified(window, certificate)
            case _:
                raise AssertionError(f"no action of a proposer: {action}")

    def _answered(self, peer: str, cid: bytes, answer: Answer) -> None:
        if not self.over:
            now_ms = self._around.clock.now_ms()
            self._queue.extend(self.machine.answered(peer, cid, answer, now_ms))

    # --- requests ---------------------------------------------------------------------------

    def _spawn(self, request: Coroutine[Any, Any, None]) -> None:
        self._in_flight += 1
        self._around.spawn(self._counted(request))

    async def _counted(self, request: Coroutine[Any, Any, None]) -> None:
        try:
            await request
        finally:
            self._in_flight -= 1
            self._wake.set()

    async def _send(self, peer: str, proposal: Proposal) -> None:
        try:
            answer = await self._around.peers.propose(peer, proposal)
        except Unavailable:
            self.machine.failed(peer, self._around.clock.now_ms())
            return
        self._take(peer, proposal.cid, answer)

    async def _push(self, peer: str, cid: bytes, ids: Sequence[bytes]) -> None:
        try:
            answer = await self._around.peers.push(peer, self._around.key, cid, self._bodies(ids))
        except Unavailable:
            self.machine.failed(peer, self._around.clock.now_ms())
            return
        self._take(peer, cid, answer)

    def _take(self, peer: str, cid: bytes, answer: Answer) -> None:
        if not self.over:
            self._carry(self.machine.answered(peer, cid, answer, self._around.clock.now_ms()))

    async def _fetch(self, peer: str, ids: Sequence[bytes]) -> None:
        raws: list[bytes] = []
        # Without bodies the claim is settled as if it was not made.
        with contextlib.suppress(Unavailable):
            raws = await self._around.peers.bodies(peer, ids)
        if not self.over:
            now_ms = self._around.clock.now_ms()
            self._carry(self.machine.fetched(peer, ids, raws, now_ms))

    def _bodies(self, ids: Iterable[bytes]) -> list[bytes]:
        """As many bodies as one push may hold; the answer asks for the rest."""
        raws: list[bytes] = []
        left = limits.BODIES_PUSH_BYTES
        for id_ in ids:
            raw = self._around.body(id_)
            if raw is None:
                continue
            left -= len(raw) + 9
            if left < 0:
                break
            raws.append(raw)
        return raws
