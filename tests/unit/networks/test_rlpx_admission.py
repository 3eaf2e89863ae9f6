"""Admission: rooms, who gives way, patience for addresses; with a clock that is only a number."""

import pytest

from restante import limits
from restante.networks.rlpx.admission import Admission


class Guest:
    def __init__(self, source: str, room: Admission) -> None:
        self.source = source
        self.room = room
        self.gave_way: list[str] = []

    def give_way(self, why: str) -> None:
        self.gave_way.append(why)
        self.room.part(self, b"")
        self.room.leave(self)


def guests(room: Admission, source: str, count: int) -> list[Guest]:
    return [Guest(source, room) for _ in range(count)]


def spread(room: Admission, count: int) -> list[Guest]:
    """Of an address each."""
    return [Guest(f"8.8.{at // 256}.{at % 256}", room) for at in range(count)]


def test_the_doorway_has_an_end_and_the_oldest_gives_way() -> None:
    room = Admission(handshakes=4)
    came = spread(room, 6)
    assert [room.enter(each, 0.0) for each in came] == [None] * 6
    assert room.doorway == 4
    assert [each.gave_way for each in came] == [["crowded-out"]] * 2 + [[]] * 4


def test_one_address_cannot_keep_the_others_out() -> None:
    """Whoever floods crowds out itself."""
    room = Admission(handshakes=8, handshakes_per_address=100)
    others = spread(room, 4)
    flood = guests(room, "9.9.9.9", 16)
    for each in (*others, *flood):
        assert room.enter(each, 0.0) is None
    assert not any(each.gave_way for each in others)
    assert sum(bool(each.gave_way) for each in flood) == 12


def test_handshakes_of_one_address() -> None:
    room = Admission(handshakes_per_address=2)
    came = guests(room, "9.9.9.9", 3)
    assert [room.enter(each, 0.0) for each in came] == [None, None, "too-many-of-address"]
    room.part(came[0], b"")
    room.leave(came[0])
    assert room.enter(came[2], 0.0) is None


def test_peers_in_all_and_of_one_address() -> None:
    room = Admission(inbound=3, inbound_per_address=2)
    came = guests(room, "9.9.9.9", 3)
    for each in came:
        room.enter(each, 0.0)
    said = [room.greet(each, bytes((at,)), inbound=True) for at, each in enumerate(came)]
    assert said == [None, None, "too-many-peers"]
    assert (room.inbound, room.doorway) == (2, 1)
    others = spread(room, 2)
    for each in others:
        room.enter(each, 0.0)
    assert room.greet(others[0], b"a", inbound=True) is None
    assert room.greet(others[1], b"b", inbound=True) == "too-many-peers"
    # Those that we dial were chosen: they take nobody's place.
    assert room.greet(Guest("7.7.7.7", room), b"c", inbound=False) is None
    room.part(came[0], b"\x00")
    assert room.greet(others[1], b"b", inbound=True) is None


def test_nobody_twice() -> None:
    room = Admission()
    first, second, third = spread(room, 3)
    assert room.greet(first, b"id", inbound=True) is None
    assert room.greet(second, b"id", inbound=True) == "already-connected"
    assert room.greet(third, b"id", inbound=False) == "already-connected"
    # The second's end is not the first's.
    room.part(second, b"id")
    assert room.greet(third, b"id", inbound=False) == "already-connected"
    room.part(first, b"id")
    assert room.greet(third, b"id", inbound=False) is None


def test_a_peer_that_left_stands_in_the_doorway_until_its_socket_is_closed() -> None:
    room = Admission(handshakes=1)
    first, second = spread(room, 2)
    room.enter(first, 0.0)
    room.greet(first, b"1", inbound=True)
    assert (room.inbound, room.doorway) == (1, 0)
    room.part(first, b"1")
    assert (room.inbound, room.doorway) == (0, 1)
    room.enter(second, 0.0)
    assert first.gave_way == ["crowded-out"]


def test_who_broke_the_protocol_is_not_heard_for_a_while() -> None:
    room = Admission()
    room.bar("9.9.9.9", 100.0)
    late = 100.0 + limits.RLPX_BARRED_S
    assert room.enter(Guest("9.9.9.9", room), 100.1) == "barred"
    assert room.enter(Guest("9.9.9.8", room), 100.1) is None
    assert room.enter(Guest("9.9.9.9", room), late - 0.1) == "barred"
    assert room.enter(Guest("9.9.9.9", room), late) is None


def test_how_often_an_address_may_connect() -> None:
    room = Admission()
    took = 0
    for at in range(600):
        guest = Guest("9.9.9.9", room)
        if room.enter(guest, at / 10) is None:
            took += 1
            room.part(guest, b"")
            room.leave(guest)
    expected = limits.RLPX_ACCEPT_BURST + 60 * limits.RLPX_ACCEPT_PER_S
    assert expected - 2 <= took <= expected + 1


@pytest.mark.parametrize("source", ["127.0.0.1", "::", "10.1.2.3", "192.168.0.9", "fd00::"])
def test_houses_are_exempt(source: str) -> None:
    room = Admission(handshakes=1_000, inbound=1_000)
    room.bar(source, 0.0)
    for at in range(200):
        guest = Guest(source, room)
        assert room.enter(guest, 0.0) is None
        assert room.greet(guest, at.to_bytes(2, "big"), inbound=True) is None


def test_addresses_are_forgotten_by_and_by() -> None:
    room = Admission()
    for at in range(limits.RLPX_ADDRESSES + 500):
        room.bar(f"8.{at >> 16}.{at >> 8 & 255}.{at & 255}", 0.0)
    assert len(room._accounts) == limits.RLPX_ADDRESSES
    assert room.enter(Guest("8.0.0.0", room), 1.0) is None
    assert room.enter(Guest("8.0.17.0", room), 1.0) == "barred"


def test_unfinished_messages_have_a_bound_in_all() -> None:
    room = Admission()
    came = spread(room, 6)
    for each in came[:4]:
        room.hold(each, 15 * 1024 * 1024)
    room.hold(came[4], limits.RLPX_UNFINISHED_FREE_BYTES)
    assert not any(each.gave_way for each in came)
    room.hold(came[0], 16 * 1024 * 1024)
    room.hold(came[5], 14 * 1024 * 1024)
    assert [bool(each.gave_way) for each in came] == [True] + [False] * 5
    assert came[0].gave_way == ["unfinished-too-large"]
    for each in came[1:]:
        room.hold(each, 0)
    room.hold(came[1], limits.RLPX_UNFINISHED_BYTES)
    assert not came[1].gave_way
