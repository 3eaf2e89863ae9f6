"""Real processes on loopback, their traffic, and replayed time: for seal.py and memory.py.

Every process is `restante up`, as an operator starts it, and observes a trace of its own: the same
envelopes, each lost with a probability of its own at each observer. Time is the replay clock, which
stands still until all are there; the script sets its speed.
"""

import bisect
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from restante.durable import make_directories, write_file
from restante.engines.local import LocalEngine
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.level import STANDARD, Level
from restante.formats.note import COSIGNATURE_V1, ED25519
from restante.node import setup
from restante.node.clock import write_record
from restante.node.config import Value, template
from restante.node.home import Home, write_key
from restante.stores.folder import FolderStore

GENESIS_S = 1_500_000_000
TOPICS = 50_000
PACKET_MS = 100
"""A peer sends what is new every 300 ms; an observer with three peers gets a packet so often."""
BEHIND_MS = 1_000
PROPOSER = "p1"
GATEWAY = "gateway"
_STOPPED = 1e-6
_POLL_S = 0.05
_READY_S = 60.0
_END_S = 10.0

Packet = tuple[int, list[bytes]]
"""Arrival (Unix ms), envelopes."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    n: validators; alone: all roles in one process (n = 1), else a process for each role; gateway:
    whether one runs; windows: with traffic; envelopes: in each; loss: probability that an observer
    never sees an envelope; grace_s: from a window's end to the first proposal; parameters: of the
    descriptor, where they are not its defaults; levels: of roll-ups; pool_max_bytes: as configured.
    """

    n: int
    windows: int
    envelopes: int
    seed: int
    loss: float = 0.0
    alone: bool = False
    gateway: bool = False
    grace_s: int = 5
    parameters: Mapping[str, int] = field(default_factory=dict)
    levels: tuple[Level, ...] = STANDARD
    pool_max_bytes: int = 4 * 1024**3


# --- traffic ----------------------------------------------------------------------------------


def envelopes(count: int, window: int, seed: int) -> Iterator[tuple[int, bytes]]:
    """(arrival ms, raw) of one window, by arrival: 300 to 2,000 bytes, topics by Zipf, nonce 0."""
    rng = random.Random(seed * 1_000_003 + window)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, TOPICS + 1)))
    start_ms, packets = (GENESIS_S + window * 30) * 1000, 30_000 // PACKET_MS
    for index in range(count):
        at_ms = start_ms + index * packets // count * PACKET_MS
        topic = bisect.bisect(weights, rng.random() * weights[-1]).to_bytes(4, "big")
        data = rng.randbytes(rng.randint(270, 1_970))
        sent_s = at_ms // 1000 - 1
        yield at_ms, whisper.assemble(sent_s + 50, 50, topic, data, 0)


def write_traces(plan: Plan, names: Sequence[str], directory: Path) -> None:
    """One file for each observer, with losses of its own."""
    make_directories(directory)
    rngs = [random.Random(f"{plan.seed} {name}") for name in names]
    files = [(directory / f"{name}.jsonl").open("w") for name in names]
    for window in range(plan.windows):
        for at_ms, raw in envelopes(plan.envelopes, window, plan.seed):
            line = f'{{"arrival_ms": {at_ms}, "rlp": "{raw.hex()}"}}\n'
            for rng, file in zip(rngs, files, strict=True):
                if rng.random() >= plan.loss:
                    file.write(line)
    for file in files:
        file.close()


# --- the set ----------------------------------------------------------------------------------


class Stage:
    """Everything stands ready below `root`; `playing` starts the processes."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self.plan = plan
        self.validators = [f"v{number + 1}" for number in range(plan.n)]
        outside = [] if plan.alone else [PROPOSER] + [GATEWAY] * plan.gateway
        self.names = [*self.validators, *outside]
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        self.descriptor = self._build()
        self._record = root / "clock"
        self._now_ms, self._turned_ns = GENESIS_S * 1000 - 1000, time.monotonic_ns()
        self.speed = _STOPPED
        self.set_speed(_STOPPED)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._checkpoints: dict[str, tuple[int, int]] = {}
        self._http = httpx2.Client(timeout=10.0, trust_env=False)

    def _build(self) -> Descriptor:
        plan, shared = self.plan, self.root / "shared"
        keys = {name: setup.new_key(name) for name in self.validators}
        d, policy, origin = setup.new_set(
            "bench.example",
            [key.vkey() for key in keys.values()],
            (plan.n - 1) // 3,
            genesis_s=GENESIS_S,
            parameters={"pow_floor_millionths": 1, **plan.parameters},
            levels=plan.levels,
        )
        setup.write_set(shared, d, policy, origin)
        LocalEngine.create(shared / "engine.db")._close()
        observers = [name for name in self.names if name != GATEWAY]
        write_traces(plan, observers, self.root / "traces")
        for name in self.names:
            home = self.home(name)
            make_directories(home.path)
            write_file(home.descriptor, d.encode())
            write_file(home.policy, policy.encode())
            if name in keys:
                write_key(home.validator_key, keys[name], COSIGNATURE_V1)
                write_key(home.origin_key, origin, ED25519)
                setup.create_validator(home, d, keys[name])
                FolderStore.create("folder", home.stores / "folder")
            if name == PROPOSER or plan.alone:
                write_key(home.proposer_key, setup.new_key(PROPOSER), ED25519)
            write_file(home.config, template(self._values(name)).encode())
        return d

    def _values(self, name: str) -> dict[str, Value]:
        roles = {PROPOSER: ["proposer"], GATEWAY: ["gateway"]}.get(name, ["validator"])
        values: dict[str, Value] = {
            "node.roles": ["validator", "proposer"] if self.plan.alone else list(roles),
            "listen.port": self.ports[name],
            "gateway.port": self.ports[name],
            "clock.source": f"replay:{self.root / 'clock'}",
            "engine.source": f"local:{self.root / 'shared' / 'engine.db'}",
            "network.source": f"trace:{self.root / 'traces' / f'{name}.jsonl'}",
            "validator.grace_s": self.plan.grace_s,
            "validator.pool_max_bytes": self.plan.pool_max_bytes,
            "peers": {peer: self.url(peer) for peer in self.validators if peer != name},
        }
        if name in self.validators:
            values["stores"] = {"folder": "folder:stores/folder"}
        return values

    def home(self, name: str) -> Home:
        return Home(self.root / name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def due_ms(self, window: int) -> int:
        """A window's end + grace, on the clock."""
        return self.descriptor.end_ms(window) + self.plan.grace_s * 1000

    @property
    def policy(self) -> Path:
        return self.root / "shared" / "policy"

    # --- time ---------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The replay clock's time."""
        elapsed_ns = time.monotonic_ns() - self._turned_ns
        return self._now_ms + int(elapsed_ns * self.speed / 1e6)

    def set_speed(self, speed: float) -> None:
        """From now on so many seconds of the clock in one real second."""
        self._now_ms, self._turned_ns, self.speed = self.now_ms(), time.monotonic_ns(), speed
        write_record(self._record, self._turned_ns, self._now_ms, speed)

    def sleep_until(self, when_ms: int) -> None:
        """Wait for the clock; stop if a process has ended."""
        while (left_ms := when_ms - self.now_ms()) > 0:
            self.check()
            time.sleep(min(left_ms / 1000 / self.speed, 0.2))

    def hurry_until(self, when_ms: int, fastest: float) -> None:
        """Run the clock fast, but no faster than the slowest process follows."""
        while (left_ms := when_ms - self.now_ms()) > 0:
            self.set_speed(fastest)
            time.sleep(min(left_ms / 1000 / fastest, _POLL_S))
            # Whoever is behind is slow to say so.
            self.set_speed(1.0)
            while self.behind and self.now_ms() < when_ms:
                self.check()
                time.sleep(_POLL_S)

    @property
    def behind(self) -> bool:
        """Whether a process has not dealt with what arrived a second ago, by the clock."""
        statuses = (self.status(name) for name in self.names if name != GATEWAY)
        return any(status.get("behind_ms", 0) > BEHIND_MS for status in statuses)

    # --- processes ----------------------------------------------------------------------------

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Start all, wait until they are ready, and end them in the end."""
        try:
            for name in self.names:
                self._start(name)
            self._wait_until_ready()
            yield
        finally:
            self._end()

    def _start(self, name: str) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", "restante.cli.main", "up", str(self.root / name)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={key: value for key, value in os.environ.items() if key[:9] != "RESTANTE_"},
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            self.check()
            statuses = [self.status(name) for name in self.names if name != GATEWAY]
            # A validator signs once its peers have answered; a proposer says that it has no base.
            if all(s and s.get("signing", not s["reasons"]) for s in statuses):
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"not ready after {_READY_S:.0f} s: {statuses}")
            time.sleep(_POLL_S)

    def _end(self) -> None:
        for child in self._children.values():
            child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _END_S
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._http.close()

    def check(self) -> None:
        """Leave, with the end of its log, when a process has ended by itself."""
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = (self.root / f"{name}.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{name} ended with {child.returncode}:\n{tail}")

    def pid(self, name: str) -> int:
        return self._children[name].pid

    # --- what they say ------------------------------------------------------------------------

    def get(self, name: str, path: str) -> dict[str, Any]:
        """JSON of a process; empty when it does not answer."""
        try:
            answer = self._http.get(self.url(name) + path)
            return dict(answer.json()) if answer.is_success else {}
        except (httpx2.HTTPError, ValueError):
            return {}

    def status(self, name: str) -> dict[str, Any]:
        return self.get(name, "/status")

    def published(self, window: int) -> bool:
        """Whether an archive's checkpoint covers the window, with k cosignatures."""
        for name in self.validators:
            path = self.home(name).archive / "checkpoint"
            with suppress(FileNotFoundError):
                stamp = path.stat().st_mtime_ns
                if self._checkpoints.get(name, (0, 0))[0] != stamp:
                    lines = path.read_text("utf-8").splitlines()
                    # One line is the origin's.
                    cosigners = sum(line.startswith("\u2014 ") for line in lines) - 1
                    enough = cosigners >= self.descriptor.k
                    self._checkpoints[name] = stamp, int(lines[1]) if enough else 0
                if self._checkpoints[name][1] > window:
                    return True
        return False

    def bodies(self, name: str) -> int:
        """Envelopes that a process pooled and that its own network never brought."""
        status = self.status(name)
        pooled = status["pool"].get("size", status["pool"]["envelopes"])
        return int(pooled - status["reception"].get("accepted", 0))


def free_ports(count: int) -> list[int]:
    """Free ports on loopback, outside the range from which the system takes them for clients."""
    found: list[int] = []
    for port in range(21_000, 30_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no free port on loopback")


def quantile(values: Sequence[float], q: float) -> float:
    """By nearest rank; of fewer than 20 values the 0.95 quantile is the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
