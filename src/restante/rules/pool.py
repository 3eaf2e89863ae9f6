"""The pool as the rules see it: rows in order of arrival, without the bodies.

A row is made once, at reception, and follows the envelope from there. What the pool holds never
depends on what the index holds (R1): a validator that is shown another history after a loss must
still demand what it saw.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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
    """Rows of the live pool by position and by id. Positions are never reused.

    They are kept in flat columns, some 200 bytes an envelope with its id; a `Row` is made when it
    is asked for.
    """

    def __init__(self, descriptor: Descriptor, floor: int = 0) -> None:
        self._d = descriptor
        self._floor = floor
        self._ids: list[bytes] = []
        self._topic_keys = array("I")
        self._sent_s = array("q")
        self._ranks: list[int] = []
        self._sizes = array("I")
        self._arrivals_ms = array("q")
        self._positions: dict[bytes, int] = {}

    @property
    def size(self) -> int:
        """The position that the next row takes."""
        return self._floor + len(self._ids)

    @property
    def floor(self) -> int:
        """The lowest position still held."""
        return self._floor

    @property
    def newest_arrival_ms(self) -> int:
        return self._arrivals_ms[-1] if self._arrivals_ms else 0

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._positions

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, id_: bytes) -> Row | None:
        position = self._positions.get(id_)
        return None if position is None else self._row(position - self._floor)

    def append(
        self, facts: Sequence[Facts], topic_keys: Iterable[int], arrivals_ms: Iterable[int]
    ) -> None:
        """Add rows for ids that are not held, none of them twice; the first takes position `size`.
        Arrivals are in order and not before `newest_arrival_ms`, so that positions can be found by
        time."""
        if not facts:
            return
        ids, _, sent_s, _, _, ranks, sizes = zip(*facts, strict=True)
        self._positions.update(zip(ids, range(self.size, self.size + len(ids)), strict=True))
        self._ids += ids
        self._topic_keys.extend(topic_keys)
        self._sent_s.extend(sent_s)
        self._ranks += ranks
        self._sizes.extend(sizes)
        self._arrivals_ms.extend(arrivals_ms)

    def position_at(self, when_ms: int) -> int:
        """How many positions were taken before `when_ms`: the freeze of a window ending then."""
        return self._floor + bisect_left(self._arrivals_ms, when_ms)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Rows with start <= position < stop that are still held."""
        places = self._places(start, stop)
        part = slice(places.start, places.stop)
        columns = (self._ids, self._topic_keys, self._sent_s, self._ranks, self._sizes)
        positions = range(self._floor + places.start, self._floor + places.stop)
        return map(Row._make, zip(*(column[part] for column in columns), positions, strict=True))

    def ids(self, start: int, stop: int) -> tuple[bytes, ...]:
        """The ids of these rows."""
        places = self._places(start, stop)
        return tuple(self._ids[places.start : places.stop])

    def positions(self, ids: Iterable[bytes]) -> list[int]:
        """The positions of those of these ids that are held."""
        found = map(self._positions.get, ids)
        return [position for position in found if position is not None]

    def releasable(self, next_window: int, held_from: int) -> int:
        """The position below which no row can be valid in `next_window` or later.

        `held_from` is the lowest position some undecided frozen set or peer may still ask for;
        the answer never passes it.
        """
        for place in self._places(self._floor, held_from):
            if last_window(self._sent_s[place], self._d) >= next_window:
                return self._floor + place
        return max(self._floor, min(held_from, self.size))

    def release(self, position: int) -> None:
        """Forget rows below `position`."""
        count = max(0, position - self._floor)
        for place, id_ in enumerate(self._ids[:count], self._floor):
            if self._positions.get(id_) == place:
                del self._positions[id_]
        columns = (
            self._ids, self._topic_keys, self._sent_s, self._ranks, self._sizes, self._arrivals_ms
        )  # fmt: skip
        for column in columns:
            del column[:count]
        self._floor += count

    def _places(self, start: int, stop: int) -> range:
        """Where the rows of these positions stand in the columns."""
        first = max(start - self._floor, 0)
        return range(first, max(first, min(stop - self._floor, len(self._ids))))

    def _row(self, place: int) -> Row:
        return Row(
            self._ids[place],
            self._topic_keys[place],
            self._sent_s[place],
            self._ranks[place],
            self._sizes[place],
            self._floor + place,
        )
