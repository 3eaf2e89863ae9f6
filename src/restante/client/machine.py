"""The client's decisions as generators that do no I/O: they yield requests and are sent answers.

A machine yields a *round*: requests that do not need each other's answers, to be carried out at
once. Its driver sends back, for each request in order, the bytes or the error. What a machine
returns is its result. `drive` (threads) and `aio` (asyncio) are the drivers.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from restante.errors import RestanteError

T = TypeVar("T")


class Named(Protocol):
    """A source, of which a machine knows the name alone; each driver has its own kinds of them."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a file, or a range of it."""

    source: Named
    path: str
    max_bytes: int
    """More than that is refused."""
    offset: int = 0
    length: int | None = None
    """None for all from `offset` on."""
    enough: Callable[[bytes], bool] | None = None
    """Once one of a round's requests that have this was answered by what is enough, the others that
    have it get `limits.CHECKPOINT_PATIENCE_S` more."""

    queued: bool = False
    """Whether it could have been asked for earlier, and only waited for its turn."""

    @property
    def most(self) -> int:
        """Bytes that the answer has at most."""
        return self.max_bytes if self.length is None else min(self.length, self.max_bytes)


Round: TypeAlias = Sequence[Ask]
Reply: TypeAlias = bytes | RestanteError
Machine: TypeAlias = Generator[Round, Sequence[Reply], T]
"""Its rounds are never empty."""


class SourceLeft(Exception):
    """Thrown into a machine whose source was left for another lie: it goes to the next one."""


def got(reply: Reply) -> bytes:
    """The bytes of a reply; raises its error."""
    if isinstance(reply, RestanteError):
        raise reply
    return reply


class Running(Generic[T]):
    """A machine that was started: what it asks next, or what it came to."""

    def __init__(self, machine: Machine[T]) -> None:
        self._machine = machine
        self._result: T | None = None
        self.asks: Round = ()
        """What it waits for; empty once it is done."""
        self.error: Exception | None = None
        self.steps = 0
        """Rounds that needed the answers of the one before."""
        self._resume(lambda: next(machine))

    @property
    def done(self) -> bool:
        """Whether it has a result or an error."""
        return not self.asks

    @property
    def result(self) -> T:
        """What it came to; raises its error."""
        if self.error is not None:
            raise self.error
        return cast(T, self._result)

    def send(self, replies: Sequence[Reply]) -> None:
        """Go on with the answers to `asks`."""
        self._resume(lambda: self._machine.send(replies))

    def throw(self, error: Exception) -> None:
        """Go on with an error in place of answers."""
        self._resume(lambda: self._machine.throw(error))

    def close(self) -> None:
        """Give it up."""
        self._machine.close()
        self.asks = ()

    def _resume(self, step: Callable[[], Round]) -> None:
        self.asks = ()
        try:
            self.asks = step()
            self.steps += not all(ask.queued for ask in self.asks)
        except StopIteration as end:
            self._result = end.value
        except Exception as error:
            self.error = error


def carry_on(running: Sequence[Running[Any]]) -> Machine[None]:
    """One round for several machines; what two of them ask for is asked for once."""
    asks = list(dict.fromkeys(ask for each in running for ask in each.asks))
    replies = dict(zip(asks, (yield asks), strict=True))
    for each in running:
        each.send([replies[ask] for ask in each.asks])


def together(machines: Iterable[Machine[T]]) -> Machine[list[T]]:
    """Run machines side by side, a round of all of them at a time; the first error ends them."""
    running = [Running(machine) for machine in machines]
    try:
        while waiting := [each for each in running if not each.done]:
            try:
                yield from carry_on(waiting)
            except SourceLeft as left:
                for each in waiting:
                    each.throw(left)
            for each in running:
                if each.error is not None:
                    raise each.error
        return [each.result for each in running]
    finally:
        for each in running:
            each.close()
