"""What a node of ours costs on the Whisper network, against a real wnode in the same run.

    python bench/whisper.py [PART ...] [--repeat N] [--sustained-s S] [--json]

go-ethereum's own code sends valid new envelopes over RLPx, as fast as they are taken, to one after
the other: a wnode that only relays, a wnode that archives (its mail server: LevelDB, no fsync; the
baseline), and ours (`restante up`, n = 1, whose pool is durable). Parts:

    ingest     CPU of the receiver for a new envelope: packets of 100 and 1, pools that hold 10^3
               and 10^5 before, bursts of 3,000 and 30,000; 284 bytes of data and random topics,
               or sizes and as many topics as in traces/whisper (real wnodes' traffic)
    sustained  the same for --sustained-s, everything that a node does besides included; the pool
               is held at its size by a rate and a TTL
    relay      the same with 1 and 4 peers that listen: what each peer more costs
    latency    from a wnode's post to our pool, and to another wnode

Each row is measured --repeat times, the three taking turns. Ctrl-C prints what was measured.
`make peers` builds what is needed; wnode needs root.
"""

import argparse
import contextlib
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import machine
from whisper_nodes import (
    BASELINE,
    DATA_BYTES,
    GIVE_UP_S,
    POW,
    TARGETS,
    TTL_S,
    Start,
    Target,
    ours,
    undisturbed_window_s,
)

from peers import harness, wnode  # whisper_nodes says where they are
from peers.alone import alone
from restante.formats import whisper

PARTS = ("ingest", "relay", "latency", "sustained")
TRACE = Path(__file__).parents[1] / "traces" / "whisper" / "observer1.jsonl.gz"
SEED = 15
# (envelopes a second, TTL in seconds) that keep a pool of so many.
PACES = {1_000: (200, 5), 100_000: (2_000, 50)}
RELAYED = 10_000
LISTENERS = (1, 4)
# A wnode gives a peer all that is new in one packet: the most that one can be told to take.
LISTENER_MAX_BYTES = 10 * 1024**2


class Cell(NamedTuple):
    """One line of a table. burst: envelopes that are measured (sustained: of each second);
    sizes: `284`, or `traffic`."""

    part: str
    packet: int
    pool: int
    burst: int
    sizes: str
    listeners: int = 0


@dataclass(frozen=True)
class Row:
    """One measurement. count: envelopes; cpu_us: user and system time of the receiver for each,
    µs; wall_s: until all were taken."""

    cell: Cell
    who: str
    count: int
    cpu_us: float
    wall_s: float


@dataclass
class Found:
    """What was measured so far. late_ms: by who shows or pools it; failed: cells, with reasons."""

    rows: list[Row] = field(default_factory=list)
    late_ms: dict[str, list[float]] = field(default_factory=lambda: {"wnode": [], "ours": []})
    failed: list[str] = field(default_factory=list)


@cache
def recorded() -> tuple[list[int], int]:
    """Bytes of data of each envelope in a recording of real wnodes' traffic, and its topics."""
    with gzip.open(TRACE, "rt") as lines:
        found = [whisper.parse(bytes.fromhex(json.loads(line)["rlp"])) for line in lines]
    return [len(each.data) for each in found], len({each.topic for each in found})


# --- one measurement ----------------------------------------------------------------------------


class Sender:
    """go-ethereum's code, which sends to one target."""

    def __init__(self, peer: harness.Harness, target: Target, sizes: str) -> None:
        self.peer = peer
        self._target = target
        self._sizes = sizes

    def make(self, count: int, ttl_s: int = TTL_S) -> None:
        """So many, before anything is measured."""
        sizes, topics = [DATA_BYTES], 0
        if self._sizes == "traffic":
            found, topics = recorded()
            sizes = random.Random(SEED).choices(found, k=count)
        made = {"count": count, "sizes": sizes, "topics": topics, "ttl": ttl_s, "pow": POW}
        self.peer.ask("make", within_s=GIVE_UP_S, **made)

    def send(self, packet: int) -> None:
        """All that were made last."""
        self._stays()
        peer = self._target.enode[8:136]
        self.peer.ask("blast", peer=peer, per_packet=packet, within_s=GIVE_UP_S)

    def wait(self, count: int) -> None:
        self._target.wait(count, self.peer)
        self._stays()

    def _stays(self) -> None:
        assert not self.peer.all("lost"), self.peer.all("lost")


@contextlib.contextmanager
def connected(target: Target, sizes: str) -> Iterator[Sender]:
    with harness.geth("-quiet", pow=POW) as peer:
        peer.ask("connect", enode=target.enode)
        peer.wait("peer")
        time.sleep(0.5)
        yield Sender(peer, target, sizes)


def measure(target: Target, cell: Cell) -> Row:
    """Fill the pool, then count; with listeners, until all of them have everything."""
    with contextlib.ExitStack() as opened:
        sender = opened.enter_context(connected(target, cell.sizes))
        listeners = [opened.enter_context(_listener(target)) for _ in range(cell.listeners)]
        if cell.pool:
            sender.make(cell.pool)
            sender.send(100)
            sender.wait(cell.pool)
        _all_have(listeners, cell.pool)
        sender.make(cell.burst)
        time.sleep(0.5)
        before_s, began_s = target.cpu_s(), time.monotonic()
        sender.send(cell.packet)
        sender.wait(cell.pool + cell.burst)
        _all_have(listeners, cell.pool + cell.burst)
        wall_s = time.monotonic() - began_s
        cpu_s = target.cpu_s() - before_s
    return Row(cell, target.name, cell.burst, cpu_s / cell.burst * 1e6, wall_s)


@contextlib.contextmanager
def _listener(target: Target) -> Iterator[harness.Harness]:
    with harness.geth("-quiet", pow=POW, max_bytes=LISTENER_MAX_BYTES) as peer:
        peer.ask("connect", enode=target.enode)
        peer.wait("peer")
        yield peer


def _all_have(listeners: Sequence[harness.Harness], count: int) -> None:
    deadline_s = time.monotonic() + GIVE_UP_S
    for each in listeners:
        while each.ask("stats")["archived"] < count:
            if time.monotonic() > deadline_s or each.all("lost"):
                raise RuntimeError(f"a listener lacks some: {each.told()}")
            time.sleep(0.1)


def sustain(target: Target, cell: Cell, seconds: float) -> Row:
    """So many a second, for so long, once the pool has its size."""
    ttl_s = PACES[cell.pool][1]
    count = counted = 0
    before_s = counted_since_s = 0.0
    with connected(target, cell.sizes) as sender:
        began_s = time.monotonic()
        while (at_s := time.monotonic() - began_s) < ttl_s + seconds:
            if not counted_since_s and at_s >= ttl_s:
                sender.wait(count)
                before_s, counted_since_s, counted = target.cpu_s(), time.monotonic(), count
            sender.make(cell.burst, ttl_s)
            sender.send(cell.packet)
            count += cell.burst
            time.sleep(max(0.0, at_s + 1 - (time.monotonic() - began_s)))
        sender.wait(count)
        wall_s = time.monotonic() - counted_since_s
        cpu_s = target.cpu_s() - before_s
    counted = count - counted
    return Row(cell, target.name, counted, cpu_s / counted * 1e6, wall_s)


def latencies(path: Path, times: int, found: dict[str, list[float]]) -> None:
    """Milliseconds from a line typed at a wnode until another wnode shows it, and until it is in
    our pool, durably; both have the sender as their only peer."""
    with (
        wnode.relay("-pow", str(POW)) as hub,
        ours(path / "late", window_s=undisturbed_window_s(), peers=[hub.enode]) as node,
        wnode.chat(hub.enode, "-pow", str(POW)) as chat,
    ):
        time.sleep(2)
        spread = random.Random(SEED)
        for i in range(times):
            time.sleep(spread.uniform(0, 0.6))  # a wnode has a tick of 0.3 s for each peer
            text, began_s = f"line {i}", time.monotonic()
            hub.say(text)
            waiting = {"wnode", "ours"}
            while waiting:
                if "wnode" in waiting and text in [each for _, each in chat.shown()]:
                    found["wnode"].append(1000 * (time.monotonic() - began_s))
                    waiting.remove("wnode")
                if "ours" in waiting and node.taken() > i:
                    found["ours"].append(1000 * (time.monotonic() - began_s))
                    waiting.remove("ours")
                if time.monotonic() > began_s + GIVE_UP_S:
                    raise RuntimeError(f"{text} did not reach {waiting}")
                time.sleep(0.003)


# --- what is measured ---------------------------------------------------------------------------


def cells(options: argparse.Namespace) -> list[Cell]:
    """The lines of all tables that were asked for, in order."""
    found: list[Cell] = []
    if "ingest" in options.parts:
        axes = (options.packets, options.pools, options.bursts, options.sizes)
        found += [Cell("ingest", *values) for values in product(*axes)]
    if "relay" in options.parts:
        found += [Cell("relay", 100, 1_000, options.relayed, "284", n) for n in LISTENERS]
    if "sustained" in options.parts and options.sustained_s:
        pools = [pool for pool in options.pools if pool in PACES]
        for pool, sizes in product(pools, options.sizes):
            found.append(Cell("sustained", 100, pool, PACES[pool][0], sizes))
    return found


def run(options: argparse.Namespace, path: Path, found: Found) -> None:
    """Measure everything; whoever is interrupted keeps what is in `found`."""
    wanted = cells(options)
    total = len(wanted) * len(TARGETS) * options.repeat
    for turn in range(options.repeat):
        for cell in wanted:
            for name, start in TARGETS.items():
                try:
                    row = _measured(start, cell, path, options.sustained_s)
                except (AssertionError, RuntimeError) as error:
                    found.failed.append(f"{name}, {cell}: {error}"[:2000])
                    progress(found.failed[-1])
                    continue
                found.rows.append(row)
                number = f"{turn + 1}/{options.repeat} {len(found.rows)}/{total}"
                progress(f"{number} {line_of(cell)} {name:>11} {row.cpu_us:7.1f} µs")
    if "latency" in options.parts:
        progress(f"latency of {options.posts} posts")
        latencies(path, options.posts, found.late_ms)


def _measured(start: Start, cell: Cell, path: Path, seconds: float) -> Row:
    window_s = 30 if cell.part == "sustained" else undisturbed_window_s()
    with start(path, window_s) as target:
        if cell.part == "sustained":
            return sustain(target, cell, seconds)
        return measure(target, cell)


def progress(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


# --- what is said of it -------------------------------------------------------------------------


class Spread(NamedTuple):
    """Of one figure over the repeats."""

    median: float
    least: float
    most: float

    def text(self, digits: int = 1) -> str:
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.most:.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def summary(found: Found) -> dict[str, Any]:
    """Medians and spreads by line; `ratio`: ours by the baseline, turn by turn."""
    lines = []
    by_cell: dict[Cell, dict[str, list[float]]] = {}
    for row in found.rows:
        by_cell.setdefault(row.cell, {}).setdefault(row.who, []).append(row.cpu_us)
    for cell, by_who in by_cell.items():
        pairs = list(zip(by_who.get("ours", []), by_who.get(BASELINE, []), strict=False))
        ratios = [mine / theirs for mine, theirs in pairs]
        cpu_us = {who: spread(values)._asdict() for who, values in by_who.items()}
        ratio = spread(ratios)._asdict() if ratios else None
        lines.append({"cell": cell._asdict(), "cpu_us": cpu_us, "ratio": ratio})
    return {
        "machine": machine.describe(),
        "baseline": BASELINE,
        "lines": lines,
        "flat": flatness(by_cell),
        "relay_us": relaying(by_cell),
        "late_ms": {who: lateness(each) for who, each in found.late_ms.items() if each},
        "rows": [asdict(row) | {"cell": row.cell._asdict()} for row in found.rows],
        "failed": found.failed,
    }


def flatness(by_cell: dict[Cell, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """CPU for an envelope with the largest pool, by that with the smallest."""
    found = []
    for cell, few in by_cell.items():
        pools = [c.pool for c in by_cell if c._replace(pool=0) == cell._replace(pool=0)]
        if cell.part != "ingest" or len(pools) < 2 or cell.pool != min(pools):
            continue
        many = by_cell[cell._replace(pool=max(pools))]
        times = {
            who: statistics.median(many[who]) / statistics.median(few[who])
            for who in few.keys() & many.keys()
        }
        found.append({"cell": cell._asdict(), "pools": [min(pools), max(pools)], "times": times})
    return found


def relaying(by_cell: dict[Cell, dict[str, list[float]]]) -> dict[str, float]:
    """CPU µs that one more listening peer costs for each envelope."""
    found = {}
    few, many = ([c for c in by_cell if c.part == "relay" and c.listeners == n] for n in LISTENERS)
    if few and many:
        for who in by_cell[few[0]].keys() & by_cell[many[0]].keys():
            more = statistics.median(by_cell[many[0]][who])
            less = statistics.median(by_cell[few[0]][who])
            found[who] = (more - less) / (LISTENERS[1] - LISTENERS[0])
    return found


def lateness(values: Sequence[float]) -> dict[str, float]:
    ranked = sorted(values)
    p95 = ranked[min(len(ranked) - 1, round(0.95 * (len(ranked) - 1)))]
    return {"posts": len(ranked), "p50": statistics.median(ranked), "p95": p95, "most": ranked[-1]}


def show(result: dict[str, Any]) -> None:
    """The same for people: medians, with the least and the most in brackets."""
    print(
        "CPU µs of the receiver for a new envelope: median (least–most); baseline: a wnode's mail"
    )
    print("server; ratio: ours / baseline, turn by turn")
    head = "".join(f"{who:>21}" for who in TARGETS)
    print(f"{'':39}{head}{'ours, per CPU s':>17}  ratio")
    for line in result["lines"]:
        cpu_us = {who: Spread(**values) for who, values in line["cpu_us"].items()}
        figures = "".join(f"{cpu_us[who].text() if who in cpu_us else '':>21}" for who in TARGETS)
        mine = f"{1e6 / cpu_us['ours'].median:,.0f}" if "ours" in cpu_us else ""
        ratio = Spread(**line["ratio"]).text(2) if line["ratio"] else ""
        print(f"{line_of(Cell(**line['cell'])):39}{figures}{mine:>17}  {ratio}")
    for flat in result["flat"]:
        few, many = flat["pools"]
        times = ", ".join(f"{who} {value:.2f}" for who, value in sorted(flat["times"].items()))
        print(f"pool {many:,} : {few:,}, {line_of(Cell(**flat['cell']))}: {times}")
    for who, value in sorted(result["relay_us"].items()):
        print(f"one more listening peer costs {who} {value:.1f} CPU µs an envelope")
    for who, late in result["late_ms"].items():
        figures = f"p50 {late['p50']:.0f}, p95 {late['p95']:.0f}, most {late['most']:.0f} ms"
        print(f"from a wnode's post to {who}: {figures} ({late['posts']} posts)")
    for failed in result["failed"]:
        print(f"not measured: {failed}")


def line_of(cell: Cell) -> str:
    """Its name in a table."""
    if cell.part == "relay":
        return f"relay to {cell.listeners}, {cell.burst:,}"
    count = f"{cell.burst:,}/s" if cell.part == "sustained" else f"{cell.burst:,}"
    return f"{cell.packet:>3} a packet {cell.pool:>7,} {count:>7} {cell.sizes:>7}"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS) + " (all)")
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each row (1)")
    parser.add_argument("--packets", type=int, nargs="*", default=[100, 1])
    parser.add_argument("--pools", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--bursts", type=int, nargs="*", default=[3_000, 30_000])
    parser.add_argument(
        "--sizes", nargs="*", choices=("284", "traffic"), default=["284", "traffic"]
    )
    parser.add_argument("--relayed", type=int, default=RELAYED, help=f"of part relay ({RELAYED})")
    parser.add_argument("--posts", type=int, default=60, help="of part latency (60)")
    parser.add_argument("--sustained-s", type=float, default=0, help="of part sustained (0: none)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.parts = options.parts or PARTS
    return options


def main() -> int:
    """Measure and print."""
    options, found = asked(), Found()
    stopped = False
    with alone(), tempfile.TemporaryDirectory() as name:
        try:
            run(options, Path(name), found)
        except KeyboardInterrupt:
            stopped = True
    result = summary(found)
    if options.json:
        print(json.dumps(result))
    else:
        print(machine.line())
        show(result)
    if stopped:
        progress("interrupted: that was measured before")
        return 130
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
