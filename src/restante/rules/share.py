"""R7: what one honest validator holds, every honest validator gets, decided or not.

After each cut-off a validator drains each peer's pool from its cursor up to that peer's frozen
position for the window. The cursor passes only ids that are pooled durably here, or invalid in
this window and the next: otherwise the same f could be left out every time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from restante import limits
from restante.formats.message import PoolPage
from restante.rules.actions import AskPool, Cursor, FetchBodies

RETRY_MS = 1_000  # a peer that has not frozen the window yet is asked again after this


@dataclass(slots=True)
class Drain:
    """Where the drain of one peer stands."""

    peer: str
    pool_id: bytes = b""
    position: int = 0
    window: int = -1
    awaiting: set[bytes] = field(default_factory=set)
    next_position: int = 0
    done: bool = True
    retry_ms: int | None = None
    ids_read: int = 0


class Sharing:
    """The drains of all peers. It is told what the pool holds; it holds no bodies."""

    def __init__(self, peers: Iterable[str], cursors: dict[str, tuple[bytes, int]]) -> None:
        self._drains = {p: Drain(p, *cursors.get(p, (b"", 0))) for p in peers}
        self._in_flight: set[bytes] = set()

    def cut_off(self, window: int) -> list[AskPool]:
        """Window `window` was frozen here: drain every peer for it."""
        actions = []
        for drain in self._drains.values():
            drain.window = window
            drain.ids_read = 0
            if drain.done:
                drain.done = False
                actions.append(AskPool(drain.peer, drain.position))
        return actions

    def page(
        self, peer: str, page: PoolPage, now_ms: int, settled: Iterable[bytes]
    ) -> list[Cursor | AskPool | FetchBodies]:
        """A page of a peer's pool came; `settled` are its ids that are pooled or invalid here."""
        drain = self._drains[peer]
        if page.pool != drain.pool_id:
            drain.pool_id, drain.position = page.pool, 0
            if page.after != 0:
                return [AskPool(peer, 0)]
        lacking = set(page.ids) - set(settled)
        drain.ids_read += len(page.ids)
        drain.next_position = page.next
        drain.awaiting = lacking
        frozen_for = -1 if page.frozen_window is None else page.frozen_window
        reached = page.next >= page.frozen_position or not page.ids
        drain.retry_ms = now_ms + RETRY_MS if reached and frozen_for < drain.window else None
        too_much = drain.ids_read > limits.SHARE_IDS_PER_WINDOW
        drain.done = (reached and frozen_for >= drain.window) or too_much
        wanted = tuple(sorted(lacking - self._in_flight))
        self._in_flight.update(wanted)
        if wanted:
            return [FetchBodies(peer, wanted)]
        return self._advance(drain)

    def settled(self, ids: Iterable[bytes]) -> list[Cursor | AskPool | FetchBodies]:
        """These ids are now pooled durably here, or known to be invalid: cursors may pass them."""
        gone = set(ids)
        self._in_flight -= gone
        actions: list[Cursor | AskPool | FetchBodies] = []
        for drain in self._drains.values():
            if drain.awaiting:
                drain.awaiting -= gone
                if not drain.awaiting:
                    actions += self._advance(drain)
        return actions

    def failed(self, peer: str, ids: Iterable[bytes], now_ms: int) -> list[FetchBodies]:
        """The peer did not answer, or left these bodies out. Its cursor stays where it is;
        whoever else waits for the same ids is asked instead."""
        lost = set(ids)
        self._in_flight -= lost
        drain = self._drains[peer]
        drain.awaiting = set()
        drain.retry_ms = now_ms + RETRY_MS
        drain.done = False
        actions = []
        for other in self._drains.values():
            again = tuple(sorted((other.awaiting & lost) - self._in_flight))
            if again:
                self._in_flight.update(again)
                actions.append(FetchBodies(other.peer, again))
        return actions

    def tick(self, now_ms: int) -> list[AskPool]:
        """Ask those again whose answer did not name the window yet."""
        actions = []
        for drain in self._drains.values():
            if drain.retry_ms is not None and drain.retry_ms <= now_ms:
                drain.retry_ms = None
                actions.append(AskPool(drain.peer, drain.position))
        return actions

    def next_ms(self) -> int | None:
        times = [d.retry_ms for d in self._drains.values() if d.retry_ms is not None]
        return min(times, default=None)

    def _advance(self, drain: Drain) -> list[Cursor | AskPool | FetchBodies]:
        actions: list[Cursor | AskPool | FetchBodies] = []
        if drain.next_position != drain.position:
            drain.position = drain.next_position
            actions.append(Cursor(drain.peer, drain.pool_id, drain.position))
        if not drain.done and drain.retry_ms is None:
            actions.append(AskPool(drain.peer, drain.position))
        return actions
