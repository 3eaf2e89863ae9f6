"""Whisper v6: the envelope, the packet of envelopes, Whisper's hash and its proof of work.

    envelope = RLP [expiry u32, TTL u32, topic 4 bytes, data bytes, nonce u64]      EIP-627
    packet   = RLP [envelope, …]                                                   code 1

Keccak is passed in, since it is not in the standard library. The proof of work is geth's of
v1.9.0 and later: r = RLP [expiry, TTL, topic, data], h = keccak(r ‖ nonce as 8 bytes),
pow = 2^(leading zero bits of h) / len(r) / TTL; compared by integers, never by floats.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
    fields, body, nonce_header = rlp.envelope_spans(raw)
    (e0, e1), (t0, t1), (p0, p1), (d0, d1), (n0, n1) = fields
    if p1 - p0 != TOPIC_BYTES:
        raise InvalidEncoding(f"a topic of {p1 - p0} bytes, it has 4", code="topic-length")
    expiry = rlp.to_uint(raw[e0:e1], 4)
    ttl = rlp.to_uint(raw[t0:t1], 4)
    rlp.to_uint(raw[n0:n1], 8)
    work = rlp.list_header(nonce_header - body) + raw[body:nonce_header]
    return Scanned(expiry, ttl, raw[p0:p1], d1 - d0, work, raw[n0:n1].rjust(8, b"\0"))


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
    found = scan(raw)
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
