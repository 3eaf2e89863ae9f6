"""The benchmark of old mail against a real wnode still runs, and what it makes of its figures."""

import json
from typing import Any

import pytest

from bench_script import BENCH, python, within
from peers import alone
from peers.process import BUILT


def test_times_are_of_the_same_turn_and_cold_is_held_against_the_same_question() -> None:
    rows = [
        (0, "wnode", "one topic", 2, 1.0, 10.0),
        (0, "ours", "one topic, cold", 2, 1.0, 20.0),
        (0, "ours", "one topic", 2, 1.0, 5.0),
        (1, "wnode", "one topic", 2, 1.0, 30.0),
        (1, "ours", "one topic, cold", 2, 1.0, 10.0),
        (1, "ours", "one topic", 2, 3.0, 3.0),
    ]
    code = "print(json.dumps(bench.summary([bench.Row(*row) for row in given])))"
    found: dict[str, Any] = json.loads(within("whisper_history", code, rows))
    lines = {(line["who"], line["asked"]): line for line in found["lines"]}
    assert lines["wnode", "one topic"]["times"] is None
    cold, learnt = lines["ours", "one topic, cold"], lines["ours", "one topic"]
    assert cold["times"] == {"median": 1.75, "least": 0.5, "most": 3.0}
    assert learnt["times"] == {"median": 6.0, "least": 2.0, "most": 10.0}
    assert learnt["cpu_s"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    shown = within("whisper_history", "bench.show(given)", found)
    assert all(word in shown for word in ("baseline", "one topic, cold", "6.0 (2.0–10.0)"))


@pytest.mark.slow
def test_whisper_history() -> None:
    if not all((BUILT / name).exists() for name in ("wnode", "geth")):
        pytest.skip("real peers are not built: make peers")
    try:
        with alone.alone():
            pass
    except alone.NotAllowed as error:
        pytest.skip(str(error))
    small = ["--count", "2000", "--repeat", "1", "--json"]
    found = json.loads(python(str(BENCH / "whisper_history.py"), *small))
    asked = ["one topic", "one topic again", "all topics"]
    lines = [(line["who"], line["asked"]) for line in found["lines"]]
    assert lines == [("wnode", each) for each in asked] + [
        ("ours", each) for each in ("one topic, cold", *asked)
    ]
    counts = {line["who"]: line["count"] for line in found["lines"] if line["asked"] == asked[2]}
    assert counts["ours"] == 2000
    assert counts["wnode"] >= 2000
