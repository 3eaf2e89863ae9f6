"""Roll-ups with real processes: kill -9 anywhere around them, and a validator that was away until
everybody else had given up what its windows' batches were made of."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from restante.client import Client, ProcessMemory, Query, parse_source, read_policy
from restante.formats import whisper
from restante.formats.level import Level, span
from restante.node.durable.archive import Archive
from restante.testing.cluster import Cluster, Process, running

LEVELS = (Level(2), Level(4), Level(8, "index"))
# Windows of a second, of which K = 36 count for *new*.
SMALL = {
    "window_s": 1,
    "ttl_max_s": 3,
    "slack_s": 22,
    "rollup_lag": 3,
    "pow_floor_millionths": 0,
}
PACE = {"validator.grace_s": 0, "validator.step_s": 1}


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def hand_in(url: str, number: int) -> str | None:
    """Post an envelope; its id once it is acknowledged."""
    now = int(time.time())
    raw = whisper.assemble(now + 2, 2, (number % 9).to_bytes(4, "big"), b"%d" % number, number)
    try:
        response = httpx2.post(f"{url}/envelopes", content=raw, timeout=5, trust_env=False)
    except httpx2.TransportError:
        return None
    return str(response.json()["id"]) if response.status_code == 202 else None


def clean(home: Path) -> dict[str, int]:
    """fsck finds nothing; what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "restante.cli.main", "fsck", "--json", str(home)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert done.returncode == 0, found["findings"]
    assert isinstance(found, dict)
    return found


def kept(home: Path, cluster: Cluster) -> Archive:
    return Archive.open(home / "archive", cluster.descriptor)


NODE = """
import asyncio, os, sys
from pathlib import Path
from restante.node.config import load
from restante.node.home import Home
from restante.node.run import run
from restante.testing.faults import from_environment
home = Home(Path(sys.argv[1]))
asyncio.run(run(home, load(home.config, {}), hook=from_environment()))
"""


@pytest.mark.slow
def test_kill_9_around_roll_ups_loses_nothing_and_makes_the_same(tmp_path: Path) -> None:
    """n = 1: dies before and after each kind of step of a roll-up and a release, and at random
    instants; what was acknowledged is there once, in the archive and in the store."""
    cluster = Cluster.create(
        tmp_path,
        1,
        parameters=SMALL,
        levels=LEVELS,
        values={**PACE, "validator.children_kept_s": 0},
    )
    home, url = tmp_path / "v1", cluster.urls["v1"]
    acknowledged: list[str] = []
    number = 0

    def post_for(seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
        nonlocal number
        end = time.monotonic() + seconds
        while time.monotonic() < end and alive():
            id_ = hand_in(url, number)
            number += 1
            acknowledged.extend([] if id_ is None else [id_])
            time.sleep(0.05)

    # Parts of a roll-up, the index among them, and what its children's release takes.
    faults = [
        "archive.rollup.before:1",
        "archive.rollup.after:1",
        "archive.rollup.before:3",
        "archive.rollup.after:4",
        "outbox.enqueue.after:20",
    ]

    def die_at(fault: str, within_s: float) -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", NODE, str(home)], env={**os.environ, "RESTANTE_FAULT": fault}
        )
        post_for(within_s, lambda: child.poll() is None)
        assert child.wait(5) == -signal.SIGKILL, fault

    for fault in faults:
        die_at(fault, 25)
    rng = random.Random(time.time_ns() // 86_400_000_000_000)
    for _ in range(3):
        process = Process.start(home, url)
        process.wait_ready()
        post_for(rng.uniform(0.5, 4.0))
        process.kill()
    # Children of roll-ups are past their time: one file is gone, the others not yet.
    die_at("archive.release.before:2", 60)
    process = Process.start(home, url)
    with running([process]):
        process.wait_ready()
        until(lambda: not (home / "archive/segment/0/001.car").exists())
        target = process.status()["window"] + 1
        until(lambda: process.status()["published"] > target)
        until(lambda: process.status()["stores"]["folder"]["pending"] == 0)
        assert process.status()["reasons"] == []
        for source in (url, str(home / "stores/folder")):
            with Client(read_policy(cluster.policy), [parse_source(source)], ProcessMemory()) as c:
                found = [each.id.hex() for each in c.query(Query((), mode="all"))]
            assert len(found) == len(set(found)), "nothing twice"
            assert set(acknowledged) <= set(found), source
        assert process.stop() == 0
    assert len(acknowledged) > 50
    report = clean(home)
    assert report["rollups"] > 6
    assert report["indexes"] > 2
    # The store gave up what the archive did.
    assert not (home / "stores/folder/segment/0/000.car").exists()


@pytest.mark.slow
def test_a_validator_returns_after_everybody_gave_up_its_batches(tmp_path: Path) -> None:
    cluster = Cluster.create(
        tmp_path,
        4,
        parameters=SMALL,
        levels=LEVELS,
        values={**PACE, "validator.children_kept_s": 2},
    )
    nodes = {n: Process.start(tmp_path / n, url) for n, url in cluster.urls.items()}
    processes = list(nodes.values())
    with running(processes):
        for process in processes:
            process.wait_ready()
        until(lambda: all(node.status()["published"] > 2 for node in nodes.values()))
        nodes["v4"].kill()
        gone = nodes["v1"].status()["decided"]
        acknowledged = []
        for number in range(60):
            acknowledged.append(hand_in(cluster.urls[f"v{number % 3 + 1}"], number))
            time.sleep(0.2)
        assert None not in acknowledged
        # Of windows while it was away neither batches nor the lower roll-ups are anywhere.
        first = span(cluster.descriptor, 2, gone // 4 + 2)
        archives = [kept(tmp_path / name, cluster) for name in ("v1", "v2", "v3")]
        until(
            lambda: (
                not any(
                    a.has_segment(first.first) or a.segments.has(1, first.first // 2)
                    for a in archives
                )
            ),
            90,
        )
        assert all(a.segments.has(2, first.number) for a in archives)
        for archive in archives:
            archive.close()
        again = Process.start(tmp_path / "v4", cluster.urls["v4"])
        processes.append(again)
        again.wait_ready()
        began, away = time.monotonic(), nodes["v1"].status()["decided"] - gone
        target = nodes["v1"].status()["decided"] + 2
        until(lambda: again.status()["cosigned"] > target and not again.status()["reasons"], 60)
        print(f"{away} windows in {time.monotonic() - began:.1f} s")
        log = again.log.read_text()
        assert "come out of a roll-up of v" in log
        assert "k cosigned the tree" in log
        # It is one of the k that the set needs now.
        nodes["v1"].stop()
        at = nodes["v2"].status()["published"]
        until(lambda: nodes["v2"].status()["published"] > at + 2)
        with Client(
            read_policy(cluster.policy), [parse_source(again.url)], ProcessMemory()
        ) as client:
            found = [each.id.hex() for each in client.query(Query((), mode="all"))]
        assert sorted(found) == sorted(acknowledged)
    roots = set()
    for name in cluster.urls:
        report = clean(tmp_path / name)
        assert report["rollups"] > 8
        archive = kept(tmp_path / name, cluster)
        roots.add(archive.root(target))
        archive.close()
    assert len(roots) == 1


@pytest.mark.slow
def test_a_lost_archive_comes_back_with_its_roll_ups(tmp_path: Path) -> None:
    """Of one validator, and from its peers alone: what they have given up is not asked for."""
    cluster = Cluster.create(
        tmp_path,
        4,
        parameters=SMALL,
        levels=LEVELS,
        values={**PACE, "validator.children_kept_s": 2, "stores": {}},
    )
    nodes = {n: Process.start(tmp_path / n, url) for n, url in cluster.urls.items()}
    processes = list(nodes.values())
    with running(processes):
        for process in processes:
            process.wait_ready()
        for number in range(20):
            hand_in(cluster.urls[f"v{number % 4 + 1}"], number)
            time.sleep(0.2)
        until(lambda: not (tmp_path / "v1/archive/segment/0/000.car").exists(), 90)
        nodes["v2"].stop()
        shutil.rmtree(tmp_path / "v2/archive")
        again = Process.start(tmp_path / "v2", cluster.urls["v2"])
        processes.append(again)
        again.wait_ready()
        until(lambda: again.status()["published"] > 0 and not again.status()["reasons"], 60)
    for name in cluster.urls:
        clean(tmp_path / name)
    assert (tmp_path / "v2/archive/segment/3/000.car").exists()
    assert not (tmp_path / "v2/archive/segment/0/000.car").exists()
