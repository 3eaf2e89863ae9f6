"""Keccak-256 as Ethereum and Whisper use it: the original padding, not that of SHA3-256.

OpenSSL from 3.2 on has it under the name `keccak-256`; safe-pysha3 fills in elsewhere. Which of
the two is used must make no difference, so the vector of the empty string is checked at import.
"""

import hashlib
from typing import Protocol

from restante.errors import ConfigError

_EMPTY = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")


class Hash(Protocol):
    """A running hash, as in hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...
    def copy(self) -> "Hash": ...


class NewHash(Protocol):
    """Starts a running hash over the bytes given."""

    def __call__(self, data: bytes = b"", /) -> Hash: ...


def _from_openssl(data: bytes = b"", /) -> Hash:
    return hashlib.new("keccak-256", data)


def _choose() -> NewHash:
    if "keccak-256" in hashlib.algorithms_available:
        return _from_openssl
    try:
        import sha3
    except ImportError as error:
        raise ConfigError(
            "no Keccak-256 on this machine",
            code="no-keccak",
            hint="install restante[whisper], or a Python linked with OpenSSL 3.2 or later",
        ) from error
    found: NewHash = sha3.keccak_256
    return found


new: NewHash = _choose()
"""A running Keccak-256; its copy() lets a miner hash a long prefix once."""

if new().digest() != _EMPTY:
    raise ConfigError("this machine's Keccak-256 gives wrong hashes", code="no-keccak")


def keccak256(data: bytes) -> bytes:
    """Keccak-256 of `data`, 32 bytes."""
    return new(data).digest()
