"""Models of a network's traffic, window by window: for month.py and what reads its archives.

A window's envelopes follow from the model and the window's number alone, so that any process can
make any window. Arrivals are even, topics are drawn independently by their weight, sizes from the
mix that `SIZES` states. There is no day and night in it, and no conversation: real traffic is
burstier, which makes a fetch log tell more, and quiet hours cheaper.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate

GENESIS_S = 1_795_392_000
"""Midnight UTC: the archives' window 0."""
WINDOW_S = 30
TTL_S = 50
SIZES = ((0.60, 560, 1_100), (0.30, 1_127, 2_253), (0.09, 2_048, 8_192), (0.01, 8_192, 108_000))
"""(share, least, greatest) bytes of data, even in between: 2,048 bytes on average."""
MEAN_BYTES = 2_048
PRODUCTION = (1_043_120, 351_359, 7_892, 4_441)
"""The four busiest topics of status-im's production servers in 30 days of 2019."""
PRODUCTION_REST = 61_034
"""All their other topics together."""
COLD_WINDOWS_OF = (0.1, 0.5, 0.9)
"""Where the cold topic's three envelopes are, as parts of the archive."""

_POOL_BYTES = 1 << 21


@dataclass(frozen=True)
class Traffic:
    """What a network carries.

    per_day: envelopes; topics: how many by Zipf (s = 1), besides the named ones; mean_bytes: of an
    envelope's data; production: the four busiest topics as they were there, the rest by Zipf.
    """

    per_day: int
    topics: int
    mean_bytes: int = MEAN_BYTES
    production: bool = False
    seed: int = 1

    @cached_property
    def ranked(self) -> list[bytes]:
        """The topics by rank, the busiest first; their four bytes follow from the seed."""
        named = len(PRODUCTION) if self.production else 0
        return [_topic(self.seed, f"rank {rank}") for rank in range(self.topics + named)]

    @cached_property
    def weights(self) -> list[float]:
        """Of each rank its share of the traffic, steady and cold topics apart."""
        rest = [1 / rank for rank in range(1, self.topics + 1)]
        if self.production:
            scale = PRODUCTION_REST / sum(rest)
            rest = [*PRODUCTION, *(scale * weight for weight in rest)]
        total = sum(rest)
        return [weight / total for weight in rest]

    @cached_property
    def _cumulative(self) -> list[float]:
        return list(accumulate(self.weights))

    @property
    def steady(self) -> bytes:
        """A topic with one envelope in every window (production's busiest has more)."""
        return self.ranked[0] if self.production else _topic(self.seed, "steady")

    @property
    def cold(self) -> bytes:
        """A topic with three envelopes in all: see `cold_windows`."""
        return _topic(self.seed, "cold")

    @property
    def absent(self) -> bytes:
        """A topic that nobody ever used."""
        return _topic(self.seed, "absent")

    def window(
        self, window: int, cold_windows: Sequence[int] = ()
    ) -> list[tuple[bytes, int, bytes]]:
        """(topic, sent time in unix seconds, envelope) of a window, by arrival."""
        windows_a_day = 86_400 // WINDOW_S
        first = window * self.per_day // windows_a_day
        count = (window + 1) * self.per_day // windows_a_day - first
        rng = random.Random(self.seed << 40 | window)
        topics = rng.choices(self.ranked, cum_weights=self._cumulative, k=count)
        if window in cold_windows and topics:
            topics[-1] = self.cold
        if not self.production and topics:
            topics[0] = self.steady
        start_s, pool, draw = GENESIS_S + window * WINDOW_S, self._pool, rng.random
        made: list[tuple[bytes, int, bytes]] = []
        for place, topic in enumerate(topics):
            length = self._length(draw(), draw())
            at = int(draw() * (_POOL_BYTES - length))
            # The number makes it one of a kind; the rest costs less than random bytes.
            data = (first + place).to_bytes(8, "big") + pool[at : at + length - 8]
            sent_s = start_s + place * WINDOW_S // count - int(4 * draw())
            made.append((topic, sent_s, envelope(topic, sent_s, data)))
        return made

    @cached_property
    def _pool(self) -> bytes:
        return random.Random(self.seed).randbytes(_POOL_BYTES)

    def _length(self, which: float, where: float) -> int:
        for share, least, most in SIZES:
            if which < share:
                return max(16, int((least + where * (most - least)) * self._scale))
            which -= share
        return 16

    @cached_property
    def _scale(self) -> float:
        return self.mean_bytes / MEAN_BYTES


def _topic(seed: int, name: str) -> bytes:
    return sha256(f"{seed} {name}".encode()).digest()[:4]


def envelope(topic: bytes, sent_s: int, data: bytes) -> bytes:
    """What `whisper.assemble` makes with TTL 50, nonce 0, two bytes of data or more; faster."""
    head = _rlp_header(0x80, len(data))
    start = _rlp_header(0xC0, len(data) + len(head) + 12)
    expiry = (sent_s + TTL_S).to_bytes(4, "big")
    return b"".join((start, b"\x84", expiry, b"\x32\x84", topic, head, data, b"\x80"))


def _rlp_header(base: int, length: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = (length.bit_length() + 7) // 8
    return bytes([base + 55 + size]) + length.to_bytes(size, "big")
