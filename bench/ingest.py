"""Envelopes a second that one core judges and pools durably, each arriving five times.

    python bench/ingest.py [--count N] [--directory DIR] [--json]

Every new envelope is followed by four duplicates within the next few hundred arrivals, as five
peers send it. The set has a floor of proof of work of 10^-6, since mining 0.2 takes milliseconds
each and judging costs the same whatever the floor. Each row is the best of ROUNDS, taken in turn.

A row is one way to take the same arrivals in. *groups of n*: rules/intake.py judges n arrivals, and
node/durable/pool.py makes what was new durable with one fsync. The named baseline is *naive*: every
arrival
is judged in full, repeats are found afterwards, and every new envelope has an fsync of its own.
"""

import argparse
import bisect
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import machine

from restante.errors import Refused
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.page import topic_key
from restante.networks.keccak import keccak256
from restante.node.durable.pool import Pool
from restante.rules import valid
from restante.rules.intake import Intake, Record
from restante.rules.pool import PoolIndex

GENESIS_S = 1_500_000_000
DUPLICATES = 4
TOPICS = 50_000
NEAR = 500
"""A duplicate comes at most so many arrivals later."""
ROUNDS = 3
SLOW_COUNT = 2_000
"""New envelopes of the rows that wait for the disk each time: enough, and soon over."""

D = Descriptor(
    origin="bench.example/ingest-0011223344556677",
    genesis_s=GENESIS_S,
    f=0,
    validators=(SigningKey("v0", bytes(32)).vkey(),),
    pow_floor_millionths=1,
)
Take = Callable[[Sequence[Record], Pool], int]
"""Take arrivals in; answers how many were new."""


@dataclass(frozen=True)
class Row:
    """What one way of taking arrivals in cost."""

    name: str
    new: int
    arrivals: int
    cpu_us: float
    """User and system time per new envelope, its duplicates included."""
    wall_us: float
    """Per new envelope, the disk included."""
    new_per_s: int
    """New envelopes a second, judged and durable."""
    arrivals_per_s: int


def envelopes(count: int, seed: int) -> list[bytes]:
    """Envelopes of 300 to 2,000 bytes, topics by Zipf, sent in the window's first 20 s."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, TOPICS + 1)))
    found = []
    for nonce in range(count):
        topic = bisect.bisect(weights, rng.random() * weights[-1]).to_bytes(4, "big")
        sent_s = GENESIS_S + rng.randrange(20)
        data = rng.randbytes(rng.randint(270, 1_970))
        found.append(whisper.assemble(sent_s + 50, 50, topic, data, nonce))
    return found


def arrivals(raws: Iterable[bytes], seed: int) -> list[Record]:
    """Each envelope once and then DUPLICATES times more, soon after; all within the window."""
    rng = random.Random(seed)
    keyed = []
    for place, raw in enumerate(raws):
        at = place * (1 + DUPLICATES)
        keyed.append((at, raw))
        keyed += [(at + rng.randint(1, NEAR), raw) for _ in range(DUPLICATES)]
    keyed.sort(key=lambda pair: pair[0])
    at_ms = (GENESIS_S + 25) * 1000
    # A peer's copy is bytes of its own: equal, never the same object.
    return [(at_ms, bytes(bytearray(raw))) for _, raw in keyed]


def in_groups(size: int) -> Take:
    """The product's way, `size` arrivals at a time."""

    def take(found: Sequence[Record], pool: Pool) -> int:
        intake = Intake(D, keccak256, PoolIndex(D))
        for at in range(0, len(found), size):
            new = intake.observe(found[at : at + size])
            if new:
                pool.append(new)
        return intake.outcomes["accepted"]

    return take


def naive(found: Sequence[Record], pool: Pool) -> int:
    """The baseline: judge every arrival, look afterwards, write and sync one by one."""
    index = PoolIndex(D)
    for arrival_ms, raw in found:
        with suppress(Refused):
            facts = valid.receive(raw, arrival_ms, D, keccak256)
            if facts.id not in index:
                index.append([facts], [topic_key(D.set_id, facts.topic)], [arrival_ms])
                pool.append([(arrival_ms, raw)])
    return len(index)


def judge_only(found: Sequence[Record], pool: Pool) -> int:
    """Groups of 100 without the pool: what the rules alone cost."""
    intake = Intake(D, keccak256, PoolIndex(D))
    for at in range(0, len(found), 100):
        intake.observe(found[at : at + 100])
    return intake.outcomes["accepted"]


def hash_only(found: Sequence[Record], pool: Pool) -> int:
    """SHA-256 of every arrival and Keccak of every new one: what no way can do without."""
    seen = set()
    for _, raw in found:
        id_ = sha256(raw).digest()
        if id_ not in seen:
            seen.add(id_)
            scanned = whisper.scan(raw)
            keccak256(scanned.work + scanned.raw_nonce)
    return len(seen)


def measured(name: str, take: Take, found: Sequence[Record], directory: Path) -> Row:
    """Run one way on a pool of its own, and check that nothing was lost."""
    shutil.rmtree(directory, ignore_errors=True)
    pool = Pool.create(directory, bytes(16), bytes(range(16)))
    wall, cpu = time.perf_counter(), time.process_time()
    new = take(found, pool)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    pooled, expected = pool.size, len(found) // (1 + DUPLICATES)
    pool.close()
    shutil.rmtree(directory)
    if new != expected or pooled not in (0, expected):
        raise SystemExit(f"{name}: {new} judged and {pooled} pooled, not {expected}")
    return Row(
        name,
        new,
        len(found),
        cpu / new * 1e6,
        wall / new * 1e6,
        round(new / wall),
        round(len(found) / wall),
    )


def run(count: int, directory: Path, seed: int) -> list[Row]:
    """All rows, the baseline first."""
    raws = envelopes(count, seed)
    many = arrivals(raws, seed)
    few = arrivals(raws[:SLOW_COUNT], seed)
    ways: list[tuple[str, Take, Sequence[Record]]] = [
        ("naive (baseline)", naive, few),
        ("groups of 1", in_groups(1), few),
        ("groups of 100", in_groups(100), many),
        ("groups of 500", in_groups(500), many),
        ("judged only, no pool", judge_only, many),
        ("hashes and decoding only", hash_only, many),
    ]
    rounds = [
        [measured(name, take, found, directory / "pool") for name, take, found in ways]
        for _ in range(ROUNDS)
    ]
    return [best(each) for each in zip(*rounds, strict=True)]


def best(rows: Sequence[Row]) -> Row:
    """The least CPU and the least wall time of one way: what disturbs only ever adds."""
    fast = min(rows, key=lambda row: row.wall_us)
    return replace(fast, cpu_us=min(row.cpu_us for row in rows))


def show(rows: Sequence[Row], line: str, where: str) -> None:
    """A table, each row against the baseline."""
    base = rows[0]
    print(line)
    print(f"one core, pool on {where}, {DUPLICATES} duplicates to each new envelope\n")
    heads = ("CPU µs/new", "wall µs/new", "new/s", "arrivals/s", "× naive")
    print(f"{'':26}" + "".join(f"{head:>13}" for head in heads))
    for row in rows:
        ratio = base.wall_us / row.wall_us
        print(
            f"{row.name:26}{row.cpu_us:13.1f}{row.wall_us:13.1f}"
            f"{row.new_per_s:13,}{row.arrivals_per_s:13,}{ratio:13.1f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="new envelopes (20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the pool stands (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    described, line = machine.describe(), machine.line()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        where = machine.filesystem(Path(name))
        rows = run(options.count, Path(name), options.seed)
    if options.json:
        result = {
            "machine": described,
            "filesystem": where,
            "seed": options.seed,
            "rows": [asdict(row) | {"times_naive": rows[0].wall_us / row.wall_us} for row in rows],
        }
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(rows, line, where)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
