"""What roll-ups cost: five minutes, an hour and the index of a day, made as a validator makes them.

    python bench/rollup.py [--envelopes N] [--hours H] [--mean BYTES] [--json]
    python bench/rollup.py --gib 4

An archive of synthetic windows (N envelopes each, of 64 bytes to twice the mean, topics by Zipf
over 50,000) is written first; then every level is made from the one below, out of the files, with
every block hashed, in a process of its own, whose peak memory is its own. With --gib the envelopes
of one hour add up to so many GiB, of 2 KB each on average, and no day is made.

The baseline of a level of bodies is to read the same children, hash them, and write and fsync as
many bytes: what no way of making it can save.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import machine

from restante.durable import PendingFile
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.level import STANDARD, Span, children, span
from restante.formats.page import Member, topic_key
from restante.formats.segment import build
from restante.node.durable.archive import Archive
from restante.node.durable.rollups import Named, RollUps

GENESIS_S = 1_500_000_000
TOPICS = 50_000
HOUR = 120
NAMES = {1: "five minutes", 2: "an hour", 3: "index of a day"}


def descriptor() -> Descriptor:
    key = SigningKey("v1", bytes(32))
    return Descriptor(
        origin="bench.example/0011223344556677",
        genesis_s=GENESIS_S,
        f=0,
        validators=(key.vkey(),),
        levels=STANDARD,
        pow_floor_millionths=0,
        batch_max_envelopes=400_000,
        batch_max_bytes=2**30,
    )


class Windows:
    """The same windows for the same arguments."""

    def __init__(self, d: Descriptor, count: int, mean: int, seed: int) -> None:
        self._d = d
        self._count = count
        self._mean = mean
        self._seed = seed
        self._topics = [n.to_bytes(4, "big") for n in range(TOPICS)]
        self._keys = [topic_key(d.set_id, topic) for topic in self._topics]
        self._weights = list(accumulate(1 / (rank + 1) for rank in range(TOPICS)))

    def write(self, archive: Archive, window: int) -> tuple[bytes, int]:
        """Write a window's batch; (root's CID, bytes)."""
        rng = random.Random(self._seed * 1_000_003 + window)
        start_s = self._d.start_s(window)
        members: list[Member] = []
        for _ in range(self._count):
            rank = bisect(self._weights, rng.random() * self._weights[-1])
            sent_s = start_s + rng.randrange(30)
            data = rng.randbytes(rng.randrange(64, 2 * self._mean - 64))
            raw = whisper.assemble(sent_s + 50, 50, self._topics[rank], data, 1)
            id_ = sha256(raw).digest()
            members.append(Member(self._keys[rank], window, sent_s, id_, raw))
        segment = build(self._d.set_id, members, window, bucket_bits=self._d.bucket_bits)
        archive.put_segment(window, segment.cars())
        return segment.root_cid, segment.bytes_


def made_by(job: str, directory: Path, spans: Sequence[Span], cids: dict[str, str]) -> Any:
    """What a process of its own says of a job."""
    order = {"job": job, "directory": str(directory), "spans": spans, "cids": cids}
    done = subprocess.run(
        [sys.executable, __file__, "--work"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def work() -> None:
    """Be that process."""
    order = json.loads(sys.stdin.read())
    spans = [Span(*each) for each in order["spans"]]
    d = descriptor()
    archive = Archive.open(Path(order["directory"]), d)
    before_mb = peak_mb()
    job = _copy if order["job"] == "copy" else _make
    began, cpu = time.perf_counter(), time.process_time()
    found = job(d, archive, spans, order["cids"])
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    archive.close()
    told = {"s": took_s, "cpu_s": cpu_s, "cids": found}
    json.dump({**told, "start_mb": before_mb, "peak_mb": peak_mb()}, sys.stdout)


def peak_mb() -> float:
    """The most memory that this process ever held, file pages of the page cache aside."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # ru_maxrss would be the parent's where that was larger.
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _make(
    d: Descriptor, archive: Archive, spans: list[Span], cids: dict[str, str]
) -> dict[str, str]:
    rollups = RollUps(d, archive.segments)
    found: dict[str, str] = {}
    for each in spans:
        below = [Named(child, bytes.fromhex(cids[_name(child)])) for child in children(d, each)]
        found[_name(each)] = rollups.make(each, below).hex()
    return found


def _copy(
    d: Descriptor, archive: Archive, spans: list[Span], cids: dict[str, str]
) -> dict[str, str]:
    """The baseline: read, hash, write, fsync."""
    for each in spans:
        pending = PendingFile(archive.directory / "copy")
        for child in children(d, each):
            for path in archive.segments.paths(child.level, child.number):
                with (archive.directory / path).open("rb") as file:
                    while piece := file.read(64 * 1024):
                        sha256(piece).digest()
                        pending.write(piece)
        pending.sync()
        pending.discard()
    return {}


def _name(each: Span) -> str:
    return f"{each.level}/{each.number}"


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    d = descriptor()
    count, mean, hours = options.envelopes, options.mean, options.hours
    if options.gib:
        # Just below, since the limit of a set is meant to hold.
        mean, hours = 2_048, 1
        count = int(options.gib * 2**30 * 0.998 / HOUR / (mean + 17))
    rows = []
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name) / "archive"
        archive = Archive.create(directory, d)
        windows = Windows(d, count, mean, options.seed)
        cids: dict[str, str] = {}
        total, began = 0, time.perf_counter()
        for window in range(hours * HOUR):
            cid, size = windows.write(archive, window)
            cids[f"0/{window}"] = cid.hex()
            total += size
            if window % 10 == 9:
                say(f"{window + 1} of {hours * HOUR} windows written")
        written_s = time.perf_counter() - began
        archive.close()
        for level in (1, 2, 3):
            spans = [span(d, level, n) for n in range(hours * HOUR // d.levels[level - 1].windows)]
            if spans:
                say(f"{NAMES[level]} …")
                rows.append(_row(d, directory, spans, cids, total, count))
        where = machine.filesystem(directory)
    return {
        "machine": machine.describe(),
        "filesystem": where,
        "seed": options.seed,
        "envelopes_a_window": count,
        "windows": hours * HOUR,
        "bytes": total,
        "windows_written_s": written_s,
        "levels": rows,
    }


def _row(
    d: Descriptor,
    directory: Path,
    spans: list[Span],
    cids: dict[str, str],
    total: int,
    count: int,
) -> dict[str, Any]:
    made = made_by("make", directory, spans, cids)
    cids |= made["cids"]
    level = spans[0].level
    bodies = d.levels[level - 1].kind == "bodies"
    copied = made_by("copy", directory, spans, cids) if bodies else None
    envelopes = count * sum(each.windows for each in spans)
    return {
        "name": NAMES[level],
        "made": len(spans),
        "envelopes": envelopes // len(spans),
        "bytes": total // len(spans),
        "s": made["s"] / len(spans),
        "us_per_envelope": made["s"] * 1e6 / envelopes,
        "cpu_us_per_envelope": made["cpu_s"] * 1e6 / envelopes,
        "peak_mb": made["peak_mb"],
        "start_mb": made["start_mb"],
        "times_baseline": None if copied is None else made["s"] / copied["s"],
        "of_the_time_it_covers": made["s"] / (sum(each.windows for each in spans) * d.window_s),
    }


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(machine.line())
    print(
        f"{result['windows']} windows of {result['envelopes_a_window']} envelopes, "
        f"{result['bytes'] / 1e6:.0f} MB in all, on {result['filesystem']}"
    )
    heads = ("envelopes", "MB", "s", "µs/env", "CPU", "peak MB", "baseline", "of its time")
    print(f"\n{'':18}" + "".join(f"{head:>12}" for head in heads))
    for row in result["levels"]:
        times = row["times_baseline"]
        print(
            f"{row['name']:18}{row['envelopes']:>12}{row['bytes'] / 1e6:>12.1f}{row['s']:>12.2f}"
            f"{row['us_per_envelope']:>12.2f}{row['cpu_us_per_envelope']:>12.2f}"
            f"{row['peak_mb']:>12.0f}{'' if times is None else f'{times:.1f} ×':>12}"
            f"{row['of_the_time_it_covers']:>12.2%}"
        )
    start_mb = min(row["start_mb"] for row in result["levels"])
    print(f"\na process that has made nothing yet: {start_mb:.0f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--envelopes", type=int, default=100, help="a window (100)")
    parser.add_argument("--hours", type=int, default=24, help="24 make a day (24)")
    parser.add_argument("--mean", type=int, default=1_172, help="bytes of an envelope (1172)")
    parser.add_argument("--gib", type=float, help="one hour of so much")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where all stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return 0
    result = measure(options, lambda text: print(text, file=sys.stderr))
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
