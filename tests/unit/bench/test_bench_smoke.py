"""The benchmarks still run and say what they promise. Nothing here looks at a time."""

import json
from pathlib import Path
from typing import Any

from bench_script import BENCH, python, within


def run(script: str, *arguments: str) -> str:
    """Standard output of a script, which must end well."""
    return python(str(BENCH / script), *arguments)


def result(script: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a script prints, with the machine's name in it."""
    found: dict[str, Any] = json.loads(run(script, *arguments, "--json"))
    assert set(found["machine"]) == {"cpu", "cores", "system", "python", "keccak"}
    return found


def table(script: str, found: dict[str, Any]) -> str:
    """The same result as people see it, without another run."""
    return within(script, "bench.show(given)", found)


def test_machine() -> None:
    (line,) = run("machine.py").splitlines()
    assert "Python" in line


def test_ingest(tmp_path: Path) -> None:
    found = result("ingest.py", "--count", "40", "--directory", str(tmp_path))
    names = [row["name"] for row in found["rows"]]
    assert names[0] == "naive (baseline)"
    assert len(set(names)) == len(names) == 6
    assert {(row["new"], row["arrivals"]) for row in found["rows"]} == {(40, 200)}
    shown = run("ingest.py", "--count", "40", "--directory", str(tmp_path))
    assert all(name in shown for name in names)
    assert list(tmp_path.iterdir()) == []


def test_seal(tmp_path: Path) -> None:
    found = result(
        "seal.py",
        "--envelopes",
        "30",
        "--windows",
        "1",
        "--grace",
        "2",
        "--directory",
        str(tmp_path),
    )
    for name in ("n4", "n1"):
        (window,) = found[name]["windows"]
        assert window["count"] == 30
        assert window["proposals"] == window["amendments"] + 1
        assert set(found[name]["checkpoint_ms"]) == {"median", "p95"}
    # One process alone has nobody to get a body from.
    assert found["n1"]["windows"][0]["bodies"] == 0
    assert found["times_n1"] > 0
    assert found["times_build_and_fsync"] > 0
    shown = table("seal", found)
    assert all(word in shown for word in ("window 0", "median", "p95", "baseline"))
    assert list(tmp_path.iterdir()) == []


def test_memory(tmp_path: Path) -> None:
    found = result("memory.py", "--envelopes", "30", "--windows", "1", "--directory", str(tmp_path))
    roles = {row["role"]: row for row in found["roles"]}
    assert {role: row["processes"] for role, row in roles.items()} == {
        "validator": 4,
        "proposer": 1,
        "gateway": 1,
    }
    for row in roles.values():
        assert 1 < row["ready_mb"] <= row["peak_mb"]
        assert len(row["after"]) == 1
    shown = table("memory", found)
    assert all(role in shown for role in roles)
    assert list(tmp_path.iterdir()) == []


def test_flood(tmp_path: Path) -> None:
    options = ["--envelopes", "60", "--windows", "1", "--grace", "2", "--levels"]
    found = result("flood.py", *options, "--speed", "8", "--directory", str(tmp_path))
    (window,) = found["windows"]
    assert 57 <= window["count"] <= 60
    assert 0 < window["decided_ms"] <= window["checkpoint_ms"] <= window["indexed_ms"]
    assert 1 < found["ready_mb"] <= found["peak_mb"]
    shown = table("flood", found)
    assert all(word in shown for word in ("window 0", "indexed", "standard levels", "peak"))
    assert list(tmp_path.iterdir()) == []
