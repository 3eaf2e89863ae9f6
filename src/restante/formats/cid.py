"""CIDv1 with SHA-256 over raw or DAG-CBOR blocks, and nothing else (multiformats CID).

A binary CID here is always 36 bytes: version 0x01, codec 0x55 or 0x71, multihash 0x12 0x20, digest.
Its text form is multibase `b`: RFC 4648 base32, lower case, no padding.
"""

from base64 import b32decode, b32encode
from hashlib import sha256

from restante.errors import InvalidEncoding, VerificationFailed

RAW = 0x55
DAG_CBOR = 0x71
CID_BYTES = 36

RAW_PREFIX = bytes((1, RAW, 0x12, 32))
"""A raw block's CID is this and its SHA-256."""
_DAG_CBOR_PREFIX = bytes((1, DAG_CBOR, 0x12, 32))
_PREFIXES = {RAW: RAW_PREFIX, DAG_CBOR: _DAG_CBOR_PREFIX}
# 36 bytes are 288 bits: 58 characters of 5 bits, the last two bits zero.
_TEXT_CHARACTERS = 1 + 58


def cid_of(codec: int, block: bytes) -> bytes:
    """The CID of a block under one of the two codecs."""
    return _PREFIXES[codec] + sha256(block).digest()


def cid_from_digest(codec: int, digest: bytes) -> bytes:
    """The CID of a block whose SHA-256 is known; `digest` must be 32 bytes."""
    if len(digest) != 32:
        raise ValueError("a SHA-256 digest has 32 bytes")
    return _PREFIXES[codec] + digest


def require(cid: bytes) -> bytes:
    """The same bytes, if they are a CID of the one form taken here; else InvalidEncoding."""
    if len(cid) != CID_BYTES or cid[:4] not in (RAW_PREFIX, _DAG_CBOR_PREFIX):
        raise InvalidEncoding("not a CIDv1 of a raw or DAG-CBOR block under SHA-256")
    return cid


def codec(cid: bytes) -> int:
    """RAW or DAG_CBOR. Raises InvalidEncoding."""
    return require(cid)[1]


def digest(cid: bytes) -> bytes:
    """The 32 bytes of SHA-256. Raises InvalidEncoding."""
    return require(cid)[4:]


def to_text(cid: bytes) -> str:
    """Multibase base32 text, 59 characters. Raises InvalidEncoding."""
    return "b" + b32encode(require(cid)).decode("ascii").rstrip("=").lower()


def from_text(text: str) -> bytes:
    """The CID of its canonical text: every other spelling is refused. Raises InvalidEncoding."""
    if len(text) != _TEXT_CHARACTERS or text[0] != "b" or not text.isascii():
        raise InvalidEncoding("not a base32 CIDv1")
    try:
        cid = b32decode(text[1:].upper() + "======")
    except ValueError as error:
        raise InvalidEncoding("not a base32 CIDv1") from error
    # Upper case and stray low bits decode to the same bytes: one CID must have one text.
    if to_text(cid) != text:
        raise InvalidEncoding("a CID's text is not canonical")
    return cid


def check(cid: bytes, block: bytes) -> None:
    """Refuse a block that its CID does not name. Raises VerificationFailed, InvalidEncoding."""
    if sha256(block).digest() != digest(cid):
        raise VerificationFailed(f"the block of {to_text(cid)} has another hash", code="block-hash")
