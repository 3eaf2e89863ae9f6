"""Waiting for whichever comes first, without leaving tasks behind."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from restante import limits
from restante.ports import Clock


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


async def retries() -> AsyncIterator[int]:
    """Attempts without end, a pause that doubles between them, in real time."""
    pause_s = limits.RETRY_FIRST_S
    attempt = 0
    while True:
        yield attempt
        attempt += 1
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, limits.RETRY_MAX_S)
