"""Signed notes: c2sp.org/signed-note v1.0.0, with keys of types 0x01 and 0x04.

A note is text that ends in LF, an empty line, and signature lines `— <name> <base64>`. The text may
itself hold empty lines: the last one divides. Nothing of a note is to be used before a key that one
trusts is known to have signed it.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed

ED25519: Final = 0x01
"""Ed25519 over the note's text."""
COSIGNATURE_V1: Final = 0x04
"""Ed25519 over a time and the text of a checkpoint (c2sp.org/tlog-cosignature)."""

KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
COSIGNATURE_BYTES = 8 + SIGNATURE_BYTES

_SIZES = {ED25519: SIGNATURE_BYTES, COSIGNATURE_V1: COSIGNATURE_BYTES}
# Unicode's White_Space, which the specification calls spaces; control characters never get here.
_SPACES = re.compile(
    "[\u0000-\u0020+\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
)
_HEX_ID = re.compile("[0-9a-f]{8}", re.ASCII)
_DASH = "— "


def check_name(name: str) -> str:
    """The same text, if it is a key name: no spaces, controls or `+`. Raises InvalidEncoding."""
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidEncoding("a key name is not Unicode") from error
    if not 0 < length <= limits.NOTE_NAME_MAX_BYTES or _SPACES.search(name):
        raise InvalidEncoding("not a key name of a signed note")
    return name


def decode_base64(text: str) -> bytes:
    """The bytes of canonical RFC 4648 §4 base64. Raises InvalidEncoding."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidEncoding("not base64") from error
    # Stray low bits decode too: two texts of one signature would be two notes.
    if b64encode(data).decode("ascii") != text:
        raise InvalidEncoding("base64 is not canonical")
    return data


def encode_base64(data: bytes) -> str:
    """RFC 4648 §4 base64 with padding."""
    return b64encode(data).decode("ascii")


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    """SHA-256(name ‖ LF ‖ kind ‖ public key)[:4]."""
    return sha256(name.encode("utf-8") + b"\n" + bytes((kind,)) + public_key).digest()[:4]


def cosignature_message(time_s: int, text: str) -> bytes:
    """What a cosignature/v1 signs: the time (Unix seconds) and the whole checkpoint text."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


@lru_cache(maxsize=limits.PUBLIC_KEYS_KEPT)
def _loaded(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def ed25519_verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a 64-byte signature of `message` is by the 32-byte key (RFC 8032)."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        _loaded(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key of one signature type: a C2SP vkey."""

    name: str
    kind: int
    """ED25519 or COSIGNATURE_V1."""
    public_key: bytes
    """32 bytes, RFC 8032."""
    key_id: bytes = field(init=False)
    """4 bytes; with the name it identifies the key in a note."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in _SIZES:
            raise InvalidEncoding(f"signature type {self.kind:#04x} is not supported")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise InvalidEncoding("an Ed25519 public key has 32 bytes")
        object.__setattr__(self, "key_id", key_id(self.name, self.kind, self.public_key))

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """The key of `<name>+<8 hex digits>+<base64>`. Raises InvalidEncoding."""
        parts = vkey.split("+", 2)
        if len(parts) != 3 or not _HEX_ID.fullmatch(parts[1]):
            raise InvalidEncoding("not a verifier key")
        data = decode_base64(parts[2])
        if not data:
            raise InvalidEncoding("a verifier key is empty")
        key = cls(parts[0], data[0], data[1:])
        if key.key_id.hex() != parts[1]:
            raise InvalidEncoding(f"the key id of {key.name} is not that of its key")
        return key

    def text(self) -> str:
        """Its vkey."""
        encoded = encode_base64(bytes((self.kind,)) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def of_kind(self, kind: int) -> "VerifierKey":
        """The same name and public key under another signature type."""
        return VerifierKey(self.name, kind, self.public_key)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check 64 bytes of plain Ed25519 over a message that is no note.

        Raises VerificationFailed, code `signature`.
        """
        if not ed25519_verifies(self.public_key, signature, message):
            raise VerificationFailed(f"not signed by {self.name}", code="signature")

    def verifies(self, text: str, value: bytes) -> bool:
        """Whether `value` (without key id) is this key's signature of a note with `text`."""
        if len(value) != _SIZES[self.kind]:
            return False
        if self.kind == ED25519:
            return ed25519_verifies(self.public_key, value, text.encode("utf-8"))
        time_s = int.from_bytes(value[:8], "big")
        return ed25519_verifies(self.public_key, value[8:], cosignature_message(time_s, text))


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    """4 bytes."""
    value: bytes
    """The signature proper, at least one byte; its form depends on the key's type."""

    def line(self) -> str:
        """The line, with its LF."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.value)}\n"

    @classmethod
    def parse(cls, line: str) -> "Signature":
        """The signature of a line without its LF. Raises InvalidEncoding."""
        name, separator, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not separator:
            raise InvalidEncoding("not a signature line")
        data = decode_base64(encoded)
        if len(data) <= KEY_ID_BYTES:
            raise InvalidEncoding("a signature is empty")
        return cls(check_name(name), data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """Text and the signature lines under it, none of them verified."""

    text: str
    """Ends in LF; holds no other control character."""
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """The note of its bytes. Raises InvalidEncoding."""
        if len(data) > limits.NOTE_MAX_BYTES:
            raise InvalidEncoding("a note is too large")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidEncoding("a note is not UTF-8") from error
        if not is_note_text(whole):
            raise InvalidEncoding("a note ends in LF and holds no other control character")
        at = whole.rfind("\n\n")
        if at < 0:
            raise InvalidEncoding("a note has no empty line before its signatures")
        lines = whole[at + 2 : -1].split("\n")
        if not 0 < len(lines) <= limits.NOTE_MAX_SIGNATURES:
            raise InvalidEncoding("a note has too many signature lines")
        return cls(whole[: at + 1], tuple(Signature.parse(line) for line in lines))

    def encode(self) -> bytes:
        """Its bytes; ValueError for what `parse` would refuse."""
        if not is_note_text(self.text) or not self.signatures:
            raise ValueError("a note has text that ends in LF, and signatures")
        return f"{self.text}\n{''.join(each.line() for each in self.signatures)}".encode()

    def with_signatures(self, more: Sequence[Signature]) -> "Note":
        """The same text with further signature lines."""
        return Note(self.text, (*self.signatures, *more))


def is_note_text(text: str) -> bool:
    """Whether `text` can be signed: it ends in LF and holds no other ASCII control character."""
    return text.endswith("\n") and not any(c < " " for c in text.replace("\n", ""))


def sign(text: str, name: str, private_key: Ed25519PrivateKey) -> Signature:
    """A signature of type 0x01 over a note's text."""
    if not is_note_text(text):
        raise ValueError("a note's text ends in LF and holds no other control character")
    public_key = private_key.public_key().public_bytes_raw()
    value = private_key.sign(text.encode("utf-8"))
    return Signature(check_name(name), key_id(name, ED25519, public_key), value)


def verified_signatures(
    note: Note, keys: Sequence[VerifierKey]
) -> list[tuple[VerifierKey, Signature]]:
    """The lines that known keys signed, in the note's order; lines of unknown keys are passed over.

    A key is known by name *and* key id. Raises VerificationFailed, code `bad-signature`, if a known
    key's line does not verify: then somebody altered the note, and none of it is to be used.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(keys):
        raise ValueError("two keys share name and key id")
    verified = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verifies(note.text, signature.value):
            raise VerificationFailed(f"a signature of {key.name} is bad", code="bad-signature")
        verified.append((key, signature))
    return verified


def verify(note: Note, keys: Sequence[VerifierKey]) -> list[VerifierKey]:
    """The distinct keys among `keys` that signed, in the note's order: at least one.

    Raises VerificationFailed: `bad-signature` as above, `no-signature` if none of them signed.
    """
    signers = list(dict.fromkeys(key for key, _ in verified_signatures(note, keys)))
    if not signers:
        raise VerificationFailed("no known key signed the note", code="no-signature")
    return signers
