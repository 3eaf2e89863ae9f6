"""`restante set …`: validator sets of more than one."""

from pathlib import Path

import click

from restante.cli.output import reports, show_json


@click.group("set")
def set_() -> None:
    """Make validator keys and sets; join one.

    Each operator makes a key; one of them makes the set from all public keys and hands the three
    files `descriptor`, `policy` and `origin.key` to the others; each joins, once.

    All validators of a set must reach one engine. The local engine is a file, so that for now they
    run on one machine; engines for four machines come later.

    \b
    Examples:
      restante set key v1 ./v1
      restante set create ./set --name example --validator v1+… --validator v2+… …
      restante set join ./v1 ./set
    """


@set_.command()
@click.argument("name")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def key(name: str, directory: Path, as_json: bool) -> None:
    """Make the validator key NAME in DIRECTORY (validator.key, mode 0600), and print its public
    key, which is what the maker of the set needs.

    \b
    Example:
      restante set key v1 ./v1
    """
    from restante.durable import make_directories
    from restante.formats.note import COSIGNATURE_V1
    from restante.node.home import Home, write_key
    from restante.node.setup import new_key

    made = new_key(name)
    make_directories(directory)
    write_key(Home(directory).validator_key, made, COSIGNATURE_V1)
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
@click.option("--ttl-max", type=int, help="Longest TTL that is kept, in seconds (300).")
@click.option("--pow-floor", type=float, help="Least proof of work (0.2).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def create(
    directory: Path,
    name: str,
    vkeys: tuple[str, ...],
    f: int | None,
    contacts: tuple[str, ...],
    genesis: int | None,
    ttl_max: int | None,
    pow_floor: float | None,
    as_json: bool,
) -> None:
    """Make a validator set in DIRECTORY: `descriptor` (its hash is the set id), `policy` (what
    clients start from; other tools of the transparency-log world read it too) and `origin.key`
    (for the operators; safety never rests on it).

    \b
    Example:
      restante set create ./set --name example --validator v1+5f… --validator v2+81… \\
        --validator v3+a2… --validator v4+0c… --contact v1=https://v1.example
    """
    from restante.errors import ConfigError, InvalidEncoding
    from restante.formats.note import VerifierKey
    from restante.node.setup import new_set, write_set

    try:
        keys = [VerifierKey.parse(text) for text in vkeys]
    except InvalidEncoding as error:
        raise ConfigError(f"not a validator's public key: {error}") from error
    parameters: dict[str, int] = {}
    if ttl_max is not None:
        parameters["ttl_max_s"] = ttl_max
    if pow_floor is not None:
        parameters["pow_floor_millionths"] = round(pow_floor * 1e6)
    pairs = []
    for contact in contacts:
        who, separator, url = contact.partition("=")
        if not separator:
            raise ConfigError(f"not a contact: {contact}", hint="as in v1=https://v1.example")
        pairs.append((who, url))
    faulty = (len(keys) - 1) // 3 if f is None else f
    d, policy, origin = new_set(
        name, keys, faulty, genesis_s=genesis, parameters=parameters, contacts=pairs
    )
    write_set(directory, d, policy, origin)
    if as_json:
        show_json({"set": d.set_id.hex(), "origin": d.origin, "n": d.n, "f": d.f})
        return
    click.echo(f"set {d.set_id.hex()}: n = {d.n}, f = {d.f}, {d.k} must agree")
    click.echo(f"give {directory}/descriptor, policy and origin.key to every operator")
    click.echo("each then runs: restante set join DIR " + str(directory))


@set_.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def join(directory: Path, files: Path | None, as_json: bool) -> None:
    """Join a set with the validator key in DIRECTORY: makes its lock state, once and for good, and
    a configuration. FILES is the folder that holds the set's `descriptor`, `policy`, `origin.key`,
    unless they are in DIRECTORY already.

    A key whose lock state is lost is lost: never restore lock/ from a backup.

    \b
    Example:
      restante set join ./v1 ./set
    """
    from restante.node.setup import adopt
    from restante.node.setup import join as join_set

    if files is not None:
        adopt(directory, files)
    d = join_set(directory)
    if as_json:
        show_json({"set": d.set_id.hex()})
        return
    click.echo(f"joined set {d.set_id.hex()}")
    click.echo(f"next: name the other validators' URLs and the engine in {directory}/restante.toml")
