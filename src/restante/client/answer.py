"""An answer: verified envelopes in order, and then what may be said of them."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from restante import limits
from restante.client.reading import Reader
from restante.client.roster import Complaint, Roster
from restante.formats.entry import LogEntry
from restante.formats.page import topic_key
from restante.rules.query import Found, Place, Plan, Ranges, Sight, in_order, sight, waits_for
from restante.rules.verify_segment import READERS


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
    complaints: tuple[Complaint, ...]
    """What was held against sources during the call."""

    @property
    def complete_to_window(self) -> int:
        """W: the last window that the answer covers; -1 if there is none."""
        return self.size - 1


class Answer(Iterator[Found]):
    """The envelopes of a query by (sent time, id), each once.

    It reads ahead by some segments, and holds the envelopes of K windows at most. An error ends it
    (Unverifiable, Missing, SetFault); `cursor` then still goes on behind what was returned.
    """

    def __init__(self, plan: Plan, reader: Reader, roster: Roster, workers: Executor) -> None:
        self._plan = plan
        self._reader = reader
        self._roster = roster
        self._workers = workers
        self._counts: Counter[bytes] = Counter()
        self._last = plan.after
        self._pending: deque[tuple[int, Future[list[Found]] | None]] = deque()
        self._found = in_order(self._batches(), reader.descriptor.final_before_s)
        self._summary: Summary | None = None

    def __iter__(self) -> "Answer":
        return self

    def __next__(self) -> Found:
        if self._summary is not None:
            raise StopIteration
        limit = self._plan.query.limit
        if limit is not None and self._counts.total() >= limit:
            self._end(exhausted=False)
            raise StopIteration
        try:
            found = next(self._found)
        except StopIteration:
            self._end(exhausted=True)
            raise
        except BaseException:
            self.close()
            raise
        self._counts[found.topic] += 1
        self._last = Place(found.sent_s, found.id)
        return found

    @property
    def cursor(self) -> str:
        """Goes on behind the envelope returned last."""
        ended = self._summary is not None and self._summary.exhausted
        return self._plan.cursor(None if ended else self._last or Place(0, bytes(32)))

    @property
    def summary(self) -> Summary:
        """What the answer claims; RuntimeError before its end was reached."""
        if self._summary is None:
            raise RuntimeError("the answer was not read to its end")
        return self._summary

    def close(self) -> None:
        """Read no further."""
        for _, future in self._pending:
            if future is not None:
                future.cancel()
        self._pending.clear()

    # --- reading ----------------------------------------------------------------------------

    def _batches(self) -> Iterator[tuple[int, Iterable[Found]]]:
        """(window, what of it belongs to the answer) of all windows to be read, in order."""
        for window in self._plan.windows:
            entry = self._reader.entry(window)
            wanted = self._plan.may_hold(entry.sent_min, entry.sent_max)
            future = self._workers.submit(self._read, entry) if wanted else None
            self._pending.append((window, future))
            while len(self._pending) > limits.CLIENT_WORKERS:
                yield self._taken()
        while self._pending:
            yield self._taken()

    def _taken(self) -> tuple[int, Iterable[Found]]:
        window, future = self._pending[0]
        found = () if future is None else future.result()
        # Only now: what an error leaves behind is still to be cancelled.
        self._pending.popleft()
        return window, found

    def _read(self, entry: LogEntry) -> list[Found]:
        query = self._plan.query
        read = READERS[self._reader.descriptor.network]
        keys = {topic_key(self._plan.set_id, topic) for topic in query.topics}
        found: list[Found] = []
        for member in self._reader.members(entry, query.mode, query.topics):
            if keys and member.topic_key not in keys:
                continue
            one = Found(member.sent_s, member.id, read(member.raw).topic, member.window, member.raw)
            if self._plan.keeps(one):
                found.append(one)
        return found

    def _end(self, *, exhausted: bool) -> None:
        self.close()
        plan, d = self._plan, self._reader.descriptor
        seen = self._sight()
        asked = dict.fromkeys(sorted(set(plan.query.topics)), 0)
        whole = exhausted and plan.after is None
        absent = tuple(topic for topic in asked if not self._counts[topic]) if whole else None
        after = None if exhausted else self._last
        self._summary = Summary(
            exhausted=exhausted,
            since=plan.since,
            size=plan.size,
            final_before_s=d.final_before_s(plan.size - 1),
            waits_for=waits_for(plan.query, d, plan.size),
            blind=seen.blind,
            unknown=seen.unknown,
            counts=asked | dict(self._counts),
            absent=absent,
            cursor=plan.cursor(after),
            requests=self._roster.requests,
            bytes_fetched=self._roster.bytes_fetched,
            complaints=self._roster.complaints,
        )

    def _sight(self) -> Sight:
        covered = self._plan.covered
        if not covered:
            return Sight((), ())
        notes = self._reader.watch_notes(self._plan.size)
        return sight(notes, covered, self._reader.descriptor)
