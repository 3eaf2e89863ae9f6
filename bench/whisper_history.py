"""A history request over 200,000 envelopes: our mail server against wnode's own.

    python bench/whisper_history.py [--count N] [--json]

The same envelopes, of a thousand topics, are sent to a wnode that is a mail server and to a node of
ours (`restante up`: validator, gateway and mail server, n = 1, windows of 30 s). When all of them
are archived and sealed, go-ethereum's code asks each for all of it, and for one topic, as a wnode
asks: 72 bytes, password, no pages. Printed are the server's CPU time and the time until the last
envelope came. `make peers` builds what is needed; wnode needs root.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import machine
import whisper_nodes as ingest

from restante.networks.whisper import bloom
from restante.testing.cluster import free_ports

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

    who: str
    asked: str
    count: int
    cpu_s: float
    wall_s: float


def ask(target: ingest.Target, asked: str, topic: int | None, expected: int, from_s: int) -> Row:
    """One request, by a fresh client."""
    named = b"" if topic is None else topic.to_bytes(4, "big")
    filter_ = b"\xff" * 64 if topic is None else bloom.encode(bloom.sample(named))
    bounds = from_s.to_bytes(4, "big") + (int(time.time()) + 600).to_bytes(4, "big")
    with harness.geth("-quiet", pow=ingest.POW) as client:
        client.ask("connect", enode=target.enode)
        client.wait("peer")
        time.sleep(2)  # what still lives is relayed first
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
    return Row(target.name, asked, told["count"], cpu_s, told["last_ms"] / 1000 - began_s)


def fill(target: ingest.Target, sender: harness.Harness, count: int) -> None:
    """Send what was made."""
    peer = target.enode[8:136]
    sender.ask("connect", enode=target.enode)
    sender.wait("peer", peer=peer)
    time.sleep(0.5)
    sender.ask("blast", peer=peer, per_packet=100, within_s=PATIENCE_S)
    target.wait(count, sender)


def measure(path: Path, count: int) -> list[Row]:
    """Both servers hold the same; each is asked for all, then for one topic."""
    password = path / "password"
    password.write_text(wnode.PASSWORD)
    password.chmod(0o600)
    (gateway,) = free_ports(1)
    values = {
        "node.roles": ["validator", "gateway", "mailserver"],
        "gateway.port": gateway,
        "mailserver.password_file": str(password),
    }
    rows = []
    pow_ = str(ingest.POW)
    with (
        wnode.mail_server(path / "mail", "-pow", pow_, "-mspow", pow_) as node,
        ingest.ours(path / "ours", window_s=30, values=values) as ours,
    ):
        theirs = ingest.Wnode("wnode", node)
        with harness.geth("-quiet", pow=ingest.POW) as sender:
            from_s = int(time.time()) - 10
            made = {"count": count, "bytes": ingest.DATA_BYTES, "pow": ingest.POW}
            # Nobody's pool but the archive is asked: all are dead when they are.
            sender.ask("make", **made, ttl=TTL_S, topics=TOPICS, within_s=PATIENCE_S)
            made_s = time.time()
            fill(theirs, sender, count)
            fill(ours, sender, count)
        ours.wait_sealed()
        time.sleep(max(0.0, made_s + TTL_S + 5 - time.time()))
        for target in (theirs, ours):
            rows.append(ask(target, "all topics", None, count, from_s))
            rows.append(ask(target, "one topic", TOPIC, count // TOPICS // 2, from_s))
            rows.append(ask(target, "one topic again", TOPIC, count // TOPICS // 2, from_s))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="archived envelopes (200000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with alone(), tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), options.count)
    if options.json:
        found = [asdict(row) for row in rows]
        print(json.dumps({"machine": machine.describe(), "rows": found}))
        return
    print(machine.line())
    theirs = {row.asked: row.wall_s for row in rows if row.who == "wnode"}
    for row in rows:
        times = theirs[row.asked] / row.wall_s
        print(
            f"{row.who:6} {row.asked:16} {row.count:8,} envelopes: {row.cpu_s:6.2f} CPU s, "
            f"{row.wall_s:6.2f} s, {times:.1f} x as fast as the wnode"
        )


if __name__ == "__main__":
    main()
