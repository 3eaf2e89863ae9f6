"""What a node of ours costs on the Whisper network, against a real wnode in the same run.

    python bench/whisper.py [--count N] [--sustained-s S] [--json]

go-ethereum's own code sends valid new envelopes over RLPx, as fast as they are taken, to one after
the other: a wnode that only relays, a wnode that archives (its mail server: LevelDB, no fsync),
and ours (`restante up`, n = 1, whose pool is durable). Rows differ in envelopes a packet and in
what the pool holds before. `make peers` builds what is needed; wnode needs root.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2
import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers import harness, wnode
from peers.alone import alone
from restante.formats import whisper
from restante.networks.whisper import crypt
from restante.testing.cluster import Cluster, Process, free_ports, running

POW = 1e-6
"""Mining costs nothing here, and judging the same whatever the floor."""
DATA_BYTES = 284
TTL_S = 300
GIVE_UP_S = 300.0


@dataclass(frozen=True)
class Row:
    """cpu_us: user and system time of the receiver for each new envelope, µs; per_cpu_s: envelopes
    per CPU second; wall_s: until all were taken."""

    who: str
    packet: int
    pool: int
    count: int
    cpu_us: float
    per_cpu_s: int
    wall_s: float


class Target(Protocol):
    """Who is sent to."""

    name: str
    enode: str

    def cpu_s(self) -> float: ...
    def wait(self, count: int, sender: harness.Harness) -> None:
        """Until so many were taken since it began, all of this sender's among them."""
        ...


class Wnode:
    """It tells nobody how many envelopes it has, but takes them in order, and shows what it can
    decrypt: such a one is sent last."""

    def __init__(self, name: str, node: wnode.Wnode) -> None:
        self.name = name
        self.enode = node.enode
        self.cpu_s = node.cpu_s
        self._node = node
        self._key = crypt.password_key(wnode.PASSWORD)

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

    def __init__(self, process: Process, enode: str) -> None:
        self.enode = enode
        self._process = process

    def wait_sealed(self) -> None:
        """Until the checkpoint covers the window that is now."""
        window, deadline = self._status()["window"], time.monotonic() + GIVE_UP_S
        while self._status()["published"] <= window:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not sealed: {self._process.tail()}")
            time.sleep(0.5)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.popen.pid}/stat").read_text().rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / 100

    def taken(self) -> int:
        return int(self._status()["network"]["counts"].get("accepted", 0))

    def _status(self) -> dict[str, Any]:
        """Also of a node that has its hands full: it answers when it can."""
        while True:
            with contextlib.suppress(httpx2.TimeoutException):
                return self._process.status()

    def wait(self, count: int, sender: harness.Harness) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while (taken := self.taken()) < count:
            if time.monotonic() > deadline or self._process.popen.poll() is not None:
                raise RuntimeError(f"took {taken} of {count}: {self._process.tail()}")
            time.sleep(0.05)


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
    with running([process]):
        process.wait_ready()
        yield Ours(process, process.status()["network"]["enode"])


def undisturbed_window_s() -> int:
    """A length such that no window ends within the next twenty minutes: only ingest is measured."""
    return next(w for w in range(3600, 1300, -100) if time.time() % w < w - 1200)


Start = Callable[[], contextlib.AbstractContextManager[Target]]


def each_target(path: Path, window_s: int) -> Sequence[Start]:
    """How each is started, afresh; `window_s`: of ours."""

    @contextlib.contextmanager
    def relaying() -> Iterator[Target]:
        with wnode.relay("-pow", str(POW)) as node:
            yield Wnode("wnode", node)

    @contextlib.contextmanager
    def archiving() -> Iterator[Target]:
        with wnode.mail_server(Path(tempfile.mkdtemp(dir=path)), "-pow", str(POW)) as node:
            yield Wnode("wnode, mail server", node)

    @contextlib.contextmanager
    def of_ours() -> Iterator[Target]:
        with ours(Path(tempfile.mkdtemp(dir=path)), window_s=window_s) as node:
            yield node

    return relaying, archiving, of_ours


def send(sender: harness.Harness, target: Target, count: int, packet: int) -> float:
    """Make so many, then send them; seconds from the first sent until all of them were."""
    sender.ask("make", count=count, bytes=DATA_BYTES, ttl=TTL_S, pow=POW, within_s=GIVE_UP_S)
    began = time.monotonic()
    sender.ask("blast", peer=target.enode[8:136], per_packet=packet, within_s=GIVE_UP_S)
    return began


def measure(target: Target, packet: int, pool: int, count: int) -> Row:
    """One row: fill the pool, then count."""
    with harness.geth("-quiet", pow=POW) as sender:
        sender.ask("connect", enode=target.enode)
        sender.wait("peer")
        time.sleep(0.5)
        if pool:
            send(sender, target, pool, 100)
            target.wait(pool, sender)
        time.sleep(0.5)
        before_s = target.cpu_s()
        began = send(sender, target, count, packet)
        target.wait(pool + count, sender)
        wall_s = time.monotonic() - began
        cpu_s = target.cpu_s() - before_s
        assert not sender.all("lost"), sender.all("lost")
    return Row(target.name, packet, pool, count, cpu_s / count * 1e6, round(count / cpu_s), wall_s)


def sustained(target: Target, seconds: float, per_s: int) -> Row:
    """So many a second, for so long; with everything that a node does besides."""
    count = 0
    with harness.geth("-quiet", pow=POW) as sender:
        sender.ask("connect", enode=target.enode)
        sender.wait("peer")
        time.sleep(0.5)
        before_s, began = target.cpu_s(), time.monotonic()
        while (at := time.monotonic() - began) < seconds:
            send(sender, target, per_s, 100)
            count += per_s
            time.sleep(max(0.0, at + 1 - (time.monotonic() - began)))
        target.wait(count, sender)
        wall_s = time.monotonic() - began
        cpu_s = target.cpu_s() - before_s
        assert not sender.all("lost"), sender.all("lost")
    return Row(target.name, 100, 0, count, cpu_s / count * 1e6, round(count / cpu_s), wall_s)


def latencies(path: Path, times: int) -> dict[str, list[float]]:
    """Milliseconds from a line typed at a wnode until another wnode shows it, and until it is in
    our pool, durably; both have the sender as their only peer."""
    found: dict[str, list[float]] = {"wnode": [], "ours": []}
    with (
        wnode.relay("-pow", str(POW)) as hub,
        ours(path / "late", window_s=undisturbed_window_s(), peers=[hub.enode]) as node,
        wnode.chat(hub.enode, "-pow", str(POW)) as chat,
    ):
        time.sleep(2)
        for i in range(times):
            time.sleep(random.uniform(0, 0.6))  # a wnode has a tick of 0.3 s for each peer
            text, began = f"line {i}", time.monotonic()
            hub.say(text)
            waiting = {"wnode", "ours"}
            while waiting:
                if "wnode" in waiting and text in [each for _, each in chat.shown()]:
                    found["wnode"].append(1000 * (time.monotonic() - began))
                    waiting.remove("wnode")
                if "ours" in waiting and node.taken() > i:
                    found["ours"].append(1000 * (time.monotonic() - began))
                    waiting.remove("ours")
                time.sleep(0.002)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="new envelopes a row (20000)")
    parser.add_argument("--sustained-s", type=float, default=0, help="and so long at --per-s (0)")
    parser.add_argument("--per-s", type=int, default=2_000, help="envelopes a second then (2000)")
    parser.add_argument("--pools", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows: list[Row] = []
    with alone(), tempfile.TemporaryDirectory() as name:
        path = Path(name)
        for packet in (100, 1):
            for pool in options.pools:
                for start in each_target(path, undisturbed_window_s()):
                    with start() as target:
                        rows.append(measure(target, packet, pool, options.count))
                        show(rows[-1], options.json)
        late = latencies(path, 30)
        lasting = []
        if options.sustained_s:
            for start in each_target(path, 30)[1:]:
                with start() as target:
                    lasting.append(sustained(target, options.sustained_s, options.per_s))
                    show(lasting[-1], options.json)
    if options.json:
        result = {
            "machine": machine.describe(),
            "rows": [asdict(row) for row in rows],
            "sustained": [asdict(row) for row in lasting],
            "latency_ms": {who: statistics.median(each) for who, each in late.items()},
        }
        print(json.dumps(result))
        return
    print(machine.line())
    for who, each in late.items():
        median = statistics.median(each)
        print(f"from a wnode's post to {who}: {median:.0f} ms (worst {max(each):.0f})")


def show(row: Row, as_json: bool) -> None:
    """One line, as soon as it is known."""
    if not as_json:
        print(
            f"{row.who:20} {row.packet:4} a packet, pool {row.pool:7,}: "
            f"{row.cpu_us:7.1f} CPU µs/new, {row.per_cpu_s:8,} per CPU s, {row.wall_s:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
