"""A secret under a passphrase: an armored age file with one scrypt recipient (c2sp.org/age).

A key must outlive the program that wrote it: every age tool opens what `seal` makes, and `unseal`
opens what `age --passphrase --armor` makes. A secret is one chunk of the format's payload.
"""

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from hashlib import sha256
from textwrap import wrap

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from restante import limits
from restante.errors import ConfigError, InvalidEncoding

_BEGIN = "-----BEGIN AGE ENCRYPTED FILE-----"
_END = "-----END AGE ENCRYPTED FILE-----"
_FILE_KEY_BYTES = _SALT_BYTES = _NONCE_BYTES = _TAG_BYTES = 16
_CHUNK_BYTES = 64 * 1024
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"-> scrypt (?P<salt>[A-Za-z0-9+/]{22}) (?P<log_n>[1-9][0-9]?)\n"
    rb"(?P<body>[A-Za-z0-9+/]{43})\n"
    rb"--- (?P<mac>[A-Za-z0-9+/]{43})\n"
)
_WRAP_NONCE = bytes(12)
# The payload's first chunk, which is its last.
_CHUNK_NONCE = bytes(11) + b"\x01"


def is_sealed(data: bytes) -> bool:
    """Whether these are the bytes of an armored age file."""
    return data.lstrip().startswith(_BEGIN.encode())


def seal(secret: bytes, passphrase: str) -> bytes:
    """The age file of a secret of 1 to 65,536 bytes. scrypt takes 1 KiB of memory times its N.

    Raises ConfigError `passphrase` for an empty one.
    """
    if not 1 <= len(secret) <= _CHUNK_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes")
    log_n = limits.KEY_SCRYPT_LOG_N
    file_key = secrets.token_bytes(_FILE_KEY_BYTES)
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    wrapping = ChaCha20Poly1305(_wrap_key(passphrase, salt, log_n))
    body = wrapping.encrypt(_WRAP_NONCE, file_key, None)
    head = (
        b"age-encryption.org/v1\n"
        b"-> scrypt %s %d\n%s\n---" % (_encode(salt), log_n, _encode(body))
    )  # fmt: skip
    payload = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
    data = b"%s %s\n" % (head, _encode(_mac(file_key, head)))
    data += nonce + payload.encrypt(_CHUNK_NONCE, secret, None)
    lines = wrap(b64encode(data).decode(), 64)
    return "\n".join((_BEGIN, *lines, _END, "")).encode()


def unseal(data: bytes, passphrase: str) -> bytes:
    """The secret of an age file.

    Raises InvalidEncoding for what is no such file with one scrypt recipient, ConfigError
    `passphrase` where the passphrase is another one.
    """
    data = _dearmor(data)
    header = _HEADER.match(data)
    if header is None:
        raise InvalidEncoding("not an age file with a passphrase")
    salt, body, mac = (_decode(header[name]) for name in ("salt", "body", "mac"))
    log_n = int(header["log_n"])
    if log_n > limits.KEY_SCRYPT_LOG_N_MAX:
        raise InvalidEncoding(f"a work factor of 2^{log_n} would take {1 << log_n} KiB of memory")
    try:
        wrapping = ChaCha20Poly1305(_wrap_key(passphrase, salt, log_n))
        file_key = wrapping.decrypt(_WRAP_NONCE, body, None)
    except InvalidTag:
        raise ConfigError("the passphrase is another one", code="passphrase") from None
    head = data[: header.start("mac") - 1]
    if not hmac.compare_digest(mac, _mac(file_key, head)):
        raise InvalidEncoding("the age file's header was altered")
    nonce, sealed = data[header.end() :][:_NONCE_BYTES], data[header.end() + _NONCE_BYTES :]
    if not _TAG_BYTES < len(sealed) <= _CHUNK_BYTES + _TAG_BYTES:
        raise InvalidEncoding("the age file holds no key")
    try:
        payload = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
        return payload.decrypt(_CHUNK_NONCE, sealed, None)
    except InvalidTag:
        raise InvalidEncoding("the age file's payload was altered") from None


def _wrap_key(passphrase: str, salt: bytes, log_n: int) -> bytes:
    if not passphrase:
        raise ConfigError("the passphrase is empty", code="passphrase")
    salted = b"age-encryption.org/v1/scrypt" + salt
    return Scrypt(salted, length=32, n=1 << log_n, r=8, p=1).derive(passphrase.encode())


def _derive(file_key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _mac(file_key: bytes, head: bytes) -> bytes:
    return hmac.digest(_derive(file_key, b"", b"header"), head, sha256)


def _dearmor(data: bytes) -> bytes:
    """The bytes within strict armor: 64 columns, a shorter last line, canonical base64."""
    lines = data.decode("ascii", "replace").strip().splitlines()
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise InvalidEncoding("not an armored age file")
    *full, last = lines[1:-1]
    if any(len(line) != 64 for line in full) or not 0 < len(last) <= 64:
        raise InvalidEncoding("the age file's lines have another length")
    return _decode("".join((*full, last)).rstrip("=").encode())


def _encode(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Bytes of canonical base64 without padding. Raises InvalidEncoding."""
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        data = b""
    if not data or _encode(data) != text:
        raise InvalidEncoding("the age file holds no canonical base64")
    return data
