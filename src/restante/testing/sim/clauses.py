"""How each clause is switched off: what a mutant replaces, and by what.

Each function answers (where it is looked up, name, replacement).
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

from restante.errors import Invalid
from restante.formats import message
from restante.formats.message import Certificate, Proposal
from restante.rules import actions as act
from restante.rules import commit, decide, freeze, judge, pool, propose, valid, validator
from restante.rules.base import Base
from restante.rules.cosign import Cosigner, Signed
from restante.rules.decide import Decided
from restante.rules.judge import Judge
from restante.rules.pool import PoolIndex, Row
from restante.rules.propose import Proposing
from restante.rules.share import Sharing
from restante.rules.validator import Validator

Patch = tuple[Any, str, Any]
NEVER_MS = 1 << 50


def _in_window_everywhere(in_window: Any) -> list[Patch]:
    return [(module, "in_window", in_window) for module in (valid, freeze, judge, commit)]


# --- R0 ---------------------------------------------------------------------------------------


def r0() -> list[Patch]:
    check = valid._check_own_rules

    def only_ttl_zero(found: Any, params: Any) -> None:
        if found.ttl_s == 0:  # it has no rank at all
            check(found, params)

    return [
        (valid, "_check_own_rules", only_ttl_zero),
        (valid, "_check_work", lambda *_: None),
        *_in_window_everywhere(lambda *_: True),
    ]


def not_new() -> list[Patch]:
    return [(Base, "is_new", lambda *_: True)]


def no_slack() -> list[Patch]:
    def in_window(sent_s: int, window: int, d: Any) -> bool:
        start = d.genesis_s + window * d.window_s
        return bool(start - d.ttl_max_s <= sent_s <= start + d.window_s + 10)

    def last_window(sent_s: int, d: Any) -> int:
        return int((sent_s + d.ttl_max_s - d.genesis_s) // d.window_s)

    return [*_in_window_everywhere(in_window), (pool, "last_window", last_window)]


# --- R1 ---------------------------------------------------------------------------------------


def due_not_new() -> list[Patch]:
    def due_set(index: PoolIndex, base: Base, frozen: int, settled: int = 0) -> dict[bytes, Row]:
        rows = index.rows(0, frozen)  # what is settled is only a short way to what is not new
        return {r.id: r for r in rows if valid.in_window(r.sent_s, base.window, base.descriptor)}

    return [(judge, "due_set", due_set)]


def frozen_by_index() -> list[Patch]:
    left_out: dict[tuple[str, int], set[bytes]] = {}
    freeze_, begin, due = Validator._freeze, Validator._begin_window, Judge.due

    def new_freeze(self: Validator, now_ms: int) -> list[act.Action]:
        before = self.last_frozen
        actions = freeze_(self, now_ms)
        indexed = {r.id for r in self.index.rows(0, self.index.size) if not self.base.is_new(r.id)}
        for window in range(before + 1, self.last_frozen + 1):
            left_out[self._own.name, window] = indexed
        return actions

    def new_begin(self: Validator, now_ms: int) -> None:
        begin(self, now_ms)
        self.judge.owner = self._own.name  # type: ignore[attr-defined]

    def new_due(self: Judge, frozen: int, settled: int) -> dict[bytes, Row]:
        gone = left_out.get((self.owner, self._base.window), set())  # type: ignore[attr-defined]
        return {id_: row for id_, row in due(self, frozen, settled).items() if id_ not in gone}

    return [
        (Validator, "_freeze", new_freeze),
        (Validator, "_begin_window", new_begin),
        (Judge, "due", new_due),
    ]


def freeze_moves() -> list[Patch]:
    def due(self: Judge, frozen: int, settled: int) -> dict[bytes, Row]:
        return freeze.due_set(self._index, self._base, self._index.size, settled)

    return [(Judge, "due", due)]


def pool_evicts() -> list[Patch]:
    return [(PoolIndex, "releasable", lambda self, *_: self.size)]


# --- R2, R3 -----------------------------------------------------------------------------------


def verdict_without_base() -> list[Patch]:
    statement = message.accept_statement

    def any_base(set_id: bytes, window: int, size: int, root: bytes, cid: bytes) -> bytes:
        return statement(set_id, window, 0, bytes(32), cid)

    return [
        *((module, "accept_statement", any_base) for module in (message, validator, propose)),
        (decide, "names_base", lambda window, size, root, base: window == base.window),
    ]


def accept_anything() -> list[Patch]:
    def verdict(self: Judge, p: Proposal, ids: tuple[bytes, ...], *_: Any) -> None:
        self.batches[p.cid] = ids

    return [(Judge, "verdict", verdict)]


def due_ignored() -> list[Patch]:
    return [(judge, "missing", lambda *_: [])]


def never_full() -> list[Patch]:
    return [(judge, "is_full", lambda *_: False)]


def any_left_out() -> list[Patch]:
    return [(judge, "may_leave_out", lambda *_: True)]


def no_rebuild() -> list[Patch]:
    def rebuild(self: Judge, p: Proposal, ids: tuple[bytes, ...], *_: Any) -> None:
        self.batches[p.cid] = ids

    return [(Judge, "_rebuild", rebuild)]


def no_bodies() -> list[Patch]:
    return [(judge, "lacking_bodies", lambda *_: []), *no_rebuild()]


def unwritten_accept() -> list[Patch]:
    verdict = Validator._verdict

    def swapped(self: Validator, *judged: Any) -> list[act.Action]:
        actions = verdict(self, *judged)
        return actions[::-1]

    return [(Validator, "_verdict", swapped)]


def members_forgotten() -> list[Patch]:
    return [(Validator, "_remember_batch", lambda *_: None)]


# --- R4, R5, step 7 ---------------------------------------------------------------------------


def silence_is_empty() -> list[Patch]:
    tick = Validator.tick

    def new_tick(self: Validator, now_ms: int) -> list[act.Action]:
        actions = tick(self, now_ms)
        w = self.base.window
        if self.deciding is None and w <= self.last_frozen and now_ms > self.d.end_ms(w) + 10_000:
            segment = judge.build_batch(self.d, w, (), self._bodies)
            self.deciding = Decided(self.engine_slot, bytes(32), segment.root_cid, b"")
            actions += self._commit(segment, [], now_ms)
        return actions

    return [(Validator, "tick", new_tick)]


def first_is_the_entry() -> list[Patch]:
    decides = decide.decides

    def first_only(slot: int, data: bytes, base: Base, d: Any) -> Decided | None:
        try:
            window = Certificate.parse(data, d.set_id).window
        except Invalid:
            return None
        if getattr(base, "spent", None) == window:
            return None
        if window == base.window:
            base.spent = window  # type: ignore[attr-defined]
        return decides(slot, data, base, d)

    return [(decide, "decides", first_only)]


def engine_trusted() -> list[Patch]:
    decides = decide.decides

    def unverified(slot: int, data: bytes, base: Base, d: Any) -> Decided | None:
        with mock.patch.object(Certificate, "verify"):
            return decides(slot, data, base, d)

    return [(decide, "decides", unverified)]


def due_at_commit() -> list[Patch]:
    commit_ = Validator._commit

    def refusing(self: Validator, segment: Any, ids: Any, now_ms: int) -> list[act.Action]:
        frozen = self.freezes.get(self.base.window, 0)
        due: Mapping[bytes, Row] = self.judge.due(frozen, self.settled)
        return [] if set(due) - set(ids) else commit_(self, segment, ids, now_ms)

    return [(Validator, "_commit", refusing)]


def no_recheck() -> list[Patch]:
    return [(commit, "objection", lambda *_: None)]


# --- R6 to R8 ---------------------------------------------------------------------------------


def cosign_twice() -> list[Patch]:
    def grown(self: Cosigner, size: int, root: bytes) -> None:
        self._unsigned.append(Signed(size, root))

    return [(Cosigner, "grown", grown)]


def backup_believed() -> list[Patch]:
    return [(Cosigner, "contradicts", lambda *_: False)]


def no_carry() -> list[Patch]:
    due_set = freeze.due_set

    def fresh(index: PoolIndex, base: Base, frozen: int, settled: int = 0) -> dict[bytes, Row]:
        start = index.position_at(base.descriptor.start_ms(base.window))
        return due_set(index, base, frozen, max(start, settled))

    return [(freeze, "due_set", fresh), (judge, "due_set", fresh)]


def no_sharing() -> list[Patch]:
    return [(Sharing, "cut_off", lambda *_: None)]


def cursor_early() -> list[Patch]:
    page = Sharing.page

    def passing(self: Sharing, peer: str, *answer: Any) -> list[Any]:
        actions = page(self, peer, *answer)
        self._drains[peer].position = self._drains[peer].next_position
        return actions

    return [(Sharing, "page", passing)]


def no_own_proposals() -> list[Patch]:
    return [(Validator, "proposal_due_ms", lambda *_: NEVER_MS)]


def conflict_believed() -> list[Patch]:
    def elsewhere(self: Proposing, seat: Any, answer: Any, now_ms: int) -> None:
        self.overtaken = answer.window > self.window

    return [(Proposing, "_elsewhere", elsewhere)]


def barred_retries() -> list[Patch]:
    send = Proposing._send

    def new_send(self: Proposing, name: str) -> list[act.Action]:
        retry_ms = self._seats[name].retry_ms
        actions = send(self, name)
        if not actions:
            self._seats[name].retry_ms = retry_ms
        return actions

    return [(Proposing, "_send", new_send)]
