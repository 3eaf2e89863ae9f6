"""The validator's machine and roll-ups: asked for, waited for, named; and who was away."""

from collections.abc import Iterable
from hashlib import sha256

import pytest

from restante.errors import VerificationFailed
from restante.formats import cid as cids
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.entry import check_rollups, parse
from restante.formats.keys import SigningKey
from restante.formats.level import Level, Span, due_at, ended_by, entry_window
from restante.formats.message import Certificate, accept_statement
from restante.formats.page import Member, topic_key
from restante.formats.segment import Segment, build
from restante.rules import actions as act
from restante.rules import commit
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.cosign import Cosigner, Signed, SplitTree
from restante.rules.pending import PendingRollUps
from restante.rules.validator import Restored, Validator

GENESIS_S = 1_500_000_000
KEY = SigningKey("v0", b"k" * 32)


def keccak(data: bytes) -> bytes:
    return sha256(data).digest()


def descriptor(
    levels: tuple[Level, ...] = (Level(2), Level(4, "index")), lag: int = 2
) -> Descriptor:
    return Descriptor(
        origin="rollups.example/log-00112233",
        genesis_s=GENESIS_S,
        f=0,
        validators=(KEY.vkey(),),
        pow_floor_millionths=0,
        max_envelope_bytes=4_096,
        levels=levels,
        rollup_lag=lag,
    )


def rollup_cid(span: Span) -> bytes:
    return cids.cid_of(cids.DAG_CBOR, repr(span).encode())


def spans_of(actions: Iterable[Action]) -> list[Span]:
    return [action.span for action in actions if isinstance(action, act.RollUp)]


def entries_of(actions: Iterable[Action]) -> list[bytes]:
    return [action.entry for action in actions if isinstance(action, act.Commit)]


def envelope(window: int, number: int = 0) -> bytes:
    expiry_s = GENESIS_S + window * 30 + 60
    return whisper.assemble(expiry_s, 60, b"tpc" + bytes([number % 3]), b"data", number)


def batch_of(d: Descriptor, window: int, raws: Iterable[bytes] = ()) -> Segment:
    members = [
        Member(
            topic_key(d.set_id, whisper.topic_of(raw)),
            window,
            whisper.parse(raw).sent_s,
            sha256(raw).digest(),
            raw,
        )
        for raw in raws
    ]
    return build(d.set_id, members, window, bucket_bits=d.bucket_bits)


class Driven:
    """A set of one: its machine, and an engine that decides what the test wants."""

    def __init__(self, d: Descriptor, log: Iterable[bytes] = ()) -> None:
        self.d = d
        self.log = list(log)
        self.slot = 0
        self.machine = Validator(
            d, KEY, keccak, lambda row: b"", restored=Restored(entries=self.log), now_ms=self.now_ms
        )

    @property
    def now_ms(self) -> int:
        return self.d.end_ms(len(self.log)) + 100

    def tick(self) -> list[Action]:
        return self.took(self.machine.tick(self.now_ms))

    def took(self, actions: list[Action]) -> list[Action]:
        self.log += entries_of(actions)
        return actions

    def certificate(self, cid: bytes) -> bytes:
        base = self.machine.base
        statement = accept_statement(self.d.set_id, base.window, base.size, base.root, cid)
        accept = (KEY.vkey().key_id, KEY.sign(statement))
        return Certificate(
            self.d.set_id, base.window, base.size, base.root, cid, (accept,)
        ).encode()

    def decide(self, cid: bytes | None = None) -> list[Action]:
        """The engine decides the base's window: the empty batch, unless another is named."""
        empty = batch_of(self.d, self.machine.base.window).root_cid
        self.slot += 1
        data = self.certificate(cid or empty)
        return self.took(self.machine.engine([(self.slot, data)], self.now_ms))

    def hand_in(self, *spans: Span) -> list[Action]:
        actions = []
        for span in spans:
            actions += self.took(self.machine.rolled_up(span, rollup_cid(span), self.now_ms))
        return actions


def decided(windows: int, d: Descriptor | None = None) -> Driven:
    """A machine that decided this many windows, each roll-up in time."""
    driven = Driven(d or descriptor())
    driven.tick()
    for _ in range(windows):
        driven.hand_in(*spans_of(driven.decide()))
    assert len(driven.log) == windows
    return driven


def test_a_span_is_asked_for_right_after_the_commit_that_ends_it() -> None:
    driven = decided(3)
    actions = driven.decide()
    kinds = [type(action) for action in actions]
    assert spans_of(actions) == [Span(1, 1, 2, 2), Span(2, 0, 0, 4)]
    assert kinds.index(act.Commit) + 1 == kinds.index(act.RollUp)
    assert spans_of(driven.tick()) == []


def test_an_entry_names_what_is_due_there_and_nothing_else() -> None:
    d = descriptor()
    driven = decided(10)
    for window, entry in enumerate(map(parse, driven.log)):
        assert entry.rollups == tuple(rollup_cid(span) for span in due_at(d, window))
        check_rollups(entry, d)
    assert [len(parse(entry).rollups) for entry in driven.log] == [0, 0, 0, 1, 0, 2, 0, 1, 0, 2]


def test_a_set_without_levels_asks_for_nothing() -> None:
    driven = decided(0, descriptor(levels=()))
    for _ in range(6):
        assert spans_of(driven.decide()) == []
    assert all(parse(entry).rollups == () for entry in driven.log)


def test_a_window_waits_for_its_roll_up_and_is_committed_with_it() -> None:
    driven = Driven(descriptor())
    driven.tick()
    for _ in range(3):
        driven.decide()
    late = Span(1, 0, 0, 2)
    assert driven.machine.waits_for_rollups == ()
    assert entries_of(driven.decide()) == []
    assert driven.machine.waits_for_rollups == (late,)
    assert driven.machine.base.window == 3

    # Nothing else happens for the window: no proposal, no submission, no second batch.
    later_ms = driven.now_ms + 600_000
    kinds = {type(action) for action in driven.machine.tick(later_ms)}
    assert kinds <= {act.Freeze}
    assert driven.machine.next_ms() > later_ms
    assert driven.machine.engine([], later_ms) == []

    actions = driven.hand_in(late)
    (entry,) = entries_of(actions)
    assert parse(entry).rollups == (rollup_cid(late),)
    assert spans_of(actions) == [Span(1, 1, 2, 2), Span(2, 0, 0, 4)]
    assert driven.machine.waits_for_rollups == ()


def test_a_fetched_batch_is_checked_once_and_kept_while_its_window_waits() -> None:
    d = descriptor()
    driven = Driven(d)
    driven.tick()
    for _ in range(3):
        driven.decide()
    raws = [envelope(3, number) for number in range(4)]
    segment = batch_of(d, 3, raws)
    assert act.FetchBatch(3, segment.root_cid) in driven.decide(segment.root_cid)
    assert driven.machine.waits_for_rollups == ()  # it waits for the batch
    assert driven.took(driven.machine.batch(segment, raws, driven.now_ms)) == []
    assert driven.machine.batch(segment, raws, driven.now_ms) == []
    assert driven.machine.waits_for_rollups == (Span(1, 0, 0, 2),)
    (entry,) = entries_of(driven.hand_in(Span(1, 0, 0, 2)))
    assert parse(entry).segment == segment.root_cid
    assert not driven.machine.base.is_new(sha256(raws[0]).digest())


def test_every_result_must_be_there() -> None:
    driven = decided(4)
    driven = Driven(driven.d, driven.log)
    first, pair, four = spans_of(driven.tick()), Span(1, 1, 2, 2), Span(2, 0, 0, 4)
    assert first == [pair, four]
    driven.decide()
    driven.decide()
    assert driven.machine.waits_for_rollups == (pair, four)
    assert entries_of(driven.hand_in(four)) == []
    assert driven.machine.waits_for_rollups == (pair,)
    (entry,) = entries_of(driven.hand_in(pair))
    assert parse(entry).rollups == (rollup_cid(pair), rollup_cid(four))


def test_none_is_a_result() -> None:
    driven = decided(3)
    span = Span(1, 1, 2, 2)
    driven.decide()
    driven.decide()
    driven.hand_in(Span(2, 0, 0, 4))
    driven.took(driven.machine.rolled_up(span, None, driven.now_ms))
    driven.decide()
    assert parse(driven.log[5]).rollups == (None, rollup_cid(Span(2, 0, 0, 4)))


def test_a_result_for_a_span_in_the_log_is_ignored() -> None:
    driven = decided(5)
    log = list(driven.log)
    assert driven.machine.rolled_up(Span(1, 0, 0, 2), bytes(36), driven.now_ms) == []
    driven.hand_in(*spans_of(driven.decide()))
    assert driven.log[:5] == log
    assert parse(driven.log[5]).rollups == (
        rollup_cid(Span(1, 1, 2, 2)),
        rollup_cid(Span(2, 0, 0, 4)),
    )


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("windows", range(13))
def test_after_a_start_everything_is_asked_for_that_no_entry_names(windows: int, lag: int) -> None:
    d = descriptor(levels=(Level(2), Level(4), Level(8, "index")), lag=lag)
    ended = [span for w in range(windows) for span in ended_by(d, w)]
    waiting = [span for span in ended if entry_window(d, span) >= windows]
    log = decided(windows, d).log
    assert spans_of(Driven(d, log).tick()) == waiting
    # Also when the first thing that happens is a decision (n = 1 catches up before it ticks).
    driven = Driven(d, log)
    driven.machine.freezes[windows] = 0
    asked = spans_of(driven.decide())
    assert asked[: len(waiting)] == waiting
    assert set(asked[len(waiting) :]) <= set(ended_by(d, windows))


def test_results_are_forgotten_once_their_entry_is_in_the_log() -> None:
    assert decided(40).machine.rollups._results.keys() == set(ended_by(descriptor(), 39))


def test_spans_are_asked_for_after_their_children() -> None:
    d = descriptor(levels=(Level(2), Level(4), Level(8, "index")), lag=9)
    asked = PendingRollUps(d, 0).to_ask(30)
    assert len(asked) == len(set(asked)) == 15 + 7 + 3
    for at, span in enumerate(asked):
        below = [s for s in asked if s.level < span.level and s.first in span]
        assert all(asked.index(child) < at for child in below)


# --- step 7 -----------------------------------------------------------------------------------


def test_a_roll_up_is_no_batch() -> None:
    d = descriptor()
    for level, windows in ((1, 1), (1, 2)):
        segment = build(d.set_id, (), 0, windows, level, bucket_bits=d.bucket_bits)
        assert commit.objection(segment, (), Base(d)) == "the segment is no batch of this window"
    for window in (0, 1):
        wrong = commit.objection(batch_of(d, window), (), Base(d))
        assert (wrong is None) == (window == 0)


# --- who was away -----------------------------------------------------------------------------


def rebuilt(
    d: Descriptor, window: int, records: list[tuple[int, bytes]]
) -> tuple[Segment, list[bytes]]:
    return commit.rebuilt(
        d, window, records, whisper.topic_of, lambda raw: whisper.parse(raw).sent_s
    )


def test_a_released_batch_is_built_again_from_a_roll_ups_records() -> None:
    d = descriptor()
    records = [(w, envelope(w, number)) for w in (4, 5) for number in range(w)]
    for window in (4, 5):
        own = [raw for of, raw in records if of == window]
        segment, raws = rebuilt(d, window, records[::-1])
        assert segment.root_cid == batch_of(d, window, own).root_cid
        assert sorted(raws) == sorted(own)
        assert rebuilt(d, window, records[1:] if window == 4 else records[:-1])[0] != segment
    assert rebuilt(d, 6, records)[0].root_cid == batch_of(d, 6).root_cid


def test_records_that_no_batch_holds_are_refused() -> None:
    raw = envelope(4)
    with pytest.raises(VerificationFailed) as refused:
        rebuilt(descriptor(), 4, [(4, raw), (4, raw)])
    assert refused.value.code == "rollup-records"


def cosigner(newest: Signed | None = None) -> Cosigner:
    return Cosigner(descriptor(), KEY, newest)


def tree(size: int) -> tuple[int, bytes]:
    return size, sha256(b"%d" % size).digest()


def signed(of: Cosigner) -> list[int]:
    return [cosign.size for cosign in of.due(GENESIS_S * 1000)]


def test_sizes_below_a_tree_that_k_cosigned_are_passed_over_once_the_log_has_it() -> None:
    away = cosigner(Signed(*tree(3)))
    away.cosigned_by_k(*tree(7))
    for size in (4, 5, 6):
        away.grown(*tree(size))
        assert signed(away) == []  # not proved yet
    away.grown(*tree(7))
    assert signed(away) == [7]
    away.grown(*tree(8))
    assert signed(away) == [8]


def test_what_the_log_holds_already_is_passed_over_at_once() -> None:
    away = cosigner()
    for size in range(1, 6):
        away.grown(*tree(size))
    away.cosigned_by_k(*tree(4))
    away.cosigned_by_k(*tree(2))  # older news
    assert signed(away) == [4, 5]


def test_newer_news_replaces_older() -> None:
    away = cosigner()
    away.cosigned_by_k(*tree(5))
    away.cosigned_by_k(*tree(9))
    away.cosigned_by_k(*tree(4))
    for size in range(1, 10):
        away.grown(*tree(size))
    assert signed(away) == [9]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_another_tree_that_k_cosigned_is_evidence(size: int) -> None:
    """Of a size that was signed, of one that waits, and of one still to come."""
    own = cosigner(Signed(*tree(3)))
    own.grown(*tree(4))
    own.grown(*tree(5))
    if size < 7:
        with pytest.raises(SplitTree):
            own.cosigned_by_k(size, bytes(32))
        return
    own.cosigned_by_k(size, bytes(32))
    own.grown(*tree(6))
    with pytest.raises(SplitTree):
        own.grown(*tree(7))


def test_a_machine_that_is_told_of_another_tree_halts() -> None:
    driven = decided(3)
    root = driven.machine.base.root
    assert driven.machine.cosigned_by_k(3, root, driven.now_ms) == []
    (halt,) = driven.machine.cosigned_by_k(3, bytes(32), driven.now_ms)
    assert isinstance(halt, act.Halt)
    assert halt.code == "split-tree"
