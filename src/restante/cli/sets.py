"""`restante set …`: validator sets of more than one."""

from pathlib import Path
from typing import Any

import click

from restante.cli.output import reports, show_json
from restante.cli.parameters import read_levels, read_parameters, set_parameters
from restante.cli.passphrase import choose, passphrase_file, unlock


@click.group("set")
def set_() -> None:
    """Make validator keys and sets; join one.

    Each operator makes a key; one of them makes the set from all public keys, with the URL of each
    validator; each joins, once, and starts. All validators of a set must reach one engine. Today's
    is a file, `engine.db`, that `set create` makes beside the set's files: for now all validators
    run on one machine. Nothing has to be edited after these, on one machine:

    \b
    Examples:
      V1=$(restante set key v1 ./v1)
      V2=$(restante set key v2 ./v2)
      V3=$(restante set key v3 ./v3)
      V4=$(restante set key v4 ./v4)
      restante set create ./set --name example \\
        --validator "$V1" --contact v1=http://127.0.0.1:8501 \\
        --validator "$V2" --contact v2=http://127.0.0.1:8502 \\
        --validator "$V3" --contact v3=http://127.0.0.1:8503 \\
        --validator "$V4" --contact v4=http://127.0.0.1:8504
      for v in v1 v2 v3 v4; do restante set join ./$v --set ./set; done
      for v in v1 v2 v3 v4; do restante up ./$v & done

    With other URLs, or without --contact: see `restante set join --help`. A gateway or a proposer
    of the set: `restante init --set ./set --role gateway ~/gateway`.
    """


def name_url(text: str) -> tuple[str, str]:
    """NAME=URL, taken apart. Raises ConfigError."""
    from restante.errors import ConfigError

    name, separator, url = text.partition("=")
    if not (name and separator and url):
        raise ConfigError(f"not a name and a URL: {text}", hint="as in v1=https://v1.example")
    return name, url


@set_.command()
@click.argument("name")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seal", is_flag=True, help="Put the key under a passphrase (an age file).")
@passphrase_file
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def key(
    name: str, directory: Path, seal: bool, passphrase_file: Path | None, as_json: bool
) -> None:
    """Make the validator key NAME in DIRECTORY (validator.key, mode 0600), and print its public
    key, which is what the maker of the set needs.

    \b
    Examples:
      restante set key v1 ./v1
      restante set key --seal v1 ./v1
    """
    from restante.durable import make_directories
    from restante.formats.note import COSIGNATURE_V1
    from restante.node.home import Home, write_key
    from restante.node.setup import new_key

    made = new_key(name)
    passphrase = choose(passphrase_file) if seal else None
    make_directories(directory)
    write_key(Home(directory).validator_key, made, COSIGNATURE_V1, passphrase)
    vkey = made.vkey().text()
    if as_json:
        show_json({"name": name, "vkey": vkey})
    else:
        click.echo(vkey)


@set_.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", required=True, help="The log's name; random bytes are added.")
@click.option(
    "--validator", "vkeys", multiple=True, required=True, metavar="VKEY",
    help="A validator's public key, as `set key` prints it. Repeat for each.",
)  # fmt: skip
@click.option("--faulty", "f", type=click.IntRange(0, 5), help="f; by default (n − 1) // 3.")
@click.option(
    "--contact", "contacts", multiple=True, metavar="NAME=URL",
    help="Where a validator is reached; goes into the policy file.",
)  # fmt: skip
@click.option("--genesis", type=int, metavar="T", help="Unix time of window 0; by default now.")
@set_parameters
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def create(
    directory: Path,
    name: str,
    vkeys: tuple[str, ...],
    f: int | None,
    contacts: tuple[str, ...],
    genesis: int | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Make a validator set in DIRECTORY: `descriptor` (its hash is the set id), `policy` (what
    clients start from; other tools of the transparency-log world read it too) and `origin.key`
    (for the operators; safety never rests on it); and `engine.db`, the engine that all validators
    on this machine share.

    \b
    Example:
      restante set create ./set --name example --validator v1+5f… --validator v2+81… \\
        --validator v3+a2… --validator v4+0c… --contact v1=https://v1.example
    """
    from restante.errors import ConfigError, InvalidEncoding
    from restante.formats.note import VerifierKey
    from restante.node.home import Home
    from restante.node.setup import create_engine, new_set, refuse_existing, write_set

    try:
        keys = [VerifierKey.parse(text) for text in vkeys]
    except InvalidEncoding as error:
        raise ConfigError(f"not a validator's public key: {error}") from error
    pairs = [name_url(contact) for contact in contacts]
    faulty = (len(keys) - 1) // 3 if f is None else f
    d, policy, origin = new_set(
        name,
        keys,
        faulty,
        genesis_s=genesis,
        parameters=read_parameters(parameters),
        levels=read_levels(parameters["levels"]),
        contacts=pairs,
    )
    refuse_existing([Home(directory).engine])
    write_set(directory, d, policy, origin)
    create_engine(directory)
    if as_json:
        show_json({"set": d.set_id.hex(), "origin": d.origin, "n": d.n, "f": d.f})
        return
    click.echo(f"set {d.set_id.hex()}: n = {d.n}, f = {d.f}, {d.k} must agree")
    click.echo(f"every operator needs {directory}/descriptor, policy and origin.key")
    click.echo(f"each then runs, once: restante set join DIR --set {directory}")
    click.echo(f"clients need the policy file, {directory}/policy")


@set_.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--set", "files", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The set's folder, as `set create` made it; by default its files are in DIRECTORY.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535),
    help="Where this validator listens; by default as its contact says, else 8420.",
)  # fmt: skip
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME=URL",
    help="Another validator's URL, before what its contact says. Repeatable.",
)  # fmt: skip
@click.option(
    "--engine", metavar="SOURCE", help="local:FILE; by default the engine.db of the set's folder."
)
@passphrase_file
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def join(
    directory: Path,
    files: Path | None,
    port: int | None,
    peers: tuple[str, ...],
    engine: str | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Join a set with the validator key in DIRECTORY: makes its lock state, once and for good, a
    folder store, and the configuration `restante.toml`.

    What it writes there: [listen] from this validator's own contact in the policy (an http URL with
    an address; anything else is taken for a proxy's), [peers] from the others' contacts, [engine]
    the set's engine.db. What the contacts do not say, --port and --peer do.

    A key whose lock state is lost is lost: never restore lock/ from a backup.

    \b
    Examples:
      restante set join ./v1 --set ./set
      restante set join ./v1 --set ./set --port 8501 --peer v2=http://127.0.0.1:8502 …
    """
    from restante.node.config import Value, load
    from restante.node.home import Home, read_key
    from restante.node.setup import adopt, shared_engine
    from restante.node.setup import join as join_set

    home = Home(directory)
    values: dict[str, Value] = {"peers": dict(name_url(each) for each in peers)}
    if port is not None:
        values["listen.port"] = port
    source = whole_path(engine) if engine else shared_engine(home, files or directory)
    if source:
        values["engine.source"] = source
    shared = Home(files if files is not None else directory).origin_key
    keys = [path for path in (home.validator_key, shared) if path.exists()]
    passphrase = unlock(keys, passphrase_file)
    if files is not None:
        adopt(home, files, passphrase)
    d = join_set(home, values, passphrase)
    if as_json:
        show_json({"set": d.set_id.hex()})
        return
    click.echo(f"joined set {d.set_id.hex()}")
    config = load(home.config, {})
    own = read_key(home.validator_key, passphrase).name
    known = {own, *config.table("peers")}
    if unknown := [v.name for v in d.validators if v.name not in known]:
        click.echo(f"first: name the URLs of {', '.join(unknown)} under [peers] in {home.config}")
    if not source:
        click.echo(f"first: name the engine that all share under [engine] in {home.config}")
    click.echo(f"next: restante up {directory}")


def whole_path(source: str) -> str:
    """An `engine.source` of the command line: its file is relative to where the command runs."""
    kind, separator, path = source.partition(":")
    return f"{kind}:{Path(path).absolute()}" if separator and path else source
