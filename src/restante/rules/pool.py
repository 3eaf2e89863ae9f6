"""The pool as the rules see it: rows in order of arrival, without the bodies.

A row is made once, at reception, and follows the envelope from there. What the pool holds never
depends on what the index holds (R1): a validator that is shown another history after a loss must
still demand what it saw.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from restante.formats.descriptor import Descriptor
from restante.rules.valid import Facts


class Row(NamedTuple):
    """One pooled envelope."""

    id: bytes
    topic_key: int
    sent_s: int
    rank: int
    size_bytes: int
    position: int
    last_window: int


def last_window(sent_s: int, d: Descriptor) -> int:
    """The last window in which R0's bound on sent time admits an envelope."""
    return (sent_s + d.ttl_max_s + d.slack_s - d.genesis_s) // d.window_s


def best_first(row: Row) -> tuple[int, bytes]:
    """The order in which a full batch fills: most work first, then lowest id (R2)."""
    return (-row.rank, row.id)


def runs(positions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Positions as ascending half-open runs: what a batch takes of a pool is most of it."""
    found: list[tuple[int, int]] = []
    for position in sorted(positions):
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return tuple(found)


class PoolIndex:
    """Rows of the live pool by position and by id. Positions are never reused."""

    def __init__(self, descriptor: Descriptor, floor: int = 0) -> None:
        self._d = descriptor
        self._floor = floor
        self._rows: list[Row] = []
        self._arrivals_ms: list[int] = []
        self._by_id: dict[bytes, Row] = {}

    @property
    def size(self) -> int:
        """The position that the next row takes."""
        return self._floor + len(self._rows)

    @property
    def floor(self) -> int:
        """The lowest position still held."""
        return self._floor

    @property
    def newest_arrival_ms(self) -> int:
        return self._arrivals_ms[-1] if self._arrivals_ms else 0

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._by_id

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, id_: bytes) -> Row | None:
        return self._by_id.get(id_)

    def append(self, facts: Facts, topic_key: int, arrival_ms: int) -> Row:
        """Add a row. Arrival never goes back, so that positions can be found by time."""
        row = Row(
            facts.id,
            topic_key,
            facts.sent_s,
            facts.rank,
            facts.size_bytes,
            self.size,
            last_window(facts.sent_s, self._d),
        )
        self._rows.append(row)
        self._arrivals_ms.append(max(arrival_ms, self.newest_arrival_ms))
        self._by_id[row.id] = row
        return row

    def position_at(self, when_ms: int) -> int:
        """How many positions were taken before `when_ms`: the freeze of a window ending then."""
        return self._floor + bisect_left(self._arrivals_ms, when_ms)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Rows with start <= position < stop that are still held."""
        lo = max(start, self._floor) - self._floor
        for i in range(lo, min(stop - self._floor, len(self._rows))):
            yield self._rows[i]

    def releasable(self, next_window: int, held_from: int) -> int:
        """The position below which no row can be valid in `next_window` or later.

        `held_from` is the lowest position some undecided frozen set or peer may still ask for;
        the answer never passes it.
        """
        position = self._floor
        for row in self._rows:
            if row.last_window >= next_window or row.position >= held_from:
                break
            position = row.position + 1
        return position

    def release(self, position: int) -> None:
        """Forget rows below `position`."""
        count = max(0, position - self._floor)
        for row in self._rows[:count]:
            if self._by_id.get(row.id) is row:
                del self._by_id[row.id]
        del self._rows[:count]
        del self._arrivals_ms[:count]
        self._floor += count
