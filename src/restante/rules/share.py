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
from restante.rules.wanted import Wanted

Step = Cursor | AskPool | FetchBodies


@dataclass(slots=True)
class Drain:
    """Where the drain of one peer stands.

    pool_id, position: the durable cursor; window: for which it drains; asked: the position that an
    answer is awaited for; awaiting: ids of the last page that are not settled here, and
    next_position: where that page ends; asks: of this window; retry_ms: when to ask again.
    """

    peer: str
    pool_id: bytes = b""
    position: int = 0
    window: int = -1
    asked: int | None = None
    awaiting: set[bytes] = field(default_factory=set)
    next_position: int = 0
    asks: int = 0
    done: bool = True
    retry_ms: int | None = None


class Sharing:
    """The drains of all peers. It is told what the pool holds; it holds no bodies."""

    def __init__(self, peers: Iterable[str], cursors: dict[str, tuple[bytes, int]]) -> None:
        self._drains = {p: Drain(p, *cursors.get(p, (b"", 0))) for p in peers}
        self._wanted = Wanted()

    @property
    def waiting(self) -> bool:
        """Whether any cursor waits for bodies."""
        return bool(self._wanted)

    def cut_off(self, window: int, from_ms: int) -> None:
        """Window `window` was frozen here: drain every peer for it, from a little later on.

        Most of what peers hold and we do not is on its way to us at the cut-off.
        """
        for drain in self._drains.values():
            drain.window = window
            drain.asks = 0
            if drain.done:
                drain.done = False
                drain.retry_ms = from_ms

    def page(self, peer: str, page: PoolPage, now_ms: int, settled: Iterable[bytes]) -> list[Step]:
        """A page of a peer's pool came; `settled` are its ids that are pooled or invalid here.

        A page that was not asked for, or twice, changes nothing.
        """
        drain = self._drains[peer]
        if drain.asked is None or page.after != max(drain.asked, page.floor):
            return []
        drain.asked = None
        if page.pool != drain.pool_id:
            drain.pool_id, drain.position = page.pool, 0
            if page.after > page.floor:
                drain.retry_ms = now_ms + limits.RETRY_MS
                return []
        frozen_for = -1 if page.frozen_window is None else page.frozen_window
        ids, drain.next_position = page.ids, page.next
        beyond = page.next - page.frozen_position
        gapless = page.next - len(ids) == max(page.after, page.floor)
        if frozen_for >= drain.window and 0 < beyond <= len(ids) and gapless:
            # What the peer got after its freeze is most often on its way to us, too.
            ids, drain.next_position = ids[:-beyond], page.frozen_position
        drain.awaiting = set(ids).difference(settled)
        reached = page.next >= page.frozen_position or not page.ids
        drain.done = reached and frozen_for >= drain.window
        drain.retry_ms = now_ms + limits.RETRY_MS if reached and not drain.done else None
        if not drain.awaiting:
            return self._advance(drain)
        return list(self._wanted.claim(peer, sorted(drain.awaiting), now_ms))

    def settled(self, ids: Iterable[bytes]) -> list[Step]:
        """These ids are now pooled durably here, or known to be invalid: cursors may pass them."""
        gone = set(ids)
        self._wanted.arrived(gone)
        actions: list[Step] = []
        for drain in self._drains.values():
            if not drain.awaiting.isdisjoint(gone):
                drain.awaiting -= gone
                if not drain.awaiting:
                    actions += self._advance(drain)
        return actions

    def failed(self, peer: str, ids: Iterable[bytes], now_ms: int) -> list[FetchBodies]:
        """The peer did not answer, or left these bodies out: whoever else named them is asked.

        Where nobody is left, cursors stay, and their pages are read again.
        """
        requests, given_up = self._wanted.failed(peer, ids, now_ms)
        failing = self._drains[peer]
        if failing.asked is not None:
            failing.asked = None
            failing.retry_ms = now_ms + limits.RETRY_MS
        for drain in self._drains.values():
            if not drain.awaiting.isdisjoint(given_up):
                drain.awaiting = set()
                drain.done = False
                drain.retry_ms = now_ms + limits.RETRY_MS
        return requests

    def tick(self, now_ms: int) -> list[Step]:
        """Ask again whoever did not name the window yet, or failed, and others for late bodies."""
        actions: list[Step] = list(self._wanted.tick(now_ms))
        for drain in self._drains.values():
            if drain.retry_ms is not None and drain.retry_ms <= now_ms:
                drain.retry_ms = None
                if not drain.awaiting:
                    actions += self._ask(drain)
        return actions

    def next_ms(self) -> int | None:
        """When `tick` has something to do next."""
        times = [d.retry_ms for d in self._drains.values()] + [self._wanted.next_ms()]
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    def _advance(self, drain: Drain) -> list[Step]:
        """Pass the page: nothing of it is awaited any more."""
        actions: list[Step] = []
        if drain.next_position != drain.position:
            drain.position = drain.next_position
            actions.append(Cursor(drain.peer, drain.pool_id, drain.position))
        if not drain.done and drain.retry_ms is None:
            actions += self._ask(drain)
        return actions

    def _ask(self, drain: Drain) -> list[AskPool]:
        """Ask for the next page; whoever had its share of asks waits for the next window."""
        if drain.asks >= limits.SHARE_ASKS_PER_WINDOW:
            drain.done = True
            return []
        drain.asks += 1
        drain.asked = drain.position
        return [AskPool(drain.peer, drain.position)]
