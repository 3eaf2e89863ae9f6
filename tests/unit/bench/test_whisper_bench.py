"""The benchmark against a real wnode still runs, and what it makes of its figures."""

import json
from typing import Any

import pytest

from bench_script import BENCH, python, within
from peers import alone
from peers.process import BUILT


def summary(rows: list[tuple[tuple[Any, ...], str, float]]) -> dict[str, Any]:
    """Of rows (cell, who, CPU µs)."""
    code = (
        "rows = [bench.Row(bench.Cell(*cell), who, 1, us, 1.0) for cell, who, us in given]; "
        "print(json.dumps(bench.summary(bench.Found(rows))))"
    )
    found: dict[str, Any] = json.loads(within("whisper", code, rows))
    return found


def test_ratios_are_of_the_same_turn_and_medians_of_all() -> None:
    cell = ("ingest", 100, 1000, 3000, "284")
    ours, theirs = [30.0, 90.0, 20.0], [20.0, 90.0, 40.0]
    found = summary(
        [
            (cell, who, us)
            for pair in zip(ours, theirs, strict=True)
            for who, us in zip(("ours", "mail server"), pair, strict=True)
        ]
    )
    (line,) = found["lines"]
    assert line["ratio"] == {"median": 1.0, "least": 0.5, "most": 1.5}
    assert line["cpu_us"]["ours"] == {"median": 30.0, "least": 20.0, "most": 90.0}
    assert found["flat"] == []
    assert found["relay_us"] == {}


def test_pools_are_compared_with_all_else_equal_and_peers_by_their_number() -> None:
    few, many = ("ingest", 1, 1000, 3000, "284"), ("ingest", 1, 100_000, 3000, "284")
    other = ("ingest", 1, 100_000, 30_000, "284")
    one, four = ("relay", 100, 1000, 500, "284", 1), ("relay", 100, 1000, 500, "284", 4)
    cells = [(few, 20.0), (many, 30.0), (other, 99.0), (one, 10.0), (four, 16.0)]
    found = summary([(cell, "ours", us) for cell, us in cells])
    (flat,) = found["flat"]
    assert flat["times"] == {"ours": 1.5}
    assert found["relay_us"] == {"ours": 2.0}


def test_an_interrupted_run_shows_what_there_is() -> None:
    found = summary([(("ingest", 100, 1000, 3000, "284"), "wnode", 20.0)])
    shown = within("whisper", "bench.show(given)", found)
    assert "20.0" in shown
    assert found["lines"][0]["ratio"] is None


@pytest.mark.slow
def test_whisper() -> None:
    if not all((BUILT / name).exists() for name in ("wnode", "geth")):
        pytest.skip("real peers are not built: make peers")
    try:
        with alone.alone():
            pass
    except alone.NotAllowed as error:
        pytest.skip(str(error))
    small = [
        "--pools",
        "10",
        "--bursts",
        "40",
        "--packets",
        "10",
        "--relayed",
        "30",
        "--posts",
        "2",
    ]
    parts = ["ingest", "relay", "latency"]
    found = json.loads(python(str(BENCH / "whisper.py"), *parts, *small, "--json"))
    assert found["failed"] == []
    who = {"wnode", "mail server", "ours"}
    assert [set(line["cpu_us"]) for line in found["lines"]] == 4 * [who]
    assert all(line["ratio"]["least"] > 0 for line in found["lines"])
    assert {line["cell"]["sizes"] for line in found["lines"]} == {"284", "traffic"}
    assert set(found["relay_us"]) == who
    for late in found["late_ms"].values():
        assert late["posts"] == 2
        assert 0 < late["p50"] <= late["p95"] <= late["most"]
    shown = within("whisper", "bench.show(given)", found)
    assert all(word in shown for word in ("baseline", "relay to 4", "p95", "traffic"))
