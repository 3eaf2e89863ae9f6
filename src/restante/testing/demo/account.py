"""What the play tells its audience: a line for each window, and the sums."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Say = Callable[[str], None]

HEADER = (
    f"{'window':>6}  {'cut-off':8}  {'prop':>4} {'amend':>5} {'envel':>5} {'bytes':>7}  "
    f"{'batch CID':15}  {'cosigned':8} {'ms':>5}  p2 was told"
)
# Answers that are no refusal; *conflict* is: the window was decided without p2.
_NEUTRAL = frozenset({"not-yet", "need", "resend", "accept"})


@dataclass(slots=True)
class Account:
    """Collects what the validators' journals say."""

    end_ms: Callable[[int], int]
    real_ms: Callable[[int], float]
    hostile: str
    """p2's public key in hex; its copies come under keys of their own."""
    honest: frozenset[str]
    """Keys, in hex, of p1 and the validators."""
    refusals: Counter[str] = field(default_factory=Counter)
    """What p2 was refused for, over the run, summed over validators."""
    certified: list[int] = field(default_factory=list)
    """Windows in which k validators accepted what p2 proposed."""
    k: int = 3

    def line(self, window: int, records: list[dict[str, Any]], cosigned: int) -> str:
        """The line of a decided window from the validators' records of it."""
        told: Counter[str] = Counter()
        accepts = 0
        proposers: set[str] = set()
        for record in records:
            for key, entry in record["proposers"].items():
                proposers.add(key)
                if key in self.honest:
                    continue
                told.update(entry["answers"])
                accepts += "accept" in entry["answers"]
        if accepts >= self.k:
            self.certified.append(window)
        refused = Counter({code: n for code, n in told.items() if code not in _NEUTRAL})
        self.refusals += refused
        best = next(record for record in records if record["decided_ms"] is not None)
        earliest = min(r["decided_ms"] for r in records if r["decided_ms"] is not None)
        cut_off_ms = self.end_ms(window)
        took = self.real_ms(earliest) - self.real_ms(cut_off_ms)
        clock = datetime.fromtimestamp(cut_off_ms / 1000, UTC).strftime("%H:%M:%S")
        amendments = max(record["amendments"] for record in records)
        cid = best["cid"]
        return (
            f"{window:>6}  {clock}  {len(proposers):>4} {amendments:>5} {best['count']:>5} "
            f"{best['size_bytes']:>7}  {cid[:6]}…{cid[-8:]}  {cosigned:>4} / 4 {took:>5.0f}  "
            f"{_words(refused) or '-'}"
        )


def _words(counts: Counter[str]) -> str:
    shown = {"conflict": "too late"}
    return ", ".join(f"{shown.get(c, c)} ×{count}" for c, count in sorted(counts.items()))


def sums(counts: Counter[str]) -> str:
    """p2's sum over the run."""
    return _words(counts) or "nothing"
