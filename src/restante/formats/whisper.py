"""Whisper v6: the envelope, the packet of envelopes, Whisper's hash and its proof of work.

    envelope = RLP [expiry u32, TTL u32, topic 4 bytes, data bytes, nonce u64]      EIP-627
    packet   = RLP [envelope, …]                                                   code 1

Keccak is passed in, since it is not in the standard library. The proof of work is geth's of
v1.9.0 and later: r = RLP [expiry, TTL, topic, data], h = keccak(r ‖ nonce as 8 bytes),
pow = 2^(leading zero bits of h) / len(r) / TTL; compared by integers, never by floats.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, TypeAlias

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import rlp

Keccak: TypeAlias = Callable[[bytes], bytes]

TOPIC_BYTES = 4
U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope.

    expiry_s: unix seconds after which the network forgets it; ttl_s: seconds it lives;
    topic: 4 bytes; data: the encrypted payload; nonce: the proof of work; raw: its bytes.
    """

    expiry_s: int
    ttl_s: int
    topic: bytes
    data: bytes
    nonce: int
    raw: bytes

    @property
    def sent_s(self) -> int:
        """Sent time, unix seconds, as the author claims it; negative if expiry < TTL."""
        return self.expiry_s - self.ttl_s


class Scanned(NamedTuple):
    """What a judge needs of an envelope; nothing in it copies the data.

    data_bytes: length of the data; work: what the nonce is hashed with; raw_nonce: the nonce as
    8 bytes, so that keccak(work + raw_nonce) is the hash whose leading zeros count.
    """

    expiry_s: int
    ttl_s: int
    topic: bytes
    data_bytes: int
    work: bytes
    raw_nonce: bytes


def scan(raw: bytes) -> Scanned:
    """Check an envelope's encoding in full. Raises InvalidEncoding: the codes of
    `rlp.envelope_spans`, `topic-length`, `integer-leading-zero`, `integer-overflow`."""
    usual = _usual(raw)
    if usual is None:
        return _scan_any(raw)
    expiry_s, ttl_s, topic, data_bytes, stop = usual
    nonce = raw[stop + 1 :] or raw[stop:].replace(b"\x80", b"")
    # Four items that hold 256 bytes of data have a header like the five's.
    work = raw[:1] + (stop - 3).to_bytes(2, "big") + raw[3:stop]
    return Scanned(expiry_s, ttl_s, topic, data_bytes, work, nonce.rjust(8, b"\0"))


def _scan_any(raw: bytes) -> Scanned:
    fields, body, nonce_header = rlp.envelope_spans(raw)
    (e0, e1), (t0, t1), (p0, p1), (d0, d1), (n0, n1) = fields
    if p1 - p0 != TOPIC_BYTES:
        raise InvalidEncoding(f"a topic of {p1 - p0} bytes, it has 4", code="topic-length")
    expiry = rlp.to_uint(raw[e0:e1], 4)
    ttl = rlp.to_uint(raw[t0:t1], 4)
    rlp.to_uint(raw[n0:n1], 8)
    work = rlp.list_header(nonce_header - body) + raw[body:nonce_header]
    return Scanned(expiry, ttl, raw[p0:p1], d1 - d0, work, raw[n0:n1].rjust(8, b"\0"))


# f9 ‖ u16, 84 ‖ expiry u32, the TTL's first byte; then 84 ‖ topic, b9 ‖ u16: how nearly every
# envelope begins, since clients pad what they encrypt to 256 bytes.
_USUAL_BEGINNING = Struct(">BHBIB").unpack_from
_USUAL_TOPIC = Struct(">B4sBH").unpack_from
_USUAL_BYTES = 3 + 256


def reading(raw: bytes) -> tuple[bytes, int]:
    """(topic, sent time) of an envelope whose encoding is checked in full, as by `scan`.

    It costs a sixth of the long way. The sent time is in unix seconds. Raises InvalidEncoding as
    `scan`.
    """
    usual = _usual(raw) or _scan_any(raw)
    return usual[2], usual[0] - usual[1]


def _usual(raw: bytes) -> tuple[int, int, bytes, int, int] | None:
    """(expiry, TTL, topic, bytes of data, where the nonce's header is) of an envelope of the usual
    shape; None for another, right or wrong, which is left to `_scan_any`, to be refused or taken.

    What passes here must be canonical to the last byte: `_scan_any` takes it too, and reads the
    same.
    """
    size = len(raw)
    if size < _USUAL_BYTES:
        return None
    list_, payload, four, expiry, ttl = _USUAL_BEGINNING(raw)
    # The list ends where the bytes do; 4 bytes of expiry begin with no zero.
    if list_ != 0xF9 or payload != size - 3 or four != 0x84 or expiry < 0x1000000:
        return None
    at = 9
    if ttl == 0x81:  # one byte from 80 on
        ttl, at = raw[9], 10
        if ttl < 0x80:
            return None
    elif ttl == 0x82:  # two, the first of them not zero
        ttl, at = raw[9] << 8 | raw[10], 11
        if ttl < 0x100:
            return None
    elif not 0 < ttl < 0x80:
        return None
    four, topic, data, length = _USUAL_TOPIC(raw, at)
    if four != 0x84 or data != 0xB9 or length < 0x100:
        return None
    at += 8 + length
    # The nonce ends where the list does: 80 if it is zero; else up to 8 bytes that begin with no
    # zero, of which one below 80 stands for itself.
    left = size - at
    if left < 1:
        return None
    nonce = raw[at]
    if left == 1:
        if not 0 < nonce <= 0x80:
            return None
    elif left > 9 or nonce != 0x7F + left or raw[at + 1] < (0x80 if left == 2 else 1):
        return None
    return expiry, ttl, topic, length, at


def topic_of(raw: bytes) -> bytes:
    """The topic of an envelope that was found canonical before: no more is looked at.

    Raises InvalidEncoding `topic-length`, IndexError for what is no envelope.
    """
    at = 1 if raw[0] < 0xF8 else raw[0] - 0xF6
    for _ in range(2):  # expiry and TTL: a byte below 0x80 stands for itself
        at += 1 if raw[at] < 0x80 else raw[at] - 0x7F
    if raw[at] != 0x80 + TOPIC_BYTES:
        raise InvalidEncoding("the third item is no topic", code="topic-length")
    return raw[at + 1 : at + 1 + TOPIC_BYTES]


def parse(raw: bytes) -> Envelope:
    """The envelope that `raw` is, canonical to the last byte. Raises InvalidEncoding as `scan`."""
    fields = rlp.envelope_spans(raw).fields
    found = _scan_any(raw)
    (d0, d1), (n0, n1) = fields[3], fields[4]
    nonce = int.from_bytes(raw[n0:n1], "big")
    return Envelope(found.expiry_s, found.ttl_s, found.topic, raw[d0:d1], nonce, raw)


def assemble(expiry_s: int, ttl_s: int, topic: bytes, data: bytes, nonce: int) -> bytes:
    """The canonical bytes of an envelope. Raises InvalidEncoding for a value that has none."""
    if not (0 <= expiry_s <= U32_MAX and 0 <= ttl_s <= U32_MAX and 0 <= nonce <= U64_MAX):
        raise InvalidEncoding("expiry and TTL are 32 bits, the nonce 64", code="integer-overflow")
    if len(topic) != TOPIC_BYTES:
        raise InvalidEncoding(f"a topic of {len(topic)} bytes, it has 4", code="topic-length")
    times = [rlp.encode_uint(expiry_s), rlp.encode_uint(ttl_s)]
    return rlp.encode([*times, topic, data, rlp.encode_uint(nonce)])


def parse_packet(payload: bytes) -> list[bytes]:
    """The encodings of the envelopes in a code-1 payload, each still to be judged.

    Stricter than geth in one point: bytes after the outer list are refused (`rlp-trailing`),
    where a wnode reads the list and forgets the rest.
    """
    if len(payload) > limits.RLP_MAX_BYTES:
        raise InvalidEncoding(f"a packet of {len(payload)} bytes", code="rlp-too-large")
    return rlp.split_list(payload, max_items=limits.WHISPER_PACKET_MAX_ENVELOPES)


def assemble_packet(envelopes: list[bytes]) -> bytes:
    """The code-1 payload that holds these envelopes, in this order."""
    payload = b"".join(envelopes)
    return rlp.list_header(len(payload)) + payload


def whisper_hash(raw: bytes, keccak: Keccak) -> bytes:
    """Whisper's own hash: Keccak-256 of all bytes of the envelope (its id here is SHA-256)."""
    return keccak(raw)


def work_prefix(expiry_s: int, ttl_s: int, topic: bytes, data: bytes) -> bytes:
    """r: what a miner hashes in front of the 8-byte big-endian nonce."""
    return scan(assemble(expiry_s, ttl_s, topic, data, 0)).work


def leading_zeros(digest: bytes) -> int:
    """Leading zero bits of a digest: 256 for one of 32 zero bytes."""
    return 8 * len(digest) - int.from_bytes(digest, "big").bit_length()


def has_work(zeros: int, work_bytes: int, lifetime_s: int, floor_millionths: int) -> bool:
    """Whether 2^zeros / work_bytes / lifetime_s ≥ floor / 10^6, by integers.

    A lifetime of 0 passes any floor, as it does in geth (+Inf): who asks refuses TTL 0 first.
    """
    return (1_000_000 << zeros) >= floor_millionths * work_bytes * lifetime_s


def zeros_for(work_bytes: int, lifetime_s: int, floor_millionths: int) -> int:
    """The fewest leading zero bits that reach the floor; 2^that is the hashes to expect."""
    need = floor_millionths * work_bytes * lifetime_s
    tries = max(1, -(-need // 1_000_000))
    return (tries - 1).bit_length()
