"""`restante backup` and `restante restore`."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from restante.cli.output import reports, show_json
from restante.cli.place import node_path

if TYPE_CHECKING:
    from restante.formats.descriptor import Descriptor
    from restante.node.backup import Manifest
    from restante.node.home import Home


@click.command()
@click.argument("directory", required=False)
@click.option(
    "--to", "target", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="A new folder, or that of an earlier backup, which is brought up to date.",
)  # fmt: skip
@click.option(
    "--keys", is_flag=True, help="With the keys, as they stand: better under a passphrase."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def backup(directory: str | None, target: Path, keys: bool, as_json: bool) -> None:
    """Copy what may be kept of the node in DIRECTORY: settings, archive, on request the keys.

    The node may run meanwhile. A second run into the same folder copies what is new. What is left
    out is left out for a reason: lock/ above all, since a validator's key that signs with an older
    lock state contradicts itself. So a backup does not bring a lost validator back; it brings back
    what it served (docs/operating.md).

    \b
    Examples:
      restante backup --to /mnt/disk/restante ~/restante
      restante backup --keys --to /mnt/safe/v1 ./v1
    """
    from restante.node.backup import LEFT_OUT, make
    from restante.node.home import Home, is_sealed

    home = Home(node_path(directory))
    manifest, copied = make(home, target, keys=keys)
    if as_json:
        counts = {"copied": copied.files, "bytes": copied.bytes_, "there": copied.kept}
        show_json({**asdict(manifest), **counts, "left_out": LEFT_OUT})
        return
    click.echo(
        f"backed up {home.path} to {target}: tree size {manifest.size}; {copied.files} files "
        f"({copied.bytes_:,} bytes) copied, {copied.kept} were there"
    )
    for name, why in LEFT_OUT.items():
        click.echo(f"left out: {name}: {why}")
    if not manifest.keys:
        click.echo("left out: the keys (--keys takes them along)")
    clear = [path.name for path in Home(target).key_files() if not is_sealed(path)]
    if clear:
        click.echo(
            f"note: {', '.join(clear)} in clear: whoever has this backup can sign; "
            "`restante passphrase` seals keys"
        )


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def restore(source: Path, directory: str | None, as_json: bool) -> None:
    """Put the backup SOURCE back into DIRECTORY, a new folder, and say what is lost.

    A gateway or proposer is whole again. A validator is not: its lock state is in no backup, so its
    key never signs again and `up` refuses; what it served comes back, for `up --role gateway`.

    \b
    Examples:
      restante restore /mnt/disk/restante ~/restored
      restante up --role gateway ~/restored
    """
    from restante.node.backup import restore as put_back
    from restante.node.home import Home

    home = Home(node_path(directory))
    manifest, d = put_back(source, home)
    if as_json:
        show_json({**asdict(manifest), "path": str(home.path)})
        return
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.made_ms / 1000))
    click.echo(f"restored {home.path} from the backup of {at}, tree size {manifest.size}")
    if "validator" not in manifest.roles:
        click.echo(f"next: restante up {home.path}")
        return
    for line in _lost(home, manifest, d):
        click.echo(line)


def _lost(home: "Home", manifest: "Manifest", d: "Descriptor") -> list[str]:
    """What a validator's operator has to know."""
    from restante.node.config import load

    port = load(home.config, {}).int_("listen.port")
    lines = [
        "LOST: lock/ is in no backup, and with it this validator's key: it never signs again, and "
        "`up` refuses. Make no new lock state for it",
        "LOST: pool/, and with it what was acknowledged here and is in no batch yet",
    ]
    if d.n == 1:
        lines += [
            f"LOST: what was decided from window {d.first_window + manifest.size} on, unless a "
            "store or mirror outlived the node: name it under gateway.sources",
            "a set of one ends here: begin a new one in another folder (`restante init`), and give "
            "its policy file to your clients",
        ]
    else:
        left = d.n - 1
        lines.append(
            f"the other {left} of {d.n} validators go on, as long as {d.k} of them agree: "
            f"{left - d.k} more may fail; their archives have what this backup lacks"
        )
    lines.append(
        "next, to serve what was restored where clients look for it: "
        f"restante up --role gateway --gateway-port {port} {home.path}"
    )
    return lines
