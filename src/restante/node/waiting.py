"""Waiting for whichever comes first, without leaving tasks behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from restante import limits
from restante.ports import Clock

T = TypeVar("T")


class Stopped(Exception):
    """The node ends: whoever works for it in a thread ends, too."""


def start(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Run this beside everything else; a group that ends already begins nothing more."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()


async def first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of these is done; the others are cancelled. Raises what it raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(clock: Clock, when_ms: int | None, wake: asyncio.Event) -> None:
    """Until the clock says so, or the event is set; the event is cleared.

    Lets everything else have its turn at least once, also where there is nothing to wait for.
    """
    if when_ms is None:
        await asyncio.sleep(0)
        await wake.wait()
    elif when_ms > clock.now_ms() and not wake.is_set():
        await first(clock.sleep_until(when_ms), wake.wait())
    else:
        await asyncio.sleep(0)
    wake.clear()


async def in_thread(work: Callable[[], T], stop: threading.Event) -> T:
    """Run what blocks beside everything else; what it raises is raised.

    When this is cancelled, `stop` is set, and the work is waited for until it has seen that: the
    files that it works on are closed after it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        running.exception()
        raise


async def retries() -> AsyncIterator[int]:
    """Attempts without end, a pause that doubles between them, in real time."""
    pause_s = limits.RETRY_FIRST_S
    attempt = 0
    while True:
        yield attempt
        attempt += 1
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, limits.RETRY_MAX_S)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group of tasks: the first that is not a cancellation."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first_of(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return group.exceptions[0]
