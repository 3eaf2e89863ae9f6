"""A segment: the envelopes of a run of windows as verifiable blocks; of one window, a batch.

Its bytes follow from set id, windows, bucket bits and the set of envelopes, whoever builds it (R3).
The canonical order of blocks is root, page-table blocks, directory blocks, pages; its CAR, cut in
parts at page boundaries, is what stores take.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from operator import ge
from typing import NamedTuple, Protocol, SupportsIndex

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.cut import Block, Record, cut, directory_table, page_table
from restante.formats.entry import LogEntry
from restante.formats.page import (
    TOPIC_KEY_MAX,
    Member,
    PageRow,
    bucket_of,
    depth_of,
    parse,
    parse_page_block,
    topic_key,
)
from restante.formats.root import (
    SegmentRoot,
    check_directory_block,
    check_page_block,
    check_root,
    parse_directory_block,
    parse_root,
)

__all__ = [
    "Contents",
    "Member",
    "Segment",
    "SegmentRoot",
    "SetParameters",
    "build",
    "check_directory",
    "check_directory_block",
    "check_page",
    "check_page_block",
    "check_records",
    "check_root",
    "parse_directory_block",
    "parse_page_block",
    "parse_root",
    "read_cars",
    "topic_key",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A built segment."""

    root_cid: bytes
    """What the log entry commits to."""
    root: SegmentRoot
    rows: tuple[PageRow, ...]
    """The whole page table, wherever its rows stand."""
    blocks: list[Block]
    """(CID, block) in canonical order."""

    @property
    def count(self) -> int:
        """Envelopes."""
        return self.root.count

    @property
    def bytes_(self) -> int:
        """Sum of the envelopes' lengths."""
        return self.root.bytes_

    @property
    def sent_min(self) -> int | None:
        """Least sent time, unix seconds."""
        return self.root.sent_min

    @property
    def sent_max(self) -> int | None:
        """Greatest sent time, unix seconds."""
        return self.root.sent_max

    def entry(self, rollups: tuple[bytes | None, ...] = ()) -> LogEntry:
        """The log entry of this batch, with the roll-ups that come due there."""
        r = self.root
        return LogEntry(
            r.first_window, self.root_cid, r.count, r.bytes_, r.sent_min, r.sent_max, rollups
        )

    def part_blocks(self) -> list[list[Block]]:
        """The blocks of each CAR, in order."""
        head = len(self.blocks) - len(self.rows)
        parts: list[list[Block]] = [self.blocks[:head]]
        for row, block in zip(self.rows, self.blocks[head:], strict=True):
            if row.part == len(parts):
                parts.append([])
            parts[-1].append(block)
        return parts

    def cars(self) -> list[bytes]:
        """The CAR files: `<n>.car`, `<n>.1.car`, … Every part names the same root."""
        return [car.write(self.root_cid, blocks) for blocks in self.part_blocks()]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a segment's envelopes add up to."""

    count: int
    bytes_: int
    """Sum of their lengths."""
    sent_min: int | None
    """Unix seconds; None without envelopes."""
    sent_max: int | None


class Place(NamedTuple):
    """Which windows a segment covers."""

    level: int
    first_window: int
    windows: int


class Cars:
    """The CAR files of a segment, each made when it is asked for: a large batch's need not be in
    memory all at once."""

    def __init__(self, segment: Segment) -> None:
        self._root_cid = segment.root_cid
        self._parts = segment.part_blocks()

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, part: SupportsIndex, /) -> bytes:
        return car.write(self._root_cid, self._parts[part])


def build(
    set_id: bytes,
    members: Iterable[Member],
    first_window: int,
    windows: int = 1,
    level: int = 0,
    *,
    bucket_bits: int,
) -> Segment:
    """The one segment of a set of envelopes, in any order; nothing is parsed or hashed again.

    Raises ValueError for members that no segment holds: a caller's mistake, not a stranger's.
    """
    ordered = sorted(members)
    if any(a.id == b.id for a, b in pairwise(ordered)):
        raise ValueError("an envelope stands twice in a segment")
    totals = Totals(
        count=len(ordered),
        bytes_=sum(len(member.raw) for member in ordered),
        sent_min=min((member.sent_s for member in ordered), default=None),
        sent_max=max((member.sent_s for member in ordered), default=None),
    )
    records = ((member.topic_key, member.window, member.raw) for member in ordered)
    place = Place(level, first_window, windows)
    return assemble(set_id, place, totals, records, bucket_bits=bucket_bits)


def assemble(
    set_id: bytes,
    place: Place,
    totals: Totals,
    records: Iterable[Record],
    *,
    bucket_bits: int,
) -> Segment:
    """The segment of records that are in order already, each once, and that add up to `totals`.

    An envelope is needed no longer than until its page is cut. Raises ValueError as `build`.
    """
    depth = depth_of(totals.bytes_, bucket_bits)
    directory = array("I")
    pages = list(cut(records, place.first_window, place.windows, depth, directory))
    rows = [row for row, _ in pages]
    root_cid, root, head = make_head(set_id, place, totals, depth, rows, directory)
    return Segment(root_cid, root, tuple(rows), head + [(row.cid, page) for row, page in pages])


def make_head(
    set_id: bytes,
    place: Place,
    totals: Totals,
    depth: int,
    rows: Sequence[PageRow],
    directory: "array[int]",
) -> tuple[bytes, SegmentRoot, list[Block]]:
    """(root CID, root, the blocks before the pages: root, page table, directory).

    Raises ValueError when a root cannot name it all.
    """
    inline_rows, row_blocks, table = page_table(rows)
    inline_keys, directory_blocks, key_blocks = directory_table(directory)
    root = SegmentRoot(
        set_id=set_id,
        level=place.level,
        first_window=place.first_window,
        windows=place.windows,
        count=totals.count,
        bytes_=totals.bytes_,
        sent_min=totals.sent_min,
        sent_max=totals.sent_max,
        depth=depth,
        pages=inline_rows,
        page_blocks=row_blocks,
        directory=inline_keys,
        directory_blocks=directory_blocks,
    )
    block = root.encode()
    if len(block) > limits.SEGMENT_ROOT_MAX_BYTES:
        raise ValueError("more pages or topics than a segment's root can name")
    root_cid = cids.cid_of(cids.DAG_CBOR, block)
    return root_cid, root, [(root_cid, block), *table, *key_blocks]


TopicOf = Callable[[bytes], bytes]
SentOf = Callable[[bytes], int]


def check_page(
    root: SegmentRoot,
    row: PageRow,
    page: bytes,
    topic_of: TopicOf,
    sent_of: SentOf,
    *,
    following: PageRow | None = None,
) -> list[Member]:
    """The members of a page, everything about it re-checked: hash, row, records, order, bucket.

    `topic_of` and `sent_of` read one envelope and raise Invalid errors. With `following`, the next
    row of the table, the page must also end before it. Raises InvalidEncoding, and
    VerificationFailed: `block-hash`, `page-contradicts-table`, `page-order` or `page-bucket`.
    """
    cids.check(row.cid, page)
    return check_records(
        root, row, page, lambda raw: (topic_of(raw), sent_of(raw)), following=following
    )


def check_records(
    root: SegmentRoot,
    row: PageRow,
    page: bytes,
    read: Callable[[bytes], tuple[bytes, int]],
    *,
    following: PageRow | None = None,
) -> list[Member]:
    """All of `check_page` but the hash, which the caller must have compared with `row.cid`.

    `read` gives (topic, sent time) of one envelope. Raises as `check_page`.
    """
    first_window, set_id = root.first_window, root.set_id
    keys: dict[bytes, int] = {}
    members: list[Member] = []
    for window, raw in parse(page, first_window, root.windows):
        topic, sent_s = read(raw)
        key = keys.get(topic)
        if key is None:
            key = keys[topic] = topic_key(set_id, topic)
        members.append(Member(key, window, sent_s, sha256(raw).digest(), raw))
    if (len(page), len(members), members[0][:2]) != (row.length, row.records, row[:2]):
        raise VerificationFailed("a page is not what its table says", code="page-contradicts-table")
    # Members that differ in nothing but their bytes there are none: the id is the bytes' hash.
    if any(map(ge, members, members[1:])) or (
        following is not None and members[-1][:2] > following[:2]
    ):
        raise VerificationFailed("a page's records are out of order", code="page-order")
    # In order, so the first and the last say it of all.
    if bucket_of(members[0].topic_key, root.depth) != bucket_of(members[-1].topic_key, root.depth):
        raise VerificationFailed("a page spans two topic buckets", code="page-bucket")
    return members


def check_directory(
    keys: Iterable[int], page_keys: Iterable[int], low: int = 0, high: int = TOPIC_KEY_MAX
) -> None:
    """Refuse a directory that names other topic keys in low…high than its pages hold.

    `page_keys` are the keys of all records of every page that may hold a key of that range: one
    key in exact mode, a bucket's in bucket mode, all of them for a whole segment.
    Raises VerificationFailed, code `directory-contradicts-page`.
    """
    listed = {key for key in keys if low <= key <= high}
    held = {key for key in page_keys if low <= key <= high}
    if listed != held:
        key = min(listed ^ held)
        claim = "names" if key in listed else "lacks"
        raise VerificationFailed(
            f"the directory {claim} topic key {key:08x}, against its pages",
            code="directory-contradicts-page",
        )


class SetParameters(Protocol):
    """What of a descriptor the bytes of a segment depend on."""

    @property
    def set_id(self) -> bytes:
        """SHA-256 of the descriptor."""
        ...

    @property
    def bucket_bits(self) -> int:
        """The greatest depth."""
        ...


class Contents(NamedTuple):
    """A segment that was read back and verified in full."""

    segment: Segment
    members: list[Member]
    """In the order of records."""


def read_cars(
    parts: Sequence[bytes], d: SetParameters, topic_of: TopicOf, sent_of: SentOf
) -> Contents:
    """A segment of its CAR files, accepted only if its members build exactly these files again.

    Which root is expected is the caller's question (`Contents.segment.root_cid`).
    Raises InvalidEncoding, VerificationFailed (codes of `check_page` and `check_directory`,
    `segment-parts`, `segment-not-canonical`), and what `topic_of` and `sent_of` raise.
    """
    if not 0 < len(parts) <= limits.SEGMENT_MAX_PARTS:
        raise InvalidEncoding(f"a segment of {len(parts)} parts")
    read = [car.read(part) for part in parts]
    root_cid = read[0][0]
    blocks = [block for _, part in read for block in part]
    if not blocks or blocks[0][0] != root_cid or any(root != root_cid for root, _ in read):
        raise VerificationFailed("the parts do not begin with their root", code="segment-parts")
    root = parse_root(blocks[0][1])
    if root.set_id != d.set_id or root.depth != depth_of(root.bytes_, d.bucket_bits):
        raise VerificationFailed("a segment of another set", code="segment-not-canonical")
    rows, keys, head = _read_tables(root, blocks)
    if len(blocks) != head + len(rows):
        raise VerificationFailed("blocks are missing or too many", code="segment-parts")
    members: list[Member] = []
    for index, (row, (_, page)) in enumerate(zip(rows, blocks[head:], strict=True)):
        following = rows[index + 1] if index + 1 < len(rows) else None
        members += check_page(root, row, page, topic_of, sent_of, following=following)
    check_directory(keys, (member.topic_key for member in members))
    try:
        segment = build(
            root.set_id,
            members,
            root.first_window,
            root.windows,
            root.level,
            bucket_bits=d.bucket_bits,
        )
    except ValueError as error:
        raise VerificationFailed(str(error), code="segment-not-canonical") from error
    # A section follows from its block, so equal CIDs, part by part, are equal files.
    if _part_cids(segment.part_blocks()) != _part_cids([part for _, part in read]):
        raise VerificationFailed(
            "the members of a segment build another one", code="segment-not-canonical"
        )
    return Contents(segment, members)


def _part_cids(parts: list[list[Block]]) -> list[list[bytes]]:
    return [[cid for cid, _ in part] for part in parts]


def _read_tables(
    root: SegmentRoot, blocks: Sequence[Block]
) -> tuple[list[PageRow], list[int], int]:
    """(rows, topic keys, how many blocks come before the pages)."""
    at = 1
    rows, keys = list(root.pages or ()), list(root.directory or ())
    for named in root.page_blocks or ():
        rows += check_page_block(named, _block(blocks, at), rows[-1] if rows else None)
        at += 1
    for listed in root.directory_blocks or ():
        keys += check_directory_block(listed, _block(blocks, at))
        at += 1
    return rows, keys, at


def _block(blocks: Sequence[Block], at: int) -> bytes:
    if at >= len(blocks):
        raise VerificationFailed("blocks are missing", code="segment-parts")
    return blocks[at][1]
