"""Whether this machine's clock is off against those of its peers. Pure.

Two witnesses. The *ages* (arrival less sent time) of fresh envelopes: gossip takes a second or two,
so that ages around 30 s say that our clock is ahead by as much, and negative ones that it is
behind.
And peers' word: status-go answers a packet with "time not synced" where ours is out of time there.

Who lies gains little: the operator is told what is not so, and `vouched` (below) is decided by the
others. Ages of one peer count as one witness, the peers' median decides.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from restante import limits

# A clock that is behind shows in what comes from the future: half of it by so much. Authors' own
# clocks are off, too, and so it takes half of what comes.
BEHIND_S = 3.0
# A clock that is ahead shows in what is old: mining after the time was written takes seconds, and
# relaying one, so that it takes three quarters of what comes, and more of a difference.
AHEAD_S = 5.0
# Envelopes of others that arrived in time, for each out of time, before a peer alone is at fault.
VOUCHED_RATIO = 3
VOUCHED_MIN = 5

OUT_OF_TIME = frozenset({"future", "expired", "very-old"})
"""Refusals that a clock which is off may cause."""


class Skew(NamedTuple):
    """What the witnesses say.

    off_s: our clock less the peers', about; None if it seems right or too little is known;
    ages: how many ages that rests on; peers: how many peers they came from; complaints: peers that
    said "time not synced" lately.
    """

    off_s: float | None
    ages: int
    peers: int
    complaints: int

    @property
    def seems_off(self) -> bool:
        return self.off_s is not None or self.complaints > 0


class Witness:
    """One peer's part, all at monotonic seconds."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._ages: deque[tuple[float, float]] = deque(maxlen=limits.SKEW_AGES)
        self._complained_s: float | None = None
        self._in_time: deque[float] = deque(maxlen=limits.SKEW_AGES)
        self._out_of_time: deque[float] = deque(maxlen=limits.SKEW_AGES)

    def saw(self, age_s: float, in_time: bool, now_s: float) -> None:
        """It brought an envelope of this age, that reception took or found out of time."""
        if now_s - self.since_s < limits.SKEW_FRESH_AFTER_S:
            return  # its pool of old, which says nothing of any clock
        self._ages.append((now_s, age_s))
        if not in_time:
            self._out_of_time.append(now_s)
        elif -BEHIND_S <= age_s <= AHEAD_S:  # a long TTL is taken by a clock that is off, too
            self._in_time.append(now_s)

    def complained(self, now_s: float) -> None:
        """It said that what we sent is out of time."""
        self._complained_s = now_s

    def ages(self, now_s: float) -> list[float]:
        return [age for then, age in self._ages if now_s - then <= limits.SKEW_MEMORY_S]

    def complains(self, now_s: float) -> bool:
        then = self._complained_s
        return then is not None and now_s - then <= limits.SKEW_MEMORY_S

    def counts(self, now_s: float) -> tuple[int, int]:
        """How many it brought lately that are fresh, and that are out of time."""
        since = now_s - limits.SKEW_MEMORY_S
        return (
            sum(then >= since for then in self._in_time),
            sum(then >= since for then in self._out_of_time),
        )


def judge(witnesses: Sequence[Witness], now_s: float) -> Skew:
    """What all of them say together."""
    lower, middle, count = [], [], 0
    for witness in witnesses:
        ages = sorted(witness.ages(now_s))
        if len(ages) >= limits.SKEW_MIN_AGES:
            lower.append(ages[len(ages) // 4])
            middle.append(ages[len(ages) // 2])
            count += len(ages)
    off_s = None
    if lower:
        if median(lower) > AHEAD_S:
            off_s = median(lower)
        elif median(middle) < -BEHIND_S:
            off_s = median(middle)
    complaints = sum(witness.complains(now_s) for witness in witnesses)
    return Skew(off_s, count, len(lower), complaints)


def vouched(others: Sequence[Witness], now_s: float) -> bool:
    """Whether a peer may be cut off for what is out of time: only where what *others* bring shows
    that our clock is right. With a clock that is off, geth would lose every honest peer at once.
    """
    in_time = out_of_time = 0
    for witness in others:
        good, bad = witness.counts(now_s)
        in_time += good
        out_of_time += bad
    return in_time >= max(VOUCHED_MIN, VOUCHED_RATIO * out_of_time)
