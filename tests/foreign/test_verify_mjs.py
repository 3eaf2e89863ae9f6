"""verify/verify.mjs, which shares nothing with our code: on the vectors and on a live gateway."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.test_single_node import make_node, restante
from restante.testing.cluster import Process, running

ROOT = Path(__file__).resolve().parents[2]
VERIFIER = ROOT / "verify" / "verify.mjs"
VECTORS = ROOT / "tests" / "vectors" / "formats.json"
NODE_MAJOR = 20


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js: CI hands it in; elsewhere it is the one on the path, if it is new enough."""
    found = os.environ.get("RESTANTE_NODE") or shutil.which("node")
    if found is None:
        pytest.skip("no Node.js: the verifier in JavaScript cannot run")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout[1:].partition(".")[0]) < NODE_MAJOR:
        pytest.skip(f"Node.js {version.stdout.strip()}: {NODE_MAJOR} is needed for Ed25519")
    return found


def run(node: str, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, JSON lines, stderr) of the verifier."""
    done = subprocess.run(
        [node, str(VERIFIER), *arguments, "--json"], capture_output=True, text=True, timeout=120
    )
    return done.returncode, [json.loads(x) for x in done.stdout.splitlines()], done.stderr


def ours(*asked: str) -> list[dict[str, Any]]:
    """The envelopes of the same query, by our own client."""
    code, out, errors = restante("query", *asked, "--json", "--no-memory")
    assert code == 0, errors
    return [json.loads(line) for line in out.splitlines()][:-1]


def test_it_is_small_and_needs_nothing() -> None:
    text = VERIFIER.read_text()
    assert len(text.splitlines()) <= 400
    core, _, command_line = text.partition("async function main(")
    assert command_line
    assert "import(" not in core
    assert "require(" not in core


def test_the_vectors(node: str) -> None:
    """Every format, archive, query, lie and proof file of formats.json."""
    script = ROOT / "tests" / "foreign" / "verify_vectors.mjs"
    done = subprocess.run(
        [node, str(script), str(VERIFIER), str(VECTORS)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert len(told["counts"]) > 250
    assert len(told["codes"]) > 20


def test_altered_bytes_of_a_proof_file_are_told(node: str, tmp_path: Path) -> None:
    vectors = json.loads(VECTORS.read_text())["proofs"]
    good = vectors["proofs"]["batch"]
    policy = tmp_path / "policy"
    policy.write_text(vectors["policies"][good["policy"]])
    data = good["file"].encode()
    whole = tmp_path / "whole.tlog-proof"
    whole.write_bytes(data)
    assert run(node, "proof", "--policy", str(policy), str(whole))[0] == 0
    files = []
    for at in range(0, len(data), max(1, len(data) // 40)):
        file = tmp_path / f"{at}.tlog-proof"
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        files.append(str(file))
    code, told, errors = run(node, "proof", "--policy", str(policy), *files)
    assert code == 3, errors
    assert len(told) == len(files)
    assert all(each.get("refused") for each in told)


def test_a_live_gateway_answers_it_as_it_answers_us(node: str, tmp_path: Path) -> None:
    home, url, gateway = make_node(tmp_path)
    process = Process.start(home, url)
    policy = str(home / "policy")
    with running([process]):
        process.wait_ready()
        proofs = [str(tmp_path / f"{i}.tlog-proof") for i in range(3)]
        for i, proof in enumerate(proofs):
            sent = ("post", f"message {i}", "--node", str(home), "--topic", "5a4ea131")
            code, _, errors = restante(*sent, "--wait", "--timeout", "60", "--proof", proof)
            assert code == 0, errors
        # Until the first roll-up of ten windows stands in the log.
        deadline = time.monotonic() + 60
        while process.status()["published"] < 22:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for source in (gateway, str(home / "archive")):
            for topic in ("5a4ea131", "00000000"):
                asked = ("--policy", policy, "--source", source, "--topic", topic)
                code, told, errors = run(node, "query", *asked)
                assert code == 0, errors
                found = [(each["id"], each["envelope"]) for each in told[:-1]]
                assert found == [(row["id"], row["raw"]) for row in ours(*asked)]
                assert ("absence is proved" in told[-1]["says"]) == (topic == "00000000")
        code, told, errors = run(node, "proof", "--policy", policy, *proofs)
        assert code == 0, errors
        asked = ("--policy", policy, "--source", gateway, "--topic", "5a4ea131")
        assert {each["id"] for each in told} == {row["id"] for row in ours(*asked)}
        process.stop()
