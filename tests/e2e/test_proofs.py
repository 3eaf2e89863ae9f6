"""A sender's proof, with real processes: saved in time, checked offline, worthless when altered."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.test_single_node import ENVIRON, make_node, restante
from restante.cli.nodes import request
from restante.node.home import Home
from restante.testing.cluster import Cluster, Process, free_ports, running


def posted(home: Path, text: str, directory: Path) -> dict[str, Any]:
    """What `post --wait --json` says, run in a directory."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "restante.cli.main", "post", text, "--node", str(home)),
            *("--topic", "news", "--wait", "--timeout", "60", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=directory,
        env={**os.environ, **ENVIRON},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_senders_proof_and_a_readers(tmp_path: Path) -> None:
    home, url, gateway = make_node(tmp_path)
    process = Process.start(home, url)
    policy = str(home / "policy")
    with running([process]):
        process.wait_ready()
        (tmp_path / "here").mkdir()
        sent = [posted(home, f"message {i}", tmp_path / "here") for i in range(3)]
        query = ("query", "--policy", policy, "--source", gateway, "--no-memory", "--json")
        proofs = str(tmp_path / "proofs")
        code, out, errors = restante(*query, "--topic", "news", "--proofs", proofs)
        assert code == 0, errors
        rows = [json.loads(line) for line in out.splitlines()][:-1]
        process.stop()
    # The node is gone, its archive too: the policy is enough.
    shutil.copy(policy, tmp_path / "policy")
    shutil.rmtree(home)
    own = [tmp_path / "here" / each["proof"] for each in sent]
    assert [file.name for file in own] == [f"{each['id'][:16]}.tlog-proof" for each in sent]
    read = [Path(row["proof"]) for row in rows]
    assert {row["id"] for row in rows} == {each["id"] for each in sent}
    verify = ("verify", "--policy", str(tmp_path / "policy"))
    code, out, errors = restante(*verify, "--json", *map(str, own + read))
    assert code == 0, errors
    told = json.loads(out)["proofs"]
    assert [each["id"] for each in told[:3]] == [each["id"] for each in sent]
    assert [each["window"] for each in told[:3]] == [each["window"] for each in sent]
    assert all(each["ok"] and each["cosigners"] for each in told)
    raw = tmp_path / "envelope"
    code, out, _ = restante(*verify, "--id", sent[0]["id"], "--extract", str(raw), str(own[0]))
    assert code == 0, out
    assert raw.read_bytes().hex() == next(r["raw"] for r in rows if r["id"] == sent[0]["id"])
    assert restante(*verify, "--id", sent[1]["id"], str(own[0]))[0] == 3

    data = bytearray(own[0].read_bytes())
    for at in range(0, len(data), max(1, len(data) // 12)):
        altered = bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        (tmp_path / "altered").write_bytes(altered)
        code, _, errors = restante(*verify, str(tmp_path / "altered"))
        assert code == 3, (at, errors)
    assert restante(*verify, str(tmp_path / "missing"))[0] == 1


@pytest.mark.slow
def test_four_validators_prove_within_grace_and_two_seconds_of_the_cut_off(tmp_path: Path) -> None:
    """Windows of 30 s, a grace of 5 s, all validators up."""
    cluster = Cluster.create(tmp_path, 4)
    nodes = [Process.start(cluster.path / name, url) for name, url in cluster.urls.items()]
    port = free_ports(1)[0]
    proposer = cluster.add("p1", ["proposer"], {"listen.port": port})
    nodes.append(Process.start(proposer, f"http://127.0.0.1:{port}"))
    with running(nodes):
        for each in nodes:
            each.wait_ready()
        home, url = cluster.path / "v1", cluster.urls["v1"]
        d = Home(home).read_descriptor()
        while request("GET", f"{url}/status")["cosigned"] < 1:
            time.sleep(0.2)
        next_s = d.end_s(d.window_of(int(time.time() * 1000)))
        time.sleep(max(0.0, next_s + 2 - time.time()))
        sent = posted(home, "to be proved", tmp_path)
        assert sent["window"] == d.window_of(next_s * 1000), "it missed its window"
        saved_s = (tmp_path / sent["proof"]).stat().st_mtime
        assert saved_s <= d.end_s(sent["window"]) + 5 + 2
        for each in nodes:
            each.stop()
