"""`restante watch`, real processes: live, over broken links, restarts and kill -9."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.cuttable_link import link
from e2e.test_single_node import ENVIRON, make_node, restante
from restante.node.home import Home
from restante.testing.cluster import Process, running


class Watching:
    """A `restante watch --json` and what it printed, with the time of each line."""

    def __init__(self, home: Path, source: str, state: Path, *more: str) -> None:
        self._lines: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        self._errors = state.with_suffix(".errors")
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "restante.cli.main", "watch", "--json"),
                    *("--policy", str(home / "policy"), "--source", source, "--topic", "news"),
                    *("--state", str(state), *more),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # A suite that runs in the background has inherited that SIGINT is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                env={**os.environ, **ENVIRON, "RESTANTE_PATH": str(state.parent / "memory")},
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put((time.time(), json.loads(line)))

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def next(self, within_s: float) -> tuple[float, str]:
        """(Unix time, text) of the next envelope."""
        at_s, row = self._lines.get(timeout=within_s)
        return at_s, row["text"]

    def printed(self) -> list[str]:
        """The texts that came since."""
        return [self._lines.get()[1]["text"] for _ in range(self._lines.qsize())]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        code = self.process.wait(20)
        self._reader.join(20)
        return code


def post(home: Path, text: str, *more: str) -> dict[str, Any]:
    proof = ("--proof", str(home.parent / f"{len(text)}.tlog-proof")) if "--wait" in more else ()
    arguments = ("post", text, "--node", str(home), "--topic", "news", "--json", *more, *proof)
    code, out, errors = restante(*arguments)
    assert code == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def wait_for(file: Path, within_s: float = 30) -> None:
    """A watcher has begun once its state is there: when a window was sealed after its start."""
    deadline = time.monotonic() + within_s
    while not file.exists():
        assert time.monotonic() < deadline, "the watcher never began"
        time.sleep(0.05)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_live_then_a_restart_prints_first_what_was_missed_and_nothing_twice(
    tmp_path: Path,
) -> None:
    home, url, gateway = make_node(tmp_path)
    process = Process.start(home, url)
    state = tmp_path / "place.json"
    with running([process]):
        process.wait_ready()
        post(home, "before", "--wait", "--timeout", "30")
        watching = Watching(home, gateway, state)
        wait_for(state)
        post(home, "live")
        assert watching.next(30)[1] == "live", "what came before it began is not printed"
        assert watching.interrupt() == 130
        post(home, "missed 1", "--wait", "--timeout", "30")
        post(home, "missed 2", "--wait", "--timeout", "30")
        again = Watching(home, gateway, state)
        assert again.next(30)[1] == "missed 1"
        assert again.next(30)[1] == "missed 2"
        again.kill()
        post(home, "after kill -9", "--wait", "--timeout", "30")
        third = Watching(home, gateway, state)
        texts = [third.next(30)[1]]
        if texts == ["missed 2"]:  # killed between printing a line and keeping that it was
            texts.append(third.next(30)[1])
        assert texts[-1] == "after kill -9"
        assert third.printed() == []
        third.kill()
        # Another topic, or --fresh, begins by itself; --since from where it says.
        whole = Watching(home, gateway, state, "--fresh", "--since", "0")
        texts = [whole.next(30)[1] for _ in range(5)]
        assert texts == ["before", "live", "missed 1", "missed 2", "after kill -9"]
        whole.kill()


def test_a_silent_link_is_named_and_mended(tmp_path: Path) -> None:
    home, url, gateway = make_node(tmp_path)
    process = Process.start(home, url)
    state = tmp_path / "place.json"
    with running([process]), link(port_of(gateway)) as way:
        process.wait_ready()
        watching = Watching(home, f"http://127.0.0.1:{way.port}", state)
        wait_for(state)
        post(home, "one")
        assert watching.next(30)[1] == "one"
        way.cut()
        post(home, "two", "--wait", "--timeout", "30")
        deadline = time.monotonic() + 60
        while "nobody answers" not in watching.errors:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert watching.printed() == []
        way.mend()
        assert watching.next(30)[1] == "two"
        assert watching.interrupt() == 130


@pytest.mark.slow
def test_the_last_message_of_a_topic_sent_while_the_link_was_down_is_shown(tmp_path: Path) -> None:
    """status-go#7563: nothing follows it, so nothing but the index can tell that it is missing.

    Windows of 30 s and a grace of 5 s. The link is down for 30 s over a window's end; the message
    is shown grace + 5 s after the cut-off that followed its arrival, at the latest.
    """
    home, url, gateway = make_node(tmp_path, window=30)
    file = home / "restante.toml"
    file.write_text(file.read_text().replace("grace_s = 0\n", "grace_s = 5\n"))
    process = Process.start(home, url)
    state = tmp_path / "place.json"
    with running([process]), link(port_of(gateway)) as way:
        process.wait_ready()
        watching = Watching(home, f"http://127.0.0.1:{way.port}", state)
        wait_for(state, within_s=90)  # a window and its grace
        start_s = next_window_s(home)
        time.sleep(max(0.0, start_s + 1 - time.time()))
        way.cut()
        post(home, "the last one")
        assert time.time() < start_s + 30, "this machine is too slow: it was posted too late"
        time.sleep(max(0.0, start_s + 31 - time.time()))
        way.mend()
        at_s, text = watching.next(60)
        assert text == "the last one"
        assert at_s <= start_s + 30 + 5 + 5
        assert watching.interrupt() == 130


def next_window_s(home: Path) -> int:
    """When the next window starts, unix seconds."""
    descriptor = Home(home).read_descriptor()
    return descriptor.end_s(descriptor.window_of(int(time.time() * 1000)))
