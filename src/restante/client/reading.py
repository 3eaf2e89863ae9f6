"""What a query reads: from the cover of its windows to envelopes."""

from collections.abc import Iterable, Sequence

from restante.client.conveyor import Instead, Job, Outcome
from restante.client.failures import BelowRetention
from restante.client.log import Log
from restante.client.machine import Machine
from restante.client.retention import Retention
from restante.client.roster import Missing, Standings
from restante.client.segments import Segments
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.level import Span, due_at, entry_window, is_index
from restante.formats.page import Member, topic_key
from restante.rules.committed import Committed
from restante.rules.cover import Cover, Step
from restante.rules.query import Found, Plan
from restante.rules.verify import SetFault, TrustedArchive
from restante.rules.verify_index import Child, TrustedIndex
from restante.rules.verify_page import TOPICS


class Reader:
    """Makes a job of each step of a cover."""

    def __init__(self, plan: Plan, archive: TrustedArchive, log: Log, standings: Standings) -> None:
        query = plan.query
        self._plan = plan
        self._d = archive.descriptor
        self._log = log
        self._cover = Cover(self._d, archive.checkpoint.size, query.mode)
        self._retention = Retention(self._cover, plan.windows)
        self._segments = Segments(self._d, standings, self._retention, query.mode, query.topics)
        self._topic_of = TOPICS[self._d.network]
        self._keys = {topic_key(self._d.set_id, topic) for topic in query.topics}

    def job(self, windows: range) -> Job:
        """What begins these windows."""
        return self._job(self._cover.first(windows))

    def _job(self, step: Step) -> Job:
        read = self._index if is_index(self._d, step.span.level) else self._segment
        return Job(step.windows, lambda: read(step))

    # --- segments -----------------------------------------------------------------------------

    def _segment(self, step: Step, none: bool = False) -> Machine[Outcome]:
        """A batch or a roll-up of bodies; `none` if an index says that there is no roll-up."""
        plan, span = self._plan, step.span
        entry = yield from self._entry(step)
        if span.level == 0:
            of = Committed.batch(entry)
            if not plan.may_hold(entry.sent_min, entry.sent_max):
                return []
        else:
            cid = rollup_of(self._d, entry, span)
            if cid is None:
                self._cover.is_none(span)
                return Instead(step.windows, self._jobs(self._cover.steps(step.windows)))
            of = Committed(span, cid)
        if none:
            raise _contradiction(of)
        try:
            trusted = yield from self._segments.segment(of, step.windows, plan.may_hold)
        except Missing as error:
            return self._parent(step, error)
        return [] if trusted is None else self._found(of, trusted.members(), step.windows)

    def _parent(self, step: Step, error: Missing) -> Instead:
        """The roll-up of a segment that no source has any more; raises the error without one."""
        parent = self._cover.parent(step.span)
        if parent is None or error.code not in ("not-found", BelowRetention.code):
            raise error
        windows = range(step.windows.start, min(parent.stop, self._plan.windows.stop))
        return Instead(windows, [self._job(Step(parent, windows))])

    def _entry(self, step: Step) -> Machine[LogEntry]:
        window = entry_window(self._d, step.span)
        # Of batches the entries of all windows are read, of roll-ups a few.
        stop = self._plan.windows.stop if step.span.level == 0 else window + 1
        return self._log.read(window, stop, self._retention, step.windows)

    # --- through an index ---------------------------------------------------------------------

    def _index(self, step: Step) -> Machine[Outcome]:
        entry = yield from self._entry(step)
        cid = rollup_of(self._d, entry, step.span)
        if cid is None:
            raise SetFault("an index is always made", code="entry")
        try:
            index = yield from self._segments.index(Committed(step.span, cid), step.windows)
        except Missing as error:
            if error.code != "not-found":
                raise
            return Instead(step.windows, self._jobs(self._cover.segments(step.windows)))
        return Instead(step.windows, list(self._children(index, step.windows)))

    def _children(self, index: TrustedIndex, windows: range) -> Iterable[Job]:
        for span in index.spans:
            own = range(max(span.first, windows.start), min(span.stop, windows.stop))
            told = index.told(span)
            self._require_agreement(span, None if told is None else told.cid)
            if told is not None and index.lacks(span):
                continue
            child = index.child(span)
            if child is None:
                yield self._by_entry(Step(span, own))
            elif self._plan.may_hold(child.told.sent_min, child.told.sent_max):
                yield self._indexed(child, own)

    def _by_entry(self, step: Step) -> Job:
        return Job(step.windows, lambda: self._segment(step, none=True))

    def _indexed(self, child: Child, windows: range) -> Job:
        def read() -> Machine[Outcome]:
            trusted = yield from self._segments.indexed(child, windows)
            return self._found(trusted.of, trusted.members(), windows)

        return Job(windows, read)

    def _require_agreement(self, span: Span, cid: bytes | None) -> None:
        """That an index and the entry of a segment say the same, if the entry is known."""
        entry = self._log.entry(entry_window(self._d, span))
        if entry is not None and rollup_of(self._d, entry, span) != cid:
            raise _contradiction(Committed(span, cid or b""))

    # --- envelopes ----------------------------------------------------------------------------

    def _jobs(self, steps: Iterable[Step]) -> list[Job]:
        return [self._job(step) for step in steps]

    def _found(self, of: Committed, members: Sequence[Member], windows: range) -> list[Found]:
        found: list[Found] = []
        for member in members:
            if member.window not in windows or (self._keys and member.topic_key not in self._keys):
                continue
            topic = self._topic_of(member.raw)
            one = Found(member.sent_s, member.id, topic, member.window, member.raw, of)
            if self._plan.keeps(one):
                found.append(one)
        return found


def rollup_of(d: Descriptor, entry: LogEntry, span: Span) -> bytes | None:
    """The CID that the entry of a span's `entry_window` has for it; None for a roll-up of none."""
    if span.level == 0:
        return entry.segment
    return entry.rollups[due_at(d, entry.window).index(span)]


def _contradiction(of: Committed) -> SetFault:
    return SetFault(
        f"an index and the log's entry disagree about {of}", code="index-contradicts-entry"
    )
