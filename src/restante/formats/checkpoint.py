"""Checkpoints and cosignatures: c2sp.org/tlog-checkpoint v1.0.0, tlog-cosignature v1.0.1.

The text is three lines: origin, size, base64 root hash. Extension lines are refused: what they say
would be signed by nobody's rule.
"""

import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import tree
from restante.formats.note import (
    COSIGNATURE_BYTES,
    COSIGNATURE_V1,
    Signature,
    VerifierKey,
    check_name,
    cosignature_message,
    decode_base64,
    encode_base64,
    key_id,
)

_SIZE = re.compile("0|[1-9][0-9]{0,12}", re.ASCII)
_TIME_MAX_S = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One state of one log."""

    origin: str
    """The log's name: a key name of c2sp.org/signed-note."""
    size: int
    """Entries."""
    root: bytes
    """RFC 6962 root hash, 32 bytes."""

    def __post_init__(self) -> None:
        check_name(self.origin)
        if not 0 <= self.size <= limits.TREE_SIZE_MAX:
            raise InvalidEncoding("a checkpoint's size is out of bounds")
        if len(self.root) != tree.HASH_BYTES or (self.size == 0 and self.root != tree.EMPTY_ROOT):
            raise InvalidEncoding("not a checkpoint's root hash")

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse_text(cls, text: str) -> "Checkpoint":
        """The checkpoint of its text. Raises InvalidEncoding, code `extension-lines` for these."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise InvalidEncoding("a checkpoint has three lines")
        if len(lines) > 4:
            raise InvalidEncoding("a checkpoint has extension lines", code="extension-lines")
        if not _SIZE.fullmatch(lines[1]):
            raise InvalidEncoding("not a checkpoint's size")
        return cls(lines[0], int(lines[1]), decode_base64(lines[2]))


def cosign(text: str, name: str, private_key: Ed25519PrivateKey, time_s: int) -> Signature:
    """A cosignature/v1 (type 0x04) of a checkpoint's text at a time in Unix seconds.

    Raises InvalidEncoding if `text` is not a checkpoint: nothing else is ever cosigned.
    """
    Checkpoint.parse_text(text)
    if not 0 < time_s <= _TIME_MAX_S:
        raise ValueError("a cosignature has a time")
    public_key = private_key.public_key().public_bytes_raw()
    value = time_s.to_bytes(8, "big") + private_key.sign(cosignature_message(time_s, text))
    return Signature(check_name(name), key_id(name, COSIGNATURE_V1, public_key), value)


def cosignature_time_s(value: bytes) -> int:
    """The time of a cosignature's 72 bytes, in Unix seconds. Raises InvalidEncoding."""
    if len(value) != COSIGNATURE_BYTES:
        raise InvalidEncoding("a cosignature has 72 bytes")
    return int.from_bytes(value[:8], "big")


def verify_cosignature(text: str, key: VerifierKey, value: bytes) -> int:
    """The time (Unix seconds) of `key`'s cosignature of the checkpoint `text`.

    `value` has 72 bytes: the time, then Ed25519. Raises VerificationFailed, code `bad-signature`.
    """
    if key.kind != COSIGNATURE_V1 or not key.verifies(text, value):
        raise VerificationFailed(f"not a cosignature of {key.name}", code="bad-signature")
    return cosignature_time_s(value)
