"""What of the index a request gets, in the order of sent times, read slice by slice.

A request speaks of sent times, and the index stands by arrival. Asked for is what was sent in
[lower, upper], and besides, whenever it was sent, what came into the index too late for the request
that ended at `lower`: an older server never finds that again.

Slices are runs of windows, each a query of its own in the cheapest mode that tells no stranger what
a client asked for: by topic where the sources are the operator's own, by bucket else. They are
twice as long each time, so that a page of a busy topic reads little and a rare topic over a month
few slices. What the windows of a later slice may still precede (R0) waits for it.
"""

from bisect import bisect_left
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from operator import attrgetter

from restante import limits
from restante.client import Missing
from restante.client.aio import AsyncTrusted
from restante.formats.descriptor import Descriptor
from restante.networks.whisper import bloom
from restante.networks.whisper.mail_request import MailRequest
from restante.node.mailserver.topics import TopicBook
from restante.rules.query import Cursor, Found, Mode, Place, Query

# Above this part of the envelopes, reading all is cheaper than looking for theirs.
_MOST_SHARE = 0.4
_BEGINNING = Place(0, bytes(32))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request against one tree size."""

    request: MailRequest
    size: int
    """W + 1: windows from here on do not belong to the answer."""
    late_from: int
    """Of windows from this one on, what was sent before `lower_s` belongs to it too."""
    after: Place | None = None
    """What comes before or at this place was given earlier."""
    by_topic: Mode = "bucket"
    """How topics are looked for: `exact` tells the sources which ones."""

    def takes(self, found: Found) -> bool:
        """Whether it belongs to the answer; `after` is the query's own."""
        asked = self.request
        if found.sent_s > asked.upper_s:
            return False
        if found.sent_s < asked.lower_s and found.window < self.late_from:
            return False
        if asked.topics:
            return found.topic in asked.topics
        return asked.bloom == bloom.FULL or bloom.matches(asked.bloom, bloom.sample(found.topic))

    def windows(self, d: Descriptor) -> range:
        """Those that can hold what is left (R0)."""
        asked = self.request
        greatest = min(asked.upper_s, limits.DESCRIPTOR_TIME_MAX_S - 1)
        span = d.windows_for_sent(asked.lower_s, greatest)
        first = min(self.late_from, span.start)
        if self.after is not None:
            first = max(first, d.windows_for_sent(self.after.sent_s, greatest).start)
        return range(first, max(first, min(span.stop, self.size)))


async def history(
    trusted: AsyncTrusted, wanted: Wanted, book: TopicBook
) -> AsyncGenerator[list[Found], None]:
    """The envelopes of the answer by (sent time, id), each once, in runs; close it when enough were
    taken.

    Windows that no source keeps any more are passed over, as by a server that has pruned them.
    Raises what iterating a client's answer raises.
    """
    d = trusted.descriptor
    left, width = wanted.windows(d), limits.MAIL_SLICE_WINDOWS
    held: list[Found] = []
    while left:
        part = _slice(left, width, book)
        query = _query(wanted, part, book)
        if query is not None and query.mode == "all":
            part = _slice(left, min(width, limits.MAIL_SLICE_ALL_WINDOWS), book)
            query = _query(wanted, part, book)
        left, width = range(part.stop, left.stop), 2 * width
        # What later windows may still precede waits for them.
        final_s = d.final_before_s(part.stop - 1) if left else None
        waiting: list[Found] = []
        async with aclosing(_read(trusted, wanted, part, query)) as runs:
            async for run in runs:
                before = bisect_left(held, _order(run[-1]), key=_order)
                if before:
                    run = sorted(held[:before] + run, key=_order)  # noqa: PLW2901
                    del held[:before]
                ready = _until(run, final_s)
                waiting += run[ready:]
                if ready:
                    yield run[:ready]
        ready = _until(held, final_s)
        if ready:
            yield held[:ready]
        held = waiting + held[ready:]


def _order(found: Found) -> tuple[int, bytes]:
    return found.sent_s, found.id


def _until(run: Sequence[Found], final_s: int | None) -> int:
    """How many of a run are final."""
    if final_s is None or not run or run[-1].sent_s < final_s:
        return len(run)
    return bisect_left(run, final_s, key=attrgetter("sent_s"))


def _slice(left: range, width: int, book: TopicBook) -> range:
    """The first windows of `left`, up to where roll-ups end, known wholly to the book or not."""
    stop = min((left.start // width + 1) * width, left.stop)
    for edge in (book.low, book.high):
        if left.start < edge < stop:
            stop = edge
    return range(left.start, stop)


async def _read(
    trusted: AsyncTrusted, wanted: Wanted, part: range, query: Query | None
) -> AsyncGenerator[list[Found], None]:
    while query is not None and part:
        answer = trusted.query(pinned(query, part, trusted.descriptor, wanted.after))
        try:
            while found := await answer.next_run():
                if run := [each for each in found if wanted.takes(each)]:
                    yield run
            return
        except Missing as error:
            # Its windows come first, so nothing was given yet.
            if error.lost is None or error.lost[1] <= part.start:
                raise
            part = range(min(error.lost[1], part.stop), part.stop)
            query = replace(query, since=part.start)
        finally:
            await answer.aclose()


def _query(wanted: Wanted, part: range, book: TopicBook) -> Query | None:
    """The cheapest query that holds what is wanted of a slice; None if nothing is."""
    asked = wanted.request
    topics = asked.topics
    mode: Mode = wanted.by_topic if topics else "all"
    if not topics and asked.bloom != bloom.FULL and book.knows(part):
        found = book.matching(asked.bloom, part)
        if not found.topics:
            return None
        if found.share <= _MOST_SHARE and len(found.topics) <= limits.QUERY_TOPICS:
            topics, mode = found.topics, wanted.by_topic
    sent_to_s = min(asked.upper_s + 1, limits.DESCRIPTOR_TIME_MAX_S)
    return Query(topics, since=part.start, sent_to_s=sent_to_s, mode=mode)


def pinned(query: Query, windows: range, d: Descriptor, after: Place | None = None) -> Query:
    """The query for windows alone, however large the tree is; `since` is their first."""
    cursor = Cursor(d.set_id, query.hash(), query.since, windows.stop, after or _BEGINNING)
    return replace(query, cursor=cursor.text())
