"""The benchmark of old mail against a real wnode still runs, and what it makes of its figures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peers import alone
from peers.process import BUILT

BENCH = Path(__file__).parents[3] / "bench"


def python(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def within(code: str, given: object) -> str:
    """What the script's own functions print of a value `given`."""
    head = "import json, sys; sys.path.insert(0, sys.argv[1]); import whisper_history as h; "
    return python(
        "-c", f"{head}given = json.load(sys.stdin); {code}", str(BENCH), stdin=json.dumps(given)
    )


def test_times_are_of_the_same_turn_and_cold_is_held_against_the_same_question() -> None:
    rows = [
        (0, "wnode", "one topic", 2, 1.0, 10.0),
        (0, "ours", "one topic, cold", 2, 1.0, 20.0),
        (0, "ours", "one topic", 2, 1.0, 5.0),
        (1, "wnode", "one topic", 2, 1.0, 30.0),
        (1, "ours", "one topic, cold", 2, 1.0, 10.0),
        (1, "ours", "one topic", 2, 3.0, 3.0),
    ]
    code = "print(json.dumps(h.summary([h.Row(*row) for row in given])))"
    found: dict[str, Any] = json.loads(within(code, rows))
    lines = {(line["who"], line["asked"]): line for line in found["lines"]}
    assert lines["wnode", "one topic"]["times"] is None
    cold, learnt = lines["ours", "one topic, cold"], lines["ours", "one topic"]
    assert cold["times"] == {"median": 1.75, "least": 0.5, "most": 3.0}
    assert learnt["times"] == {"median": 6.0, "least": 2.0, "most": 10.0}
    assert learnt["cpu_s"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    shown = within("h.show(given)", found)
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
