"""`restante status`."""

import sys
from typing import Any

import click

from restante.cli.output import FAILED, reports, show_json


@click.command()
@click.argument("node", required=False, metavar="[URL|DIR]")
@click.option("--json", "as_json", is_flag=True, help="The node's whole answer as JSON.")
@reports
def status(node: str | None, as_json: bool) -> None:
    """Say how a node is: the one at a URL, or the one whose folder is DIR.

    \b
    Examples:
      restante status
      restante status --json http://127.0.0.1:8420

    Exit codes: 0 all is well; 1 something is not, for example the decided window lags by more than
    the grace and three steps, or a store fails; 4 no node answers.
    """
    from restante.cli.nodes import node_url, request

    found = request("GET", f"{node_url(node)}/status")
    if as_json:
        show_json(found)
    else:
        _show(found)
    if found.get("reasons"):
        sys.exit(FAILED)


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "nothing yet"


def _show(s: dict[str, Any]) -> None:
    from restante.cli.printing import not_here

    name = f"{s['name']}, " if "name" in s else ""
    click.echo(f"{name}{' + '.join(s['roles'])} of set {s['set'][:16]}…")
    click.echo(f"window {s['window']}", nl=False)
    if "decided" in s:
        click.echo(f", decided to {s['decided']}", nl=False)
    if "cosigned" in s:
        click.echo(f", cosigned size {s['cosigned']}", nl=False)
    if "size" in s and "decided" not in s:
        click.echo(f", tree size {s['size']}", nl=False)
    click.echo()
    if "pool" in s:
        click.echo(f"pool: {s['pool']['envelopes']} envelopes, {s['pool']['bytes']:,} bytes")
    if "network" in s:
        click.echo(f"network: {s['network']['peers']} peers, at {s['network']['enode']}")
        click.echo(f"  brought: {_counts(s['network']['counts'])}")
        for name, words in (("left", "peers that left"), ("turned_away", "turned away")):
            if s["network"][name]:
                click.echo(f"  {words}: {_counts(s['network'][name])}")
        for static in s["network"].get("static", ()):
            if static["error"]:
                click.echo(f"  {not_here(static)}")
    if "mail" in s:
        click.echo(f"mail: {_counts(s['mail']['counts'])}")
    for store, state in s.get("stores", {}).items():
        error = "" if state["error"] is None else f", failing: {state['error']['message']}"
        click.echo(f"store {store}: {state['pending']} files waiting{error}")
    if s.get("adopted"):
        click.echo(f"adopted: {s['adopted']['message']}")
    for reason in s["reasons"]:
        click.echo(f"NOT WELL ({reason['code']}): {reason['message']}")
    if not s["reasons"]:
        click.echo("all is well")
