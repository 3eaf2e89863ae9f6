"""What is on its way, and what one peer is given of it."""

from hashlib import sha256
from math import ldexp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.formats import rlp, whisper
from restante.networks.keccak import keccak256
from restante.networks.whisper import bloom
from restante.networks.whisper.messages import Status
from restante.networks.whisper.peer import GIVE, LATER, NEVER, PEER_BEHIND_S, Budget, PeerState
from restante.networks.whisper.relay import EVERYBODY, Live, Relay, Slots
from restante.rules import valid
from shh_peer import PARAMS, envelope

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000
MIB = 1024 * 1024


def live(raw: bytes, giver: int = 0) -> Live:
    return Live(sha256(raw).digest(), raw, giver)


def accepted(relay: Relay, raw: bytes, giver: int = 0) -> Live:
    one = live(raw, giver)
    relay.known[one.id] = one
    relay.accept(one, valid.receive(raw, NOW_MS, PARAMS, keccak256))
    return one


def adopted(relay: Relay, raw: bytes) -> Live:
    one = live(raw)
    assert relay.adopt(one)
    return one


def peer(relay: Relay, **status) -> PeerState:
    one = PeerState(relay.take_slot(), relay, 0.0)
    one.greeted(Status(**status))
    return one


def given_to(one: PeerState, relay: Relay, now_ms: int = NOW_MS, at_s: float = 0.0) -> list[bytes]:
    return one.packet(relay, (now_ms // 1000,) * 2, limits.SHH_TICK_LOOKS, at_s)[0]


def some(count: int, **options) -> list[bytes]:
    options.setdefault("now_s", NOW_S)
    return [envelope(b"e%d" % index, **options) for index in range(count)]


@pytest.fixture
def relay() -> Relay:
    return Relay(keccak256)


# --- the proof of work, as geth computes it -----------------------------------------------------


@pytest.mark.parametrize(
    ("nonce", "pow_"), [(100_000, 0.07692307692307693), (276, 19.692307692307693)]
)
def test_geths_own_vectors(relay: Relay, nonce: int, pow_: float) -> None:
    raw = whisper.assemble(0, 1, bytes(4), bytes.fromhex("deadbeef"), nonce)
    assert not relay.adopt(live(raw))  # expiry 0 and TTL 1: its sent time wraps around
    found = whisper.scan(raw)
    vector = live(raw)
    vector.ttl_s = found.ttl_s
    zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
    vector.worked(zeros, len(found.work))
    assert vector.pow(0) == pow_


@given(
    st.integers(0, 2000),
    st.integers(1, 300),
    st.integers(0, 2**64 - 1),
    st.integers(300, 2**32 - 1),
)
def test_rank_gives_the_same_work_as_the_bytes(
    data_bytes: int, ttl_s: int, nonce: int, expiry_s: int
) -> None:
    raw = whisper.assemble(expiry_s, ttl_s, b"abcd", bytes(data_bytes), nonce)
    lax = valid.DefaultParameters(pow_floor_millionths=0)
    facts = valid.examine(raw, lax, keccak256)
    relay = Relay(keccak256)
    by_rank, by_bytes = live(raw), live(raw)
    relay.accept(by_rank, facts)
    relay.adopt(by_bytes)
    found = whisper.scan(raw)
    zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
    assert by_rank.effort == by_bytes.effort == ldexp(1.0, zeros) / len(found.work)
    assert by_rank.pow(by_rank.sent_s) == 2.0**zeros / len(found.work) / ttl_s
    assert by_rank.pow(by_rank.sent_s - 5) == 2.0**zeros / len(found.work) / (ttl_s + 6)


# --- the table ----------------------------------------------------------------------------------


def test_an_envelope_lives_until_it_expires_and_is_known_afterwards(relay: Relay) -> None:
    one = accepted(relay, envelope(now_s=NOW_S, ttl_s=20))
    assert (relay.living, relay.bytes) == (1, len(one.raw))
    relay.expire(NOW_S + 20)
    assert relay.known[one.id] is one
    relay.expire(NOW_S + 21)
    assert one.id not in relay.known
    assert relay.is_faded(one.id)
    assert (relay.living, relay.bytes, relay.start, relay.stop) == (0, 0, 1, 1)


def test_what_was_refused_is_new_when_it_comes_again(relay: Relay) -> None:
    one = live(envelope(now_s=NOW_S))
    relay.known[one.id] = one
    relay.forget(one)
    assert one.id not in relay.known
    assert not relay.is_faded(one.id)


@pytest.mark.parametrize(
    "raw",
    [
        b"no envelope",
        b"",
        rlp.encode([b"", b"", b"abcd", b"", b"", b""]),
        whisper.assemble(NOW_S, 0, b"abcd", b"x", 0),
        whisper.assemble(5, 6, b"abcd", b"x", 0),
    ],
)
def test_what_must_never_be_sent_is_not_adopted(relay: Relay, raw: bytes) -> None:
    one = live(raw)
    relay.known[one.id] = one
    assert not relay.adopt(one)
    assert not relay.known
    assert relay.stop == 0


def test_what_was_handed_in_while_it_waited_is_in_the_log_once(relay: Relay) -> None:
    one = live(envelope(now_s=NOW_S), giver=1)
    relay.known[one.id] = one
    relay.adopt(one)
    relay.accept(one, valid.receive(one.raw, NOW_MS, PARAMS, keccak256))
    assert relay.log == [one]


def test_what_was_handed_in_while_it_waited_lives_once_whatever_its_judge_says(
    relay: Relay,
) -> None:
    raw = envelope(now_s=NOW_S)
    one = relay.known[sha256(raw).digest()] = live(raw, giver=1)
    assert relay.adopt(one)
    relay.accept(one, valid.receive(raw, NOW_MS, PARAMS, keccak256))
    assert relay.adopt(one)
    relay.forget(one)
    assert relay.known == {one.id: one}
    assert (relay.log, relay.living) == ([one], 1)


def test_the_oldest_go_first(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_LIVE_ENVELOPES", 3)
    all_ = [accepted(relay, raw) for raw in some(5)]
    relay.expire(NOW_S)
    assert [one.raw != b"" for one in all_] == [False, False, True, True, True]
    assert (relay.start, relay.stop, relay.living) == (2, 5, 3)
    assert all(relay.is_faded(one.id) for one in all_[:2])


def test_bytes_are_bounded_too(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    all_ = [accepted(relay, raw) for raw in some(4)]
    monkeypatch.setattr(limits, "SHH_LIVE_BYTES", relay.bytes - 1)
    relay.expire(NOW_S)
    assert [one.raw != b"" for one in all_] == [False, True, True, True]
    assert relay.bytes == sum(len(one.raw) for one in all_)


def test_one_long_lived_envelope_does_not_hold_the_log(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHH_LIVE_ENVELOPES", 4)
    accepted(relay, envelope(b"long", now_s=NOW_S, ttl_s=300))
    for second in range(20):
        adopted(relay, envelope(b"%d" % second, now_s=NOW_S + second, ttl_s=1))
        relay.expire(NOW_S + second)
        assert len(relay.log) <= 4
    assert sum(map(len, relay._due.values())) <= 8


def test_faded_ids_are_bounded(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_FADED_IDS", 2)
    all_ = [accepted(relay, raw) for raw in some(7)]
    relay.expire(NOW_S + 100)
    assert [relay.is_faded(one.id) for one in all_] == [False] * 4 + [True] * 3


def test_slots_are_used_again_once_nothing_knows_them(relay: Relay) -> None:
    one = accepted(relay, envelope(now_s=NOW_S))
    ours = accepted(relay, envelope(b"ours", now_s=NOW_S))
    ours.knows = EVERYBODY
    slots = set()
    for _ in range(1000):
        slot = relay.take_slot()
        assert not one.knows >> slot & 1
        assert not one.gave >> slot & 1
        one.knows |= 1 << slot
        one.gave |= 1 << slot
        slots.add(slot)
        relay.free_slot(slot)
    assert max(slots) < 2 * Slots._WASHED_AT_ONCE
    assert ours.knows == EVERYBODY


# --- what a peer is given -----------------------------------------------------------------------


def test_each_envelope_once_to_each_that_did_not_bring_it(relay: Relay) -> None:
    one, other = peer(relay), peer(relay)
    raws = some(3)
    accepted(relay, raws[0], giver=one.bit)
    accepted(relay, raws[1])
    assert given_to(one, relay) == [raws[1]]
    assert given_to(other, relay) == raws[:2]
    accepted(relay, raws[2])
    assert given_to(one, relay) == given_to(other, relay) == [raws[2]]
    assert given_to(one, relay) == given_to(other, relay) == []
    assert (one.sent, other.sent) == (2, 3)
    assert not one.behind(relay)


def test_nothing_before_its_status(relay: Relay) -> None:
    one = PeerState(relay.take_slot(), relay, 0.0)
    raws = some(1)
    accepted(relay, raws[0])
    assert given_to(one, relay) == []
    one.greeted(Status())
    assert given_to(one, relay) == raws


def test_who_joins_gets_what_lives(relay: Relay) -> None:
    old, raws = some(1, ttl_s=5), some(2)
    for raw in old + raws:
        accepted(relay, raw)
    relay.expire(NOW_S + 6)
    assert given_to(peer(relay), relay, NOW_MS + 6000) == raws


def test_work_below_its_floor_is_not_given_until_it_lowers_it(relay: Relay) -> None:
    raw = envelope(now_s=NOW_S - 60, ttl_s=100, floor=1000)
    one = accepted(relay, raw)
    exact = one.pow(NOW_S)
    demanding = peer(relay, pow=exact * 1.0000001)
    assert given_to(demanding, relay) == []
    demanding.demands(exact, None)
    assert given_to(demanding, relay) == [raw]
    assert given_to(peer(relay, pow=exact), relay) == [raw]


def test_topics_outside_its_filter_are_not_given_until_it_widens(relay: Relay) -> None:
    abcd, other = some(1)[0], envelope(now_s=NOW_S, topic=b"wxyz")
    accepted(relay, abcd)
    accepted(relay, other)
    one = peer(relay, bloom=bloom.of_topics([b"wxyz"]))
    assert given_to(one, relay) == [other]
    one.demands(None, bloom.of_topics([b"abcd"]))
    assert given_to(one, relay) == [abcd]
    one.demands(None, 0)
    third = envelope(b"third", now_s=NOW_S)
    accepted(relay, third)
    assert given_to(one, relay) == []


def test_a_filter_is_tested_with_geths_lost_bits(relay: Relay) -> None:
    topic = bytes.fromhex("1716941b")
    raw = envelope(now_s=NOW_S, topic=topic)
    accepted(relay, raw)
    assert given_to(peer(relay, bloom=bloom.sample(topic)), relay) == [raw]


def test_what_is_sent_in_our_future_waits_until_it_is_due(relay: Relay) -> None:
    raw = envelope(now_s=NOW_S + 9, floor=100_000)
    one = peer(relay)
    adopted(relay, raw)
    for second in range(9):
        assert given_to(one, relay, NOW_MS + 1000 * second) == []
    assert given_to(one, relay, NOW_MS + 9000) == [raw]


def test_scanty_work_waits_until_clocks_that_are_behind_take_it(relay: Relay) -> None:
    raw = envelope(now_s=NOW_S, ttl_s=2, floor=10_000)
    one = adopted(relay, raw)
    exact = peer(relay, pow=one.effort / 2)
    assert exact.stance(one, NOW_S, NOW_S) == LATER
    assert given_to(peer(relay, pow=one.effort / (2 + PEER_BEHIND_S + 1)), relay) == [raw]
    relay = Relay(keccak256)
    long = adopted(relay, envelope(b"long", now_s=NOW_S, ttl_s=50))
    strict = peer(relay, pow=long.effort / 50)
    assert given_to(strict, relay) == []
    assert given_to(strict, relay, NOW_MS + 1000 * PEER_BEHIND_S) == [long.raw]


def test_what_expires_within_the_second_is_not_given(relay: Relay) -> None:
    one = peer(relay)
    raw = envelope(now_s=NOW_S, ttl_s=10)
    adopted(relay, raw)
    assert given_to(one, relay, NOW_MS + 10_000) == []
    assert given_to(peer(relay), relay, NOW_MS + 9_999) == [raw]


def test_a_clock_that_may_read_this_or_that_holds_back_by_both(relay: Relay) -> None:
    raw = envelope(now_s=NOW_S, ttl_s=50, floor=100_000)
    one = adopted(relay, raw)
    other = peer(relay)
    assert other.stance(one, NOW_S, NOW_S) == GIVE
    assert other.stance(one, NOW_S - 1, NOW_S) == LATER
    assert other.stance(one, NOW_S, NOW_S + 49) == GIVE
    assert other.stance(one, NOW_S, NOW_S + 50) == NEVER


def test_packets_stay_below_a_mebibyte_and_large_ones_travel_alone(relay: Relay) -> None:
    def sized(raw_bytes: int, index: int) -> bytes:
        data = bytes([index]) * (raw_bytes - 21)
        raw = whisper.assemble(NOW_S + 50, 50, b"abcd", data, index + 128)
        assert len(raw) in (raw_bytes, raw_bytes - 1)
        return raw

    small = [sized(70_000, index) for index in range(6)]
    largest, middle = sized(MIB - 5, 9), sized(400_000, 8)
    too_large = sized(MIB - 4, 10)
    one = peer(relay)
    for raw in [*small[:2], largest, middle, too_large, *small[2:]]:
        one_live = live(raw)
        assert relay.adopt(one_live)
    got = []
    while raws := given_to(one, relay):
        packet = whisper.assemble_packet(raws)
        assert len(packet) < MIB
        assert len(raws) == 1 or sum(map(len, raws)) <= 2 * limits.SHH_PACKET_BYTES
        got += raws
    assert sorted(got) == sorted([*small, largest, middle])
    assert one.stance(live_of(relay, too_large), NOW_S, NOW_S) == NEVER


def live_of(relay: Relay, raw: bytes) -> Live:
    return relay.known[sha256(raw).digest()]


def test_looks_are_bounded_and_go_on_where_they_stopped(relay: Relay) -> None:
    one, raws = peer(relay), some(10)
    for raw in raws:
        accepted(relay, raw)
    got: list[bytes] = []
    while one.behind(relay):
        given, looked = one.packet(relay, (NOW_S, NOW_S), 3, 0.0)
        assert looked <= 3
        got += given
    assert got == raws


def test_what_waits_leaves_half_of_the_looks_to_what_is_new(relay: Relay) -> None:
    one = peer(relay)
    later, fresh = some(8, now_s=NOW_S + 5), some(2)
    for raw in later:
        adopted(relay, raw)
    assert given_to(one, relay) == []
    for raw in fresh:
        accepted(relay, raw)
    assert one.packet(relay, (NOW_S, NOW_S), 4, 0.0) == (fresh, 4)
    due_s, got = NOW_S + 5, []
    for _ in range(4):  # in their turn, all of them
        got += one.packet(relay, (due_s, due_s), 4, 0.0)[0]
    assert sorted(got) == sorted(later)


def test_what_lives_is_looked_through_anew_as_often_as_a_peer_pays_for(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHH_REWIND_LOOKS", 20)
    monkeypatch.setattr(limits, "SHH_REWIND_LOOKS_PER_S", 10)
    one, raws = peer(relay), some(10)
    for raw in raws:
        one_live = accepted(relay, raw)
        one_live.knows = EVERYBODY  # so that a look is all that it costs

    def looks(at_s: float) -> int:
        one.demands(None, 0)
        one.demands(None, bloom.FULL)
        return one.packet(relay, (NOW_S, NOW_S), 1000, at_s)[1]

    assert [looks(0.0) for _ in range(5)] == [10, 10, 10, 0, 0]
    fresh = envelope(b"fresh", now_s=NOW_S)
    accepted(relay, fresh)
    assert given_to(one, relay) == [fresh]  # what is new is not kept from it
    assert one.packet(relay, (NOW_S, NOW_S), 1000, 1.0)[1] == 0
    assert one.packet(relay, (NOW_S, NOW_S), 1000, 1.1)[1] == 11  # its word still holds


def test_what_waits_for_one_peer_is_bounded(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_HELD", 4)
    one = peer(relay)
    raws = some(9, now_s=NOW_S + 5)
    for raw in raws:
        adopted(relay, raw)
    assert given_to(one, relay) == []
    assert given_to(one, relay, NOW_MS + 9000) == raws[-4:]


def test_a_peers_packets_per_second_are_kept(relay: Relay) -> None:
    one, raws = peer(relay, rates=(10, 5, 1)), some(3)
    accepted(relay, raws[0])
    assert given_to(one, relay, at_s=10.0) == raws[:1]
    accepted(relay, raws[1])
    assert given_to(one, relay, at_s=10.1) == []
    assert one.behind(relay)
    assert given_to(one, relay, at_s=10.2) == raws[1:2]
    one.limited((0, 0, 0))
    accepted(relay, raws[2])
    assert given_to(one, relay, at_s=10.21) == []
    assert given_to(one, relay, at_s=10.4) == raws[2:]


def test_gone_from_the_log_before_it_was_looked_at(relay: Relay) -> None:
    one, raws = peer(relay), some(2)
    accepted(relay, raws[0])
    relay.expire(NOW_S + 51)
    fresh = envelope(b"fresh", now_s=NOW_S + 52)
    adopted(relay, fresh)
    assert one.cursor < relay.start
    assert given_to(one, relay, NOW_MS + 52_000) == [fresh]


@given(
    st.lists(
        st.tuples(
            st.integers(-40, 12),  # sent, relative to now
            st.integers(1, 60),  # TTL
            st.sampled_from([b"abcd", b"wxyz", bytes.fromhex("1716941b")]),
            st.integers(0, 3000),  # floor it was mined for, in millionths
        ),
        max_size=12,
    ),
    st.sampled_from([0.0, 0.0005, 0.001, 0.002]),
    st.sampled_from([bloom.FULL, bloom.of_topics([b"abcd"]), 0]),
    st.integers(-PEER_BEHIND_S, 1),
)
def test_a_geth_takes_all_that_it_is_given(
    made: list[tuple[int, int, bytes, int]], floor: float, filter_: int, peers_clock: int
) -> None:
    """geth's own checks, at a clock a little behind or ahead of ours."""
    relay = Relay(keccak256)
    for index, (sent, ttl_s, topic, mined) in enumerate(made):
        text = b"%d" % index
        raw = envelope(text, now_s=NOW_S + sent, ttl_s=ttl_s, topic=topic, floor=mined)
        adopted(relay, raw)
    one = peer(relay, pow=floor, bloom=filter_)
    for second in range(0, 15, 3):
        for raw in given_to(one, relay, NOW_MS + 1000 * second):
            found, now = whisper.scan(raw), NOW_S + second + peers_clock
            birth = found.expiry_s - found.ttl_s
            zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
            diff = birth - now + 1 if birth > now else 0
            assert birth - 10 <= now
            assert found.expiry_s >= now
            assert 2.0**zeros / len(found.work) / (found.ttl_s + diff) >= floor
            assert bloom.matches(filter_, bloom.sample(found.topic))


# --- budgets ------------------------------------------------------------------------------------


def test_a_budget_fills_with_time() -> None:
    budget = Budget(per_s=2, burst=10, now_s=0.0)
    assert budget.spend(10, 0.0)
    assert not budget.spend(1, 0.4)
    assert budget.spend(1, 0.5)
    assert not budget.spend(11, 1000.0)
    assert budget.spend(10, 1000.0)


def test_stances_have_three_values() -> None:
    assert len({GIVE, LATER, NEVER}) == 3
