"""`restante verify`: what a proof file proves, offline, by the policy alone."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante import limits
from restante.cli.output import complain, exit_code, reports, show_json
from restante.errors import ConfigError, RestanteError, StateError

if TYPE_CHECKING:
    from restante.formats.policy import Policy
    from restante.rules.proof import Proven


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--policy",
    "policy_file",
    required=True,
    envvar="RESTANTE_POLICY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The set's policy file: whose keys are trusted.",
)
@click.option("--id", "id_", metavar="HEX", help="Demand that it proves this envelope.")
@click.option(
    "--extract", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the envelope's bytes there (one FILE only).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def verify(
    files: Sequence[Path], policy_file: Path, id_: str | None, extract: Path | None, as_json: bool
) -> None:
    """Check proof files: that an envelope is in a set's log.

    Nobody is asked, and no clock is read: a proof holds for as long as you believe the keys of
    the policy, also years later, and when the archive is long gone.

    \b
    Examples:
      restante verify --policy policy hello.tlog-proof
      restante verify --policy policy --json proofs/*.tlog-proof

    Exit codes: 0 every file proves what it should, 2 usage, 3 one does not verify, 1 unreadable.
    """
    from restante.client import read_policy

    if extract is not None and len(files) > 1:
        raise ConfigError("--extract takes one FILE")
    policy = read_policy(policy_file)
    results: list[dict[str, Any]] = []
    worst = 0
    for file in files:
        try:
            proven = _proven(policy, file, id_)
        except RestanteError as error:
            worst = max(worst, exit_code(error))
            results.append(
                {"file": str(file), "ok": False, "code": error.code, "message": str(error)}
            )
            if not as_json:
                click.echo(f"{file}: does not verify", err=True)
                complain(error)
            continue
        results.append({"file": str(file), "ok": True, **proven_value(proven)})
        if extract is not None:
            extract.write_bytes(proven.raw)
        if not as_json:
            _show(file, proven)
    if as_json:
        show_json({"proofs": results})
    sys.exit(worst)


def _proven(policy: "Policy", file: Path, id_: str | None) -> "Proven":
    from restante.errors import VerificationFailed
    from restante.rules.proof import verify as check

    try:
        with file.open("rb") as opened:
            data = opened.read(limits.PROOF_MAX_BYTES + 1)
    except OSError as error:
        raise StateError(f"{file}: {error.strerror or error}", code="system") from error
    proven = check(policy, data)
    if id_ is not None and proven.id.hex() != id_.lower().removeprefix("0x"):
        raise VerificationFailed(
            f"it proves envelope {proven.id.hex()}, which is another", code="another-envelope"
        )
    return proven


def proven_value(proven: "Proven") -> dict[str, Any]:
    """What is proved, as JSON."""
    d, checkpoint = proven.descriptor, proven.checkpoint
    return {
        "id": proven.id.hex(),
        "topic": proven.topic.hex(),
        "sent_s": proven.sent_s,
        "bytes": len(proven.raw),
        "window": proven.window,
        "window_starts_s": d.start_s(proven.window),
        "window_ends_s": d.end_s(proven.window),
        "set": d.set_id.hex(),
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "cosigners": [
            {"name": name, "cosigned_s": time_s} for name, time_s in checkpoint.cosigners
        ],
    }


def _show(file: Path, proven: "Proven") -> None:
    from restante.cli.printing import printable, show_time

    d, checkpoint = proven.descriptor, proven.checkpoint
    w = proven.window
    click.echo(f"{printable(str(file))}: proved")
    click.echo(f"  envelope {proven.id.hex()} ({len(proven.raw)} bytes)")
    click.echo(f"  topic {proven.topic.hex()}, sent {show_time(proven.sent_s)} by its author")
    click.echo(
        f"  in the batch of window {w} (arrivals from {show_time(d.start_s(w))} to "
        f"{show_time(d.end_s(w))})"
    )
    click.echo(f"  of {checkpoint.origin}, set {d.set_id.hex()}")
    for name, time_s in checkpoint.cosigners:
        click.echo(f"  cosigned at size {checkpoint.size} by {name}, {show_time(time_s)}")
