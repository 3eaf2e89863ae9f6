"""An index, from its root down to the rows of its children's pages: which bytes are needed, and
that they are right.

What fails is the source's lie where a hash is wrong, and the set's fault where the hashes hold and
the contents contradict each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import car
from restante.formats import index as indexes
from restante.formats.descriptor import Descriptor
from restante.formats.index import IndexBlock, IndexChild, IndexRoot
from restante.formats.level import Span, children
from restante.formats.page import PageRow, depth_of
from restante.rules.committed import Committed
from restante.rules.first_bytes import root_section_end
from restante.rules.query import Mode
from restante.rules.verify import SetFault, by_hash, failing_as
from restante.rules.verify_segment import Piece, key_ranges


class Block(NamedTuple):
    """A block of the index, and where in the CAR it stands."""

    named: IndexBlock
    offset: int
    """Of the block itself, from the start of the file."""
    beyond: int | None
    """Topic key of the first event of the next block; None behind the last."""


@dataclass(frozen=True, slots=True)
class Child:
    """What an index says of one segment below it."""

    span: Span
    told: IndexChild
    runs: tuple[tuple[PageRow, ...], ...]
    """Runs of its page table that hold the rows of the key ranges asked for, and perhaps others."""
    keys: frozenset[int]
    """Its topic keys in those ranges, and perhaps others."""


class TrustedIndex:
    """One index: `read_prefix`, then `take` while `needs` names pieces, then `child` for each."""

    def __init__(
        self, d: Descriptor, of: Committed, mode: Mode, topics: Sequence[bytes], windows: range
    ) -> None:
        """`windows` are those whose children are asked for."""
        self._d = d
        self._of = of
        self._mode = mode
        self._topics = topics
        self._windows = windows
        self._prefix = b""
        self._root: IndexRoot | None = None
        self._start = 0
        """Of the region of blocks in the CAR: behind root and tables."""
        self._blocks: dict[int, Block] = {}
        """By number, those whose names are known."""
        self._contents: dict[int, indexes.Contents] = {}
        self._ranges: list[tuple[int, int]] = []
        self._needed: list[Piece] = []
        self._stage = "root"

    @property
    def spans(self) -> list[Span]:
        """Its children that hold windows asked for."""
        wanted = self._windows
        return [
            span
            for span in children(self._d, self._of.span)
            if span.first < wanted.stop and span.stop > wanted.start
        ]

    @property
    def root(self) -> IndexRoot:
        """Its root; RuntimeError before it was read."""
        if self._root is None:
            raise RuntimeError("the root comes first")
        return self._root

    def told(self, span: Span) -> IndexChild | None:
        """What the root says of a child: None that it has no roll-up."""
        return self.root.children[(span.first - self._of.span.first) // span.windows]

    # --- root, tables, blocks -----------------------------------------------------------------

    def read_prefix(self, data: bytes, asked: int | None = None) -> None:
        """Take the first bytes of its CAR, as `TrustedSegment.read_prefix`.

        Raises VerificationFailed `root-hash`, `truncated`; SetFault `root-contradicts-entry`.
        """
        self._prefix = data
        missing = root_section_end(data) - len(data)
        if missing > 0 and asked is not None and len(data) >= asked:
            self._needed = [Piece(0, len(data), missing, "root", 0)]
            return
        self._read_root(data)

    def needs(self) -> list[Piece]:
        """What is to be fetched and taken next; empty once everything was verified."""
        return [piece.beyond(self._prefix) for piece in self._needed]

    def take(self, piece: Piece, data: bytes) -> None:
        """Verify one of the pieces of `needs`.

        Raises VerificationFailed `truncated`, `index-block`; SetFault `index-block`.
        """
        needed = piece.origin(self._needed)
        if needed is None or needed.beyond(self._prefix) != piece:
            raise RuntimeError("nobody asked for that piece")
        if piece.kind == "root":
            self._needed = []
            self._read_root(self._prefix + data[: piece.length])
            return
        self._verify(needed, needed.within(self._prefix) + data)
        self._needed.remove(needed)
        if not self._needed:
            self._advance()

    def _read_root(self, data: bytes) -> None:
        try:
            named, at = car.read_header(data)
            cid, block, end = car.read_section(data, at, limits.INDEX_ROOT_MAX_BYTES)
        except Invalid as error:
            short = root_section_end(data) > len(data) or len(data) < car.HEADER_BYTES + 2
            code = "truncated" if short else "root-hash"
            raise VerificationFailed(f"{self._of}: {error}", code=code) from error
        if not named == cid == self._of.cid:
            raise VerificationFailed(f"{self._of}: another root", code="root-hash")
        with failing_as("root-contradicts-entry", SetFault):
            self._root = self._checked(indexes.parse_root(block))
        self._prefix, self._start = data, end
        self._ranges = self._key_ranges()
        if self._root.tables is None:
            self._name_blocks(0, 0, self._root.blocks or (), None)
        else:
            self._need_tables(self._root.tables)
        self._advance()

    def _checked(self, root: IndexRoot) -> IndexRoot:
        """The root, if it is of what the log names it for, and what it says is possible."""
        span, d = self._of.span, self._d
        below = children(d, span)
        claimed = (root.set_id, root.level, root.first_window, root.windows, len(root.children))
        if claimed != (d.set_id, span.level, span.first, span.windows, len(below)):
            raise InvalidEncoding(f"{self._of}: of other windows")
        for each, told in zip(below, root.children, strict=True):
            if told is None and each.level:
                continue
            if told is None:
                raise InvalidEncoding(f"{self._of}: a batch is always there")
            if told.depth != depth_of(told.bytes_, d.bucket_bits):
                raise InvalidEncoding(f"{self._of}: a child has another depth than its bytes")
            if each.level and told.bytes_ > d.rollup_limit_bytes:
                raise InvalidEncoding(f"{self._of}: a child is over the limit")
            least, greatest = d.sent_bounds_s(each.first)[0], d.sent_bounds_s(each.stop - 1)[1]
            sent = [time_s for time_s in (told.sent_min, told.sent_max) if time_s is not None]
            if any(not least <= time_s <= greatest for time_s in sent):
                raise InvalidEncoding(f"{self._of}: a child's sent times are impossible")
        return root

    def _key_ranges(self) -> list[tuple[int, int]]:
        """The ranges of topic keys whose blocks are read: in bucket mode the coarsest of the

        children's buckets, so that the blocks tell no more of a topic than its pages do.
        """
        told = [self.told(span) for span in self.spans]
        depth = min((child.depth for child in told if child and child.envelopes), default=0)
        return key_ranges(self._mode, self._topics, self._d.set_id, depth)

    def _need_tables(self, tables: Sequence[indexes.IndexTable]) -> None:
        offsets: list[int] = []
        for table in tables:
            offsets.append(self._start + car.section_overhead(table.length))
            self._start += car.section_bytes(table.length)
        wanted = {n for low, high in self._ranges for n in indexes.blocks_for(tables, low, high)}
        self._needed = [
            Piece(0, offsets[n], tables[n].length, "index-table", n) for n in sorted(wanted)
        ]

    def _name_blocks(
        self, first: int, offset: int, names: Sequence[IndexBlock], beyond: int | None
    ) -> None:
        """Take note of blocks; the first has this number and place in the blocks' region."""
        at = self._start + offset
        for i, name in enumerate(names):
            after = names[i + 1].topic_key if i + 1 < len(names) else beyond
            place = at + car.section_overhead(name.length)
            self._blocks[first + i] = Block(name, place, after)
            at += car.section_bytes(name.length)

    def _advance(self) -> None:
        """Take what the prefix holds, and go on from tables to blocks when that was all."""
        while True:
            for piece in [p for p in self._needed if p.offset + p.length <= len(self._prefix)]:
                self._verify(piece, self._prefix[piece.offset : piece.offset + piece.length])
                self._needed.remove(piece)
            if self._needed:
                return
            if self._stage == "blocks":
                self._prefix = b""
                return
            self._stage = "blocks"
            wanted = {n for low, high in self._ranges for n in self._blocks_for(low, high)}
            blocks = [(n, self._blocks[n]) for n in sorted(wanted)]
            self._needed = [
                Piece(0, block.offset, block.named.length, "index-block", n) for n, block in blocks
            ]

    def _blocks_for(self, low: int, high: int) -> list[int]:
        return [
            n
            for n, block in self._blocks.items()
            if block.named.topic_key <= high and (block.beyond is None or block.beyond >= low)
        ]

    def _verify(self, piece: Piece, data: bytes) -> None:
        if len(data) < piece.length:
            raise VerificationFailed(
                f"{self._of}, {piece.kind}: {len(data)} of {piece.length} bytes", code="truncated"
            )
        data = data[: piece.length]
        with by_hash("index-block"):
            if piece.kind == "index-table":
                self._read_table(piece.number, data)
            else:
                block = self._blocks[piece.number]
                contents = indexes.check_block(block.named, data, self.root, later=True)
                self._check_contents(block, contents)
                self._contents[piece.number] = contents

    def _read_table(self, n: int, data: bytes) -> None:
        tables = self.root.tables or ()
        names = indexes.check_table(tables[n], data)
        after = tables[n + 1] if n + 1 < len(tables) else None
        end = tables[n].offset + sum(car.section_bytes(name.length) for name in names)
        if after is not None and (after.offset != end or after.topic_key < names[-1].topic_key):
            raise InvalidEncoding("index tables do not follow each other")
        beyond = None if after is None else after.topic_key
        self._name_blocks(n * limits.INDEX_NAMES, tables[n].offset, names, beyond)

    def _check_contents(self, block: Block, contents: indexes.Contents) -> None:
        """That a block holds events from its own first key to the next block's alone."""
        last = next(reversed(contents.keys))
        if block.beyond is not None and last > block.beyond:
            raise InvalidEncoding("index block: a key of the next block")

    def _rows(self, n: int, bit: int, span: Span) -> tuple[PageRow, ...]:
        """The rows of one child in a block that was read. Raises InvalidEncoding."""
        keys, rows = self._contents[n].keys, self._contents[n].rows_of(bit)
        if any(row.window not in span for row in rows):
            raise InvalidEncoding("index block: a row of another child")
        # Only the first row of a run stands before the block's own events.
        own = rows[1:] if rows and rows[0].topic_key < self._blocks[n].named.topic_key else rows
        if any(not keys.get(row.topic_key, 0) >> bit & 1 for row in own):
            raise InvalidEncoding("index block: a page begins with a key its child lacks")
        return rows

    # --- children -----------------------------------------------------------------------------

    def lacks(self, span: Span) -> bool:
        """Whether a child holds none of the topics, so that nothing of it is to be read.

        Only exact mode can tell: the masks of its topics' keys say it.
        """
        if self._mode != "exact":
            return False
        bit = (span.first - self._of.span.first) // span.windows
        return not any(
            contents.keys.get(low, 0) >> bit & 1
            for contents in self._contents.values()
            for low, _ in self._ranges
        )

    def child(self, span: Span) -> Child | None:
        """What of one child is to be read; None if it has no roll-up.

        Raises SetFault `index-block`.
        """
        if self._needed or self._root is None:
            raise RuntimeError("the index is not read to the end")
        told = self.told(span)
        if told is None:
            return None
        bit = (span.first - self._of.span.first) // span.windows
        runs: list[list[PageRow]] = []
        keys: set[int] = set()
        with failing_as("index-block", SetFault):
            for numbers in _neighbours(sorted(self._contents)):
                rows: list[PageRow] = []
                for n in numbers:
                    contents = self._contents[n]
                    keys.update(key for key, mask in contents.keys.items() if mask >> bit & 1)
                    _join(rows, self._rows(n, bit, span))
                if numbers[0] == 0 and rows and rows[0][2:4] != (0, 0):
                    raise InvalidEncoding("the first page is not at the beginning of part 0")
                runs.append(rows)
            whole = len(self._contents) == len(self._blocks) and self._root.tables is None
            if whole and sum(row.records for rows in runs for row in rows) != told.envelopes:
                raise InvalidEncoding("the rows of a child do not add up to its count")
        return Child(span, told, tuple(map(tuple, runs)), frozenset(keys))


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Ascending numbers, as runs of consecutive ones."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][-1] == n - 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return runs


def _join(rows: list[PageRow], more: Sequence[PageRow]) -> None:
    """Go on with the rows of the next block, which repeats the last one before it."""
    if rows and (not more or more[0] != rows[-1]):
        raise InvalidEncoding("index blocks do not follow each other")
    rows.extend(more[1:] if rows else more)
