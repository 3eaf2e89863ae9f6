"""Whisper networks without a peer: what is sent then, or lived before a start, goes out later."""

import time

import pytest

from restante.errors import Unavailable
from restante.node.wire.routes_network import HandedIn
from shh_peer import Judge, closing, envelope, envelopes, listening, until
from unit.networks.test_whisper_network import FULL_NODE, raw_peer, row_of, run


def test_what_is_sent_while_no_peer_is_there_goes_to_those_that_come() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            raws = envelopes(3)
            assert [network.send(raw) for raw in raws] == [0, 0, 0]
            assert network.send(raws[0]) == 0
            assert network.send(b"no envelope") == 0
            assert network.status()["relay"]["envelopes"] == 3
            for number in (2, 3):
                peer = await raw_peer(network, number)
                await peer.until(lambda peer=peer: len(peer.envelopes) == 3)  # type: ignore[misc]
                assert peer.envelopes == raws
            assert network.send(raws[0]) == 2, "both have it"

    run(test)


def test_what_lived_before_a_start_goes_to_those_that_come_and_once() -> None:
    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            raws = envelopes(3)
            expired = envelope(b"old", now_s=time.time() - 60)
            network.resume([expired, *raws, b"no envelope"])
            peer = await raw_peer(network, 2)
            await peer.until(lambda: len(peer.envelopes) == 3)
            network.resume(raws)
            # A peer that brings one of them has it; the pool of the node knows it as a repeat.
            giver = await raw_peer(network, 3, FULL_NODE)
            giver.give(raws[0])
            await until(lambda: row_of(network, 3)["repeats"] == 1)
            network.send(last := envelope(b"last"))
            await peer.until(lambda: last in peer.envelopes)
            assert peer.envelopes == [*raws, last]

    run(test)


def test_what_a_peer_brought_is_not_relayed_before_its_judge_though_it_is_resumed() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            giver, taker = await raw_peer(network, 2), await raw_peer(network, 3)
            giver.give(raw := envelope(b"not judged"))
            await until(lambda: row_of(network, 2)["got"] == 1)
            network.resume([raw])
            network.send(own := envelope(b"own"))
            await taker.until(lambda: own in taker.envelopes)
            assert taker.envelopes == [own]

    run(test)


def test_who_posts_is_told_that_it_waits_for_a_peer() -> None:
    async def test() -> None:
        id_, raw = bytes(32), envelope()
        assert HandedIn.of(id_, None, raw) == HandedIn(id_, 0)
        network = await listening(1)
        async with closing(network):
            assert HandedIn.of(id_, network, raw) == HandedIn(id_, 0, waits=True)
            peer = await raw_peer(network, 2)
            await peer.until(lambda: peer.envelopes == [raw])
            assert HandedIn.of(id_, network, raw) == HandedIn(id_, 1)
        with pytest.raises(Unavailable):
            network.send(raw)
        assert HandedIn.of(id_, network, raw) == HandedIn(id_, 0)

    run(test)
