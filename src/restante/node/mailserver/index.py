"""The index as the mail server knows it: the newest verified state, and the topic book beside it.

It is an ordinary client: its sources are trusted with nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from restante import limits
from restante.client import FolderMemory, FolderSource, Missing, Source
from restante.client.aio import AsyncClient, AsyncSource, AsyncTrusted
from restante.errors import RestanteError, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.policy import Policy
from restante.networks.whisper.mail_request import MailRequest
from restante.node.mailserver.history import Wanted, pinned
from restante.node.mailserver.stalls import Stalls
from restante.node.mailserver.topics import TopicBook
from restante.ports import Clock
from restante.rules.query import Mode, Query

log = logging.getLogger("restante.mailserver")


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Which index a mail server reads, and where."""

    descriptor: Descriptor
    policy: Policy
    sources: Sequence[AsyncSource | Source]
    """Where the index is read from."""
    directory: Path
    """What may be lost but should not: the client's memory, the topic book, the stalls."""


class Index:
    """`follow` it; then `wanted` and `trusted` answer requests."""

    def __init__(self, place: IndexPlace, clock: Clock) -> None:
        """Raises ConfigError `source`."""
        directory, sources = place.directory, place.sources
        directory.mkdir(parents=True, exist_ok=True)
        self._d = d = place.descriptor
        self._clock = clock
        # A folder tells nobody what was read; whoever else serves it is told buckets.
        folders = all(isinstance(source, FolderSource) for source in sources)
        self._by_topic: Mode = "exact" if folders else "bucket"
        self._client = AsyncClient(place.policy, sources, FolderMemory(directory / "memory"))
        self.book = TopicBook(directory / "topics.json", d.set_id)
        self._stalls = Stalls(directory / "stalls.json", d)
        self._trusted: AsyncTrusted | None = None
        self._saved_s = monotonic()
        self._changed = False
        self._older_s = 0.0
        """Older windows are not tried before this."""
        self.error: RestanteError | None = None
        """Why the newest state is not known."""
        self.counts: Counter[str] = Counter()

    @property
    def trusted(self) -> AsyncTrusted:
        """The state that requests are answered from. Raises Unavailable `no-index`."""
        if self._trusted is None:
            raise Unavailable("the index was not read yet", code="no-index")
        return self._trusted

    def wanted(self, request: MailRequest) -> Wanted:
        """A request against the present state, or the one that its cursor names. Raises
        Unavailable `no-index`."""
        size, after = self.trusted.checkpoint.size, None
        if request.cursor is not None:
            after = request.cursor.foreign(size)
            if after is None:
                size, after = request.cursor.window + 1, request.cursor.place
        late_from = self._stalls.not_yet_at(request.lower_s)
        return Wanted(request, size, late_from, after, self._by_topic)

    async def follow(self) -> None:
        """Take newer states, and learn topics in between, until it is cancelled."""
        while True:
            began_s, learning = monotonic(), False
            try:
                await self.refresh()
                self.error = None
                learning = self._may_learn
                while monotonic() - began_s < limits.MAIL_REFRESH_S:
                    learnt_s = monotonic()
                    if not await self._learn_older():
                        break
                    # Half of the time is left to the requests.
                    await asyncio.sleep(monotonic() - learnt_s)
            except RestanteError as error:
                if self.error is None or self.error.code != error.code:
                    log.warning("the index cannot be read: %s", error)
                self.error = error
                self.counts[error.code] += 1
            self._note()
            learnt = learning and not self._may_learn
            if learnt or monotonic() - self._saved_s > limits.MAIL_BOOK_EVERY_S:
                await self._save()
            await asyncio.sleep(max(0.0, began_s + limits.MAIL_REFRESH_S - monotonic()))

    async def refresh(self) -> None:
        """Take the newest state. Raises what `AsyncClient.refresh` raises."""
        fresh = await self._client.refresh()
        size = fresh.checkpoint.size
        if self._trusted is not None and size <= self._trusted.checkpoint.size:
            return
        try:
            await self._learn_newer(fresh)
        finally:
            self._trusted = fresh

    async def aclose(self) -> None:
        """Keep what was learnt, and give up the sources."""
        await self._save()
        await self._client.aclose()

    def status(self) -> dict[str, Any]:
        """For the operator."""
        size = 0 if self._trusted is None else self._trusted.checkpoint.size
        return {
            "size": size,
            "complete_to_s": self._d.start_s(size),
            "topics": len(self.book),
            "topics_from_s": self._d.start_s(self.book.low),
            "topics_windows": self.book.high - self.book.low,
            "learning": self._may_learn,
            "stalls": len(self._stalls),
            "by_topic": self._by_topic,
            "failures": dict(self.counts),
        }

    def _note(self) -> None:
        """Write down what requests of this moment are answered from."""
        if self._trusted is None:
            return
        try:
            self._stalls.note(self._clock.now_ms() // 1000, self._trusted.checkpoint.size)
        except OSError as error:
            log.warning("a stall of the index cannot be written down: %s", error)
            self.counts["not-written"] += 1

    # --- the topic book -----------------------------------------------------------------------

    async def _learn_newer(self, fresh: AsyncTrusted) -> None:
        """Know the topics of new windows before they are served; of too many it begins anew."""
        book, size = self.book, fresh.checkpoint.size
        if not book.low < book.high or not book.high <= size <= book.high + _FEW:
            if book.high != size:
                book.begin(size)
            return
        await self._learn(fresh, range(book.high, size))

    @property
    def _may_learn(self) -> bool:
        """Whether there are older windows whose topics the book could know."""
        return self._trusted is not None and not self.book.full and self.book.low > 0

    async def _learn_older(self) -> bool:
        """Learn a slice before what is known; False if nothing is left there, or not now."""
        book = self.book
        if self._trusted is None or not self._may_learn or monotonic() < self._older_s:
            return False
        width = limits.MAIL_SLICE_WINDOWS
        windows = range((book.low - 1) // width * width, book.low)
        try:
            return await self._learn(self._trusted, windows)
        except RestanteError as error:
            if isinstance(error, Missing) and error.lost is not None:
                # The sources keep nothing older, or soon will not.
                book.full = True
                return False
            self._older_s = monotonic() + limits.MAIL_LEARN_RETRY_S
            raise

    async def _learn(self, trusted: AsyncTrusted, windows: range) -> bool:
        if not windows:
            return True
        query = Query((), since=windows.start, mode="all")
        answer = trusted.query(pinned(query, windows, self._d))
        try:
            records = [(found.window, found.topic) async for found in answer]
        finally:
            await answer.aclose()
        if windows.stop == self.book.low or windows.start == self.book.high:
            self.book.learn(windows, records)
            self._changed = True
        return True

    async def _save(self) -> None:
        self._saved_s = monotonic()
        if not self._changed:
            return
        self._changed = False
        try:
            await asyncio.to_thread(self.book.save)
        except OSError as error:
            log.warning("the topic book cannot be written: %s", error)
            self.counts["not-written"] += 1


# New windows that are learnt before they are served: at an hour's end all are read in a second.
_FEW = limits.MAIL_SLICE_WINDOWS
