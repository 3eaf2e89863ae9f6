"""One verified state of an archive, and what may be asked of it; both faces are made from this."""

from dataclasses import dataclass

from restante.client.answering import NOTHING, Answering, Cost, Summary
from restante.client.log import Log
from restante.client.machine import Machine
from restante.client.memory import Memory
from restante.client.proving import Proving
from restante.client.refresh import Refresher
from restante.client.roster import Standings
from restante.formats.policy import Policy
from restante.formats.proof import ProofFile
from restante.rules.query import Found, Mode, Query, Ranges, plan
from restante.rules.verify import TrustedArchive


@dataclass(frozen=True, slots=True)
class Absence:
    """What the archive says of a topic that may not be there."""

    topic: bytes
    absent: bool
    """Whether the covered windows hold nothing of it in the range."""
    since: int
    size: int
    """It speaks of windows [since, size)."""
    final_before_s: int
    waits_for: tuple[int, int | None] | None
    blind: Ranges
    unknown: Ranges
    """As in `Summary`: what was not watched was perhaps not heard."""

    @classmethod
    def of(cls, topic: bytes, told: Summary) -> "Absence":
        """What the summary of a query for the topic alone says."""
        return cls(
            topic,
            not told.counts[topic],
            told.since,
            told.size,
            told.final_before_s,
            told.waits_for,
            told.blind,
            told.unknown,
        )


def absence_query(
    topic: bytes,
    since: int = 0,
    sent_from_s: int | None = None,
    sent_to_s: int | None = None,
    mode: Mode = "bucket",
) -> Query:
    """What `Absence` is told by: one envelope is enough to know."""
    return Query((topic,), since, sent_from_s, sent_to_s, mode, limit=1)


class State:
    """A checkpoint that was accepted, and the sources that may serve what is below it."""

    def __init__(self, archive: TrustedArchive, note: bytes, standings: Standings) -> None:
        self.archive = archive
        self.note = note
        self.standings = standings
        self._log = Log(archive, standings)
        self._rounds = standings.rounds
        self._fresh = True
        self._proving = Proving(archive, note, self._log, standings)

    def query(self, query: Query) -> Answering:
        """Raises what `rules.query.plan` raises for a cursor."""
        made = plan(query, self.archive.descriptor, self.archive.checkpoint.size)
        before, self._fresh = NOTHING if self._fresh else self._cost(), False
        return Answering(made, self.archive, self._log, self.standings, self._rounds, before)

    def _cost(self) -> Cost:
        return Cost(self.standings.requests, self.standings.bytes_fetched)

    def prove(self, found: Found, mode: Mode) -> Machine[ProofFile]:
        """See `Proving.prove`."""
        return self._proving.prove(found, mode)


def refresh(policy: Policy, standings: Standings, memory: Memory) -> Machine[State]:
    """The newest state that satisfies the policy and continues the remembered one."""
    archive, note = yield from Refresher(policy, standings, memory).run()
    return State(archive, note, standings)
