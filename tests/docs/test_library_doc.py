"""docs/library.md: its code runs, and the names it has are the code's."""

import re
from pathlib import Path

import pytest

from restante.client import failures
from restante.errors import ConfigError, VerificationFailed
from restante.rules import query, verify
from restante.testing.archive_fixture import envelope, make_archive, make_set

TEXT = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
HEADINGS = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
TOPIC = bytes.fromhex("5a4ea131")
MADE = make_set()
D = MADE.descriptor

PRINTS = [
    "complete to window 19 final before",
    "2 and then 5",
    "",
    "requests in 3 rounds",
    "complete to window 19",
    "",
]
"""A line that each block prints."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the examples have: an archive and its policy file."""
    envelopes = {w: [envelope(TOPIC, D.start_s(w), b"%d" % w)] for w in range(0, 20, 3)}
    archive = make_archive(tmp_path / "archive", envelopes, 20, made=MADE)
    (tmp_path / "policy").write_bytes(archive.read("policy"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTANTE_PATH", str(tmp_path / "memory"))
    return tmp_path


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_its_code_runs(folder, capsys, number):
    exec(compile(BLOCKS[number], f"library.md, block {number}", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert PRINTS[number] in printed
    assert printed or not PRINTS[number]


def test_every_block_is_expected():
    assert len(BLOCKS) == len(PRINTS) == 6


def test_the_hint_below_retention(folder, capsys):
    """What the block on errors prints where everything is gone but the newest."""
    for window in range(10):
        (folder / f"archive/segment/0/{window:03d}.car").unlink()
    exec(compile(BLOCKS[2], "library.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "nobody keeps windows 0 10" in printed
    assert "--since 10" in printed


def test_names_and_codes_exist():
    import importlib

    for name in re.findall(r"`(restante(?:\.\w+)+)`", TEXT):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    for mode in query.MODES:
        assert f"| `{mode}`" in TEXT
    assert "below-retention" in failures.CODES
    assert "split-view" in verify.CODES
    assert issubclass(verify.SetFault, VerificationFailed)
    assert ConfigError.__name__ in TEXT
    for field in ("blind", "absent", "rounds", "requests", "bytes_fetched", "complaints"):
        assert f"`{field}`" in TEXT
