"""The main job, for one person, with real processes: init, up, post, query; and kill -9."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from restante.client import Client, ProcessMemory, Query, parse_source, read_policy
from restante.formats import whisper
from restante.node.home import Home, read_key
from restante.testing.cluster import Process, free_ports, running

ENVIRON = {"RESTANTE_PASSWORD": "correct horse", "RESTANTE_PATH": "/nonexistent"}


def restante(*arguments: str, path: Path | None = None, **environ: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    env = {**os.environ, **ENVIRON, **environ}
    if path is not None:
        env["RESTANTE_PATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-m", "restante.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
    )
    return done.returncode, done.stdout, done.stderr


def make_node(tmp_path: Path, *, window: int = 1) -> tuple[Path, str, str]:
    """(folder, node URL, gateway URL) of a fresh node with short windows."""
    home = tmp_path / "node"
    port, gateway = free_ports(2)
    code, _, errors = restante("init", str(home), "--window", str(window), "--port", str(port))
    assert code == 0, errors
    file = home / "restante.toml"
    text = file.read_text().replace(f"port = {port + 1}\n", f"port = {gateway}\n")
    text = text.replace("grace_s = 5\n", "grace_s = 0\n").replace("step_s = 10\n", "step_s = 1\n")
    file.write_text(text)
    return home, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{gateway}"


def test_init_up_post_query(tmp_path: Path) -> None:
    home, url, gateway = make_node(tmp_path)
    code, _, errors = restante("init", str(home))
    assert code == 1
    assert "exists already" in errors
    code, _, errors = restante("status", str(home))
    assert code == 4, "no node answers yet"
    process = Process.start(home, url)
    with running([process]):
        process.wait_ready()
        posted = ("post", "hello", "--node", str(home), "--topic", "news", "--json")
        proof = ("--proof", str(tmp_path / "hello.tlog-proof"))
        code, out, errors = restante(*posted, "--wait", "--timeout", "20", *proof)
        assert code == 0, errors
        handed = json.loads(out)
        assert handed["window"] >= 0
        assert handed["proof"] == proof[1]
        # Also from the environment's folder, to a public key, unsigned topic in hex.
        from restante.networks.whisper import crypt

        secret = bytes([7]) * 32
        to = crypt.public_key(secret).hex()
        code, out, errors = restante(
            "post", "--topic", "5a4ea131", "--to", to, "for you", path=home
        )
        assert code == 0, errors
        code, out, errors = restante(
            "post", "hi", "--node", str(home), "--topic", "x", RESTANTE_PASSWORD=""
        )
        assert code == 2
        assert "nothing to encrypt with" in errors

        query = ("query", "--policy", str(home / "policy"), "--source", gateway, "--no-memory")
        code, out, errors = restante(*query, "--topic", "news", "--json")
        assert code == 0, errors
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["id"] for row in rows[:-1]] == [handed["id"]]
        assert rows[0]["text"] == "hello"
        code, out, _ = restante("status", str(home))
        assert code == 0, out
        assert "all is well" in out
        code, out, _ = restante("status", "--json", url)
        assert json.loads(out)["roles"] == ["validator", "proposer", "gateway"]
        code, _, errors = restante("fsck", str(home))
        assert code == 1
        assert "in use" in errors
        assert process.stop() == 0
    code, out, errors = restante("fsck", str(home))
    assert code == 0, out + errors
    assert out.strip().endswith("clean")
    assert_no_secrets(home, process)


def assert_no_secrets(home: Path, process: Process) -> None:
    """Key files are 0600, and nothing of a key is in any log."""
    files = Home(home)
    log = process.log.read_text()
    for path in (files.validator_key, files.proposer_key, files.origin_key):
        assert path.stat().st_mode & 0o777 == 0o600
        key, text = read_key(path), path.read_text().strip()
        for material in (text, text.split("+", 4)[4], key.seed.hex(), repr(key.seed)):
            assert material not in log
    assert "correct horse" not in log


def test_the_json_log_is_json_and_says_where_it_listens(tmp_path: Path) -> None:
    home, url, _ = make_node(tmp_path)
    process = Process.start(home, url, arguments=["--log", "json"])
    with running([process]):
        process.wait_ready()
        deadline = time.monotonic() + 10
        while "window 0" not in process.tail() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.stop()
    rows = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert {"role": "validator", "url": url}.items() <= rows[0].items()
    assert any(row.get("window") == 0 and row["cid"].startswith("bafy") for row in rows)


def test_the_policy_alone_finds_the_node_and_a_lost_archive_comes_back(tmp_path: Path) -> None:
    """Without --source; and after `rm -rf archive` the log comes from lock/, segments from the
    own store, also where there is no peer."""
    home, url, _ = make_node(tmp_path)
    process = Process.start(home, url)
    query = ("query", "--policy", str(home / "policy"), "--no-memory", "--topic", "news", "--json")
    with running([process]):
        process.wait_ready()
        posted = ("post", "hello", "--node", str(home), "--topic", "news", "--json")
        proof = ("--proof", str(tmp_path / "hello.tlog-proof"))
        code, out, errors = restante(*posted, "--wait", "--timeout", "20", *proof)
        assert code == 0, errors
        handed = json.loads(out)["id"]
        code, out, errors = restante(*query)
        assert code == 0, errors
        assert json.loads(out.splitlines()[0])["id"] == handed
        deadline = time.monotonic() + 10
        while process.status()["stores"]["folder"]["pending"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.stop() == 0
    shutil.rmtree(home / "archive")
    code, out, _ = restante("fsck", str(home))
    assert code == 1
    assert "archive-missing" in out
    assert "hint: start the node" in out
    again = Process.start(home, url)
    with running([again]):
        again.wait_ready()
        deadline = time.monotonic() + 20
        while not again.status()["published"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert again.status()["reasons"] == []
        code, out, errors = restante(*query)
        assert code == 0, errors
        assert json.loads(out.splitlines()[0])["id"] == handed
        assert again.stop() == 0
    code, out, errors = restante("fsck", str(home))
    assert code == 0, out + errors


def test_mistakes_end_with_a_hint_and_code_2(tmp_path: Path) -> None:
    home, _, _ = make_node(tmp_path)
    file = home / "restante.toml"
    file.write_text(file.read_text().replace("[listen]\n", "[listen]\nprot = 1\n"))
    code, _, errors = restante("up", str(home))
    assert code == 2
    assert "unknown listen.prot" in errors
    assert "hint: did you mean listen.port?" in errors
    code, _, errors = restante("up", str(tmp_path / "none"))
    assert code == 2
    assert "restante init" in errors
    assert restante("nonsense")[0] == 2
    assert restante("post")[0] == 2


def test_one_node_a_folder_and_one_listener_a_port(tmp_path: Path) -> None:
    """Both mistakes are told apart, and before anything is opened."""
    home, url, _ = make_node(tmp_path)
    process = Process.start(home, url)
    with running([process]):
        process.wait_ready()
        code, _, errors = restante("up", str(home))
        assert code == 1
        assert "a node is running in" in errors
        assert "hint: `restante status" in errors
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        port = str(taken.getsockname()[1])
        code, _, errors = restante("up", str(home), "--network", "whisper", "--whisper-port", port)
        assert code == 2
        assert f"127.0.0.1:{port} cannot be listened at" in errors
        assert "choose whisper.port" in errors
        code, _, errors = restante("up", str(home), "--gateway-port", port)
        assert code == 2
        assert "choose another" in errors


def test_a_damaged_state_ends_up_with_a_named_error(tmp_path: Path) -> None:
    home, _, _ = make_node(tmp_path)
    for file in (home / "lock").iterdir():
        file.unlink()
    code, _, errors = restante("up", str(home))
    assert code == 1
    assert "lock.db is missing" in errors
    assert "set needs a successor" in errors


def hand_in(url: str, number: int) -> str | None:
    """Post an envelope without work to the node; its id once acknowledged."""
    now = int(time.time())
    raw = whisper.assemble(now + 50, 50, number.to_bytes(4, "big"), b"%d" % number, 0)
    try:
        response = httpx2.post(f"{url}/envelopes", content=raw, timeout=3, trust_env=False)
    except httpx2.TransportError:
        return None
    return str(response.json()["id"]) if response.status_code == 202 else None


@pytest.mark.parametrize("seed", [time.time_ns() // 86_400_000_000_000])
def test_kill_9_at_any_instant_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    """The process is killed at random instants while envelopes come in; a restart has them all."""
    from restante.formats.note import COSIGNATURE_V1, ED25519
    from restante.node import setup
    from restante.node.config import template
    from restante.node.home import write_key

    print("seed", seed)
    rng = random.Random(seed)
    home = Home(tmp_path / "node")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    key = setup.new_key("solo")
    d, policy, origin = setup.new_set(
        "kill", [key.vkey()], 0, parameters={"window_s": 1, "pow_floor_millionths": 0}
    )
    setup.write_set(home.path, d, policy, origin)
    write_key(home.validator_key, key, COSIGNATURE_V1)
    write_key(home.proposer_key, setup.new_key("p"), ED25519)
    setup.create_validator(home, d, key)
    from restante.engines.local import LocalEngine

    LocalEngine.create(home.engine)._close()
    (home.stores / "folder").mkdir(parents=True)
    values = {
        "node.roles": ["validator", "proposer"],
        "listen.port": port,
        "validator.grace_s": 0,
        "validator.step_s": 1,
        "stores": {"folder": "folder:stores/folder"},
    }
    home.config.write_text(template(values))  # type: ignore[arg-type]
    acknowledged: list[str] = []
    number = 0
    for _ in range(4):
        process = Process.start(home.path, url)
        process.wait_ready()
        until = time.monotonic() + rng.uniform(0.3, 1.3)
        while time.monotonic() < until:
            id_ = hand_in(url, number)
            number += 1
            acknowledged += [] if id_ is None else [id_]
        process.kill()
    process = Process.start(home.path, url)
    with running([process]):
        process.wait_ready()
        target = process.status()["window"] + 1
        deadline = time.monotonic() + 20
        while process.status()["published"] <= target and time.monotonic() < deadline:
            time.sleep(0.1)
        with Client(read_policy(home.policy), [parse_source(url)], ProcessMemory()) as client:
            found = [each.id.hex() for each in client.query(Query((), mode="all"))]
        store = home.stores / "folder"
        with Client(read_policy(home.policy), [parse_source(str(store))], ProcessMemory()) as other:
            stored = [each.id.hex() for each in other.query(Query((), mode="all"))]
        assert process.stop() == 0
    assert len(acknowledged) > 10
    assert len(found) == len(set(found)), "nothing twice"
    assert set(acknowledged) <= set(found)
    assert set(acknowledged) <= set(stored), "the store has them too"
    code, out, errors = restante("fsck", str(home.path))
    assert code == 0, out + errors


def test_help_has_sections_examples_and_exit_codes() -> None:
    code, out, _ = restante("--help")
    assert code == 0
    for word in ("Node:", "Messages:", "Look:", "Validator sets:", "Development:", "130"):
        assert word in out
    for command in ("init", "up", "post", "query", "status", "fsck", "inspect"):
        code, out, errors = restante(command, "--help")
        assert code == 0, errors
        assert re.search("Examples?:", out), command
    for command in ("key", "create", "join"):
        assert "Example" in restante("set", command, "--help")[1]
