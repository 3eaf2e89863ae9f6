"""R2: what a validator may accept. Each clause is a function of its own."""

from collections.abc import Iterable, Mapping, Sequence

from restante.formats.descriptor import Descriptor
from restante.formats.page import Member
from restante.formats.segment import Segment, build
from restante.rules.base import Base
from restante.rules.pool import Row, best_first
from restante.rules.valid import in_window


def missing(due: Mapping[bytes, Row], ids: frozenset[bytes]) -> list[Row]:
    """Due rows that a proposal leaves out, best first."""
    return sorted((row for id_, row in due.items() if id_ not in ids), key=best_first)


def is_full(count: int, size_bytes: int, d: Descriptor) -> bool:
    """Whether a batch is at its limit, so that it may leave due envelopes out."""
    return (
        count >= d.batch_max_envelopes or size_bytes > d.batch_max_bytes - d.max_envelope_bytes
    )


def may_leave_out(left_out: Sequence[Row], members: Iterable[Row]) -> bool:
    """Whether every row left out ranks after every member (R2): no discretion in a full batch.

    `left_out` is best first and not empty.
    """
    best_left_out = best_first(left_out[0])
    return all(best_first(row) < best_left_out for row in members)


def within_limits(count: int, size_bytes: int, d: Descriptor) -> bool:
    return count <= d.batch_max_envelopes and size_bytes <= d.batch_max_bytes


def not_allowed(rows: Iterable[Row], base: Base) -> list[bytes]:
    """Ids that R0's window bound or *new* forbids in the base's window (I2)."""
    window, d = base.window, base.descriptor
    return [
        row.id
        for row in rows
        if not (base.is_new(row.id) and in_window(row.sent_s, window, d))
    ]


def build_batch(
    d: Descriptor, window: int, rows: Iterable[Row], bodies: Mapping[bytes, bytes]
) -> Segment:
    """The one segment that this set of envelopes is in this window (R3)."""
    return build(
        d.set_id,
        (Member(row.topic_key, window, row.sent_s, row.id, bodies[row.id]) for row in rows),
        first_window=window,
        windows=1,
        level=0,
        bucket_bits=d.bucket_bits,
    )


def choose(rows: Iterable[Row], d: Descriptor) -> dict[bytes, Row]:
    """The rows that a proposer takes: all, or where they do not fit the best, up to the limit.

    Stopping at the first that does not fit keeps the rank without gaps: a smaller but worse row
    may not jump the queue.
    """
    taken: dict[bytes, Row] = {}
    size_bytes = 0
    for row in sorted(rows, key=best_first):
        if not within_limits(len(taken) + 1, size_bytes + row.size_bytes, d):
            break
        taken[row.id] = row
        size_bytes += row.size_bytes
    return taken
