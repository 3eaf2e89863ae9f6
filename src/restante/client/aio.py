"""The client for asyncio: the machines of `restante.client`, driven by an event loop.

    from restante.client.aio import AsyncClient, parse_async_source

    async with AsyncClient(policy, [parse_async_source("https://mail.example")]) as client:
        answer = await client.query(Query(topics=(topic,)))
        async for found in answer:
            print(found.sent_s, found.id.hex())
        print(answer.summary.complete_to_window)

What is verified is verified in a worker thread, so that the event loop goes on meanwhile; folders
and the memory are read there too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from restante import limits
from restante.client.aio_sources import (
    AsyncHttpSource,
    AsyncSource,
    InThread,
    async_sources_of,
    parse_async_source,
)
from restante.client.answering import Answering, Summary
from restante.client.drive import is_enough, too_slow
from restante.client.machine import Ask, Machine, Reply, Round
from restante.client.memory import FolderMemory, Memory
from restante.client.roster import Complaint, Standings
from restante.client.sources import Source, require_sources
from restante.client.state import Absence, State, absence_query, refresh
from restante.errors import Invalid, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.proof import ProofFile
from restante.rules.query import Found, Mode, Query

__all__ = [
    "AsyncAnswer",
    "AsyncClient",
    "AsyncHttpSource",
    "AsyncSource",
    "AsyncTrusted",
    "InThread",
    "parse_async_source",
]

T = TypeVar("T")


async def run(machine: Machine[T]) -> T:
    """What a machine comes to whose sources are `AsyncSource`; raises what it raises."""
    done, value = await asyncio.to_thread(_step, machine, None)
    while not done:
        replies = await _carry_out(value)
        done, value = await asyncio.to_thread(_step, machine, replies)
    return cast(T, value)


def _step(machine: Machine[T], replies: Sequence[Reply] | None) -> tuple[bool, Any]:
    """(whether it is done, its result or its next round). No thread may raise StopIteration."""
    try:
        return False, next(machine) if replies is None else machine.send(replies)
    except StopIteration as end:
        return True, end.value


async def _carry_out(asks: Round) -> list[Reply]:
    tasks = {ask: asyncio.ensure_future(_ask(ask)) for ask in asks}
    try:
        hasty = {task: ask for ask, task in tasks.items() if ask.enough is not None}
        late = await _late(hasty)
        return [too_slow(ask) if task in late else await task for ask, task in tasks.items()]
    finally:
        for task in tasks.values():
            task.cancel()


async def _ask(ask: Ask) -> Reply:
    source = cast(AsyncSource, ask.source)
    try:
        return await source.fetch(
            ask.path, offset=ask.offset, length=ask.length, max_bytes=ask.max_bytes
        )
    except (Invalid, Unavailable) as error:
        return error


async def _late(asks: dict[asyncio.Task[Reply], Ask]) -> set[asyncio.Task[Reply]]:
    """Wait for these; those that took too long after one of them was enough, cancelled."""
    pending = set(asks)
    clock = asyncio.get_running_loop().time
    deadline_s: float | None = None
    while pending:
        left_s = None if deadline_s is None else max(0.0, deadline_s - clock())
        done, pending = await asyncio.wait(
            pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
        if deadline_s is None and any(is_enough(asks[each], each.result()) for each in done):
            deadline_s = clock() + limits.CHECKPOINT_PATIENCE_S
    for each in pending:
        each.cancel()
    return pending


class AsyncAnswer(AsyncIterator[Found]):
    """The envelopes of a query; see `restante.client.Answer`, of which this is the twin."""

    def __init__(self, answering: Answering) -> None:
        """Use `AsyncTrusted.query`."""
        self._answering = answering

    def __aiter__(self) -> "AsyncAnswer":
        return self

    async def __anext__(self) -> Found:
        while (found := self._answering.take()) is None:
            if self._answering.summary is not None:
                raise StopAsyncIteration
            await self._advance()
        return found

    async def next_run(self) -> list[Found]:
        """All that can be had without asking further, at least one; none at the end.

        The same envelopes in the same order as by iteration, at less cost for each.
        """
        while not (run := self._answering.take_all()) and self._answering.summary is None:
            await self._advance()
        return run

    async def _advance(self) -> None:
        try:
            await run(self._answering.advance())
        except asyncio.CancelledError:
            # A step may still be under way in its thread.
            self._answering.give_up()
            raise

    @property
    def cursor(self) -> str:
        """Goes on behind the envelope returned last."""
        return self._answering.cursor

    @property
    def summary(self) -> Summary:
        """What the answer claims; RuntimeError before its end was reached."""
        if self._answering.summary is None:
            raise RuntimeError("the answer was not read to its end")
        return self._answering.summary

    async def aclose(self) -> None:
        """Read no further."""
        self._answering.close()


class AsyncTrusted:
    """One verified state of an archive, and the sources that may serve it."""

    def __init__(self, state: State) -> None:
        """Use `AsyncClient.refresh`."""
        self._state = state

    @property
    def note(self) -> bytes:
        """The checkpoint's note, as it was served."""
        return self._state.note

    @property
    def descriptor(self) -> Descriptor:
        """The set's parameters."""
        return self._state.archive.descriptor

    @property
    def checkpoint(self) -> VerifiedCheckpoint:
        """The newest checkpoint that was accepted."""
        return self._state.archive.checkpoint

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """What was held against sources since the refresh."""
        return self._state.standings.complaints

    def query(self, query: Query) -> AsyncAnswer:
        """The answer to a query, read as it is iterated; see `restante.client.Trusted.query`."""
        return AsyncAnswer(self._state.query(query))

    async def absence(
        self,
        topic: bytes,
        *,
        since: int = 0,
        sent_from_s: int | None = None,
        sent_to_s: int | None = None,
        mode: Mode = "bucket",
    ) -> Absence:
        """Whether a range holds nothing of a topic; see `restante.client.Trusted.absence`."""
        answer = self.query(absence_query(topic, since, sent_from_s, sent_to_s, mode))
        async for _ in answer:
            pass
        return Absence.of(topic, answer.summary)

    async def evidence(self, found: Found, mode: Mode = "bucket") -> ProofFile:
        """What proves that an envelope is kept; see `restante.client.Trusted.evidence`."""
        return await run(self._state.prove(found, mode))


class AsyncClient:
    """An archive's reader, which trusts the keys of its policy and no source.

    See `restante.client.Client`. `sources` may also be blocking ones: each request of theirs takes
    a thread for its time.
    """

    def __init__(
        self,
        policy: Policy,
        sources: Sequence[AsyncSource | Source] | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Raises ConfigError `source` if there is no source, or one twice."""
        self.policy = policy
        given = async_sources_of(policy) if sources is None else sources
        self.sources: list[AsyncSource] = [
            cast(AsyncSource, each) if hasattr(each, "fetch") else InThread(each) for each in given
        ]
        require_sources(self.sources)
        self.memory = FolderMemory() if memory is None else memory

    async def refresh(self) -> AsyncTrusted:
        """The newest checkpoint that satisfies the policy and continues the remembered one.

        Raises as `restante.client.Client.refresh`.
        """
        return AsyncTrusted(await run(refresh(self.policy, Standings(self.sources), self.memory)))

    async def query(self, query: Query) -> AsyncAnswer:
        """Refresh, and answer a query. Raises as `refresh` and `AsyncTrusted.query`."""
        return (await self.refresh()).query(query)

    async def aclose(self) -> None:
        """Give up everything."""
        for source in self.sources:
            await source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
