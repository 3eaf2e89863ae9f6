"""What the log names: a segment or an index by its windows and its root's CID."""

from typing import NamedTuple

from restante.formats.entry import LogEntry
from restante.formats.level import Span


class Committed(NamedTuple):
    """A segment that the log commits to."""

    span: Span
    """The windows that it covers."""
    cid: bytes
    """Its root's."""
    entry: LogEntry | None = None
    """Of a batch: what its log entry says of it besides."""

    @classmethod
    def batch(cls, entry: LogEntry) -> "Committed":
        """The batch of a log entry."""
        return cls(Span(0, entry.window, entry.window, 1), entry.segment, entry)

    def __str__(self) -> str:
        return f"segment {self.span.level}/{self.span.number}"
