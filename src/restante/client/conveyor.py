"""Many objects read side by side, and handed on in the order of their windows.

Every object is a machine of its own, and a round is what all of them ask for next: so the requests
that wait for each other are those of one object, however many there are. How far it reads ahead is
bounded by objects and by bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from restante import limits
from restante.client.machine import Machine, Round, Running, SourceLeft, carry_on
from restante.client.roster import Standing, Standings
from restante.rules.query import Found


class Job(NamedTuple):
    """An object to be read."""

    windows: range
    """What of the query it answers."""
    start: "Callable[[], Machine[Outcome]]"


class Instead(NamedTuple):
    """Other objects that answer these windows, and perhaps some after them."""

    windows: range
    jobs: list[Job]


Outcome: TypeAlias = list[Found] | Instead


@dataclass(slots=True)
class _Item:
    job: Job
    depth: int
    """Requests that had to be answered, one after the other, before it was known."""
    brought: int = 0
    """Bytes that it holds before it asks for any."""
    running: Running[Outcome] | None = None
    asked: int = 0
    """Bytes that it asked for last."""
    found: list[Found] | None = None
    """What it came to."""


class Conveyor:
    """The objects of a query, from its first window to its last."""

    def __init__(
        self,
        windows: range,
        job_at: Callable[[range], Job],
        standings: Standings,
        *,
        growth: int,
        depth: int,
    ) -> None:
        """`job_at` gives the first object of windows that are left.

        It begins with CLIENT_WORKERS objects at once; `growth` times as many are read whenever some
        turned out right, up to CLIENT_AHEAD.
        """
        self._left = windows
        self._job_at = job_at
        self._standings = standings
        self._growth = growth
        self._width = limits.CLIENT_WORKERS
        self._proved = False
        self._first = depth
        self._items: list[_Item] = []
        self.depth = depth
        """The longest chain of requests each of which needed the answer before it."""
        self.beside: Running[None] | None = None
        """A machine that takes part in the rounds, with nothing to hand on."""

    def batches(self) -> Machine[list[tuple[int, list[Found]]]]:
        """(last window, what was found up to it) of the objects that are done next; none at the
        end.

        Raises the error of the first object that is not.
        """
        while True:
            self._fill()
            if done := list(self._take()):
                return done
            if not self._items:
                return []
            yield from self._round()

    def close(self) -> None:
        """Read no further."""
        for item in self._items:
            if item.running is not None:
                item.running.close()
        self._items.clear()
        self._left = range(0)

    # --- the queue ----------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin with as many objects as may be read at once.

        What an index led to is not counted: it is of the object that was.
        """
        at = begun = 0
        while True:
            if at == len(self._items):
                if not self._left or begun >= self._width:
                    return
                job = self._job_at(self._left)
                self._left = range(job.windows.stop, self._left.stop)
                self._items.append(_Item(job, self._first))
            item = self._items[at]
            if item.running is None:
                item.running = Running(item.job.start())
            if not self._replaced(at):
                begun += item.depth == self._first
                at += 1

    def _replaced(self, at: int) -> bool:
        """Put other objects in the place of one that says so, and of those they make needless."""
        item = self._items[at]
        running = item.running
        if running is None or not running.done or item.found is not None or running.error:
            return False
        self._proved = self._proved or running.steps > 0
        outcome = running.result
        if not isinstance(outcome, Instead):
            item.found = outcome
            return False
        stop = outcome.windows.stop
        after = at + 1
        while after < len(self._items) and self._items[after].job.windows.start < stop:
            if (needless := self._items[after].running) is not None:
                needless.close()
            after += 1
        depth = item.depth + running.steps
        brought = _ROWS * item.asked // (len(outcome.jobs) + 1)
        items = [_Item(job, depth, brought) for job in outcome.jobs]
        # Where nothing is left to read of them, these windows are done all the same.
        items.append(_Item(Job(outcome.windows[-1:], _nothing), depth))
        self._items[at:after] = items
        self._left = range(max(self._left.start, stop), max(self._left.stop, stop))
        return True

    def _take(self) -> Iterator[tuple[int, list[Found]]]:
        while self._items:
            item = self._items[0]
            if item.running is None or not item.running.done:
                return
            if item.running.error is not None:
                raise item.running.error
            del self._items[0]
            yield item.job.windows.stop - 1, item.found or []

    # --- rounds -------------------------------------------------------------------------------

    def _round(self) -> Machine[None]:
        if self._proved:
            self._width = min(self._width * self._growth, limits.CLIENT_AHEAD)
            self._proved = False
        waiting: list[Running[Any]] = []
        held = sum(item.brought + item.asked for item in self._items)
        for item in self._items:
            running = item.running
            if running is None or not self._ask_others(running):
                continue
            more = _cost(running.asks) - item.asked
            # The first one always: it is what the answer waits for.
            if waiting and held + more > limits.CLIENT_AHEAD_BYTES:
                continue
            held += more
            item.asked += more
            self.depth = max(self.depth, item.depth + running.steps)
            waiting.append(running)
        if self.beside is not None and not self.beside.done:
            self.depth = max(self.depth, self._first + self.beside.steps)
            waiting.append(self.beside)
        if waiting:
            yield from carry_on(waiting)

    def _ask_others(self, running: Running[Outcome]) -> bool:
        """Whether it waits for answers; of a source that was left it does no more."""
        if self._standings.any_left:
            while any(self._standings.standing(a.source) is Standing.LEFT for a in running.asks):
                running.throw(SourceLeft())
        return not running.done


# An entry bundle has some 50 KB; what a source may send at most would keep everything else waiting.
_FILE_BYTES = 64 * 1024


# Rows of an index take some six times as much in memory as in its blocks.
_ROWS = 6


def _cost(asks: Round) -> int:
    return sum(_FILE_BYTES if ask.length is None else ask.most for ask in asks)


def _nothing() -> Machine[Outcome]:
    yield from ()
    return []
