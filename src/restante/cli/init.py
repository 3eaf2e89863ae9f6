"""`restante init`."""

import click

from restante.cli.output import reports, show_json
from restante.cli.place import node_path


@click.command()
@click.argument("directory", required=False)
@click.option("--name", default="solo", show_default=True, help="The validator's name.")
@click.option(
    "--port", type=click.IntRange(0, 65534), default=8420, show_default=True,
    help="Where the node listens; the gateway takes the next one.",
)  # fmt: skip
@click.option("--network", default="none", show_default=True, help="none, or trace:FILE[,FILE…].")
@click.option(
    "--window", "window_s", type=click.IntRange(1, 3600), default=30, show_default=True,
    help="Length of a window in seconds; fixed for good.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def init(
    directory: str | None, name: str, port: int, network: str, window_s: int, as_json: bool
) -> None:
    """Make a node of your own in DIRECTORY: a validator set of one, with its keys (mode 0600), an
    annotated configuration, and everything it stores. Nothing is ever overwritten.

    Without DIRECTORY: RESTANTE_PATH, or the platform's data folder.

    \b
    Examples:
      restante init ~/restante
      restante init --network trace:observer1.jsonl.gz ./replayed
    """
    from restante.node.config import Value
    from restante.node.home import Home
    from restante.node.setup import create_node

    home = Home(node_path(directory))
    values: dict[str, Value] = {
        "listen.port": port,
        "gateway.port": port + 1 if port else 0,
        "network.source": network,
        "stores": {"folder": "folder:stores/folder"},
    }
    create_node(home, name, values, window_s)
    d = home.read_descriptor()
    if as_json:
        show_json({"path": str(home.path), "set": d.set_id.hex(), "origin": d.origin})
        return
    click.echo(f"made a node in {home.path}")
    click.echo(f"validator set {d.set_id.hex()}")
    click.echo(f"keys, mode 0600: {home.validator_key}, {home.proposer_key}, {home.origin_key}")
    click.echo(f"next: restante up {home.path}")
    click.echo("note: never restore lock/ from a backup; a set of one has nobody who would notice")
