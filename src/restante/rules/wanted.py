"""Bodies that are wanted: who says it holds each, and who is asked for it now.

One holder is asked at a time. A holder that fails, or is slow, loses its turn to the next one that
named the id: whoever names an id first gets no veto over it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from restante import limits
from restante.rules.actions import FetchBodies


@dataclass(slots=True)
class _Claims:
    """holders: who named the id, in that order; turn: whose turn it is; late_ms: until when."""

    holders: list[str] = field(default_factory=list)
    turn: int = 0
    late_ms: int = 0


class Wanted:
    """All ids that are wanted and not here yet."""

    def __init__(self) -> None:
        self._claims: dict[bytes, _Claims] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def claim(self, holder: str, ids: Iterable[bytes], now_ms: int) -> list[FetchBodies]:
        """`holder` says that it holds these: ask it for those that nobody is asked for."""
        ask = []
        for id_ in ids:
            claims = self._claims.setdefault(id_, _Claims())
            if holder not in claims.holders:
                claims.holders.append(holder)
                if claims.turn == len(claims.holders) - 1:
                    ask.append(id_)
        return self._ask({holder: ask}, now_ms)

    def arrived(self, ids: Iterable[bytes]) -> None:
        """These are here, or known to be worthless: nobody needs to be asked."""
        for id_ in ids:
            self._claims.pop(id_, None)

    def failed(
        self, holder: str, ids: Iterable[bytes], now_ms: int
    ) -> tuple[list[FetchBodies], set[bytes]]:
        """`holder` did not deliver these: the next in turn is asked.

        Answers the requests, and the ids that no holder is left for: they are wanted no more.
        """
        given_up: set[bytes] = set()
        turns: dict[str, list[bytes]] = {}
        for id_ in ids:
            claims = self._claims.get(id_)
            if claims is None or claims.holders[claims.turn] != holder:
                continue
            claims.turn += 1
            if claims.turn == len(claims.holders):
                given_up.add(id_)
                del self._claims[id_]
            else:
                turns.setdefault(claims.holders[claims.turn], []).append(id_)
        return self._ask(turns, now_ms), given_up

    def tick(self, now_ms: int) -> list[FetchBodies]:
        """Give the turn of whoever is late to the next, where there is one."""
        turns: dict[str, list[bytes]] = {}
        for id_, claims in self._claims.items():
            if claims.late_ms <= now_ms and claims.turn + 1 < len(claims.holders):
                claims.turn += 1
                turns.setdefault(claims.holders[claims.turn], []).append(id_)
        return self._ask(turns, now_ms)

    def next_ms(self) -> int | None:
        """When `tick` has somebody else to ask."""
        return min(
            (c.late_ms for c in self._claims.values() if c.turn + 1 < len(c.holders)), default=None
        )

    def _ask(self, turns: dict[str, list[bytes]], now_ms: int) -> list[FetchBodies]:
        actions = []
        for holder, ids in turns.items():
            for id_ in ids:
                self._claims[id_].late_ms = now_ms + limits.FETCH_MS
            if ids:
                actions.append(FetchBodies(holder, tuple(sorted(ids))))
        return actions
