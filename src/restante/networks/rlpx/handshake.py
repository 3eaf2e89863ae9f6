"""The handshake of RLPx as EIP-8 has it: two packets, after which both sides share secrets.

    packet = size 2, big-endian ‖ ECIES(body ‖ padding), the size being authenticated as well
    auth   = [signature 65, initiator's key 64, nonce 32, version, …]
    ack    = [ephemeral key 64, nonce 32, version, …]

The signature is by the initiator's ephemeral key over (static shared x XOR nonce), so it carries
that key and proves both. Of what EIP-8 replaced (packets without a size) nothing is spoken, in
neither direction: geth sends this form since 2016 and takes it always. Such a packet's first bytes
claim a size that is not kept, and its sender meets the time-out.
"""

import secrets
from typing import NamedTuple

import coincurve

from restante import limits
from restante.errors import Invalid
from restante.formats import rlp
from restante.networks.keccak import Hash, keccak256
from restante.networks.keccak import new as keccak
from restante.networks.rlpx import ecies

SIZE_BYTES = 2
VERSION = 4

_ID_BYTES = 64
_NONCE_BYTES = 32
_SIGNATURE_BYTES = 65
# What EIP-8 recommends: it makes the packet differ from the old form, and vary.
_PADDING_MIN, _PADDING_MAX = 100, 300
# An ack has 107 bytes in its list.
_MIN_BYTES = ecies.OVERHEAD_BYTES + 100


class HandshakeFailed(Invalid):
    """A packet of the handshake is not what it must be, or not for us."""

    code = "handshake"


class Secrets(NamedTuple):
    """What frames are encrypted and authenticated with: keys of 32 bytes, and the running hashes
    of what leaves and what comes, which both begin with a packet of the handshake."""

    aes: bytes
    mac: bytes
    egress: Hash
    ingress: Hash


class Answer(NamedTuple):
    """What a recipient sends back, to whom, and what it shares with the initiator."""

    remote_id: bytes
    packet: bytes
    secrets: Secrets


def packet_bytes(head: bytes) -> int:
    """The whole length of a packet that begins with these two bytes. Raises HandshakeFailed."""
    size = int.from_bytes(head[:SIZE_BYTES], "big")
    if not _MIN_BYTES <= size <= limits.RLPX_HANDSHAKE_MAX_BYTES:
        raise HandshakeFailed(f"a handshake packet of {size} bytes")
    return SIZE_BYTES + size


class Initiator:
    """The side that dials: `packet` is sent, and `finish` takes what comes back."""

    def __init__(
        self,
        key: bytes,
        remote_id: bytes,
        *,
        ephemeral: bytes | None = None,
        nonce: bytes | None = None,
    ) -> None:
        """`key`: our 32-byte private key. Ephemeral key and nonce are random unless a test gives
        them. Raises ConfigError for what is not a key."""
        own, remote = ecies.private(key), ecies.public(b"\x04" + remote_id)
        self._key = key
        self._nonce = nonce or secrets.token_bytes(_NONCE_BYTES)
        self._ephemeral = ecies.private(ephemeral) if ephemeral else _fresh()
        signed = _xor(ecies.shared_x(own, remote), self._nonce)
        signature = self._ephemeral.sign_recoverable(signed, hasher=None)
        body = [signature, _id(own), self._nonce, bytes((VERSION,))]
        self.packet = _seal(body, remote)

    def finish(self, packet: bytes) -> Secrets:
        """The secrets that an ack brings. Raises HandshakeFailed."""
        ephemeral, nonce = _open(packet, self._key, (_ID_BYTES, _NONCE_BYTES))
        shared = ecies.shared_x(self._ephemeral, _point(ephemeral))
        aes, mac = _derive(shared, nonce, self._nonce)
        return Secrets(
            aes,
            mac,
            egress=keccak(_xor(mac, nonce) + self.packet),
            ingress=keccak(_xor(mac, self._nonce) + packet),
        )


def answer(
    key: bytes,
    packet: bytes,
    *,
    ephemeral: bytes | None = None,
    nonce: bytes | None = None,
) -> Answer:
    """The recipient's part, whole: takes an auth, gives the ack. Raises HandshakeFailed."""
    signature, remote_id, their_nonce = _open(
        packet, key, (_SIGNATURE_BYTES, _ID_BYTES, _NONCE_BYTES)
    )
    remote = _point(remote_id)
    signed = _xor(ecies.shared_x(ecies.private(key), remote), their_nonce)
    their_ephemeral = _signer(signature, signed)
    own_ephemeral = ecies.private(ephemeral) if ephemeral else _fresh()
    own_nonce = nonce or secrets.token_bytes(_NONCE_BYTES)
    ack = _seal([_id(own_ephemeral), own_nonce, bytes((VERSION,))], remote)
    aes, mac = _derive(ecies.shared_x(own_ephemeral, their_ephemeral), own_nonce, their_nonce)
    shared = Secrets(
        aes,
        mac,
        egress=keccak(_xor(mac, their_nonce) + ack),
        ingress=keccak(_xor(mac, own_nonce) + packet),
    )
    return Answer(remote_id, ack, shared)


def _seal(body: list[bytes], to: coincurve.PublicKey) -> bytes:
    padding = _PADDING_MIN + secrets.randbelow(_PADDING_MAX - _PADDING_MIN + 1)
    plain = rlp.encode(body) + bytes(padding)
    size = (ecies.OVERHEAD_BYTES + len(plain)).to_bytes(SIZE_BYTES, "big")
    return size + ecies.encrypt(plain, to.format(compressed=False), size)


def _open(packet: bytes, key: bytes, lengths: tuple[int, ...]) -> list[bytes]:
    """The first fields of a packet's list, which must have these lengths. What follows them, and
    what follows the list, is for later versions (EIP-8), as is another version number."""
    if len(packet) < SIZE_BYTES or len(packet) != packet_bytes(packet):
        raise HandshakeFailed("a handshake packet has not the size that it claims")
    try:
        plain = ecies.decrypt(packet[SIZE_BYTES:], key, packet[:SIZE_BYTES])
        items = rlp.split_list(_first_item(plain), max_items=limits.RLPX_HELLO_ITEMS)
        fields = [rlp.decode(item, max_depth=0) for item in items[: len(lengths)]]
    except Invalid as error:
        raise HandshakeFailed(f"a handshake packet that cannot be read: {error}") from None
    found: list[bytes] = []
    for field, length in zip(fields, lengths, strict=False):
        if not isinstance(field, bytes) or len(field) != length:
            raise HandshakeFailed("a field of a handshake packet has another length")
        found.append(field)
    if len(found) < len(lengths):
        raise HandshakeFailed("a handshake packet lacks a field")
    return found


def _first_item(plain: bytes) -> bytes:
    """The list at the start, as its own header has it; whether it is one, `rlp` says."""
    first = plain[0] if plain else 0
    if first <= 0xF7:
        return plain[: 1 + max(0, first - 0xC0)]
    width = first - 0xF7
    return plain[: 1 + width + int.from_bytes(plain[1 : 1 + width], "big")]


def _derive(shared: bytes, recipient_nonce: bytes, initiator_nonce: bytes) -> tuple[bytes, bytes]:
    """The AES key and the MAC key."""
    secret = keccak256(shared + keccak256(recipient_nonce + initiator_nonce))
    aes = keccak256(shared + secret)
    return aes, keccak256(shared + aes)


def _signer(signature: bytes, signed: bytes) -> coincurve.PublicKey:
    try:
        return coincurve.PublicKey.from_signature_and_message(signature, signed, hasher=None)
    except Exception:  # coincurve raises bare Exception for a signature that gives no key
        raise HandshakeFailed("the signature gives no public key") from None


def _point(id_: bytes) -> coincurve.PublicKey:
    try:
        return coincurve.PublicKey(b"\x04" + id_)
    except ValueError:
        raise HandshakeFailed("a key that is not a point of the curve") from None


def _id(key: coincurve.PrivateKey) -> bytes:
    id_: bytes = key.public_key.format(compressed=False)[1:]
    return id_


def _fresh() -> coincurve.PrivateKey:
    return coincurve.PrivateKey(secrets.token_bytes(32))


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))
