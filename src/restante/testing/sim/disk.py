"""A validator's three folders on virtual disk: what a crash leaves is what was synced, and perhaps
a part of what was not.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from restante.formats.index_cut import Index
from restante.formats.level import Span
from restante.formats.segment import Segment
from restante.formats.tree import Frontier, leaf_hash
from restante.rules import actions as act
from restante.rules.adopt import Adoption
from restante.rules.cosign import Signed
from restante.rules.validator import Restored

T = TypeVar("T")


class Journal(Generic[T]):
    """An append-only file of records."""

    def __init__(self) -> None:
        self.records: list[T] = []
        self.synced = 0

    def write(self, record: T) -> None:
        self.records.append(record)

    def sync(self) -> None:
        self.synced = len(self.records)

    def crash(self, rng: Random) -> None:
        """Lose unsynced records, all or from some point on."""
        del self.records[self.synced + rng.randint(0, len(self.records) - self.synced) :]
        self.synced = len(self.records)


class Decision(NamedTuple):
    """Lock: the decision of a window."""

    window: int
    slot: int
    entry_hash: bytes
    cid: bytes
    certificate: bytes
    entry: bytes


class PeerCosignature(NamedTuple):
    """Lock: the newest cosignature of a peer that was read."""

    peer: str
    size: int
    root: bytes
    value: bytes


class Adopted(NamedTuple):
    """Lock: a tree that was taken over, and its entries, which stand for the tiles."""

    made: Adoption
    entries: tuple[bytes, ...]


class Archived(NamedTuple):
    """Archive: a batch."""

    window: int
    cid: bytes
    segment: Any
    ids: tuple[bytes, ...]
    raws: tuple[bytes, ...]


class RolledUp(NamedTuple):
    """Archive: a roll-up."""

    span: Span
    cid: bytes
    made: Segment | Index
    records: tuple[tuple[int, bytes, bytes], ...] = ()
    """(window, id, envelope) of bodies."""


@dataclass(slots=True)
class Disk:
    """pool/, lock/ and archive/ of one validator, with indexes that a restart rebuilds."""

    pool_id: bytes
    pool: Journal[tuple[int, bytes]] = field(default_factory=Journal)
    lock: Journal[Any] = field(default_factory=Journal)
    archive: Journal[Archived | RolledUp] = field(default_factory=Journal)
    pool_floor: int = 0
    released: set[Span] = field(default_factory=set)
    """Whose segments went after their parent's entry."""
    kept_from: int = 0
    """The lowest window that retention keeps."""

    def body(self, position: int) -> bytes:
        """A durable body of the pool. Raises IndexError below the floor or beyond the sync."""
        if not self.pool_floor <= position < self.pool.synced:
            raise IndexError(f"pool position {position} is not durable here")
        return self.pool.records[position][1]

    def decisions(self) -> list[Decision]:
        return [r for r in self.lock.records if isinstance(r, Decision)]

    def adopted(self) -> Adopted | None:
        """The newest tree that was taken over."""
        found = [r for r in self.lock.records if isinstance(r, Adopted)]
        return found[-1] if found else None

    def followed(self) -> list[Decision]:
        """The decisions that continue what was adopted, or all."""
        adopted = self.adopted()
        start = 0 if adopted is None else adopted.made.size
        return [d for d in self.decisions() if d.window >= start]

    def entries(self) -> list[bytes]:
        """The log."""
        adopted = self.adopted()
        before = () if adopted is None else adopted.entries
        return [*before, *(d.entry for d in self.followed())]

    def frontier(self) -> Frontier:
        """The log's tree."""
        return Frontier.EMPTY.extend(map(leaf_hash, self.entries()))

    def size(self) -> int:
        return len(self.entries())

    @property
    def floor(self) -> int:
        """The lowest window whose batch is here, and all after it."""
        adopted = self.adopted()
        return max(self.kept_from, 0 if adopted is None else adopted.made.floor)

    def batches(self) -> list[Archived]:
        """The batches from the floor on."""
        records = self.archive.records[: self.archive.synced]
        return [r for r in records if isinstance(r, Archived) and r.window >= self.floor]

    def adopting(self) -> bool:
        """Whether a batch of what was adopted is not here yet."""
        adopted = self.adopted()
        if adopted is None:
            return False
        here = {batch.window for batch in self.batches()}
        return any(w not in here for w in range(self.floor, adopted.made.size))

    def keep_from(self, window: int) -> None:
        """Give up what is below a window. The archive has nothing unsynced now."""
        self.kept_from = max(self.kept_from, window)
        self.archive.records = [
            r for r in self.archive.records if not isinstance(r, Archived) or r.window >= window
        ]
        self.archive.sync()

    def peer_cosignatures(self) -> list[PeerCosignature]:
        return [r for r in self.lock.records if isinstance(r, PeerCosignature)]

    def cosignatures(self) -> list[act.Cosign]:
        return [r for r in self.lock.records if isinstance(r, act.Cosign)]

    def accepts(self) -> list[act.Accept]:
        return [r for r in self.lock.records if isinstance(r, act.Accept)]

    def freezes(self) -> dict[int, int]:
        return {r.window: r.position for r in self.lock.records if isinstance(r, act.Freeze)}

    def batch(self, window: int, cid: bytes) -> Archived | None:
        """A decided batch, the newest first: a log that was rebuilt may hold another one."""
        return next(
            (
                a
                for a in reversed(self.archive.records)
                if isinstance(a, Archived) and (a.window, a.cid) == (window, cid)
            ),
            None,
        )

    def rolled_up(self, span: Span, cid: bytes | None = None) -> RolledUp | None:
        """The roll-up of a span, if it is durable here; of one CID, if that is given."""
        for record in self.archive.records[: self.archive.synced]:
            if isinstance(record, RolledUp) and record.span == span and cid in (None, record.cid):
                return record
        return None

    def covering(self, window: int) -> RolledUp | None:
        """The lowest roll-up here that holds a window's bodies."""
        holding = [
            r
            for r in self.archive.records[: self.archive.synced]
            if isinstance(r, RolledUp) and window in r.span and isinstance(r.made, Segment)
        ]
        return min(holding, key=lambda r: r.span.level, default=None)

    def release(self, span: Span) -> None:
        """Its segment goes: a parent of it is kept. The archive has nothing unsynced now."""
        self.released.add(span)
        self.archive.records = [
            r
            for r in self.archive.records
            if (r.span != span if isinstance(r, RolledUp) else (0, r.window) != span[:2])
        ]
        self.archive.sync()

    def ids(self, decision: Decision) -> tuple[bytes, ...]:
        """The envelopes of a decided window, also of a batch that was released."""
        archived = self.batch(decision.window, decision.cid)
        if archived is not None:
            return archived.ids
        rolled = self.covering(decision.window)
        assert rolled is not None, "a decision without its envelopes"
        return tuple(id_ for window, id_, _ in rolled.records if window == decision.window)

    def lose_log(self) -> None:
        """The log and everything that names it is gone; freezes, accepts and cosignatures stay."""
        gone = (Decision, act.Advance)
        self.lock.records = [r for r in self.lock.records if not isinstance(r, gone)]
        self.archive.records = []
        self.released.clear()
        self.lock.sync()
        self.archive.sync()

    def snapshot(self) -> tuple[list[Any], list[Archived | RolledUp]]:
        """A backup of lock/ and archive/, which nobody may make of lock/."""
        return list(self.lock.records), list(self.archive.records)

    def restore(self, snapshot: tuple[list[Any], list[Archived | RolledUp]]) -> None:
        self.lock.records, self.archive.records = list(snapshot[0]), list(snapshot[1])
        self.lock.sync()
        self.archive.sync()

    def restored(self) -> Restored:
        """What a restart reads."""
        adopted = self.adopted()
        before = () if adopted is None else adopted.entries
        recent = [(b.window, b.ids) for b in self.batches() if b.window < len(before)]
        decisions = self.followed()
        cosigned = self.cosignatures()
        slot = 0
        for record in self.lock.records:
            if isinstance(record, act.Advance | Decision):
                slot = max(slot, record.slot)
        cursors = {
            r.peer: (r.pool_id, r.position) for r in self.lock.records if isinstance(r, act.Cursor)
        }
        return Restored(
            freezes=self.freezes(),
            accepts=self.accepts(),
            adopted=Frontier.EMPTY.extend(map(leaf_hash, before)),
            entries=[d.entry for d in decisions],
            recent=recent
            + [(d.window, self.ids(d)) for d in decisions if d.window >= self.kept_from],
            cosigned=Signed(cosigned[-1].size, cosigned[-1].root) if cosigned else None,
            engine_slot=slot,
            pool_floor=self.pool_floor,
            pool=self.pool.records[self.pool_floor :],
            cursors=cursors,
        )
