"""ECIES on secp256k1 as RLPx has it, and Whisper's encryption to a public key as well.

    0x04 ‖ R 64 ‖ IV 16 ‖ AES-128-CTR ciphertext ‖ MAC 32

Keys come from the x-coordinate of the shared point by NIST's concat KDF; the MAC is HMAC-SHA-256
over IV, ciphertext, and data that both sides know and nobody sends.
"""

import hashlib
import hmac
import secrets

import coincurve
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from restante.errors import ConfigError, Invalid

PUBLIC_KEY_BYTES = 65
IV_BYTES = 16
MAC_BYTES = 32
OVERHEAD_BYTES = PUBLIC_KEY_BYTES + IV_BYTES + MAC_BYTES


class NotDecrypted(Invalid):
    """Not for this key, or altered, or not the layout of its plaintext."""

    code = "not-decrypted"


def encrypt(plain: bytes, to: bytes, mac_data: bytes = b"") -> bytes:
    """`plain` for the holder of the public key `to` (65 bytes). `mac_data` is authenticated and
    not sent. Raises ConfigError."""
    ephemeral = coincurve.PrivateKey(secrets.token_bytes(32))
    encryption_key, mac_key = _shared_keys(ephemeral, public(to))
    iv = secrets.token_bytes(IV_BYTES)
    sealed = iv + _aes_ctr(encryption_key, iv, plain)
    tag = hmac.digest(mac_key, sealed + mac_data, "sha256")
    return ephemeral.public_key.format(compressed=False) + sealed + tag


def decrypt(data: bytes, private_key: bytes, mac_data: bytes = b"") -> bytes:
    """The inverse of `encrypt`. Raises NotDecrypted."""
    own = private(private_key)
    if len(data) < OVERHEAD_BYTES or data[0] != 0x04:
        raise NotDecrypted("not the layout of a message to a public key")
    try:
        ephemeral = coincurve.PublicKey(data[:PUBLIC_KEY_BYTES])
    except ValueError:
        raise NotDecrypted("the ephemeral key is not a point of the curve") from None
    encryption_key, mac_key = _shared_keys(own, ephemeral)
    sealed, tag = data[PUBLIC_KEY_BYTES:-MAC_BYTES], data[-MAC_BYTES:]
    if not hmac.compare_digest(hmac.digest(mac_key, sealed + mac_data, "sha256"), tag):
        raise NotDecrypted("not encrypted to this key, or altered")
    return _aes_ctr(encryption_key, sealed[:IV_BYTES], sealed[IV_BYTES:])


def shared_x(own: coincurve.PrivateKey, other: coincurve.PublicKey) -> bytes:
    """The x-coordinate (32 bytes) of the point that both can compute. Not hashed, unlike what
    coincurve's own `ecdh` gives."""
    x: bytes = other.multiply(own.secret).format(compressed=False)[1:33]
    return x


def private(key: bytes) -> coincurve.PrivateKey:
    """Raises ConfigError for what is not a private key of 32 bytes."""
    if len(key) != 32:
        raise ConfigError(f"a private key of {len(key)} bytes, it has 32")
    try:
        return coincurve.PrivateKey(key)
    except ValueError:
        raise ConfigError("not a private key of secp256k1") from None


def public(key: bytes) -> coincurve.PublicKey:
    """Raises ConfigError for what is not a point of the curve."""
    try:
        return coincurve.PublicKey(key)
    except ValueError:
        raise ConfigError("not a public key of secp256k1") from None


def _shared_keys(own: coincurve.PrivateKey, other: coincurve.PublicKey) -> tuple[bytes, bytes]:
    """AES-128 key and MAC key: the concat KDF with SHA-256, one round."""
    material = hashlib.sha256(b"\x00\x00\x00\x01" + shared_x(own, other)).digest()
    return material[:16], hashlib.sha256(material[16:]).digest()


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()
