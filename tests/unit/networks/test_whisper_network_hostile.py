"""Hostile peers above RLPx: each is ended for a named reason, and other peers notice nothing."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import pytest

from restante import limits
from restante.errors import Unavailable
from restante.formats import rlp, whisper
from restante.networks.rlpx.link import Enode, Identity, dial
from restante.networks.whisper import messages
from restante.networks.whisper.messages import Status
from restante.networks.whisper.network import WhisperNetwork
from shh_peer import Judge, RawPeer, closing, envelope, envelopes, key, listening, until

Attack = Callable[["Scene"], Coroutine[Any, Any, None]]


class Scene:
    """A network with an honest giver and an honest taker, and one who is not."""

    def __init__(self, network: WhisperNetwork) -> None:
        self.network = network
        self.judge = Judge(network)
        self.giver, self.taker, self.hostile = RawPeer(), RawPeer(), RawPeer()

    async def notices_nothing(self) -> None:
        """What the one honest peer gives, the other gets."""
        raw = envelope(b"honest %d" % random.getrandbits(64))
        self.giver.give(raw)
        await self.taker.until(lambda: raw in self.taker.envelopes)
        assert self.giver.left is self.taker.left is None

    async def ended(self, code: str) -> None:
        """The hostile one is left for this, by devp2p's reason for all of Whisper's rules."""
        left = await self.hostile.until_left()
        assert (left.reason, left.ours) == (0x10, False)
        await until(lambda: bool(self.network.status()["left"]))
        assert self.network.status()["left"] == {code: 1}
        row = self.network.peers()[-1]
        assert row["left"].startswith(code)


def run(attack: Attack, status: Status | None = None, **options: Any) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        broken: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: broken.append(context))
        network = await listening(1, **options)
        scene = Scene(network)
        async with closing(scene.judge), asyncio.timeout(30):
            await scene.giver.dial(network, 2, Status())
            await scene.taker.dial(network, 3, Status())
            await scene.hostile.dial(network, 4, status)
            await attack(scene)
            await scene.notices_nothing()
        assert not broken

    asyncio.run(test())


# --- before it has said what it wants ---------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "payload", "reason"),
    [
        (messages.ENVELOPES, b"\xc0", "no-status"),
        (messages.POW, b"\x80", "no-status"),
        (99, b"", "no-status"),
        (messages.STATUS, rlp.encode([b"\x05"]), "status-version"),
        (messages.STATUS, rlp.encode([b"\x06", bytes.fromhex("7ff0") + bytes(6)]), "pow-malformed"),
        (messages.STATUS, rlp.encode([b"\x06", b"", bytes(5)]), "bloom-length"),
        (messages.STATUS, b"\xc0", "status-malformed"),
        (messages.STATUS, b"\xff" * 9, "rlp-truncated"),
        (messages.STATUS, b"", "rlp-truncated"),
        (messages.STATUS, bytes(16 * 1024 * 1024), "rlp-too-large"),
        (messages.STATUS, b"\xc5\xc4\xc3\xc2\xc1\xc0", "rlp-depth"),
    ],
)
def test_first_words(code: int, payload: bytes, reason: str) -> None:
    async def attack(scene: Scene) -> None:
        scene.hostile.send(code, payload)
        await scene.ended(reason)

    run(attack)


def test_who_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_STATUS_S", 0.2)

    async def attack(scene: Scene) -> None:
        await scene.ended("no-status")
        assert scene.hostile.envelopes == []

    run(attack)


def test_connections_that_never_are_peers_are_counted() -> None:
    async def attack(scene: Scene) -> None:
        found = Enode.parse(scene.network.enode or "")
        for said in (b"GET / HTTP/1.1\r\n\r\n" * 20, b"\x02\x00" + bytes(512)):
            reader, writer = await asyncio.open_connection(found.host, found.port)
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        identity = Identity(key(7), "other", ("eth", 63, 17))
        with pytest.raises(Unavailable, match="useless-peer"):
            await dial(found, identity, RawPeer())
        again = RawPeer()
        with contextlib.suppress(Unavailable):
            await again.dial(scene.network, 4, None)
        turned_away = {"handshake": 2, "useless-peer": 1, "already-connected": 1}
        await until(lambda: scene.network.status()["turned_away"] == turned_away)
        assert scene.network.status()["left"] == {}

    run(attack)


# --- messages that no peer takes --------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "payload", "reason"),
    [
        (messages.ENVELOPES, b"", "rlp-truncated"),
        (messages.ENVELOPES, b"\x80", "rlp-not-list"),
        (messages.ENVELOPES, b"\xc2\x80", "rlp-truncated"),
        (messages.ENVELOPES, b"\xc0\xc0", "rlp-trailing"),
        (messages.ENVELOPES, rlp.list_header(70_000) + b"\x80" * 70_000, "rlp-items"),
        (messages.ENVELOPES, rlp.list_header(2**62) + bytes(9), "rlp-truncated"),
        (messages.POW, rlp.encode(bytes.fromhex("7ff8000000000000")), "pow-malformed"),
        (messages.POW, rlp.encode(bytes.fromhex("bff0000000000000")), "pow-malformed"),
        (messages.BLOOM, b"\x80", "bloom-length"),
        (messages.BLOOM, rlp.encode(bytes(65)), "bloom-length"),
        (messages.RATE_LIMITS, b"\x80", "rates-malformed"),
        (messages.BATCH_TAKEN, rlp.encode(bytes(31)), "batch-malformed"),
        (messages.RESPONSE, b"\xc0", "response-malformed"),
    ],
)
def test_malformed_messages(code: int, payload: bytes, reason: str) -> None:
    async def attack(scene: Scene) -> None:
        scene.hostile.send(code, payload)
        await scene.ended(reason)
        assert scene.network.status()["counts"][reason] == 1

    run(attack, Status())


def test_an_envelope_without_its_packet_ends_who_sends_it() -> None:
    """Its five fields are five envelopes then, all of them refused."""

    async def attack(scene: Scene) -> None:
        scene.hostile.send(messages.ENVELOPES, envelope())
        await scene.ended("rlp-not-list")

    run(attack, Status())


# --- envelopes that no peer takes -------------------------------------------------------------


def now_s() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: whisper.assemble(now_s() + 50, 50, b"abcd", bytes(900_000), 0), "low-pow"),
        (lambda: rlp.encode([b"", b"", b"abc", b"", b""]), "topic-length"),
        (lambda: rlp.encode([b"", b"", b"abcd", b"", b"", b""]), "rlp-items"),
        (lambda: rlp.encode([b"", b"", b"abcd", [b""], b""]), "data-is-list"),
        (lambda: b"\x80", "rlp-not-list"),
        (
            lambda: whisper.assemble(now_s() + 50, 50, b"abcd", bytes(1024 * 1024), 0),
            "oversized",
        ),
    ],
)
def test_what_geth_cuts_off_for(made: Callable[[], bytes], reason: str) -> None:
    """The rest of the packet counts, the sender goes."""

    async def attack(scene: Scene) -> None:
        good = [envelope(b"before"), envelope(b"after")]
        scene.hostile.give(good[0], made(), good[1])
        await scene.ended(reason)
        await scene.taker.until(lambda: scene.taker.envelopes == good)
        assert scene.network.peers()[-1]["refused"] == {reason: 1}

    run(attack, Status())


def nonsense(*numbers: int) -> list[bytes]:
    """What geth cuts off for, each another."""
    return [rlp.encode([b"", b"", b"abc", b"%d" % n, b""]) for n in numbers]


def test_what_waits_of_who_was_cut_off_is_not_judged() -> None:
    """But for the rest of the packet, which geth would have judged, and what others brought."""

    async def attack(scene: Scene) -> None:
        network = scene.network
        scene.judge.may_judge.clear()
        first = [*nonsense(1), *envelopes(1500)]
        shared = envelope(b"both bring it")
        scene.hostile.give(*first)
        scene.hostile.give(shared, *nonsense(*range(2, 800)))
        waiting = len(first) + 799 - limits.SHH_GROUP_ENVELOPES
        await until(lambda: network.status()["queue"]["envelopes"] == waiting)
        scene.giver.give(shared)
        await until(lambda: network.status()["counts"].get("repeat") == 1)
        scene.judge.may_judge.set()
        await scene.ended("topic-length")
        await scene.taker.until(lambda: len(scene.taker.envelopes) == 1501)
        assert scene.taker.envelopes == [*first[1:], shared]
        assert network.status()["counts"]["topic-length"] == 1
        assert network.status()["queue"] == {"envelopes": 0, "bytes": 0}

    run(attack, Status())


def test_who_was_held_is_read_once_what_filled_the_queue_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHH_QUEUE_BYTES", 400_000)
    monkeypatch.setattr(limits, "SHH_QUEUE_ALL_BYTES", 400_000)

    async def attack(scene: Scene) -> None:
        scene.judge.may_judge.clear()
        scene.hostile.give(*nonsense(*range(limits.SHH_GROUP_ENVELOPES)))
        scene.hostile.give(*nonsense(*range(10_000, 12_000)))
        await until(lambda: scene.network.status()["queue"]["bytes"] > 400_000)
        scene.judge.may_judge.set()
        await scene.ended("topic-length")

    run(attack, Status())


def test_who_comes_while_the_queue_is_full_may_still_say_what_it_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not read, it could not, and would be left for it."""
    monkeypatch.setattr(limits, "SHH_QUEUE_BYTES", 100_000)
    monkeypatch.setattr(limits, "SHH_QUEUE_ALL_BYTES", 100_000)
    monkeypatch.setattr(limits, "SHH_STATUS_S", 0.5)
    monkeypatch.setattr(limits, "SHH_GROUP_ENVELOPES", 1)

    async def attack(scene: Scene) -> None:
        late = RawPeer()
        await late.dial(scene.network, 5, None)
        scene.judge.may_judge.clear()
        scene.giver.give(*envelopes(400))
        await until(lambda: scene.network.status()["queue"]["bytes"] > 100_000)
        late.send(messages.STATUS, Status().encode())
        await asyncio.sleep(1.0)
        scene.judge.may_judge.set()
        assert late.left is None
        assert len(scene.network.peers()) == 4
        await late.close()

    run(attack, Status())


# --- floods -----------------------------------------------------------------------------------


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHH_USELESS_BURST", 2_000)
    monkeypatch.setattr(limits, "SHH_USELESS_PER_S", 10)


async def flood(scene: Scene, *says: tuple[int, bytes]) -> None:
    """Say these again and again until we are left."""
    while scene.hostile.left is None:
        for code, payload in says:
            scene.hostile.send(code, payload)
        await asyncio.sleep(0)
    await scene.ended("flood")
    assert scene.network.status()["counts"]["flood"] == 1


@pytest.mark.usefixtures("small_budget")
def test_a_flood_of_its_own_repeats() -> None:
    packet = whisper.assemble_packet(envelopes(20))

    async def attack(scene: Scene) -> None:
        await flood(scene, (messages.ENVELOPES, packet))
        assert scene.judge.codes == ["accepted"] * 20
        await scene.taker.until(lambda: len(scene.taker.envelopes) == 20)

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
def test_a_flood_of_what_only_our_rules_refuse() -> None:
    async def attack(scene: Scene) -> None:
        for number in range(250):
            ttl_zero = whisper.assemble(now_s(), 0, b"abcd", b"%d" % number, 0)
            scene.hostile.give(ttl_zero)
        await scene.ended("flood")

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
def test_a_flood_of_what_has_been_in_the_pool_for_long() -> None:
    async def attack(scene: Scene) -> None:
        old = envelopes(250, now_s=now_s() - 100)
        scene.judge.pool |= {sha256(raw).digest(): raw for raw in old}
        for raw in old:
            scene.hostile.give(raw)
        await scene.ended("flood")

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
@pytest.mark.parametrize(
    "says",
    [
        [(messages.ENVELOPES, b"\xc0")],
        [(99, b"anything")],
        [(messages.MAIL, b"mail")],
        [(messages.MAIL_REQUEST, b"mail")],
        [(messages.BATCH_TAKEN, messages.encode_batch_taken(bytes(32)))],
        [(messages.BLOOM, messages.encode_bloom(n)) for n in (0, 1)],
        [(messages.POW, messages.encode_pow(n)) for n in (1.0, 0.0)],
    ],
)
def test_floods_of_messages_that_bring_nothing(says: list[tuple[int, bytes]]) -> None:
    async def attack(scene: Scene) -> None:
        await flood(scene, *says)

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
def test_a_flood_of_large_repeats_costs_what_it_weighs() -> None:
    """Compressed they are nothing on the wire, and their hashes are not those of small ones."""
    packet = whisper.assemble_packet([envelope(bytes(500_000))])

    async def attack(scene: Scene) -> None:
        for _ in range(6):
            scene.hostile.send(messages.ENVELOPES, packet)
        await scene.ended("flood")

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
def test_large_envelopes_that_only_our_rules_refuse_cost_what_they_weigh() -> None:
    async def attack(scene: Scene) -> None:
        for number in range(5):
            data = number.to_bytes(4, "big") + bytes(500_000)
            scene.hostile.give(whisper.assemble(now_s(), 0, b"abcd", data, 0))
        await scene.ended("flood")

    run(attack, Status())


@pytest.mark.usefixtures("small_budget")
def test_a_large_message_that_brings_nothing_costs_more() -> None:
    async def attack(scene: Scene) -> None:
        scene.hostile.send(99, bytes(2_100_000))
        await scene.ended("flood")

    run(attack, Status())


def test_repeats_of_others_envelopes_cost_a_peer_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several peers bring each envelope; the budget is for what one of them brings twice."""
    monkeypatch.setattr(limits, "SHH_USELESS_BURST", 20)
    monkeypatch.setattr(limits, "SHH_USELESS_PER_S", 0)

    async def attack(scene: Scene) -> None:
        raws = envelopes(100)
        scene.giver.give(*raws)
        await until(lambda: len(scene.judge.pool) == 100)
        scene.hostile.give(*raws)
        await until(lambda: scene.network.status()["counts"]["repeat"] == 100)
        scene.taker.give(*raws)
        await until(lambda: scene.network.status()["counts"]["repeat"] == 200)
        assert scene.hostile.left is None

    run(attack, Status())


# --- who never reads --------------------------------------------------------------------------


def test_who_never_reads_holds_little_and_nobody_else() -> None:
    async def attack(scene: Scene) -> None:
        assert scene.hostile.link is not None
        scene.hostile.link.pause()
        sent = 0
        for number in range(80):
            data = random.randbytes(100_000)
            raw = envelope(data + b"%d" % number, ttl_s=100, floor=1)
            sent += scene.network.send(raw)
            await asyncio.sleep(0.01)
        assert sent == 3 * 80
        await scene.taker.until(lambda: len(scene.taker.envelopes) == 80, 20)
        rows = scene.network.peers()
        hostile = next(row for row in rows if row["client"] == "raw/4")
        assert hostile["backlog_bytes"] <= 3 * limits.SHH_BACKLOG_BYTES
        scene.hostile.link.resume()
        await scene.hostile.until(lambda: len(scene.hostile.envelopes) == 80, 20)

    run(attack, Status())


# --- anything ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_any_messages_end_a_link_at_most(seed: int) -> None:
    lots = random.Random(f"{os.environ['FUZZ_SEED']} {seed}")
    real = [
        whisper.assemble_packet(envelopes(3)),
        messages.encode_bloom(5),
        messages.encode_pow(0.5),
        messages.encode_response(bytes(32), [bytes(32)]),
        Status().encode(),
    ]

    def anything() -> bytes:
        payload = bytearray(lots.choice(real) if lots.random() < 0.8 else lots.randbytes(80))
        for _ in range(lots.randrange(3)):
            payload[lots.randrange(len(payload))] = lots.randrange(256)
        return bytes(
            payload[: lots.randrange(len(payload) + 1)] if lots.random() < 0.2 else payload
        )

    async def attack(scene: Scene) -> None:
        for number in range(60):
            peer = RawPeer()
            await peer.dial(scene.network, 100 + number, Status())
            for _ in range(10):
                peer.send(
                    lots.choice([0, 1, 1, 1, 2, 3, 11, 12, 20, 123, 124, 126, 127]), anything()
                )
            await asyncio.sleep(0)
            await peer.close()

    run(attack, Status())
