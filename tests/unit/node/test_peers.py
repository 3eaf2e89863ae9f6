"""A peer answers what was asked for, or nothing: no answer of its brings this node down."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_set import LocalSet, id_of, opened
from restante import limits
from restante.errors import Unavailable
from restante.formats.exchange import CosignatureReport, PoolPage, ReportItem, encode_bodies
from restante.formats.message import Answer
from restante.node.wire.peers import Peers
from restante.rules.window import Pace

Reply = Callable[[httpx2.Request], httpx2.Response]


def peers_that(tmp_path: Path, reply: Reply) -> Peers:
    local = LocalSet.create(tmp_path, 4)
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(reply))
    urls = {"v2": "http://v2", "v3": "http://v3", "v4": "http://v4"}
    return Peers(local.descriptor, urls, client, local.clock)


def content(data: bytes, status: int = 200, **headers: str) -> Reply:
    def reply(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(data))

    return reply


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (content(b"junk"), "peer-nonsense"),
        (content(b""), "peer-nonsense"),
        (content(bytes(limits.ANSWER_BYTES + 1)), "peer-refused"),
        (content(b"", 404), "not-found"),
        (content(b"", 302, location="http://elsewhere"), "peer-refused"),
        (content(b"", 429), "peer-refused"),
        (content(b"", 503), "peer-failing"),
        (content(Answer.resend().encode()), "peer-nonsense"),
    ],
)
def test_nonsense_is_unavailable(tmp_path: Path, reply: Reply, code: str) -> None:
    async def scenario() -> None:
        peers = peers_that(tmp_path, reply)
        for ask in (peers.pool("v2", 0), peers.cosignatures("v2")):
            with pytest.raises(Unavailable) as raised:
                await ask
            assert raised.value.code == code

    asyncio.run(scenario())


def test_who_is_down_says_nothing_of_the_time(tmp_path: Path) -> None:
    up = True

    def reply(request: httpx2.Request) -> httpx2.Response:
        if not up:
            raise httpx2.ConnectError("down", request=request)
        report = CosignatureReport(()).encode()
        headers = {"Restante-Time-Ms": "99999999999999"}
        return httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(report))

    async def scenario() -> None:
        nonlocal up
        peers = peers_that(tmp_path, reply)
        for name in peers.names:
            await peers.cosignatures(name)
        assert not peers.offsets.trusted
        up = False
        for name in peers.names:
            with pytest.raises(Unavailable) as raised:
                await peers.cosignatures(name)
            assert raised.value.code == "peer-unreachable"
        assert peers.offsets.trusted

    asyncio.run(scenario())


@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "9" * 40, "²"])
def test_a_strange_time_is_passed_over(tmp_path: Path, stamp: str) -> None:
    async def scenario() -> None:
        headers: dict[str, Any] = {"Restante-Time-Ms": stamp.encode()}
        peers = peers_that(tmp_path, content(CosignatureReport(()).encode(), **headers))
        await peers.cosignatures("v2")
        assert peers.offsets.median() is None

    asyncio.run(scenario())


def test_a_slow_peer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_DEADLINE_S", 0.05)

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4)

        class Slow(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                await asyncio.sleep(5)
                raise AssertionError("never reached")

        client = httpx2.AsyncClient(transport=Slow())
        peers = Peers(local.descriptor, {"v2": "http://v2"}, client, local.clock)
        with pytest.raises(Unavailable):
            await peers.cosignatures("v2")

    asyncio.run(scenario())


def test_bodies_are_asked_for_until_nothing_new_comes(tmp_path: Path) -> None:
    requests = 0
    raws = [b"one", b"two", b"three"]

    def reply(request: httpx2.Request) -> httpx2.Response:
        nonlocal requests
        requests += 1
        data = encode_bodies([raws[min(requests, 3) - 1], b"not asked for"])
        return httpx2.Response(200, stream=httpx2.ByteStream(data))

    async def scenario() -> None:
        peers = peers_that(tmp_path, reply)
        found = await peers.bodies("v2", [id_of(raw) for raw in [*raws, b"nobody has it"]])
        assert found == raws
        assert requests == 4

    asyncio.run(scenario())


def test_a_pool_page_from_elsewhere_is_nonsense(tmp_path: Path) -> None:
    page = PoolPage(b"p" * 16, 0, 7, (), 7, None, 0).encode()

    async def scenario() -> None:
        peers = peers_that(tmp_path, content(page))
        assert (await peers.pool("v2", 7)).next == 7
        with pytest.raises(Unavailable):
            await peers.pool("v2", 3)

    asyncio.run(scenario())


def test_a_wrong_or_damaged_segment_is_never_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        async with opened(local):
            local.parties["v1"].network.bring(local.envelope(1))
            await local.decided(1)
            peers = local.parties["v2"].node.peers
            one, other = (local.parties["v1"].state.lock.decision(w) for w in (0, 1))
            assert one is not None
            assert other is not None
            contents = await peers.segment("v1", 0, one.cid)
            assert contents.segment.root_cid == one.cid
            with pytest.raises(Unavailable, match="another segment"):
                await peers.segment("v1", 0, other.cid)
            path = tmp_path / "v1" / "archive" / "segment" / "0" / "000.car"
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            with pytest.raises(Unavailable):
                await peers.segment("v1", 0, one.cid)
            # From whoever has it.
            segment, _ = await local.parties["v2"].validating._fetch(0, one.cid)
            assert segment.root_cid == one.cid

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_cosignatures_that_do_not_verify_are_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4)
        party = local.open("v1", run=False)
        gathered = party.validating.cosignatures
        root = b"r" * 32

        def item(key: Any, size: int, sign: Any = None) -> ReportItem:
            from restante.formats.checkpoint import Checkpoint

            text = Checkpoint(local.descriptor.origin, size, root).text()
            value = (sign or key).cosignature(text, 1_800_000_000).value
            return ReportItem(key.vkey().key_id, size, root, value)

        v1, v2, v3, _ = local.keys
        stranger = type(v1)("x", bytes([55]) * 32)

        def report(*items: ReportItem) -> CosignatureReport:
            return CosignatureReport(tuple(sorted(items, key=lambda each: each.key_id)))

        gathered.take(report(item(v2, 5), item(v3, 9, v2), item(stranger, 5), item(v1, 50)))
        known = {i.key_id: i.size for i in gathered.report().items}
        assert known == {v2.vkey().key_id: 5}, "nobody tells us what we signed ourselves"
        gathered.take(report(item(v2, 4)))
        assert {i.size for i in gathered.report().items} == {5}, "never back"
        await local.close("v1")
        # Durable: it is what v2 will be told at its start.
        party = local.open("v1", run=False)
        assert party.validating.cosignatures.report().of_key(v2.vkey().key_id) is not None
        await local.close("v1")

    asyncio.run(scenario())


def test_a_checkpoint_is_published_once_k_have_cosigned(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        async with opened(local):
            await local.decided(0)
            gathered = local.parties["v1"].validating.cosignatures
            await local.until(lambda: gathered.published_size >= 1)
            note = local.parties["v1"].state.archive.read("checkpoint")
            verified = local.policy.verify_checkpoint(note)
            assert len(verified.cosigners) >= 3
            # Cut off from all others, the newest that k signed stays published.
            local.router.down |= {"v1", "v2", "v3", "v4"}
            before = gathered.published_size
            await asyncio.sleep(0.5)
            note = local.parties["v1"].state.archive.read("checkpoint")
            assert local.policy.verify_checkpoint(note).size >= before

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_retention_gives_old_windows_up_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETENTION_EVERY", 1)

    async def scenario() -> None:
        # What counts for *new* stays: K = 4 windows.
        local = LocalSet.create(
            tmp_path,
            1,
            pace=Pace(500, 500),
            speed=120,
            parameters={"ttl_max_s": 1, "slack_s": 80},
        )
        party = local.open("v1")
        party.validating._retained = 2
        archive = party.state.archive
        await local.decided(7)
        await local.until(lambda: archive.floor >= 3)
        assert archive.floor <= archive.stop - 4
        await local.until(lambda: not archive.has_segment(0))
        assert archive.has_segment(archive.size - 1)
        await local.close("v1")

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_lost_segments_come_back_from_the_peers(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        async with opened(local):
            local.parties["v1"].network.bring(local.envelope(1))
            await local.decided(2)
            peers = local.parties["v1"].node.peers
            await local.close("v1")
            path = tmp_path / "v1" / "archive" / "segment" / "0" / "000.car"
            data = path.read_bytes()
            path.unlink()
            from restante.node.durable.refill import make_refill
            from restante.node.durable.state import State
            from restante.node.home import Home

            key = local.keys[0].vkey()
            state = State.open(Home(tmp_path / "v1"), local.descriptor, key, [])
            assert state.missing_recent() == [0]
            await make_refill(local.descriptor, local.policy, state, peers, []).recent()
            assert path.read_bytes() == data
            state.close()
            local.open("v1")
            await local.decided(3)

    asyncio.run(asyncio.wait_for(scenario(), 60))
