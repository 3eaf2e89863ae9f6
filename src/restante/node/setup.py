"""Makes what is made once: keys, sets, and a validator's durable state.

`create` and `open` are different calls everywhere: nothing here ever replaces a file.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from restante.durable import make_directories, write_file
from restante.engines.local import LocalEngine
from restante.errors import ConfigError, InvalidEncoding, StateError
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SEED_BYTES, SigningKey
from restante.formats.note import COSIGNATURE_V1, ED25519, VerifierKey
from restante.formats.policy import Policy
from restante.node.config import Value, template
from restante.node.home import Home, read_key, write_key
from restante.node.pool import ID_BYTES
from restante.node.state import State
from restante.stores.folder import FolderStore

# Two sets never share an origin: what one signs can never be taken for the other's.
_ORIGIN_BYTES = 8


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
    contacts: Iterable[tuple[str, str]] = (),
) -> tuple[Descriptor, Policy, SigningKey]:
    """A new validator set: descriptor, policy and the origin's key.

    The log's origin is `name` and random bytes; genesis is the window that holds now. Raises
    ConfigError.
    """
    keys = tuple(sorted(validators, key=lambda key: key.name))
    given = dict(parameters or {})
    window_s = given.get("window_s", 30)
    start_s = int(time.time()) if genesis_s is None else genesis_s
    origin = new_key(f"{name}-{secrets.token_hex(_ORIGIN_BYTES)}")
    try:
        d = Descriptor(
            origin=origin.name,
            genesis_s=start_s - start_s % window_s,
            f=f,
            validators=keys,
            **given,  # type: ignore[arg-type]  # numbers by the descriptor's own names
        )
        policy = Policy.of_validators(origin.vkey(ED25519), keys, d.k, d.set_id, contacts)
    except InvalidEncoding as error:
        raise ConfigError(f"no such validator set: {error}", code="set") from error
    return d, policy, origin


def write_set(directory: Path, d: Descriptor, policy: Policy, origin: SigningKey) -> None:
    """Write `descriptor`, `policy` and `origin.key`. Raises StateError `exists`."""
    home = Home(directory)
    refuse_existing([home.descriptor, home.policy, home.origin_key])
    make_directories(directory)
    write_key(home.origin_key, origin, ED25519)
    write_file(home.policy, policy.encode())
    write_file(home.descriptor, d.encode())


def create_validator(home: Home, d: Descriptor, key: SigningKey) -> None:
    """Create a validator's lock state, pool and archive, once. Raises StateError."""
    State.create(home, d, key, secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES))


def create_node(home: Home, name: str, values: Mapping[str, Value], window_s: int = 30) -> None:
    """Make a node of a set of one (n = 1, f = 0): keys, set, durable state, engine, store.

    Raises StateError `exists` if anything of it is there already.
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
    parameters = {"window_s": window_s}
    if window_s != 30:
        # R7 needs this much: see the descriptor.
        parameters["slack_s"] = max(90, 2 * window_s + 20)
    port = values.get("gateway.port", 0)
    # So that the policy file alone starts a client on this machine.
    contacts = [(name, f"http://127.0.0.1:{port}")] if port else []
    d, policy, origin = new_set(name, [key.vkey()], 0, parameters=parameters, contacts=contacts)
    make_directories(home.path)
    write_key(home.validator_key, key, COSIGNATURE_V1)
    write_key(home.proposer_key, proposer, ED25519)
    write_set(home.path, d, policy, origin)
    create_validator(home, d, key)
    FolderStore.create("folder", home.stores / "folder")
    LocalEngine.create(home.engine)._close()
    # The configuration last: where it is, the node is whole.
    write_file(home.config, template(values).encode())


def adopt(directory: Path, files: Path) -> None:
    """Copy a set's files beside a validator's key. Raises StateError `exists` for other ones."""
    source, home = Home(files), Home(directory)
    d = source.read_descriptor()
    policy, origin = source.read_policy(d), read_key(source.origin_key)
    if home.descriptor.exists() and home.read_descriptor().set_id == d.set_id:
        return
    write_set(directory, d, policy, origin)


def join(directory: Path) -> Descriptor:
    """Make the lock state of the validator key in a folder, for the set whose files are there.

    Raises ConfigError, StateError.
    """
    home = Home(directory)
    d, key = home.read_descriptor(), read_key(home.validator_key)
    own = d.validator(key.name)
    if own is None or own.public_key != key.public_key:
        raise ConfigError(
            f"{home.validator_key} ({key.name}) is no key of this set",
            code="key-foreign",
            hint=f"validators: {', '.join(v.name for v in d.validators)}",
        )
    home.read_policy(d)
    read_key(home.origin_key)
    refuse_existing([home.lock, home.pool, home.archive])
    create_validator(home, d, key)
    if not home.config.exists():
        policy = home.read_policy(d)
        peers = {name: url for name, url in policy.contacts if name != key.name}
        values: dict[str, Value] = {"node.roles": ["validator"], "peers": peers}
        write_file(home.config, template(values).encode())
    return d


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to replace anything. Raises StateError `exists`."""
    for path in paths:
        if path.exists():
            raise StateError(
                f"{path} exists already",
                code="exists",
                hint="nothing is overwritten: choose another folder, or start this one with `up`",
            )
