"""Roll-ups and indexes behind a gateway: ranges of their files, out of verified blocks.

An hour may have gigabytes, of which a reader wants a few pages. So nothing is fetched whole: the
root and the tables say where each block stands and what its hash is, and a range is put together
of the blocks that it touches. What stands between blocks follows from them.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from restante import limits
from restante.errors import Unavailable
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, span
from restante.formats.paths import parse_segment_path
from restante.node.durable.blocks import BlockRow
from restante.node.gateway.cache import Cache
from restante.node.gateway.upstream import Upstream
from restante.node.segment_reader import Section


class PartMap:
    """Where the blocks of one part stand: 49 bytes for each."""

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._lengths = array("I")
        self._codecs = bytearray()
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, section: Section) -> None:
        """The next block."""
        self._offsets.append(section.offset)
        self._lengths.append(section.length)
        self._codecs.append(cids.codec(section.cid))
        self._digests += cids.digest(section.cid)

    @property
    def length(self) -> int:
        """Bytes of the file."""
        return self._offsets[-1] + self._lengths[-1] if self._offsets else car.HEADER_BYTES

    def section(self, part: int, i: int) -> Section:
        """A block's place."""
        digest = bytes(self._digests[32 * i : 32 * i + 32])
        cid = cids.cid_from_digest(self._codecs[i], digest)
        return Section(part, self._offsets[i], self._lengths[i], cid)

    def touched(self, start: int, stop: int) -> range:
        """The blocks that a range of the file touches, with what stands before each."""
        ends = bisect_right(self._offsets, stop)
        first = max(0, bisect_right(self._offsets, start) - 1)
        if first < len(self) and self._offsets[first] + self._lengths[first] <= start:
            first += 1
        # The next block's own bytes begin behind the range; its section may begin within.
        return range(first, min(ends + 1, len(self)))


class RollupFiles:
    """Serves ranges. Blocking; any thread may call it."""

    def __init__(
        self,
        d: Descriptor,
        upstream: Upstream,
        cache: Cache,
        found: Callable[[Span, list[BlockRow]], None],
    ) -> None:
        """`found` is told the blocks of each roll-up before any of it is served or kept, and may
        refuse it."""
        self._d = d
        self._upstream = upstream
        self._cache = cache
        self._found = found
        self._maps: OrderedDict[Span, list[PartMap]] = OrderedDict()
        self._lock = Lock()

    def serves(self, path: str) -> bool:
        """Whether a file of the archive is of a level above 0."""
        return path.startswith("segment/") and parse_segment_path(path)[0] > 0

    def length(self, path: str) -> int:
        """Bytes of a file. Raises Unavailable `not-found`, `pruned`, VerificationFailed."""
        _, part, parts = self._parts(path)
        return parts[part].length

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, all of it verified. Raises as `length`."""
        of, part, parts = self._parts(path)
        of_part = parts[part]
        stop = min(offset + length, of_part.length)
        if offset >= stop:
            return b""
        sections = [of_part.section(part, i) for i in of_part.touched(offset, stop)]
        # Of a block that lies behind the range only what stands before it is wanted.
        blocks = self._blocks(path, of, [s for s in sections if s.offset < stop])
        pieces = [car.header(parts[0].section(0, 0).cid)] if offset < car.HEADER_BYTES else []
        start = 0 if pieces else sections[0].offset - car.section_overhead(sections[0].length)
        for section in sections:
            block = blocks.get(section.cid, bytes(section.length))
            pieces.append(car.section(section.cid, block))
        return b"".join(pieces)[offset - start : stop - start]

    def _parts(self, path: str) -> tuple[Span, int, list[PartMap]]:
        level, number, part = parse_segment_path(path)
        if level > len(self._d.levels):
            raise Unavailable(f"this set has no {path}", code="not-found")
        of = span(self._d, level, number)
        parts = self._map(path, of)
        if part >= len(parts):
            raise Unavailable(f"the roll-up has no {path}", code="not-found")
        return of, part, parts

    # --- maps -------------------------------------------------------------------------------

    def _map(self, path: str, of: Span) -> list[PartMap]:
        with self._lock:
            known = self._maps.get(of)
            if known is not None:
                self._maps.move_to_end(of)
                return known
        sections, held = self._upstream.rollup(path, of)
        parts: list[PartMap] = []
        for section in sections:
            while section.part >= len(parts):
                parts.append(PartMap())
            parts[section.part].add(section)
        self._found(of, [(cids.digest(s.cid), s.part, s.offset, s.length) for s in sections])
        for cid, block in held:
            self._cache.put(_block_path(cid), block)
        with self._lock:
            self._maps[of] = parts
            while len(self._maps) > 1 and self._size() > limits.GATEWAY_SECTIONS:
                self._maps.popitem(last=False)
        return parts

    def _size(self) -> int:
        return sum(len(part) for parts in self._maps.values() for part in parts)

    # --- blocks -----------------------------------------------------------------------------

    def _blocks(self, path: str, of: Span, sections: Sequence[Section]) -> dict[bytes, bytes]:
        """The blocks, from the cache or from the sources; neighbours are asked for at once."""
        found: dict[bytes, bytes] = {}
        missing: list[Section] = []
        for section in sections:
            block = self._cache.read(_block_path(section.cid))
            if block is not None and len(block) == section.length:
                found[section.cid] = block
            else:
                missing.append(section)
        for run in _runs(missing):
            for section, block in zip(run, self._upstream.blocks(path, of, run), strict=True):
                self._cache.put(_block_path(section.cid), block)
                found[section.cid] = block
        return found


def _runs(sections: Sequence[Section]) -> Iterator[list[Section]]:
    """Neighbouring blocks together, none of the runs too large for one request."""
    run: list[Section] = []
    for section in sections:
        if run:
            end = run[-1].offset + run[-1].length
            follows = section.offset == end + car.section_overhead(section.length)
            whole = section.offset + section.length - run[0].offset
            if not follows or whole > limits.PAGE_RANGE_MAX_BYTES:
                yield run
                run = []
        run.append(section)
    if run:
        yield run


def _block_path(cid: bytes) -> str:
    return f"blocks/{cids.to_text(cid)}"
