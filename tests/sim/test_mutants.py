"""A rule that is switched off is caught, by the invariant that was named before the run."""

import os
import time

import pytest

from restante.testing.sim.mutants import MUTANTS, Mutant
from restante.testing.sim.run import simulate

QUICK = ("due-ignored", "no-sharing", "verdict-without-base", "record-dropped", "late-skipped")
RULES = {f"R{i}" for i in range(9)} | {"levels"}


def require_caught(mutant: Mutant, first: int) -> None:
    seeds = range(first, first + mutant.seeds)
    caught = [simulate(seed, mutant.generator, 4, mutant.name).violated for seed in seeds]
    assert any(mutant.detector in violated for violated in caught), (
        f"{mutant.name} ({mutant.rule}: {mutant.missing}) from seed {first}: {caught}"
    )
    # The generator alone breaks nothing: it is the missing clause that is caught.
    sound = [simulate(seed, mutant.generator, 4) for seed in seeds]
    broken = [outcome for outcome in sound if outcome.violated]
    assert not broken, broken[0].report()


@pytest.mark.parametrize("name", QUICK)
def test_a_missing_clause_is_caught(name: str) -> None:
    require_caught(MUTANTS[name], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in QUICK])
def test_every_missing_clause_is_caught(name: str) -> None:
    require_caught(MUTANTS[name], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_every_missing_clause_is_caught_from_any_seed(name: str) -> None:
    seed = int(os.environ.get("SIM_SEED", time.strftime("%Y%m%d", time.gmtime())))
    print(f"SIM_SEED={seed}")
    require_caught(MUTANTS[name], seed * 100)


def test_every_rule_has_a_mutant() -> None:
    assert {mutant.rule for mutant in MUTANTS.values()} >= RULES
