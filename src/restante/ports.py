"""The ports: what the node and the client ask of the world, and nothing more.

Each has one contract suite in `tests/contract`, which every adapter passes unchanged.
Adapters raise only errors of `restante.errors`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from restante.rules.intake import Verdict


class Clock(Protocol):
    """Wall time or replayed time. Windows, R0 and cosignature times read it; time-outs do not."""

    def now_ms(self) -> int:
        """Unix time in milliseconds; never goes back within one process."""
        ...

    async def sleep_until(self, when_ms: int) -> None:
        """Return once `now_ms() >= when_ms`."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an adapter works, and one sentence for the operator when it does not."""

    ok: bool
    detail: str = ""


class Slot(NamedTuple):
    """One engine entry: its place (from 1, ascending) and its bytes."""

    number: int
    entry: bytes


class Engine(Protocol):
    """Orders opaque entries. It may halt; it cannot fork the index, since nobody trusts it (R5).

    A liar here can withhold, repeat, reorder and invent entries; each validator re-verifies
    every certificate, and cosigns only what is consistent with what it signed before.
    """

    async def append(self, entry: bytes) -> int:
        """Add an entry durably and answer its slot. The same bytes may stand in many slots.

        Raises Unavailable when the outcome is unknown: append again, or look for the entry.
        """
        ...

    async def entries(self, after_slot: int, limit: int) -> Sequence[Slot]:
        """Up to `limit` entries with number > after_slot, ascending; the same at every call."""
        ...

    async def health(self) -> Health: ...

    async def close(self) -> None: ...


class Store(Protocol):
    """Carries the archive's files. Nothing in it is trusted: everything is verified from the
    checkpoint down, so a liar here can withhold and go stale, and is named when it alters."""

    name: str

    async def put(self, path: str, data: bytes) -> None:
        """Durable when it returns. An immutable path that exists with other bytes: Conflict."""
        ...

    async def get(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes from `offset`, at most `length`. Raises Unavailable, code `not-found`."""
        ...

    async def has(self, path: str) -> bool: ...

    async def release(self, path: str) -> None:
        """Give the file up; absent is fine. What is released may go at any time."""
        ...

    async def health(self) -> Health: ...

    async def close(self) -> None: ...


class Arrival(NamedTuple):
    """One envelope as a network brought it."""

    arrival_ms: int
    raw: bytes


class Network(Protocol):
    """A gossip network: what it carries, and a way to send."""

    name: str

    @property
    def connected(self) -> bool:
        """Whether at least one peer (or the trace) feeds us now: unwatched time is not quiet."""
        ...

    def arrivals(self) -> AsyncIterator[Sequence[Arrival]]:
        """Groups of envelopes, not yet judged, in order of arrival from each peer. Ends when the
        network closes.

        The consumer's pace is the flow control: nothing is dropped while it is busy.
        """
        ...

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """What reception said of the group that `arrivals` gave last, in its order, once all that
        was accepted is durable: only that is relayed, and who sent what no peer takes is left."""
        ...

    def send(self, raw: bytes) -> int:
        """Queue an envelope for the network's peers: for how many. 0 where none is there and it
        goes out when one comes; raises Unavailable where it never will."""
        ...

    def resume(self, raws: Sequence[bytes]) -> None:
        """Envelopes that were durable before this network was there, oldest first: where peers
        relay, what still lives of them goes to those that come."""
        ...

    def status(self) -> dict[str, Any]:
        """What an operator asks first, and JSON can say; empty when there is nothing to say."""
        ...

    def reasons(self) -> list[tuple[str, str]]:
        """What is not well: a code and a sentence each, as in `/status`."""
        ...

    def peers(self) -> list[dict[str, Any]]:
        """A row for each peer, those that left lately too."""
        ...

    async def close(self) -> None: ...
