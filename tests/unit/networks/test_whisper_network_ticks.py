"""What one tick of a network gives a peer, and when the next one is. No test here depends on how
long anything takes: a tick that must not come by itself is an hour away."""

import asyncio

import pytest

from restante import limits
from shh_peer import closing, envelope, envelopes, listening, until
from unit.networks.test_whisper_network import raw_peer, row_of, run

NEVER_S = 3_600.0


def test_the_next_tick_is_soon_while_there_is_more_for_a_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHH_TICK_S", NEVER_S)
    monkeypatch.setattr(limits, "SHH_TICK_BUSY_S", 0.0)
    monkeypatch.setattr(limits, "SHH_TICK_LOOKS", 10)

    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            peer = await raw_peer(network, 2)
            raws = envelopes(50)
            for raw in raws:
                assert network.send(raw) == 1
            await peer.until(lambda: len(peer.envelopes) == 50)
            assert peer.envelopes == raws
            assert row_of(network, 2)["packets_out"] == 5

    run(test)


def test_and_not_before_its_time_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is sent everything is let alone: a peer that joins waits for the tick."""
    monkeypatch.setattr(limits, "SHH_TICK_S", NEVER_S)
    monkeypatch.setattr(limits, "SHH_TICK_BUSY_S", 0.0)

    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            peer = await raw_peer(network, 2)
            first, second, third = envelopes(3)
            network.send(first)
            await peer.until(lambda: peer.envelopes == [first])
            later = await raw_peer(network, 3)
            network.send(second)
            await later.until(lambda: later.envelopes == [first, second])
            last = await raw_peer(network, 4)
            for _ in range(20):  # turns in which a tick could come
                await asyncio.sleep(0.001)
            assert row_of(network, 4)["sent"] == 0
            network.send(third)
            await last.until(lambda: last.envelopes == [first, second, third])
            assert row_of(network, 4)["packets_out"] == 1

    run(test)


@pytest.mark.parametrize(("tick_bytes", "given"), [(1, 1), (1_000, 2), (2_000, 4), (10**6, 20)])
def test_a_tick_gives_one_peer_so_many_bytes_and_the_packet_that_reaches_them(
    tick_bytes: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHH_TICK_S", NEVER_S)
    monkeypatch.setattr(limits, "SHH_TICK_BUSY_S", NEVER_S)
    monkeypatch.setattr(limits, "SHH_PACKET_BYTES", 500)  # one envelope a packet
    monkeypatch.setattr(limits, "SHH_TICK_BYTES", tick_bytes)

    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            await raw_peer(network, 2)
            for number in range(20):
                network.send(envelope(b"%03d" % number * 170))  # 510 bytes of data, and some
            await until(lambda: row_of(network, 2)["sent"] > 0)
            row = row_of(network, 2)
            assert (row["sent"], row["packets_out"]) == (given, given)

    run(test)
