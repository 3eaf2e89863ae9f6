"""R2: what a validator may accept. Each clause is a function of its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from operator import attrgetter

from restante import limits
from restante.formats.descriptor import Descriptor
from restante.formats.message import Answer, Proposal
from restante.formats.segment import Place, Segment, Totals, assemble
from restante.rules.base import Base
from restante.rules.freeze import due_set
from restante.rules.intake import Intake
from restante.rules.lists import IdLists
from restante.rules.pool import PoolIndex, Row, best_first
from restante.rules.valid import in_window

Bodies = Callable[[Row], bytes]  # the durable bytes of a row

_in_page_order = attrgetter("topic_key", "sent_s", "id")


def missing(due: Mapping[bytes, Row], ids: frozenset[bytes]) -> list[Row]:
    """Due rows that a proposal leaves out, best first."""
    return sorted((due[id_] for id_ in due.keys() - ids), key=best_first)


def is_full(count: int, size_bytes: int, d: Descriptor) -> bool:
    """Whether a batch is at its limit, so that it may leave due envelopes out."""
    return count >= d.batch_max_envelopes or size_bytes > d.batch_max_bytes - d.max_envelope_bytes


def may_leave_out(left_out: Sequence[Row], members: Iterable[Row]) -> bool:
    """Whether every row left out ranks after every member (R2): no discretion in a full batch.

    `left_out` is best first and not empty.
    """
    best_left_out = best_first(left_out[0])
    return all(best_first(row) < best_left_out for row in members)


def within_limits(count: int, size_bytes: int, d: Descriptor) -> bool:
    return count <= d.batch_max_envelopes and size_bytes <= d.batch_max_bytes


def not_allowed(rows: Iterable[Row], base: Base) -> list[bytes]:
    """Ids that R0's window bound or *new* forbids in the base's window (I2)."""
    window, d = base.window, base.descriptor
    return [
        row.id for row in rows if not (base.is_new(row.id) and in_window(row.sent_s, window, d))
    ]


def build_batch(d: Descriptor, window: int, rows: Iterable[Row], bodies: Bodies) -> Segment:
    """The one segment that this set of envelopes is in this window (R3).

    Rows are sorted, and a body is read when its page is cut: no body is in memory twice.
    """
    ordered = sorted(rows, key=_in_page_order)
    if any(one.id == other.id for one, other in pairwise(ordered)):
        raise ValueError("an envelope stands twice in a batch")
    totals = Totals(
        count=len(ordered),
        bytes_=sum(row.size_bytes for row in ordered),
        sent_min=min((row.sent_s for row in ordered), default=None),
        sent_max=max((row.sent_s for row in ordered), default=None),
    )
    records = ((row.topic_key, window, bodies(row)) for row in ordered)
    place = Place(level=0, first_window=window, windows=1)
    return assemble(d.set_id, place, totals, records, bucket_bits=d.bucket_bits)


def choose(rows: Sequence[Row], d: Descriptor) -> dict[bytes, Row]:
    """The rows that a proposer takes: all, or where they do not fit the best, up to the limit.

    Stopping at the first that does not fit keeps the rank without gaps: a smaller but worse row
    may not jump the queue.
    """
    if within_limits(len(rows), sum(row.size_bytes for row in rows), d):
        return {row.id: row for row in rows}
    taken: dict[bytes, Row] = {}
    size_bytes = 0
    for row in sorted(rows, key=best_first):
        if not within_limits(len(taken) + 1, size_bytes + row.size_bytes, d):
            break
        taken[row.id] = row
        size_bytes += row.size_bytes
    return taken


class Judge:
    """Answers proposals for one base. A new base needs a new judge: verdicts name their base.

    Each distinct set is built once, and no key may cost more than a few builds.
    """

    def __init__(self, d: Descriptor, base: Base, index: PoolIndex, intake: Intake) -> None:
        self._d = d
        self._base = base
        self._index = index
        self._intake = intake
        self.lists = IdLists(frozenset(v.public_key for v in d.validators))
        self._cids: dict[bytes, bytes] = {}
        self._builds: Counter[bytes] = Counter()
        self._last: Segment | None = None
        self._due: dict[bytes, Row] | None = None
        self.batches: dict[bytes, tuple[bytes, ...]] = {}
        self.builds = 0

    def due(self, frozen: int, settled: int) -> dict[bytes, Row]:
        """The due set, computed once: neither the freeze nor the base changes (R1)."""
        if self._due is None:
            self._due = due_set(self._index, self._base, frozen, settled)
        return self._due

    def verdict(
        self, p: Proposal, ids: tuple[bytes, ...], due: Mapping[bytes, Row], bodies: Bodies
    ) -> Answer | None:
        """None when the batch may be accepted; otherwise what stands in the way.

        Cheap questions come first; bodies are asked for only when nothing else is missing.
        """
        members = frozenset(ids)
        if len(members) != p.count or not within_limits(p.count, p.size_bytes, self._d):
            return Answer.invalid(code="limits")
        rows = [row for id_ in ids if (row := due.get(id_) or self._index.get(id_)) is not None]
        left_out = missing(due, members)
        if left_out and not (
            is_full(p.count, p.size_bytes, self._d) and may_leave_out(left_out, rows)
        ):
            return Answer.missing([row.id for row in left_out[: limits.ANSWER_IDS]])
        # What is due is valid, new and pooled; neither the freeze nor the base changes (R1).
        others = [id_ for id_ in ids if id_ not in due]
        refused = [id_ for id_ in others if self._intake.is_refused(id_)]
        wrong = refused + not_allowed(self._pooled(others), self._base)
        if wrong:
            return Answer.invalid(wrong[: limits.ANSWER_IDS], code="not-allowed")
        needed = lacking_bodies(others, self._index)
        if needed:
            return Answer.need(needed[: limits.ANSWER_IDS])
        return self._rebuild(p, ids, rows, bodies)

    def _pooled(self, ids: Iterable[bytes]) -> list[Row]:
        return [row for id_ in ids if (row := self._index.get(id_)) is not None]

    def _rebuild(
        self, p: Proposal, ids: tuple[bytes, ...], rows: Sequence[Row], bodies: Bodies
    ) -> Answer | None:
        if sum(row.size_bytes for row in rows) != p.size_bytes:
            return Answer.invalid(code="bytes")
        digest = _digest(ids)
        cid = self._cids.get(digest)
        if cid is None:
            if self._builds[p.key] >= limits.BUILDS_PER_KEY:
                return Answer.refused("builds-spent", "this key's builds of the window are spent")
            self._builds[p.key] += 1
            self.builds += 1
            cid = self._build(digest, rows, bodies).root_cid
        if cid != p.cid:
            # Naming a wrong CID costs a build each time: a key may do it once.
            self._builds[p.key] = limits.BUILDS_PER_KEY
            return Answer.invalid(code="cid")
        self.batches[cid] = tuple(row.id for row in rows)  # the pool's own bytes: held once
        return None

    def own_batch(self, ids: tuple[bytes, ...], rows: Iterable[Row], bodies: Bodies) -> Segment:
        """The batch of a set that this very process proposes, kept for its own verdict on it.

        `ids` are those of `rows`, sorted.
        """
        digest = _digest(ids)
        return self.built(self._cids.get(digest, b"")) or self._build(digest, rows, bodies)

    def _build(self, digest: bytes, rows: Iterable[Row], bodies: Bodies) -> Segment:
        self._last = None  # it need not be in memory beside the next one
        self._last = build_batch(self._d, self._base.window, rows, bodies)
        self._cids[digest] = self._last.root_cid
        return self._last

    def built(self, cid: bytes) -> Segment | None:
        """The batch of this CID, if it is the last that was built."""
        return self._last if self._last is not None and self._last.root_cid == cid else None

    def knows_set(self, ids: tuple[bytes, ...]) -> bool:
        """Whether this set was built already: a copy of it costs one look-up."""
        return _digest(ids) in self._cids


def _digest(ids: Iterable[bytes]) -> bytes:
    """What a set is remembered by; ids in order."""
    return sha256(b"".join(ids)).digest()


def lacking_bodies(ids: Iterable[bytes], index: PoolIndex) -> list[bytes]:
    """Ids whose bodies are not durable here: none may be, when an accept is signed (R2)."""
    return [id_ for id_ in ids if id_ not in index]
