"""Whisper's payload encryption: keys, padding, signatures, topics by name.

    plaintext = flags 1 ‖ length 1…3, little-endian ‖ payload ‖ padding ‖ [signature 65]
    symmetric = AES-256-GCM: ciphertext ‖ tag 16 ‖ nonce 12, no additional data
    public key = ECIES on secp256k1 as in RLPx: 0x04 ‖ R 64 ‖ IV 16 ‖ ciphertext ‖ MAC 32

Flags: bits 0-1 are the number of length bytes, bit 2 says signed. The signature is over
Keccak of all before it; its V is 0 or 1, as geth has it (EIP-627 says 27 or 28, and geth
refuses those). This encryption is Whisper's: it hides payload and author, not topic, time or size.
"""

import hashlib
import secrets
from dataclasses import dataclass

import coincurve
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from restante.errors import ConfigError
from restante.networks.keccak import keccak256
from restante.networks.rlpx import ecies

NotDecrypted = ecies.NotDecrypted

SYMMETRIC_KEY_BYTES = 32
SIGNATURE_BYTES = 65
# geth's number, and not 65,536.
PASSWORD_ROUNDS = 65_356

_PADDED_TO = 256
_SIGNED = 4
_LENGTH_BITS = 3
_GCM_NONCE = 12
_GCM_TAG = 16
_MAX_PAYLOAD_BYTES = 2**24 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """A decrypted envelope's content.

    payload: what the author wrote; signer: uncompressed public key (65 bytes, 0x04 first) that
    the signature gives, None if unsigned; padding: what stood between payload and signature.
    """

    payload: bytes
    signer: bytes | None
    padding: bytes


def password_key(password: str) -> bytes:
    """The symmetric key that a password stands for (takes some 20 ms, on purpose)."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"", PASSWORD_ROUNDS, 32)


def topic_of_name(name: str) -> bytes:
    """The topic that a name stands for: the first four bytes of its Keccak hash."""
    return keccak256(name.encode())[:4]


def public_key(private_key: bytes) -> bytes:
    """Uncompressed public key (65 bytes) of a private key (32). Raises ConfigError."""
    return ecies.private(private_key).public_key.format(compressed=False)


def encrypt_symmetric(payload: bytes, key: bytes, *, sign_with: bytes | None = None) -> bytes:
    """An envelope's data, readable with the 32-byte `key`; signed if a private key is given."""
    cipher = _aes_gcm(key)
    nonce = secrets.token_bytes(_GCM_NONCE)
    return cipher.encrypt(nonce, _wrap(payload, sign_with), None) + nonce


def decrypt_symmetric(data: bytes, key: bytes) -> Message:
    """Raises NotDecrypted."""
    cipher = _aes_gcm(key)
    if len(data) < _GCM_NONCE + _GCM_TAG:
        raise NotDecrypted("too short to hold a symmetric message")
    try:
        plain = cipher.decrypt(data[-_GCM_NONCE:], data[:-_GCM_NONCE], None)
    except InvalidTag:
        raise NotDecrypted("not encrypted with this symmetric key, or altered") from None
    return _unwrap(plain)


def encrypt_asymmetric(payload: bytes, to: bytes, *, sign_with: bytes | None = None) -> bytes:
    """An envelope's data, readable by the holder of the public key `to` (65 bytes)."""
    return ecies.encrypt(_wrap(payload, sign_with), to)


def decrypt_asymmetric(data: bytes, private_key: bytes) -> Message:
    """Raises NotDecrypted."""
    return _unwrap(ecies.decrypt(data, private_key))


def _wrap(payload: bytes, sign_with: bytes | None) -> bytes:
    """Flags, length, payload, random padding to a multiple of 256 (a full 256 if it is one
    already), signature."""
    if len(payload) > _MAX_PAYLOAD_BYTES:
        raise ConfigError(f"a payload of {len(payload)} bytes; Whisper's length has 3 bytes")
    width = max(1, (len(payload).bit_length() + 7) // 8)
    flags = width | (_SIGNED if sign_with is not None else 0)
    body = bytes((flags,)) + len(payload).to_bytes(width, "little") + payload
    trailer = SIGNATURE_BYTES if sign_with is not None else 0
    body += secrets.token_bytes(_PADDED_TO - (len(body) + trailer) % _PADDED_TO)
    if sign_with is None:
        return body
    return body + ecies.private(sign_with).sign_recoverable(keccak256(body), hasher=None)


def _unwrap(plain: bytes) -> Message:
    if not plain:
        raise NotDecrypted("an empty plaintext")
    flags = plain[0]
    width = flags & _LENGTH_BITS
    end = len(plain)
    signer = None
    if flags & _SIGNED:
        end -= SIGNATURE_BYTES
        if end < 1 + width:
            raise NotDecrypted("too short for its signature")
        signer = _recover(plain[:end], plain[end:])
    start = 1 + width
    stop = start + int.from_bytes(plain[1:start], "little")
    if stop > end:
        raise NotDecrypted("the payload's length leads past the end")
    return Message(plain[start:stop], signer, plain[stop:end])


def _recover(signed: bytes, signature: bytes) -> bytes:
    if signature[64] > 1:
        raise NotDecrypted("the signature's V must be 0 or 1")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature, keccak256(signed), hasher=None
        )
    except Exception:  # coincurve raises bare Exception for a signature that gives no key
        raise NotDecrypted("the signature gives no public key") from None
    return key.format(compressed=False)


def _aes_gcm(key: bytes) -> AESGCM:
    if len(key) != SYMMETRIC_KEY_BYTES:
        raise ConfigError(f"a symmetric key of {len(key)} bytes, it has 32")
    return AESGCM(key)
