"""The real entry point in a process of its own: exit codes, and errors instead of tracebacks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restante.testing.archive_fixture import envelope, make_archive, make_set

MADE = make_set()
D = MADE.descriptor
TOPIC = "5a4ea131"
PLAY = Path(__file__).parents[3] / "traces" / "whisper"
COMMAND = (sys.executable, "-m", "restante.cli.main")


def run(*arguments, **more):
    more.setdefault("capture_output", True)
    return subprocess.run([*COMMAND, *map(str, arguments)], text=True, timeout=60, **more)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("entry")
    envelopes = {0: [envelope(bytes.fromhex(TOPIC), D.start_s(0), b"x")]}
    make_archive(root / "archive", envelopes, 2, made=MADE)
    (root / "policy").write_bytes(MADE.policy().encode())
    return root


def query(place, source, *more, **options):
    asked = ("--policy", place / "policy", "--source", source, "--topic", TOPIC, "--no-memory")
    return run("query", *asked, *more, **options)


def damaged(place, tmp_path, change):
    make_archive(tmp_path / "a", {0: [envelope(bytes.fromhex(TOPIC), D.start_s(0))]}, 2, made=MADE)
    for file in (tmp_path / "a").glob("segment/**/*.car"):
        change(file)
    return tmp_path / "a"


def test_query_that_ends_well(place):
    done = query(place, place / "archive")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_query_of_what_does_not_verify(place, tmp_path, form):
    archive = damaged(place, tmp_path, lambda file: file.write_bytes(bytes(300)))
    done = query(place, archive, *form)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_query_of_what_is_not_there(place, tmp_path, form):
    done = query(place, damaged(place, tmp_path, Path.unlink), *form)
    assert done.returncode == 4, done.stderr
    assert query(place, "http://127.0.0.1:9", *form).returncode == 4


def test_judge_of_what_cannot_be_read(tmp_path):
    rows = tmp_path / "bad.jsonl"
    rows.write_text('{"rlp": "zz", "sent_ms": 1}\n{"rlp": "c0", "sent_ms": 1}\nnot json\n')
    done = run("dev", "judge", rows)
    assert done.returncode == 1
    assert done.stdout.endswith("0 accepted, 1 refused, 2 unreadable\n")
    done = run("dev", "judge", "--json", rows)
    assert done.returncode == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["line"] for row in told] == [1, 2, 3]
    assert not any(row["accepted"] for row in told)
    assert [row["code"] == "row-unreadable" for row in told] == [True, False, True]


@pytest.mark.parametrize("arguments", [("query",), ("nothing",), ("query", "--mode", "x")])
def test_usage(arguments):
    assert run(*arguments).returncode == 2


def test_an_output_that_is_full(place):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = query(place, place / "archive", capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("init", tmp_path / "file" / "x")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    done = run("dev", "demo", "--trace", PLAY, "--keep", tmp_path)
    assert done.returncode == 2
    assert "is there already" in done.stderr


def test_a_package_that_is_missing(tmp_path):
    """As an installation without what a command needs."""
    missing = "raise ModuleNotFoundError('No httpx2', name='httpx2')"
    (tmp_path / "httpx2.py").write_text(missing)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run("status", "http://127.0.0.1:9", env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this command needs httpx2\nhint: ")


def test_interrupted_in_the_first_moments(tmp_path):
    (tmp_path / "click.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [*COMMAND, "--help"],
        stdout=-1,
        stderr=-1,
        text=True,
        env=environment,
        # A suite that runs in the background has inherited that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline() == "here\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_mutants_are_to_be_caught():
    done = run("dev", "sim", "--mutant", "no-sharing", "--runs", "6")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("the mutant is caught\n")
    assert run("dev", "sim", "--runs", "2").returncode == 0


def test_addresses_that_make_no_sense(place):
    done = run("inspect", "bafkqaaa", "--source", place / "archive")
    assert done.returncode == 2
    assert "is no CID of an archive" in done.stderr
    done = run("post", "--node", "ftp://x", "--topic", "a", "text")
    assert done.returncode == 2
    assert "not the URL of a node" in done.stderr
