"""R1: what a validator demands of a window.

The frozen set of w is what the pool held at the cut-off and R0 allows in w, whatever the index
holds: it can be taken while w − 1 is undecided. The due set on a base is what of it is new there.
"""

from restante.formats.descriptor import Descriptor
from restante.rules import pool
from restante.rules.base import Base
from restante.rules.pool import PoolIndex, Row
from restante.rules.valid import in_window


def windows_to_freeze(d: Descriptor, last_frozen: int, now_ms: int) -> range:
    """The windows whose cut-off has passed and that are not frozen yet."""
    return range(last_frozen + 1, d.window_of(now_ms))


def position(index: PoolIndex, d: Descriptor, window: int) -> int:
    """The pool's position at the window's cut-off, also when it is taken late, by arrival time."""
    return index.position_at(d.end_ms(window))


def due_set(index: PoolIndex, base: Base, frozen: int, settled: int = 0) -> dict[bytes, Row]:
    """Frozen rows that R0 allows in the base's window and that are new there.

    `settled` is a position below which no row can be either; it only spares work.
    """
    window, d = base.window, base.descriptor
    return {
        row.id: row
        for row in index.rows(settled, frozen)
        if base.is_new(row.id) and in_window(row.sent_s, window, d)
    }


def candidates(index: PoolIndex, base: Base, settled: int = 0) -> dict[bytes, Row]:
    """All that a proposer may put into the base's window: valid and new, frozen or not (step 2)."""
    return due_set(index, base, index.size, settled)


def settled_position(index: PoolIndex, base: Base, start: int) -> int:
    """The first position at or after `start` whose row may still be due on this base or later."""
    place, d = max(start, index.floor), base.descriptor
    for row in index.rows(place, index.size):
        if base.is_new(row.id) and pool.last_window(row.sent_s, d) >= base.window:
            break
        place = row.position + 1
    return place
