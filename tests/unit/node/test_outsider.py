"""A proposer that is no validator: follows the verified log, proposes after the grace, amends."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_set import FakeNetwork, LocalSet, id_of, keccak, opened
from restante.errors import VerificationFailed
from restante.formats import tiles
from restante.formats.keys import SigningKey
from restante.node.durable.pool import Pool
from restante.node.proposer.follower import Follower
from restante.node.proposer.outsider import Outsider
from restante.node.wire.peers import Peers
from restante.rules.window import Pace

PACE = Pace(grace_ms=3_000, step_ms=60_000)


def outsider(local: LocalSet, root: Path) -> tuple[Outsider, FakeNetwork, Pool]:
    pool = Pool.create(root / "proposer-pool", b"o" * 16, b"s" * 16)
    urls = {v.name: f"http://{v.name}" for v in local.descriptor.validators}
    peers = Peers(local.descriptor, urls, local.client("127.0.0.9"), local.clock)
    key = SigningKey("p", bytes([77]) * 32)
    made = Outsider(local.descriptor, key, local.policy, pool, local.clock, peers, keccak, PACE)
    return made, FakeNetwork(local.clock), pool


def test_it_brings_what_it_alone_has_and_takes_what_it_lacks(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=PACE)
        async with opened(local):
            proposer, network, pool = outsider(local, tmp_path)
            working = asyncio.ensure_future(proposer.run(network))
            mine, theirs = local.envelope(1), local.envelope(2)
            network.bring(mine)
            for name in ("v2", "v3"):  # f + 1 of them: it may not be left out (I1)
                local.parties[name].network.bring(theirs)
            await local.decided(0)
            # Long before the validators' own turns: the step is a minute.
            record = local.parties["v1"].node.journal.since(0)[0]
            assert record["decided_ms"] < local.descriptor.end_ms(0) + 30_000
            assert local.members("v3", 0) == {id_of(mine), id_of(theirs)}
            assert proposer.certified == 1
            await local.until(lambda: proposer.base is not None and proposer.base.size > 0)
            assert proposer.base is not None
            assert not proposer.base.is_new(id_of(mine))
            status = proposer.status()
            assert (status["decided"], status["reasons"]) == (0, [])
            await local.decided(1)
            assert local.members("v3", 1) == set(), "nothing twice"
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_it_starts_from_the_tiles_of_a_log_that_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        async with opened(local):
            raw = local.envelope(1)
            local.parties["v1"].network.bring(raw)
            await local.decided(3)
            proposer, network, pool = outsider(local, tmp_path)
            working = asyncio.ensure_future(proposer.run(network))
            await local.until(lambda: proposer.base is not None)
            assert proposer.base is not None
            assert proposer.base.size >= 3
            assert proposer.base.root == local.parties["v1"].state.archive.root(proposer.base.size)
            assert not proposer.base.is_new(id_of(raw))
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_entries_that_do_not_lead_to_the_checkpoint_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        async with opened(local):
            local.parties["v1"].network.bring(local.envelope(1))
            published = [p.validating.cosignatures for p in local.parties.values()]
            await local.until(lambda: all(each.published_size > 1 for each in published))
            urls = {v.name: f"http://{v.name}" for v in local.descriptor.validators}
            client = httpx2.AsyncClient(transport=Lying(local.router, _other_entries))
            peers = Peers(local.descriptor, urls, client, local.clock)
            follower = Follower(local.descriptor, local.policy, peers, lambda cid: None)
            from restante.rules.base import Base

            base = Base(local.descriptor)
            with pytest.raises(VerificationFailed):
                await follower.advance(base)
            assert base.size == 0

    asyncio.run(asyncio.wait_for(scenario(), 60))


class Lying(httpx2.AsyncBaseTransport):
    """Changes what the router's apps answer."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, change: Callable[[str, bytes], bytes]
    ) -> None:
        self._inner = inner
        self._change = change

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        data = self._change(request.url.path, await response.aread())
        kept: dict[str, Any] = {"Restante-Time-Ms": response.headers["Restante-Time-Ms"]}
        return httpx2.Response(response.status_code, headers=kept, stream=httpx2.ByteStream(data))


def _other_entries(path: str, data: bytes) -> bytes:
    if not path.startswith("/tile/entries/"):
        return data
    width = int(path.rpartition("/")[2])
    found = tiles.decode_bundle(data, width)
    return tiles.encode_bundle([found[0], *[found[0]] * (width - 1)])
