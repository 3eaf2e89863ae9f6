"""How an answer comes about: envelopes in order, and then what may be said of them. No I/O."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

from restante.client.conveyor import Conveyor
from restante.client.log import Log
from restante.client.machine import Machine, Running, carry_on
from restante.client.reading import Reader
from restante.client.roster import Complaint, Standings
from restante.client.watching import WatchNotes
from restante.rules.query import Found, Order, Place, Plan, Ranges, Sight, sight, waits_for
from restante.rules.verify import TrustedArchive


class Cost(NamedTuple):
    """What was asked for so far."""

    requests: int
    bytes_fetched: int


NOTHING = Cost(0, 0)


@dataclass(frozen=True, slots=True)
class Summary:
    """What an answer claims, each of it by the checkpoint of `size`."""

    exhausted: bool
    """Whether all that was asked for was returned; else a limit ended it, and `cursor` goes on."""
    since: int
    """First window that the answer covers."""
    size: int
    """Tree size: the answer covers windows [since, size)."""
    final_before_s: int
    """No later window can hold what was sent before this (R0), unix seconds."""
    waits_for: tuple[int, int | None] | None
    """Windows [a, b) that may still bring what was asked for; b is None without an upper bound of
    sent times; None if the answer is final."""
    blind: Ranges
    """Windows that too few validators watched: what they do not hold may have been there."""
    unknown: Ranges
    """Windows of which too few watch notes speak: "watch unknown"."""
    counts: dict[bytes, int]
    """Topic → envelopes in this answer, for every topic asked for and every one found."""
    absent: tuple[bytes, ...] | None
    """Topics asked for of which the covered windows hold nothing; None if the answer is only a part
    of what was asked for, and so cannot say."""
    cursor: str
    """Goes on behind this answer; at its end it asks for what comes after."""
    requests: int
    bytes_fetched: int
    """What was asked for by this answer; the first after a refresh counts that as well."""
    rounds: int
    """The longest chain of requests each of which needed the answer before it: what a long way to
    the sources multiplies. Requests that only wait for their turn are not counted."""
    complaints: tuple[Complaint, ...]
    """What was held against sources during the call."""

    @property
    def complete_to_window(self) -> int:
        """W: the last window that the answer covers; -1 if there is none."""
        return self.size - 1


class Answering:
    """The envelopes of a query by (sent time, id), each once.

    It reads ahead, by as many bytes and objects as `Conveyor` allows, and holds the envelopes of K
    windows and of one object besides. An error ends it; `cursor` then still goes on behind what was
    returned.
    """

    def __init__(
        self,
        plan: Plan,
        archive: TrustedArchive,
        log: Log,
        standings: Standings,
        rounds: int,
        before: Cost = NOTHING,
    ) -> None:
        """`rounds` is how many it took to get here, `before` what is not this answer's cost."""
        self._plan = plan
        self._d = archive.descriptor
        self._standings = standings
        self._before = before
        self._rounds = rounds
        self._counts: Counter[bytes] = Counter()
        self._last: Place | Found | None = plan.after
        self._order = Order(self._d.final_before_s)
        self._ready: deque[Found] = deque()
        self._read = False
        self._error: Exception | None = None
        self._watch = WatchNotes(self._d, plan.size, standings)
        reader = Reader(plan, archive, log, standings)
        # Without a limit all of it will be read; with one perhaps little.
        growth = 4 if plan.query.limit is None else 2
        self._conveyor = Conveyor(plan.windows, reader.job, standings, growth=growth, depth=rounds)
        self.summary: Summary | None = None
        """What the answer claims, once its end was reached."""

    def take(self) -> Found | None:
        """The next envelope, if there is one without asking further; raises the error that ended
        the answer."""
        if self.summary is not None or self._at_limit:
            return None
        if not self._ready:
            if self._error is not None:
                raise self._error
            return None
        found = self._last = self._ready.popleft()
        self._counts[found.topic] += 1
        return found

    def take_all(self) -> list[Found]:
        """All that `take` would give before it gives nothing; raises as it."""
        if self._plan.query.limit is not None or not self._ready or self.summary is not None:
            first = self.take()
            return [] if first is None else [first]
        run = list(self._ready)
        self._ready.clear()
        self._counts.update([found.topic for found in run])
        self._last = run[-1]
        return run

    def advance(self) -> Machine[None]:
        """Read on, where `take` gave nothing; at the end `summary` is there.

        Raises Unverifiable, Missing, SetFault.
        """
        try:
            yield from self._standings.counted(self._advance())
        except Exception as error:
            self.close()
            self._error = error
            raise

    @property
    def cursor(self) -> str:
        """Goes on behind the envelope returned last."""
        ended = self.summary is not None and self.summary.exhausted
        return self._plan.cursor(None if ended else self._place or Place(0, bytes(32)))

    @property
    def _place(self) -> Place | None:
        last = self._last
        return Place(last.sent_s, last.id) if isinstance(last, Found) else last

    def close(self) -> None:
        """Read no further."""
        self._conveyor.close()
        if self._conveyor.beside is not None:
            self._conveyor.beside.close()
        self.give_up()

    def give_up(self) -> None:
        """The same while another thread may still be reading."""
        self._error = self._error or RuntimeError("the answer was closed")

    @property
    def _at_limit(self) -> bool:
        limit = self._plan.query.limit
        return limit is not None and self._counts.total() >= limit

    def _advance(self) -> Machine[None]:
        if self._error is not None:
            raise self._error
        if self._at_limit or self._read:
            yield from self._end(exhausted=not self._at_limit)
            return
        if self._conveyor.beside is None and self._plan.covered:
            self._conveyor.beside = Running(self._watch.read())
        batches = yield from self._conveyor.batches()
        for window, batch in batches:
            self._ready.extend(self._order.push(window, batch))
        if not batches:
            self._ready.extend(self._order.rest())
            self._read = True

    def _end(self, *, exhausted: bool) -> Machine[None]:
        seen = yield from self._sight()
        plan = self._plan
        asked = dict.fromkeys(sorted(set(plan.query.topics)), 0)
        whole = exhausted and plan.after is None
        absent = tuple(topic for topic in asked if not self._counts[topic]) if whole else None
        self.summary = Summary(
            exhausted=exhausted,
            since=plan.since,
            size=plan.size,
            final_before_s=self._d.final_before_s(plan.size - 1),
            waits_for=waits_for(plan.query, self._d, plan.size),
            blind=seen.blind,
            unknown=seen.unknown,
            counts=asked | dict(self._counts),
            absent=absent,
            cursor=plan.cursor(None if exhausted else self._place),
            requests=self._standings.requests - self._before.requests,
            bytes_fetched=self._standings.bytes_fetched - self._before.bytes_fetched,
            rounds=self._conveyor.depth,
            complaints=self._standings.complaints,
        )
        self._conveyor.close()

    def _sight(self) -> Machine[Sight]:
        if not self._plan.covered:
            return Sight((), ())
        watching = self._conveyor.beside or Running(self._watch.read())
        while not watching.done:
            self._conveyor.depth = max(self._conveyor.depth, self._rounds + watching.steps)
            yield from carry_on([watching])
        if watching.error is not None:
            raise watching.error
        self._watch.complain()
        return sight(self._watch.notes, self._plan.covered, self._d)
