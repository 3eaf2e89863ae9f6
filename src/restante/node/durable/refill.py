"""Segments that the archive has lost, fetched again: from the own stores, then from the peers.

The archive is trusted for nothing: the lock says which segment each window has, and every byte is
hashed against that, whoever kept it.
"""

import logging
from collections.abc import Sequence

from restante.errors import Invalid, StateError, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.paths import segment_path
from restante.formats.segment import Segment, read_cars
from restante.formats.whisper import parse as parse_envelope
from restante.node.durable.state import State
from restante.node.waiting import retries
from restante.node.wire.peers import Peers
from restante.ports import Store

log = logging.getLogger("restante")


class Refill:
    """Puts lost segments back. `missing` are the windows that nobody has given yet."""

    def __init__(self, d: Descriptor, state: State, peers: Peers, stores: Sequence[Store]) -> None:
        self._d = d
        self._state = state
        self._peers = peers
        self._stores = stores
        self.missing: list[int] = []

    async def recent(self) -> None:
        """Put back what counts for *new*: without it nothing can be judged.

        Peers are asked for as long as it takes. Raises StateError `segment-lost` where the stores
        have it not and there are no peers.
        """
        async for _ in retries():
            missing = self._state.missing_recent()
            await self._put_back(missing)
            left = self._state.missing_recent()
            if not left:
                return
            if not self._peers.names:
                raise StateError(
                    f"the segments of windows {named(left)} are lost: no store has them",
                    code="segment-lost",
                    hint="put copies of these files under archive/segment/, from any mirror or "
                    "gateway's cache; without them nothing new can be judged",
                )

    async def run(self, start: int, stop: int) -> None:
        """Put back whatever windows in [start, stop) lack, the newest first, until none does."""
        archive = self._state.archive
        async for _ in retries():
            self.missing = archive.missing_segments(start, stop)
            if not self.missing:
                return
            await self._put_back(self.missing[::-1])
            self.missing = archive.missing_segments(start, stop)

    async def _put_back(self, windows: Sequence[int]) -> None:
        for window in windows:
            try:
                await self._state.repair(self._fetch, [window])
            except Unavailable as error:
                log.info("segment of window %d: %s", window, error)

    async def _fetch(self, window: int, cid: bytes) -> Segment:
        """One attempt at everyone. Raises Unavailable."""
        why = "there is neither a store nor a peer"
        for store in self._stores:
            try:
                return await self._stored(store, window, cid)
            except (Unavailable, Invalid) as error:
                why = f"store {store.name}: {error}"
        for name in self._peers.names:
            try:
                return (await self._peers.segment(name, window, cid)).segment
            except Unavailable as error:
                why = str(error)
        raise Unavailable(why, code="not-found")

    async def _stored(self, store: Store, window: int, cid: bytes) -> Segment:
        parts = [await store.get(segment_path(0, window))]
        while await store.has(path := segment_path(0, window, len(parts))):
            parts.append(await store.get(path))
        contents = read_cars(
            parts,
            self._d,
            lambda raw: parse_envelope(raw).topic,
            lambda raw: parse_envelope(raw).sent_s,
        )
        if contents.segment.root_cid != cid:
            raise Invalid(f"another segment for window {window}", code="segment-differs")
        return contents.segment


def named(windows: Sequence[int], most: int = 8) -> str:
    """The first few of some windows, for people."""
    more = f" and {len(windows) - most} more" if len(windows) > most else ""
    return ", ".join(map(str, windows[:most])) + more
