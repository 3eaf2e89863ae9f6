"""Rules switched off, one at a time: what the simulation must find, or it proves nothing.

Production code has no switches. A mutant replaces one small function or method of
`restante.rules` where it is looked up, or of `restante.formats` where roll-ups are made. Generator,
detector and number of seeds are stated here, before any run.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

from restante.testing.sim import adoption_clauses, clauses, rollup_clauses
from restante.testing.sim.clauses import Patch


@dataclass(frozen=True, slots=True)
class Mutant:
    """A clause that is missing."""

    name: str
    rule: str
    """The rule it belongs to."""
    missing: str
    """What is switched off."""
    generator: str
    detector: str
    """The invariant that must catch it."""
    seeds: int
    """Within how many seeds, counted from any first one."""
    patches: Callable[[], list[Patch]]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run with the clause missing."""
        with ExitStack() as stack:
            for target, name, replacement in self.patches():
                stack.enter_context(mock.patch.object(target, name, replacement))
            yield


MUTANTS: dict[str, Mutant] = {
    m.name: m
    for m in (
        Mutant(
            "r0-off", "R0", "what R0 refuses is refused", "invalid-envelopes", "I2", 5, clauses.r0
        ),
        Mutant(
            "not-new",
            "R0",
            "what an earlier batch holds is not new",
            "invalid-envelopes",
            "I2",
            5,
            clauses.not_new,
        ),
        Mutant(
            "no-slack",
            "R0",
            "slack pays for lateness and R7",
            "kept-out-and-old",
            "I4",
            10,
            clauses.no_slack,
        ),
        Mutant(
            "due-not-new",
            "R1",
            "the due set is what is new on the base",
            "late-decisions",
            "I5",
            5,
            clauses.due_not_new,
        ),
        Mutant(
            "frozen-by-index",
            "R1",
            "the frozen set takes no account of the index",
            "lost-log",
            "I1",
            20,
            clauses.frozen_by_index,
        ),
        Mutant(
            "freeze-moves",
            "R1",
            "the freeze never changes",
            "endless-arrivals",
            "I5",
            5,
            clauses.freeze_moves,
        ),
        Mutant(
            "pool-evicts",
            "R1",
            "the pool keeps what it acknowledged",
            "late-arrivals",
            "I1",
            5,
            clauses.pool_evicts,
        ),
        Mutant(
            "accept-anything",
            "R2",
            "anything is checked before an accept",
            "enough-holders",
            "I1",
            5,
            clauses.accept_anything,
        ),
        Mutant(
            "due-ignored",
            "R2",
            "an accept holds the due set",
            "enough-holders",
            "I1",
            5,
            clauses.due_ignored,
        ),
        Mutant(
            "never-full",
            "R2",
            "a full batch may leave due ones out",
            "full-batch",
            "I5",
            15,
            clauses.never_full,
        ),
        Mutant(
            "any-left-out",
            "R2",
            "only what ranks below may be left out",
            "worst-first",
            "I1",
            5,
            clauses.any_left_out,
        ),
        Mutant(
            "no-bodies",
            "R2",
            "bodies are durable before an accept",
            "withheld-bodies",
            "holder",
            5,
            clauses.no_bodies,
        ),
        Mutant(
            "unwritten-accept",
            "R2",
            "an accept is durable before it leaves",
            "calm",
            "I6",
            5,
            clauses.unwritten_accept,
        ),
        Mutant(
            "members-forgotten",
            "R2",
            "an accepted batch can be served after a restart",
            "blackout",
            "I5",
            5,
            clauses.members_forgotten,
        ),
        Mutant(
            "verdict-without-base",
            "R2",
            "a verdict names its base",
            "split-history",
            "I1",
            20,
            clauses.verdict_without_base,
        ),
        Mutant(
            "no-rebuild",
            "R3",
            "the batch is rebuilt and its CID compared",
            "foreign-cid",
            "holder",
            5,
            clauses.no_rebuild,
        ),
        Mutant(
            "silence-is-empty",
            "R4",
            "silence is not an empty batch",
            "late-decisions",
            "I1",
            5,
            clauses.silence_is_empty,
        ),
        Mutant(
            "first-entry",
            "R5",
            "engine entries are slots, junk is skipped",
            "junk-first",
            "I5",
            5,
            clauses.first_is_the_entry,
        ),
        Mutant(
            "engine-trusted",
            "R5",
            "engine entries are verified",
            "junk-first",
            "I1",
            10,
            clauses.engine_trusted,
        ),
        Mutant(
            "due-at-commit",
            "step 7",
            "the own due set is no ground to refuse",
            "left-out-holder",
            "I5",
            10,
            clauses.due_at_commit,
        ),
        Mutant(
            "no-recheck",
            "R6",
            "a decided batch is re-checked",
            "bad-certificate",
            "I2",
            5,
            clauses.no_recheck,
        ),
        Mutant(
            "cosign-twice",
            "R6",
            "a tree is cosigned once per size",
            "rebuilt-log",
            "I3",
            10,
            clauses.cosign_twice,
        ),
        Mutant(
            "backup-believed",
            "R6",
            "lock state never from a backup",
            "restored-backup",
            "I3",
            10,
            clauses.backup_believed,
        ),
        Mutant(
            "no-carry",
            "R7",
            "what was left out is due in the next window",
            "carried-over",
            "I1",
            5,
            clauses.no_carry,
        ),
        Mutant(
            "no-sharing",
            "R7",
            "pools are shared after each cut-off",
            "kept-out",
            "I4",
            10,
            clauses.no_sharing,
        ),
        Mutant(
            "cursor-early",
            "R7",
            "a cursor passes only what is pooled here",
            "lost-bodies",
            "I4",
            10,
            clauses.cursor_early,
        ),
        Mutant(
            "no-own-proposals",
            "R8",
            "validators propose themselves",
            "no-outsiders",
            "I5",
            5,
            clauses.no_own_proposals,
        ),
        Mutant(
            "conflict-believed",
            "R8",
            "one who says that the window is decided proves nothing",
            "false-conflict",
            "I5",
            10,
            clauses.conflict_believed,
        ),
        Mutant(
            "barred-retries",
            "R8",
            "a refusing validator is left alone",
            "turned-away",
            "busy",
            10,
            clauses.barred_retries,
        ),
        Mutant(
            "own-entry",
            "R4",
            "an entry follows from the log and the batch",
            "calm",
            "I8",
            5,
            rollup_clauses.own_entry,
        ),
        Mutant(
            "record-dropped",
            "levels",
            "a roll-up has every record of its children",
            "rollups",
            "conserved",
            5,
            rollup_clauses.record_dropped,
        ),
        Mutant(
            "child-twice",
            "levels",
            "a roll-up has every child once",
            "rollups",
            "conserved",
            5,
            rollup_clauses.child_twice,
        ),
        Mutant(
            "windows-backwards",
            "levels",
            "a topic's records stand in the order of windows",
            "rollups",
            "conserved",
            5,
            rollup_clauses.windows_backwards,
        ),
        Mutant(
            "page-cut",
            "levels",
            "a page is as full as it may be",
            "full-pages",
            "conserved",
            5,
            rollup_clauses.page_cut,
        ),
        Mutant(
            "hour-mask",
            "levels",
            "an index says which child holds a topic",
            "rollups",
            "conserved",
            5,
            rollup_clauses.hour_mask,
        ),
        Mutant(
            "late-skipped",
            "levels",
            "a late roll-up delays its window",
            "late-rollups",
            "due",
            5,
            rollup_clauses.late_skipped,
        ),
        Mutant(
            "lag-ignored",
            "levels",
            "a roll-up stands in one entry, the lag after its end",
            "rollups",
            "due",
            5,
            rollup_clauses.lag_ignored,
        ),
        Mutant(
            "asked-once",
            "levels",
            "what no entry names yet is asked for after a restart",
            "crashed-rollups",
            "I5",
            5,
            rollup_clauses.asked_once,
        ),
        Mutant(
            "limit-ignored",
            "levels",
            "a span over the limit has no roll-up",
            "over-the-limit",
            "due",
            10,
            rollup_clauses.limit_ignored,
        ),
        Mutant(
            "made-by-one",
            "levels",
            "whether it has one follows from the log alone",
            "over-the-limit",
            "due",
            10,
            rollup_clauses.made_by_one,
        ),
        Mutant(
            "other-windows",
            "R6",
            "a released batch is rebuilt from its own window's records",
            "long-away",
            "I5",
            5,
            rollup_clauses.other_windows_records,
        ),
        Mutant(
            "tree-passed-over",
            "R6",
            "only what a proved tree holds is passed over",
            "long-away",
            "passed",
            10,
            rollup_clauses.tree_passed_over,
        ),
        Mutant(
            "adopted-without-k",
            "R6",
            "only what k cosigned is adopted",
            "below-every-floor",
            "passed",
            5,
            adoption_clauses.without_k,
        ),
        Mutant(
            "adopted-against-itself",
            "R6",
            "what is adopted continues what was cosigned",
            "below-another-history",
            "passed",
            10,
            adoption_clauses.inconsistent,
        ),
        Mutant(
            "adopted-unwritten",
            "R6",
            "an adoption is durable before anything is cosigned",
            "below-every-floor",
            "I6",
            5,
            adoption_clauses.unwritten,
        ),
    )
}

__all__ = ["MUTANTS", "Mutant"]
