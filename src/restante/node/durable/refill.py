"""Segments that the archive has lost, put back: from the own stores, the peers, or made again.

The archive is trusted for nothing: the lock says which batch each window has, the log which
roll-up each span, and every byte is hashed against that, whoever kept it.
"""

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby

from restante import limits
from restante.errors import StateError, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, entry_window
from restante.formats.policy import Policy
from restante.node.durable.archive import Changes
from restante.node.durable.elsewhere import Elsewhere
from restante.node.durable.state import State
from restante.node.waiting import in_thread, retries
from restante.node.wire.peers import Peers
from restante.ports import Store

log = logging.getLogger("restante")

_PROGRESS_EVERY = 100


class Refill:
    """Puts lost segments back. `missing` are those that nobody has given yet."""

    def __init__(self, state: State, elsewhere: Elsewhere) -> None:
        self._state = state
        self._elsewhere = elsewhere
        self.missing: list[Span] = []

    async def recent(self) -> bool:
        """Put back what counts for *new*, without which nothing can be judged; whether it is here.

        Where peers do not have it after a few attempts, they may have given it up meanwhile. Raises
        StateError `segment-lost` where the stores have it not and there are no peers.
        """
        async for attempt in retries():
            missing = self._state.missing_recent()
            await self.put_back(Span(0, window, window, 1) for window in missing)
            left = self._state.missing_recent()
            if not left:
                return True
            if not self._elsewhere.has_peers:
                raise StateError(
                    f"the segments of windows {named(left)} are lost: no store has them",
                    code="segment-lost",
                    hint="put copies of these files under archive/segment/, from any mirror or "
                    "gateway's cache; without them nothing new can be judged",
                )
            if attempt == limits.RECENT_ASKS:
                return False
        raise AssertionError("retries never end")

    async def run(self, release: Callable[[], Awaitable[None]]) -> None:
        """Put back whatever is lost of the log as it stands now, until nothing is.

        Roll-ups go before what they are made of, and the newest first: `release` then gives up the
        children that are past their time, which nobody has any more.
        """
        stop = self._state.archive.stop
        look = True
        async for attempt in retries():
            # To look for all that is missing costs a second for each month.
            if look or attempt % limits.REFILL_LOOK_EVERY == 0:
                await self._look(stop, release)
                if not self.missing:
                    return
                look = False
            else:
                await self.put_back(self.missing)
                has = self._state.archive.segments.has
                self.missing = [span for span in self.missing if not has(span.level, span.number)]
                look = not self.missing

    async def _look(self, stop: int, release: Callable[[], Awaitable[None]]) -> None:
        """Find what is missing, and try to put it back, level by level."""
        archive, keeping = self._state.archive, self._state.keeping
        level = len(archive.d.levels)
        while level >= 0:
            await release()
            self.missing = await in_thread(
                lambda: keeping.missing(archive.floor, stop), threading.Event()
            )
            if not self.missing:
                return
            level = min(level, max(span.level for span in self.missing))
            lost = [span for span in self.missing if span.level == level]
            # Of an adopted log the oldest are those that peers give up next.
            await self.put_back(lost if self._state.lock.adopted() else reversed(lost))
            level -= 1

    async def put_back(self, spans: Iterable[Span]) -> None:
        """One attempt at each. Raises OSError."""
        wanted = list(spans)
        for done, span in enumerate(wanted):
            if len(wanted) > _PROGRESS_EVERY and done % _PROGRESS_EVERY == 0:
                log.info("lost segments: %d of %d put back", done, len(wanted))
            try:
                await self._put_back(span)
            except Unavailable as error:
                log.info("lost segment: %s", error)

    async def _put_back(self, span: Span) -> None:
        state = self._state
        if span.level:
            named = entry_window(state.archive.d, span) < state.archive.stop
            cid = state.keeping.rollup(span) if named else None
            if cid is not None:
                await self._elsewhere.rollup(span, cid)
                segments = state.archive.segments
                paths = reversed(segments.paths(span.level, span.number))
                state.outbox.enqueue(Changes(tuple(paths)))
            return
        segment, _ = await self._elsewhere.batch(span.first, state.batch_cid(span.first))
        state.outbox.enqueue(state.archive.put_segment(span.first, segment.cars()))


def make_refill(
    d: Descriptor, policy: Policy, state: State, peers: Peers, stores: Sequence[Store]
) -> Refill:
    """With all that it asks."""
    return Refill(state, Elsewhere(d, policy, state, peers, stores, "refill"))


def named(windows: Sequence[int], most: int = 8) -> str:
    """The first few of some windows, for people."""
    more = f" and {len(windows) - most} more" if len(windows) > most else ""
    return ", ".join(map(str, windows[:most])) + more


def described(spans: Sequence[Span]) -> str:
    """Some segments, for people: the batches by their windows, the rest by their paths."""
    parts = []
    for level, group in groupby(sorted(spans), key=lambda span: span.level):
        what = "batches" if level == 0 else f"roll-ups of level {level}"
        parts.append(f"{what} {named([span.number for span in group])}")
    return ", ".join(parts)
