"""Four validators, an outside proposer and a gateway as processes: one is killed and comes back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from restante.client import Client, ProcessMemory, Query, parse_source, read_policy
from restante.formats import whisper
from restante.testing.cluster import Cluster, Process, free_ports, running

PACE = {"validator.grace_s": 0, "validator.step_s": 1}


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def hand_in(url: str, number: int) -> str:
    now = int(time.time())
    raw = whisper.assemble(now + 50, 50, number.to_bytes(4, "big"), b"%d" % number, 0)
    response = httpx2.post(f"{url}/envelopes", content=raw, timeout=5, trust_env=False)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_kill_one_of_four_and_read_through_the_gateway(tmp_path: Path) -> None:
    cluster = Cluster.create(
        tmp_path,
        4,
        parameters={"window_s": 1, "pow_floor_millionths": 0},
        values=PACE,
    )
    proposer_port, gateway_port = free_ports(2)
    validators = {n: Process.start(tmp_path / n, url) for n, url in cluster.urls.items()}
    home = cluster.add("p1", ["proposer"], {"listen.port": proposer_port, **PACE})
    proposer = Process.start(home, f"http://127.0.0.1:{proposer_port}")
    home = cluster.add("gw", ["gateway"], {"gateway.port": gateway_port})
    gateway = Process.start(home, f"http://127.0.0.1:{gateway_port}")
    processes = [*validators.values(), proposer, gateway]
    with running(processes):
        for process in processes:
            process.wait_ready()
        ids = [hand_in(url, n) for n, url in enumerate([*cluster.urls.values(), proposer.url])]
        until(lambda: all(v.status()["published"] > 1 for v in validators.values()))
        validators["v3"].kill()
        ids += [hand_in(cluster.urls["v1"], 100), hand_in(proposer.url, 101)]
        at = validators["v1"].status()["decided"]
        until(lambda: validators["v1"].status()["decided"] > at + 2)
        again = Process.start(tmp_path / "v3", cluster.urls["v3"])
        processes.append(again)
        again.wait_ready()
        until(lambda: again.status()["cosigned"] > at + 2 and not again.status()["reasons"])
        # What v3 alone held when it died goes to the others after its next cut-off (R7), and is in
        # the window after that one.
        back = again.status()["decided"]
        until(lambda: validators["v1"].status()["published"] > back + 4)
        until(lambda: proposer.status()["certified"] > 0)
        policy = read_policy(cluster.policy)
        with Client(policy, [parse_source(gateway.url)], ProcessMemory()) as client:
            found: list[str] = []

            def all_of_it() -> bool:
                answer = client.query(Query((), mode="all"))
                found[:] = [each.id.hex() for each in answer]
                assert answer.summary.complaints == ()
                return set(found) >= set(ids)

            until(all_of_it)
            assert sorted(found) == sorted(ids), "nothing twice, nothing else"
        # Every validator has the same log.
        names = [n for n in cluster.urls if n != "v3"]
        roots = {}
        for name in names:
            note = httpx2.get(f"{cluster.urls[name]}/checkpoint", trust_env=False).content
            checkpoint = policy.verify_checkpoint(note)
            assert roots.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root
    for process in processes:
        if process.home.name != "v3" or process is again:
            assert process.popen.returncode == 0, process.tail()


def restante(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "restante.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_set_is_made_by_its_operators(tmp_path: Path) -> None:
    """What `set --help` says, literally, and nothing but it: no file is edited or made here."""
    ports = free_ports(4)
    names = [f"v{number}" for number in range(1, 5)]
    vkeys = [restante("set", "key", name, str(tmp_path / name)).strip() for name in names]
    arguments = [each for vkey in vkeys for each in ("--validator", vkey)]
    for name, port in zip(names, ports, strict=True):
        arguments += ["--contact", f"{name}=http://127.0.0.1:{port}"]
    files = tmp_path / "set"
    create = ("set", "create", str(files), "--name", "example", "--window", "1", "--json")
    made = json.loads(restante(*create, *arguments, "--pow-floor", "0"))
    assert (made["n"], made["f"]) == (4, 1)
    for name in names:
        joined = json.loads(
            restante("set", "join", str(tmp_path / name), "--set", str(files), "--json")
        )
        assert joined["set"] == made["set"]
    port, gateway_port = free_ports(2)
    restante("init", "--set", str(files), "--role", "proposer", "--port", str(port),
             str(tmp_path / "p"))  # fmt: skip
    restante("init", "--set", str(files), "--role", "gateway", str(tmp_path / "gw"))
    pace = {"RESTANTE_VALIDATOR_GRACE_S": "0", "RESTANTE_VALIDATOR_STEP_S": "1"}
    processes = [
        Process.start(tmp_path / name, f"http://127.0.0.1:{port}", environ=pace)
        for name, port in zip(names, ports, strict=True)
    ]
    proposer = Process.start(tmp_path / "p", f"http://127.0.0.1:{port}", environ=pace)
    # As the example of `up --help` has it.
    gateway = Process.start(
        tmp_path / "gw",
        f"http://127.0.0.1:{gateway_port}",
        arguments=["--role", "gateway", "--gateway-port", str(gateway_port)],
    )
    everyone = [*processes, proposer, gateway]
    with running(everyone):
        for process in everyone:
            process.wait_ready()
        ids = {hand_in(processes[0].url, 1), hand_in(proposer.url, 2)}
        policy = read_policy(files / "policy")
        for source in (policy.contacts[0][1], gateway.url, str(tmp_path / "v2/stores/folder")):

            def all_of_it(source: str = source) -> bool:
                with Client(policy, [parse_source(source)], ProcessMemory()) as client:
                    return {each.id.hex() for each in client.query(Query((), mode="all"))} == ids

            until(lambda: processes[1].status()["published"] > 2)
            until(all_of_it)
        for process in processes[1:]:
            process.stop()
        # Alone after a restart it may not sign, and says so with its exit code.
        processes[0].stop()
        processes[0] = everyone[0] = Process.start(tmp_path / "v1", processes[0].url)
        processes[0].wait_ready()
        asked = [sys.executable, "-m", "restante.cli.main", "status", str(tmp_path / "v1")]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "NOT WELL (starting)" in done.stdout
    assert [p.popen.returncode for p in processes] == [0, 0, 0, 0]
    # The engine's loss is named before anyone starts on a new one.
    for file in files.glob("engine.db*"):
        file.unlink()
    asked = [sys.executable, "-m", "restante.cli.main", "fsck", str(tmp_path / "v1")]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "LOST engine-missing" in done.stdout
