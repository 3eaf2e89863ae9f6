"""Whisper peers of a command: what they carry of some topics, and a way to send through them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Self

import click

from restante import __version__, limits
from restante.cli.printing import LIVE, printable
from restante.errors import Unavailable
from restante.formats.descriptor import Descriptor
from restante.networks.keccak import keccak256
from restante.networks.rlpx.enode import Enode
from restante.networks.whisper import bloom
from restante.networks.whisper.network import WhisperNetwork
from restante.node.clock import WallClock
from restante.rules.intake import judge
from restante.rules.query import Found, Query


class Live:
    """Some Whisper nodes, dialled under a fresh key that nobody will see again."""

    def __init__(self, peers: Sequence[Enode], d: Descriptor, query: Query | None = None) -> None:
        """`query` says which topics are of interest; without one nothing is listened to.

        In mode exact the peers are told these topics. Else they are asked for everything.
        """
        self._d = d
        self._query = query
        exact = query is not None and query.mode == "exact"
        self._clock = WallClock()
        self.network = WhisperNetwork(
            secrets.token_bytes(32),
            peers,
            self._clock,
            floor_millionths=d.pow_floor_millionths,
            client=f"restante/{__version__}",
            filter_=bloom.of_topics(query.topics) if query is not None and exact else None,
        )
        self._telling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.network.open()
        self._telling = asyncio.create_task(self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling
        await self.network.close()

    async def envelopes(self) -> AsyncIterator[Found]:
        """What comes of the query's topics and is valid now; its window is not known yet."""
        async for group in self.network.arrivals():
            verdicts = [judge(raw, arrival_ms, self._d, keccak256) for arrival_ms, raw in group]
            self.network.judged(verdicts)
            for arrival, verdict in zip(group, verdicts, strict=True):
                facts = verdict.facts
                if facts is not None and self._wanted(facts.topic):
                    yield Found(facts.sent_s, facts.id, facts.topic, LIVE, arrival.raw)

    def _wanted(self, topic: bytes) -> bool:
        query = self._query
        return query is not None and (query.mode == "all" or topic in query.topics)

    async def _tell(self) -> None:
        """Say on standard error when no peer is there, and when one is again."""
        silent = False
        while True:
            await asyncio.sleep(limits.LIVE_PATIENCE_S)
            if self.network.connected == silent:
                silent = not self.network.connected
                told = self.network.status()["static"]
                why = "; ".join(row["error"] for row in told if row["error"])
                what = f"no peer, trying on: {printable(why)}" if silent else "a peer is there"
                click.echo(what, err=True)

    # --- sending ----------------------------------------------------------------------------

    async def connect(self, *, most: float) -> float:
        """Wait for every peer, LIVE_CONNECT_S at the most; the highest PoW that one of them
        demands, those left out that want more than `most`: they are sent nothing.

        Raises Unavailable `no-peer` if there is none.
        """
        network = self.network
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.LIVE_CONNECT_S):
                while len(self._here()) < len(network.status()["static"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        here = self._here()
        if not here:
            why = "; ".join(row["error"] for row in network.status()["static"] if row["error"])
            raise Unavailable(
                f"no peer answers: {why or 'silence'}",
                code="no-peer",
                hint="is it running, and does it speak shh/6? `--peer` takes its enode",
            )
        demands = [float(row["pow"]) for row in here]
        for row in here:
            if row["pow"] > most:
                click.echo(f"{row['address']} demands PoW {row['pow']:g}: left out", err=True)
        return max((pow_ for pow_ in demands if pow_ <= most), default=0.0)

    async def send(self, raw: bytes) -> int:
        """Give an envelope to every peer that takes it; to how many it went out.

        Raises Unavailable `no-peer` when none is there any more.
        """
        before = {row["node_id"]: row["sent"] for row in self._here()}
        if not before:
            raise Unavailable("no Whisper peer is connected any more", code="no-peer")
        queued = self.network.send(raw)
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.LIVE_CONNECT_S):
                while self._out(before) < queued:  # noqa: ASYNC110 nothing tells it
                    await asyncio.sleep(0.02)
        return self._out(before)

    def _out(self, before: dict[str, int]) -> int:
        """How many peers were given something since, that has left this process."""
        return sum(
            row["sent"] != before.get(row["node_id"]) and row["backlog_bytes"] == 0
            for row in self._here()
        )

    def _here(self) -> list[dict[str, Any]]:
        return [row for row in self.network.peers() if row["left"] is None and row["ready"]]
