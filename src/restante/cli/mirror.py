"""`restante mirror`: a verified copy of an archive, to be served by anybody."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from restante.cli.output import reports, show_json
from restante.cli.words import sources_named


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--policy", "policy_file", required=True, envvar="RESTANTE_POLICY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The set's policy file: whose keys are trusted, and where its archive is served.",
)  # fmt: skip
@click.option(
    "--source", "sources", multiple=True, metavar="URL|DIR",
    help="Copy from here instead of the policy file's contacts. Repeatable.",
)  # fmt: skip
@click.option("--proxy", metavar="URL", help="HTTP or SOCKS proxy (socks5://…) for all sources.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def mirror(
    directory: Path, policy_file: Path, sources: Sequence[str], proxy: str | None, as_json: bool
) -> None:
    """Copy an archive into DIR, every byte verified: from a node, a gateway, a folder or a mirror.

    What is there already is not fetched again, and a copy that broke off goes on. What the
    sources have given up is left out; what DIR has of it stays. DIR can be served by any web
    server, and is a source for restante query.

    \b
    Examples:
      restante mirror --policy policy ./mirror
      restante mirror --policy policy --source /mnt/disk/v1/archive ./mirror
      while sleep 60; do restante mirror --policy policy ./mirror; done

    Exit codes: 0 ok, 1 failed, 2 usage, 3 no source gave what verifies, 4 unavailable.
    """
    from restante.client import Client, FolderMemory, read_policy
    from restante.node.mirror import Mirror

    policy = read_policy(policy_file)
    live = sys.stderr.isatty() and not as_json

    def show(what: str, done: int, total: int) -> None:
        if live:
            click.echo(f"\r{what}: {done} of {total} ", nl=False, err=True)

    started = time.monotonic()
    memory = FolderMemory()
    with Client(policy, sources_named(policy, sources, proxy), memory) as client:
        copied = Mirror(client, directory).copy(show)
    if live:
        click.echo("\r\x1b[K", nl=False, err=True)
    seconds = time.monotonic() - started
    if as_json:
        show_json(
            {
                "size": copied.size,
                "windows": copied.windows,
                "segments": copied.segments,
                "envelopes": copied.envelopes,
                "bytes": copied.bytes_,
                "gone": copied.gone,
                "seconds": round(seconds, 3),
            }
        )
        return
    click.echo(
        f"{directory} is at size {copied.size}: {copied.segments} segments with "
        f"{copied.envelopes} records, {copied.bytes_} bytes came in {seconds:.1f} s, all verified"
    )
    if copied.gone:
        click.echo(f"{copied.gone} segments or bundles are no longer kept by any source")
