"""The messages of shh/6: codes and payloads, strictly read.

    0   status       [6, PoW, bloom, light, confirmations, [3 rate limits]]; status-go's last two
    1   envelopes    [envelope, …]: formats.whisper.parse_packet
    2   PoW          the float64's bits as an integer
    3   bloom        64 bytes
    11  batch taken  Keccak of a code-1 payload
    12  response     [1, [Keccak of the payload, [[envelope hash, code, text], …]]]
    20  rate limits  [packets/s of an address, of a node, of a topic]
    123 … 127        mail servers

Only the version of a status is mandatory; items beyond those known are passed over, as geth and
status-go do. Everything else is refused by name.
"""

import math
from dataclasses import dataclass
from struct import pack, unpack
from typing import NamedTuple, NoReturn

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import rlp
from restante.formats.rlp import Encodable, Item
from restante.networks.whisper import bloom

NAME = "shh"
VERSION = 6
CODES = 128
"""Codes that the protocol takes up; those not named below are passed over."""

STATUS = 0
ENVELOPES = 1
POW = 2
BLOOM = 3
BATCH_TAKEN = 11
RESPONSE = 12
RATE_LIMITS = 20
SYNC_REQUEST = 123
SYNC_RESPONSE = 124
REQUEST_COMPLETE = 125
MAIL_REQUEST = 126
MAIL = 127

# Go's constant counts on with iota; the specification's 1 stands on paper only.
TIME_NOT_SYNCED = 37
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Status:
    """What a node says first.

    pow: the least work it takes, as geth computes it; bloom: a filter of `bloom`, FULL for a full
    node; light: it relays nothing; confirmations: it wants to be told what became of a packet;
    rates: packets per second that it takes of an address, a node, a topic, 0 for any number.
    """

    pow: float = 0.0
    bloom: int = bloom.FULL
    light: bool = False
    confirmations: bool = False
    rates: tuple[int, int, int] = (0, 0, 0)

    def encode(self) -> bytes:
        """The payload; a full node's filter is empty, as geth's is."""
        filter_ = b"" if self.bloom == bloom.FULL else bloom.encode(self.bloom)
        flags = rlp.encode_uint(self.light), rlp.encode_uint(self.confirmations)
        rates = [rlp.encode_uint(rate) for rate in self.rates]
        bits = rlp.encode_uint(_bits(self.pow))
        return rlp.encode([rlp.encode_uint(VERSION), bits, filter_, *flags, rates])

    @classmethod
    def parse(cls, payload: bytes) -> "Status":
        """Raises InvalidEncoding: `status-malformed`, `status-version`, `pow-malformed`,
        `bloom-length`, or a code of rlp.decode."""
        items = _decode(payload)
        if not isinstance(items, list) or not items:
            _refuse("status-malformed", "a status is a list with a version")
        version = _uint(items[0], "status-malformed")
        if version != VERSION:
            _refuse("status-version", f"it speaks version {version}, not {VERSION}")
        known = dict(enumerate(items[1:6]))
        empty: Item = b""
        filter_ = _string(known.get(1, empty), "status-malformed")
        return cls(
            _pow(known.get(0, empty)),
            bloom.decode(filter_) if filter_ else bloom.FULL,
            _uint(known.get(2, empty), "status-malformed") != 0,
            _uint(known.get(3, empty), "status-malformed") != 0,
            _rates(known[4], "status-malformed") if 4 in known else (0, 0, 0),
        )


class Response(NamedTuple):
    """What a peer says of a packet of ours: of how many envelopes that they are out of time, and
    that they are wrong otherwise."""

    out_of_time: int
    other: int


def encode_pow(floor: float) -> bytes:
    """The payload of code 2."""
    return rlp.encode(rlp.encode_uint(_bits(floor)))


def parse_pow(payload: bytes) -> float:
    """The floor that a peer now demands. Raises InvalidEncoding `pow-malformed`, `rlp-…`."""
    return _pow(_decode(payload))


def encode_bloom(filter_: int) -> bytes:
    """The payload of code 3."""
    return rlp.encode(bloom.encode(filter_))


def parse_bloom(payload: bytes) -> int:
    """The filter that a peer now has; it may not be empty here. Raises InvalidEncoding
    `bloom-length`, `rlp-…`."""
    return bloom.decode(_string(_decode(payload), "bloom-length"))


def encode_batch_taken(batch_hash: bytes) -> bytes:
    """The payload of code 11. `batch_hash`: Keccak of the code-1 payload as it came."""
    return rlp.encode(batch_hash)


def parse_batch_taken(payload: bytes) -> bytes:
    """The hash of a packet that a peer took. Raises InvalidEncoding `batch-malformed`, `rlp-…`."""
    return _hash(_decode(payload), "batch-malformed")


def encode_response(batch_hash: bytes, out_of_time: list[bytes]) -> bytes:
    """The payload of code 12. `out_of_time`: Whisper's hashes of envelopes from the future, or
    long expired: either clock may be wrong."""
    errors = [[each, rlp.encode_uint(TIME_NOT_SYNCED), b"time not synced"] for each in out_of_time]
    response: Encodable = [rlp.encode_uint(1), [batch_hash, errors]]
    return rlp.encode(response)


def parse_response(payload: bytes) -> Response:
    """Raises InvalidEncoding `response-malformed`, `rlp-…`."""
    code = "response-malformed"
    item = rlp.decode(
        payload,
        max_bytes=limits.SHH_RESPONSE_MAX_BYTES,
        max_items=limits.SHH_RESPONSE_MAX_ITEMS,
        max_depth=4,
    )
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[1], list):
        _refuse(code, "a response is a version and a body")
    if _uint(item[0], code) != 1:
        return Response(0, 0)  # what later versions say, nobody here knows
    body = item[1]
    if len(body) < 2 or not isinstance(body[1], list):
        _refuse(code, "a response's body is a hash and a list")
    _hash(body[0], code)
    out_of_time = 0
    for error in body[1]:
        if not isinstance(error, list) or len(error) < 2:
            _refuse(code, "an error is a hash, a code and a text")
        _hash(error[0], code)
        out_of_time += _uint(error[1], code) == TIME_NOT_SYNCED
    return Response(out_of_time, len(body[1]) - out_of_time)


def parse_rate_limits(payload: bytes) -> tuple[int, int, int]:
    """As in a status. Raises InvalidEncoding `rates-malformed`, `rlp-…`."""
    return _rates(_decode(payload), "rates-malformed")


def _decode(payload: bytes) -> Item:
    return rlp.decode(payload, max_bytes=limits.SHH_CONTROL_MAX_BYTES, max_depth=4)


def _bits(floor: float) -> int:
    bits: int = unpack(">Q", pack(">d", floor))[0]
    return bits


def _pow(item: Item) -> float:
    bits = _uint(item, "pow-malformed")
    floor: float = unpack(">d", pack(">Q", bits))[0]
    if not math.isfinite(floor) or floor < 0:
        _refuse("pow-malformed", f"a PoW of {floor}")
    return floor


def _rates(item: Item, code: str) -> tuple[int, int, int]:
    if not isinstance(item, list) or len(item) < 3:
        _refuse(code, "rate limits are three integers")
    return _uint(item[0], code), _uint(item[1], code), _uint(item[2], code)


def _uint(item: Item, code: str) -> int:
    return rlp.to_uint(_string(item, code), 8)


def _string(item: Item, code: str) -> bytes:
    if not isinstance(item, bytes):
        _refuse(code, "a list where a string must be")
    return item


def _hash(item: Item, code: str) -> bytes:
    if not isinstance(item, bytes) or len(item) != _HASH_BYTES:
        _refuse(code, "a hash has 32 bytes")
    return item


def _refuse(code: str, message: str) -> NoReturn:
    raise InvalidEncoding(message, code=code)
