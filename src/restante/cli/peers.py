"""`restante peers`."""

from typing import Any

import click

from restante.cli.output import reports, show_json


@click.command()
@click.argument("node", required=False, metavar="[URL|DIR]")
@click.option("--json", "as_json", is_flag=True, help="The node's whole answer as JSON.")
@reports
def peers(node: str | None, as_json: bool) -> None:
    """Show the network's peers of a node, and those that left lately: what each wants, what it
    brought and took, and why it left; and those that it dials in vain. A node tells this on its
    own machine only.

    \b
    Examples:
      restante peers
      restante peers --json ~/restante | jq '.peers[] | select(.left == null) | .enode'

    Exit codes: 0 ok, 1 refused, 4 no node answers.
    """
    from restante.cli.nodes import node_url, request

    found = request("GET", f"{node_url(node)}/peers")
    if as_json:
        show_json(found)
        return
    if found["enode"]:
        click.echo(f"this node: {found['enode']}")
    here = [row for row in found["peers"] if row["left"] is None]
    gone = [row for row in found["peers"] if row["left"] is not None]
    if not here:
        click.echo("no peer now")
    for row in found["static"]:
        if row["error"]:
            _show_missed(row)
    for row in [*here, *gone]:
        _show(row)


def _show_missed(row: dict[str, Any]) -> None:
    from restante.cli.printing import not_here, printable, show_time

    click.echo(not_here(row))
    if row["hint"]:
        click.echo(printable(f"    {row['hint']}"))
    when = "now" if row["next_s"] is None else f"at {show_time(row['next_s'])}"
    click.echo(f"    dialled {row['attempts']} times; again {when}")


def _show(row: dict[str, Any]) -> None:
    from restante.cli.printing import printable, show_time

    way = "to" if row["outbound"] else "from"
    click.echo(printable(f"{row['node_id'][:16]}…  {way} {row['address']}  {row['client']}"))
    click.echo(f"    since {show_time(row['since_s'])}, PoW {row['pow']:g}, {_wants(row)}")
    refused = sum(row["refused"].values())
    click.echo(
        f"    brought {row['got']} envelopes: {row['new']} new, {row['repeats']} known, "
        f"{refused} refused; took {row['sent']}"
    )
    if refused:
        codes = ", ".join(f"{code} {count}" for code, count in sorted(row["refused"].items()))
        click.echo(f"    refused: {codes}")
    if row["left"] is not None:
        click.echo(f"    left: {printable(row['left'])}")


def _wants(row: dict[str, Any]) -> str:
    return "everything" if row["full"] else f"topics of {row['bloom_bits']} bloom bits"
