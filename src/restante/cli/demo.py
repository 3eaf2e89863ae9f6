"""`restante dev demo`."""

import sys
import tempfile
import time
from pathlib import Path

import click

from restante.cli.output import FAILED, reports
from restante.errors import ConfigError


@click.command()
@click.option(
    "--trace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A folder of observer1..3.jsonl[.gz] and truth.json.",
)
@click.option("--speed", default=60.0, type=click.FloatRange(1, 600), help="At most, × real time.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Play in this new folder, and keep it."
)
@reports
def demo(trace: Path, speed: float, keep: Path | None) -> None:
    """The whole system in separate processes on a recorded trace, hostile parties among them.

    Exits 1 if an envelope of the trace is missing, wrong or doubled, or if the hostile proposer or
    the lying gateway was not caught.

    \b
    Examples:
      restante dev demo --trace traces/whisper
      restante dev demo --trace traces/whisper --speed 20 --keep /tmp/play
    """
    from restante.testing.demo.play import Play

    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(text)
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="restante-demo-") as folder:
        root = Path(folder)
        if keep is not None:
            try:
                keep.mkdir(parents=True)
            except FileExistsError:
                raise ConfigError(
                    f"{keep} is there already", code="keep", hint="name a folder that is not"
                ) from None
            root = keep.resolve()
        outcome = Play(root, trace, speed, say).perform()
    took = time.monotonic() - began
    if outcome.faults:
        for fault in outcome.faults[:20]:
            click.echo(f"FAULT: {fault}", err=True)
        click.echo(f"{len(outcome.faults)} faults", err=True)
        sys.exit(FAILED)
    say(f"\nAll of it holds: {outcome.windows} windows in {took:.0f} s.")
