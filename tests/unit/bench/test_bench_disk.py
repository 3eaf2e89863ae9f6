"""bench/disk.py runs, and its figures are of what was written."""

import json
from pathlib import Path
from typing import Any

from bench_script import BENCH, python


def run(*arguments: str) -> str:
    return python(str(BENCH / "disk.py"), *arguments)


def test_disk(tmp_path: Path) -> None:
    arguments = ("--rates", "0.1", "0.2", "--topics", "50", "--directory", str(tmp_path))
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    assert set(found["machine"]) == {"cpu", "cores", "system", "python", "keccak"}
    one, two = found["rates"]
    assert (one["envelopes"], two["envelopes"]) == (360, 720)
    for rate in (one, two):
        raw = rate["raw_bytes"]
        assert 285 * rate["envelopes"] < raw < 2_000 * rate["envelopes"]
        # Every level holds every envelope once, with little around it; an index holds none.
        assert all(raw < rate["levels"][level] < 1.3 * raw for level in ("0", "1", "2"))
        assert rate["levels"]["3"] < raw / 10
        # A record's head, and the file that names the pool.
        assert 0 < rate["parts"]["pool"]["bytes_"] - raw - 16 * rate["envelopes"] < 100
        assert rate["parts"]["certificates"]["bytes_"] > 120 * 300
        assert rate["steady_mb"]["hours, 30 days"] == rate["levels"]["2"] * 720 / 1e6
    # What goes by the window is the same at any rate.
    for part in ("certificates", "lock"):
        assert one["parts"][part]["bytes_"] == two["parts"][part]["bytes_"]
    assert list(tmp_path.iterdir()) == []


def test_disk_for_people(tmp_path: Path) -> None:
    shown = run("--rates", "0.05", "--topics", "50", "--directory", str(tmp_path))
    for word in ("baseline", "hour segment", "certificates", "block index", "steady state"):
        assert word in shown
