"""Real node processes on this machine's loopback, for tests and demonstrations."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from restante.durable import write_file
from restante.engines.local import LocalEngine
from restante.formats.descriptor import Descriptor
from restante.formats.level import STANDARD, Level
from restante.formats.note import COSIGNATURE_V1, ED25519
from restante.node.config import Value, template
from restante.node.home import Home, write_key
from restante.node.setup import create_validator, new_key, new_set, write_set

START_S = 20.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; somebody may take one before it is used."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass(slots=True)
class Cluster:
    """The folders of a set's nodes on one machine, which share a local engine."""

    path: Path
    descriptor: Descriptor
    urls: dict[str, str]
    """Validator → URL."""

    @property
    def policy(self) -> Path:
        return Home(self.path / "set").policy

    @classmethod
    def create(
        cls,
        path: Path,
        n: int,
        *,
        genesis_s: int | None = None,
        parameters: Mapping[str, int] | None = None,
        levels: Sequence[Level] = STANDARD,
        values: Mapping[str, Value] | None = None,
        per_validator: Mapping[str, Mapping[str, Value]] | None = None,
    ) -> "Cluster":
        """Make validators v1…vn with f = (n − 1) // 3, each with a folder store.

        `values` are options of every node, `per_validator` of one; `parameters` and `levels` the
        descriptor's.
        """
        keys = [new_key(f"v{number}") for number in range(1, n + 1)]
        ports = free_ports(n)
        urls = {key.name: f"http://127.0.0.1:{port}" for key, port in zip(keys, ports, strict=True)}
        d, policy, origin = new_set(
            "cluster",
            [key.vkey() for key in keys],
            (n - 1) // 3,
            genesis_s=genesis_s,
            parameters=parameters,
            levels=levels,
            contacts=urls.items(),
        )
        write_set(path / "set", d, policy, origin)
        LocalEngine.create(path / "engine.db")._close()
        cluster = cls(path, d, urls)
        for key, port in zip(keys, ports, strict=True):
            home = Home(path / key.name)
            write_set(home.path, d, policy, origin)
            write_key(home.validator_key, key, COSIGNATURE_V1)
            create_validator(home, d, key)
            (home.stores / "folder").mkdir(parents=True)
            cluster.configure(
                key.name,
                {
                    "node.roles": ["validator"],
                    "listen.port": port,
                    "peers": {name: url for name, url in urls.items() if name != key.name},
                    "stores": {"folder": "folder:stores/folder"},
                    **(values or {}),
                    **(per_validator or {}).get(key.name, {}),
                },
            )
        return cluster

    def configure(self, name: str, values: Mapping[str, Value]) -> Path:
        """Write a node's configuration; all share the cluster's engine."""
        home = Home(self.path / name)
        shared: dict[str, Value] = {"engine.source": f"local:{self.path / 'engine.db'}"}
        write_file(home.config, template({**shared, **values}).encode())
        return home.path

    def add(self, name: str, roles: Sequence[str], values: Mapping[str, Value]) -> Path:
        """Make the folder of a node that is no validator."""
        home = Home(self.path / name)
        for file in ("descriptor", "policy"):
            write_file(home.path / file, (self.path / "set" / file).read_bytes())
        if "proposer" in roles:
            write_key(home.proposer_key, new_key(name), ED25519)
        return self.configure(name, {"node.roles": list(roles), "peers": self.urls, **values})


@dataclass(slots=True)
class Process:
    """One `restante up`."""

    home: Path
    url: str
    popen: "subprocess.Popen[bytes]"
    log: Path
    environ: dict[str, str] = field(default_factory=dict)
    _asked: bool = False

    @classmethod
    def start(
        cls,
        home: Path,
        url: str,
        *,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> "Process":
        """Start a node; its output goes to `<home>.log`."""
        log = home.with_name(f"{home.name}.log")
        command = [sys.executable, "-m", "restante.cli.main", "up", str(home), *arguments]
        given = {**os.environ, **(environ or {})}
        with log.open("ab") as output:
            popen = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=given)
        return cls(home, url, popen, log, dict(environ or {}))

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Until it answers. Raises RuntimeError with its log when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                raise RuntimeError(f"{self.home.name} ended: {self.tail()}")
            try:
                self.status()
            except httpx2.TransportError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.home.name} does not answer: {self.tail()}")

    def status(self) -> dict[str, Any]:
        """What `GET /status` says."""
        response = httpx2.get(f"{self.url}/status", timeout=5.0, trust_env=False)
        found = json.loads(response.content)
        assert isinstance(found, dict)
        return found

    def kill(self) -> None:
        """`kill -9`."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM, once: a second one would meet a process that is about to end anyway."""
        if self.popen.poll() is None and not self._asked:
            self._asked = True
            self.popen.terminate()

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, and its end; the exit code."""
        self.ask_to_stop()
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:]


@contextmanager
def running(processes: Sequence[Process]) -> Iterator[None]:
    """Stop all of them in the end, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.stop()
