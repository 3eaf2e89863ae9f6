"""A child process that is spoken to over pipes."""

import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

BUILT = Path(__file__).parents[2] / ".cache" / "peers"
START_S = 20.0
STOP_S = 5.0


class Spoken(ABC):
    """Runs a program, reads its stdout in a thread, and can wait for what it says.

    Subclasses take chunks of stdout in `_heard`, under the lock, in the reading thread.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._changed = threading.Condition()
        self._errors: list[bytes] = []
        self.popen = subprocess.Popen(
            [str(each) for each in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self._heard)),
            threading.Thread(target=self._read, args=(self.popen.stderr, self._errors.append)),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[bytes], take: Callable[[bytes], None]) -> None:
        with stream:
            while chunk := stream.read(1 << 16):
                with self._changed:
                    take(chunk)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @abstractmethod
    def _heard(self, chunk: bytes) -> None:
        """Take what it said on standard output."""

    def write(self, line: bytes) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line)

    def until(self, what: str, found: Callable[[], Any], within_s: float) -> Any:
        """The first true value of `found`, which is asked whenever something was heard."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while not (value := found()):
                left_s = deadline - time.monotonic()
                ended = self.popen.poll() is not None and not self._threads[0].is_alive()
                if left_s <= 0 or ended:
                    errors = b"".join(self._errors)[-2000:].decode(errors="replace")
                    why = f"ended with {self.popen.returncode}" if ended else f"not in {within_s} s"
                    raise AssertionError(f"{what}: {why}; heard {self.told()}; {errors}")
                self._changed.wait(min(left_s, 0.5))
            return value

    @abstractmethod
    def told(self) -> str:
        """The end of what was heard, for a failure's message."""

    def cpu_s(self) -> float:
        """User and system time that it used so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux

    def stop(self) -> None:
        """SIGTERM, and its end."""
        assert self.popen.stdin is not None
        self.popen.terminate()
        try:
            self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.popen.stdin.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
