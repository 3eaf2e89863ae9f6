"""Whether this machine's clock is off against those of its peers. Pure.

Two witnesses. The *ages* (arrival less sent time) of fresh envelopes: gossip takes a second or two,
so that ages around 30 s say that our clock is ahead by as much, and negative ones that it is
behind.
And peers' word: status-go answers a packet with "time not synced" where ours is out of time there.

Old envelopes alone prove nothing: an honest peer brings them when its own links were cut, others
whenever they like. So all that comes within a moment is one age, the one that speaks best for our
clock; one fresh envelope speaks for it more than all old ones of that peer against; and the
operator is told what most of those say that bring any, two at least unless there is but one. What
is *sent* depends on it only where most of all peers say so and none says otherwise (`agreed`). Who
lies gains little: `vouched` (below) is decided by the others.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median_high, median_low
from typing import NamedTuple

from restante import limits

# A clock that is behind shows in what comes from the future: half of it by so much. Authors' own
# clocks are off, too, and so it takes half of what comes.
BEHIND_S = 3.0
# A clock that is ahead shows in what is old: mining after the time was written takes seconds, and
# relaying one, so that it takes all that comes, and more of a difference.
AHEAD_S = 5.0
# A word costs a stranger one message: no one peer's is believed.
COMPLAINTS_MIN = 2
# Envelopes of others that arrived in time, for each out of time, before a peer alone is at fault.
VOUCHED_RATIO = 3
VOUCHED_MIN = 5

OUT_OF_TIME = frozenset({"future", "expired", "very-old"})
"""Refusals that a clock which is off may cause."""


class Skew(NamedTuple):
    """What the witnesses say.

    off_s: our clock less the peers', about; None if it seems right or too little is known;
    ages: how many ages that rests on; peers: how many peers they came from; complaints: peers that
    said "time not synced" lately; agreed: whether most of all peers here say so, and none other;
    blamed: whether several peers complain, and they are most of those here.
    """

    off_s: float | None
    ages: int
    peers: int
    complaints: int
    agreed: bool = False
    blamed: bool = False

    @property
    def seems_off(self) -> bool:
        return self.off_s is not None or self.blamed


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
        if self._ages and now_s - self._ages[-1][0] < limits.SKEW_MOMENT_S:
            began_s, best_s = self._ages.pop()
            self._ages.append((began_s, min(best_s, age_s, key=abs)))
        else:
            self._ages.append((now_s, age_s))
        if not in_time:
            self._out_of_time.append(now_s)
        elif -BEHIND_S <= age_s <= AHEAD_S:  # a long TTL is taken by a clock that is off, too
            self._in_time.append(now_s)

    def complained(self, now_s: float) -> None:
        """It said that what we sent is out of time."""
        self._complained_s = now_s

    def ages(self, now_s: float) -> list[float]:
        """The best of each moment, oldest first."""
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
    """What all peers that are here say together."""
    found = [ages for each in witnesses if (ages := sorted(each.ages(now_s)))]
    sure = [ages for ages in found if len(ages) >= limits.SKEW_MIN_AGES]
    complaints = sum(witness.complains(now_s) for witness in witnesses)
    off_s, agreed = None, False
    if len(sure) >= min(2, len(found)) > 0:
        # Of two in the middle, the one that says less: half of the peers convince nobody.
        if median_low(ages[0] for ages in sure) > AHEAD_S:
            off_s = median_low(ages[len(ages) // 4] for ages in sure)
            agreed = all(ages[0] > AHEAD_S for ages in found)
        elif (middle_s := median_high(ages[len(ages) // 2] for ages in sure)) < -BEHIND_S:
            off_s = middle_s
            agreed = all(ages[len(ages) // 2] < -BEHIND_S for ages in found)
    agreed = agreed and 2 * len(sure) > len(witnesses)
    blamed = complaints >= COMPLAINTS_MIN and 2 * complaints > len(witnesses)
    return Skew(off_s, sum(map(len, sure)), len(sure), complaints, agreed, blamed)


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
