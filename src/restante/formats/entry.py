"""The log entry: leaf w of the tree, one for every window (R4)."""

from dataclasses import dataclass

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import cid as cids
from restante.formats import dagcbor
from restante.formats.dagcbor import UINT_MAX, Fields, Value
from restante.formats.level import Leveled, due_at, is_index


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What the set committed to for one window."""

    window: int
    """w, counted from genesis."""
    segment: bytes
    """Root CID (36 bytes) of the batch of w. A byte string: a log file never links to a segment."""
    count: int
    """Envelopes in the batch."""
    bytes_: int
    """Sum of the envelopes' lengths."""
    sent_min: int | None
    """Least sent time, unix seconds; None in a quiet window."""
    sent_max: int | None
    """Greatest sent time, unix seconds; None in a quiet window."""
    rollups: tuple[bytes | None, ...] = ()
    """Root CIDs of the roll-ups that come due in w (`level.due_at`), in order of levels; None for
    one that is over the set's limit and so was not made."""

    def encode(self) -> bytes:
        """The leaf's bytes."""
        return dagcbor.encode(
            {
                "version": 1,
                "window": self.window,
                "segment": self.segment,
                "count": self.count,
                "bytes": self.bytes_,
                "sent_min": self.sent_min,
                "sent_max": self.sent_max,
                "rollups": list[dagcbor.Value](self.rollups),
            }
        )


def encode(entry: LogEntry) -> bytes:
    """The leaf's bytes."""
    return entry.encode()


def parse(data: bytes) -> LogEntry:
    """The entry of a leaf. Raises InvalidEncoding; `check_rollups` needs the descriptor."""
    fields = Fields.decode(data, "log entry", max_bytes=limits.ENTRY_MAX_BYTES)
    fields.version()
    entry = LogEntry(
        window=fields.uint("window"),
        segment=fields.bytes_("segment", size=cids.CID_BYTES),
        count=fields.uint("count"),
        bytes_=fields.uint("bytes"),
        sent_min=fields.optional_uint("sent_min", UINT_MAX),
        sent_max=fields.optional_uint("sent_max", UINT_MAX),
        rollups=_rollups(fields.list_("rollups", limits.SEGMENT_MAX_LEVEL)),
    )
    fields.done()
    if cids.codec(entry.segment) != cids.DAG_CBOR:
        raise InvalidEncoding("log entry: the segment's root is not DAG-CBOR")
    require_counts("log entry", entry.count, entry.bytes_, entry.sent_min, entry.sent_max)
    return entry


def _rollups(items: list[Value]) -> tuple[bytes | None, ...]:
    found: list[bytes | None] = []
    for item in items:
        if item is not None and (
            not isinstance(item, bytes)
            or len(item) != cids.CID_BYTES
            or cids.codec(item) != cids.DAG_CBOR
        ):
            raise InvalidEncoding("log entry: a roll-up is neither a root's CID nor null")
        found.append(item)
    return tuple(found)


def check_rollups(entry: LogEntry, d: Leveled) -> None:
    """Refuse an entry that names other roll-ups than come due there. Raises InvalidEncoding."""
    due = due_at(d, entry.window)
    if len(due) != len(entry.rollups):
        raise InvalidEncoding(f"log entry: {len(due)} roll-ups come due, it has others")
    for span, cid in zip(due, entry.rollups, strict=True):
        if cid is None and is_index(d, span.level):
            raise InvalidEncoding("log entry: an index is always made")


def require_counts(
    what: str, count: int, bytes_: int, sent_min: int | None, sent_max: int | None
) -> None:
    """Refuse counts that no set of envelopes has: all are there, or none. InvalidEncoding."""
    if count == 0:
        consistent = bytes_ == 0 and sent_min is None and sent_max is None
    else:
        consistent = (
            bytes_ >= count
            and sent_min is not None
            and sent_max is not None
            and sent_min <= sent_max
        )
    if not consistent:
        raise InvalidEncoding(f"{what}: count, bytes and sent times contradict each other")
