"""Fail-stop: whoever meets a failing disk, the whole process ends.

A durable action may fail inside a request, whose caller would only see an error. The machine's
memory is then ahead of the disk and worthless: nothing more may come of it but a new start.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from restante.errors import Unavailable


class Fuse:
    """Blown by the first failure; everything after it is refused."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._blown = asyncio.Event()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around whatever must not fail. Raises Unavailable `stopping` once it has."""
        if self._error is not None:
            raise Unavailable("this node is stopping: its disk failed", code="stopping")
        try:
            yield
        except BaseException as error:
            self._error = error
            self._blown.set()
            raise

    async def watch(self) -> None:
        """Wait for a failure, and raise it where it ends the process."""
        await self._blown.wait()
        assert self._error is not None
        raise self._error
