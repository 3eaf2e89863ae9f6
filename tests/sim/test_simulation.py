"""Seeded runs: every invariant holds, whatever goes wrong."""

import json
import os
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from restante.cli.sim import sim
from restante.testing.sim.directed import DIRECTED
from restante.testing.sim.generators import GENERATORS
from restante.testing.sim.run import Outcome, simulate

SLOW_RUNS = 600


def require(outcomes: Iterator[Outcome]) -> None:
    broken = [outcome for outcome in outcomes if outcome.violated]
    assert not broken, "\n".join(outcome.report() for outcome in broken[:3])


@pytest.fixture(scope="module")
def seed_of_the_day() -> int:
    """Another one every day; SIM_SEED makes yesterday's again."""
    seed = int(os.environ.get("SIM_SEED", time.strftime("%Y%m%d", time.gmtime())))
    print(f"SIM_SEED={seed}")
    return seed


@pytest.mark.parametrize("n", [1, 4])
def test_a_calm_set_decides_everything(n: int) -> None:
    outcomes = [simulate(seed, "calm", n) for seed in range(3)]
    require(iter(outcomes))
    assert all(outcome.decided >= 3 for outcome in outcomes)


def test_random_faults_break_no_invariant() -> None:
    require(simulate(seed, "random", 4) for seed in range(60))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_random_faults_break_no_invariant_in_other_sets(n: int) -> None:
    require(simulate(seed, "random", n) for seed in range(5))


@pytest.mark.parametrize("generator", DIRECTED)
def test_directed_faults_break_no_invariant(generator: str) -> None:
    require(simulate(seed, generator, 4) for seed in range(3))


def test_a_run_is_a_function_of_its_seed() -> None:
    one, again, other = (simulate(seed, "random", 4) for seed in (11, 11, 12))
    assert one == again
    assert one.events != other.events


@pytest.mark.slow
def test_many_random_runs(seed_of_the_day: int) -> None:
    first = seed_of_the_day * 10_000
    require(simulate(first + i, "random", 4) for i in range(SLOW_RUNS))
    require(simulate(first + i, "random", 7) for i in range(SLOW_RUNS // 10))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4, 7])
def test_many_directed_runs(seed_of_the_day: int, n: int) -> None:
    first = seed_of_the_day * 10_000
    require(simulate(first + i, name, n) for name in GENERATORS for i in range(8))


def test_the_command_prints_what_a_person_needs() -> None:
    done = CliRunner().invoke(sim, ["--runs", "2", "--generator", "calm"])
    assert done.exit_code == 0, done.output
    assert "2 runs" in done.output
    assert "every invariant held" in done.output


def test_the_command_fails_with_seed_generator_invariant_and_trace() -> None:
    done = CliRunner().invoke(sim, ["--runs", "1", "--seed", "3", "--mutant", "due-ignored"])
    assert done.exit_code == 0  # caught, as it must be
    assert "I1: " in done.output
    again = "restante dev sim --seed 3 --runs 1 --generator enough-holders --validators 4"
    assert f"{again} --mutant due-ignored" in done.output
    assert "committed" in done.output
    more = CliRunner().invoke(sim, ["--runs", "4", "--seed", "3", "--mutant", "due-ignored"])
    assert more.output.count("restante dev sim --seed") == 1  # the first trace alone
    assert "4 violate an invariant; the mutant is caught" in more.output


def test_a_mutant_that_is_not_caught_fails() -> None:
    calm = ["--runs", "1", "--mutant", "due-ignored", "--generator", "calm"]
    done = CliRunner().invoke(sim, calm)
    assert done.exit_code == 1
    assert "the mutant is NOT caught" in done.output


def test_a_violation_without_a_mutant_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from restante.testing.sim import run

    real = run.simulate
    monkeypatch.setattr(run, "simulate", lambda *a: real(*a[:3], "due-ignored"))
    done = CliRunner().invoke(sim, ["--runs", "2", "--generator", "enough-holders"])
    assert done.exit_code == 1
    assert "2 violate an invariant" in done.output


def test_the_command_speaks_json() -> None:
    done = CliRunner().invoke(sim, ["--runs", "2", "--mutant", "due-ignored", "--json"])
    *rows, last = [json.loads(line) for line in done.output.splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(row["violated"] == ["I1"] and row["trace"] for row in rows)
    assert last["summary"]["failed"] == 2


@pytest.mark.parametrize("option", ["--generator", "--mutant"])
def test_an_unknown_name_is_a_usage_error(option: str) -> None:
    done = CliRunner().invoke(sim, [option, "no-sharin"])
    assert done.exit_code == 2
    assert "hint:" in done.output
