"""Bloom filters over topics, as geth builds and tests them: 64 bytes, three bits a topic.

Bit j of a topic is topic[j], plus 256 where bit j of topic[3] is set. A filter is held as an
integer whose bit i is bloom bit i (byte i // 8, lowest bit first), so that a test is one operation.

geth *assigns* each bit to its byte, it does not add it: where two of the three fall into one byte,
only the later one is left (4 % of all topics). Testing an envelope does the same, since fewer bits
never miss a peer that wants it; a filter that is sent has all three, so that it asks for enough.
"""

from collections.abc import Iterable
from functools import lru_cache

from restante import limits
from restante.errors import InvalidEncoding

FILTER_BYTES = 64
FULL = (1 << 8 * FILTER_BYTES) - 1
"""The filter of a full node: everything matches."""


@lru_cache(maxsize=limits.BLOOM_TOPICS_CACHED)
def sample(topic: bytes) -> int:
    """The bits that an envelope of this topic (4 bytes) is tested by: one to three, as in geth."""
    first, second, third = _bits(topic)
    bits = 1 << third
    if second >> 3 != third >> 3:
        bits |= 1 << second
    if first >> 3 != second >> 3 and first >> 3 != third >> 3:
        bits |= 1 << first
    return bits


def of_topics(topics: Iterable[bytes]) -> int:
    """The filter to send for these topics (4 bytes each); of none it is 0, which nothing passes."""
    bits = 0
    for topic in topics:
        for bit in _bits(topic):
            bits |= 1 << bit
    return bits


def matches(filter_: int, sample_: int) -> bool:
    """Whether an envelope of this sample passes the filter. A request's filter 0 takes nothing."""
    return not sample_ & ~filter_


def decode(data: bytes) -> int:
    """The filter that 64 bytes stand for. Raises InvalidEncoding `bloom-length`."""
    if len(data) != FILTER_BYTES:
        raise InvalidEncoding(f"a filter of {len(data)} bytes, it has 64", code="bloom-length")
    return int.from_bytes(data, "little")


def encode(filter_: int) -> bytes:
    """The 64 bytes of a filter."""
    return filter_.to_bytes(FILTER_BYTES, "little")


def _bits(topic: bytes) -> tuple[int, int, int]:
    if len(topic) != 4:
        raise InvalidEncoding(f"a topic of {len(topic)} bytes, it has 4", code="topic-length")
    high = topic[3]
    return (
        topic[0] | (high & 1) << 8,
        topic[1] | (high & 2) << 7,
        topic[2] | (high & 4) << 6,
    )
