"""The benchmark of roll-ups still runs and says what it promises. Nothing here looks at a time."""

from pathlib import Path

from unit.bench.test_bench_smoke import result, table


def test_rollup(tmp_path: Path) -> None:
    found = result("rollup.py", "--envelopes", "3", "--hours", "1", "--directory", str(tmp_path))
    assert [(row["name"], row["made"], row["envelopes"]) for row in found["levels"]] == [
        ("five minutes", 12, 30),
        ("an hour", 1, 360),
    ]
    for row in found["levels"]:
        assert row["peak_mb"] >= row["start_mb"] > 1
        assert row["times_baseline"] > 0
    shown = table("rollup", found)
    assert all(word in shown for word in ("five minutes", "an hour", "peak MB", "baseline"))
    assert list(tmp_path.iterdir()) == []
