"""A node's folder: where everything stands, and the keys in it.

restante.toml                      the operator's configuration
descriptor  policy                 the validator set
origin.key validator.key proposer.key    secrets, mode 0600, perhaps under a passphrase (age)
whisper.key                        who this node is to its Whisper peers: made anew when it is lost
lock/                              what was signed: never in a backup
pool/  proposer-pool/              envelopes by arrival
archive/                           the log and its segments, rebuildable
cache/                             what the gateway fetched
engine.db  stores/folder/          the embedded engine and store
"""

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from restante import limits
from restante.durable import write_file
from restante.errors import ConfigError, InvalidEncoding, StateError
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.policy import Policy
from restante.node import age

ROLES = ("validator", "proposer", "gateway", "mailserver")
DEFAULT_ROLES = ROLES[:3]
KEY_MODE = 0o600
UNLOCK_HINT = (
    "a passphrase comes from --passphrase-file, RESTANTE_PASSPHRASE, the file that "
    "node.passphrase_file names, or a terminal's prompt"
)


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one node's folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "restante.toml"

    @property
    def descriptor(self) -> Path:
        return self.path / "descriptor"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def origin_key(self) -> Path:
        return self.path / "origin.key"

    @property
    def validator_key(self) -> Path:
        return self.path / "validator.key"

    @property
    def proposer_key(self) -> Path:
        return self.path / "proposer.key"

    @property
    def whisper_key(self) -> Path:
        return self.path / "whisper.key"

    def key_files(self, roles: Iterable[str] = ROLES) -> list[Path]:
        """The key files here that these roles read."""
        found = []
        if "validator" in roles:
            found += [self.validator_key, self.origin_key]
        if "proposer" in roles:
            found.append(self.proposer_key)
        return [path for path in found if path.exists()]

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def pool(self) -> Path:
        return self.path / "pool"

    @property
    def proposer_pool(self) -> Path:
        return self.path / "proposer-pool"

    @property
    def archive(self) -> Path:
        return self.path / "archive"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def engine(self) -> Path:
        return self.path / "engine.db"

    @property
    def stores(self) -> Path:
        return self.path / "stores"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one running node: what stands in it has one writer.

        Raises ConfigError `not-a-node`, `unreadable`, StateError `node-busy`, `system`.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise _not_a_node(self.path) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateError(
                    f"a node is running in {self.path}",
                    code="node-busy",
                    hint=f"`restante status {self.path}` asks it; a folder has one node at a time",
                ) from error
            except OSError as error:
                raise StateError(
                    f"{self.path} cannot be held for one node: {os.strerror(error.errno or 0)}",
                    code="system",
                    hint="a node's folder stands on a file system that has locks (flock)",
                ) from error
            yield
        finally:
            os.close(fd)

    def read_descriptor(self) -> Descriptor:
        """The set's descriptor. Raises ConfigError `descriptor`, `not-a-node`."""
        data = _read(self.descriptor, limits.DESCRIPTOR_MAX_BYTES)
        try:
            return Descriptor.parse(data)
        except InvalidEncoding as error:
            raise ConfigError(f"{self.descriptor}: {error}", code="descriptor") from error

    def read_policy(self, d: Descriptor) -> Policy:
        """The set's policy. Raises ConfigError `policy`, also when it is of another set."""
        data = _read(self.policy, limits.POLICY_MAX_BYTES)
        try:
            policy = Policy.parse(data)
        except InvalidEncoding as error:
            raise ConfigError(f"{self.policy}: {error}", code="policy") from error
        if policy.set_id != d.set_id:
            raise ConfigError(f"{self.policy} is of another validator set", code="policy")
        return policy


def write_key(path: Path, key: SigningKey, kind: int, passphrase: str | None = None) -> None:
    """Write a new key, readable by its owner alone, and sealed if there is a passphrase.

    Raises StateError `key-exists`, ConfigError `passphrase` for an empty one.
    """
    if path.exists():
        raise StateError(
            f"{path} exists already", code="key-exists", hint="a key is never replaced"
        )
    text = f"{key.text(kind)}\n".encode()
    write_file(path, text if passphrase is None else age.seal(text, passphrase), mode=KEY_MODE)


def read_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """A key from its file. Raises ConfigError `key-missing`, `key-mode`, `key-format`,
    `key-locked` (sealed, and there is no passphrase), `passphrase` (another one)."""
    return _parse_key(path, _key_text(path, passphrase))


def _parse_key(path: Path, text: bytes) -> SigningKey:
    try:
        return SigningKey.parse(text.decode("utf-8").strip())
    except (InvalidEncoding, UnicodeDecodeError):
        # The message of neither may show what stands in the file.
        raise ConfigError(f"{path} holds no key", code="key-format") from None


def change_passphrase(path: Path, old: str | None, new: str | None) -> None:
    """Put the same key under another passphrase, or under none: whole, or as it was.

    What stood there before may still be found on the disk. Raises as `read_key`.
    """
    text = _key_text(path, old)
    _parse_key(path, text)
    data = text if new is None else age.seal(text, new)
    if new is not None and age.unseal(data, new) != text:
        raise AssertionError("what was sealed cannot be opened: nothing is written")
    write_file(path, data, step="key", mode=KEY_MODE)


def is_sealed(path: Path) -> bool:
    """Whether a key file needs a passphrase. Raises as `read_key`."""
    return age.is_sealed(read_secret(path))


def _key_text(path: Path, passphrase: str | None) -> bytes:
    data = read_secret(path)
    if not age.is_sealed(data):
        return data
    if passphrase is None:
        raise ConfigError(f"{path} is under a passphrase", code="key-locked", hint=UNLOCK_HINT)
    try:
        return age.unseal(data, passphrase)
    except InvalidEncoding as error:
        raise ConfigError(f"{path}: {error}", code="key-format") from None
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}", code=error.code, hint=f"{UNLOCK_HINT}; `age -d` tries it, too"
        ) from None


def read_secret(path: Path) -> bytes:
    """What is in a file that only its owner may read. Raises ConfigError `key-missing`,
    `key-mode`, `unreadable`."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing", code="key-missing") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {mode:04o})",
            code="key-mode",
            hint=f"chmod 600 {path}",
        )
    return _read(path, limits.KEY_FILE_BYTES)


def _not_a_node(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is missing",
        code="not-a-node",
        hint="`restante init DIR` makes a node; RESTANTE_PATH or an argument names its folder",
    )


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: {os.strerror(error.errno or 0)}", code="unreadable")


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise _not_a_node(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > max_bytes:
        raise ConfigError(f"{path} is too large", code="unreadable")
    return data
