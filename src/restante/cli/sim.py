"""`restante dev sim`: seeded runs of the rules on virtual time."""

import json
import sys
import time
from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from restante.cli.output import FAILED, reports
from restante.errors import ConfigError

if TYPE_CHECKING:
    from restante.testing.sim.run import Outcome

PROGRESS_S = 1.0


@click.command()
@click.option("--seed", default=0, type=click.IntRange(min=0), help="The first seed.")
@click.option("--runs", default=100, type=click.IntRange(min=1), help="How many, seeds ascending.")
@click.option(
    "--validators", default=4, type=click.IntRange(1, 16), help="n; f is the most that n tolerates."
)
@click.option("--generator", help="What goes wrong: `random`, `all` in turn, or one by name.")
@click.option("--mutant", help="Switch a rule off by name: then a violation must be found.")
@click.option("--list", "show", is_flag=True, help="List generators and mutants, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run, then a summary.")
@reports
def sim(
    seed: int,
    runs: int,
    validators: int,
    generator: str | None,
    mutant: str | None,
    show: bool,
    as_json: bool,
) -> None:
    """Run the validators' and proposers' own state machines on virtual time, against loss, delay,
    crashes, partitions, wrong clocks, hostile engines, Byzantine validators and hostile proposers,
    and check the invariants I1 to I6, I8, due, conserved, passed after every event.

    A run is a pure function of its generator, seed and number of validators: what fails is printed
    with all three, and fails again.

    \b
    Examples:
      restante dev sim --seed 7 --runs 500
      restante dev sim --generator all --runs 100 --validators 7
      restante dev sim --mutant no-sharing --runs 10
      restante dev sim --list

    Exit codes: 0 every invariant held, 1 one did not; with --mutant 0 it was caught, 1 it was not.
    """
    from restante.testing.sim.generators import GENERATORS
    from restante.testing.sim.mutants import MUTANTS
    from restante.testing.sim.run import simulate

    if show:
        _list()
        return
    switched_off = MUTANTS[_known(mutant, MUTANTS, "mutant")] if mutant else None
    wanted = generator or (switched_off.generator if switched_off else "random")
    names = list(GENERATORS) if wanted == "all" else [_known(wanted, GENERATORS, "generator")]
    began = spoken = time.monotonic()
    failed: list[Outcome] = []
    events = 0
    for number in range(runs):
        outcome = simulate(seed + number, names[number % len(names)], validators, mutant)
        events += outcome.events
        if outcome.violated:
            failed.append(outcome)
        if as_json:
            click.echo(json.dumps(_row(outcome)))
        elif outcome.violated and not (mutant and len(failed) > 1):
            click.echo(outcome.report())
        if time.monotonic() - spoken > PROGRESS_S and sys.stderr.isatty():
            spoken = time.monotonic()
            rate = (number + 1) / (spoken - began)
            click.echo(f"\r{number + 1}/{runs} runs, {rate:.0f} a second", err=True, nl=False)
    took_s = time.monotonic() - began
    _summary(as_json, runs, failed, events, took_s, mutant)
    if bool(failed) != bool(mutant):
        sys.exit(FAILED)


def _known(name: str, names: Collection[str], what: str) -> str:
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "`--list` names them all"
        raise ConfigError(f"no {what} {name!r}", hint=hint)
    return name


def _list() -> None:
    from restante.testing.sim.generators import GENERATORS
    from restante.testing.sim.mutants import MUTANTS

    click.echo("Generators:")
    for name, made in GENERATORS.items():
        click.echo(f"  {name:22} {(made.__doc__ or '').splitlines()[0]}")
    click.echo("Mutants (rule, what is missing; the invariant that catches it):")
    for mutant in MUTANTS.values():
        click.echo(f"  {mutant.name:22} {mutant.rule}, {mutant.missing}; {mutant.detector}")


def _row(outcome: "Outcome") -> dict[str, object]:
    return {
        "seed": outcome.seed,
        "generator": outcome.generator,
        "validators": outcome.n,
        "ok": not outcome.violated,
        "violated": list(outcome.violated),
        "detail": outcome.detail,
        "windows": outcome.decided,
        "events": outcome.events,
        "virtual_s": round(outcome.virtual_s, 3),
        "trace": outcome.trace,
    }


def _summary(
    as_json: bool,
    runs: int,
    failed: "list[Outcome]",
    events: int,
    took_s: float,
    mutant: str | None,
) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "summary": {
                        "runs": runs,
                        "failed": len(failed),
                        "mutant": mutant,
                        "failed_seeds": [[o.generator, o.seed] for o in failed],
                        "events": events,
                        "seconds": round(took_s, 2),
                    }
                }
            )
        )
        return
    if sys.stderr.isatty():
        click.echo("\r", err=True, nl=False)
    click.echo(
        f"{runs} runs, {events} events in {took_s:.1f} s: "
        + (f"{len(failed)} violate an invariant" if failed else "every invariant held")
        + (f"; the mutant is {'caught' if failed else 'NOT caught'}" if mutant else "")
    )
