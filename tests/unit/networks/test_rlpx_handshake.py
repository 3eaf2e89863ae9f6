"""RLPx's handshake: EIP-8's vectors, both sides agreeing, and nothing altered passing."""

import json
from pathlib import Path

import coincurve
import pytest

from restante import limits
from restante.errors import ConfigError
from restante.formats import rlp
from restante.networks.rlpx import ecies, handshake
from restante.networks.rlpx.handshake import HandshakeFailed, Initiator, answer

TEXT: dict[str, str] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "rlpx.json").read_text(),
)
V = {
    key: bytes.fromhex(value)
    for key, value in TEXT.items()
    if isinstance(value, str) and key != "source"
}


def id_of(key: bytes) -> bytes:
    found: bytes = ecies.private(key).public_key.format(compressed=False)[1:]
    return found


ID_A, ID_B = id_of(V["static_a"]), id_of(V["static_b"])


def dialling() -> Initiator:
    return Initiator(V["static_a"], ID_B, ephemeral=V["ephemeral_a"], nonce=V["nonce_a"])


def answering(packet: bytes) -> handshake.Answer:
    return answer(V["static_b"], packet, ephemeral=V["ephemeral_b"], nonce=V["nonce_b"])


@pytest.mark.parametrize("name", ["auth2", "auth3"])
def test_a_recipient_takes_eip_8s_auths(name: str) -> None:
    """Also a version that does not exist yet, with more items than there are."""
    found = answering(V[name])
    assert found.remote_id == ID_A
    assert found.secrets.aes == V["aes_secret"]
    assert found.secrets.mac == V["mac_secret"]


def test_a_recipients_ingress_mac_is_eip_8s() -> None:
    ingress = answering(V["auth2"]).secrets.ingress
    ingress.update(b"foo")
    assert ingress.digest() == V["ingress_mac_foo"]


@pytest.mark.parametrize("name", ["ack2", "ack3"])
def test_an_initiator_takes_eip_8s_acks(name: str) -> None:
    initiator = dialling()
    initiator.packet = V["auth2"]
    secrets = initiator.finish(V[name])
    assert (secrets.aes, secrets.mac) == (V["aes_secret"], V["mac_secret"])
    # What leaves here is what comes there.
    secrets.egress.update(b"foo")
    assert secrets.egress.digest() == V["ingress_mac_foo"]


def test_an_auth_is_what_eip_8_has_in_it() -> None:
    packet = dialling().packet
    plain = ecies.decrypt(packet[2:], V["static_b"], packet[:2])
    listed = rlp.encode([V["signature_a"], ID_A, V["nonce_a"], b"\x04"])
    items = rlp.split_list(plain[: len(listed)], max_items=4)
    assert items[1:] == rlp.split_list(listed, max_items=4)[1:]
    assert 100 <= len(plain) - len(listed) <= 300
    # The vectors' signature was made with another nonce; both carry the ephemeral key.
    shared = ecies.shared_x(ecies.private(V["static_a"]), ecies.public(b"\x04" + ID_B))
    signed = bytes(x ^ y for x, y in zip(shared, V["nonce_a"], strict=True))
    for signature in (items[0][2:], V["signature_a"]):
        key = coincurve.PublicKey.from_signature_and_message(signature, signed, hasher=None)
        assert key.format(compressed=False)[1:] == id_of(V["ephemeral_a"])


def test_what_came_before_eip_8_is_not_spoken() -> None:
    """The vectors are what they say they are; but their form is not taken, in either role."""
    old_auth = ecies.decrypt(V["auth1_plain"], V["static_b"])
    assert old_auth[:65] == V["signature_a"]
    assert old_auth[97:193] == ID_A + V["nonce_a"]
    old_ack = ecies.decrypt(V["ack1_plain"], V["static_a"])
    assert old_ack[:96] == id_of(V["ephemeral_b"]) + V["nonce_b"]
    with pytest.raises(HandshakeFailed, match="size"):
        answering(V["auth1_plain"])
    with pytest.raises(HandshakeFailed, match="size"):
        dialling().finish(V["ack1_plain"])


def test_both_sides_agree() -> None:
    """Each direction's hash is the same at both ends, with random keys and padding."""
    sizes = set()
    for _ in range(20):
        initiator = Initiator(V["static_a"], ID_B)
        found = answer(V["static_b"], initiator.packet)
        ours = initiator.finish(found.packet)
        assert found.remote_id == ID_A
        assert (ours.aes, ours.mac) == found.secrets[:2]
        assert ours.egress.digest() == found.secrets.ingress.digest()
        assert ours.ingress.digest() == found.secrets.egress.digest()
        assert ours.egress.digest() != ours.ingress.digest()
        assert handshake.packet_bytes(initiator.packet[:2]) == len(initiator.packet)
        sizes |= {len(initiator.packet), len(found.packet)}
    assert len(sizes) > 10


def test_no_altered_byte_passes() -> None:
    for at in range(len(V["auth2"])):
        altered = bytearray(V["auth2"])
        altered[at] ^= 0x01
        with pytest.raises(HandshakeFailed):
            answering(bytes(altered))
    initiator = dialling()
    for at in range(len(V["ack2"])):
        altered = bytearray(V["ack2"])
        altered[at] ^= 0x80
        with pytest.raises(HandshakeFailed):
            initiator.finish(bytes(altered))


def test_no_truncated_packet_passes() -> None:
    initiator = dialling()
    for stop in range(len(V["auth2"])):
        with pytest.raises(HandshakeFailed):
            answering(V["auth2"][:stop])
        with pytest.raises(HandshakeFailed):
            initiator.finish(V["ack2"][:stop])


def test_an_auth_for_somebody_else_is_not_read() -> None:
    with pytest.raises(HandshakeFailed):
        answer(V["static_a"], V["auth2"])


def test_sizes_are_bounded_before_anything_is_held() -> None:
    for size in (0, 100, limits.RLPX_HANDSHAKE_MAX_BYTES + 1, 65_535):
        with pytest.raises(HandshakeFailed):
            handshake.packet_bytes(size.to_bytes(2, "big"))


def sealed(plain: bytes) -> bytes:
    size = (ecies.OVERHEAD_BYTES + len(plain)).to_bytes(2, "big")
    return size + ecies.encrypt(plain, b"\x04" + ID_B, size)


BAD_POINT = b"\x00" * 63 + b"\x01"
FIELDS = [V["signature_a"], ID_A, V["nonce_a"], b"\x04"]


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(bytes(300), id="zeros"),
        pytest.param(b"\xff" * 300, id="a length of lengths"),
        pytest.param(rlp.encode(FIELDS[:2]) + bytes(200), id="too few"),
        pytest.param(rlp.encode([FIELDS[0][:-1], *FIELDS[1:]]) + bytes(200), id="short"),
        pytest.param(rlp.encode([[FIELDS[0]], *FIELDS[1:]]) + bytes(200), id="nested"),
        pytest.param(rlp.encode([FIELDS[0], BAD_POINT, *FIELDS[2:]]) + bytes(200), id="no point"),
        pytest.param(
            rlp.encode([FIELDS[0][:64] + b"\x1b", *FIELDS[1:]]) + bytes(200), id="V is 27"
        ),
        pytest.param(rlp.encode([bytes(65), *FIELDS[1:]]) + bytes(200), id="no signature"),
        pytest.param(rlp.encode([*FIELDS, *([b""] * 64)]) + bytes(200), id="many"),
        pytest.param(rlp.encode(FIELDS)[:-1] + bytes(0), id="cut"),
    ],
)
def test_what_is_encrypted_to_us_may_still_be_nonsense(plain: bytes) -> None:
    with pytest.raises(HandshakeFailed):
        answering(sealed(plain))


def test_a_signature_of_another_key_gives_other_secrets() -> None:
    """It proves nothing by itself; the first MAC does, since only its maker can go on."""
    liar = bytes([V["signature_a"][0] ^ 1]) + V["signature_a"][1:]
    try:
        found = answering(sealed(rlp.encode([liar, *FIELDS[1:]]) + bytes(200)))
    except HandshakeFailed:
        return
    assert found.secrets.aes != V["aes_secret"]


def test_whom_we_dial_must_have_a_key() -> None:
    with pytest.raises(ConfigError):
        Initiator(V["static_a"], BAD_POINT)
    with pytest.raises(ConfigError):
        Initiator(bytes(32), ID_B)
