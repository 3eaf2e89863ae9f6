"""The proposer role without a validator: its own pool, its own view of the log, an HTTP client.

Nobody trusts it, and it listens to nothing but its operator (step 2 and 4 of an envelope's life).
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from restante import limits
from restante.errors import Invalid, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.policy import Policy
from restante.formats.whisper import Keccak
from restante.node.durable.fuse import Fuse
from restante.node.durable.pool import Pool
from restante.node.proposer.follower import Follower
from restante.node.relaying import relay_again
from restante.node.validator.proposing import Round, Surroundings
from restante.node.waiting import retries, start, until
from restante.node.wire.peers import Peers
from restante.node.wire.routes_network import HandedIn, network_part, network_reasons
from restante.ports import Clock, Network
from restante.rules import actions as act
from restante.rules import valid, window
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.intake import Intake
from restante.rules.pool import PoolIndex, Row
from restante.rules.propose import Proposing

log = logging.getLogger("restante.proposer")


class Outsider:
    """One proposer at work."""

    def __init__(
        self,
        d: Descriptor,
        key: SigningKey,
        policy: Policy,
        pool: Pool,
        clock: Clock,
        peers: Peers,
        keccak: Keccak,
        pace: window.Pace,
    ) -> None:
        self.d = d
        self.name = key.name
        self._key = key
        self._pool = pool
        self._clock = clock
        self._peers = peers
        self._keccak = keccak
        self._pace = pace
        self.index = PoolIndex(d, pool.floor)
        self.intake = Intake(d, keccak, self.index)
        for record in pool.records():
            self.intake.restore(record.arrival_ms, record.raw)
        self._follower = Follower(d, policy, peers, self._known_batch)
        self.base: Base | None = None
        self._reached_ms = 0
        self._moved = asyncio.Event()
        self._round: Round | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._network: Network | None = None
        self._fuse = Fuse()
        self._behind_ms = 0
        self.following_error = ""
        self.certified = 0
        """Windows that this proposer got certified since its start."""

    async def run(self, network: Network | None) -> None:
        """Work until cancelled."""
        self._network = network
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._fuse.watch())
            if network is not None:
                tasks.create_task(self._observe(network))
                now_ms = self._clock.now_ms()
                tasks.create_task(relay_again(network, self._pool, self.index, self.d, now_ms))
            base = await self._follower.start()
            self.base, self._reached_ms = base, self._clock.now_ms()
            tasks.create_task(self._follow(base))
            tasks.create_task(self._propose(base))

    def hand_in(self, raw: bytes) -> HandedIn:
        """Pool an envelope that its author hands in, and send it on. Raises Refused."""
        now_ms = self._clock.now_ms()
        facts = valid.receive(raw, now_ms, self.d, self._keccak)
        self._persist(self._observed([(now_ms, raw)]))
        return HandedIn.of(facts.id, self._network, raw)

    # --- loops ------------------------------------------------------------------------------

    async def _observe(self, network: Network) -> None:
        async for group in network.arrivals():
            self._persist(self._observed(group))
            network.judged(self.intake.verdicts)
            self._behind_ms = max(0, self._clock.now_ms() - group[-1].arrival_ms)

    async def _follow(self, base: Base) -> None:
        """Keep the base at the newest checkpoint; look often while one is due."""
        step_ms = self.d.window_s * 1000 // 60
        while True:
            due_ms = self.d.end_ms(base.window) + self._pace.grace_ms
            await self._clock.sleep_until(due_ms)
            try:
                grew = await self._follower.advance(base)
                self.following_error = ""
            except (Unavailable, Invalid) as error:
                self.following_error = str(error)
                grew = False
            if grew:
                self._grown(base)
            else:
                await asyncio.gather(
                    asyncio.sleep(limits.FOLLOW_POLL_S),
                    self._clock.sleep_until(self._clock.now_ms() + step_ms),
                )

    def _grown(self, base: Base) -> None:
        self._reached_ms = self._clock.now_ms()
        if self._round is not None:
            self._round.stop()
            self._round = None
        position = self.index.releasable(base.window, self.index.size)
        if position > self.index.floor:
            self.index.release(position)
            self._pool.release(position)
        self._moved.set()

    async def _propose(self, base: Base) -> None:
        proposed = -1
        while True:
            number = base.window
            due_ms = window.outsider_due_ms(self.d, self._pace, number, self._reached_ms)
            if number != proposed:
                await until(self._clock, due_ms, self._moved)
            else:
                await self._moved.wait()
                self._moved.clear()
            if number == base.window != proposed and self._clock.now_ms() >= due_ms:
                proposed = number
                self._begin(base)

    def _begin(self, base: Base) -> None:
        machine = Proposing(self.d, self._key, base, self.index, self.intake, self._body)
        self._round = self.new_round(machine, base)
        self._spawn(self._round.run())

    def new_round(self, machine: Proposing, base: Base) -> Round:
        """A round for this proposer's machine."""
        return Round(
            machine,
            Surroundings(
                peers=self._peers,
                clock=self._clock,
                base=base,
                key=self._key.public_key,
                persist=self._persist,
                body=self._body_of,
                certified=self._certified,
                spawn=self._spawn,
            ),
        )

    # --- what a round needs -----------------------------------------------------------------

    def _observed(self, group: Sequence[tuple[int, bytes]]) -> list[Action]:
        pooled = self.intake.observe(group)
        if not pooled:
            return []
        return [act.Append(self.index.size - len(pooled), tuple(pooled))]

    def _persist(self, actions: Sequence[Action]) -> list[Action]:
        others: list[Action] = []
        with self._fuse.guard():
            for action in actions:
                if isinstance(action, act.Append):
                    self._pool.append(action.records)
                else:
                    others.append(action)
        return others

    def _body(self, row: Row) -> bytes:
        return self._pool.read(row.position)

    def _body_of(self, id_: bytes) -> bytes | None:
        row = self.index.get(id_)
        return None if row is None else self._body(row)

    def _known_batch(self, cid: bytes) -> Sequence[bytes] | None:
        draft = None if self._round is None else self._round.machine.drafts.get(cid)
        return None if draft is None else draft.ids

    def _certified(self, number: int, certificate: bytes) -> None:
        self.certified += 1
        for name in self._peers.names:
            self._spawn(self._hand(name, number, certificate))

    async def _hand(self, name: str, number: int, certificate: bytes) -> None:
        async for attempt in retries():
            if attempt == limits.CERTIFICATE_ATTEMPTS:
                return
            if self.base is not None and self.base.window > number:
                return
            try:
                await self._peers.certificate(name, certificate)
                return
            except Unavailable as error:
                if error.code == "peer-refused":
                    return

    def _spawn(self, task: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        start(self._tasks, task)

    # --- status -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What an operator asks first; `reasons` is empty when all is well."""
        now_ms = self._clock.now_ms()
        base_window = None if self.base is None else self.base.window
        lag_ms = 0 if base_window is None else max(0, now_ms - self.d.end_ms(base_window))
        reasons = []
        if self.base is None:
            reasons.append({"code": "starting", "message": "no validator gave a checkpoint yet"})
        if lag_ms > self._pace.grace_ms + 3 * self._pace.step_ms:
            message = f"window {base_window} is undecided {lag_ms // 1000} s after its end"
            reasons.append({"code": "lag", "message": message})
        if self.following_error:
            reasons.append({"code": "log", "message": self.following_error})
        for code, message in network_reasons(self._network):
            reasons.append({"code": code, "message": message})
        return {
            "name": self.name,
            "key": self._key.public_key.hex(),
            "window": self.d.window_of(now_ms),
            "decided": -1 if base_window is None else base_window - 1,
            "lag_ms": lag_ms,
            "behind_ms": self._behind_ms,
            "certified": self.certified,
            "pool": {"envelopes": len(self.index), "bytes": self._pool.size_bytes},
            "reception": dict(self.intake.outcomes),
            "connected": self._network is None or self._network.connected,
            **network_part(self._network),
            "reasons": reasons,
        }
