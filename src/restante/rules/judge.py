"""R2: what a validator may accept. Each clause is a function of its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from restante import limits
from restante.formats.descriptor import Descriptor
from restante.formats.message import Answer, Proposal
from restante.formats.page import Member
from restante.formats.segment import Segment, build
from restante.rules.base import Base
from restante.rules.freeze import due_set
from restante.rules.intake import Intake
from restante.rules.lists import IdLists
from restante.rules.pool import PoolIndex, Row, best_first
from restante.rules.valid import in_window

Bodies = Callable[[Row], bytes]  # the durable bytes of a row


def missing(due: Mapping[bytes, Row], ids: frozenset[bytes]) -> list[Row]:
    """Due rows that a proposal leaves out, best first."""
    return sorted((row for id_, row in due.items() if id_ not in ids), key=best_first)


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
    """The one segment that this set of envelopes is in this window (R3)."""
    return build(
        d.set_id,
        (Member(row.topic_key, window, row.sent_s, row.id, bodies(row)) for row in rows),
        first_window=window,
        windows=1,
        level=0,
        bucket_bits=d.bucket_bits,
    )


def choose(rows: Iterable[Row], d: Descriptor) -> dict[bytes, Row]:
    """The rows that a proposer takes: all, or where they do not fit the best, up to the limit.

    Stopping at the first that does not fit keeps the rank without gaps: a smaller but worse row
    may not jump the queue.
    """
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
        rows = [row for id_ in ids if (row := self._index.get(id_)) is not None]
        left_out = missing(due, members)
        if left_out and not (
            is_full(p.count, p.size_bytes, self._d) and may_leave_out(left_out, rows)
        ):
            return Answer.missing([row.id for row in left_out[: limits.ANSWER_IDS]])
        refused = [id_ for id_ in ids if self._intake.is_refused(id_)]
        wrong = refused + not_allowed(rows, self._base)
        if wrong:
            return Answer.invalid(wrong[: limits.ANSWER_IDS], code="not-allowed")
        needed = lacking_bodies(ids, self._index)
        if needed:
            return Answer.need(needed[: limits.ANSWER_IDS])
        return self._rebuild(p, ids, rows, bodies)

    def _rebuild(
        self, p: Proposal, ids: tuple[bytes, ...], rows: Sequence[Row], bodies: Bodies
    ) -> Answer | None:
        if sum(row.size_bytes for row in rows) != p.size_bytes:
            return Answer.invalid(code="bytes")
        digest = sha256(b"".join(ids)).digest()
        cid = self._cids.get(digest)
        if cid is None:
            if self._builds[p.key] >= limits.BUILDS_PER_KEY:
                return Answer.refused("builds-spent", "this key's builds of the window are spent")
            self._builds[p.key] += 1
            self.builds += 1
            self._last = build_batch(self._d, p.window, rows, bodies)
            cid = self._cids[digest] = self._last.root_cid
        if cid != p.cid:
            # Naming a wrong CID costs a build each time: a key may do it once.
            self._builds[p.key] = limits.BUILDS_PER_KEY
            return Answer.invalid(code="cid")
        self.batches[cid] = ids
        return None

    def built(self, cid: bytes) -> Segment | None:
        """The batch of this CID, if it is the last that was built."""
        return self._last if self._last is not None and self._last.root_cid == cid else None

    def knows_set(self, ids: tuple[bytes, ...]) -> bool:
        """Whether this set was built already: a copy of it costs one look-up."""
        return sha256(b"".join(ids)).digest() in self._cids


def lacking_bodies(ids: Iterable[bytes], index: PoolIndex) -> list[bytes]:
    """Ids whose bodies are not durable here: none may be, when an accept is signed (R2)."""
    return [id_ for id_ in ids if id_ not in index]
