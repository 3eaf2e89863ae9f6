"""The blocking driver: a machine's rounds carried out by a pool of threads."""

import time
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TypeVar, cast

from restante import limits
from restante.client.failures import SourceFailed
from restante.client.machine import Ask, Machine, Reply, Round
from restante.client.sources import Source
from restante.errors import Invalid, Unavailable

T = TypeVar("T")


class Driver:
    """Runs machines whose sources are `sources.Source`."""

    def __init__(self, workers: Executor) -> None:
        self._workers = workers

    def run(self, machine: Machine[T]) -> T:
        """What the machine comes to; raises what it raises."""
        try:
            asks = next(machine)
            while True:
                asks = machine.send(self._carry_out(asks))
        except StopIteration as end:
            return cast(T, end.value)
        finally:
            machine.close()

    def _carry_out(self, asks: Round) -> list[Reply]:
        if len(asks) == 1 or all(getattr(ask.source, "in_place", False) for ask in asks):
            return [carry_out(ask) for ask in asks]
        futures = [self._workers.submit(carry_out, ask) for ask in asks]
        late = _late([(f, ask) for f, ask in zip(futures, asks, strict=True) if ask.enough])
        return [
            too_slow(ask) if future in late else future.result()
            for future, ask in zip(futures, asks, strict=True)
        ]


def carry_out(ask: Ask) -> Reply:
    """The answer of a blocking source."""
    source = cast(Source, ask.source)
    try:
        return source.get(ask.path, offset=ask.offset, length=ask.length, max_bytes=ask.max_bytes)
    except (Invalid, Unavailable) as error:
        return error


def is_enough(ask: Ask, reply: Reply) -> bool:
    """Whether nobody has to wait much longer for the others."""
    return ask.enough is not None and isinstance(reply, bytes) and ask.enough(reply)


def too_slow(ask: Ask) -> SourceFailed:
    """The answer of one that others did not wait for."""
    return SourceFailed(
        f"{ask.source.name}, {ask.path}: much slower than other sources", code="source-timeout"
    )


def _late(asked: list[tuple[Future[Reply], Ask]]) -> set[Future[Reply]]:
    """Wait for these; those that took too long after one of them was enough."""
    asks = dict(asked)
    pending = set(asks)
    deadline_s: float | None = None
    while pending:
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        done, pending = wait(pending, left_s, FIRST_COMPLETED)
        if not done:
            break
        if deadline_s is None and any(is_enough(asks[each], each.result()) for each in done):
            deadline_s = time.monotonic() + limits.CHECKPOINT_PATIENCE_S
    for each in pending:
        each.cancel()
    return pending
