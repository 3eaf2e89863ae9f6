"""docs/simulation.md lists what there is."""

from pathlib import Path

from restante.testing.sim.generators import GENERATORS
from restante.testing.sim.mutants import MUTANTS

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_every_generator_and_mutant_is_documented() -> None:
    page = PAGE.read_text()
    for mutant in MUTANTS.values():
        row = (
            f"| `{mutant.name}` | {mutant.rule} | {mutant.missing} | `{mutant.generator}` "
            f"| {mutant.detector} | {mutant.seeds} seeds |"
        )
        assert row in page, row
    for name in GENERATORS:
        assert f"- `{name}`: " in page
    assert page.count(" seeds |") == len(MUTANTS)
