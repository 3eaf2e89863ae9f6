"""The devp2p session without sockets: hello, messages, good-byes, and peers that speak badly."""

import json
from pathlib import Path

import cramjam
import pytest

from restante import limits
from restante.formats import rlp
from restante.networks.rlpx import reasons, session
from restante.networks.rlpx.frames import Reader, Writer
from restante.networks.rlpx.handshake import Initiator
from restante.networks.rlpx.reasons import Left, Reason
from restante.networks.rlpx.session import Identity, Session

HELLO = bytes.fromhex(
    json.loads((Path(__file__).parents[2] / "vectors" / "rlpx.json").read_text())["hello_later"]
)
SHH = ("shh", 6, 128)
ALICE, BOB = Identity(b"\x01" * 32, "alice/1", SHH, 1), Identity(b"\x02" * 32, "bob/1", SHH, 2)


def carry(left: Session, right: Session) -> None:
    """Until neither has anything to say."""
    while True:
        there, back = left.outgoing(), right.outgoing()
        if not there and not back:
            return
        assert right.receive(there) == []
        assert left.receive(back) == []


def connected(alice: Identity = ALICE, bob: Identity = BOB) -> tuple[Session, Session]:
    left, right = Session(alice, BOB.node_id), Session(bob)
    carry(left, right)
    return left, right


class Raw:
    """A peer of Bob's that says what a test wants, in frames that are right."""

    def __init__(self, key: bytes = ALICE.key) -> None:
        self.bob = Session(BOB)
        initiator = Initiator(key, BOB.node_id)
        self.bob.receive(initiator.packet)
        out = self.bob.outgoing()
        size = 2 + int.from_bytes(out[:2], "big")
        shared = initiator.finish(out[:size])
        self.writer, self.reader = Writer(shared), Reader(shared)
        self.heard = self.reader.take(out[size:])

    def say(self, body: bytes) -> list[tuple[int, bytes]]:
        came = self.bob.receive(self.writer.frame(body))
        self.heard += self.reader.take(self.bob.outgoing())
        return came

    def hello(self, *fields: rlp.Encodable) -> None:
        """A hello with some of the usual fields replaced."""
        usual: list[rlp.Encodable] = [b"\x05", b"raw", [[b"shh", b"\x06"]], b"", ALICE.node_id]
        self.say(b"\x80" + rlp.encode([*fields, *usual[len(fields) :]]))

    def met(self) -> "Raw":
        self.hello()
        assert self.bob.ready
        return self


def packed(payload: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(payload))


def test_two_sessions_meet() -> None:
    left, right = connected()
    assert left.ready
    assert right.ready
    assert (left.outbound, right.outbound) == (True, False)
    assert (left.remote_client, right.remote_client) == ("bob/1", "alice/1")
    assert right.remote_id == ALICE.node_id
    assert left.left is right.left is None


def test_messages_go_both_ways_and_come_in_groups() -> None:
    left, right = connected()
    sent = [(code, bytes((code,)) * (code * 50)) for code in range(128)]
    for code, payload in sent:
        left.send(code, payload)
        right.send(code, payload)
    assert right.receive(left.outgoing()) == sent
    assert left.receive(right.outgoing()) == sent


def test_a_message_of_16_mib() -> None:
    left, right = connected()
    payload = bytes(limits.RLPX_MESSAGE_MAX_BYTES)
    left.send(1, payload)
    assert right.receive(left.outgoing()) == [(1, payload)]
    with pytest.raises(ValueError, match="message"):
        left.send(1, payload + b"\0")
    with pytest.raises(ValueError, match="message"):
        left.send(128, b"")


def test_what_follows_hello_in_one_read_is_read() -> None:
    left, right = Session(ALICE, BOB.node_id), Session(BOB)
    right.receive(left.outgoing())
    left.receive(right.outgoing())
    left.send(0, b"status")
    left.send(1, b"messages")
    assert right.receive(left.outgoing()) == [(0, b"status"), (1, b"messages")]
    assert right.ready


def test_bytes_one_by_one() -> None:
    left, right = Session(ALICE, BOB.node_id), Session(BOB)
    for _ in range(3):
        for a, b in ((left, right), (right, left)):
            for byte in a.outgoing():
                b.receive(bytes((byte,)))
    assert left.ready
    assert right.ready


def test_ping_is_answered_and_pong_is_not() -> None:
    left, right = connected()
    left.ping()
    assert right.receive(left.outgoing()) == []
    pong = right.outgoing()
    assert pong
    frames = left.frames
    assert left.receive(pong) == []
    assert left.frames == frames + 1
    assert left.outgoing() == b""


@pytest.mark.parametrize("code", [b"\x02", b"\x03", b"\x07"])
def test_frames_of_devp2ps_own_are_counted(code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RLPX_BASE_FRAMES", 20)
    peer = Raw().met()
    for _ in range(20):
        assert peer.say(code + packed(b"\xc0")) == []
    assert peer.say(b"\x11" + packed(b"a message is none of them")) != []
    peer.bob.ping()  # a quarter of a minute later
    for _ in range(limits.RLPX_BASE_FRAMES_A_PING):
        peer.say(code + packed(b"\xc0"))
    assert peer.bob.left is None
    peer.say(code + packed(b"\xc0"))
    assert (peer.bob.left.code, peer.bob.left.reason) == ("flood", Reason.BREACH_OF_PROTOCOL)


def test_a_large_frame_of_devp2ps_own_is_many() -> None:
    peer = Raw().met()
    peer.say(b"\x07" + bytes(limits.RLPX_BASE_FRAMES * limits.RLPX_BASE_MAX_BYTES))
    assert peer.bob.left.code == "flood"


def test_eip_8s_hello() -> None:
    """A later version (its text says 22, its bytes say 55), and items that nobody knows."""
    version, client, offered, node_id = session.parse_hello(HELLO)
    assert (version, client) == (55, "kneth/v0.91/plan9")
    assert offered == {("eth", 61), ("mork", 22)}
    assert node_id.hex().startswith("fda1cff674c90c9a")
    peer = Raw()
    peer.hello(b"\x16", b"raw", [[b"eth", b"\x3f"], [b"shh", b"\x06"]], b"", ALICE.node_id, b"x")
    assert peer.bob.ready


def test_an_old_peer_without_snappy() -> None:
    peer = Raw()
    peer.hello(b"\x04")
    assert peer.say(b"\x11" + b"plain") == [(1, b"plain")]
    peer.bob.send(2, b"also plain")
    assert peer.reader.take(peer.bob.outgoing()) == [b"\x12also plain"]


def test_codes_of_the_base_protocol_that_nobody_uses_are_passed_over() -> None:
    peer = Raw().met()
    for code in range(4, 16):
        assert peer.say(bytes((code,)) + b"whatever") == []
    assert peer.say(b"\x80" + packed(HELLO)) == []
    assert peer.say(b"\x81\x8f" + packed(b"last")) == [(127, b"last")]
    assert peer.bob.left is None


def test_what_a_client_calls_itself_is_made_harmless() -> None:
    peer = Raw()
    peer.hello(b"\x05", b"\x1b[2Jx\r\n\xff\x00" + b"a" * 1_000)
    assert peer.bob.ready
    assert peer.bob.remote_client.isprintable()
    assert len(peer.bob.remote_client) <= limits.RLPX_CLIENT_BYTES


# --- good-byes ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_reasons_arrive(reason: Reason) -> None:
    left, right = connected()
    left.send(1, b"before")
    left.leave(reason)
    left.leave(Reason.SELF)
    assert right.receive(left.outgoing()) == [(1, b"before")]
    assert left.left is not None
    assert right.left is not None
    assert (left.left.ours, left.left.reason) == (True, reason)
    assert (right.left.ours, right.left.reason) == (False, reason)
    assert left.left.code == right.left.code == reason.label
    # Over is over.
    assert left.receive(b"anything") == right.receive(b"anything") == []
    assert left.outgoing() == right.outgoing() == b""


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"\xc1\x04", 4),
        (b"\x04", 4),
        (b"\xc1\x80", 0),
        (b"\x80", 0),
        (b"\xc1\x00", 0),
        (b"\x00", 0),
        (b"\xc1\x10", 16),
        (b"\xc2\x04\x05", 4),
        (b"\xc0", None),
        (b"", None),
        (b"\xc2\xc1\x04", None),
        (b"\x82\x01\x00", None),
        (b"\xff" * 9, None),
        (b"\xc1" * 2_000, None),
    ],
)
def test_disconnects_as_they_are_really_sent(payload: bytes, number: int | None) -> None:
    assert reasons.decode(payload) == number
    for form in (payload, packed(payload)):
        peer = Raw().met()
        assert peer.say(b"\x01" + form) == []
        assert peer.bob.left is not None
        assert not peer.bob.left.ours
        # A zero byte alone is also how snappy writes nothing.
        assert peer.bob.left.reason == (None if form == b"\x00" else number)
    before_hello = Raw()
    before_hello.say(b"\x01" + payload)
    assert before_hello.bob.left == reasons.theirs(number)


def test_reasons_that_nobody_has_heard_of() -> None:
    assert reasons.theirs(0x77).code == "unknown-reason"
    assert reasons.theirs(0x77).reason == 0x77
    assert reasons.theirs(None) == Left(
        "unexplained", "the peer left without a reason", ours=False, reason=None
    )


# --- who may not stay -----------------------------------------------------------------------


def test_ourselves() -> None:
    left, right = Session(BOB, BOB.node_id), Session(BOB)
    carry(left, right)
    assert left.left is not None
    assert right.left is not None
    assert {left.left.code, right.left.code} == {"self"}
    assert not left.ready
    assert not right.ready


def test_another_key_than_that_of_the_handshake() -> None:
    peer = Raw()
    peer.hello(b"\x05", b"raw", [[b"shh", b"\x06"]], b"", b"\x11" * 64)
    assert peer.bob.left is not None
    assert peer.bob.left.reason == Reason.UNEXPECTED_IDENTITY
    assert peer.heard[1] == b"\x01" + packed(b"\xc1\x09")


def test_a_wrong_key_is_noticed_by_who_dials() -> None:
    mallory = Identity(b"\x03" * 32, "mallory", SHH)
    left, right = Session(ALICE, BOB.node_id), Session(mallory)
    right.receive(left.outgoing())
    assert right.left is not None
    assert right.left.code == "handshake"


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [[b"eth", b"\x3f"]],
        [[b"shh", b"\x05"]],
        [[b"shh", b"\x07"]],
        [[b"SHH", b"\x06"]],
    ],
)
def test_nothing_in_common(offered: list[rlp.Encodable]) -> None:
    peer = Raw()
    peer.hello(b"\x05", b"raw", offered)
    assert peer.bob.left is not None
    assert peer.bob.left.reason == Reason.USELESS_PEER


# --- who speaks badly -----------------------------------------------------------------------


def bad_hellos() -> list[bytes]:
    good: list[rlp.Encodable] = [b"\x05", b"raw", [[b"shh", b"\x06"]], b"", ALICE.node_id]
    nested: rlp.Encodable = b""
    for _ in range(200):
        nested = [nested]
    return [
        b"",
        b"\x80",
        rlp.encode(good[:4]),
        rlp.encode([[b"\x05"], *good[1:]]),
        rlp.encode([b"\x05", b"raw", b"shh", b"", ALICE.node_id]),
        rlp.encode([b"\x05", b"raw", [[b"shh"]], b"", ALICE.node_id]),
        rlp.encode([b"\x05", b"raw", [[b"shh", [b"\x06"]]], b"", ALICE.node_id]),
        rlp.encode([b"\x05", b"raw", [[b"shh", b"\x06"]] * 65, b"", ALICE.node_id]),
        rlp.encode([*good, *([b""] * 100)]),
        rlp.encode([b"\x05" * 9, *good[1:]]),
        rlp.encode([b"\x05", b"raw", [nested], b"", ALICE.node_id]),
        rlp.encode([b"\x05", b"raw", [[]] * 1_800, b"", ALICE.node_id]),
        rlp.encode(good) + b"\x00",
        rlp.encode(good)[:-1],
        b"\xfb\xff\xff\xff\xff",
    ]


@pytest.mark.parametrize("payload", bad_hellos())
def test_bad_hellos(payload: bytes) -> None:
    peer = Raw()
    peer.say(b"\x80" + payload)
    assert peer.bob.left is not None
    assert peer.bob.left.code == "hello"
    assert peer.bob.left.reason == Reason.BREACH_OF_PROTOCOL
    assert not peer.bob.ready


def test_a_bomb_of_lists_in_what_a_hello_may_have_more_is_not_looked_into() -> None:
    peer = Raw()
    usual = rlp.encode([b"\x05", b"raw", [[b"shh", b"\x06"]], b"", ALICE.node_id])
    content = usual[2:] + b"\xf9\x06\x00" + b"\xc0" * 0x600
    peer.say(b"\x80" + rlp.list_header(len(content)) + content)
    assert peer.bob.ready


def test_anything_else_before_hello() -> None:
    for body in (b"\x02\xc0", b"\x11" + packed(b"x"), b"\x81\x8f", b"\xc0"):
        peer = Raw()
        assert peer.say(body) == []
        assert peer.bob.left is not None
        assert peer.bob.left.ours


def test_a_hello_that_is_too_large_is_not_read() -> None:
    peer = Raw()
    peer.say(b"\x80" + bytes(limits.RLPX_BASE_MAX_BYTES))
    assert peer.bob.left is not None
    assert peer.bob.left.code == "frame-size"


@pytest.mark.parametrize("body", [b"\xc1\x04", b"\x00", b"\x81", b"\x81\x7f", b"\x82\x01\x00"])
def test_bad_codes(body: bytes) -> None:
    peer = Raw().met()
    assert peer.say(body) == []
    assert peer.bob.left is not None
    assert peer.bob.left.code == "code"


def test_codes_that_nobody_agreed_on() -> None:
    peer = Raw().met()
    assert peer.say(b"\x81\x90" + packed(b"x")) == []
    assert peer.bob.left is not None
    assert (peer.bob.left.code, peer.bob.left.reason) == ("code", Reason.BREACH_OF_PROTOCOL)


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"", "snappy"),
        (b"\x05\x00", "snappy"),
        (b"\x80", "snappy"),
        (b"\xff" * 11, "snappy"),
        (b"\xff\xff\xff\xff\x0f", "message-size"),
        (b"\x81\x80\x80\x08", "message-size"),
        # 16 MiB, of which a few bytes are there: a lie that would cost memory.
        (b"\x80\x80\x80\x08\x00a", "snappy"),
        # A copy from before the beginning.
        (b"\x04\x01\x09", "snappy"),
    ],
)
def test_snappy_that_lies(block: bytes, code: str) -> None:
    with pytest.raises(session.MessageBroken) as caught:
        session.uncompress(block)
    assert caught.value.code == code
    peer = Raw().met()
    assert peer.say(b"\x11" + block) == []
    assert peer.bob.left is not None
    assert (peer.bob.left.code, peer.bob.left.ours) == (code, True)


def test_a_length_that_snappy_cannot_reach_is_refused_before_there_is_room_for_it() -> None:
    with pytest.raises(session.MessageBroken, match="6 bytes that claim to be 16777216"):
        session.uncompress(b"\x80\x80\x80\x08\x00a")


def test_the_densest_snappy_is_within_the_ratio() -> None:
    block = packed(bytes(limits.RLPX_MESSAGE_MAX_BYTES))
    assert limits.RLPX_MESSAGE_MAX_BYTES / len(block) > limits.RLPX_SNAPPY_RATIO - 1
    assert session.uncompress(block) == bytes(limits.RLPX_MESSAGE_MAX_BYTES)


def test_what_came_before_the_breach_is_given() -> None:
    peer = Raw().met()
    stream = peer.writer.frame(b"\x11" + packed(b"good")) + peer.writer.frame(b"\x12\xff")
    assert peer.bob.receive(stream) == [(1, b"good")]
    assert peer.bob.left is not None
    peer = Raw().met()
    stream = peer.writer.frame(b"\x11" + packed(b"good")) + bytes(32)
    assert peer.bob.receive(stream) == [(1, b"good")]
    assert peer.bob.left is not None
    assert peer.bob.left.code == "bad-mac"


def test_an_endless_handshake_is_refused_at_its_size() -> None:
    bob = Session(BOB)
    bob.receive(b"\xff")
    assert bob.left is None
    bob.receive(b"\xff")
    assert bob.left is not None
    assert bob.left.code == "handshake"
    assert bob.outgoing() == b""
    assert bob.unfinished_bytes <= limits.RLPX_HANDSHAKE_MAX_BYTES


def test_http_at_our_port() -> None:
    bob = Session(BOB)
    bob.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert bob.left is not None
    assert bob.left.code == "handshake"
