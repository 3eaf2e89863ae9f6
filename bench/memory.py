"""Memory of each role while it does its work: 3,000 envelopes a window, n = 4, real processes.

    python bench/memory.py [--envelopes N] [--windows W] [--json]

Four validators, a proposer and a gateway, a process each, as in seal.py, but at many times real
speed, slowing down where one cannot follow: memory follows the windows, not the seconds. There are
more windows than K = 14, by default, so that pools and the ids that count for *new* have reached
the size that they keep. After each window a reader fetches it whole through the gateway.

Printed by role: resident memory (VmRSS) when all were ready and nothing had come yet, which is the
baseline; what it was after some of the windows; and its peak (VmHWM). What a window's segment has
on disk is printed above, to measure the growth by.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
from stage import GATEWAY, PROPOSER, Plan, Stage

from restante.client import Client, ProcessMemory, Query, parse_source, read_policy

FASTEST = 15.0
STALL_S = 60.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Row:
    """One role; of several processes the greatest. MB are 10^6 bytes."""

    role: str
    processes: int
    ready_mb: float
    """Resident when all were ready: the interpreter, the modules, and an empty state."""
    peak_mb: float
    """The greatest that was ever resident."""
    after: tuple[float, ...]
    """Resident after each window."""


def memory_mb(pid: int, field: str) -> float:
    """A field of /proc/PID/status, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit(f"/proc/{pid}/status has no {field}: this needs Linux")


def follow(stage: Stage, window: int, reader: Client) -> int:
    """Let a window pass, slowing down while a node lags; envelopes that the reader got of it."""
    due_ms = stage.due_ms(window)
    stage.set_speed(FASTEST)
    deadline = time.monotonic() + STALL_S
    while True:
        stage.check()
        statuses = [stage.status(name) for name in stage.names if name != GATEWAY]
        if all(status.get("decided", -1) >= window for status in statuses):
            break
        # Arrivals must not be dealt with in another window than theirs, nor windows pile up.
        lag = stage.now_ms() > due_ms or any(s.get("behind_ms", 0) > 1_000 for s in statuses)
        if stage.speed != (speed := 1.0 if lag else FASTEST):
            stage.set_speed(speed)
        if time.monotonic() > deadline:
            raise SystemExit(f"window {window} was not sealed in {STALL_S:.0f} s: {statuses}")
        time.sleep(LOOK_S)
    trusted = reader.refresh()
    while trusted.checkpoint.size <= window:
        time.sleep(LOOK_S)
        trusted = reader.refresh()
    return sum(1 for _ in trusted.query(Query(topics=(), mode="all", since=window)))


def run(stage: Stage, say: Callable[[str], None]) -> list[Row]:
    """Play all windows; a row for each role."""
    read = 0
    after: dict[str, list[float]] = {name: [] for name in stage.names}
    with stage.playing():
        ready = {name: memory_mb(stage.pid(name), "VmRSS") for name in stage.names}
        sources = [parse_source(stage.url(GATEWAY))]
        with Client(read_policy(stage.policy), sources, ProcessMemory()) as reader:
            for window in range(stage.plan.windows):
                read += follow(stage, window, reader)
                for name, values in after.items():
                    values.append(memory_mb(stage.pid(name), "VmRSS"))
                say(f"window {window}: {read} envelopes read")
        peaks = {name: memory_mb(stage.pid(name), "VmHWM") for name in stage.names}
    # What came in the last moments, at this speed, may be left for a window that is not played.
    if read < (0.99 * stage.plan.windows - 0.1) * stage.plan.envelopes:
        raise SystemExit(f"only {read} envelopes were read")
    roles = (("validator", stage.validators), ("proposer", [PROPOSER]), ("gateway", [GATEWAY]))
    rows = []
    for role, names in roles:
        most = max(names, key=lambda name: peaks[name])
        rows.append(Row(role, len(names), ready[most], peaks[most], tuple(after[most])))
    return rows


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(machine.line())
    print(
        f"{result['envelopes']} envelopes a window ({result['window_mb']:.1f} MB), "
        f"{result['windows']} windows, n = 4; MB resident, of the greatest process\n"
    )
    rows = result["roles"]
    places = sorted({0, 3, 7, result["windows"] - 1} & set(range(result["windows"])))
    heads = ["ready", *(f"after {place + 1}" for place in places), "peak", "× ready"]
    print(f"{'':20}" + "".join(f"{head:>10}" for head in heads))
    for row in rows:
        cells = [row["ready_mb"], *(row["after"][place] for place in places), row["peak_mb"]]
        print(
            f"{row['role'] + ' × ' + str(row['processes']):20}"
            + "".join(f"{cell:>10.1f}" for cell in cells)
            + f"{row['peak_mb'] / row['ready_mb']:>10.1f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--envelopes", type=int, default=3_000, help="a window (3000)")
    parser.add_argument("--windows", type=int, default=16, help="windows (16)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where all stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    plan = Plan(4, options.windows, options.envelopes, options.seed, loss=0.01, gateway=True)
    described = machine.describe()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        stage = Stage(Path(name), plan)
        rows = run(stage, lambda text: print(text, file=sys.stderr))
        segments = sum(
            path.stat().st_size
            for path in (stage.home("v1").archive / "segment" / "0").rglob("*")
            if path.is_file()
        )
    result = {
        "machine": described,
        "seed": options.seed,
        "envelopes": options.envelopes,
        "windows": options.windows,
        "window_mb": segments / options.windows / 1e6,
        "roles": [asdict(row) | {"times_ready": row.peak_mb / row.ready_mb} for row in rows],
    }
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
