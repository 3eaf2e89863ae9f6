"""Makes the roll-ups that the machine asks for, one after the other, in a thread beside everything.

What was installed in an earlier life is found by its first part, which appeared last. A child that
is missing or damaged is fetched again and the roll-up tried again: a window's entry waits for it
and never goes without.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from restante.errors import Invalid, RestanteError, StateError, Unavailable
from restante.formats.level import Span, children, entry_window, is_index
from restante.node.durable.rollups import ChildLost, Named
from restante.node.durable.state import State
from restante.node.waiting import Stopped, in_thread, retries
from restante.rules.rollup import is_made

if TYPE_CHECKING:
    from restante.node.validator.driver import ValidatorNode

log = logging.getLogger("restante.validator")


async def _leave(spans: Sequence[Span]) -> None:
    """Nobody gets lost segments back."""


class Rolling:
    """The roll-ups of one validator."""

    def __init__(self, node: "ValidatorNode", state: State) -> None:
        self._node = node
        self._d = node.d
        self._state = state
        self._queue: deque[Span] = deque()
        self._results: dict[Span, bytes | None] = {}
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._stop = threading.Event()
        self.mend: Callable[[Sequence[Span]], Awaitable[None]] = _leave
        """Gets lost segments back, if it can."""
        self.trouble: tuple[Span, RestanteError] | None = None
        """What stands in the way of the roll-up that is next, since its last attempt."""

    def ask(self, span: Span) -> None:
        """A span has ended; its children were asked for before it."""
        self._queue.append(span)
        self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether something is asked for that is not there yet."""
        return bool(self._queue)

    async def settle(self) -> None:
        """Until all is there that was asked for, or there is trouble with some of it."""
        while self._queue and self.trouble is None:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Work until cancelled. Raises OSError."""
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            span = self._queue[0]
            cid = await self._until_made(span)
            self._results[span] = cid
            self._queue.popleft()
            self._moved.set()
            node = self._node
            node.carry(node.machine.rolled_up(span, cid, node.clock.now_ms()))
            self._forget()

    def _forget(self) -> None:
        """Results whose entries are in the archive's log are read there."""
        stop = self._state.archive.stop
        known = [span for span in self._results if entry_window(self._d, span) < stop]
        for span in known:
            del self._results[span]

    async def _until_made(self, span: Span) -> bytes | None:
        async for _ in retries():
            try:
                cid = await in_thread(lambda: self._make(span), self._stop)
            except (Unavailable, Invalid, StateError) as error:
                self._complain(span, error)
                if isinstance(error, ChildLost):
                    await self._mend(error.span)
            else:
                self.trouble = None
                return cid
        raise AssertionError("retries never end")

    async def _mend(self, child: Span) -> None:
        """Get a lost child back: one that the log does not name yet is made again here."""
        cid = self._results.get(child)
        if cid is None:
            await self.mend([child])
            return
        rollups = self._state.rollups

        def make() -> None:
            rollups.make(child, self._children(child), cid, self._go_on)

        try:
            await in_thread(make, self._stop)
        except ChildLost as deeper:
            await self.mend([deeper.span])

    def _complain(self, span: Span, error: RestanteError) -> None:
        if self.trouble is None or self.trouble[0] != span:
            log.warning("roll-up of windows %d to %d: %s", span.first, span.stop - 1, error)
        self.trouble = span, error
        self._moved.set()

    # --- in the thread

    def _make(self, span: Span) -> bytes | None:
        archive, rollups = self._state.archive, self._state.rollups
        entries = [] if is_index(self._d, span.level) else list(archive.log(span.first, span.stop))
        if not is_made(self._d, span, sum(entry.bytes_ for entry in entries)):
            return None
        cid = rollups.found(span, entries)
        if cid is None:
            cid = rollups.make(span, self._children(span), go_on=self._go_on)
        return cid

    def _children(self, span: Span) -> list[Named]:
        """The children: what was found since the last entry that names any, and before it the log.

        Those of a span that ends with its parent are named by the same entry, still to come.
        """
        if span.level == 1:
            return self._state.keeping.children(span)
        rollup = self._state.keeping.rollup
        return [
            Named(child, self._results[child] if child in self._results else rollup(child))
            for child in children(self._d, span)
        ]

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped
