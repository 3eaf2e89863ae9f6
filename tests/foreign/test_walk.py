"""A log tool that is not ours reads our archive: policy, cosignatures, tiles, entry bundles."""

import os
import shutil
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from restante.testing.archive_fixture import MadeArchive, envelope, make_archive, make_set
from restante.testing.cluster import Cluster, Process, free_ports, running

WALK = Path(__file__).parent / "walk"
SOME_WINDOWS = 4
WINDOWS = 600  # two full bundles, a full level-0 tile and a partial one of each level


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The built tool: CI hands it in; elsewhere it is built, where Go and its modules are had."""
    built = os.environ.get("RESTANTE_WALK")
    if built:
        return built
    if shutil.which("go") is None:
        pytest.skip("no Go toolchain: the foreign log tool cannot be built")
    target = tmp_path_factory.mktemp("walk") / "walk"
    done = subprocess.run(
        ["go", "build", "-o", target, "."], cwd=WALK, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the foreign log tool cannot be built here: {done.stderr.strip()[-200:]}")
    return str(target)


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    made = make_set()
    raws = {
        w: [envelope(b"\x01\x02\x03\x04", made.descriptor.start_s(w))] for w in range(0, 600, 7)
    }
    return make_archive(tmp_path, raws, WINDOWS, made=made)


def test_a_foreign_tool_reads_a_live_gateway(walk: str, tmp_path: Path) -> None:
    """Four real validators and a gateway: what they serve is a log to others, too."""
    cluster = Cluster.create(
        tmp_path,
        4,
        parameters={"window_s": 1, "pow_floor_millionths": 0},
        values={"validator.grace_s": 0, "validator.step_s": 1},
    )
    (port,) = free_ports(1)
    processes = [Process.start(tmp_path / name, url) for name, url in cluster.urls.items()]
    home = cluster.add("gw", ["gateway"], {"gateway.port": port})
    processes.append(Process.start(home, f"http://127.0.0.1:{port}"))
    with running(processes):
        for process in processes:
            process.wait_ready()
        deadline = time.monotonic() + 30
        while min(each.status()["published"] for each in processes[:4]) < SOME_WINDOWS:
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.2)
        for base in (processes[-1].url, processes[0].url):
            done = _walk(walk, cluster.policy, base)
            assert done.returncode == 0, done.stderr
            assert int(done.stdout.split()[1]) >= SOME_WINDOWS


def _walk(walk: str, policy: Path, base: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [walk, str(policy), base], capture_output=True, text=True, timeout=60, check=False
    )


def _run(walk: str, archive: MadeArchive) -> "subprocess.CompletedProcess[str]":
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(archive.root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        return _walk(walk, archive.root / "policy", url)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_foreign_tool_reads_every_entry(walk: str, archive: MadeArchive) -> None:
    """It accepts our policy and cosignatures, and every leaf hashes up to the root."""
    done = _run(walk, archive)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["size", str(WINDOWS)]
    assert done.stdout.split()[-1] == str(WINDOWS)


def test_a_foreign_tool_refuses_too_few_cosignatures(walk: str, archive: MadeArchive) -> None:
    """k − 1 cosignatures satisfy nobody's reading of the policy."""
    archive.cosign(signers=2)
    done = _run(walk, archive)
    assert done.returncode == 1
    assert "checkpoint" in done.stderr


def test_a_foreign_tool_refuses_an_altered_entry(walk: str, archive: MadeArchive) -> None:
    """One bit of one entry bundle, and the walk ends."""
    path = "tile/entries/001"
    data = bytearray(archive.read(path))
    data[10] ^= 1
    archive.write(path, bytes(data))
    done = _run(walk, archive)
    assert done.returncode == 1
