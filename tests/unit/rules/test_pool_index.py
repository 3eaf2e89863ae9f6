"""The pool's rows in columns, against a dumb list of them; and batches built from rows."""

import random
from collections.abc import Iterable
from hashlib import sha256

import pytest

from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.message import Proposal
from restante.formats.page import Member, topic_key
from restante.formats.segment import build
from restante.rules import judge as judging
from restante.rules import valid
from restante.rules.base import Base
from restante.rules.freeze import candidates, due_set
from restante.rules.intake import Intake
from restante.rules.judge import Judge, build_batch, choose
from restante.rules.pool import PoolIndex, Row, best_first, last_window
from restante.rules.propose import Proposing
from restante.rules.valid import Facts

GENESIS_S = 1_500_000_000
KEY = SigningKey("v0", b"k" * 32)
D = Descriptor(
    origin="pool.example/log-00112233",
    genesis_s=GENESIS_S,
    f=0,
    validators=(KEY.vkey(),),
    pow_floor_millionths=0,
    batch_max_envelopes=400,
)


def keccak(data: bytes) -> bytes:
    return sha256(data).digest()


def facts(rng: random.Random) -> Facts:
    sent_s = GENESIS_S + rng.randrange(3_000)
    rank = rng.choice([0, rng.getrandbits(20), rng.getrandbits(90), rng.getrandbits(300)])
    return Facts(rng.randbytes(32), b"abcd", sent_s, sent_s + 50, 50, rank, rng.randrange(1, 9_000))


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_a_list_of_rows(seed: int) -> None:
    rng = random.Random(seed)
    floor = rng.choice([0, 1_000])
    index, rows, arrivals = PoolIndex(D, floor), list[Row](), list[int]()
    for _ in range(300):
        if rng.random() < 0.1 and rows:
            position = rng.randrange(index.floor - 1, index.size + 1)
            index.release(position)
            while rows and rows[0].position < position:
                del rows[0], arrivals[0]
        else:
            group = [facts(rng) for _ in range(rng.randrange(4))]
            keys = [rng.getrandbits(32) for _ in group]
            times_ms = sorted(index.newest_arrival_ms + rng.randrange(9) for _ in group)
            for position, (new, key) in enumerate(zip(group, keys, strict=True), index.size):
                rows.append(Row(new.id, key, new.sent_s, new.rank, new.size_bytes, position))
            arrivals += times_ms
            index.append(group, keys, times_ms)
            for row in rows[len(rows) - len(group) :]:
                assert index.get(row.id) == row
        assert len(index) == len(rows)
        assert [row.position for row in rows] == list(range(index.floor, index.size))
        assert index.newest_arrival_ms == (arrivals[-1] if arrivals else 0)
        start = rng.randrange(index.floor - 5, index.size + 5)
        stop = rng.randrange(index.floor - 5, index.size + 5)
        held = [row for row in rows if start <= row.position < stop]
        assert list(index.rows(start, stop)) == held
        assert index.ids(start, stop) == tuple(row.id for row in held)
        mixed = [row.id for row in held[::2]] + [rng.randbytes(32)]
        assert index.positions(mixed) == [row.position for row in held[::2]]
        when_ms = rng.randrange(2_000)
        assert index.position_at(when_ms) == index.floor + sum(at < when_ms for at in arrivals)
        window, held_from = rng.randrange(120), rng.randrange(index.floor, index.size + 5)
        least = index.floor
        for row in rows:
            if last_window(row.sent_s, D) >= window or row.position >= held_from:
                break
            least = row.position + 1
        assert index.releasable(window, held_from) == least
    assert index.get(b"?" * 32) is None
    assert b"?" * 32 not in index


def test_arrival_never_goes_back_and_nothing_is_pooled_twice() -> None:
    """Neither within a group nor after it; by the network, and as bodies of others."""
    now_ms = (GENESIS_S + 25) * 1000
    first, second, third, fourth = envelopes(4)
    intake = Intake(D, keccak, index := PoolIndex(D))
    group = [(now_ms + 5, first), (now_ms, second), (now_ms + 6, first), (now_ms + 9, second)]
    assert intake.observe(group) == [(now_ms + 5, first), (now_ms + 5, second)]
    assert [verdict.code for verdict in intake.verdicts] == ["accepted"] * 2 + ["repeat"] * 2
    assert intake.observe([(now_ms + 1, third), (now_ms + 7, first)]) == [(now_ms + 5, third)]
    pooled, forbidden = intake.admit([first, fourth, fourth], range(10), now_ms)
    assert (pooled, forbidden) == ([(now_ms + 5, fourth)], [])
    assert index.ids(0, 9) == tuple(sha256(raw).digest() for raw in (first, second, third, fourth))
    assert index.newest_arrival_ms == now_ms + 5


class Bodies:
    """A pool of bodies that counts how often each is read."""

    def __init__(self, raws: Iterable[bytes]) -> None:
        self.index = PoolIndex(D)
        self.intake = Intake(D, keccak, self.index)
        self.raws = list(raws)
        self.read: list[int] = []
        found = self.intake.observe([((GENESIS_S + 25) * 1000, raw) for raw in self.raws])
        assert len(found) == len(self.raws)
        self.intake.observe([])  # what was appended is durable now

    def body(self, row: Row) -> bytes:
        self.read.append(row.position)
        return self.raws[row.position]


def envelopes(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [
        whisper.assemble(
            GENESIS_S + rng.randrange(20) + 50,
            50,
            rng.randrange(9).to_bytes(4, "big"),
            rng.randbytes(rng.randrange(1, 3_000)),
            nonce,
        )
        for nonce in range(count)
    ]


def test_a_batch_of_rows_is_the_segment_of_their_envelopes() -> None:
    pool = Bodies(envelopes(300))
    rows = list(due_set(pool.index, Base(D), pool.index.size).values())
    random.Random(3).shuffle(rows)
    members = []
    for raw in pool.raws:
        found = valid.examine(raw, D, keccak)
        key = topic_key(D.set_id, found.topic)
        members.append(Member(key, 0, found.sent_s, found.id, raw))
    expected = build(D.set_id, members, 0, bucket_bits=D.bucket_bits)
    assert build_batch(D, 0, rows, pool.body) == expected
    assert sorted(pool.read) == list(range(300))
    with pytest.raises(ValueError, match="twice"):
        build_batch(D, 0, [*rows, rows[0]], pool.body)


def test_all_are_chosen_or_the_best_without_a_gap() -> None:
    rng = random.Random(5)
    rows = [
        Row(rng.randbytes(32), 0, GENESIS_S, rng.randrange(50), rng.randrange(1, 500), position)
        for position in range(500)
    ]
    assert list(choose(rows[:400], D).values()) == rows[:400]
    best = sorted(rows, key=best_first)[:400]
    assert list(choose(rows, D).values()) == best


def proposal(base: Base, ids: tuple[bytes, ...], size_bytes: int, cid: bytes) -> Proposal:
    return Proposal.make(
        KEY,
        set_id=D.set_id,
        window=base.window,
        base_size=base.size,
        base_root=base.root,
        cid=cid,
        count=len(ids),
        size_bytes=size_bytes,
        ids=ids,
    )


def test_who_proposes_and_judges_builds_a_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, base = Bodies(envelopes(50)), Base(D)
    judge = Judge(D, base, pool.index, pool.intake)
    proposing = Proposing(D, KEY, base, pool.index, pool.intake, pool.body, judge=judge)
    (send,) = proposing.start()
    assert len(pool.read) == 50
    built: list[int] = []
    monkeypatch.setattr(judging, "build_batch", lambda *_: built.append(1))
    p = send.proposal  # type: ignore[union-attr]
    due = judge.due(pool.index.size, 0)
    assert judge.verdict(p, p.ids, due, pool.body) is None
    assert judge.builds == 0
    assert built == []
    segment = judge.built(p.cid)
    assert segment is not None
    assert segment.root_cid == p.cid
    assert judge.batches[p.cid] == p.ids
    # It is no way round the CID: the same set under another name is a lie like any other.
    lie = proposal(base, p.ids, p.size_bytes, p.cid[:-1] + bytes([p.cid[-1] ^ 1]))
    answer = judge.verdict(lie, lie.ids, due, pool.body)
    assert answer is not None
    assert answer.code == "cid"


def test_the_verdict_names_what_is_wrong_beside_what_is_due() -> None:
    raws = envelopes(20)
    pool, base = Bodies(raws), Base(D)
    rows = candidates(pool.index, base)
    judge = Judge(D, base, pool.index, pool.intake)
    due = judge.due(10, 0)
    assert set(due) == set(pool.index.ids(0, 10))
    ids = tuple(sorted(rows))
    segment = build_batch(D, 0, rows.values(), pool.body)
    honest = proposal(base, ids, segment.bytes_, segment.root_cid)
    assert judge.verdict(honest, ids, due, pool.body) is None
    stranger, refused = b"s" * 32, b"r" * 32
    pool.intake._remember_refused(refused, "low-pow")
    for extra, kind, named in [(stranger, "need", stranger), (refused, "invalid", refused)]:
        more = tuple(sorted((*ids, extra)))
        answer = judge.verdict(proposal(base, more, 1, segment.root_cid), more, due, pool.body)
        assert answer is not None
        assert (answer.kind, answer.ids) == (kind, (named,))
    fewer = tuple(sorted(set(ids) - set(list(due)[:2])))
    answer = judge.verdict(proposal(base, fewer, 1, segment.root_cid), fewer, due, pool.body)
    assert answer is not None
    assert (answer.kind, set(answer.ids)) == ("missing", set(list(due)[:2]))
    # What an earlier batch holds is not new: pooled, and not due.
    base.remember(-1, list(rows)[15:16])
    again = Judge(D, base, pool.index, pool.intake)
    answer = again.verdict(honest, ids, again.due(10, 0), pool.body)
    assert answer is not None
    assert (answer.kind, answer.ids) == ("invalid", tuple(list(rows)[15:16]))
