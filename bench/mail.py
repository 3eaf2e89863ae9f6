"""A request for old mail over an archive of 200,000 envelopes, against a wnode's 5 µs for each.

    python bench/mail.py [--directory DIR] [--json]

The mail server role as it runs in a node, with the archive of two days at 1.16 envelopes/s as its
folder; from the request's arrival to the 125 that ends its answer, given to a peer that takes
everything at once: links, which cost every server the same, are left out, and so is a wnode's own
sending. Everything handed out was verified in that time.

- *cold*: no topic is known, as after a first start; *learnt*: all are;
- a rare, a middling and the busiest topic by their filters; a page of 1,000 of all topics, and all
  of it.

Baseline: the 5 µs that a wnode's scan takes for every archived envelope, hit or not.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from month import Archives, Month, Plan, month, run, tell, tiny
from traffic import Traffic

from restante.client import FolderSource
from restante.formats import rlp, whisper
from restante.networks.whisper import bloom, crypt
from restante.networks.whisper.mail_request import MailKeys
from restante.networks.whisper.messages import REQUEST_COMPLETE
from restante.node.clock import WallClock
from restante.node.mailserver.index import IndexPlace
from restante.node.mailserver.role import MailServer

WNODE_S = 5e-6
REPEATS = 5
PLAN = Plan(Traffic(100_000, 2_000), days=2)
KEY, SIGNER = b"k" * 32, b"\x11" * 32


class Taker:
    """A peer that takes all at once, and counts it."""

    node_id = b"p" * 64
    address = "127.0.0.1:30303"
    backlog_bytes = 0
    gone = False

    def __init__(self) -> None:
        self.envelopes = 0
        self.bytes_ = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, code: int, payload: bytes) -> None:
        """What the server sends."""
        if code == REQUEST_COMPLETE:
            assert not payload[2:].startswith(b"ERROR="), payload
            self.end.set_result(None)
        else:
            self.envelopes += 1
            self.bytes_ += len(payload)


def request(filter_: int, limit: int | None) -> bytes:
    """A request for all times: raw without a limit, structured with one."""
    if limit is None:
        content = bytes(8) + (b"" if filter_ == bloom.FULL else bloom.encode(filter_))
    else:
        number = rlp.encode_uint(limit)
        content = rlp.encode([b"", b"", bloom.encode(filter_), [], number, b"", b""])
    data = crypt.encrypt_symmetric(content, KEY, sign_with=SIGNER)
    return whisper.assemble(2**31, 50, bytes(4), data, 0)


async def ask(server: MailServer, payload: bytes) -> tuple[float, Taker]:
    """(seconds, who got it) of one request."""
    peer = Taker()
    began = time.perf_counter()
    server.request(peer, payload)
    await peer.end
    return time.perf_counter() - began, peer


async def serve(archive: Month, learnt: bool) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of learning, and the rows."""
    rows: list[dict[str, Any]] = []
    plan, ranked = archive.plan, archive.plan.traffic.ranked
    filters: dict[str, tuple[int, int | None]] = {
        "a rare topic": (bloom.of_topics([ranked[-5]]), None),
        "a middling topic": (bloom.of_topics([ranked[len(ranked) // 20]]), None),
        "the busiest topic": (bloom.of_topics(ranked[:1]), None),
        "all topics, a page": (bloom.FULL, 1000),
        "all topics, all": (bloom.FULL, None),
    }
    with tempfile.TemporaryDirectory() as name:
        sources = [FolderSource(archive.root)]
        place = IndexPlace(plan.descriptor, plan.made.policy(), sources, Path(name))
        server = MailServer(place, WallClock(), MailKeys(KEY))
        began = time.perf_counter()
        await server.index.refresh()
        learning = 0.0
        # So that nothing is learnt beside a request that is measured.
        server.index.book.full = not learnt
        if learnt:
            while await server.index._learn_older():
                pass
            learning = time.perf_counter() - began
            tell(f"  {len(server.index.book):,} topics (by day) learnt in {learning:.1f} s")
        answering = asyncio.ensure_future(server.run())
        for what, (filter_, limit) in filters.items():
            tries = [
                await ask(server, request(filter_, limit)) for _ in range(REPEATS if learnt else 1)
            ]
            seconds = statistics.median(took for took, _ in tries)
            rows.append(
                {
                    "what": what,
                    "learnt": learnt,
                    "seconds": seconds,
                    "envelopes": tries[0][1].envelopes,
                    "bytes": tries[0][1].bytes_,
                    "times_wnode": seconds / (WNODE_S * archive.facts["envelopes"]),
                }
            )
            tell(f"  {what}: {seconds:.2f} s")
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await server.aclose()
    return learning, rows


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    plan = replace(PLAN, traffic=replace(PLAN.traffic, seed=options.seed))
    archive = month(tiny(plan, 1) if options.tiny else plan, archives.directory, tell)
    _, cold = asyncio.run(serve(archive, learnt=False))
    learning, rows = asyncio.run(serve(archive, learnt=True))
    facts = {key: value for key, value in archive.facts.items() if key != "counts"}
    return {
        "archive": facts,
        "wnode_s": WNODE_S * facts["envelopes"],
        "learning_s": learning,
        "rss_max_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rows": cold + rows,
    }


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    facts = result["archive"]
    print(
        f"\n{facts['envelopes']:,} envelopes of {facts['topics']:,} topics, "
        f"{facts['bytes'] / 1e6:,.0f} MB; all topics learnt in {result['learning_s']:.1f} s; "
        f"at most {result['rss_max_bytes'] / 1e6:,.0f} MB of memory"
    )
    print(f"{'':28}{'found':>10}{'MB':>9}{'s':>9}{'× wnode':>9}")
    print(f"{'5 µs an envelope (baseline)':28}{'':>19}{result['wnode_s']:>9.3f}{1:>9.2f}")
    for row in result["rows"]:
        name = f"{row['what']}{'' if row['learnt'] else ', cold'}"
        print(
            f"{name:28}{row['envelopes']:>10,}{row['bytes'] / 1e6:>9.1f}"
            f"{row['seconds']:>9.3f}{row['times_wnode']:>9.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
