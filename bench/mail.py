"""A request for old mail over an archive of 200,000 envelopes, against a wnode's 5 µs for each.

    python bench/mail.py [--directory DIR] [--repeat N] [--json]

The mail server role as it runs in a node, with the archive of two days at 1.16 envelopes/s as its
folder; from the request's arrival to the 125 that ends its answer, given to a peer that takes
everything at once: links, which cost every server the same, are left out, and so is a wnode's own
sending. Everything handed out was verified in that time.

- *cold*: no topic is known, as after a first start; *learnt*: all are; they take turns, `--repeat`
  times, each with a server of its own, and every request is the first of its kind there. Printed
  are medians, least and most;
- a rare, a middling and the busiest topic by their filters, the rare one by its name; a page of
  1,000 of all topics, and all of it.

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
from typing import Any, NamedTuple

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


class Request(NamedTuple):
    """For all times: raw without limit and names, else structured."""

    what: str
    filter_: int
    limit: int | None = None
    named: tuple[bytes, ...] = ()


def encoded(asked: Request) -> bytes:
    """What a client sends."""
    filter_ = asked.filter_
    if asked.limit is None and not asked.named:
        content = bytes(8) + (b"" if filter_ == bloom.FULL else bloom.encode(filter_))
    else:
        number = rlp.encode_uint(asked.limit or 0)
        content = rlp.encode([b"", b"", bloom.encode(filter_), asked.named, number, b"", b""])
    data = crypt.encrypt_symmetric(content, KEY, sign_with=SIGNER)
    return whisper.assemble(2**31, 50, bytes(4), data, 0)


async def ask(server: MailServer, payload: bytes) -> tuple[float, Taker]:
    """(seconds, who got it) of one request."""
    peer = Taker()
    began = time.perf_counter()
    server.request(peer, payload)
    await peer.end
    return time.perf_counter() - began, peer


class Try(NamedTuple):
    """One request that was answered."""

    what: str
    learnt: bool
    seconds: float
    cpu_s: float
    envelopes: int
    bytes_: int


def requests_of(archive: Month) -> list[Request]:
    ranked = archive.plan.traffic.ranked
    rare = bloom.of_topics([ranked[-5]])
    return [
        Request("a rare topic", rare),
        Request("a rare topic, by name", rare, named=(ranked[-5],)),
        Request("a middling topic", bloom.of_topics([ranked[len(ranked) // 20]])),
        Request("the busiest topic", bloom.of_topics(ranked[:1])),
        Request("all topics, a page", bloom.FULL, 1000),
        Request("all topics, all", bloom.FULL),
    ]


async def serve(archive: Month, learnt: bool) -> tuple[float, list[Try]]:
    """Seconds of learning, and what each request took."""
    plan = archive.plan
    tries: list[Try] = []
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
        answering = asyncio.ensure_future(server.run())
        for asked in requests_of(archive):
            cpu_s = time.process_time()
            took, peer = await ask(server, encoded(asked))
            cpu_s = time.process_time() - cpu_s
            tries.append(Try(asked.what, learnt, took, cpu_s, peer.envelopes, peer.bytes_))
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await server.aclose()
    return learning, tries


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    plan = replace(PLAN, traffic=replace(PLAN.traffic, seed=options.seed))
    archive = month(tiny(plan, 1) if options.tiny else plan, archives.directory, tell)
    tries: list[Try] = []
    learning: list[float] = []
    for turn in range(options.repeat):
        for learnt in (False, True):
            took, found = asyncio.run(serve(archive, learnt))
            tries += found
            learning += [took] if learnt else []
        tell(f"  turn {turn + 1}: learnt in {learning[-1]:.1f} s")
    facts = {key: value for key, value in archive.facts.items() if key != "counts"}
    return {
        "archive": facts,
        "wnode_s": WNODE_S * facts["envelopes"],
        "learning_s": spread(learning),
        "rss_max_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rows": rows_of(tries, facts["envelopes"]),
    }


def rows_of(tries: list[Try], archived: int) -> list[dict[str, Any]]:
    """A row for each request, cold and learnt."""
    by_kind: dict[tuple[str, bool], list[Try]] = {}
    for one in tries:
        by_kind.setdefault((one.what, one.learnt), []).append(one)
    return [
        {
            "what": what,
            "learnt": learnt,
            "seconds": spread([one.seconds for one in found]),
            "cpu_s": spread([one.cpu_s for one in found]),
            "envelopes": found[0].envelopes,
            "bytes": found[0].bytes_,
            "times_wnode": statistics.median(one.seconds for one in found) / (WNODE_S * archived),
        }
        for (what, learnt), found in by_kind.items()
    ]


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def text(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} ({found['least']:.3f}–{found['most']:.3f})"


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    facts = result["archive"]
    print(
        f"\n{facts['envelopes']:,} envelopes of {facts['topics']:,} topics, "
        f"{facts['bytes'] / 1e6:,.0f} MB; all topics learnt in "
        f"{result['learning_s']['median']:.1f} s; "
        f"at most {result['rss_max_bytes'] / 1e6:,.0f} MB of memory"
    )
    print(f"{'':28}{'found':>10}{'MB':>9}{'s':>24}{'CPU s':>24}{'× wnode':>9}")
    print(f"{'5 µs an envelope (baseline)':28}{'':>19}{result['wnode_s']:>24.3f}{1:>33.2f}")
    for row in result["rows"]:
        name = f"{row['what']}{'' if row['learnt'] else ', cold'}"
        print(
            f"{name:28}{row['envelopes']:>10,}{row['bytes'] / 1e6:>9.1f}"
            f"{text(row['seconds']):>24}{text(row['cpu_s']):>24}{row['times_wnode']:>9.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="turns (3)")
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
