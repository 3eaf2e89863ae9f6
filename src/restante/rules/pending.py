"""Roll-ups between the end of their span and the entry that names them.

They are computed beside everything else. What a window's entry must hold is arithmetic, so whoever
has not got it yet can only wait: an entry without it would be another entry than everyone else's.
"""

from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, due_at, ended_by, entry_window


class PendingRollUps:
    """What was asked of the driver, and what it answered, for entries still to come."""

    def __init__(self, d: Descriptor, window: int) -> None:
        """`window` is the first that is not in the log: spans that ended before it and are in no
        entry yet are asked for anew after every start."""
        self._d = d
        self._ended = max(0, window - d.rollup_lag)
        self._results: dict[Span, bytes | None] = {}

    def to_ask(self, window: int) -> list[Span]:
        """The spans that ended before `window` and were not asked for since the start, in order
        of their ends, then of levels: every span comes after its children."""
        spans = [span for w in range(self._ended, window) for span in ended_by(self._d, w)]
        self._ended = max(self._ended, window)
        return spans

    def take(self, span: Span, cid: bytes | None, window: int) -> None:
        """Remember a result, unless its entry is before `window` and in the log already."""
        if entry_window(self._d, span) >= window:
            self._results[span] = cid

    def missing(self, window: int) -> tuple[Span, ...]:
        """The spans whose results the window's entry still waits for."""
        return tuple(span for span in due_at(self._d, window) if span not in self._results)

    def named_by(self, window: int) -> tuple[bytes | None, ...]:
        """What the window's entry names, in order of levels. Raises KeyError for a missing one."""
        return tuple(self._results[span] for span in due_at(self._d, window))

    def forget(self, window: int) -> None:
        """The entry of `window` is in the log."""
        for span in due_at(self._d, window):
            self._results.pop(span, None)
