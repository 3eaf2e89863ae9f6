"""How many bytes of a segment to ask for before anything of it is known.

A small segment comes whole in the first answer; of a large one the root comes alone, since most of
what follows it is of other topics.
"""

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import car, varint
from restante.formats.layout import PREFIX_BYTES
from restante.formats.page import depth_of
from restante.rules.committed import Committed

# The header, and what of the section after it tells the root's length.
ROOT_LENGTH_BYTES = car.HEADER_BYTES + 4
# Of a root: the fields, a row of its page table (link and six numbers), a topic key.
_FIELDS_BYTES = 1_024
_ROW_BYTES = 72
_KEY_BYTES = 4


def first_bytes(of: Committed, bucket_bits: int, *, whole: bool = False) -> int:
    """How much of part 0 to ask for first.

    Of a batch, whose log entry says how large it is: all of it where that is little, else at least
    its root; with `whole` (all will be read) up to PAGE_RANGE_MAX_BYTES of it. Of a roll-up or an
    index, of which nothing is known: what most roots fit in.
    """
    entry = of.entry
    if entry is None:
        return limits.ROLLUP_PREFIX_BYTES
    # Two neighbouring pages of a bucket exceed a page's target together.
    buckets = 1 << depth_of(entry.bytes_, bucket_bits)
    rows = 2 * (entry.bytes_ // limits.PAGE_TARGET_BYTES) + min(buckets, entry.count)
    fixed = car.HEADER_BYTES + _FIELDS_BYTES
    # Of a record two varints, of a page's section its length and CID.
    outside = _ROW_BYTES * rows + _KEY_BYTES * entry.count + 7 * entry.count + 41 * rows
    everything = fixed + outside + entry.bytes_
    if everything <= PREFIX_BYTES:
        return everything
    if whole:
        return min(everything, limits.PAGE_RANGE_MAX_BYTES)
    keys = _KEY_BYTES * min(entry.count, limits.DIRECTORY_KEYS)
    root = fixed + _ROW_BYTES * min(rows, limits.PAGE_TABLE_ROWS) + keys
    return min(root, PREFIX_BYTES)


def root_section_end(data: bytes) -> int:
    """Where the root's section ends, of the first bytes of part 0 (0 if they do not tell).

    No more than the largest root needs: a longer one is refused where it is read.
    """
    try:
        length, at = varint.decode(data, car.HEADER_BYTES)
    except InvalidEncoding:
        return 0
    return min(at + length, at + limits.SEGMENT_ROOT_MAX_BYTES + 36)
