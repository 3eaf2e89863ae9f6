"""An honest validator: carries out what the machine asks, on a disk that may lose what is not
synced, and dies between any two steps.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from restante.errors import Invalid
from restante.formats import whisper
from restante.formats.message import Answer, PoolPage
from restante.rules import actions as act
from restante.rules import commit
from restante.rules.actions import Action
from restante.rules.pool import Row
from restante.rules.propose import Proposing
from restante.rules.validator import Validator
from restante.testing.sim.adopting import AdoptingParty
from restante.testing.sim.disk import Archived, Decision, Journal, RolledUp
from restante.testing.sim.history import Batch
from restante.testing.sim.party import Crash
from restante.testing.sim.plan import key_of
from restante.testing.sim.rolling import records_of
from restante.testing.sim.workload import cheap_keccak

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

RETRY_MS = 1_000
RESTART_MS = 4_000


class ValidatorNode(AdoptingParty):
    """One validator process, its disk and its clock."""

    def __init__(self, sim: "Simulation", name: str) -> None:
        super().__init__(sim, name)
        self.key = key_of(name)
        self.skew_ms = 0
        self.crash_in: int | None = None  # steps until it dies
        self.down_ms = RESTART_MS
        self.stays_down = False
        self.halted: str | None = None
        self._newest_ms = 0
        self._fetching = False
        self._polling = False

    # --- life ---------------------------------------------------------------------------------

    def now_ms(self) -> int:
        self._newest_ms = max(self._newest_ms, self.sim.world.now_ms + self.skew_ms)
        return self._newest_ms

    def start(self) -> None:
        """Open what disk holds. Nothing is signed before peers have answered (start rule)."""
        if self.up or self.halted:
            return
        self.up = True
        self.life += 1
        self._newest_ms = 0
        self._tick_at = None
        self._fetching = self._polling = False
        self.begin_rolling()
        self._known.clear()
        self.proposings.clear()
        if self.is_away():
            self.seek()
        else:
            self.begin()

    def begin(self) -> None:
        """The machine is made of what disk holds."""
        self.machine = Validator(
            self.sim.d,
            self.key,
            cheap_keccak,
            lambda row: self.disk.body(row.position),
            restored=self.disk.restored(),
            now_ms=self.now_ms(),
        )
        self.sim.history.note("starts", self.name, self.machine.base.window)
        self.sim.check_restored(self)
        self.sim.measure_clocks()
        for peer in self.sim.peers_of(self.name):
            self._ask_remembered(peer)
        cosignatures = self.disk.cosignatures()
        if cosignatures:
            self._publish(cosignatures[-1])  # re-served, never made again
        self.run(self.machine.tick)
        self.poll_soon()

    def crash(self) -> None:
        """Die; come back later with what was synced."""
        if not self.up:
            return
        self.up = False
        self.life += 1
        self.machine = None
        self.crash_in = None
        for journal in (self.disk.pool, self.disk.lock, self.disk.archive):
            journal.crash(self.sim.rng)
        self.sim.synced_pool(self)
        self.sim.history.note("crashes", self.name)
        self.sim.disturbed(self, down=True)
        if not self.stays_down:
            self.sim.world.at(self.sim.world.now_ms + self.down_ms, self.start)

    def _ask_remembered(self, peer: str) -> None:
        def replied(item: tuple[int, bytes, bytes | None]) -> None:
            machine = self.machine
            if machine is not None:
                self.run(lambda now: machine.remembered(peer, *item, now))

        def failed() -> None:
            if self.machine is not None and not self.machine.cosigner.ready:
                self.sim.world.at(self.sim.world.now_ms + RETRY_MS, again, self.life)

        def again(life: int) -> None:
            if self.life == life:
                self._ask_remembered(peer)

        self.sim.links.call(self, peer, "cosignature", (self.name,), replied, failed)

    # --- time and the engine ------------------------------------------------------------------

    def next_ms(self) -> int | None:
        assert self.machine is not None
        return min([self.machine.next_ms(), *self.proposings_next_ms()])

    def tick(self) -> None:
        assert self.machine is not None
        self.run(self.machine.tick)
        self.tick_proposings()

    def poll_soon(self) -> None:
        """Read the engine shortly."""
        if self.up and not self._polling:
            self._polling = True
            self.sim.world.at(
                self.sim.world.now_ms + self.sim.rng.randint(5, 200), self._poll, self.life
            )

    def _poll(self, life: int) -> None:
        if self.life != life:
            return
        self._polling = False
        machine = self.machine
        if machine is None or machine.halted or self._fetching:
            return
        entries = self.sim.engine.entries(self.name, machine.engine_slot)
        if entries or machine.deciding:
            self.run(lambda now: machine.engine(entries, now))
            if entries:
                self.poll_soon()

    # --- actions ------------------------------------------------------------------------------

    def step(self) -> None:
        """A place where the process may die."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                raise Crash

    def _durably(self, journal: Journal[Any], *records: Any) -> None:
        self.step()
        for record in records:
            journal.write(record)
        self.step()
        journal.sync()
        self.step()

    def perform(self, actions: Iterable[Action], proposing: Proposing | None = None) -> None:
        for action in actions:
            self.step()
            self._perform(action, proposing)

    def _perform(self, action: Action, proposing: Proposing | None) -> None:
        disk, sim, history = self.disk, self.sim, self.sim.history
        match action:
            case act.Append():
                assert action.position == len(disk.pool.records), "the pool has another position"
                self._durably(disk.pool, *action.records)
                sim.synced_pool(self)
            case act.Freeze():
                self._durably(disk.lock, action)
                history.freeze(self.name, action.window, action.position)
            case act.Accept():
                assert self.machine is not None
                ids = self.machine.judge.batches.get(action.cid, ())
                history.batches.setdefault(action.cid, frozenset(ids))
                self._durably(disk.lock, action)
            case act.Commit():
                self._commit(action)
            case act.Cosign():
                sim.require_reached(self, action)
                self._durably(disk.lock, action)
                history.cosign(self.name, action.size, action.root, action.value)
                sim.require_durable(self, action)
                self._publish(action)
            case act.Advance() | act.Cursor():
                self._durably(disk.lock, action)
            case act.Release():
                disk.pool_floor = action.position
            case act.Reply():
                self._answer(action.answer)
            case act.Submit():
                history.note("submits", self.name, action.window)
                sim.engine.submit(self.name, action.certificate)
            case act.FetchBatch():
                self._fetch_batch(action.window, action.cid)
            case act.RollUp():
                self.roll_up(action.span)
            case act.AskPool():
                self._ask_pool(action)
            case act.FetchBodies() if proposing is not None:
                self.fetch_claimed(action, proposing)
            case act.FetchBodies():
                self._fetch_shared(action)
            case act.Propose():
                self._propose()
            case act.Halt():
                self.halted = action.code
                history.note("halts", self.name, action.code, action.detail)
            case act.SendProposal() if proposing is not None:
                self.send_proposal(action, proposing)
            case act.PushBodies() if proposing is not None:
                self.push_bodies(action, proposing)
            case act.Certified():
                amendments = proposing.amendments if proposing is not None else 0
                history.note("certified", self.name, action.window, amendments)
                self.spread_certificate(action.certificate)
            case _:
                raise AssertionError(f"no driver for {action}")

    def _commit(self, action: act.Commit) -> None:
        segment = action.segment
        records = records_of(segment)
        ids, raws = tuple(r[1] for r in records), tuple(r[2] for r in records)
        archived = Archived(action.window, segment.root_cid, segment, ids, raws)
        self._durably(self.disk.archive, archived)
        decision = Decision(
            action.window,
            action.slot,
            action.entry_hash,
            segment.root_cid,
            action.certificate,
            action.entry,
        )
        self._durably(self.disk.lock, decision)
        self.proposings.clear()
        assert self.machine is not None
        root = self.machine.base.root
        batch = Batch(action.window, segment.root_cid, frozenset(ids), root, action.entry)
        self.sim.history.commit(self.name, batch)
        if self.sim.d.levels:
            self.require_installed(action.entry)
            self.release_children(action.window)
        if self.sim.plan.kept_batches is not None:
            self.disk.keep_from(action.window + 1 - self.sim.plan.kept_batches)
        self.poll_soon()

    def _propose(self) -> None:
        assert self.machine is not None
        m = self.machine
        proposing = Proposing(self.sim.d, self.key, m.base, m.index, m.intake, self._body_of)
        self.proposings.append(proposing)
        self.perform(proposing.start(), proposing)

    def _body_of(self, row: Row) -> bytes:
        return self.disk.body(row.position)

    def _answer(self, answer: Answer) -> None:
        if answer.kind == "accept":
            accept = self.disk.accepts()[-1] if self.disk.accepts() else None
            self.sim.accept_leaves(self, answer, accept)
        if self._reply is not None:
            self._reply(answer)

    def _publish(self, action: act.Cosign) -> None:
        """Peers read the newest cosignature, sooner or later."""
        for peer in self.sim.peers_of(self.name):
            self._be_read(peer, action.size, action.root, action.value)

    def _be_read(self, peer: str, size: int, root: bytes, value: bytes) -> None:
        def again() -> None:
            newest = self.disk.cosignatures()[-1].size
            if newest == size:
                self.sim.world.at(
                    self.sim.world.now_ms + 3 * RETRY_MS, self._be_read, peer, size, root, value
                )

        args = (self.name, size, root, value)
        self.sim.links.call(self, peer, "read-cosignature", args, lambda _: None, again)

    # --- fetching -----------------------------------------------------------------------------

    def _fetch_batch(self, window: int, cid: bytes) -> None:
        if self._fetching:
            return
        self._fetching = True
        peers = self.sim.peers_of(self.name)
        self.sim.rng.shuffle(peers)
        self._ask_batch(peers, 0, window, cid)

    def _ask_batch(self, peers: list[str], turn: int, window: int, cid: bytes) -> None:
        if not peers:
            return
        life = self.life

        def replied(archived: Archived | None) -> None:
            machine = self.machine
            if machine is None:
                return
            if archived is not None and archived.cid == cid:
                take(archived)
            elif self.sim.d.levels:
                links.call(self, peer, "rollup", (window,), came_in_rollup, next_peer)
            else:
                next_peer()

        def came_in_rollup(rolled: RolledUp | None) -> None:
            archived = rebuilt(self.sim, window, rolled)
            if archived is not None and archived.cid == cid:
                self.sim.history.note("rebuilds", self.name, window, peer)
                take(archived)
            else:
                next_peer()

        def take(archived: Archived) -> None:
            machine = self.machine
            assert machine is not None
            self._fetching = False
            self.run(lambda now: machine.batch(archived.segment, archived.raws, now))
            self.poll_soon()

        def next_peer() -> None:
            self.sim.world.at(self.sim.world.now_ms + 300, again)

        def again() -> None:
            if self.life == life:
                self._ask_batch(peers, turn + 1, window, cid)

        peer, links = peers[turn % len(peers)], self.sim.links
        links.call(self, peer, "batch", (window, cid), replied, next_peer)

    def _ask_pool(self, action: act.AskPool) -> None:
        peer = action.peer

        def replied(page: PoolPage) -> None:
            machine = self.machine
            if machine is not None:
                self.run(lambda now: machine.pool_page(peer, page, now))

        self.sim.links.call(
            self, peer, "pool", (action.after,), replied, lambda: self._share_failed(peer, ())
        )

    def _share_failed(self, peer: str, ids: tuple[bytes, ...]) -> None:
        machine = self.machine
        if machine is not None:
            self.run(lambda now: machine.share_failed(peer, ids, now))

    def _fetch_shared(self, action: act.FetchBodies) -> None:
        peer, ids = action.peer, action.ids

        def replied(raws: list[bytes]) -> None:
            machine = self.machine
            if machine is not None:
                self.run(lambda now: machine.shared(peer, ids, raws, now))

        self.sim.links.call(
            self, peer, "bodies", (ids,), replied, lambda: self._share_failed(peer, ids)
        )

    def observe(self, raws: list[bytes]) -> None:
        """The network brings envelopes."""
        machine = self.machine
        if machine is not None:
            now = self.now_ms()
            self.run(lambda now_ms: machine.observed([(now, raw) for raw in raws], now_ms))


def rebuilt(sim: "Simulation", window: int, rolled: RolledUp | None) -> Archived | None:
    """A batch of the records of a peer's roll-up, whatever they are worth."""
    if rolled is None:
        return None
    records = [(of, raw) for of, _, raw in rolled.records]
    try:
        segment, raws = commit.rebuilt(sim.d, window, records, whisper.topic_of, sent_of)
    except Invalid:
        return None
    return Archived(window, segment.root_cid, segment, sim.ids_of(raws), tuple(raws))


def sent_of(raw: bytes) -> int:
    """The sent time of an envelope."""
    return whisper.parse(raw).sent_s
