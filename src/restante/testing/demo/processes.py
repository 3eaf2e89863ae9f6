"""The processes of the play: started, asked how they are, killed, and always ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from restante.errors import Unavailable
from restante.testing.demo.scene import GATEWAY, LIAR, Scene

_END_S = 10.0


class Troupe:
    """All child processes; leaving the context ends every one that is left."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = scene.root / "logs"
        self._logs.mkdir()

    def __enter__(self) -> "Troupe":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _END_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def live(self) -> list[str]:
        """Names of those that run."""
        return [name for name, process in self._running.items() if process.poll() is None]

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def start(self, name: str) -> None:
        """Start a process by its name in the scene."""
        scene = self._scene
        if name == LIAR:
            argv = ["restante.testing.demo.liar", scene.url(GATEWAY)]
            argv += [str(scene.ports[LIAR]), str(scene.lie)]
        elif name == "p2":
            argv = ["restante.testing.demo.hostile", str(scene.home(name))]
        else:
            argv = ["restante.cli.main", "up", str(scene.home(name))]
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *argv],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def kill(self, name: str) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def check(self) -> None:
        """Raises Unavailable when one ended by itself, with the end of its log."""
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = self.log(name).read_text(errors="replace")[-2000:]
                raise Unavailable(
                    f"{name} ended with {process.returncode}:\n{tail}", code="process-ended"
                )
