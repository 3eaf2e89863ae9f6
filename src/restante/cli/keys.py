"""Secrets for decrypting, from files, the environment or a prompt: never from an argument."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from restante.errors import ConfigError
from restante.networks.rlpx.ecies import NotDecrypted
from restante.networks.whisper import crypt

_KEY = re.compile("(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_SECRET_FILE_BYTES = 64 * 1024


class Opened(NamedTuple):
    """What was in an envelope."""

    payload: bytes
    signer: bytes | None
    """The author's public key, if the message is signed."""

    @property
    def text(self) -> str | None:
        """The payload as UTF-8, if it is that."""
        try:
            return self.payload.decode("utf-8")
        except UnicodeDecodeError:
            return None


class Opener:
    """Tries keys, symmetric and private, on an envelope's data."""

    def __init__(self, symmetric: Sequence[bytes], private: Sequence[bytes]) -> None:
        self._symmetric = list(symmetric)
        self._private = list(private)

    @classmethod
    def of(
        cls,
        key_files: Sequence[Path],
        password_files: Sequence[Path],
        passwords: Sequence[str],
        more_keys: Sequence[bytes] = (),
    ) -> "Opener":
        """Of key and password files, passwords and keys. Raises ConfigError `key-file`."""
        keys = [*more_keys, *(read_key(path) for path in key_files)]
        words = [*passwords, *(read_secret(path) for path in password_files)]
        return cls([*keys, *map(crypt.password_key, words)], [k for k in keys if _is_private(k)])

    def __call__(self, data: bytes) -> Opened | None:
        for key in self._symmetric:
            try:
                message = crypt.decrypt_symmetric(data, key)
            except NotDecrypted:
                continue
            return Opened(message.payload, message.signer)
        for key in self._private:
            try:
                message = crypt.decrypt_asymmetric(data, key)
            except NotDecrypted:
                continue
            return Opened(message.payload, message.signer)
        return None


def _is_private(key: bytes) -> bool:
    try:
        crypt.public_key(key)
    except ConfigError:
        return False
    return True


def read_secret(path: Path) -> str:
    """The first line of a file. Raises ConfigError `key-file`, which holds nothing of it."""
    try:
        with path.open("rb") as file:
            lines = file.read(_SECRET_FILE_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", code="key-file") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", code="key-file") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{path} is empty", code="key-file")
    return lines[0]


def read_key(path: Path) -> bytes:
    """The 32 bytes of a file of 64 hex digits. Raises ConfigError `key-file`."""
    return parse_key(read_secret(path), str(path))


def parse_key(text: str, where: str) -> bytes:
    """The 32 bytes of 64 hex digits. Raises ConfigError `key-file`, which does not quote them."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{where} does not hold 64 hex digits", code="key-file")
    return bytes.fromhex(match[1])


def environment_key(name: str) -> bytes | None:
    """The key in a variable of the environment, if it is set. Raises as `parse_key`."""
    text = os.environ.get(name)
    return parse_key(text, name) if text else None


def ask_key(what: str = "Key") -> bytes:
    """A key that is typed unseen. Raises as `parse_key`."""
    return parse_key(click.prompt(what, hide_input=True, err=True), "what was typed")
