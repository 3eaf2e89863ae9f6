"""Steps 2, 4 and 5: form a batch, hand it to the validators, amend, and certify.

The same machine serves outsiders and validators (R8). Earlier proposals stand while later ones
are judged: cancelling them on amendment never ended (see ADR 0003).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from restante import limits
from restante.errors import VerificationFailed
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Certificate, Proposal, accept_statement
from restante.formats.note import VerifierKey
from restante.rules import actions as act
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.freeze import candidates
from restante.rules.intake import Intake
from restante.rules.judge import Bodies, Judge, build_batch, choose, not_allowed
from restante.rules.pool import PoolIndex, Row
from restante.rules.wanted import Wanted


@dataclass(slots=True)
class Seat:
    """What the proposer knows of one validator in this window."""

    key: VerifierKey
    sent: bytes | None = None  # CID of the last proposal sent
    answered: bytes | None = None  # CID of the last one it gave a verdict on
    holds: bytes | None = None  # CID whose id list it surely remembers
    retry_ms: int | None = None
    exchanges: int = 0
    barred: bool = False
    elsewhere: bool = False  # it says that the window is decided


@dataclass(slots=True)
class Draft:
    """One proposed set; it stands until the window is decided."""

    ids: tuple[bytes, ...]
    size_bytes: int
    accepts: dict[bytes, bytes] = field(default_factory=dict)


class Proposing:
    """One proposer's work on one window, on one base."""

    def __init__(
        self,
        d: Descriptor,
        key: SigningKey,
        base: Base,
        index: PoolIndex,
        intake: Intake,
        bodies: Bodies,
        settled: int = 0,
        judge: Judge | None = None,
    ) -> None:
        """`settled`: the pool position below which nothing can be due, where it is known; `judge`:
        that of the same base, where this process is also a validator: no set is built twice."""
        self.window = base.window
        self.base_size = base.size
        self.base_root = base.root
        self.certified = False
        self.overtaken = False
        self.amendments = -1
        self.bodies_fetched = 0
        self._d = d
        self._key = key
        self._base = base
        self._index = index
        self._intake = intake
        self._settled = settled
        self._judge = judge
        self._bodies = intake.bodies(bodies)
        self._seats = {v.name: Seat(v) for v in d.validators}
        self._drafts: dict[bytes, Draft] = {}
        self._signed: dict[tuple[bytes, bytes | None], Proposal] = {}
        self._current: bytes = b""
        self._dropped: set[bytes] = set()
        self._claimed: set[bytes] = set()
        self._wanted = Wanted()
        self._amend_at_ms: int | None = None

    @property
    def drafts(self) -> dict[bytes, Draft]:
        """CID → proposed set, in the order proposed."""
        return self._drafts

    @property
    def over(self) -> bool:
        """Whether nothing more can come of it: certified, or the base has moved on."""
        return self.certified or self.overtaken or self._base.size != self.base_size

    def start(self) -> list[Action]:
        """Propose the first set to every validator."""
        return self._draft(self._choice())

    def _choice(self) -> dict[bytes, Row]:
        """What this proposer proposes now.

        An envelope that came after the cut-off and was sent after it is nobody's due, and many
        validators have not seen it yet: its body would go out to them for nothing. The next window
        takes it, unless a validator whose clock runs behind claims it.
        """
        rows = candidates(self._index, self._base, self._settled)
        cut_off = self._index.position_at(self._d.end_ms(self.window))
        end_s = self._d.end_s(self.window)
        timely = [
            row
            for id_, row in rows.items()
            if id_ not in self._dropped
            and (row.position < cut_off or row.sent_s < end_s or id_ in self._claimed)
        ]
        return choose(timely, self._d)

    def _draft(self, rows: dict[bytes, Row]) -> list[Action]:
        ids = tuple(sorted(rows))
        if self._judge is None:
            segment = build_batch(self._d, self.window, rows.values(), self._bodies)
        else:
            segment = self._judge.own_batch(ids, rows.values(), self._bodies)
        if segment.root_cid in self._drafts or self.amendments >= limits.AMENDMENTS:
            return []
        self.amendments += 1
        self._current = segment.root_cid
        self._drafts[self._current] = Draft(ids, segment.bytes_)
        return [action for name in self._seats for action in self._send(name)]

    def _send(self, name: str) -> list[Action]:
        seat = self._seats[name]
        seat.retry_ms = None
        if seat.barred or seat.exchanges >= limits.EXCHANGES_PER_WINDOW:
            return []
        seat.exchanges += 1
        seat.sent = self._current
        return [act.SendProposal(name, self._proposal(seat.holds))]

    def _proposal(self, against: bytes | None) -> Proposal:
        """The current draft: in full, or as the difference to one that the validator holds."""
        signed = self._signed.get((self._current, against))
        if signed is None:
            signed = self._signed[self._current, against] = self._sign(against)
        return signed

    def _sign(self, against: bytes | None) -> Proposal:
        draft = self._drafts[self._current]
        ids: tuple[bytes, ...] = draft.ids
        add: tuple[bytes, ...] = ()
        drop: tuple[bytes, ...] = ()
        if against is not None:
            before, after = set(self._drafts[against].ids), set(draft.ids)
            ids, add, drop = (), tuple(sorted(after - before)), tuple(sorted(before - after))
        return Proposal.make(
            self._key,
            set_id=self._d.set_id,
            window=self.window,
            base_size=self.base_size,
            base_root=self.base_root,
            cid=self._current,
            count=len(draft.ids),
            size_bytes=draft.size_bytes,
            ids=ids,
            against=against,
            add=add,
            drop=drop,
        )

    # --- answers ----------------------------------------------------------------------------

    def answered(self, name: str, cid: bytes, answer: Answer, now_ms: int) -> list[Action]:
        """A validator answered the proposal (or the bodies pushed for it) with this CID."""
        seat, draft = self._seats[name], self._drafts.get(cid)
        if draft is None or (self.over and answer.kind != "need"):
            # Who still needs bodies of what is certified would else fetch the whole batch.
            return []
        if answer.kind in ("accept", "missing", "need", "invalid"):
            seat.holds, seat.answered = cid, cid
        match answer.kind:
            case "accept":
                return self._accepted(seat, cid, draft, answer)
            case "need":
                return self._push(name, cid, draft, answer.ids)
            case "missing":
                return self._claim(name, answer.ids, now_ms)
            case "invalid":
                return self._forbidden(answer.ids, now_ms)
            case "not-yet":
                seat.retry_ms = now_ms + max(1, min(answer.retry_ms, self._d.window_s * 1000))
            case "resend":
                seat.holds = None
                return self._send(name)
            case "conflict":
                self._elsewhere(seat, answer, now_ms)
            case _:
                seat.barred = True
        return []

    def failed(self, name: str, now_ms: int) -> None:
        """A validator could not be reached, or answered nonsense."""
        self._seats[name].retry_ms = now_ms + limits.RETRY_MS

    def _elsewhere(self, seat: Seat, answer: Answer, now_ms: int) -> None:
        """It is on another base. Only more than f who say so prove that the window is decided."""
        seat.elsewhere = answer.window > self.window
        seat.retry_ms = now_ms + limits.RETRY_MS
        self.overtaken = sum(each.elsewhere for each in self._seats.values()) > self._d.f

    def _accepted(self, seat: Seat, cid: bytes, draft: Draft, answer: Answer) -> list[Action]:
        statement = accept_statement(
            self._d.set_id, self.window, self.base_size, self.base_root, cid
        )
        try:
            seat.key.verify(statement, answer.signature)
        except VerificationFailed:
            seat.barred = True
            return []
        draft.accepts[seat.key.key_id] = answer.signature
        if len(draft.accepts) < self._d.n - self._d.f:
            return self._amend_if_complete()
        self.certified = True
        certificate = Certificate(
            set_id=self._d.set_id,
            window=self.window,
            base_size=self.base_size,
            base_root=self.base_root,
            cid=cid,
            accepts=tuple(sorted(draft.accepts.items())),
        )
        return [act.Certified(self.window, certificate.encode())]

    def _push(self, name: str, cid: bytes, draft: Draft, ids: Sequence[bytes]) -> list[Action]:
        seat, own = self._seats[name], set(draft.ids)
        wanted = tuple(id_ for id_ in ids if id_ in own)
        seat.exchanges += 1
        if len(wanted) != len(ids) or not wanted or seat.exchanges > limits.EXCHANGES_PER_WINDOW:
            seat.barred = True
            return []
        return [act.PushBodies(name, cid, wanted)]

    def _claim(self, name: str, ids: Sequence[bytes], now_ms: int) -> list[Action]:
        """A validator misses these. Only bodies settle a claim: fetch what is not here."""
        self._claimed.update(id_ for id_ in ids if id_ in self._index)
        lacking = [
            id_ for id_ in ids if id_ not in self._index and not self._intake.is_refused(id_)
        ]
        actions: list[Action] = list(self._wanted.claim(name, lacking, now_ms))
        self._amend_within(limits.PATIENCE_MS, now_ms)
        return actions + self._amend_if_complete()

    def _amend_within(self, patience_ms: int, now_ms: int) -> None:
        if self._amend_at_ms is None:
            self._amend_at_ms = now_ms + patience_ms

    def _forbidden(self, ids: Iterable[bytes], now_ms: int) -> list[Action]:
        """A validator calls these invalid: drop those that are so here too."""
        rows = [row for id_ in ids if (row := self._index.get(id_)) is not None]
        self._dropped.update(not_allowed(rows, self._base))
        self._amend_within(limits.PATIENCE_MS, now_ms)
        return self._amend_if_complete()

    def fetched(
        self, name: str, asked: Sequence[bytes], raws: Iterable[bytes], now_ms: int
    ) -> list[Action]:
        """Bodies that a validator named as missing came (or did not: `raws` is empty)."""
        wanted = set(asked)
        fresh = [raw for raw in raws if sha256(raw).digest() in wanted]
        pooled, forbidden = self._intake.admit(fresh, range(self.window, self.window + 1), now_ms)
        self.bodies_fetched += len(fresh)
        actions: list[Action] = []
        if pooled:
            actions.append(act.Append(self._index.size - len(pooled), tuple(pooled)))
            # They may come after the amendment that waited for them: there is another one then.
            self._amend_within(limits.PATIENCE_MS, now_ms)
        here = [id_ for id_ in asked if id_ in self._index] + forbidden
        self._claimed.update(here)
        self._wanted.arrived(here)
        again, _ = self._wanted.failed(name, wanted.difference(here), now_ms)
        return actions + list(again) + self._amend_if_complete()

    # --- amending ---------------------------------------------------------------------------

    def _amend_if_complete(self) -> list[Action]:
        """Amend once all validators have answered and all claims are settled."""
        waiting = any(
            seat.answered != self._current for seat in self._seats.values() if not seat.barred
        )
        if self._amend_at_ms is None or self._wanted or waiting or self.over:
            return []
        return self._amend()

    def _amend(self) -> list[Action]:
        self._amend_at_ms = None
        return self._draft(self._choice())

    def tick(self, now_ms: int) -> list[Action]:
        """Amend without those who keep silent, and come back to those who said *not yet*."""
        if self.over:
            return []
        actions: list[Action] = list(self._wanted.tick(now_ms))
        if self._amend_at_ms is not None and now_ms >= self._amend_at_ms:
            actions += self._amend()
        for name, seat in self._seats.items():
            if seat.retry_ms is not None and now_ms >= seat.retry_ms:
                actions += self._send(name)
        return actions

    def next_ms(self) -> int | None:
        """When `tick` has something to do next."""
        times = [seat.retry_ms for seat in self._seats.values() if seat.retry_ms is not None]
        others = (self._amend_at_ms, self._wanted.next_ms())
        return min(times + [at_ms for at_ms in others if at_ms is not None], default=None)
