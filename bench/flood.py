"""300,000 envelopes in every window at n = 1, at real speed: sealed and indexed inside the next?

    python bench/flood.py [--envelopes N] [--windows W] [--levels] [--json]

One process is validator and proposer, and observes a trace of 300,000 envelopes in every window,
which the descriptor allows. There is no pause between windows, so that one is sealed while the next
one's envelopes come in. The replay clock runs at real speed throughout; where a machine has other
work, a slower one (`--speed`) still shows what a window costs.

Printed by window, from its end and with the grace in it: when its batch was decided, when its
checkpoint was there, both durable, and when its last block was served by its CID; how far the
process was behind its network at worst; its user and system time; and its resident memory.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import machine
from memory import memory_mb
from stage import Plan, Stage

from restante.formats import car, varint
from restante.formats import cid as cids
from restante.formats.level import STANDARD
from restante.formats.paths import segment_path

LOOK_S = 0.05
STALL_S = 600.0
PARAMETERS = {
    "batch_max_envelopes": 400_000,
    "batch_max_bytes": 1024**3,
}
POOL_MAX_BYTES = 8 * 1024**3
"""K = 14 windows of 350 MB are in the pool at a time."""


@dataclass(frozen=True)
class Row:
    """One window. Times are from its end, in ms."""

    window: int
    count: int
    size_bytes: int
    decided_ms: int
    """When its batch was committed, durably."""
    checkpoint_ms: int
    """When the archive showed the checkpoint that covers it."""
    indexed_ms: int
    """When the last of its blocks was served by its CID."""
    behind_ms: int
    """How late arrivals were taken, at worst, of what was seen until then."""
    cpu_s: float
    """User and system time of the process from this window's checkpoint back to the one before."""
    resident_mb: float
    """Resident then."""


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watching:
    """Waits for one window after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        (self._name,) = stage.validators
        self._cpu_s = 0.0
        self._behind_ms = 0

    def seal(self, window: int) -> Row:
        """Wait for a window's checkpoint."""
        stage = self._stage
        end_ms = stage.descriptor.end_ms(window)
        self._behind_ms = 0
        self._wait(lambda: stage.published(window))
        took_ms = stage.now_ms() - end_ms
        url = f"{stage.url(self._name)}/ipfs/{self._last_block(window)}?format=raw"
        self._wait(lambda: httpx2.get(url, timeout=STALL_S, trust_env=False).is_success)
        indexed_ms = stage.now_ms() - end_ms
        pid = stage.pid(self._name)
        before, self._cpu_s = self._cpu_s, cpu_s(pid)
        resident_mb = memory_mb(pid, "VmRSS")
        record = self._record(window)
        return Row(
            window,
            record["count"],
            record["size_bytes"],
            record["decided_ms"] - end_ms,
            took_ms,
            indexed_ms,
            self._behind_ms,
            self._cpu_s - before,
            resident_mb,
        )

    def _record(self, window: int) -> dict[str, Any]:
        """What the process says of a window; it answers nobody while it seals the next one."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            found.update(self._stage.get(self._name, f"/windows?since={window}"))
            return bool(found)

        self._wait(answered)
        return dict(found["windows"][0])

    def _wait(self, done: Callable[[], bool]) -> None:
        stage, deadline = self._stage, time.monotonic() + STALL_S
        looked_s = 0.0
        while not done():
            stage.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"a window was not sealed and indexed in {STALL_S:.0f} s")
            if time.monotonic() - looked_s > 1:
                looked_s = time.monotonic()
                behind_ms = stage.status(self._name).get("behind_ms", 0)
                self._behind_ms = max(self._behind_ms, behind_ms)
            time.sleep(LOOK_S)

    def _last_block(self, window: int) -> str:
        """CID of the last block of a window's segment."""
        archive, part = self._stage.home(self._name).archive, 0
        while (archive / segment_path(0, window, part + 1)).is_file():
            part += 1
        data = (archive / segment_path(0, window, part)).read_bytes()
        at, start = car.HEADER_BYTES, 0
        while at < len(data):
            length, start = varint.decode(data, at)
            at = start + length
        return cids.to_text(data[start : start + cids.CID_BYTES])

    def begin(self) -> None:
        """From here on counts what the windows cost."""
        self._cpu_s = cpu_s(self._stage.pid(self._name))


def run(stage: Stage, speed: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Play all windows at this speed. Leaves when envelopes were lost."""
    plan = stage.plan
    (name,) = stage.validators
    with stage.playing():
        watching = Watching(stage)
        ready_mb = memory_mb(stage.pid(name), "VmRSS")
        watching.begin()
        stage.set_speed(speed)
        rows = []
        for window in range(plan.windows):
            rows.append(watching.seal(window))
            say(str(rows[-1]))
        peak_mb = memory_mb(stage.pid(name), "VmHWM")
    found, sent = sum(row.count for row in rows), plan.windows * plan.envelopes
    # What came in the last moments of a window stands in the next one, which has none of its own.
    if found < 0.95 * sent:
        raise SystemExit(f"{found} of {sent} envelopes are in the batches")
    return {
        "windows": [asdict(row) for row in rows],
        "ready_mb": ready_mb,
        "peak_mb": peak_mb,
    }


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(machine.line())
    print(
        f"{result['envelopes']} envelopes a window of 30 s, grace {result['grace_s']} s, "
        f"{'standard levels' if result['levels'] else 'no levels'}, on {result['filesystem']}; "
        f"clock at {result['speed']:.2g} × real speed, its ms after the window's end\n"
    )
    heads = (
        "envelopes",
        "MB",
        "decided",
        "checkpoint",
        "indexed",
        "behind",
        "CPU s",
        "MB resident",
    )
    print(f"{'':14}" + "".join(f"{head:>12}" for head in heads))
    for row in result["windows"]:
        print(
            f"  window {row['window']:<5}{row['count']:>12}{row['size_bytes'] / 1e6:>12.1f}"
            f"{row['decided_ms']:>12}{row['checkpoint_ms']:>12}{row['indexed_ms']:>12}{row['behind_ms']:>12}"
            f"{row['cpu_s']:>12.1f}{row['resident_mb']:>12.0f}"
        )
    print(f"\npeak {result['peak_mb']:.0f} MB resident, {result['ready_mb']:.0f} when ready")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--envelopes", type=int, default=300_000, help="a window (300000)")
    parser.add_argument("--windows", type=int, default=3, help="windows (3)")
    parser.add_argument("--levels", action="store_true", help="with the standard roll-ups")
    parser.add_argument("--grace", type=int, default=5, help="seconds (5)")
    parser.add_argument("--speed", type=float, default=1.0, help="of the clock (1.0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where all stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    plan = Plan(
        1,
        options.windows,
        options.envelopes,
        options.seed,
        alone=True,
        grace_s=options.grace,
        parameters=PARAMETERS,
        levels=STANDARD if options.levels else (),
        pool_max_bytes=POOL_MAX_BYTES,
    )
    described = machine.describe()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        where = machine.filesystem(Path(name))
        stage = Stage(Path(name), plan)
        result = run(stage, options.speed, lambda text: print(text, file=sys.stderr))
    result = {
        "machine": described,
        "filesystem": where,
        "seed": options.seed,
        "envelopes": options.envelopes,
        "grace_s": options.grace,
        "levels": options.levels,
        "speed": options.speed,
        **result,
    }
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
