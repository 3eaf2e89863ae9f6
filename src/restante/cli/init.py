"""`restante init`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante.cli.output import reports, show_json
from restante.cli.parameters import read_levels, read_parameters, set_parameters
from restante.cli.passphrase import choose, passphrase_file
from restante.cli.place import node_path

if TYPE_CHECKING:
    from restante.node.config import Value


@click.command()
@click.argument("directory", required=False)
@click.option("--name", help="The validator's name (solo), or with --set the proposer's.")
@click.option(
    "--port", type=click.IntRange(0, 65533), default=8420, show_default=True,
    help="Where the node listens; the gateway and Whisper take the next two.",
)  # fmt: skip
@click.option(
    "--network",
    help="none (as by default, but for a mailserver), whisper, or trace:FILE[,FILE…], relative to "
    "where you are.",
)  # fmt: skip
@set_parameters
@click.option(
    "--set", "files", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the `descriptor` and `policy` of a set that this node is no validator of.",
)  # fmt: skip
@click.option("--role", help="With --set: gateway, proposer, mailserver, or some of them.")
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME=URL",
    help="With --set: a validator's URL, before what the policy says. Repeatable.",
)  # fmt: skip
@click.option("--seal", is_flag=True, help="Put the keys under a passphrase (an age file).")
@passphrase_file
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def init(
    directory: str | None,
    name: str | None,
    port: int,
    network: str | None,
    files: Path | None,
    role: str | None,
    peers: tuple[str, ...],
    seal: bool,
    passphrase_file: Path | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Make a node of your own in DIRECTORY: a validator set of one, with its keys (mode 0600), an
    annotated configuration, and everything it stores. Nothing is ever overwritten.

    With --set and --role it becomes a gateway or proposer of a set that exists: its files are
    copied, the validators' URLs are taken from the policy, and a proposer gets a key of its own.
    (A validator: `restante set`.)

    Without DIRECTORY: RESTANTE_PATH, or the platform's data folder.

    \b
    Examples:
      restante init ~/restante
      restante init --seal ~/restante
      restante init --network whisper --pow-floor 0.002 ~/restante
      restante init --network trace:traces/whisper/observer1.jsonl.gz ./replayed
      restante init --set ./set --role gateway ~/gateway
      restante init --set ./set --role proposer --port 8430 ~/proposer
      restante init --set ./set --role mailserver ~/mailserver
    """
    from restante.errors import ConfigError
    from restante.node.adapters import check_network
    from restante.node.home import Home

    if (files is None) != (role is None) or (files is None and peers):
        raise ConfigError("--role and --peer go with --set, and --set with --role")
    if files is not None and (given := [n for n, value in parameters.items() if value is not None]):
        options = ", ".join(f"--{name.removesuffix('_s').replace('_', '-')}" for name in given)
        raise ConfigError(f"the set has been made, and {options} with it: leave that out")
    home = Home(node_path(directory))
    roles = [each.strip() for each in (role or "").split(",") if each.strip()]
    if network is None:
        network = "whisper" if "mailserver" in roles else "none"
    values: dict[str, Value] = {
        "listen.port": port,
        "gateway.port": port + 1 if port else 0,
        "whisper.port": port + 2 if port else 0,
        "network.source": check_network(network, Path.cwd()),
    }
    secret = choose(passphrase_file) if seal else None
    if files is None:
        _alone(home.path, name or "solo", values, secret, parameters)
    else:
        _outside(home.path, files, name or "proposer", roles, peers, values, secret)
    d = home.read_descriptor()
    if as_json:
        show_json({"path": str(home.path), "set": d.set_id.hex(), "origin": d.origin})
        return
    click.echo(f"made a node in {home.path}")
    click.echo(f"validator set {d.set_id.hex()}")
    keys = [home.validator_key, home.proposer_key, home.origin_key]
    if made := [str(key) for key in keys if key.exists()]:
        how = ", under a passphrase" if seal else ""
        click.echo(f"keys, mode 0600{how}: {', '.join(made)}")
    click.echo(f"next: restante up {home.path}")
    if files is None:
        click.echo(
            "note: never restore lock/ from a backup; a set of one has nobody who would notice"
        )


def _alone(
    path: Path,
    name: str,
    values: "dict[str, Value]",
    passphrase: str | None,
    parameters: dict[str, Any],
) -> None:
    from restante.node.home import Home
    from restante.node.setup import create_node

    create_node(
        Home(path),
        name,
        {**values, "stores": {"folder": "folder:stores/folder"}},
        passphrase,
        read_parameters(parameters),
        read_levels(parameters["levels"]),
    )


def _outside(
    path: Path,
    files: Path,
    name: str,
    roles: list[str],
    peers: tuple[str, ...],
    values: "dict[str, Value]",
    passphrase: str | None,
) -> None:
    from restante.cli.sets import name_url
    from restante.errors import ConfigError
    from restante.node.adapters import check_mail_network
    from restante.node.home import ROLES, Home
    from restante.node.setup import create_outside

    if not roles or (unknown := set(roles) - set(ROLES)):
        named = ", ".join(sorted(unknown)) if roles else "none"
        raise ConfigError(f"no such role: {named}", hint="gateway, proposer, mailserver, or some")
    if "mailserver" in roles:
        check_mail_network(str(values["network.source"]))
    urls = dict(name_url(each) for each in peers)
    values = {**values, "node.roles": roles, "peers": urls}
    create_outside(Home(path), files, name, values, passphrase)
