"""A small validator set with sealed windows, for tests of what the node keeps on disk.

Nothing is random: the same arguments give the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from restante.formats import tree, whisper
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.index_cut import Index
from restante.formats.index_cut import build as build_index
from restante.formats.keys import SigningKey
from restante.formats.level import Level, Span, children, due_at, ended_by, is_index
from restante.formats.message import Certificate, accept_statement
from restante.formats.note import COSIGNATURE_V1, Note
from restante.formats.segment import Member, Segment, build, topic_key
from restante.node.durable.archive import Archive, Changes
from restante.node.durable.keeping import Keeping
from restante.node.durable.lock import Lock
from restante.node.durable.pool import Pool
from restante.node.durable.rollups import Named, RollUps
from restante.ports import Arrival
from restante.rules.valid import Facts
from restante.rules.valid import examine as examine_whisper
from unit.formats.segments_in_memory import Built

GENESIS_S = 1_500_000_000
POOL_ID, SALT = b"p" * 16, b"s" * 16


def keccak(data: bytes) -> bytes:
    """Any hash does where the floor of proof of work is 0."""
    return sha256(data).digest()


class Sealed(NamedTuple):
    """All that a commit writes of one window."""

    window: int
    raws: tuple[bytes, ...]
    segment: Segment
    cars: list[bytes]
    certificate: bytes
    entry: bytes


@dataclass
class SampleSet:
    """n = 4, f = 1; `next_window` seals window after window."""

    per_window: int = 3
    data_bytes: int = 40
    levels: tuple[Level, ...] = ()
    rollup_lag: int = 2
    rollup_limit_bytes: int = 2**32
    bucket_bits: int = 6
    keys: list[SigningKey] = field(default_factory=list)
    frontier: tree.Frontier = tree.Frontier.EMPTY

    def __post_init__(self) -> None:
        self.keys = [SigningKey(f"v{i}", bytes([i]) * 32) for i in range(4)]
        self.descriptor = Descriptor(
            origin="sample.example/log-00112233",
            genesis_s=GENESIS_S,
            f=1,
            validators=tuple(key.vkey(COSIGNATURE_V1) for key in self.keys),
            pow_floor_millionths=0,
            levels=self.levels,
            rollup_lag=self.rollup_lag,
            rollup_limit_bytes=self.rollup_limit_bytes,
            bucket_bits=self.bucket_bits,
        )
        self.batches: list[Segment] = []
        self.members: list[Member] = []
        self.made: dict[Span, Segment | Index | None] = {}
        """Roll-ups of the spans that have ended, None where they are none."""
        self.set_id = self.descriptor.set_id
        self.key_id = self.descriptor.validators[0].key_id

    def examine(self, raw: bytes) -> Facts:
        return examine_whisper(raw, self.descriptor, keccak)

    def envelope(self, window: int, number: int) -> bytes:
        ttl_s = 50
        sent_s = self.descriptor.start_s(window) + number % 20
        data = sha256(b"%d %d" % (window, number)).digest()
        data = (data * (self.data_bytes // 32 + 1))[: self.data_bytes]
        topic = sha256(b"topic %d" % (number % 5)).digest()[:4]
        return whisper.assemble(sent_s + ttl_s, ttl_s, topic, data, number)

    def seal(self, window: int, raws: list[bytes]) -> Sealed:
        """A decided window over these envelopes, on the log so far; it is not appended to it."""
        members = []
        for raw in raws:
            facts = self.examine(raw)
            key = topic_key(self.set_id, facts.topic)
            members.append(Member(key, window, facts.sent_s, facts.id, raw))
        segment = build(self.set_id, members, window, bucket_bits=self.descriptor.bucket_bits)
        base = (self.frontier.size, self.frontier.root())
        statement = accept_statement(self.set_id, window, *base, segment.root_cid)
        accepts = sorted((key.vkey().key_id, key.sign(statement)) for key in self.keys[:3])
        certificate = Certificate(self.set_id, window, *base, segment.root_cid, tuple(accepts))
        return Sealed(
            window,
            tuple(raws),
            segment,
            segment.cars(),
            certificate.encode(),
            segment.entry(self.due(window)).encode(),
        )

    def due(self, window: int) -> tuple[bytes | None, ...]:
        """What a window's entry names."""
        found = [self.made[each] for each in due_at(self.descriptor, window)]
        return tuple(None if each is None else each.root_cid for each in found)

    def roll_up(self, of: Span) -> Segment | Index | None:
        """The roll-up of a span that has ended, built at once; a mutant builds another."""
        d = self.descriptor
        if is_index(d, of.level):
            below = [self.made[child] for child in children(d, of)]
            return build_index(
                self.set_id,
                of,
                [None if s is None else Built(s) for s in below],  # type: ignore[arg-type]
            )
        mine = [member for member in self.members if member.window in of]
        if sum(len(member.raw) for member in mine) > d.rollup_limit_bytes:
            return None
        return build(self.set_id, mine, of.first, of.windows, of.level, bucket_bits=d.bucket_bits)

    def next_window(self, raws: list[bytes] | None = None) -> Sealed:
        window = self.frontier.size
        if raws is None:
            raws = [self.envelope(window, i) for i in range(self.per_window)]
        sealed = self.seal(window, raws)
        self.batches.append(sealed.segment)
        for raw in raws:
            facts = self.examine(raw)
            key = topic_key(self.set_id, facts.topic)
            self.members.append(Member(key, window, facts.sent_s, facts.id, raw))
        for of in ended_by(self.descriptor, window):
            self.made[of] = self.roll_up(of)
        self.frontier = self.frontier.append(tree.leaf_hash(sealed.entry))
        return sealed

    def cosignature(self, size: int, root: bytes, validator: int = 0) -> bytes:
        text = Checkpoint(self.descriptor.origin, size, root).text()
        return self.keys[validator].cosignature(text, GENESIS_S + size).value

    def checkpoint(self, size: int, root: bytes) -> bytes:
        text = Checkpoint(self.descriptor.origin, size, root).text()
        lines = tuple(key.cosignature(text, GENESIS_S + size) for key in self.keys[:3])
        return Note(text, lines).encode()


@dataclass
class Node:
    """The durable state of one validator, open, and the order in which a commit writes it."""

    sample: SampleSet
    pool: Pool
    lock: Lock
    archive: Archive

    @classmethod
    def create(cls, sample: SampleSet, directory: Path, **hook: Callable[[str], None]) -> "Node":
        node = cls(
            sample,
            Pool.create(directory / "pool", POOL_ID, SALT, **hook),
            Lock.create(directory / "lock", sample.set_id, sample.key_id, **hook),
            Archive.create(directory / "archive", sample.descriptor, **hook),
        )
        node.archive.put_named("descriptor", sample.descriptor.encode())
        return node

    @classmethod
    def open(cls, sample: SampleSet, directory: Path, **hook: Callable[[str], None]) -> "Node":
        return cls(
            sample,
            Pool.open(directory / "pool", **hook),
            Lock.open(directory / "lock", sample.set_id, sample.key_id, **hook),
            Archive.open(directory / "archive", sample.descriptor, **hook),
        )

    def close(self) -> None:
        self.pool.close()
        self.lock.close()
        self.archive.close()

    def observe(self, sealed: Sealed) -> None:
        at_ms = self.sample.descriptor.start_ms(sealed.window)
        self.pool.append([Arrival(at_ms, raw) for raw in sealed.raws])
        self.lock.freeze(sealed.window, self.pool.size)

    def commit(self, sealed: Sealed) -> Changes:
        w = sealed.window
        base = (self.archive.size, self.archive.root())
        self.lock.accept(w, *base, sealed.segment.root_cid)
        changes = self.archive.put_segment(w, sealed.cars)
        changes |= self.archive.put_certificates(w, [sealed.certificate])
        for of in ended_by(self.sample.descriptor, w):
            self._roll_up(of)
        for of in due_at(self.sample.descriptor, w):
            paths = self.archive.segments.paths(of.level, of.number)
            changes |= Changes(tuple(reversed(paths)))
        with self.lock.transaction("commit"):
            self.lock.decide(w, w + 1, sealed.segment.root_cid, sealed.certificate, sealed.entry)
            self.lock.advance_engine(w + 1, sha256(sealed.certificate).digest())
        return changes | self.archive.append_entries(w, [sealed.entry])

    def _roll_up(self, of: Span) -> None:
        """Install a roll-up: made from the archive, or where the sample is wrong as it has it."""
        d, made = self.sample.descriptor, self.sample.made[of]
        if made is None:
            return
        if type(self.sample) is not SampleSet:
            cars = made.cars() if isinstance(made, Segment) else [made.car()]
            self.archive.segments.put(of.level, of.number, cars)
            return
        known = {
            each: each_made and each_made.root_cid for each, each_made in self.sample.made.items()
        }
        known |= {Span(0, w, w, 1): batch.root_cid for w, batch in enumerate(self.sample.batches)}
        below = [Named(child, known[child]) for child in children(d, of)]
        RollUps(d, self.archive.segments, self.archive._hook).make(of, below, made.root_cid)

    def release(
        self,
        floor: int,
        queue: Callable[[Changes], None] = lambda changes: None,
        *,
        kept_windows: int = 1 << 40,
    ) -> Changes:
        """Give up what is below the floor, and children past their time; all that went."""
        keeping = Keeping(self.archive, self.archive._hook)
        gone = Changes()
        while (plan := keeping.plan(floor, kept_windows, 0)) is not None:
            queue(plan.changes)
            keeping.carry_out(plan)
            gone |= plan.changes
        return gone

    def cosign(self) -> Changes:
        size, root = self.archive.size, self.archive.root()
        self.lock.cosign(size, root, self.sample.cosignature(size, root))
        return self.archive.put_checkpoint(self.sample.checkpoint(size, root))
