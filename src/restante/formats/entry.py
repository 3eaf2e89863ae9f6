"""The log entry: leaf w of the tree, one for every window (R4)."""

from dataclasses import dataclass

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import cid as cids
from restante.formats import dagcbor
from restante.formats.dagcbor import UINT_MAX, Fields


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
                "rollups": [],
            }
        )


def encode(entry: LogEntry) -> bytes:
    """The leaf's bytes."""
    return entry.encode()


def parse(data: bytes) -> LogEntry:
    """The entry of a leaf. Raises InvalidEncoding, also for roll-ups: version 1 sets have none."""
    fields = Fields.decode(data, "log entry", max_bytes=limits.ENTRY_MAX_BYTES)
    fields.version()
    entry = LogEntry(
        window=fields.uint("window"),
        segment=fields.bytes_("segment", size=cids.CID_BYTES),
        count=fields.uint("count"),
        bytes_=fields.uint("bytes"),
        sent_min=fields.optional_uint("sent_min", UINT_MAX),
        sent_max=fields.optional_uint("sent_max", UINT_MAX),
    )
    fields.list_("rollups", 0)
    fields.done()
    if cids.codec(entry.segment) != cids.DAG_CBOR:
        raise InvalidEncoding("log entry: the segment's root is not DAG-CBOR")
    require_counts("log entry", entry.count, entry.bytes_, entry.sent_min, entry.sent_max)
    return entry


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
