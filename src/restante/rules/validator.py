"""One validator as a state machine: bytes, values and `now_ms` in, actions out.

n = 1 and n > 1 run through the same code. The machine's memory is rebuilt from disk at every
start (`Restored`), and it signs nothing before the start rule is met (`cosign.Cosigner`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from restante import limits
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.level import Span
from restante.formats.message import Answer, Certificate, PoolPage, Proposal, accept_statement
from restante.formats.segment import Segment
from restante.formats.tree import Frontier
from restante.formats.whisper import Keccak
from restante.rules import actions as act
from restante.rules import commit, decide, freeze, window
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.cosign import Cosigner, LostKey, Signed, SplitTree
from restante.rules.intake import Intake, Record
from restante.rules.judge import Bodies, Judge, build_batch
from restante.rules.pending import PendingRollUps
from restante.rules.pool import PoolIndex, runs
from restante.rules.share import Sharing


@dataclass(slots=True)
class Restored:
    """What disk says at start: of the lock, the archive and the pool."""

    freezes: dict[int, int] = field(default_factory=dict)
    accepts: Iterable[act.Accept] = ()
    adopted: Frontier = Frontier.EMPTY
    """The tree that was taken over from k (R6, `rules/adopt`)."""
    entries: Iterable[bytes] = ()
    """Those after `adopted`."""
    recent: Iterable[tuple[int, Sequence[bytes]]] = ()
    cosigned: Signed | None = None
    engine_slot: int = 0
    pool_floor: int = 0
    pool: Iterable[Record] = ()
    cursors: dict[str, tuple[bytes, int]] = field(default_factory=dict)


class Validator:
    """The state machine. Every handler answers actions, to be carried out in order."""

    def __init__(
        self,
        d: Descriptor,
        key: SigningKey,
        keccak: Keccak,
        bodies: Bodies,
        *,
        restored: Restored,
        now_ms: int,
        pace: window.Pace = window.DEFAULT_PACE,
    ) -> None:
        self.d = d
        self.pace = pace
        self.halted: act.Halt | None = None
        self.clock_trusted = True
        self._key = key
        self._own = next(v for v in d.validators if v.name == key.name)
        self.index = PoolIndex(d, restored.pool_floor)
        self.intake = Intake(d, keccak, self.index)
        self._bodies = self.intake.bodies(bodies)
        for arrival_ms, raw in restored.pool:
            self.intake.restore(arrival_ms, raw)
        self.freezes = dict(restored.freezes)
        self.last_frozen = max(self.freezes, default=d.first_window - 1)
        self.base = Base(d, restored.adopted)
        self.cosigner = Cosigner(d, key, restored.cosigned)
        self._restore_log(restored)
        self.rollups = PendingRollUps(d, self.base.window)
        peers = [v.name for v in d.validators if v.name != key.name]
        self.sharing = Sharing(peers, restored.cursors)
        self.engine_slot = restored.engine_slot
        self._accepts = list(restored.accepts)
        self.settled = freeze.settled_position(self.index, self.base, self.index.floor)
        """No row below this position can be due any more; it only spares work."""
        self._share_at_start = bool(self.freezes)
        # A fifteenth of a window, so that short windows have theirs shared in time.
        self._share_after_ms = min(limits.SHARE_AFTER_MS, d.window_s * 1000 // 15)
        self._begin_window(now_ms)

    def _restore_log(self, restored: Restored) -> None:
        recent = dict(restored.recent)
        for w in sorted(w for w in recent if w < self.base.window):
            self.base.remember(w, recent[w])
        for entry in restored.entries:
            self.base.advance(entry, recent.get(self.base.window, ()))
            self._grown()

    def _begin_window(self, now_ms: int) -> None:
        self.reached_ms = now_ms
        self._standing = window.standings(self.d, self.base.window)[self._own.name]
        self.judge = Judge(self.d, self.base, self.index, self.intake)
        self._accepts = [a for a in self._accepts if a.window >= self.base.window]
        for accept in self._accepts:
            self._remember_batch(accept)
        self.deciding: decide.Decided | None = None
        self._checked: tuple[Segment, tuple[bytes, ...]] | None = None
        """The decided batch, checked, and its ids, while the entry waits for roll-ups."""
        self._certificate: bytes | None = None
        self._submit_at_ms: int | None = None
        self._fetch_at_ms: int | None = None
        self._proposals_made = 0

    def _remember_batch(self, accept: act.Accept) -> None:
        """A batch that was accepted on this base before a restart can still be served."""
        rows = [row for run in accept.members for row in self.index.rows(*run)]
        whole = len(rows) == sum(stop - start for start, stop in accept.members)
        named = (accept.window, accept.base_size, accept.base_root)
        if whole and decide.names_base(*named, self.base):
            self.judge.batches[accept.cid] = tuple(sorted(row.id for row in rows))

    # --- time -------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> list[Action]:
        """Freeze what is due, then whatever else time brings: submit, propose, ask peers again."""
        actions = self._freeze(now_ms)
        if self._share_at_start:
            # Peers may hold what we missed while we were down; the next cut-off is far.
            self._share_at_start = False
            self.sharing.cut_off(self.last_frozen, now_ms + self._share_after_ms)
        actions += self.sharing.tick(now_ms)
        actions += self._ask_rollups()
        actions += self._cosign(now_ms)
        if self._submit_at_ms is not None and now_ms >= self._submit_at_ms:
            self._submit_at_ms = now_ms + self.d.n * self.pace.step_ms
            assert self._certificate is not None
            actions.append(act.Submit(self.base.window, self._certificate))
        if self.deciding and self._fetch_at_ms is not None and now_ms >= self._fetch_at_ms:
            self._fetch_at_ms = None
            actions += self._commit_from_pool(now_ms)
        if self._may_propose() and now_ms >= self.proposal_due_ms():
            self._proposals_made += 1
            actions.append(act.Propose(self.base.window))
        return actions

    def next_ms(self) -> int:
        """When `tick` has something to do next."""
        times = [self.d.end_ms(self.last_frozen + 1)]
        if self._may_propose():
            times.append(self.proposal_due_ms())
        others = (self._submit_at_ms, self._fetch_at_ms, self.sharing.next_ms())
        return min(times + [at_ms for at_ms in others if at_ms is not None])

    def proposal_due_ms(self) -> int:
        """When this validator proposes the window itself: at its standing, then every n steps."""
        first = window.proposal_due_ms(
            self.d, self.pace, self.base.window, self._standing, self.reached_ms
        )
        first = max(first, self.d.end_ms(self.base.window))
        return first + self._proposals_made * self.d.n * self.pace.step_ms

    def _freeze(self, now_ms: int) -> list[Action]:
        actions: list[Action] = []
        for w in freeze.windows_to_freeze(self.d, self.last_frozen, now_ms):
            position = freeze.position(self.index, self.d, w)
            self.freezes[w] = position
            self.last_frozen = w
            actions.append(act.Freeze(w, position))
        if actions:
            self.sharing.cut_off(self.last_frozen, now_ms + self._share_after_ms)
        return actions

    def _may_sign(self) -> bool:
        return self.cosigner.ready and self.halted is None and self.clock_trusted

    def _may_propose(self) -> bool:
        """A certificate that is known only waits for the engine: proposing anew adds nothing."""
        return self._may_sign() and self._certificate is None and self.deciding is None

    # --- envelopes --------------------------------------------------------------------------

    def observed(self, arrivals: Iterable[Record], now_ms: int) -> list[Action]:
        """The network brought envelopes: pool what the reception rules take (step 1)."""
        actions = self._freeze(now_ms)
        pooled = self.intake.observe(arrivals)
        return actions + self._append(pooled) + self._settle(pooled)

    def _append(self, pooled: list[Record]) -> list[Action]:
        if not pooled:
            return []
        return [act.Append(self.index.size - len(pooled), tuple(pooled))]

    def _settle(self, pooled: list[Record]) -> list[Action]:
        """Peers' cursors may pass what came by another way."""
        if not self.sharing.waiting:
            return []
        return list(self.sharing.settled(_id(raw) for _, raw in pooled))

    # --- judging ----------------------------------------------------------------------------

    def proposal(self, p: Proposal, now_ms: int) -> list[Action]:
        """Judge a proposal (step 3). One of the actions is the reply."""
        actions = self._freeze(now_ms)
        answer = self._not_now(p, now_ms)
        if answer is not None:
            return [*actions, act.Reply(answer)]
        ids = self.judge.lists.resolve(p)
        if ids is None:
            return [*actions, act.Reply(Answer.resend())]
        return actions + self._verdict(p, ids, now_ms)

    def pushed(self, p: Proposal, raws: Iterable[bytes], now_ms: int) -> list[Action]:
        """Bodies came for a proposal that needs them: pool them, then judge it anew."""
        actions = self._freeze(now_ms)
        answer = self._not_now(p, now_ms)
        ids = self.judge.lists.get(p.key, p.cid)
        if answer is not None or ids is None:
            return [*actions, act.Reply(answer or Answer.resend())]
        wanted = set(ids)
        fresh = [raw for raw in raws if sha256(raw).digest() in wanted]
        pooled, forbidden = self.intake.admit(fresh, range(p.window, p.window + 1), now_ms)
        actions += self._append(pooled) + self._settle(pooled)
        if forbidden:
            return [*actions, act.Reply(Answer.invalid(sorted(forbidden), code="not-allowed"))]
        return actions + self._verdict(p, ids, now_ms)

    def _not_now(self, p: Proposal, now_ms: int) -> Answer | None:
        """Why this proposal cannot be judged at all: no start, no base, no freeze."""
        if not self._may_sign():
            return Answer.not_yet(limits.NOT_YET_MS)
        if p.window > self.base.window or p.base_size > self.base.size:
            return Answer.not_yet(limits.NOT_YET_MS)
        if not decide.names_base(p.window, p.base_size, p.base_root, self.base):
            return Answer.conflict(self.base.window, self.base.size, self.base.root)
        if p.window > self.last_frozen:
            return Answer.not_yet(max(1, self.d.end_ms(p.window) - now_ms))
        return None

    def _verdict(self, p: Proposal, ids: tuple[bytes, ...], now_ms: int) -> list[Action]:
        due = self.judge.due(self.freezes[p.window], self.settled)
        answer = self.judge.verdict(p, ids, due, self._bodies)
        if answer is not None:
            return [act.Reply(answer)]
        base = self.base
        statement = accept_statement(self.d.set_id, p.window, base.size, base.root, p.cid)
        accept = Answer.accept(self._own.key_id, self._key.sign(statement))
        members = runs(self.index.positions(ids))
        actions: list[Action] = [
            act.Accept(p.window, base.size, base.root, p.cid, members),
            act.Reply(accept),
        ]
        if self.deciding is not None and self.deciding.cid == p.cid:
            actions += self._commit_from_pool(now_ms)
        return actions

    # --- certificates and the engine --------------------------------------------------------

    def certificate(self, data: bytes, now_ms: int) -> list[Action]:
        """A certificate came (step 5): submit it r steps from now, unless it is decided first.

        Raises InvalidEncoding, VerificationFailed.
        """
        parsed = Certificate.parse(data, self.d.set_id)
        parsed.verify(self.d)
        actions = self._freeze(now_ms)
        unknown = self._certificate is None and self.deciding is None
        if unknown and decide.on_base(parsed, self.base):
            self._certificate = data
            self._submit_at_ms = now_ms + self._standing * self.pace.step_ms
            if self._standing == 0:
                actions += self.tick(now_ms)
        return actions

    def engine(self, slots: Iterable[tuple[int, bytes]], now_ms: int) -> list[Action]:
        """Engine entries in order, after `engine_slot`: the first that verifies decides (R5).

        Stops at a decision; hand the entries after it in again once it is committed.
        """
        advance: act.Advance | None = None
        for slot, data in slots:
            if self.deciding is not None or self.halted is not None:
                break
            self.engine_slot = slot
            advance = act.Advance(slot, sha256(data).digest())
            self.deciding = decide.decides(slot, data, self.base, self.d)
        actions: list[Action] = [] if advance is None or self.deciding else [advance]
        if self.deciding is not None:
            self._submit_at_ms = None  # the engine has it
            if advance is not None:
                self._fetch_at_ms = now_ms + (limits.PATIENCE_MS if self.judge.lists else 0)
            actions += self._commit_from_pool(now_ms)
        return actions

    def _commit_from_pool(self, now_ms: int) -> list[Action]:
        assert self.deciding is not None
        if self._checked is not None:
            return self._commit(*self._checked, now_ms)
        ids = self.judge.batches.get(self.deciding.cid)
        if ids is None:
            # Nobody has to remember which envelopes a quiet window's batch holds.
            empty = build_batch(self.d, self.base.window, (), self._bodies)
            if empty.root_cid == self.deciding.cid:
                return self._commit(empty, (), now_ms)
            return self._fetch(self.deciding.cid, now_ms)
        if any(id_ not in self.index for id_ in ids):
            return self._fetch(self.deciding.cid, now_ms)
        segment = self.judge.built(self.deciding.cid)
        if segment is None:
            rows = [row for id_ in ids if (row := self.index.get(id_)) is not None]
            segment = build_batch(self.d, self.base.window, rows, self._bodies)
        if segment.root_cid != self.deciding.cid:
            return self._fetch(self.deciding.cid, now_ms)
        return self._commit(segment, ids, now_ms)

    def _fetch(self, cid: bytes, now_ms: int) -> list[Action]:
        """Ask for the whole batch. Where proposals of this window came, the one that was decided
        is most likely on its way, and with it the few bodies that are really missing."""
        if self._fetch_at_ms is not None and now_ms < self._fetch_at_ms:
            return []
        self._fetch_at_ms = None
        return [act.FetchBatch(self.base.window, cid)]

    def batch(self, segment: Segment, raws: Sequence[bytes], now_ms: int) -> list[Action]:
        """The decided batch was fetched and parsed: check it in full, then commit (step 7).

        The own due set is no ground to refuse here.
        """
        if self.deciding is None or segment.root_cid != self.deciding.cid:
            return []
        if self._checked is not None:
            return []
        facts = [self.intake.examine(raw) for raw in raws]
        wrong = commit.objection(segment, facts, self.base)
        if wrong is not None:
            return self._halt("invalid-batch", f"window {self.base.window}: {wrong}")
        return self._commit(segment, [_id(raw) for raw in raws], now_ms)

    def _commit(self, segment: Segment, ids: Sequence[bytes], now_ms: int) -> list[Action]:
        decided = self.deciding
        assert decided is not None
        window = self.base.window
        if self.rollups.missing(window):
            self._checked = segment, tuple(ids)
            self._fetch_at_ms = None
            return self._ask_rollups()
        entry = self._entry(segment)
        actions: list[Action] = [
            act.Commit(
                window, decided.slot, decided.entry_hash, segment, decided.certificate, entry
            )
        ]
        self.base.advance(entry, ids)
        halt = self._grown()
        self.settled = freeze.settled_position(self.index, self.base, self.settled)
        self.rollups.forget(window)
        self._begin_window(now_ms)
        actions += self._ask_rollups()
        actions += self._release()
        return actions + ([halt] if halt else self._cosign(now_ms))

    def _entry(self, segment: Segment) -> bytes:
        """The base's window's log entry, which follows from the log and the batch (I8)."""
        return segment.entry(self.rollups.named_by(self.base.window)).encode()

    def _release(self) -> list[Action]:
        for w in [w for w in self.freezes if w < self.base.window and w < self.last_frozen]:
            del self.freezes[w]
        position = self.index.releasable(self.base.window, self.index.size)
        if position <= self.index.floor:
            return []
        self.index.release(position)
        return [act.Release(position)]

    # --- roll-ups ---------------------------------------------------------------------------

    def _ask_rollups(self) -> list[Action]:
        return [act.RollUp(span) for span in self.rollups.to_ask(self.base.window)]

    @property
    def waits_for_rollups(self) -> tuple[Span, ...]:
        """The spans whose roll-ups a decided window waits for, its batch being here and checked.

        It waits and never skips them: an entry without them would be another than everyone's.
        """
        return () if self._checked is None else self.rollups.missing(self.base.window)

    def rolled_up(self, span: Span, cid: bytes | None, now_ms: int) -> list[Action]:
        """A roll-up that was asked for is installed durably under this root CID, or is none.

        One whose entry is in the log already is ignored.
        """
        self.rollups.take(span, cid, self.base.window)
        return [] if self._checked is None else self._commit(*self._checked, now_ms)

    # --- cosigning --------------------------------------------------------------------------

    def remembered(
        self, peer: str, size: int, root: bytes, value: bytes | None, now_ms: int
    ) -> list[Action]:
        """A peer answered with the newest cosignature of ours that it knows (start rule)."""
        try:
            self.cosigner.remembered(peer, size, root, value)
        except LostKey as lost:
            return self._halt(lost.code, str(lost))
        return self._cosign(now_ms)

    def cosigned_by_k(self, size: int, root: bytes, now_ms: int) -> list[Action]:
        """A checkpoint came that satisfies the set's quorum; who calls has verified its k lines.

        A validator that was away signs nothing then until its own log has that tree, and passes
        over the smaller ones (R6): they are that tree's prefixes, and k have signed it. Without
        this it signs them all, thousands after a long absence. Nobody has to call it.
        """
        try:
            self.cosigner.cosigned_by_k(size, root)
        except SplitTree as split:
            return self._halt(split.code, str(split))
        return self._cosign(now_ms)

    def _cosign(self, now_ms: int) -> list[Action]:
        return list(self.cosigner.due(now_ms)) if self.halted is None else []

    def _grown(self) -> act.Halt | None:
        try:
            self.cosigner.grown(self.base.size, self.base.root)
        except SplitTree as split:
            self._halt(split.code, str(split))
        return self.halted

    def _halt(self, code: str, detail: str) -> list[Action]:
        self.halted = act.Halt(code, detail)
        return [self.halted]

    # --- sharing (R7) -----------------------------------------------------------------------

    def pool_page(self, peer: str, page: PoolPage, now_ms: int) -> list[Action]:
        """A page of a peer's pool came."""
        settled = [id_ for id_ in page.ids if self.intake.is_settled(id_)]
        return list(self.sharing.page(peer, page, now_ms, settled))

    def shared(
        self, peer: str, asked: Sequence[bytes], raws: Iterable[bytes], now_ms: int
    ) -> list[Action]:
        """Bodies of a peer's pool came: pool what R0 allows in the frozen window or the next."""
        actions = self._freeze(now_ms)
        wanted = set(asked)
        fresh = [raw for raw in raws if _id(raw) in wanted]
        windows = range(min(self.base.window, self.last_frozen), self.last_frozen + 2)
        pooled, forbidden = self.intake.admit(fresh, windows, now_ms)
        actions += self._append(pooled)
        worthless = set(forbidden)
        settled = [id_ for id_ in asked if id_ in self.index or id_ in worthless]
        actions += self.sharing.settled(settled)
        left_out = wanted.difference(settled)
        return actions + (list(self.sharing.failed(peer, left_out, now_ms)) if left_out else [])

    def share_failed(self, peer: str, ids: Iterable[bytes], now_ms: int) -> list[Action]:
        """A peer did not answer a pool page or bodies."""
        return list(self.sharing.failed(peer, ids, now_ms))


def _id(raw: bytes) -> bytes:
    return sha256(raw).digest()
