"""A whole small archive with roll-ups: levels of 2 windows and, as an index, of 4.

Ten windows. Windows 2 and 3 are large enough for a roll-up with two buckets, 4 and 5 together are
over the set's limit, 8 and 9 have no roll-up yet. Nothing is mined: the set's floor is 0.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from format_keys import LEVELS_LOG, VALIDATORS

from restante.formats import tiles, tree, whisper
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.index_cut import Index
from restante.formats.index_cut import build as build_index
from restante.formats.keys import SigningKey
from restante.formats.layout import layout_of
from restante.formats.level import Level, Span, children, due_at, is_index
from restante.formats.message import Certificate, accept_statement
from restante.formats.note import ED25519, Note
from restante.formats.page import Member, PageRow, topic_key
from restante.formats.paths import segment_path
from restante.formats.policy import Policy
from restante.formats.root import SegmentRoot
from restante.formats.segment import Segment, build
from restante.rules.rollup import is_made

SIZE = 10
TTL_S = 50
SET = Descriptor(
    origin=LEVELS_LOG.name,
    genesis_s=1_500_000_000,
    f=1,
    validators=tuple(key.vkey() for key in VALIDATORS),
    pow_floor_millionths=0,
    levels=(Level(2), Level(4, "index")),
    rollup_lag=1,
    rollup_limit_bytes=70_000,
)
A, B, C, NEVER = (
    bytes.fromhex(topic) for topic in ("a1b2c3d4", "00000001", "00000002", "ffffffff")
)
# (window, topic, seconds after the window's start, data)
ENVELOPES = [
    (0, A, 20, b"zero"),
    (0, B, 11, b"one"),
    (1, A, -20, b"two, which came late"),
    *((2, bytes([0, 0, 1, i]), i, bytes([i]) * 7_000) for i in range(5)),
    *((3, bytes([0, 0, 2, i]), i, bytes([i]) * 8_000) for i in range(4)),
    (3, A, 25, b"three"),
    (3, B, 26, b"four"),
    (4, A, 1, b"five"),
    (4, C, 2, b"six" * 500),
    *((5, bytes([0, 0, 3, i]), i, bytes([i]) * 11_500) for i in range(6)),
    (7, B, 29, b"seven"),
    (8, A, 3, b"eight"),
]


class Source:
    """A built segment, as what an index is made of."""

    def __init__(self, segment: Segment) -> None:
        self.cid = segment.root_cid
        self.root: SegmentRoot = segment.root
        self.pages_start = layout_of(self.root, self.cid, len(segment.blocks[0][1])).pages_start
        self._segment = segment

    def rows(self) -> Iterable[PageRow]:
        return self._segment.rows

    def topic_keys(self) -> Iterable[int]:
        if self.root.directory is not None:
            return self.root.directory
        data = b"".join(block for _, block in self._segment.blocks[1 : -len(self._segment.rows)])
        data = data[sum(block.length for block in self.root.page_blocks or ()) :]
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]


class Archive(NamedTuple):
    """Everything that was made."""

    members: list[Member]
    bodies: dict[Span, Segment]
    indexes: dict[Span, Index]
    entries: list[LogEntry]

    @property
    def leaves(self) -> list[bytes]:
        return [tree.leaf_hash(entry.encode()) for entry in self.entries]


def member_of(d: Descriptor, window: int, topic: bytes, sent_s: int, raw: bytes) -> Member:
    """An envelope as a segment's member."""
    return Member(topic_key(d.set_id, topic), window, sent_s, sha256(raw).digest(), raw)


def member(d: Descriptor, window: int, topic: bytes, sent_s: int, data: bytes) -> Member:
    """An envelope without work, as a segment's member."""
    raw = whisper.assemble(sent_s + TTL_S, TTL_S, topic, data, 0)
    return member_of(d, window, topic, sent_s, raw)


def segment_of(d: Descriptor, members: Iterable[Member], of: Span) -> Segment:
    mine = [each for each in members if each.window in of]
    return build(d.set_id, mine, of.first, of.windows, of.level, bucket_bits=d.bucket_bits)


Wrong = Mapping[Span, Segment | Index | None]
"""What stands for a span instead of what should: how contradictions are made."""


def made(
    d: Descriptor, members: Sequence[Member], size: int, wrong: Wrong = MappingProxyType({})
) -> Archive:
    """The log of a set, and every segment that it names."""
    archive = Archive(list(members), {}, {}, [])
    for window in range(size):
        own = Span(0, window, window, 1)
        archive.bodies[own] = segment_of(d, members, own)
        rollups = [_rolled_up(d, archive, of, wrong) for of in due_at(d, window)]
        archive.entries.append(archive.bodies[own].entry(tuple(rollups)))
    return archive


def _rolled_up(d: Descriptor, archive: Archive, of: Span, wrong: Wrong) -> bytes | None:
    """The root CID of a roll-up, which the archive then holds; None for one that is not made."""
    committed = sum(archive.entries[w].bytes_ for w in range(of.first, of.stop))
    rollup: Segment | Index | None
    if of in wrong:
        rollup = wrong[of]
    elif not is_made(d, of, committed):
        rollup = None
    elif is_index(d, of.level):
        rollup = index_of(d, archive, of)
    else:
        rollup = segment_of(d, archive.members, of)
    match rollup:
        case Segment():
            archive.bodies[of] = rollup
        case Index():
            archive.indexes[of] = rollup
        case None:
            return None
    return rollup.root_cid


def index_of(d: Descriptor, archive: Archive, of: Span) -> Index:
    """The index of what the archive holds."""
    below = [archive.bodies.get(child) for child in children(d, of)]
    return build_index(d.set_id, of, [None if each is None else Source(each) for each in below])


@cache
def worked() -> Archive:
    start_s = SET.start_s
    members = [member(SET, w, topic, start_s(w) + at, data) for w, topic, at, data in ENVELOPES]
    return made(SET, members, SIZE)


def checkpoint(
    d: Descriptor, log: SigningKey, leaves: Sequence[bytes], signers: Sequence[SigningKey]
) -> bytes:
    text = Checkpoint(d.origin, len(leaves), tree.root(leaves)).text()
    cosigned = [key.cosignature(text, d.end_s(len(leaves) - 1) + 6) for key in signers]
    return Note(text, (log.note_signature(text), *cosigned)).encode()


def policy(d: Descriptor, log: SigningKey) -> Policy:
    return Policy.of_validators(log.vkey(ED25519), d.validators, d.k, d.set_id)


def certificate(d: Descriptor, leaves: Sequence[bytes], window: int, cid: bytes) -> bytes:
    base = tree.root(leaves[:window])
    statement = accept_statement(d.set_id, window, window, base, cid)
    accepts = sorted((key.vkey().key_id, key.sign(statement)) for key in VALIDATORS[: d.k])
    return Certificate(d.set_id, window, window, base, cid, tuple(accepts)).encode()


def log_files(archive: Archive) -> dict[str, bytes]:
    """The files that change when an entry does."""
    leaves = archive.leaves
    size = len(leaves)
    assert size < tiles.WIDTH
    certificates = [certificate(SET, leaves, e.window, e.segment) for e in archive.entries]
    return {
        "checkpoint": checkpoint(SET, LEVELS_LOG, leaves, VALIDATORS[: SET.k]),
        tiles.Tile(0, 0, size).path: b"".join(leaves),
        tiles.entries_path(0, size): tiles.encode_bundle([e.encode() for e in archive.entries]),
        tiles.certificate_path(0, size): tiles.encode_bundle(certificates),
    }


def files(archive: Archive) -> dict[str, bytes]:
    """All files, by path."""
    out = {
        "descriptor": SET.encode(),
        "policy": policy(SET, LEVELS_LOG).encode(),
        **log_files(archive),
    }
    for of, segment in archive.bodies.items():
        (out[segment_path(of.level, of.number)],) = segment.cars()
    for of, index in archive.indexes.items():
        out[segment_path(of.level, of.number)] = index.car()
    return out


# --- what is asked of it --------------------------------------------------------------------------

WHOLE = [(1, 0), (1, 1), (0, 4), (0, 5), (1, 3), (0, 8), (0, 9)]
# (why, topic, windows, the segments that cover them: level and number)
QUERIES = [
    ("a topic in every kind of object", A, (0, 10), WHOLE),
    ("another one", B, (0, 10), WHOLE),
    ("a topic that is in one window alone", C, (0, 10), WHOLE),
    ("a topic that is nowhere", NEVER, (0, 10), WHOLE),
    ("edges within spans", A, (1, 9), [(0, 1), (1, 1), (0, 4), (0, 5), (1, 3), (0, 8)]),
    ("a topic of a bucket with others", bytes([0, 0, 1, 3]), (2, 4), [(1, 1)]),
    ("nothing in the range, something before and after it", A, (5, 8), [(0, 5), (1, 3)]),
    ("one window", B, (3, 4), [(0, 3)]),
]


def queries(archive: Archive) -> list[dict[str, Any]]:
    """Questions with their answers, in the order of answers: sent time, then id."""
    out = []
    for why, topic, (a, b), cover in QUERIES:
        key = topic_key(SET.set_id, topic)
        found = [m for m in archive.members if m.topic_key == key and a <= m.window < b]
        found.sort(key=lambda m: (m.sent_s, m.id))
        out.append(
            {
                "why": why,
                "topic": topic.hex(),
                "windows": [a, b],
                "cover": [list(each) for each in cover],
                "found": [{"id": m.id.hex(), "sent": m.sent_s, "window": m.window} for m in found],
            }
        )
    return out


def encoded(some: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Files by path, in base64; null for one that is gone."""
    return {path: None if data is None else b64encode(data).decode() for path, data in some.items()}


def vectors() -> dict[str, Any]:
    archive = worked()
    return {
        "policy": policy(SET, LEVELS_LOG).encode().decode(),
        "files": encoded(files(archive)),
        "queries": queries(archive),
    }
