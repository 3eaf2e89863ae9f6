"""The play: everyone is started, the trace is replayed, one is killed, and a reader comes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from restante.errors import Unavailable
from restante.node.home import Home, read_key
from restante.testing.demo.account import HEADER, Account, copies, sums
from restante.testing.demo.pace import Conductor
from restante.testing.demo.processes import Troupe
from restante.testing.demo.reader import Truth, read_all, stale_run
from restante.testing.demo.scene import GATEWAY, LIAR, PROPOSERS, VALIDATORS, build

VICTIM = "v3"
AWAY_WINDOWS = 3
_POLL_S = 0.1
_START_S = 60.0
# After the window of the last arrival: one for what came late (R7).
_AFTER_WINDOWS = 1
_STALL_S = 60.0

Say = Callable[[str], None]

PROLOGUE = """\
Restante, all of it in separate processes on this machine, on recorded traffic ({trace}).

Each of these watched the same gossip network through eyes of its own, so their views differ:
  v1 … v4   validators: judge what is proposed; any 3 of the 4 sign for the set {set}…
  p1        a proposer: in each window of 30 s it batches what it saw
  p2        a hostile one: leaves an envelope out (odd windows), slips a broken one in (even
            windows), floods with 100 copies (every fifth)
And for those who read:
  gateway   serves the archive, holds no key;  liar  the same, but it turns a bit over

A line comes when 3 validators have cosigned a window. prop: how many proposed; amend: how often the
winner had to add what others saw (seldom: views converge within the 5 s grace); ms: real time from
the window's end; p2 was told: how often validators refused p2, and for what.
Starting …"""


@dataclass(slots=True)
class Outcome:
    """How the play ended; empty faults are success."""

    faults: list[str] = field(default_factory=list)
    windows: int = 0
    seconds: float = 0.0


class Play:
    """One performance."""

    def __init__(self, root: Path, trace: Path, speed: float, say: Say) -> None:
        """Raises ConfigError when the folder holds no trace."""
        self._say = say
        self._trace = trace
        self._truth = Truth.read(trace)
        self._scene = build(root, trace)
        self._root = root
        self._clock = Conductor(self._scene.clock, self._scene.start_ms, speed)
        scene = self._scene
        keys = {
            name: read_key(Home(scene.home(name)).proposer_key).public_key.hex()
            for name in PROPOSERS
        }
        validators = {v.public_key.hex() for v in scene.descriptor.validators}
        self._account = Account(
            scene.descriptor.end_ms,
            self._clock.real_ms,
            keys["p2"],
            frozenset({keys["p1"], *validators}),
        )
        self._http = httpx2.Client(timeout=5.0, trust_env=False)
        self._askers = ThreadPoolExecutor(8, "ask")
        self._told = -1
        self._p2: dict[str, Any] = {}
        self._last = scene.last_window + _AFTER_WINDOWS
        self._records: dict[int, dict[str, dict[str, Any]]] = {}
        self._outcome = Outcome()

    def perform(self) -> Outcome:
        """All of it. Raises Unavailable when a process ends that should not."""
        began = time.monotonic()
        scene = self._scene
        self._say(PROLOGUE.format(trace=self._trace, set=scene.descriptor.set_id.hex()[:16]))
        with Troupe(scene) as troupe:
            for name in (*VALIDATORS, GATEWAY, *PROPOSERS, LIAR):
                troupe.start(name)
            self._wait_until_ready(troupe)
            self._say(f"Everybody is there. Replaying {self._last + 1} windows:\n\n{HEADER}")
            self._replay(troupe)
            self._read()
            troupe.check()
        self._http.close()
        self._askers.shutdown()
        self._outcome.windows = self._told + 1
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    # --- the replay -------------------------------------------------------------------------

    def _wait_until_ready(self, troupe: Troupe) -> None:
        deadline = time.monotonic() + _START_S
        names = [*VALIDATORS, *PROPOSERS]
        while True:
            troupe.check()
            statuses = self._statuses(names)
            signing = [statuses[v].get("signing") for v in VALIDATORS if v in statuses]
            if len(statuses) == len(names) and all(signing) and self._answers(GATEWAY, LIAR):
                return
            if time.monotonic() > deadline:
                missing = sorted(set(names) - set(statuses)) or "the gateways"
                raise Unavailable(f"not ready after {_START_S:.0f} s: {missing}", code="demo-start")
            time.sleep(_POLL_S)

    def _answers(self, *names: str) -> bool:
        """Whether these listen at all; without a checkpoint yet they have nothing to serve."""
        try:
            for name in names:
                self._http.get(f"{self._scene.url(name)}/descriptor")
        except httpx2.HTTPError:
            return False
        return True

    def _replay(self, troupe: Troupe) -> None:
        killed_at, back = self._last // 2, False
        moved = time.monotonic()
        while self._told < self._last:
            time.sleep(_POLL_S)
            troupe.check()
            statuses = self._statuses([name for name in troupe.live if name not in (LIAR, GATEWAY)])
            self._clock.heed(statuses)
            before = self._told
            self._tell(statuses)
            moved = time.monotonic() if self._told > before else moved
            if time.monotonic() - moved > _STALL_S:
                raise Unavailable(
                    f"no window was decided for {_STALL_S:.0f} s after {self._told}: {statuses}",
                    code="demo-stalled",
                )
            if VICTIM in troupe.live and not back and self._told >= killed_at:
                troupe.kill(VICTIM)
                self._say(f"        kill -9 {VICTIM}; the other three go on")
            elif VICTIM not in troupe.live and self._told >= killed_at + AWAY_WINDOWS:
                troupe.start(VICTIM)
                back = True
                self._say(f"        {VICTIM} starts again, from what it had made durable")
        self._wait_for_victim(troupe)

    def _wait_for_victim(self, troupe: Troupe) -> None:
        """The killed one catches up, signs every size it missed, and holds what all hold."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            status = self._statuses([VICTIM]).get(VICTIM, {})
            if status.get("cosigned", 0) > self._last:
                self._say(f"        {VICTIM} has cosigned all {status['cosigned']} windows")
                return
            troupe.check()
            time.sleep(_POLL_S)
        self._outcome.faults.append(f"{VICTIM} did not catch up after it was killed")

    def _statuses(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Status by name of those that answer."""
        answers = self._askers.map(lambda name: self._json(name, "/status"), names)
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer}

    def _json(self, name: str, path: str) -> dict[str, Any]:
        try:
            answer = self._http.get(self._scene.url(name) + path)
            return dict(answer.json()) if answer.is_success else {}
        except (httpx2.HTTPError, ValueError):
            return {}

    def _tell(self, statuses: dict[str, dict[str, Any]]) -> None:
        """Print each window once k have cosigned it."""
        cosigned = sorted(s.get("cosigned", 0) for v, s in statuses.items() if v in VALIDATORS)
        k = self._scene.descriptor.k
        newest = cosigned[-k] - 1 if len(cosigned) >= k else self._told
        self._p2 = statuses.get("p2", self._p2)
        if newest <= self._told:
            return
        for name in [v for v in VALIDATORS if v in statuses]:
            for record in self._json(name, f"/windows?since={self._told + 1}").get("windows", []):
                self._records.setdefault(record["window"], {})[name] = record
        for window in range(self._told + 1, min(newest, self._last) + 1):
            records = list(self._records.pop(window, {}).values())
            signers = sum(size > window for size in cosigned)
            self._say(self._account.line(window, records, signers, self._p2))
            self._told = window

    # --- the reader -------------------------------------------------------------------------

    def _read(self) -> None:
        scene, say, faults = self._scene, self._say, self._outcome.faults
        refusals = self._account.refusals
        p2 = self._json("p2", "/status")
        say(f"\np2 was refused over the run for: {sums(refusals, p2)}")
        if not copies(p2):
            faults.append("p2 never flooded")
        if self._account.certified:
            faults.append(f"p2's batches were accepted in windows {self._account.certified}")
        for code in ("missing", "not-allowed"):
            if not refusals[code]:
                faults.append(f"p2 was never refused for {code}")
        urls = [scene.url(LIAR), scene.url(GATEWAY)]
        say(
            "\nA client that was away, with the policy file alone. "
            f"Sources: liar {urls[0]}, then gateway {urls[1]}"
        )
        memory = self._root / "client"
        reading = read_all(scene.policy, urls, memory, self._truth, lambda text: say(f"  {text}"))
        told = reading.summary
        say(
            f"  complete to window {told.complete_to_window}; final for what was sent before "
            f"{time.strftime('%H:%M:%S', time.gmtime(told.final_before_s))} UTC"
        )
        blind = [w for start, stop in told.blind for w in range(start, stop)]
        say(
            f"  blind windows (too few watched): {', '.join(map(str, blind)) or 'none'}; "
            f"the recording ends with window {scene.last_window}"
        )
        say(f"  {told.requests} requests, {told.bytes_fetched:,} bytes, topics hidden in buckets")
        faults += reading.faults
        if reading.decrypted != len(self._truth.messages):
            faults.append("not every known plaintext was decrypted")
        if any(window <= scene.last_window for window in blind):
            faults.append(f"blind windows: {told.blind}")
        self._caught(told.complaints, urls[0], "a flipped bit in a page")
        scene.lie.write_text("stale\n")
        self._caught(stale_run(scene.policy, urls, memory), urls[0], "a stale checkpoint")

    def _caught(self, complaints: Any, liar: str, lie: str) -> None:
        mine = [c for c in complaints if c.source == liar and c.lied]
        if mine:
            self._say(f"  the liar was caught and left: {mine[0].code} at {mine[0].path} ({lie})")
        else:
            self._outcome.faults.append(f"the liar was not caught with {lie}")
        for other in complaints:
            if other.source != liar and other.lied:
                self._outcome.faults.append(f"an honest source was blamed: {other}")
