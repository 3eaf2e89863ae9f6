"""Why a link ends: devp2p's numbers, and our own words for what they do not say."""

from enum import IntEnum
from typing import NamedTuple

from restante.errors import InvalidEncoding
from restante.formats import rlp


class Reason(IntEnum):
    """The reasons of a Disconnect, as devp2p numbers them."""

    REQUESTED = 0x00
    NETWORK_ERROR = 0x01
    BREACH_OF_PROTOCOL = 0x02
    USELESS_PEER = 0x03
    TOO_MANY_PEERS = 0x04
    ALREADY_CONNECTED = 0x05
    INCOMPATIBLE_VERSION = 0x06
    INVALID_IDENTITY = 0x07
    QUITTING = 0x08
    UNEXPECTED_IDENTITY = 0x09
    SELF = 0x0A
    READ_TIMEOUT = 0x0B
    SUBPROTOCOL_ERROR = 0x10

    @property
    def label(self) -> str:
        """`too-many-peers` and the like: a code for counters and rows."""
        return self.name.lower().replace("_", "-")


class Left(NamedTuple):
    """Why a link ended.

    code: a reason's label, or in our own words: what broke the protocol (`handshake`, `bad-mac`,
    `frame-size`, `hello`, `code`, `snappy`, `message-size`), who was not heard (`lost`,
    `handshake-timeout`, `silent`, `never-reads`), where there was no place (`barred`, `too-often`,
    `too-many-of-address`, `crowded-out`, `unfinished-too-large`), or a peer that gave no known
    reason (`unexplained`, `unknown-reason`). detail: a sentence; ours: we ended it; reason: the
    number of the Disconnect that was sent or received, None where there was none.
    """

    code: str
    detail: str
    ours: bool
    reason: int | None = None


def encode(reason: Reason) -> bytes:
    """A Disconnect's payload."""
    return rlp.encode([rlp.encode_uint(reason)])


def decode(payload: bytes) -> int | None:
    """The number in a Disconnect's payload: a list that begins with it, the bare number, or nothing
    at all (all three are sent). None for nothing, and for what is no number: whoever says good-bye
    badly has still said it."""
    try:
        item = rlp.decode(payload, max_depth=1, max_items=8)
        first = item[0] if isinstance(item, list) and item else item
        # geth before 1.9 writes a zero where an empty string would be canonical: not read as one.
        return rlp.to_uint(first, 1) if isinstance(first, bytes) else None
    except InvalidEncoding:
        return 0 if payload in (b"\x00", b"\xc1\x00") else None


def theirs(number: int | None) -> Left:
    """What a peer's Disconnect stands for."""
    if number is None:
        return Left("unexplained", "the peer left without a reason", ours=False)
    try:
        label = Reason(number).label
    except ValueError:
        return Left("unknown-reason", f"the peer left for reason {number:#04x}", False, number)
    return Left(label, f"the peer left: {label} ({number:#04x})", False, number)
