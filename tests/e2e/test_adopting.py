"""Real processes: a validator that was away until nobody kept what it missed, killed while it takes
over what k cosigned (R6), and what its clients, mirrors and operator see then."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from restante.client import Client, ProcessMemory, Query, parse_source, read_policy
from restante.client.roster import Missing
from restante.formats import whisper
from restante.formats.level import Level
from restante.node.durable.archive import Archive
from restante.node.durable.lock import Lock
from restante.testing.cluster import Cluster, Process, running

LEVELS = (Level(2), Level(4), Level(8, "index"))
# Windows of a second, of which K = 36 count for *new*.
PARAMETERS = {
    "window_s": 1,
    "ttl_max_s": 3,
    "slack_s": 22,
    "rollup_lag": 3,
    "pow_floor_millionths": 0,
}
VALUES = {
    "validator.grace_s": 0,
    "validator.step_s": 1,
    "validator.retention_days": 1,
    "validator.children_kept_s": 2,
}
# `restante up`, with days of 70 s.
NODE = """
import asyncio, sys
from pathlib import Path
from restante import limits
from restante.node.config import load
from restante.node.home import Home
from restante.node.run import run
from restante.node.validator import role
from restante.testing.faults import from_environment
role.DAY_S, limits.REFILL_LOOK_EVERY = 70, 2
home = Home(Path(sys.argv[1]))
config = load(home.config, {})
asyncio.run(run(home, config, hook=from_environment()))
"""


def start(home: Path, url: str, fault: str | None = None) -> Process:
    log = home.with_name(f"{home.name}.log")
    environ = {**os.environ, **({} if fault is None else {"RESTANTE_FAULT": fault})}
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [sys.executable, "-c", NODE, str(home)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
        )
    return Process(home, url, popen, log)


def until(
    condition: Callable[[], bool],
    timeout_s: float = 30.0,
    state: Callable[[], object] = lambda: "not in time",
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.1)


def hand_in(url: str, number: int) -> str:
    now = int(time.time())
    raw = whisper.assemble(now + 2, 2, b"\0\0\0\1", b"%d" % number, number)
    response = httpx2.post(f"{url}/envelopes", content=raw, timeout=5, trust_env=False)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def restante(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "restante.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def findings(home: Path) -> set[str]:
    done = restante("fsck", "--json", home)
    return {finding["code"] for finding in json.loads(done.stdout)["findings"]}


def floor(home: Path, cluster: Cluster) -> int:
    archive = Archive.open(home / "archive", cluster.descriptor)
    try:
        return archive.floor
    finally:
        archive.close()


def signed(home: Path, cluster: Cluster) -> list[tuple[int, bytes]]:
    d = cluster.descriptor
    lock = Lock.open(home / "lock", d.set_id, None)
    try:
        return [(each.size, each.root) for each in lock.cosignatures()]
    finally:
        lock.close()


@pytest.mark.slow
def test_a_validator_returns_after_everybody_forgot_what_it_missed(tmp_path: Path) -> None:
    cluster = Cluster.create(tmp_path, 4, parameters=PARAMETERS, levels=LEVELS, values=VALUES)
    nodes = {name: start(tmp_path / name, url) for name, url in cluster.urls.items()}
    processes = list(nodes.values())
    home, url = tmp_path / "v4", cluster.urls["v4"]
    with running(processes):
        for process in processes:
            process.wait_ready()
        early = hand_in(url, 1)
        until(lambda: all(node.status()["published"] > 3 for node in nodes.values()))
        nodes["v4"].kill()
        before = signed(home, cluster)
        next_window = before[-1][0]
        until(
            lambda: all(floor(tmp_path / n, cluster) > next_window + 8 for n in ("v1", "v2", "v3")),
            120,
        )
        # It dies when the lock has it, in the middle of the tree, and before the checkpoint.
        for fault in ("lock.adopt.after:1", "archive.tile.before:1", "archive.checkpoint.before:1"):
            dying = start(home, url, fault)
            assert dying.popen.wait(60) == -signal.SIGKILL, dying.tail()
            assert signed(home, cluster) == before, fault
        nodes["v4"] = again = start(home, url)
        processes.append(again)
        again.wait_ready()
        adopted = again.status()["adopted"]
        lost_from, kept_from = adopted["lost"]
        assert next_window <= lost_from < kept_from == adopted["floor"] < adopted["size"]
        assert f"Windows {lost_from} to {kept_from - 1} are lost here" in adopted["message"]
        target = adopted["size"] + 3
        until(
            lambda: again.status()["cosigned"] > target and not again.status()["reasons"],
            60,
            again.status,
        )
        # It is one of the k that the set needs now, and hears what only it was given.
        nodes["v1"].stop()
        late = hand_in(url, 2)
        at = again.status()["window"]
        until(lambda: again.status()["published"] > at + 3, 60, again.status)
        with Client(read_policy(cluster.policy), [parse_source(url)], ProcessMemory()) as client:
            with pytest.raises(Missing) as caught:
                list(client.query(Query((), mode="all")))
            assert caught.value.code == "below-retention"
            assert caught.value.lost is not None
            first, stop = caught.value.lost
            assert first == 0
            assert stop >= lost_from
            found = [each.id.hex() for each in client.query(Query((), since=stop, mode="all"))]
        assert late in found
        assert early not in found
        copied = restante(
            "mirror", "--json", "--policy", cluster.policy, "--source", url, tmp_path / "copy"
        )
        assert copied.returncode == 0, copied.stderr
        # Nothing more is told to do after a restart.
        assert again.stop() == 0
        processes.append(start(home, url))
        nodes["v4"] = processes[-1]
        nodes["v4"].wait_ready()
        at = nodes["v2"].status()["published"]
        until(lambda: nodes["v4"].status()["published"] > at + 2)
        assert nodes["v4"].status()["adopted"]["size"] == adopted["size"]
    assert findings(home) <= {"leftover", "segment-unreleased", "outbox-path"}
    backed = restante("backup", "--json", "--to", tmp_path / "backup", home)
    assert backed.returncode == 0, backed.stderr
    others = dict(signed(tmp_path / "v2", cluster))
    mine = signed(home, cluster)
    assert mine[: len(before)] == before
    assert all(others.get(size, root) == root for size, root in mine)
