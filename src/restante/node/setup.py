"""Makes what is made once: keys, sets, and a validator's durable state.

`create` and `open` are different calls everywhere: nothing here ever replaces a file.
"""

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from restante.durable import make_directories, write_file
from restante.engines.local import LocalEngine
from restante.errors import ConfigError, InvalidEncoding, StateError
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SEED_BYTES, SigningKey
from restante.formats.level import STANDARD, Level
from restante.formats.note import COSIGNATURE_V1, ED25519, VerifierKey
from restante.formats.policy import Policy
from restante.node.backup import refuse_restored
from restante.node.config import Value, template
from restante.node.durable.pool import ID_BYTES
from restante.node.durable.state import State
from restante.node.home import Home, read_key, write_key
from restante.stores.folder import FolderStore

# Two sets never share an origin: what one signs can never be taken for the other's.
_ORIGIN_BYTES = 8
NO_BACKUP = "Never restore this folder: a key with an older lock state contradicts itself.\n"

_LEVELS_HINT = (
    "levels ascend, each a multiple of the one below, the index last: as in 10,120,index:2880"
)


def new_key(name: str) -> SigningKey:
    """A fresh key under a name. Raises ConfigError for what is no name."""
    try:
        return SigningKey(name, secrets.token_bytes(SEED_BYTES))
    except InvalidEncoding as error:
        raise ConfigError(f"{name!r}: {error}") from error


def new_set(
    name: str,
    validators: Iterable[VerifierKey],
    f: int,
    *,
    genesis_s: int | None = None,
    parameters: Mapping[str, int] | None = None,
    levels: Sequence[Level] = STANDARD,
    contacts: Iterable[tuple[str, str]] = (),
) -> tuple[Descriptor, Policy, SigningKey]:
    """A new validator set: descriptor, policy and the origin's key.

    The log's origin is `name` and random bytes; genesis is the window that holds now; `levels` are
    its roll-ups. Raises ConfigError.
    """
    keys = tuple(sorted(validators, key=lambda key: key.name))
    given = dict(parameters or {})
    window_s = given.get("window_s", 30)
    # R7 needs this much: see the descriptor.
    given.setdefault("slack_s", max(90, 2 * window_s + 20))
    pairs = tuple(contacts)
    for who, _ in pairs:
        if who not in {key.name for key in keys}:
            raise ConfigError(
                f"a contact of {who}, who is no validator of the set",
                code="contact",
                hint=f"validators: {', '.join(key.name for key in keys)}",
            )
    start_s = int(time.time()) if genesis_s is None else genesis_s
    origin = new_key(f"{name}-{secrets.token_hex(_ORIGIN_BYTES)}")
    try:
        d = Descriptor(
            origin=origin.name,
            genesis_s=start_s - start_s % window_s,
            f=f,
            validators=keys,
            levels=tuple(levels),
            **given,  # type: ignore[arg-type]  # numbers by the descriptor's own names
        )
        policy = Policy.of_validators(origin.vkey(ED25519), keys, d.k, d.set_id, pairs)
    except InvalidEncoding as error:
        hint = _LEVELS_HINT if str(error).startswith("levels") else ""
        raise ConfigError(f"no such validator set: {error}", code="set", hint=hint) from error
    return d, policy, origin


def write_set(
    directory: Path,
    d: Descriptor,
    policy: Policy,
    origin: SigningKey,
    passphrase: str | None = None,
) -> None:
    """Write `descriptor`, `policy` and `origin.key`. Raises StateError `exists`."""
    home = Home(directory)
    refuse_existing([home.descriptor, home.policy, home.origin_key])
    make_directories(directory)
    write_key(home.origin_key, origin, ED25519, passphrase)
    write_file(home.policy, policy.encode())
    write_file(home.descriptor, d.encode())


def create_engine(directory: Path) -> Path:
    """Make the empty engine that a set on one machine shares. Raises StateError."""
    path = Home(directory).engine
    LocalEngine.create(path)._close()
    return path


def create_validator(home: Home, d: Descriptor, key: SigningKey) -> None:
    """Create a validator's lock state, pool and archive, once. Raises StateError."""
    State.create(home, d, key, secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES))
    # What tar, restic and borg can be told to leave folders out by (docs/operating.md).
    write_file(home.lock / ".nobackup", NO_BACKUP.encode())


def create_node(
    home: Home,
    name: str,
    values: Mapping[str, Value],
    passphrase: str | None = None,
    parameters: Mapping[str, int] | None = None,
    levels: Sequence[Level] = STANDARD,
) -> None:
    """Make a node of a set of one (n = 1, f = 0): keys, set, durable state, engine, store.

    With a passphrase all keys are sealed, and none was ever on the disk otherwise. Raises
    StateError `exists` if anything of it is there already.
    """
    refuse_existing(
        [
            home.config,
            home.descriptor,
            home.policy,
            home.origin_key,
            home.validator_key,
            home.proposer_key,
            home.lock,
            home.pool,
            home.archive,
            home.engine,
        ]
    )
    key, proposer = new_key(name), new_key(f"{name}-proposer")
    port = values.get("listen.port", 0)
    # So that the policy file alone starts a client on this machine, and `init --set` a proposer.
    contacts = [(name, f"http://127.0.0.1:{port}")] if port else []
    d, policy, origin = new_set(
        name,
        [key.vkey()],
        0,
        parameters=parameters,
        levels=levels,
        contacts=contacts,
    )
    make_directories(home.path)
    write_key(home.validator_key, key, COSIGNATURE_V1, passphrase)
    write_key(home.proposer_key, proposer, ED25519, passphrase)
    write_set(home.path, d, policy, origin, passphrase)
    create_validator(home, d, key)
    FolderStore.create("folder", home.stores / "folder")
    create_engine(home.path)
    # The configuration last: where it is, the node is whole.
    write_file(home.config, template(values).encode())


def adopt(home: Home, files: Path, passphrase: str | None = None) -> None:
    """Copy a set's files beside a validator's key. Raises StateError `exists` for other ones."""
    source = Home(files)
    d = source.read_descriptor()
    policy, origin = source.read_policy(d), read_key(source.origin_key, passphrase)
    if home.descriptor.exists() and home.read_descriptor().set_id == d.set_id:
        return
    write_set(home.path, d, policy, origin)


def join(
    home: Home, values: Mapping[str, Value] | None = None, passphrase: str | None = None
) -> Descriptor:
    """Make what the validator key in a folder needs, for the set whose files are there: lock
    state, pool, archive, a folder store, and the configuration: `values` go before what the set's
    contacts say.

    Raises ConfigError, StateError.
    """
    refuse_restored(home)
    d, key = home.read_descriptor(), read_key(home.validator_key, passphrase)
    own = d.validator(key.name)
    if own is None or own.public_key != key.public_key:
        raise ConfigError(
            f"{home.validator_key} ({key.name}) is no key of this set",
            code="key-foreign",
            hint=f"validators: {', '.join(v.name for v in d.validators)}",
        )
    policy = home.read_policy(d)
    read_key(home.origin_key, passphrase)
    given: dict[str, Value] = {
        "node.roles": ["validator"],
        "stores": {"folder": "folder:stores/folder"},
        **listen_at(dict(policy.contacts).get(key.name, "")),
        **(values or {}),
    }
    given["peers"] = _peers(d, policy, given.get("peers"), key.name)
    refuse_existing([home.lock, home.pool, home.archive, home.config])
    create_validator(home, d, key)
    FolderStore.create("folder", home.stores / "folder")
    write_file(home.config, template(given).encode())
    return d


def create_outside(
    home: Home,
    files: Path,
    name: str,
    values: Mapping[str, Value],
    passphrase: str | None = None,
) -> Descriptor:
    """Make a node that is no validator of a set: a proposer, a gateway, or both.

    Of `files` it takes descriptor and policy; it needs no secret of the set. Raises ConfigError,
    StateError.
    """
    source = Home(files)
    d = source.read_descriptor()
    policy = source.read_policy(d)
    roles = values["node.roles"]
    assert isinstance(roles, list)
    if "validator" in roles:
        raise ConfigError(
            "a validator is made with its key", hint="`restante set key`, then `restante set join`"
        )
    peers = _peers(d, policy, values.get("peers"), "")
    missing = [v.name for v in d.validators if v.name not in peers]
    if not peers or ("proposer" in roles and missing):
        raise ConfigError(
            f"the policy names no URL of {', '.join(missing)}", hint="give --peer NAME=URL for each"
        )
    refuse_existing([home.config, home.descriptor, home.policy, home.proposer_key, home.lock])
    proposer = new_key(name) if "proposer" in roles else None
    make_directories(home.path)
    if proposer is not None:
        write_key(home.proposer_key, proposer, ED25519, passphrase)
    write_file(home.policy, policy.encode())
    write_file(home.descriptor, d.encode())
    write_file(home.config, template({**values, "peers": peers}).encode())
    return d


def _peers(d: Descriptor, policy: Policy, given: "Value | None", own: str) -> dict[str, str]:
    """The validators' URLs but the own one: the policy's, and before them those given."""
    assert given is None or isinstance(given, dict)
    for name in given or {}:
        if d.validator(name) is None:
            raise ConfigError(
                f"{name} is no validator of the set",
                hint=f"validators: {', '.join(v.name for v in d.validators)}",
            )
    urls = dict(policy.contacts) | (given or {})
    return {name: url for name, url in urls.items() if name != own}


def listen_at(contact: str) -> dict[str, Value]:
    """Where a node listens that is reached at this URL.

    Only a URL of plain HTTP at an address says it; anything else is a proxy's before the node.
    """
    if not contact:
        return {}
    values: dict[str, Value] = {"listen.url": contact}
    try:
        parts = urlsplit(contact)
        host, port = str(ip_address(parts.hostname or "")), parts.port or 80
    except ValueError:
        return values
    return (
        {**values, "listen.host": host, "listen.port": port} if parts.scheme == "http" else values
    )


def shared_engine(home: Home, files: Path) -> str:
    """`engine.source` for the engine that `set create` made beside the set's files; "" without."""
    path = Home(files).engine
    if not path.exists():
        return ""
    return f"local:{os.path.relpath(path.resolve(), home.path.resolve())}"


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to replace anything. Raises StateError `exists`."""
    for path in paths:
        if path.exists():
            raise StateError(
                f"{path} exists already",
                code="exists",
                hint="nothing is overwritten: choose another folder, or start this one with `up`",
            )
