"""From a window's end + grace to the checkpoint that k validators cosigned, over real HTTP.

    python bench/seal.py [--envelopes N] [--windows W] [--json]

Four validators (f = 1) and a proposer, a process each, share this machine's cores, which four
machines would not. Each observes the same 3,000 envelopes a window, every one lost at each observer
with a probability of 1 %, so that no two of them hold the same set. Windows have 30 s and the grace
5 s, as by default; the replay clock runs at real speed from a second before each window's end until
its checkpoint is there, and faster in between.

Two baselines run beside it: the same at n = 1, where all is in one process and nothing is lost; and
building the batch and writing it with one fsync, without which no window can be sealed.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import machine
from stage import GATEWAY, Plan, Stage, envelopes, quantile

from restante.durable import write_file
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.page import Member, topic_key
from restante.formats.segment import build

FAST = 10.0
"""Speed of the clock between a checkpoint and a second before the next window's end, where all
processes can follow: who still takes arrivals in at the window's end would seal it late."""
LOOK_S = 0.004
STALL_S = 60.0
ALONE_WINDOWS = 3


@dataclass(frozen=True)
class Sealed:
    """One window. Times are from its end + grace, in ms."""

    window: int
    count: int
    size_bytes: int
    cosigned_ms: int
    """When the k-th validator had decided and cosigned it, durably."""
    checkpoint_ms: int
    """When the first archive showed a checkpoint with k cosignatures."""
    proposals: int
    """Distinct sets that were proposed, over all proposers."""
    amendments: int
    """Sets that the winner had proposed before."""
    bodies: int
    """Envelopes that one of the processes had from another, not from its own network."""


class Running:
    """Drives a stage from window to window."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self._stage = stage
        self._say = say
        self._bodies = 0

    def run(self) -> list[Sealed]:
        stage = self._stage
        with stage.playing():
            half = [self._seal(window) for window in range(stage.plan.windows)]
            records: dict[int, list[dict[str, Any]]] = {}
            for name in stage.validators:
                for record in stage.get(name, "/windows?since=0").get("windows", []):
                    records.setdefault(record["window"], []).append(record)
        return [self._row(*each, records[each[0]]) for each in half]

    def _seal(self, window: int) -> tuple[int, int, int]:
        """(window, ms from end + grace to the checkpoint, bodies)."""
        stage = self._stage
        end_ms = stage.descriptor.end_ms(window)
        due_ms = stage.due_ms(window)
        stage.hurry_until(end_ms - 1_000, FAST)
        stage.sleep_until(due_ms)
        deadline = time.monotonic() + STALL_S
        while not stage.published(window):
            if time.monotonic() > deadline:
                raise SystemExit(f"window {window} was not sealed in {STALL_S:.0f} s")
            time.sleep(LOOK_S)
        took_ms = stage.now_ms() - due_ms
        while any(stage.status(name).get("cosigned", 0) <= window for name in stage.validators):
            stage.check()
            time.sleep(0.05)
        before = self._bodies
        self._bodies = sum(stage.bodies(name) for name in stage.names if name != GATEWAY)
        self._say(f"window {window}: {took_ms} ms")
        return window, took_ms, self._bodies - before

    def _row(self, window: int, took_ms: int, bodies: int, records: list[dict[str, Any]]) -> Sealed:
        d = self._stage.descriptor
        due_ms = self._stage.due_ms(window)
        decided = sorted(r["decided_ms"] for r in records if r["decided_ms"] is not None)
        best = next(r for r in records if r["decided_ms"] is not None)
        sets = [sum(p["proposals"] for p in r["proposers"].values()) for r in records]
        return Sealed(
            window,
            best["count"],
            best["size_bytes"],
            decided[d.k - 1] - due_ms,
            took_ms,
            max(sets),
            max(r["amendments"] for r in records),
            bodies,
        )


def sealed(plan: Plan, directory: Path, say: Callable[[str], None]) -> list[Sealed]:
    """Run a plan below a directory of its own. Leaves when envelopes were lost."""
    root = directory / f"n{plan.n}"
    shutil.rmtree(root, ignore_errors=True)
    say(f"n = {plan.n}: {plan.windows} windows of {plan.envelopes} envelopes …")
    rows = Running(Stage(root, plan), say).run()
    found, sent = sum(row.count for row in rows), plan.windows * plan.envelopes
    if found < 0.99 * sent:
        raise SystemExit(f"{found} of {sent} envelopes are in the batches")
    return rows


def build_alone_ms(plan: Plan, d: Descriptor, directory: Path) -> float:
    """The least that sealing takes: build the batch's CAR and write it with one fsync; median."""
    members = []
    for _, raw in envelopes(plan.envelopes, 0, plan.seed):
        parsed = whisper.parse(raw)
        key = topic_key(d.set_id, parsed.topic)
        members.append(Member(key, 0, parsed.sent_s, sha256(raw).digest(), raw))
    times = []
    for index in range(9):
        began = time.perf_counter()
        (car,) = build(d.set_id, members, 0, bucket_bits=d.bucket_bits).cars()
        write_file(directory / f"{index}.car", car)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def summary(rows: list[Sealed]) -> dict[str, Any]:
    """The rows, and median and 0.95 quantile of both times."""
    found: dict[str, Any] = {"windows": [asdict(row) for row in rows]}
    for name in ("cosigned_ms", "checkpoint_ms"):
        times = [getattr(row, name) for row in rows]
        found[name] = {"median": quantile(times, 0.5), "p95": quantile(times, 0.95)}
    return found


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    size = (options.envelopes, options.seed)
    four = Plan(4, options.windows, *size, loss=0.01, grace_s=options.grace)
    alone_windows = min(ALONE_WINDOWS, options.windows)
    one = Plan(1, alone_windows, *size, alone=True, grace_s=options.grace)
    described = machine.describe()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        where = machine.filesystem(Path(name))
        rows = sealed(four, Path(name), say)
        alone = sealed(one, Path(name), say)
        d = Descriptor.parse((Path(name) / "n1/shared/descriptor").read_bytes())
        least_ms = build_alone_ms(one, d, Path(name))
    result = {
        "machine": described,
        "filesystem": where,
        "seed": options.seed,
        "envelopes": options.envelopes,
        "n4": summary(rows),
        "n1": summary(alone),
        "build_and_fsync_ms": least_ms,
    }
    took = result["n4"]["checkpoint_ms"]["median"]
    result["times_n1"] = took / max(1, result["n1"]["checkpoint_ms"]["median"])
    result["times_build_and_fsync"] = took / least_ms
    return result


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(machine.line())
    print(
        f"{result['envelopes']} envelopes a window, on {result['filesystem']}; ms after the grace"
    )
    heads = ("envelopes", "MB", "cosigned", "checkpoint", "proposals", "amended", "bodies")
    for name, title in (("n4", "n = 4, five processes"), ("n1", "n = 1, one process (baseline)")):
        print(f"\n{title:30}" + "".join(f"{head:>11}" for head in heads))
        for row in result[name]["windows"]:
            print(
                f"  window {row['window']:<21}{row['count']:>11}{row['size_bytes'] / 1e6:>11.1f}"
                f"{row['cosigned_ms']:>11}{row['checkpoint_ms']:>11}{row['proposals']:>11}"
                f"{row['amendments']:>11}{row['bodies']:>11}"
            )
        for q in ("median", "p95"):
            times = [result[name][each][q] for each in ("cosigned_ms", "checkpoint_ms")]
            print(f"  {q:50}{times[0]:>11}{times[1]:>11}")
    print(f"\nbuild the batch, one fsync (baseline)       {result['build_and_fsync_ms']:.0f} ms")
    print(
        f"checkpoint at n = 4, medians: {result['times_n1']:.1f} × n = 1, "
        f"{result['times_build_and_fsync']:.1f} × build and one fsync"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--envelopes", type=int, default=3_000, help="a window (3000)")
    parser.add_argument("--windows", type=int, default=5, help="at n = 4 (5)")
    parser.add_argument("--grace", type=int, default=5, help="seconds (5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where all stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    result = measure(options, lambda text: print(text, file=sys.stderr))
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
