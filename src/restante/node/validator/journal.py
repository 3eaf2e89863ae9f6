"""What happened in each recent window, for people: counts that no rule reads."""

from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

from restante import limits
from restante.formats import cid as cids
from restante.formats.message import Answer, Proposal
from restante.formats.segment import Segment


@dataclass(slots=True)
class Told:
    """What one proposer was told in one window: answer kind or code → how often."""

    proposals: set[bytes] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class WindowRecord:
    """One window as this validator saw it."""

    window: int
    decided_ms: int | None = None
    """Clock time of the commit here, Unix ms."""
    cid: str = ""
    count: int = 0
    size_bytes: int = 0
    amendments: int = 0
    """Sets that the proposer of the decided batch had proposed before it."""
    by: dict[bytes, Told] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; proposers by their public key in hex."""
        plain = {name: value for name, value in asdict(self).items() if name != "by"}
        plain["proposers"] = {
            key.hex(): {"proposals": len(told.proposals), "answers": dict(told.answers)}
            for key, told in self.by.items()
        }
        return plain


class Journal:
    """The last windows; bounded, and lost at a restart."""

    def __init__(self) -> None:
        self._records: OrderedDict[int, WindowRecord] = OrderedDict()

    def answered(self, p: Proposal, answer: Answer) -> None:
        """A proposal got this answer here."""
        record = self._record(p.window)
        if p.key not in record.by and len(record.by) >= limits.JOURNAL_PROPOSERS:
            return
        told = record.by.setdefault(p.key, Told())
        if len(told.proposals) < limits.JOURNAL_PROPOSERS:
            told.proposals.add(p.cid)
        told.answers[answer.code if answer.kind in ("invalid", "refused") else answer.kind] += 1

    def committed(self, window: int, segment: Segment, now_ms: int) -> None:
        """The window was decided and its batch committed here."""
        record = self._record(window)
        record.decided_ms, record.cid = now_ms, cids.to_text(segment.root_cid)
        record.count, record.size_bytes = segment.count, segment.bytes_
        winners = [t for t in record.by.values() if segment.root_cid in t.proposals]
        record.amendments = min((len(t.proposals) for t in winners), default=1) - 1

    def since(self, window: int) -> list[dict[str, Any]]:
        """The records of `window` and later, oldest first."""
        return [r.to_json() for r in self._records.values() if r.window >= window]

    def _record(self, window: int) -> WindowRecord:
        record = self._records.get(window)
        if record is None:
            record = self._records[window] = WindowRecord(window)
            while len(self._records) > limits.JOURNAL_WINDOWS:
                self._records.popitem(last=False)
        return record
