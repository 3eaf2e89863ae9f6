"""--levels of new sets, and how roll-ups are shown."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from node_sample import SampleSet
from restante.cli.objects import describe
from restante.cli.parameters import read_levels
from restante.cli.root import root
from restante.errors import ConfigError
from restante.formats.index_cut import Index
from restante.formats.level import STANDARD, Level, span
from restante.node.home import Home


def test_levels_as_text() -> None:
    assert read_levels(None) == STANDARD
    assert read_levels("10, 120,index:2880") == STANDARD
    assert read_levels("none") == ()
    assert read_levels("4,8") == (Level(4), Level(8))
    for wrong in ("", "x", "bodies:4", "4,,8", "index:", ":4", "-4", "٣"):
        with pytest.raises(ConfigError):
            read_levels(wrong)


@pytest.mark.parametrize(
    ("given", "made"),
    [([], STANDARD), (["--levels", "2,8,index:16"], None), (["--levels", "none"], ())],
)
def test_a_new_node_has_roll_ups(
    tmp_path: Path, given: list[str], made: tuple[Level, ...] | None
) -> None:
    done = CliRunner().invoke(root, ["init", *given, str(tmp_path / "node")])
    assert done.exit_code == 0, done.output
    expected = (Level(2), Level(8), Level(16, "index")) if made is None else made
    assert Home(tmp_path / "node").read_descriptor().levels == expected


def test_levels_that_no_set_can_have(tmp_path: Path) -> None:
    done = CliRunner().invoke(root, ["init", "--levels", "3,4", str(tmp_path / "node")])
    assert done.exit_code == 2
    assert "no multiple" in done.output
    assert not (tmp_path / "node").exists()


def test_objects_of_roll_ups_are_shown() -> None:
    sample = SampleSet(levels=(Level(2), Level(4), Level(8, "index")))
    windows = [sample.next_window() for _ in range(12)]
    index = sample.made[span(sample.descriptor, 3, 0)]
    assert isinstance(index, Index)
    top, block = (describe(data) for _, data in index.blocks)
    assert (top["type"], len(top["child_cids"])) == ("index root", 2)
    assert (block["type"], block["topics"][0]["children"]) == ("index block", [0, 1])
    assert describe(windows[5].entry)["rollup_cids"][1] == top["child_cids"][0]
    assert "rollup_cids" not in describe(windows[0].entry)
    assert describe(sample.descriptor.encode())["roll_ups"] == [
        "level 1: bodies of 2 windows (60 s)",
        "level 2: bodies of 4 windows (120 s)",
        "level 3: index of 8 windows (240 s)",
    ]
