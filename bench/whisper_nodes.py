"""Who is sent to in the benchmarks of Whisper: real wnodes, and a node of ours."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx2

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers import harness, wnode
from restante.formats import whisper
from restante.networks.whisper import crypt
from restante.testing.cluster import Cluster, Process, free_ports, running

POW = 1e-6
"""Mining costs nothing here, and judging the same whatever the floor."""
DATA_BYTES = 284
TTL_S = 300
GIVE_UP_S = 300.0
_LOOK_S = 0.25


class Target(Protocol):
    """Who is sent to."""

    name: str
    enode: str

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        ...

    def wait(self, count: int, sender: harness.Harness) -> None:
        """Until so many were taken since it began, all of this sender's among them."""
        ...


def process_cpu_s(pid: int) -> float:
    """CPU time of a process, in steps of nanoseconds where /proc/PID/stat has 10 ms: a burst of
    3,000 takes a tenth of a second. The clock's number is that of clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


class Wnode:
    """It tells nobody how many envelopes it has, but takes them in order, and shows what it can
    decrypt: such a one is sent last."""

    def __init__(self, name: str, node: wnode.Wnode) -> None:
        self.name = name
        self.enode = node.enode
        self._node = node
        self._key = crypt.password_key(wnode.PASSWORD)

    def cpu_s(self) -> float:
        return process_cpu_s(self._node.popen.pid)

    def wait(self, count: int, sender: harness.Harness) -> None:
        text = f"after {count}"
        data = crypt.encrypt_symmetric(text.encode(), self._key)
        last = whisper.assemble(int(time.time()) + TTL_S, TTL_S, wnode.TOPIC, data, 0)
        packet = whisper.assemble_packet([last])
        sender.ask("send", peer=self._node.node_id, code=harness.MESSAGES, payload=packet)
        self._node.wait_shown(text, within_s=GIVE_UP_S)


class Ours:
    """A node of ours, which counts."""

    name = "ours"

    def __init__(self, process: Process, enode: str, client: httpx2.Client | None = None) -> None:
        """`client`: for who looks often, since making one takes longer than many an answer."""
        self.enode = enode
        self._process = process
        self._client = client

    def wait_sealed(self) -> None:
        """Until the checkpoint covers the window that is now."""
        window, deadline = self._status()["window"], time.monotonic() + GIVE_UP_S
        while self._status()["published"] <= window:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not sealed: {self._process.tail()}")
            time.sleep(0.5)

    def cpu_s(self) -> float:
        return process_cpu_s(self._process.popen.pid)

    def taken(self) -> int:
        return int(self._status()["network"]["counts"].get("accepted", 0))

    def _status(self) -> dict[str, Any]:
        """Also of a node that has its hands full: it answers when it can."""
        while True:
            with contextlib.suppress(httpx2.TimeoutException):
                if self._client is None:
                    return self._process.status()
                found: dict[str, Any] = self._client.get(f"{self._process.url}/status").json()
                return found

    def wait(self, count: int, sender: harness.Harness) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while (taken := self.taken()) < count:
            if time.monotonic() > deadline or self._process.popen.poll() is not None:
                raise RuntimeError(f"took {taken} of {count}: {self._process.tail()}")
            time.sleep(_LOOK_S)  # each look costs it a millisecond or two


@contextlib.contextmanager
def ours(
    path: Path,
    *,
    window_s: int,
    peers: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Iterator[Ours]:
    """A validator that listens on the Whisper network; `values`: more options."""
    (whisper_port,) = free_ports(1)
    cluster = Cluster.create(
        path,
        1,
        parameters={
            "window_s": window_s,
            "slack_s": 2 * window_s + 30,
            "pow_floor_millionths": 1,
            "batch_max_envelopes": 400_000,
            "batch_max_bytes": 1024**3,
        },
        levels=(),
        values={
            "network.source": "whisper",
            "whisper.port": whisper_port,
            "whisper.peers": list(peers),
            "validator.pool_max_bytes": 8 * 1024**3,
            **(values or {}),
        },
    )
    (home, url) = next((path / name, url) for name, url in cluster.urls.items())
    process = Process.start(home, url)
    with running([process]), httpx2.Client(timeout=5.0, trust_env=False) as client:
        process.wait_ready()
        yield Ours(process, process.status()["network"]["enode"], client)


def undisturbed_window_s() -> int:
    """A length such that no window ends within the next twenty minutes: only ingest is measured."""
    return next(w for w in range(3600, 1300, -100) if time.time() % w < w - 1200)


Start = Callable[[Path, int], contextlib.AbstractContextManager[Target]]
"""Starts one afresh, in a folder; the number is the seconds of a window of ours."""


@contextlib.contextmanager
def _relaying(_path: Path, _window_s: int) -> Iterator[Target]:
    with wnode.relay("-pow", str(POW)) as node:
        yield Wnode("wnode", node)


@contextlib.contextmanager
def _archiving(path: Path, _window_s: int) -> Iterator[Target]:
    with (
        tempfile.TemporaryDirectory(dir=path) as name,
        wnode.mail_server(Path(name), "-pow", str(POW)) as node,
    ):
        yield Wnode("mail server", node)


@contextlib.contextmanager
def _of_ours(path: Path, window_s: int) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(dir=path) as name, ours(Path(name), window_s=window_s) as node:
        yield node


TARGETS: dict[str, Start] = {"wnode": _relaying, "mail server": _archiving, "ours": _of_ours}
"""By name, in the order in which they take turns: a wnode that only relays, one that archives
(LevelDB, without fsync), and ours, whose pool is durable."""
BASELINE = "mail server"
