"""Our network adapter among real peers: what they send, what they are given, and that they stay."""

import time
from collections.abc import Callable

import pytest

from interop.observer import Observer, among, envelope
from peers import harness, wnode
from peers.harness import BATCH_ACKNOWLEDGED, MESSAGES, RESPONSE, Harness
from restante.formats.whisper import assemble_packet
from restante.networks.whisper import bloom

# geth has the tick of 0.3 s, too: what has not come after three of them does not come.
TICKS_S = 1.0

each_harness = pytest.mark.parametrize("start", [harness.geth, harness.status])
Start = Callable[..., Harness]


@each_harness
@pytest.mark.parametrize("dialled", [True, False], ids=["we dial", "it dials"])
def test_envelopes_go_both_ways(start: Start, dialled: bool) -> None:
    with start(pow=0.002) as peer, Observer(*([peer.enode] if dialled else [])) as ours:
        if not dialled:
            peer.connect(ours.enode)
        ours.wait_peers(1)
        ours.wait(peer.post("to us", pow=0.002))
        raw = envelope(b"from us")
        assert ours.send(raw) == 1
        peer.wait_envelope(raw)
        row = ours.row(peer.node_id)
        assert (row["got"], row["new"], row["sent"]) == (1, 1, 1)
        assert row["outbound"] == dialled
        assert row["pow"] == 0.002
        assert ours.left() == []
        assert not peer.all("lost")


def test_what_we_accept_is_relayed_once_to_who_has_it_not() -> None:
    with (
        harness.geth(pow=0.002) as geth,
        harness.status(pow=0.002) as status,
        Observer(geth.enode, status.enode) as ours,
    ):
        ours.wait_peers(2)
        raws = [geth.post(f"message {i}", pow=0.002) for i in range(20)]
        for raw in raws:
            status.wait_envelope(raw)
        raws.append(status.post("answer", pow=0.002))
        geth.wait_envelope(raws[-1])
        time.sleep(TICKS_S)
        assert sum(packet.count(raws[0]) for packet in status.packets(MESSAGES)) == 1
        assert not among(raws[0], geth.packets(MESSAGES)), "it has it already"
        assert sorted(ours.raws) == sorted(raws)
        assert not geth.all("lost")
        assert not status.all("lost")


@each_harness
def test_who_comes_later_is_given_what_still_lives(start: Start) -> None:
    with Observer() as ours, harness.geth(pow=0.002) as first:
        first.connect(ours.enode)
        raws = [first.post(f"message {i}", pow=0.002) for i in range(5)]
        brief = first.post("brief", pow=0.002, ttl=1)
        ours.wait(*raws, brief)
        time.sleep(2)
        with start(pow=0.002) as later:
            later.connect(ours.enode)
            for raw in raws:
                later.wait_envelope(raw)
            assert not among(brief, later.packets(MESSAGES))
            assert not later.all("lost")


@each_harness
def test_a_peer_that_raises_its_floor_is_not_sent_less(start: Start) -> None:
    """geth tolerates its old floor for ten seconds; we do not count on it."""
    with start(pow=0.002) as peer, Observer(peer.enode) as ours:
        ours.wait_peers(1)
        peer.ask("set-pow", pow=0.2)
        ours.until(lambda: ours.row(peer.node_id)["pow"] == 0.2)
        low = envelope(b"low", below_millionths=200_000)
        high = envelope(b"high", floor_millionths=200_000)
        assert ours.send(low) == 0
        assert ours.send(high) == 1
        peer.wait_envelope(high)
        time.sleep(TICKS_S)
        assert not among(low, peer.packets(MESSAGES))
        peer.ask("set-pow", pow=0.002)
        peer.wait_envelope(low)
        assert not peer.all("lost")


@each_harness
def test_a_peer_that_narrows_its_filter_is_sent_nothing_else(start: Start) -> None:
    """Topic 1716941b has two of its three bits in one byte: geth forgets the one, so
    that a filter of the other two matches there, and must here."""
    wanted, quirky, other = b"\x01\x02\x03\x04", bytes.fromhex("1716941b"), b"\x99\x88\x77\x01"
    filter_ = bloom.of_topics([wanted]) | bloom.sample(quirky)
    with start(pow=0.002) as peer, Observer(peer.enode) as ours:
        ours.wait_peers(1)
        peer.ask("set-bloom", bloom=bloom.encode(filter_))
        ours.until(lambda: not ours.row(peer.node_id)["full"])
        unwanted = envelope(b"unwanted", topic=other)
        given = [envelope(b"wanted", topic=wanted), envelope(b"quirky", topic=quirky)]
        assert [ours.send(raw) for raw in (unwanted, *given)] == [0, 1, 1]
        for raw in given:
            peer.wait_envelope(raw)
        time.sleep(TICKS_S)
        assert not among(unwanted, peer.packets(MESSAGES))
        peer.ask("set-bloom", bloom=b"\xff" * 64)
        peer.wait_envelope(unwanted)
        assert not peer.all("lost")


@each_harness
def test_a_light_listener_is_sent_only_its_topics(start: Start) -> None:
    """As `restante watch --peer` listens: by a filter of its own, and relaying nothing."""
    wanted = bytes.fromhex("5a4ea131")
    with start(pow=0.002) as peer, Observer(peer.enode, filter_=bloom.of_topics([wanted])) as ours:
        ours.wait_peers(1)
        peer.post("unwanted", pow=0.002, topic="99887701")
        ours.wait(raw := peer.post("wanted", pow=0.002, topic=wanted))
        time.sleep(TICKS_S)
        assert ours.raws == [raw]
        assert not peer.all("lost")


def test_a_busy_pool_is_sent_in_packets_below_a_mebibyte() -> None:
    """geth's own broadcast has no bound, while geth drops who goes over it (go-ethereum#17560)."""
    with Observer() as ours, harness.geth(pow=0.001) as first:
        first.connect(ours.enode)
        raws = [
            envelope(b"%d" % i, data_bytes=120_000, ttl_s=60, floor_millionths=1_000)
            for i in range(14)
        ]
        for raw in raws:
            ours.send(raw)
        largest = envelope(b"L", data_bytes=1024 * 1024 - 64, ttl_s=60, floor_millionths=1_000)
        assert len(largest) < 1024 * 1024
        ours.send(largest)
        with harness.geth(pow=0.001) as later:
            later.connect(ours.enode)
            for raw in (*raws, largest):
                later.wait_envelope(raw)
            assert max(map(len, later.packets(MESSAGES))) < 1024 * 1024
            assert not later.all("lost")


def test_a_packet_over_a_mebibyte_is_taken() -> None:
    with harness.geth(pow=0.001, max_bytes=10 * 1024 * 1024) as peer:
        raws = [
            envelope(b"%d" % i, data_bytes=200_000, ttl_s=60, floor_millionths=1_000)
            for i in range(15)
        ]
        peer.ask("post-raw", raws=raws)
        with Observer(peer.enode) as ours:
            ours.wait(*raws)
            ours.until(lambda: ours.row(peer.node_id)["got"] == len(raws))
            assert max(map(len, peer.packets(MESSAGES, way="out"))) > 2 * 1024 * 1024
            assert ours.left() == []


def test_packets_of_status_go_are_confirmed_and_its_confirmations_are_understood() -> None:
    with harness.status(pow=0.002) as peer, Observer(peer.enode) as ours:
        ours.wait_peers(1)
        ours.wait(peer.post("confirm this", pow=0.002))
        peer.wait("packet", way="in", code=RESPONSE)
        peer.wait("packet", way="in", code=BATCH_ACKNOWLEDGED)
        peer.wait("acknowledged")
        ours.send(envelope(b"and this"))
        ours.until(lambda: ours.row(peer.node_id)["told"].get("taken") == 1)
        assert ours.row(peer.node_id)["confirmations"]


def test_geth_is_not_confirmed_to() -> None:
    with harness.geth(pow=0.002) as peer, Observer(peer.enode) as ours:
        ours.wait_peers(1)
        ours.wait(peer.post("one", pow=0.002))
        time.sleep(0.2)
        assert not peer.packets(RESPONSE)


def test_a_peer_that_went_is_found_again() -> None:
    key = "11" * 32
    with harness.geth(pow=0.002, key=key) as peer, Observer(peer.enode) as ours:
        ours.wait_peers(1)
        port = peer.enode.rpartition(":")[2]
        peer.stop()
        ours.until(lambda: not ours.rows())
        with harness.geth(pow=0.002, key=key, listen=f"127.0.0.1:{port}") as again:
            ours.wait_peers(1)
            ours.wait(again.post("back", pow=0.002))


def test_clock_rules_are_geths() -> None:
    """What is ahead, expired or very old, as a real peer's process sends it to us and we to it."""
    now_s = int(time.time())
    with (
        harness.geth(pow=0.001) as peer,
        harness.geth(pow=0.001) as other,
        Observer(peer.enode, other.enode) as ours,
    ):
        ours.wait_peers(2)
        ahead = envelope(b"ahead", sent_s=now_s + 5, ttl_s=20, floor_millionths=50_000)
        expired = envelope(b"expired", sent_s=now_s - 20, ttl_s=15)
        for raw in (ahead, expired):
            packet = assemble_packet([raw])
            peer.ask("send", peer=ours.node_id, code=MESSAGES, payload=packet)
        ours.wait(ahead)
        other.wait_envelope(ahead)
        assert not among(expired, other.packets(MESSAGES))
        assert ours.row(peer.node_id)["refused"] == {"expired": 1}
        assert not other.all("lost")
        assert not peer.all("lost")


def test_two_of_ours_behind_one_wnode_see_the_same(alone: None) -> None:
    with (
        wnode.relay("-pow", "0.002") as relay,
        Observer(relay.enode) as one,
        Observer(relay.enode) as two,
    ):
        one.wait_peers(1)
        two.wait_peers(1)
        with wnode.chat(relay.enode, "-pow", "0.002") as chat:
            for i in range(5):
                chat.say(f"typed {i}")
            for ours in (one, two):
                ours.until(lambda ours=ours: len(ours.raws) == 5)
        assert sorted(one.raws) == sorted(two.raws)
        raw = envelope(b"by us", topic=wnode.TOPIC)
        one.send(raw)
        two.wait(raw)
        assert one.left() == two.left() == []


def test_wnodes_talk_through_us(alone: None) -> None:
    with (
        Observer() as ours,
        wnode.chat(ours.enode, "-pow", "0.002") as one,
        wnode.chat(ours.enode, "-pow", "0.002") as two,
    ):
        ours.wait_peers(2)
        one.say("from one")
        two.wait_shown("from one")
        two.say("from two")
        one.wait_shown("from two")
        assert len(ours.raws) == 2
        assert ours.left() == []
