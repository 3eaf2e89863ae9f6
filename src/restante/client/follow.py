"""Following a query: what the index holds since it was left, then what comes, nothing twice.

    for news in follow(client, query):
        match news:
            case Came(found, cursor): print(found.sent_s, found.id.hex())
            case Caught(size, cursor): print("complete to window", size - 1)
            case Behind(error): print("nobody answers:", error)

Whoever keeps the newest cursor goes on there after a restart.

The newest checkpoint is asked for again and again; whenever it grew, the windows between are read.
So what a broken link swallowed is found by asking, not by what comes after it: also the last
message of a topic that nothing follows.

"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from restante import limits
from restante.client.archive import Client
from restante.client.roster import Unverifiable
from restante.errors import RestanteError, Unavailable
from restante.rules.query import Found, Query


@dataclass(frozen=True, slots=True)
class Came:
    """An envelope."""

    found: Found
    cursor: str
    """Goes on behind it."""


@dataclass(frozen=True, slots=True)
class Caught:
    """Everything up to a checkpoint was handed out."""

    size: int
    """Its tree size: windows below it are done."""
    cursor: str
    """Goes on from here, also in another process, at any source."""


@dataclass(frozen=True, slots=True)
class Behind:
    """No source gave what is needed; it is asked for again."""

    error: RestanteError


News: TypeAlias = Came | Caught | Behind


class Following:
    """What is asked next, and what has been had. No I/O."""

    def __init__(self, query: Query) -> None:
        """`query.cursor` goes on where an earlier following of the same query was left."""
        self.query = query
        self._size = -1
        self._silent = False

    def grown(self, size: int) -> bool:
        """Whether a checkpoint of this size has anything new."""
        return size > self._size

    def had(self, cursor: str) -> None:
        """What came before this cursor was handed out."""
        self.query = replace(self.query, cursor=cursor)

    def caught(self, size: int, cursor: str) -> Iterator[Caught]:
        """An answer came to its end."""
        self._size = size
        self._silent = False
        self.had(cursor)
        yield Caught(size, cursor)

    def failed(self, error: RestanteError) -> Iterator[Behind]:
        """Say once that nobody answers. Raises an error that asking again does not mend."""
        if not isinstance(error, Unavailable | Unverifiable):
            raise error
        if not self._silent:
            self._silent = True
            yield Behind(error)

    def answered(self) -> None:
        """A checkpoint came, though nothing new."""
        self._silent = False


def follow(
    client: Client,
    query: Query,
    *,
    poll_s: float = limits.FOLLOW_CHECKPOINT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[News]:
    """Everything that answers a query from its `since` or cursor on, for ever.

    Raises SetFault, VerificationFailed `split-view`, ConfigError for a cursor of another query.
    """
    following = Following(query)
    while True:
        try:
            trusted = client.refresh()
            size = trusted.checkpoint.size
            following.answered()
            if following.grown(size):
                answer = trusted.query(following.query)
                for found in answer:
                    yield Came(found, answer.cursor)
                    following.had(answer.cursor)
                yield from following.caught(size, answer.summary.cursor)
        except RestanteError as error:
            yield from following.failed(error)
        sleep(poll_s)
