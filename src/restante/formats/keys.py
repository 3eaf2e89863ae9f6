"""Signing keys: one Ed25519 seed under a name.

One key signs messages (each kind under its own domain), notes (0x01) and checkpoints (0x04). The
first bytes of what it signs never coincide: domains begin `restante/v1/`, cosignatures
`cosignature/v1`, and `note_signature` refuses texts that begin so.

The text form is that of Go's note package: `PRIVATE+KEY+<name>+<key id>+<base64(kind ‖ seed)>`.
"""

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from restante.errors import InvalidEncoding
from restante.formats import checkpoint, note
from restante.formats.note import COSIGNATURE_V1, ED25519, Signature, VerifierKey

SEED_BYTES = 32
MESSAGE_DOMAIN = b"restante/v1/"
"""What every signed message but notes and cosignatures begins with, before its kind and LF."""

_PREFIX = "PRIVATE+KEY+"
_HEX_ID = re.compile("[0-9a-f]{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A name and a secret; the secret is in no repr."""

    name: str
    seed: bytes = field(repr=False)
    """32 random bytes (RFC 8032)."""
    public_key: bytes = field(init=False)
    """32 bytes."""
    _private: Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        note.check_name(self.name)
        if len(self.seed) != SEED_BYTES:
            raise InvalidEncoding("a signing key's seed has 32 bytes")
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        object.__setattr__(self, "_private", private)
        object.__setattr__(self, "public_key", private.public_key().public_bytes_raw())

    def vkey(self, kind: int = COSIGNATURE_V1) -> VerifierKey:
        """Its verifier key of a signature type."""
        return VerifierKey(self.name, kind, self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of Ed25519 over `message`, which must begin with a domain of its own."""
        return self._private.sign(message)

    def note_signature(self, text: str) -> Signature:
        """A signature line of type 0x01 over a note's text."""
        if text.startswith(("cosignature/v1\n", MESSAGE_DOMAIN.decode())):
            raise ValueError("a note must not read as another kind of message")
        return note.sign(text, self.name, self._private)

    def cosignature(self, checkpoint_text: str, time_s: int) -> Signature:
        """A signature line of type 0x04 over a checkpoint's text at a time in Unix seconds."""
        return checkpoint.cosign(checkpoint_text, self.name, self._private, time_s)

    def text(self, kind: int = ED25519) -> str:
        """Its private text form, one line without LF; `kind` is the type that it names."""
        encoded = note.encode_base64(bytes((kind,)) + self.seed)
        return f"{_PREFIX}{self.name}+{self.vkey(kind).key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """The key of its text form. Raises InvalidEncoding, whose message holds no secret."""
        parts = text.removeprefix(_PREFIX).split("+", 2)
        if not text.startswith(_PREFIX) or len(parts) != 3 or not _HEX_ID.fullmatch(parts[1]):
            raise InvalidEncoding("not a private key in the text form of signed notes")
        data = note.decode_base64(parts[2])
        if len(data) != 1 + SEED_BYTES:
            raise InvalidEncoding("a private key has the wrong length")
        key = cls(parts[0], data[1:])
        if key.vkey(data[0]).key_id.hex() != parts[1]:
            raise InvalidEncoding(f"the key id of {key.name} is not that of its key")
        return key
