"""Drives one `rules.validator.Validator`: what the world brings goes in, what it asks is done.

Every call of the machine and everything durable that follows from it happens in one go on the event
loop, so that nothing sees a state between the two. Requests run beside it and come back as calls.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

from restante import limits
from restante.errors import RestanteError, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Certificate, PoolPage, Proposal
from restante.formats.segment import Segment
from restante.formats.whisper import Keccak
from restante.node.durable.fuse import Fuse
from restante.node.durable.state import State
from restante.node.relaying import relay_again
from restante.node.validator.alone import Alone
from restante.node.validator.journal import Journal
from restante.node.validator.own_rounds import OwnRounds
from restante.node.validator.rolling import Rolling
from restante.node.waiting import retries, start, until
from restante.node.wire.peers import Peers
from restante.ports import Clock, Engine, Network
from restante.rules import actions as act
from restante.rules import valid, window
from restante.rules.actions import Action
from restante.rules.validator import Validator

log = logging.getLogger("restante.validator")


class ValidatorNode:
    """One validator at work."""

    def __init__(
        self,
        d: Descriptor,
        key: SigningKey,
        state: State,
        engine: Engine,
        clock: Clock,
        peers: Peers,
        keccak: Keccak,
        pace: window.Pace,
        *,
        pool_max_bytes: int,
        proposer: SigningKey | None = None,
    ) -> None:
        """`proposer`: the key of a proposer role in this process: it proposes after the grace."""
        self.d = d
        self.name = key.name
        self.state = state
        self.engine = engine
        self.clock = clock
        self.peers = peers
        self.pace = pace
        self.machine = Validator(
            d,
            key,
            keccak,
            state.body,
            restored=state.restored(),
            now_ms=clock.now_ms(),
            pace=pace,
        )
        self.committed: Callable[[act.Commit], None] = lambda commit: None
        """Called after each commit is durable."""
        self.cosigned: Callable[[act.Cosign], None] = lambda cosign: None
        """Called after each cosignature is durable."""
        self.fetch: Callable[[int, bytes], Awaitable[tuple[Segment, list[bytes]]]] = self._no_batch
        """Gets a window's decided batch, and its envelopes, from elsewhere: one attempt at
        everyone. Raises Unavailable."""
        self.journal = Journal()
        self._key = key
        self._proposer = proposer
        self._keccak = keccak
        self._pool_max_bytes = pool_max_bytes
        self._fuse = Fuse()
        self._wake = asyncio.Event()
        self._engine_wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self.rolling = Rolling(self, state)
        self._rounds = OwnRounds(self, key)
        self._alone = Alone(self, self._rounds)
        self._early: bytes | None = None
        self._proposals: OrderedDict[tuple[bytes, bytes], Proposal] = OrderedDict()
        self.engine_turn = asyncio.Lock()
        """Held by whoever reads the engine: entries are handed in in order, once."""
        self.grouping = False
        """Whether what is carried out now belongs to an open group (n = 1 catching up)."""
        self.grouped: list[Action] = []
        """What was carried out in the open group: its consequences wait for the group's end."""
        self.engine_error: RestanteError | None = None
        self.batch_error: RestanteError | None = None
        """Why the decided batch is not here; None once it is."""
        self.behind_ms = 0
        """How late, on the clock, the newest arrivals or the newest due time were dealt with: a
        replay must not outrun us."""

    async def run(self, network: Network | None) -> None:
        """Work until cancelled; a failure of anything durable is raised."""
        await self._check_engine()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._fuse.watch())
            tasks.create_task(self._tick())
            tasks.create_task(self._read_engine())
            tasks.create_task(self._ask_memories())
            tasks.create_task(self.rolling.run())
            if self._proposer is not None:
                tasks.create_task(self._rounds.after_grace(self._proposer))
            if network is not None:
                tasks.create_task(self._observe(network))
                pool, index, now_ms = self.state.pool, self.machine.index, self.clock.now_ms()
                tasks.create_task(relay_again(network, pool, index, self.d, now_ms))

    # --- what comes in ----------------------------------------------------------------------

    def judge(self, proposal: Proposal) -> Answer:
        """Judge a proposal, whose signature is checked (step 3)."""
        # What the bodies that are pushed for it are judged by; its ids the machine remembers.
        self._proposals[proposal.key, proposal.cid] = replace(proposal, ids=(), add=(), drop=())
        if len(self._proposals) > limits.PROPOSAL_KEYS * limits.PROPOSALS_PER_KEY:
            self._proposals.popitem(last=False)
        answer = self._reply(self.machine.proposal(proposal, self.clock.now_ms()))
        self.journal.answered(proposal, answer)
        return answer

    def push(self, key: bytes, cid: bytes, raws: Sequence[bytes]) -> Answer:
        """Take bodies for a proposal that this validator needs bodies for."""
        proposal = self._proposals.get((key, cid))
        if proposal is None:
            return Answer.resend()
        if not self.has_room(raws):
            return Answer.refused("pool-full", "the pool has no room for these bodies")
        answer = self._reply(self.machine.pushed(proposal, raws, self.clock.now_ms()))
        self.journal.answered(proposal, answer)
        return answer

    def certificate(self, data: bytes) -> None:
        """Take a certificate. Raises InvalidEncoding, VerificationFailed."""
        parsed = Certificate.parse(data, self.d.set_id)
        if parsed.window == self.machine.base.window + 1:
            # It came before our commit of the window before it: keep the newest such.
            parsed.verify(self.d)
            self._early = data
        self.carry(self.machine.certificate(data, self.clock.now_ms()))

    def hand_in(self, raw: bytes) -> bytes:
        """Pool an envelope that its author hands in; its id.

        Raises Refused when the reception rules refuse it, Unavailable `pool-full`.
        """
        now_ms = self.clock.now_ms()
        facts = valid.receive(raw, now_ms, self.d, self._keccak)
        if not self.has_room([raw]):
            raise Unavailable("the pool is full", code="pool-full")
        self.carry(self.machine.observed([(now_ms, raw)], now_ms))
        return facts.id

    def has_room(self, raws: Iterable[bytes]) -> bool:
        """Whether the pool takes these: above its limit only the reserve for the oldest window."""
        reserve = self.d.n * self.d.batch_max_bytes
        size = self.state.pool.size_bytes + sum(len(raw) for raw in raws)
        return size <= self._pool_max_bytes + reserve

    @property
    def pool_full(self) -> bool:
        """Whether the network is not read any more."""
        return self.state.pool.size_bytes >= self._pool_max_bytes

    # --- what others read -------------------------------------------------------------------

    def pool_page(self, after: int, limit: int) -> PoolPage:
        """Ids from a position on, in order of arrival."""
        index = self.machine.index
        start = min(max(after, index.floor), index.size)
        stop = min(start + limit, index.size)
        frozen = self.machine.last_frozen
        position = self.machine.freezes.get(frozen)
        return PoolPage(
            pool=self.state.pool.id,
            floor=index.floor,
            after=after,
            ids=index.ids(start, stop),
            next=max(after, stop),
            frozen_window=None if position is None else frozen,
            frozen_position=position or 0,
        )

    def bodies(self, ids: Iterable[bytes]) -> list[bytes]:
        """The bodies that are held of these, up to one answer's bytes."""
        raws: list[bytes] = []
        left = limits.BODIES_ANSWER_BYTES
        for id_ in ids:
            row = self.machine.index.get(id_)
            if row is None:
                continue
            left -= row.size_bytes + 9
            if left < 0:
                break
            raws.append(self.state.body(row))
        return raws

    # --- carrying out -----------------------------------------------------------------------

    def carry(self, actions: Sequence[Action]) -> Answer | None:
        """Make actions durable, then do the rest; the reply, if there is one."""
        with self._fuse.guard():
            return self._carry(actions)

    def _carry(self, actions: Sequence[Action]) -> Answer | None:
        if not self.grouping:
            self.state.end_group()
        others = self.state.persist(actions)
        answer: Answer | None = None
        for action in others:
            if isinstance(action, act.Reply):
                answer = action.answer
            else:
                self._start(action)
        if self.grouping:
            self.grouped += actions
        else:
            self.after(actions)
        if others:
            self._wake.set()
        return answer

    def after(self, actions: Iterable[Action]) -> None:
        """What follows from commits and cosignatures once they are durable."""
        for action in actions:
            if isinstance(action, act.Commit):
                self._after_commit(action)
            elif isinstance(action, act.Cosign):
                self.cosigned(action)

    def _reply(self, actions: Sequence[Action]) -> Answer:
        answer = self.carry(actions)
        assert answer is not None, "a proposal is always answered"
        return answer

    def _start(self, action: Action) -> None:
        match action:
            case act.Submit(_, certificate):
                self.spawn(self._submit(certificate))
            case act.FetchBatch(number, cid):
                self.spawn(self._fetch_batch(number, cid))
            case act.RollUp(span):
                self.rolling.ask(span)
            case act.AskPool(peer, after):
                self.spawn(self._ask_pool(peer, after))
            case act.FetchBodies(peer, ids):
                self.spawn(self._fetch_bodies(peer, ids))
            case act.Propose(number):
                self._rounds.propose(number, self._key)
            case act.Halt(code, detail):
                log.error("halted: %s: %s; nothing is signed any more", code, detail)
            case _:
                raise AssertionError(f"no action of a validator: {action}")

    def _after_commit(self, commit: act.Commit) -> None:
        self._rounds.moved()
        self._proposals.clear()
        self.journal.committed(commit.window, commit.segment, self.clock.now_ms())
        self.committed(commit)
        early, self._early = self._early, None
        if early is not None:
            self.carry(self.machine.certificate(early, self.clock.now_ms()))
        self._engine_wake.set()
        self._wake.set()

    # --- loops ------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self.machine.clock_trusted = self.peers.offsets.trusted
            self.behind_ms = max(0, self.clock.now_ms() - self.machine.next_ms())
            if self._alone.passed():
                await self._alone.catch_up()
            self.carry(self.machine.tick(self.clock.now_ms()))
            self._engine_wake.set()
            due_ms = self.machine.next_ms()
            await until(self.clock, due_ms, self._wake)
            self.behind_ms = max(0, self.clock.now_ms() - due_ms)

    async def _observe(self, network: Network) -> None:
        async for group in network.arrivals():
            while self.pool_full:  # noqa: ASYNC110 room comes by release, a file at a time
                await asyncio.sleep(limits.RETRY_MAX_S)
            self.carry(self.machine.observed(group, self.clock.now_ms()))
            network.judged(self.machine.intake.verdicts)
            self.behind_ms = max(0, self.clock.now_ms() - group[-1].arrival_ms)

    async def _check_engine(self) -> None:
        async for _ in retries():
            try:
                await self.state.check_engine(self.engine)
                return
            except Unavailable as error:
                self.engine_failed(error)

    async def _read_engine(self) -> None:
        pause_s = limits.ENGINE_POLL_S
        while True:
            try:
                async with self.engine_turn:
                    came = await self._read_page()
                self.engine_error = None
                pause_s = self._engine_pause_s()
            except Unavailable as error:
                self.engine_failed(error)
                came, pause_s = False, min(2 * pause_s, limits.RETRY_MAX_S)
            if came:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._engine_wake.wait()
            self._engine_wake.clear()

    def _engine_pause_s(self) -> float:
        if self.d.n == 1:
            # Nobody else decides, and the own appends wake the reader.
            return limits.ENGINE_ALONE_POLL_S
        # Nothing is due there while every window that has ended is decided.
        undecided = self.machine.last_frozen >= self.machine.base.window
        return limits.ENGINE_POLL_S if undecided else limits.ENGINE_IDLE_POLL_S

    async def _read_page(self) -> bool:
        """Hand new entries to the machine; whether there were any. Raises Unavailable."""
        if self.machine.deciding is not None or self.machine.halted is not None:
            return False
        slots = await self.engine.entries(self.machine.engine_slot, limits.ENGINE_PAGE_ENTRIES)
        if slots:
            self.carry(self.machine.engine(slots, self.clock.now_ms()))
        return bool(slots)

    def engine_failed(self, error: Unavailable) -> None:
        """The engine does not answer; say so once."""
        if self.engine_error is None:
            log.warning("the engine does not answer: %s", error)
        self.engine_error = error

    async def _ask_memories(self) -> None:
        """The start rule: sign nothing before peers said which cosignature of ours they know."""
        asked: set[str] = set()
        async for _ in retries():
            for name in self.peers.names:
                if name in asked:
                    continue
                try:
                    report = await self.peers.cosignatures(name)
                except Unavailable:
                    continue
                asked.add(name)
                item = report.of_key(self._key.vkey().key_id)
                size, root, value = (0, b"", None) if item is None else item[1:]
                self.carry(self.machine.remembered(name, size, root, value, self.clock.now_ms()))
                self._wake.set()
            if len(asked) == len(self.peers.names) or self.machine.cosigner.ready:
                return

    # --- requests ---------------------------------------------------------------------------

    async def _submit(self, certificate: bytes) -> None:
        try:
            await self.engine.append(certificate)
        except RestanteError as error:
            # It is submitted again n steps later, by us or by whoever stands next.
            log.warning("the certificate was not submitted: %s", error)
        self._engine_wake.set()

    async def _fetch_batch(self, number: int, cid: bytes) -> None:
        """From whoever has it, for as long as it takes."""
        async for _ in retries():
            if self.machine.deciding is None or self.machine.deciding.cid != cid:
                self.batch_error = None
                return
            try:
                segment, raws = await self.fetch(number, cid)
            except Unavailable as error:
                self.batch_error = error
                continue
            self.batch_error = None
            self.carry(self.machine.batch(segment, raws, self.clock.now_ms()))
            return

    async def _no_batch(self, number: int, cid: bytes) -> tuple[Segment, list[bytes]]:
        raise Unavailable(f"nobody to ask for the batch of window {number}", code="not-found")

    async def _ask_pool(self, peer: str, after: int) -> None:
        try:
            page = await self.peers.pool(peer, after)
        except Unavailable:
            self.carry(self.machine.share_failed(peer, (), self.clock.now_ms()))
        else:
            self.carry(self.machine.pool_page(peer, page, self.clock.now_ms()))
        self._wake.set()

    async def _fetch_bodies(self, peer: str, ids: tuple[bytes, ...]) -> None:
        try:
            raws = await self.peers.bodies(peer, ids)
        except Unavailable:
            raws = []
        now_ms = self.clock.now_ms()
        if raws and self.has_room(raws):
            self.carry(self.machine.shared(peer, ids, raws, now_ms))
        else:
            self.carry(self.machine.share_failed(peer, ids, now_ms))
        self._wake.set()

    # --- what rounds of proposals ask -------------------------------------------------------

    def persist(self, actions: Sequence[Action]) -> list[Action]:
        """Carry out durable actions; answer the others."""
        with self._fuse.guard():
            return self.state.persist(actions)

    def body_of(self, id_: bytes) -> bytes | None:
        """The bytes of a pooled envelope."""
        row = self.machine.index.get(id_)
        return None if row is None else self.state.body(row)

    def spawn(self, task: Coroutine[Any, Any, None]) -> None:
        """Run a request beside everything else."""
        assert self._tasks is not None
        start(self._tasks, task)
