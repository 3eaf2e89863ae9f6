"""The benchmarks of history still run, on small archives, and say what they promise."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench_script import BENCH, python, within


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scripts of this module keep their archives."""
    return tmp_path_factory.mktemp("archives")


def result(archives: Path, script: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a script prints of small archives."""
    given = (*arguments, "--tiny", "--json", "--directory", str(archives))
    found: dict[str, Any] = json.loads(python(str(BENCH / f"{script}.py"), *given))
    assert set(found["machine"]) == {"cpu", "cores", "system", "python", "keccak"}
    return found


def table(script: str, found: dict[str, Any]) -> str:
    """The same result as people see it, without another run."""
    return within(script, "bench.show(given)", found)


def test_month(archives: Path) -> None:
    found = result(archives, "month", "still", "busy")
    facts = found["archives"]
    assert facts["still"]["windows"] == 2_880 + 10
    assert facts["busy"]["windows"] == 2_880 + 10
    assert all(each["envelopes"] > 0 and each["bytes"] > 0 for each in facts.values())
    shown = table("month", found)
    assert all(word in shown for word in ("still", "busy", "baseline"))


def test_query(archives: Path) -> None:
    found = result(archives, "query")
    modes = [(row["mode"], row["topics"]) for row in found["quiet"]]
    assert modes == [(m, n) for m in ("exact", "bucket") for n in (1, 20, 40)] + [("all", 40)]
    for row in [*found["quiet"], *found["busy"], found["busiest"]]:
        assert row["total"] == sum(row["bytes_"].values()) > row["matching"] > 0
        assert 0 < row["rounds"] <= row["requests"]
    for row in found["extrapolated"]:
        assert row["bytes_"]["total"] == sum(row["bytes_"][k] for k in ("log", "index", "pages"))
        # Two days of the same traffic, from the second of them.
        assert 0.7 < row["method_says_of_measured"] < 1.4
    rows = found["seldom"]["rows"]
    assert {row["envelopes"] for row in rows.values()} == {3}
    assert all(row["times_faster"] > 0 for row in rows.values())
    assert [set(aim) for aim in found["aims"]] == 4 * [{"name", "value", "aim", "kept", "bound"}]
    shown = table("query", found)
    assert all(word in shown for word in ("everything", "baseline", "aim at most 10"))


def test_resume(archives: Path) -> None:
    found = result(archives, "resume", "--sizes", "2")
    names = [row["away"] for row in found["exact"]]
    assert names == ["1 min", "5 min", "10 min", "1 h", "1 h 5 min", "6 h", "1 d"]
    for row in found["exact"]:
        assert row["envelopes"] == row["windows"]
        assert row["bytes_each"] <= row["bytes_each_most"]
        assert all(cost["envelopes"] == row["windows"] for cost in row["costs"].values())
    assert found["exact"][0]["times_minute_most"] == 1
    assert found["aim"]["value"] >= 1
    assert set(found["bucket"]) == {"quiet", "lively", "busy"}
    assert all(row["bytes_a_window"] > 0 for rows in found["bucket"].values() for row in rows)
    shown = table("resume", found)
    assert all(word in shown for word in ("1 h 5 min", "× minute", "lively", "aim at most"))


def test_fetchlog(archives: Path) -> None:
    found = result(archives, "fetchlog", "--samples", "4")
    assert list(found["networks"]) == ["still", "quiet", "production", "busy"]
    for network in found["networks"].values():
        # The log of every real client was what the observer expects, else the script had ended.
        assert 4 <= network["logs_compared"] <= 8
        kinds = [(row["mode"], row["days"]) for row in network["rows"]]
        assert set(kinds) >= {("exact", 1), ("bucket", 1)}
        for row in network["rows"]:
            for drawn in ("even", "by_traffic"):
                seen = row[drawn]
                assert 1 <= seen["p5"] <= seen["median"] <= network["topics"]
                assert 0 <= seen["unique"] <= 1
    shown = table("fetchlog", found)
    assert all(word in shown for word in ("baseline", "bucket, 2 days", "production"))


def test_mail(archives: Path) -> None:
    found = result(archives, "mail", "--repeat", "2")
    by_kind: dict[str, dict[bool, int]] = {}
    for row in found["rows"]:
        by_kind.setdefault(row["what"], {})[row["learnt"]] = row["envelopes"]
        assert 0 < row["seconds"]["least"] <= row["seconds"]["median"] <= row["seconds"]["most"]
        assert row["cpu_s"]["most"] > 0
    assert len(by_kind) == 6
    # The same envelopes, whether topics are known or not, and however they are asked for.
    assert all(cold == learnt for cold, learnt in (each.values() for each in by_kind.values()))
    assert by_kind["a rare topic"] == by_kind["a rare topic, by name"]
    assert by_kind["all topics, all"][True] == found["archive"]["envelopes"]
    assert by_kind["all topics, a page"][True] == min(1000, found["archive"]["envelopes"])
    shown = table("mail", found)
    assert all(word in shown for word in ("baseline", "by name", ", cold", "× wnode"))


@pytest.mark.slow
def test_mirror(archives: Path) -> None:
    found = result(archives, "mirror")
    folder, gateway = found["rows"]["folder"], found["rows"]["gateway"]
    assert folder["envelopes"] > found["envelopes"]
    same = ("segments", "envelopes", "megabytes", "gone")
    assert [folder[each] for each in same] == [gateway[each] for each in same]
    assert "× aim" in table("mirror", found)
