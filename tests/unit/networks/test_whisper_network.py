"""Whisper networks on loopback, over real links: what is relayed to whom, and what is told."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest

from contract.network_contract import StepClock, take
from restante import limits
from restante.errors import Unavailable
from restante.formats import rlp, whisper
from restante.networks.keccak import keccak256
from restante.networks.rlpx.link import Enode, Reason
from restante.networks.whisper import bloom, messages
from restante.networks.whisper.messages import Status
from restante.networks.whisper.network import WhisperNetwork
from restante.networks.whisper.network_talk import MailPeer
from restante.networks.whisper.peer import PeerState
from restante.rules.valid import DefaultParameters
from shh_peer import (
    Judge,
    RawPeer,
    closing,
    dialling,
    enode,
    envelope,
    envelopes,
    listening,
    until,
)

Test = Callable[[], Coroutine[Any, Any, None]]
NOW_MS = 1_800_000_000_000
FULL_NODE = Status()


def run(test: Test) -> None:
    async def timed() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(timed())


async def raw_peer(
    network: WhisperNetwork, number: int, status: Status | None = FULL_NODE
) -> RawPeer:
    peer = RawPeer()
    await peer.dial(network, number, status)
    if status is not None:
        await until(lambda: row_of(network, number)["ready"])
    return peer


async def bring_more_than_its_share(network: WhisperNetwork, giver: RawPeer) -> list[bytes]:
    """What a peer gave, of which it was not read to the end; nobody judges meanwhile."""
    raws = envelopes(2000, ttl_s=5)
    for raw in raws:
        giver.give(raw)
        await asyncio.sleep(0)
    await until(lambda: network.status()["queue"]["bytes"] > 10_000)
    await asyncio.sleep(0.2)
    return raws


def row_of(network: WhisperNetwork, number: int) -> dict[str, Any]:
    """The newest row of the raw peer of that number."""
    return next(row for row in network.peers() if row["client"].endswith(f"/{number}"))


# --- relaying ---------------------------------------------------------------------------------


def test_an_envelope_goes_through_to_each_once_and_never_back() -> None:
    async def test() -> None:
        middle = await listening(1)
        left, right = dialling(2, enode(middle)), dialling(3, enode(middle))
        judges = [Judge(each) for each in (middle, left, right)]
        async with closing(*judges):
            await until(lambda: left.connected and right.connected)
            raws = envelopes(20)
            assert [left.send(raw) for raw in raws] == [1] * 20
            await until(lambda: len(judges[2].pool) == 20)
            await asyncio.sleep(2 * limits.SHH_TICK_S)
            assert row_of(middle, 2)["got"] == row_of(middle, 3)["sent"] == 20
            assert row_of(middle, 3)["got"] == row_of(middle, 2)["sent"] == 0
            assert judges[0].codes == judges[2].codes == ["accepted"] * 20
            assert judges[1].codes == []

    run(test)


def test_nothing_is_relayed_before_it_is_durable() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            giver, taker = await raw_peer(network, 2), await raw_peer(network, 3)
            raw = envelope()
            giver.give(raw)
            assert [arrival.raw for arrival in await take(network, 1)] == [raw]
            await asyncio.sleep(2 * limits.SHH_TICK_S)
            assert taker.envelopes == []
            judge = Judge(network)  # the group above was not judged: now it is new again
            giver.give(raw)
            await taker.until(lambda: taker.envelopes == [raw])
            assert judge.codes == ["accepted"]
            assert giver.envelopes == []

    run(test)


def test_who_brings_what_is_known_is_not_given_it() -> None:
    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            one, other, third = [await raw_peer(network, number) for number in (2, 3, 4)]
            raw = envelope()
            one.give(raw)
            other.give(raw)
            await third.until(lambda: third.envelopes == [raw])
            await asyncio.sleep(2 * limits.SHH_TICK_S)
            assert one.envelopes == other.envelopes == []
            assert sorted(
                (row_of(network, n)["new"], row_of(network, n)["repeats"]) for n in (2, 3)
            ) == [(0, 1), (1, 0)]

    run(test)


def test_who_comes_later_gets_what_lives() -> None:
    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            giver = await raw_peer(network, 2)
            raws = envelopes(5)
            giver.give(*raws)
            await until(lambda: len(judge.pool) == 5)
            later = await raw_peer(network, 3)
            await later.until(lambda: later.envelopes == raws)
            again = await raw_peer(network, 4)
            await again.until(lambda: again.envelopes == raws)

    run(test)


def test_what_was_in_the_pool_before_it_came_is_relayed_too() -> None:
    """As by R7, or before a restart."""

    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            giver, taker = await raw_peer(network, 2), await raw_peer(network, 3)
            raw, old = envelope(), envelope(now_s=time.time() - 100)
            judge.pool |= {sha256(each).digest(): each for each in (raw, old)}
            giver.give(old, raw)
            await taker.until(lambda: taker.envelopes == [raw])
            assert judge.codes == ["repeat", "repeat"]
            assert row_of(network, 2)["repeats"] == 2

    run(test)


def test_filters_and_floors_of_peers_are_kept_also_as_they_change() -> None:
    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            giver = await raw_peer(network, 2)
            filtering = await raw_peer(network, 3, Status(bloom=bloom.of_topics([b"wxyz"])))
            demanding = await raw_peer(network, 4, Status(pow=1000.0))
            abcd, wxyz = envelope(), envelope(topic=b"wxyz")
            giver.give(abcd, wxyz)
            await filtering.until(lambda: filtering.envelopes == [wxyz])
            assert demanding.envelopes == []
            assert row_of(network, 3)["bloom_bits"] == 3
            demanding.send(messages.POW, messages.encode_pow(0.0))
            filtering.send(messages.BLOOM, messages.encode_bloom(bloom.FULL))
            await demanding.until(lambda: demanding.envelopes == [abcd, wxyz])
            await filtering.until(lambda: filtering.envelopes == [wxyz, abcd])

    run(test)


def test_packets_of_many_mebibytes_are_taken_and_relayed_in_small_ones() -> None:
    lax = DefaultParameters(pow_floor_millionths=0)

    async def test() -> None:
        network = await listening(1, floor_millionths=0)
        judge = Judge(network, lax)
        async with closing(judge):
            giver, taker = await raw_peer(network, 2), await raw_peer(network, 3)
            now_s = int(time.time())
            raws = [
                whisper.assemble(now_s + 50, 50, b"abcd", index.to_bytes(4, "big") * 700, index)
                for index in range(5000)
            ]
            assert len(whisper.assemble_packet(raws)) > 13 * 1024 * 1024
            giver.give(*raws)
            await until(lambda: len(judge.pool) == 5000, 20)
            await taker.until(lambda: taker.envelopes == raws, 20)
            packets = taker.of(messages.ENVELOPES)
            assert max(map(len, packets)) < 1024 * 1024

    run(test)


# --- sending ----------------------------------------------------------------------------------


def test_sending_says_for_how_many_peers_it_was_queued() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            raw = envelope()
            all_ = await raw_peer(network, 2)
            await raw_peer(network, 3, Status(bloom=bloom.of_topics([b"wxyz"])))
            await raw_peer(network, 4, Status(pow=1000.0))
            assert network.send(raw) == 1
            assert network.send(raw) == 1
            assert network.send(envelope(topic=b"wxyz")) == 2
            assert network.send(b"no envelope") == 0
            assert network.send(envelope(now_s=time.time() - 60)) == 0
            await all_.until(lambda: len(all_.envelopes) == 2)
            all_.give(raw)
            await until(lambda: row_of(network, 2)["repeats"] == 1)

    run(test)


# --- links ------------------------------------------------------------------------------------


def test_a_peer_that_is_gone_is_dialled_until_it_is_back() -> None:
    async def test() -> None:
        far = await listening(1)
        where = enode(far)
        near = dialling(2, where)
        await near.open()
        async with closing(near):
            await until(lambda: near.connected)
            await far.close()
            await until(lambda: not near.connected)
            await until(lambda: "Connect call failed" in near.status()["static"][0]["error"])
            back = dialling(1, listen_at=("127.0.0.1", where.port))
            await back.open()
            async with closing(back):
                await until(lambda: near.connected, 10)
                assert near.status()["static"][0]["error"] == ""
                assert near.status()["left"] == {"quitting": 1}
                left = [row["left"] for row in near.peers()]
                assert left[0] is None
                assert left[1].startswith("quitting")

    run(test)


def test_two_that_dial_each_other_have_one_link() -> None:
    async def test() -> None:
        one = await listening(1)
        other = await listening(2, enode(one))
        await until(lambda: one.connected and other.connected)
        third = dialling(1, enode(other))  # the first node once more, in another process
        await third.open()
        async with closing(third, other, one):
            await until(lambda: third.status()["static"][0]["attempts"] == 2)
            assert not third.connected
            assert other.connected

    run(test)


def test_the_log_is_of_peers_that_we_chose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "restante.whisper")

    async def test() -> None:
        network = await listening(1)
        chooses = dialling(2, enode(network))
        async with closing(Judge(chooses), network):
            await until(lambda: chooses.connected and network.connected)
        words = [record.getMessage() for record in caplog.records]
        assert any(word.endswith("restante/1") for word in words)
        assert not any(word.endswith("restante/2") for word in words)

    run(test)


def test_an_unreachable_peer_is_told_in_status() -> None:
    async def test() -> None:
        network = dialling(1, Enode(bytes(64), "127.0.0.1", 1))
        await network.open()
        async with closing(network):
            await until(lambda: network.status()["static"][0]["attempts"] >= 2)
            assert "127.0.0.1:1" in network.status()["static"][0]["error"]
            assert network.status()["peers"] == 0
            assert network.enode is None

    run(test)


def test_a_name_that_no_resolver_takes_costs_the_other_peers_nothing() -> None:
    async def test() -> None:
        far = await listening(1)
        network = dialling(2, Enode(bytes(64), "a..b", 30303), enode(far))
        async with closing(network, far):
            await network.open()
            await until(lambda: network.connected)
            await until(lambda: network.status()["static"][0]["attempts"] >= 2)
            assert "a..b" in network.status()["static"][0]["error"]
            assert network.connected

    run(test)


@pytest.mark.parametrize("where", ["_dialling.run", "_tick", "_watch_clock"])
def test_a_mistake_of_ours_ends_the_network_for_all_to_see(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        network = dialling(1, listen_at=("127.0.0.1", 0))
        fail = asyncio.Event()

        async def mistaken(*_: object) -> None:
            await fail.wait()
            raise KeyError("a mistake")

        owner, _, name = where.rpartition(".")
        monkeypatch.setattr(getattr(network, owner) if owner else network, name, mistaken)
        await network.open()
        async with closing(network):
            peer = await raw_peer(network, 3)
            observing = asyncio.ensure_future(take(network, 1))
            fail.set()
            with pytest.raises(ExceptionGroup) as caught:
                await observing
            assert caught.group_contains(KeyError, match="a mistake")
            assert (await peer.until_left()).reason == Reason.QUITTING
            assert not network.connected
            assert [code for code, _ in network.reasons()] == ["network-stopped"]
            with pytest.raises(Unavailable):
                await RawPeer().dial(network, 4, None)
            with pytest.raises(Unavailable):
                network.send(envelope())
            with pytest.raises(ExceptionGroup):
                await take(network, 1)
        assert "the Whisper network stopped" in caplog.text

    run(test)


def test_a_port_in_use_is_named() -> None:
    async def test() -> None:
        one = await listening(1)
        async with closing(one):
            other = dialling(2, listen_at=("127.0.0.1", enode(one).port))
            with pytest.raises(Unavailable):
                await other.open()
            await other.close()

    run(test)


def test_more_peers_than_wanted_are_refused() -> None:
    async def test() -> None:
        network = await listening(1, max_peers=2)
        async with closing(network):
            await raw_peer(network, 2)
            await raw_peer(network, 3)
            third = await raw_peer(network, 4, None)
            assert (await third.until_left()).code == "too-many-peers"
            assert network.status()["peers"] == 2

    run(test)


def test_a_ticks_looks_are_shared_in_turn_and_others_have_theirs_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHH_TICK_LOOKS", 10)
    monkeypatch.setattr(limits, "SHH_TICK_LOOKS_ALL", 20)
    monkeypatch.setattr(limits, "SHH_TICK_BUSY_S", 0.0)

    async def test() -> None:
        network = await listening(1)
        async with closing(Judge(network)):
            first = await raw_peer(network, 2)
            first.give(*envelopes(50))
            await until(lambda: network.status()["relay"]["envelopes"] == 50)
            served: list[int] = []
            turns = 0
            packet = PeerState.packet

            def noted(state: PeerState, *rest: Any) -> tuple[list[bytes], int]:
                raws, looked = packet(state, *rest)
                if looked:
                    served.extend((state.slot, turns))
                return raws, looked

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            monkeypatch.setattr(PeerState, "packet", noted)
            counting = asyncio.create_task(count())
            joined = [RawPeer() for _ in range(5)]
            await asyncio.gather(
                *(each.dial(network, n, FULL_NODE) for n, each in enumerate(joined, 3))
            )
            await until(lambda: all(len(each.envelopes) == 50 for each in joined))
            counting.cancel()
            slots, at_turn = served[::2], served[1::2]
            assert len(set(at_turn)) == len(at_turn)  # never two within one turn of the loop
            for slot in set(slots):
                at = [index for index, each in enumerate(slots) if each == slot]
                for one, next_ in pairwise(at):
                    both = set(slots[:one]) & set(slots[next_:]) - {slot}
                    assert both <= set(slots[one:next_])

    run(test)


# --- flow -------------------------------------------------------------------------------------


def test_reading_stops_while_nobody_judges_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHH_QUEUE_BYTES", 20_000)
    monkeypatch.setattr(limits, "SHH_QUEUE_ALL_BYTES", 10_000)

    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            giver, other = await raw_peer(network, 2), await raw_peer(network, 3)
            raws = await bring_more_than_its_share(network, giver)
            # One read may bring some hundred packets; then nothing more is read.
            assert network.status()["queue"]["envelopes"] < 2000
            late = await raw_peer(network, 4)
            held = envelope(b"held")
            before = network.status()["queue"]["envelopes"]
            late.give(held)
            await asyncio.sleep(0.1)
            assert network.status()["queue"]["envelopes"] == before
            arrivals = await take(network, 2001)
            assert [arrival.raw for arrival in arrivals if arrival.raw != held] == raws
            for peer, text in ((other, b"other"), (late, b"late")):
                peer.give(envelope(text))
                assert len(await take(network, 1)) == 1

    run(test)


def test_who_has_its_share_waiting_is_not_read_and_the_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHH_QUEUE_BYTES", 20_000)

    async def test() -> None:
        mail = Mail()
        network = await listening(1, mail=mail)
        async with closing(network):
            giver, other = await raw_peer(network, 2), await raw_peer(network, 3)
            raws = await bring_more_than_its_share(network, giver)
            held = network.status()["queue"]["envelopes"]
            assert held < 2000
            brought = envelope(b"other")
            other.send(messages.MAIL_REQUEST, b"mail")
            other.give(brought)
            await until(lambda: network.status()["queue"]["envelopes"] == held + 1)
            assert [payload for _, payload in mail.asked] == [b"mail"]
            arrivals = [arrival.raw for arrival in await take(network, 2001)]
            assert arrivals.index(brought) <= held
            arrivals.remove(brought)
            assert arrivals == raws

    run(test)


def test_groups_share_their_fsyncs_under_load_and_come_at_once_when_alone() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            giver = await raw_peer(network, 2)
            groups: list[int] = []

            async def consume() -> None:
                async for group in network.arrivals():
                    groups.append(len(group))  # noqa: PERF401 it is read meanwhile

            consumer = asyncio.ensure_future(consume())
            giver.give(envelope(b"alone"))
            await until(lambda: groups == [1])
            raws = envelopes(300)
            for raw in raws:
                giver.give(raw)
                await asyncio.sleep(0.0005)
            await until(lambda: sum(groups) == 301)
            assert len(groups) < 100
            await network.close()
            await consumer

    run(test)


# --- confirmations ----------------------------------------------------------------------------


def test_who_wants_it_is_told_what_became_of_its_packet() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            wants = await raw_peer(network, 2, Status(confirmations=True))
            other = await raw_peer(network, 3)
            good, late = envelope(), envelope(b"late", now_s=time.time() - 60)
            packet = whisper.assemble_packet([good, late])
            digest = keccak256(packet)
            wants.send(messages.ENVELOPES, packet)
            other.give(envelope(b"other"))
            await asyncio.sleep(0.1)
            assert wants.of(messages.BATCH_TAKEN) == []  # it is not durable yet
            Judge(network)
            await wants.until(lambda: bool(wants.of(messages.BATCH_TAKEN)))
            codes = [code for code, _ in wants.came if code > messages.ENVELOPES]
            assert codes[:2] == [messages.RESPONSE, messages.BATCH_TAKEN]
            assert messages.parse_batch_taken(wants.of(messages.BATCH_TAKEN)[0]) == digest
            assert wants.of(messages.RESPONSE) == [
                messages.encode_response(digest, [keccak256(late)])
            ]
            # A packet of repeats is answered at once.
            wants.give(good)
            await wants.until(lambda: len(wants.of(messages.BATCH_TAKEN)) == 2)
            assert other.of(messages.BATCH_TAKEN) == other.of(messages.RESPONSE) == []

    run(test)


def test_a_packet_of_what_another_brought_is_confirmed_once_that_is_durable() -> None:
    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            first = await raw_peer(network, 2)
            wants = await raw_peer(network, 3, Status(confirmations=True))
            good, late = envelope(), envelope(b"late", now_s=time.time() - 60)
            first.give(good, late)
            await until(lambda: network.status()["queue"]["envelopes"] == 2)
            packet = whisper.assemble_packet([good, late])
            wants.send(messages.ENVELOPES, packet)
            await until(lambda: network.status()["counts"].get("repeat") == 2)
            await asyncio.sleep(0.1)
            assert wants.of(messages.BATCH_TAKEN) == []  # nothing is durable yet
            Judge(network)
            await wants.until(lambda: bool(wants.of(messages.BATCH_TAKEN)))
            digest = keccak256(packet)
            assert wants.of(messages.BATCH_TAKEN) == [messages.encode_batch_taken(digest)]
            assert wants.of(messages.RESPONSE) == [
                messages.encode_response(digest, [keccak256(late)])
            ]

    run(test)


# --- clocks -----------------------------------------------------------------------------------


def test_a_clock_that_is_off_loses_no_peer_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "SKEW_FRESH_AFTER_S", 0.0)
    monkeypatch.setattr(limits, "SKEW_MOMENT_S", 0.0)
    monkeypatch.setattr("restante.networks.whisper.network._CLOCK_LOOK_S", 0.05)

    async def test() -> None:
        clock = StepClock(NOW_MS)
        network = await listening(1, clock=clock)
        judge = Judge(network)
        async with closing(judge):
            giver, taker = await raw_peer(network, 2), await raw_peer(network, 3)
            giver.give(*envelopes(10, now_s=NOW_MS / 1000 + 60))
            await until(lambda: judge.codes == ["future"] * 10)
            await until(lambda: "behind" in caplog.text)
            row = row_of(network, 2)
            assert row["left"] is None
            assert (row["spared"], row["refused"]) == (10, {"future": 10})
            assert network.status()["clock"]["off_s"] == -60
            clock.move_to(NOW_MS + 60_000)
            await asyncio.sleep(2 * limits.SHH_TICK_S)
            assert taker.envelopes == []  # it was refused; when it comes again it is new
            # Once the clock is right and that has shown, all is as always.
            fresh = envelopes(limits.SKEW_AGES, now_s=NOW_MS / 1000 + 60)
            for done in range(0, len(fresh), limits.SKEW_AGES_A_GROUP):
                giver.give(*fresh[done : done + limits.SKEW_AGES_A_GROUP])
                await until(lambda n=done: judge.codes.count("accepted") > n)
            await taker.until(lambda: len(taker.envelopes) == limits.SKEW_AGES)
            assert network.status()["clock"]["off_s"] is None

    caplog.set_level("WARNING")
    run(test)


@pytest.mark.parametrize(("old_s", "ttl_s"), [(6, 50), (45, 50), (100, 300), (250, 300)])
@pytest.mark.parametrize("all_at_once", [True, False])
def test_old_envelopes_stop_neither_relaying_nor_sending(
    old_s: int, ttl_s: int, all_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever heals after a cut, or by a stranger: one of two peers, and the other brings
    nothing yet, or what is fresh."""
    monkeypatch.setattr(limits, "SKEW_FRESH_AFTER_S", 0.0)
    if not all_at_once:
        monkeypatch.setattr(limits, "SKEW_MOMENT_S", 0.0)
    monkeypatch.setattr("restante.networks.whisper.network._CLOCK_LOOK_S", 0.01)
    now_s = NOW_MS / 1000

    async def test() -> None:
        network = await listening(1, clock=StepClock(NOW_MS))
        judge = Judge(network)
        async with closing(judge):
            giver, other = await raw_peer(network, 2), await raw_peer(network, 3)
            giver.give(*envelopes(40, now_s=now_s - old_s, ttl_s=ttl_s))
            await until(lambda: len(judge.pool) == 40)
            await asyncio.sleep(0.05)  # the clock was looked at meanwhile
            assert (network.status()["clock"]["off_s"] is None) == all_at_once
            own = envelope(b"own", now_s=now_s)
            assert network.send(own) == 2
            await giver.until(lambda: own in giver.envelopes)
            await other.until(lambda: len(other.envelopes) == 41)
            fresh = envelopes(10, now_s=now_s, topic=b"new!")
            giver.give(*fresh[:5])
            await other.until(lambda: set(fresh[:5]) < set(other.envelopes))
            other.give(*fresh[5:])
            await giver.until(lambda: set(fresh[5:]) < set(giver.envelopes))
            assert network.status()["clock"]["off_s"] is None
            assert network.reasons() == []

    run(test)


def test_a_second_ahead_of_our_clock_is_nobodys_fault() -> None:
    """geth lets what is ahead work for the seconds ahead, too: scanty work is low by that alone."""

    async def test() -> None:
        network = await listening(1, clock=StepClock(NOW_MS))
        judge = Judge(network)
        async with closing(judge):
            honest, ahead = await raw_peer(network, 2), await raw_peer(network, 3)
            honest.give(*envelopes(5, now_s=NOW_MS / 1000))
            await until(lambda: len(judge.pool) == 5)
            # Whatever its luck in mining, one of these is low.
            texts = [bytes([number]) * 3000 for number in range(20)]
            ahead.give(*[envelope(text, now_s=NOW_MS / 1000 + 1, ttl_s=1) for text in texts])
            await until(lambda: len(judge.codes) == 25)
            assert "low-pow" in judge.codes
            assert row_of(network, 3)["spared"] == 0
            assert row_of(network, 3)["left"] is None

    run(test)


def test_what_a_clock_that_is_ahead_sends_waits_until_peers_take_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "SKEW_FRESH_AFTER_S", 0.0)
    monkeypatch.setattr(limits, "SKEW_MOMENT_S", 0.0)
    monkeypatch.setattr("restante.networks.whisper.network._CLOCK_LOOK_S", 0.05)

    async def test() -> None:
        clock = StepClock(NOW_MS + 30_000)
        network = await listening(1, clock=clock)
        judge = Judge(network)
        async with closing(judge):
            peer = await raw_peer(network, 2)
            peer.give(*envelopes(10, now_s=NOW_MS / 1000))
            await until(lambda: "about 30 s ahead" in caplog.text)
            own = envelope(b"own", now_s=NOW_MS / 1000 + 30)
            assert network.send(own) == 1
            await asyncio.sleep(2 * limits.SHH_TICK_S)
            assert peer.envelopes == []
            clock.move_to(NOW_MS + 60_000)
            await peer.until(lambda: peer.envelopes == [own])

    caplog.set_level("WARNING")
    run(test)


def test_a_peer_whose_clock_is_off_goes_where_others_vouch_for_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SKEW_FRESH_AFTER_S", 0.0)

    async def test() -> None:
        network = await listening(1, clock=StepClock(NOW_MS))
        judge = Judge(network)
        async with closing(judge):
            honest, off = await raw_peer(network, 2), await raw_peer(network, 3)
            honest.give(*envelopes(5, now_s=NOW_MS / 1000))
            await until(lambda: len(judge.pool) == 5)
            off.give(envelope(b"old", now_s=NOW_MS / 1000 - 100))
            left = await off.until_left()
            assert left.reason == 0x10
            assert network.status()["left"] == {"very-old": 1}
            assert row_of(network, 2)["left"] is None

    run(test)


def test_several_peers_word_that_our_clock_is_off_is_told_and_one_peers_is_not() -> None:
    complaint = messages.encode_response(bytes(32), [bytes(32)])

    async def test() -> None:
        network = await listening(1)
        async with closing(network):
            one, other = await raw_peer(network, 2), await raw_peer(network, 3)
            one.send(messages.RESPONSE, complaint)
            await until(lambda: network.status()["clock"]["complaints"] == 1)
            assert row_of(network, 2)["told"] == {"out-of-time": 1, "refused": 0}
            assert network.reasons() == []
            other.send(messages.RESPONSE, complaint)
            await until(lambda: network.status()["clock"]["complaints"] == 2)
            [(code, words)] = network.reasons()
            assert code == "network-clock"
            assert words.startswith("2 Whisper peers say")

    run(test)


# --- mail -------------------------------------------------------------------------------------


class Mail:
    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def request(self, peer: MailPeer, payload: bytes) -> None:
        self.asked.append((peer.node_id, payload))
        peer.send(messages.MAIL, payload)
        assert not peer.gone
        assert peer.address.startswith("127.0.0.1:")
        assert peer.backlog_bytes >= 0

    def sync_request(self, peer: MailPeer, payload: bytes) -> None:
        peer.send(messages.SYNC_RESPONSE, rlp.encode([[], b"", b"\x01", b"no"]))


def test_requests_for_mail_reach_the_service_at_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_REQUESTS_BURST", 3)
    monkeypatch.setattr(limits, "SHH_REQUESTS_PER_S", 0.1)

    async def test() -> None:
        mail = Mail()
        network = await listening(1, mail=mail)
        async with closing(network):
            peer = await raw_peer(network, 2)
            peer.send(messages.SYNC_REQUEST, b"\xc0")
            for number in range(5):
                peer.send(messages.MAIL_REQUEST, bytes([number]))
            await peer.until(lambda: len(peer.of(messages.MAIL)) == 2)
            await until(lambda: row_of(network, 2)["refused"] == {"too-many-requests": 3})
            assert len(peer.of(messages.SYNC_RESPONSE)) == 1
            assert [payload for _, payload in mail.asked] == [b"\x00", b"\x01"]

    run(test)


def test_mail_that_nobody_asked_for_and_unknown_codes_are_passed_over() -> None:
    async def test() -> None:
        network = await listening(1)
        judge = Judge(network)
        async with closing(judge):
            peer = await raw_peer(network, 2)
            for code in (0, 4, 20, 99, 124, 125, 126, 127):
                known = code == messages.RATE_LIMITS
                peer.send(code, rlp.encode([b"", b"", b""]) if known else envelope(b"mail"))
            peer.give(envelope())
            await until(lambda: judge.codes == ["accepted"])
            assert row_of(network, 2)["left"] is None

    run(test)


# --- light listeners --------------------------------------------------------------------------


def test_a_light_listener_hears_its_topics_and_relays_nothing_but_its_own() -> None:
    async def test() -> None:
        full = await listening(1)
        light = dialling(2, enode(full), filter_=bloom.of_topics([b"wxyz"]))
        other = dialling(3, enode(full))
        judges = [Judge(each) for each in (full, light, other)]
        async with closing(*judges):
            await until(lambda: light.connected and other.connected)
            assert row_of(full, 2)["light"]
            abcd, wxyz, own = envelope(), envelope(topic=b"wxyz"), envelope(b"own")
            other.send(abcd)
            other.send(wxyz)
            await until(lambda: list(judges[1].pool.values()) == [wxyz])
            assert light.send(own) == 1
            await until(lambda: own in judges[2].pool.values())
            assert row_of(full, 2)["got"] == 1

    run(test)


def test_two_light_listeners_are_useless_to_each_other() -> None:
    async def test() -> None:
        light = await listening(1, filter_=0)
        async with closing(light):
            peer = await raw_peer(light, 2, None)
            peer.send(messages.STATUS, Status(light=True).encode())
            assert (await peer.until_left()).code == "useless-peer"

    run(test)
