"""A history request over 200,000 envelopes: our mail server against wnode's own.

    python bench/whisper_history.py [--count N] [--repeat N] [--json]

The same envelopes, of a thousand topics, are sent to a wnode that is a mail server and to a node of
ours (`restante up`: validator, gateway and mail server, n = 1, windows of 30 s). When all of them
are archived and sealed, go-ethereum's code asks each for one topic, for it again, and for all of
them, as a wnode asks: 72 bytes, password, no pages. They take turns, `--repeat` times. In each turn
ours is started anew without its topic book, and also asked at once, while it learns (*cold*), and
then when it has learnt. Printed are the server's CPU time, and the time until the last envelope
came, as median (least to most). `make peers` builds what is needed; wnode needs root.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
import whisper_nodes as ingest

from restante.networks.whisper import bloom
from restante.node.home import Home
from restante.testing.cluster import Process, free_ports, running

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers import harness, wnode
from peers.alone import alone

TOPICS = 1_000
TOPIC = 2654435761 * 7 & 0xFFFFFFFF
"""The seventh of those that the harness makes."""
TTL_S = 60
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Row:
    """cpu_s: of the server; wall_s: until the last envelope was there."""

    turn: int
    who: str
    asked: str
    count: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Asking:
    """What all requests have in common. count: of all envelopes; from_s: before them, unix s."""

    count: int
    from_s: int


def ask(target: ingest.Target, what: Asking, asked: str, topic: int | None, turn: int) -> Row:
    """One request, by a fresh client."""
    expected = what.count if topic is None else what.count // TOPICS // 2
    named = b"" if topic is None else topic.to_bytes(4, "big")
    filter_ = b"\xff" * 64 if topic is None else bloom.encode(bloom.sample(named))
    bounds = what.from_s.to_bytes(4, "big") + (int(time.time()) + 600).to_bytes(4, "big")
    with harness.geth("-quiet", pow=ingest.POW) as client:
        client.ask("connect", enode=target.enode)
        client.wait("peer")
        time.sleep(0.5)  # as in `fill`
        peer = target.enode[8:136]
        cpu_s, began_s = target.cpu_s(), time.time()
        secret = {"password": wnode.PASSWORD, "pow": ingest.POW, "ttl": 50}
        client.ask("request", peer=peer, payload=bounds + filter_, **secret)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            told = client.ask("tally", peer=peer, code=harness.DIRECT)
            still = time.time() * 1000 - told["last_ms"]
            if told["count"] >= expected and (topic is None or still > 1000):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{target.name}: {told['count']} of {expected}")
            time.sleep(0.05)
        cpu_s = target.cpu_s() - cpu_s
    return Row(turn, target.name, asked, told["count"], cpu_s, told["last_ms"] / 1000 - began_s)


def fill(target: ingest.Target, sender: harness.Harness, count: int) -> None:
    """Send what was made."""
    peer = target.enode[8:136]
    sender.ask("connect", enode=target.enode)
    sender.wait("peer", peer=peer)
    time.sleep(0.5)
    sender.ask("blast", peer=peer, per_packet=100, within_s=PATIENCE_S)
    target.wait(count, sender)


def measure(path: Path, count: int, repeat: int) -> list[Row]:
    """Both servers hold the same, and are asked in turn."""
    password = path / "password"
    password.write_text(wnode.PASSWORD)
    password.chmod(0o600)
    (gateway,) = free_ports(1)
    values = {
        "node.roles": ["validator", "gateway", "mailserver"],
        "gateway.port": gateway,
        "mailserver.password_file": str(password),
    }
    rows: list[Row] = []
    pow_ = str(ingest.POW)
    with wnode.mail_server(path / "mail", "-pow", pow_, "-mspow", pow_) as node:
        theirs = ingest.Wnode("wnode", node)
        with ingest.ours(path / "ours", window_s=30, values=values) as ours:
            what = _filled(theirs, ours, count)
            stopped = ours._process
        for turn in range(repeat):
            rows += [ask(theirs, what, *each, turn) for each in ASKED]
            with _started(stopped, ours.enode) as ours:
                rows.append(ask(ours, what, "one topic, cold", TOPIC, turn))
                _wait_learnt(ours)
                rows += [ask(ours, what, *each, turn) for each in ASKED]
    return rows


ASKED: tuple[tuple[str, int | None], ...] = (
    ("one topic", TOPIC),
    ("one topic again", TOPIC),
    ("all topics", None),
)


def _filled(theirs: ingest.Wnode, ours: ingest.Ours, count: int) -> Asking:
    """Give both the same, and wait until it is sealed, and dead: nobody's pool is asked."""
    with harness.geth("-quiet", pow=ingest.POW) as sender:
        from_s = int(time.time()) - 10
        made = {"count": count, "bytes": ingest.DATA_BYTES, "pow": ingest.POW}
        sender.ask("make", **made, ttl=TTL_S, topics=TOPICS, within_s=PATIENCE_S)
        made_s = time.time()
        fill(theirs, sender, count)
        fill(ours, sender, count)
    ours.wait_sealed()
    time.sleep(max(0.0, made_s + TTL_S + 5 - time.time()))
    return Asking(count, from_s)


@contextmanager
def _started(stopped: Process, enode: str) -> Iterator[ingest.Ours]:
    """Ours, as it starts where a mail server never was."""
    shutil.rmtree(Home(stopped.home).cache / "mailserver", ignore_errors=True)
    process = Process.start(stopped.home, stopped.url)
    with running([process]):
        process.wait_ready()
        ours = ingest.Ours(process, enode)
        while not ours._status()["mail"]["size"]:
            time.sleep(0.01)
        yield ours


def _wait_learnt(ours: ingest.Ours) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while ours._status()["mail"]["learning"]:
        if time.monotonic() > deadline:
            raise RuntimeError("it never learnt")
        time.sleep(0.1)


# --- what is said of it -------------------------------------------------------------------------


def summary(rows: list[Row]) -> dict[str, Any]:
    """Medians and spreads by who was asked for what; `times`: a wnode's time by ours, by turn."""
    by_line: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_line.setdefault((row.who, row.asked), []).append(row)
    lines = []
    for (who, asked), found in by_line.items():
        theirs = {row.turn: row for row in by_line.get(("wnode", asked.removesuffix(", cold")), [])}
        times = [theirs[row.turn].wall_s / row.wall_s for row in found if row.turn in theirs]
        lines.append(
            {
                "who": who,
                "asked": asked,
                "count": found[0].count,
                "cpu_s": _spread([row.cpu_s for row in found]),
                "wall_s": _spread([row.wall_s for row in found]),
                "times": _spread(times) if who != "wnode" and times else None,
            }
        )
    return {"machine": machine.describe(), "lines": lines, "rows": [asdict(row) for row in rows]}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _text(spread: dict[str, float], digits: int = 2) -> str:
    median, least, most = (f"{spread[name]:.{digits}f}" for name in ("median", "least", "most"))
    return f"{median} ({least}–{most})"


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    head = f"{'envelopes':>10}  {'CPU s':20}{'s':20}"
    print(f"{'':24}{head}× as fast as the wnode (baseline)")
    for line in result["lines"]:
        times = "" if line["times"] is None else _text(line["times"], 1)
        print(
            f"{line['who']:7}{line['asked']:17}{line['count']:>10,}  "
            f"{_text(line['cpu_s']):20}{_text(line['wall_s']):20}{times}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="archived envelopes (200000)")
    parser.add_argument("--repeat", type=int, default=3, help="turns (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with alone(), tempfile.TemporaryDirectory() as name:
        result = summary(measure(Path(name), options.count, options.repeat))
    if options.json:
        print(json.dumps(result))
        return
    print(machine.line())
    show(result)


if __name__ == "__main__":
    main()
