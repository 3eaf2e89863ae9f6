"""Scripts of bench/ and their functions, run as a person runs them: in an interpreter each."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"


def python(*arguments: str, stdin: str = "") -> str:
    """What it prints; a warning is an error."""
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


def within(script: str, code: str, given: object) -> str:
    """What code prints that uses a `script` as `bench`, and a value `given`."""
    head = f"import json, sys; sys.path.insert(0, sys.argv[1]); import {script} as bench; "
    return python(
        "-c", f"{head}given = json.load(sys.stdin); {code}", str(BENCH), stdin=json.dumps(given)
    )
