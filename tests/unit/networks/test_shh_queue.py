"""What waits to be judged: turns, shares, and what is given up."""

import asyncio
import random
from typing import Any

import pytest

from restante import limits
from restante.networks.whisper.network_queue import Came, Queue
from restante.networks.whisper.relay import Live
from restante.ports import Arrival

# A peer is no more than a key here.
ONE: Any = "one"
OTHER: Any = "other"
THIRD: Any = "third"


def packet(peer: Any, *raws: bytes) -> list[Came]:
    return [(Arrival(0, raw), Live(raw, raw), peer, None) for raw in raws]


def put(queue: Queue, peer: Any, *raws: bytes) -> bool:
    return queue.put(peer, packet(peer, *raws), sum(map(len, raws)))


def numbered(name: str, count: int) -> list[bytes]:
    return [b"%s %d" % (name.encode(), index) for index in range(count)]


def taken(queue: Queue) -> list[bytes]:
    arrivals, came = asyncio.run(queue.take())
    assert [one[0] for one in came] == arrivals
    return [arrival.raw for arrival in arrivals]


def dropped(queue: Queue, peer: Any, *, but_begun: bool) -> list[bytes]:
    return [one[0].raw for one in queue.drop(peer, but_begun=but_begun)]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(limits, "SHH_GROUP_ENVELOPES", 4)
    monkeypatch.setattr(limits, "SHH_LINGER_S", 0.0)
    return Queue()


def test_one_alone_has_whole_groups_in_order(queue: Queue) -> None:
    raws = numbered("one", 10)
    put(queue, ONE, *raws[:7])
    put(queue, ONE, *raws[7:])
    assert [taken(queue) for _ in range(3)] == [raws[:4], raws[4:8], raws[8:]]
    assert (len(queue), queue.bytes) == (0, 0)


def test_each_has_its_turn_however_much_another_brought(queue: Queue) -> None:
    many, few = numbered("many", 100), numbered("few", 3)
    put(queue, ONE, *many)
    put(queue, OTHER, *few)
    assert taken(queue) == [*many[:2], *few[:2]]
    assert taken(queue) == [*many[2:4], few[2], many[4]]  # what one leaves, another has
    assert len(queue) == 95


def test_turns_go_on_where_a_group_was_full(queue: Queue) -> None:
    peers: list[Any] = [f"peer {number}" for number in range(10)]
    for peer in peers:
        put(queue, peer, *numbered(peer, 2))
    firsts = [raw for _ in range(5) for raw in taken(queue)]
    assert firsts == [b"peer %d %d" % (n, turn) for turn in range(2) for n in range(10)]


def test_a_group_is_in_order_of_arrival(queue: Queue) -> None:
    """Whoever takes it notes times that never go back."""
    early, late = ((Arrival(when, raw), Live(raw, raw)) for when, raw in ((1, b"e"), (9, b"l")))
    queue.put(ONE, [(*late, ONE, None)], 1)
    queue.put(OTHER, [(*early, OTHER, None)], 1)
    assert taken(queue) == [b"e", b"l"]


def test_groups_are_bounded_in_bytes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_GROUP_BYTES", 5_000)
    large = [bytes([n]) * 4_000 for n in range(3)]
    put(queue, ONE, *large)
    assert [taken(queue), taken(queue)] == [large[:2], large[2:]]


def test_all_that_left_have_one_turn_together(queue: Queue) -> None:
    for number in range(20):
        peer: Any = f"left {number}"
        put(queue, peer, *numbered(peer, 3))
        queue.departed(peer)
    put(queue, ONE, *numbered("one", 9))
    assert taken(queue) == [b"left 0 0", b"left 0 1", b"one 0", b"one 1"]
    assert taken(queue) == [b"left 0 2", b"left 1 0", b"one 2", b"one 3"]


def test_what_a_peer_may_have_waiting_is_what_is_free(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = limits.SHH_ENVELOPE_OVERHEAD_BYTES + 1
    monkeypatch.setattr(limits, "SHH_QUEUE_BYTES", 12 * each)
    monkeypatch.setattr(limits, "SHH_QUEUE_ALL_BYTES", 15 * each)
    assert not put(queue, ONE, *[b"a"] * 6)
    assert put(queue, ONE, b"a")
    assert not put(queue, OTHER, *[b"b"] * 2)
    assert put(queue, OTHER, b"b")
    assert not put(queue, THIRD, b"c")
    assert [queue.has_room(peer) for peer in (ONE, OTHER, THIRD, "new")] == [
        False, False, False, True,
    ]  # fmt: skip
    assert not queue.full
    assert put(queue, THIRD, *[b"c"] * 5)
    assert queue.full
    assert not queue.has_room("new")  # type: ignore[arg-type]
    queue.drop(ONE, but_begun=False)
    assert not queue.full
    assert [queue.has_room(peer) for peer in (ONE, OTHER, THIRD)] == [True, False, False]


def test_given_up_is_all_but_a_packet_that_was_begun(queue: Queue) -> None:
    raws = numbered("one", 12)
    put(queue, ONE, *raws[:3])
    put(queue, ONE, *raws[3:6])
    put(queue, ONE, *raws[6:])
    assert taken(queue) == raws[:4]
    assert dropped(queue, ONE, but_begun=True) == raws[6:]
    assert len(queue) == 2
    assert dropped(queue, ONE, but_begun=True) == []
    assert taken(queue) == raws[4:6]
    assert (len(queue), queue.bytes) == (0, 0)
    put(queue, ONE, *raws[:4])
    put(queue, ONE, *raws[4:])
    assert taken(queue) == raws[:4]
    assert dropped(queue, ONE, but_begun=True) == raws[4:]  # the first packet ended there
    assert dropped(queue, ONE, but_begun=True) == []


def test_given_up_is_all_of_who_left(queue: Queue) -> None:
    raws = numbered("one", 12)
    put(queue, ONE, *raws)
    taken(queue)
    queue.departed(ONE)
    put(queue, OTHER, b"other")
    assert dropped(queue, ONE, but_begun=False) == raws[4:]
    assert taken(queue) == [b"other"]
    assert (len(queue), queue.bytes) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_given_twice(queue: Queue, seed: int) -> None:
    lots = random.Random(seed)
    peers: list[Any] = ["a", "b", "c", "d"]
    waiting: dict[Any, list[bytes]] = {peer: [] for peer in peers}
    for step in range(300):
        peer = lots.choice(peers)
        what = lots.random()
        if what < 0.5:
            raws = [
                b"%d %d" % (step, n) + bytes(lots.randrange(50))
                for n in range(lots.choice([1, 1, 3, 9]))
            ]
            put(queue, peer, *raws)
            waiting[peer] += raws
        elif what < 0.55:
            queue.departed(peer)
        elif what < 0.6:
            gone = dropped(queue, peer, but_begun=lots.random() < 0.5)
            kept = len(waiting[peer]) - len(gone)
            assert gone == waiting[peer][kept:]
            del waiting[peer][kept:]
        elif len(queue):
            _, came = asyncio.run(queue.take())
            assert 0 < len(came) <= limits.SHH_GROUP_ENVELOPES
            for arrival, _, giver, _ in came:
                assert waiting[giver].pop(0) == arrival.raw
        assert len(queue) == sum(map(len, waiting.values()))
        assert queue.bytes == sum(
            len(raw) + limits.SHH_ENVELOPE_OVERHEAD_BYTES
            for each in waiting.values()
            for raw in each
        )
