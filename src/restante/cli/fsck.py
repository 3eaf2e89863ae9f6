"""`restante fsck`."""

import os
import sys

import click

from restante.cli.output import FAILED, reports, show_json
from restante.cli.place import node_path


@click.command()
@click.argument("directory", required=False)
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON document.")
@reports
def fsck(directory: str | None, as_json: bool) -> None:
    """Prove the folder of a validator from its bytes: lock state, pool, archive, and that its
    engine is the one it read before. The node must be down. Nothing is repaired; every finding
    names its file and says what to do.

    \b
    Examples:
      restante fsck ~/restante
      restante fsck --json ~/restante

    Exit codes: 0 nothing wrong (notes are no fault), 1 findings, 2 not a node's folder.
    """
    import asyncio
    from dataclasses import asdict

    from restante.networks.keccak import keccak256
    from restante.node.adapters import read_slot
    from restante.node.config import load
    from restante.node.fsck.check import fsck as check
    from restante.node.fsck.findings import Severity
    from restante.node.home import Home
    from restante.rules.valid import examine

    home = Home(node_path(directory))
    d = home.read_descriptor()
    live = sys.stderr.isatty() and not as_json

    def progress(stage: str, done: int, total: int) -> None:
        if live:
            click.echo(f"\r{stage}: {done} of {total} ", nl=done == total, err=True)

    config = load(home.config, os.environ)

    def slot(number: int) -> bytes | None:
        return asyncio.run(read_slot(config, home, number))

    report = check(
        home.path, d, lambda raw: examine(raw, d, keccak256), slot=slot, progress=progress
    )
    if as_json:
        findings = [{**asdict(f), "severity": f.severity.name.lower()} for f in report.findings]
        show_json({**asdict(report), "findings": findings, "ok": report.ok})
    else:
        click.echo(
            f"{report.windows} windows, {report.segments} batches, {report.rollups} roll-ups, "
            f"{report.indexes} indexes, {report.envelopes} envelopes "
            f"({report.envelope_bytes:,} bytes), {report.cosignatures} cosignatures, "
            f"{report.pool_records} pool records"
        )
        for finding in report.findings:
            mark = {Severity.NOTE: "note", Severity.REBUILDABLE: "DAMAGED"}.get(
                finding.severity, "LOST"
            )
            click.echo(f"{mark} {finding.code} {finding.file}: {finding.detail}")
            click.echo(f"  hint: {finding.hint}")
        if report.dropped:
            click.echo(f"… and {report.dropped} more")
        click.echo("clean" if report.ok else "NOT CLEAN")
    if not report.ok:
        sys.exit(FAILED)
