"""What fsck finds: a stable code, how bad it is, the file, and what to do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from restante import limits


class Severity(IntEnum):
    """How bad a finding is."""

    NOTE = 0
    """Left over by a crash; nothing that was promised is affected."""
    REBUILDABLE = 1
    """Damage in what others hold too: delete the file and let the node catch up."""
    LOST = 2
    """Something that this node alone promised is gone or contradicts itself: it may not sign."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    code: str
    severity: Severity
    file: str
    """Relative to the node's folder."""
    detail: str
    hint: str


# Code → (severity, hint). Every code that fsck can answer with stands here.
_LOCK_HINT = "this key may not sign any more; do not restore an old copy of lock/"
_SEGMENT_HINT = "delete the file and start the node: it is fetched from a store or a peer"
_ROLLUP_HINT = "delete the file and start the node: it is made again, or fetched"
_NAMED_HINT = (
    "this is what was cosigned: compare with the other validators' logs, keep both as evidence, "
    "and do not start this node before it is understood"
)
_LOG_HINT = "delete archive/tile and archive/certificate and start the node: made again from lock/"
_ENGINE_HINT = (
    "put the file back that engine.source named until now; if it is lost, the set needs a "
    "successor: a validator never starts on a new history"
)
CODES: dict[str, tuple[Severity, str]] = {
    "leftover": (Severity.NOTE, "a crash left it behind; it can be deleted"),
    "pool-torn": (Severity.NOTE, "an append that nobody was promised; the next start cuts it off"),
    "outbox-path": (Severity.NOTE, "it was superseded or released since; draining passes it over"),
    "block-index": (Severity.NOTE, "delete archive/.state/blocks.db*; it is rebuilt at start"),
    "archive-missing": (
        Severity.REBUILDABLE,
        "start the node: made again from lock/, stores, peers",
    ),
    "archive-behind": (Severity.REBUILDABLE, "start the node: it integrates what was decided"),
    "archive-file": (Severity.REBUILDABLE, _LOG_HINT),
    "descriptor": (Severity.REBUILDABLE, "put the set's descriptor back: its hash is the set id"),
    "segment-missing": (
        Severity.REBUILDABLE,
        "start the node: it fetches the batch from a store or a peer",
    ),
    "segment": (Severity.REBUILDABLE, _SEGMENT_HINT),
    "segment-unreleased": (Severity.NOTE, "a crash left it; the node's next release removes it"),
    "segment-stray": (Severity.NOTE, "nothing refers to it; it can be deleted"),
    "rollup-missing": (
        Severity.REBUILDABLE,
        "start the node: it is made again, or comes from a store or a peer",
    ),
    "rollup": (Severity.REBUILDABLE, _ROLLUP_HINT),
    "rollup-misplaced": (Severity.REBUILDABLE, _ROLLUP_HINT),
    "certificate": (Severity.REBUILDABLE, _LOG_HINT),
    "entry": (Severity.REBUILDABLE, _LOG_HINT),
    "tile": (Severity.REBUILDABLE, _LOG_HINT),
    "checkpoint": (
        Severity.REBUILDABLE,
        "delete the file and start the node: the next checkpoint takes its place",
    ),
    "engine-missing": (Severity.LOST, _ENGINE_HINT),
    "engine-differs": (Severity.LOST, _ENGINE_HINT),
    "pool-missing": (
        Severity.LOST,
        "acknowledged envelopes are gone: take the node out of the set",
    ),
    "pool-damaged": (Severity.LOST, "acknowledged envelopes are altered: check the disk"),
    "pool-short": (Severity.LOST, "frozen envelopes are gone: the pool is older than lock/"),
    "lock": (Severity.LOST, _LOCK_HINT),
    "lock-gap": (Severity.LOST, _LOCK_HINT),
    "lock-behind-archive": (Severity.LOST, _LOCK_HINT),
    "adoption": (Severity.LOST, _LOCK_HINT),
    "decision": (Severity.LOST, _LOCK_HINT),
    "cosignature": (Severity.LOST, _LOCK_HINT),
    "batch-invalid": (Severity.LOST, "more than f validators accepted it: keep it as evidence"),
    "batch-repeats": (Severity.LOST, "more than f validators accepted it: keep it as evidence"),
    "rollup-due": (Severity.LOST, _NAMED_HINT),
    "rollup-limit": (Severity.LOST, _NAMED_HINT),
    "rollup-span": (Severity.LOST, _NAMED_HINT),
    "rollup-content": (Severity.LOST, _NAMED_HINT),
    "rollup-directory": (Severity.LOST, _NAMED_HINT),
    "rollup-records": (Severity.LOST, _NAMED_HINT),
    "rollup-repeats": (Severity.LOST, _NAMED_HINT),
    "rollup-pages": (Severity.LOST, _NAMED_HINT),
    "index-children": (Severity.LOST, _NAMED_HINT),
    "index-mask": (Severity.LOST, _NAMED_HINT),
    "index-rows": (Severity.LOST, _NAMED_HINT),
}

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True)
class Report:
    """What was checked and what was found."""

    windows: int = 0
    """Log entries whose tree was proved."""
    segments: int = 0
    """Batches that are here."""
    rollups: int = 0
    indexes: int = 0
    envelopes: int = 0
    """Of batches, and of roll-ups whose batches were given up."""
    envelope_bytes: int = 0
    cosignatures: int = 0
    pool_records: int = 0
    findings: list[Finding] = field(default_factory=list)
    dropped: int = 0
    """Findings beyond FSCK_FINDINGS that are counted only."""

    @property
    def ok(self) -> bool:
        """Whether nothing worse than a note was found."""
        return not self.dropped and all(f.severity is Severity.NOTE for f in self.findings)

    @property
    def worst(self) -> Severity | None:
        """The worst severity found."""
        return max((f.severity for f in self.findings), default=None)

    def add(self, code: str, file: str, detail: str) -> None:
        """Note a finding by its code."""
        severity, hint = CODES[code]
        if len(self.findings) < limits.FSCK_FINDINGS:
            self.findings.append(Finding(code, severity, file, detail, hint))
        else:
            self.dropped += 1
