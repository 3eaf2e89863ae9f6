"""Static peers: the pauses between attempts, what is dialled, and what people are told of it."""

import asyncio

import pytest

from contract.network_contract import StepClock
from restante import limits
from restante.errors import Unavailable
from restante.networks.keccak import keccak256
from restante.networks.rlpx.link import Admission, Enode, Identity
from restante.networks.whisper.network_dial import Dialling, Pauses, Static
from restante.networks.whisper.peers import Peers
from restante.networks.whisper.relay import Relay
from shh_peer import CAPABILITY, RawPeer, closing, dialling, enode, key, listening, until

NOW_S = 1_800_000_000
GOOD_S = limits.SHH_LINK_GOOD_S


def pauses(lot: float, held_s: float = 0.0, count: int = 10) -> list[float]:
    made = Pauses(lambda: lot)
    return [made.after(held_s) for _ in range(count)]


# --- pauses -----------------------------------------------------------------------------------


def test_pauses_double_up_to_half_a_minute() -> None:
    assert pauses(0.0) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_each_pause_is_drawn_by_lot_and_half_as_long_again_at_most() -> None:
    lots = iter([0.0, 1.0, 0.5, 0.25])
    made = Pauses(lambda: next(lots))
    assert [made.after(0.0) for _ in range(4)] == [0.5, 1.5, 2.5, 4.5]
    assert max(pauses(1.0, count=100)) == 45.0


def test_after_a_good_link_they_begin_anew() -> None:
    made = Pauses(lambda: 0.0)
    for _ in range(8):
        made.after(0.0)
    assert made.after(GOOD_S - 0.001) == 30.0
    assert [made.after(held_s) for held_s in (GOOD_S, 0.0, 1.0)] == [0.5, 1.0, 2.0]


# --- dialling ---------------------------------------------------------------------------------


class Sleeper:
    """Sleeps that are over at once, and end who sleeps after some."""

    def __init__(self, most: int) -> None:
        self.slept: list[float] = []
        self._most = most

    async def __call__(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        if len(self.slept) >= self._most:
            raise asyncio.CancelledError


def dial(*enodes: Enode, sleep: Sleeper, lot: float = 0.0) -> Dialling:
    """All attempts that `sleep` lets be made, over real sockets."""
    peers = Peers(Relay(keccak256))
    clock = StepClock(NOW_S * 1000 + 1)
    made = Dialling(enodes, peers, RawPeer(), clock, lot=lambda: lot, sleep=sleep)
    asyncio.run(made.run(Identity(key(9), "dials", CAPABILITY), Admission()))
    return made


CLOSED = Enode(bytes(64), "127.0.0.1", 1)


def test_it_sleeps_between_attempts_as_long_as_the_pauses_say() -> None:
    sleep = Sleeper(9)
    [static] = dial(CLOSED, sleep=sleep, lot=1.0).static
    assert sleep.slept == pauses(1.0, count=9)
    assert static.attempts == 9


def test_how_long_an_attempt_held_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_LINK_GOOD_S", 1e-9)
    sleep = Sleeper(4)
    dial(CLOSED, sleep=sleep)
    assert sleep.slept == [0.5] * 4


def test_each_peer_has_pauses_of_its_own() -> None:
    both = Sleeper(4)
    dial(CLOSED, Enode(bytes(64), "127.0.0.1", 2), sleep=both)
    assert both.slept[:4] == [0.5, 0.5, 1.0, 1.0]


def test_who_is_not_reached_is_told_at_first_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    [static] = dial(CLOSED, sleep=Sleeper(5)).static
    assert len(caplog.messages) == 1
    assert "127.0.0.1:1" in caplog.messages[0]
    assert "is the peer up" in caplog.messages[0]
    row = static.row()
    assert (row["enode"], row["attempts"]) == (str(CLOSED), 5)
    assert "Connect call failed" in row["error"]
    assert "is the peer up" in row["hint"]
    assert row["next_s"] == NOW_S + 8 + 1  # the pause of 8 s, and a part of a second


def test_when_it_is_dialled_nobody_says_when_it_will_be() -> None:
    async def test() -> None:
        network = dialling(1, CLOSED)
        await network.open()
        async with closing(network):
            assert network.status()["static"][0]["next_s"] is None
            await until(lambda: network.status()["static"][0]["next_s"] is not None)

    asyncio.run(test())


def test_why_it_is_not_reached_is_told_again_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    static = Static(CLOSED)
    one, other = (Unavailable(why, code="x", hint=f"try {why}") for why in ("one", "other"))
    for error in (one, one, other, other, one):
        static.failed(error)
    assert [message.partition("on: ")[2] for message in caplog.messages] == [
        "one (try one)", "other (try other)", "one (try one)",
    ]  # fmt: skip
    static.here()
    assert (static.error, static.hint) == ("", "")
    static.failed(one)
    assert len(caplog.messages) == 4


def test_a_key_that_is_another_nodes_is_told_so() -> None:
    async def test() -> None:
        far = await listening(1)
        there = enode(far)
        wrong = Enode(Identity(key(2), "x", CAPABILITY).node_id, there.host, there.port)
        network = dialling(3, wrong)
        await network.open()
        async with closing(network, far):
            await until(lambda: network.status()["static"][0]["error"])
            assert "does the enode's key belong" in network.status()["static"][0]["hint"]

    asyncio.run(test())
