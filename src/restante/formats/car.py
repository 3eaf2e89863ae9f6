"""CARv1 (ipld.io/specs/transport/car/carv1): a header that names one root, then CIDs and blocks.

Our CARs have exactly one root, the CIDs of `cid`, and blocks of at most 1 MiB, so that any IPFS
node takes them.
"""

from collections.abc import Iterable
from hashlib import sha256

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid as cids
from restante.formats import dagcbor, varint
from restante.formats.dagcbor import Fields, Link


def header(root: bytes) -> bytes:
    """The header of a CAR with this root."""
    body = dagcbor.encode({"roots": [Link(root)], "version": 1})
    return varint.encode(len(body)) + body


# Every CID has 36 bytes, so every header has the same length.
HEADER_BYTES = len(header(cids.cid_of(cids.RAW, b"")))


def section_overhead(block_bytes: int) -> int:
    """How many bytes of a section stand before its block: varint length and CID."""
    return section_bytes(block_bytes) - block_bytes


def section_bytes(block_bytes: int) -> int:
    """The length of the section of a block of this length: varint length, CID, block."""
    size = cids.CID_BYTES + block_bytes
    # Of nearly all: two bytes of varint stand for 128 … 16,383, three for up to 2,097,151.
    if 128 <= size < 1 << 21:
        return size + (2 if size < 1 << 14 else 3)
    return size + varint.size(size)


def section(cid: bytes, block: bytes) -> bytes:
    """One section; the CID is taken as given."""
    return varint.encode(cids.CID_BYTES + len(block)) + cid + block


def write(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR of (CID, block) in the given order; the CIDs are taken as given."""
    pieces = [header(root)]
    for cid, block in blocks:
        pieces += (varint.encode(cids.CID_BYTES + len(block)), cid, block)
    return b"".join(pieces)


def read_header(data: bytes) -> tuple[bytes, int]:
    """(root CID, offset of the first section). Raises InvalidEncoding."""
    if len(data) < HEADER_BYTES:
        raise InvalidEncoding("a CAR is shorter than its header")
    length, at = varint.decode(data)
    if at + length != HEADER_BYTES:
        raise InvalidEncoding("a CAR's header has not the length of one with one root")
    fields = Fields.decode(data[at:HEADER_BYTES], "CAR header")
    fields.version()
    roots = fields.list_("roots", 1)
    fields.done()
    if len(roots) != 1 or not isinstance(roots[0], Link):
        raise InvalidEncoding("CAR header: not exactly one root")
    return roots[0].cid, HEADER_BYTES


def read_section(
    data: bytes, offset: int, max_block_bytes: int = limits.BLOCK_MAX_BYTES
) -> tuple[bytes, bytes, int]:
    """(CID, block, offset of the next section), the block checked against its CID.

    Raises InvalidEncoding, and VerificationFailed (code `block-hash`) for another block's CID.
    """
    length, at = varint.decode(data, offset)
    end = at + length
    if not cids.CID_BYTES <= length <= cids.CID_BYTES + max_block_bytes:
        raise InvalidEncoding(f"a CAR section of {length} bytes")
    if end > len(data):
        raise InvalidEncoding("a CAR section is truncated")
    cid = cids.require(data[at : at + cids.CID_BYTES])
    block = data[at + cids.CID_BYTES : end]
    if sha256(block).digest() != cid[4:]:
        raise VerificationFailed(
            f"the block of {cids.to_text(cid)} has another hash", code="block-hash"
        )
    return cid, block, end


def read(
    data: bytes, *, max_block_bytes: int = limits.BLOCK_MAX_BYTES
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """(root, [(CID, block)] in order), every block hashed.

    Raises InvalidEncoding, and VerificationFailed (code `block-hash`). Whether the root is among
    the blocks is the caller's question: the later parts of a segment do not repeat it.
    """
    if len(data) > limits.CAR_MAX_BYTES:
        raise InvalidEncoding(f"a CAR of {len(data)} bytes")
    root, at = read_header(data)
    blocks: list[tuple[bytes, bytes]] = []
    while at < len(data):
        if len(blocks) == limits.CAR_MAX_BLOCKS:
            raise InvalidEncoding("a CAR of more blocks than any of ours has")
        cid, block, at = read_section(data, at, max_block_bytes)
        blocks.append((cid, block))
    return root, blocks
