"""What the play tells its audience: a line for each window, and the sums."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from restante.testing.demo.hostile import COPIES, COPY_EVERY

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

    def line(
        self,
        window: int,
        records: list[dict[str, Any]],
        cosigned: int,
        p2: dict[str, Any],
    ) -> str:
        """The line of a decided window, from the validators' records of it and p2's status."""
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
            f"{self._p2(window, refused, p2)}"
        )

    def _p2(self, window: int, refused: Counter[str], p2: dict[str, Any]) -> str:
        told = _words(refused)
        if window % COPY_EVERY == 0 and window not in p2.get("idle", ()):
            told += f"; {COPIES} copies to each"
        if not told and window in p2.get("idle", ()):
            return "(saw nothing in time to spoil)"
        return told.removeprefix("; ") or "(came after the decision)"


def _words(counts: Counter[str]) -> str:
    shown = {
        "conflict": "too late",
        "missing": "one left out",
        "not-allowed": "broken envelope",
    }
    return ", ".join(f"{shown.get(c, c)} ×{count}" for c, count in sorted(counts.items()))


def copies(p2: dict[str, Any]) -> Counter[str]:
    """What p2's copies were answered, over the run."""
    told: Counter[str] = Counter()
    for answers in p2.get("copies", {}).values():
        told.update(answers)
    return told


def sums(refusals: Counter[str], p2: dict[str, Any]) -> str:
    """p2's sum over the run."""
    flood = copies(p2)
    told = _words(refusals) or "nothing"
    return f"{told}; of {flood.total()} copies {flood['accept']} were accepted"
