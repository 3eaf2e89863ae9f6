"""What the routes answer: reads as trustless gateways do, and a 4xx with a code for bad input."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_set import LocalSet, Party
from restante import limits
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.exchange import BodiesRequest, PoolPage, parse_bodies
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Certificate, Proposal, accept_statement
from restante.formats.paths import segment_path
from restante.formats.root import parse_root
from restante.rules.judge import build_batch
from restante.rules.window import Pace

Scenario = Callable[[LocalSet, Party, httpx2.AsyncClient], Awaitable[None]]
OUTSIDER = SigningKey("outsider", bytes([200]) * 32)


def with_one(tmp_path: Path, scenario: Scenario, *, decided: int | None = None) -> None:
    """Run against v1 of n = 1, after it has decided some windows with envelopes in them."""

    async def run() -> None:
        local = LocalSet.create(tmp_path, 1, pace=Pace(1_000, 1_000))
        party = local.open("v1")
        await asyncio.sleep(0.02)
        if decided is not None:
            for number in range(3):
                party.validating.hand_in(local.envelope(number))
            await local.decided(decided)
        async with local.client() as client:
            client.base_url = httpx2.URL("http://v1")
            await scenario(local, party, client)
        await local.close("v1")

    asyncio.run(asyncio.wait_for(run(), 60))


def assert_error(response: httpx2.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert set(response.json()) == {"code", "message", "hint"}
    assert response.json()["hint"]


def test_files_of_the_archive_have_types_and_cache_headers(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        expected = {
            "checkpoint": ("text/plain; charset=utf-8", "max-age=1"),
            "policy": ("text/plain; charset=utf-8", "immutable"),
            "descriptor": ("application/vnd.ipld.dag-cbor", "immutable"),
            "watch/v1": ("text/plain; charset=utf-8", "max-age=1"),
            "contact/v1": ("text/plain; charset=utf-8", "max-age=1"),
            "tile/0/000.p/1": ("application/octet-stream", "immutable"),
            "tile/entries/000.p/1": ("application/octet-stream", "immutable"),
            "certificate/000.p/1": ("application/octet-stream", "immutable"),
            "segment/0/000.car": ("application/vnd.ipld.car; version=1", "immutable"),
        }
        for path, (kind, cache) in expected.items():
            response = await client.get(f"/{path}")
            assert response.status_code == 200, path
            assert response.headers["content-type"] == kind
            assert cache in response.headers["cache-control"]
            assert int(response.headers["restante-time-ms"]) > 0
            again = {"If-None-Match": response.headers["etag"]}
            unchanged = await client.get(f"/{path}", headers=again)
            assert unchanged.status_code == 304
            head = await client.head(f"/{path}")
            assert head.status_code == 200
            assert head.content == b""
            assert int(head.headers["content-length"]) == len(response.content)
        for path in ("segment/0/999.car", "tile/9/000", "watch/v9", "../lock/lock.db", ".state/x"):
            assert (await client.get(f"/{path}")).status_code == 404
        assert (await client.get("/%2e%2e/lock/lock.db")).status_code == 404
        assert_error(await client.post("/checkpoint"), 405, "method")

    with_one(tmp_path, scenario, decided=0)


def test_ranges_of_a_segment(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        url = "/segment/0/000.car"
        whole = (await client.get(url)).content
        size = len(whole)

        async def ranged(value: str) -> httpx2.Response:
            return await client.get(url, headers={"Range": value})

        for value, start, stop in (
            ("bytes=0-9", 0, 10),
            ("bytes=10-", 10, size),
            ("bytes=-7", size - 7, size),
            (f"bytes=5-{size + 100}", 5, size),
            (f"bytes=-{size + 100}", 0, size),
        ):
            response = await ranged(value)
            assert response.status_code == 206
            assert response.content == whole[start:stop]
            assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert_error(await ranged(f"bytes={size}-"), 416, "range")
        for ignored in ("bytes=9-2", "bytes=a-b", "bytes=", "lines=1-2", "bytes=0-1,3-4"):
            response = await ranged(ignored)
            assert (response.status_code, response.content) == (200, whole)

    with_one(tmp_path, scenario, decided=0)


def test_blocks_by_cid(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        data = party.state.archive.segment(0)[0]
        root, blocks = car.read(data)
        text = cids.to_text(root)
        raw = await client.get(f"/ipfs/{text}?format=raw")
        assert raw.content == blocks[0][1]
        assert raw.headers["content-type"] == "application/vnd.ipld.raw"
        assert raw.headers["etag"] == f'"{text}.raw"'
        assert raw.headers["cache-control"] == "public, max-age=29030400, immutable"
        accept = {"Accept": "application/vnd.ipld.raw"}
        assert (await client.get(f"/ipfs/{text}", headers=accept)).content == raw.content
        assert (
            await client.get(f"/ipfs/{text}?format=raw", headers={"Range": "bytes=0-3"})
        ).content == raw.content[:4]
        whole = await client.get(f"/ipfs/{text}?format=car")
        assert car.read(whole.content) == (root, blocks)
        assert whole.headers["content-type"].startswith("application/vnd.ipld.car")
        alone = await client.get(f"/ipfs/{text}?format=car&dag-scope=block")
        assert car.read(alone.content) == (root, blocks[:1])
        # As Kubo's trustless gateway: facts of item 17.
        assert (await client.get("/ipfs/bafkqaaa?format=raw")).content == b""
        assert (await client.head("/ipfs/bafkqaaa?format=raw")).status_code == 200
        missing = cids.to_text(cids.cid_of(cids.RAW, b"nowhere"))
        assert_error(await client.get(f"/ipfs/{missing}?format=raw"), 404, "not-found")
        assert_error(await client.get(f"/ipfs/{missing}?format=car"), 404, "not-found")
        assert_error(await client.get("/ipfs/nonsense?format=raw"), 400, "cid")
        assert_error(await client.get(f"/ipfs/{text}"), 406, "format")
        assert_error(await client.get(f"/ipfs/{text}?format=tar"), 406, "format")
        assert_error(await client.get(f"/ipfs/{text}/a?format=raw"), 400, "path")
        assert_error(await client.post(f"/ipfs/{text}?format=raw"), 405, "method")
        unchanged = {"If-None-Match": f'"{text}.raw"'}
        assert (await client.get(f"/ipfs/{text}?format=raw", headers=unchanged)).status_code == 304
        there_not = {"If-None-Match": f'"{missing}.raw"'}
        response = await client.get(f"/ipfs/{missing}?format=raw", headers=there_not)
        assert response.status_code == 404

    with_one(tmp_path, scenario, decided=0)


def test_pool_and_bodies(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        raws = [local.envelope(number) for number in range(5)]
        for raw in raws:
            response = await client.post("/envelopes", content=raw)
            handed = {"id": sha256(raw).hexdigest(), "peers": 1, "waits": False}
            assert (response.status_code, response.json()) == (202, handed)
        page = PoolPage.parse((await client.get("/pool?after=1&limit=2")).content)
        assert page.ids == tuple(sha256(raw).digest() for raw in raws[1:3])
        assert (page.after, page.next) == (1, 3)
        wanted = BodiesRequest((page.ids[1], b"\0" * 32, page.ids[0]))
        found = parse_bodies((await client.post("/bodies", content=wanted.encode())).content)
        assert found == [raws[2], raws[1]]
        beyond = PoolPage.parse((await client.get("/pool?after=900")).content)
        assert (beyond.ids, beyond.next) == ((), 900)

    with_one(tmp_path, scenario)


def proposal(local: LocalSet, party: Party, raws: list[bytes], **changes: Any) -> Proposal:
    """A proposal of these envelopes for the window to decide, as an outsider makes it."""
    machine = party.node.machine
    for raw in raws:
        party.validating.hand_in(raw)
    rows = [row for raw in raws if (row := machine.index.get(sha256(raw).digest()))]
    segment = build_batch(local.descriptor, machine.base.window, rows, party.state.body)
    fields: dict[str, Any] = {
        "set_id": local.descriptor.set_id,
        "window": machine.base.window,
        "base_size": machine.base.size,
        "base_root": machine.base.root,
        "cid": segment.root_cid,
        "count": segment.count,
        "size_bytes": segment.bytes_,
        "ids": tuple(row.id for row in rows),
        **changes,
    }
    return Proposal.make(changes.pop("key", OUTSIDER), **fields)


def state_of(party: Party) -> tuple[Any, ...]:
    """What must not change by bad input."""
    lock = party.state.lock
    return (
        party.state.pool.size,
        lock.size(),
        lock.accepts(party.node.machine.base.window),
        party.node.machine.engine_slot,
        lock.peer_cosignatures(),
    )


def test_bad_input_answers_a_code_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        d = local.descriptor
        good = proposal(local, party, [local.envelope(50)])
        before = state_of(party)
        data = good.encode()
        altered = data[:-1] + bytes([data[-1] ^ 1])
        other = SigningKey("other", bytes([201]) * 32)
        elsewhere = Proposal.make(
            other, set_id=b"x" * 32, window=0, base_size=0, base_root=b"r" * 32, cid=good.cid,
            count=0, size_bytes=0,
        )  # fmt: skip
        far = d.window_of(local.clock.now_ms()) + 1000
        cases = [
            ("/proposals", b"", 400, "encoding"),
            ("/proposals", b"\xa0", 400, "encoding"),
            ("/proposals", data[:-5], 400, "encoding"),
            ("/proposals", data + b"\0", 400, "encoding"),
            ("/proposals", altered, 403, "signature"),
            ("/proposals", elsewhere.encode(), 404, "unknown-set"),
            ("/proposals", proposal(local, party, [], window=far).encode(), 422, "future-window"),
            ("/proposals", b"\0" * (2 * 32 * d.batch_max_envelopes + 5000), 413, "body-too-large"),
            ("/bodies", b"junk", 400, "encoding"),
            ("/bodies", b"\0" * (32 * limits.BODIES_IDS + 5000), 413, "body-too-large"),
            ("/accepts", b"junk", 400, "encoding"),
            ("/accepts", b"\0" * 5000, 413, "body-too-large"),
            ("/envelopes", b"junk", 422, "rlp-not-list"),
            ("/envelopes", b"\0" * (d.max_envelope_bytes + 1), 413, "body-too-large"),
            ("/envelopes", local.envelope(1, sent_s=1_400_000_000), 422, "very-old"),
            ("/proposals/bodies?key=00&cid=00", b"", 400, "encoding"),
            (f"/proposals/bodies?key={'00' * 32}&cid={'00' * 36}", b"", 400, "encoding"),
        ]
        for path, body, status, code in cases:
            response = await client.post(path, content=body)
            assert_error(response, status, code)
        for path in ("/pool?after=x", "/pool?limit=-1", "/certificates/x", "/windows?since=-"):
            assert_error(await client.get(path), 400, "parameter")
        assert_error(await client.get("/certificates/999"), 404, "not-found")
        assert state_of(party) == before

    with_one(tmp_path, scenario, decided=0)


def test_certificates_that_are_wrong_decided_or_far_are_refused(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        d, base = local.descriptor, party.node.machine.base
        cid = cids.cid_of(cids.DAG_CBOR, b"anything")

        def certificate(window: int, key: SigningKey, key_id: bytes) -> bytes:
            statement = accept_statement(d.set_id, window, base.size, base.root, cid)
            accepts = ((key_id, key.sign(statement)),)
            return Certificate(d.set_id, window, base.size, base.root, cid, accepts).encode()

        own = local.keys[0]
        own_id = own.vkey().key_id
        stranger = SigningKey("v1", bytes([66]) * 32)
        now = base.window
        before = state_of(party)
        for data, status, code in (
            (certificate(now, stranger, own_id), 403, "signature"),
            (certificate(now, stranger, stranger.vkey().key_id), 403, "quorum"),
            (certificate(0, own, own_id), 409, "decided"),
            (certificate(now + 500, own, own_id), 422, "future-window"),
        ):
            assert_error(await client.post("/accepts", content=data), status, code)
        assert state_of(party) == before
        stored = (await client.get("/certificates/0")).content
        Certificate.parse(stored, d.set_id).verify(d)
        # A replay of what was decided changes nothing either.
        assert_error(await client.post("/accepts", content=stored), 409, "decided")

    with_one(tmp_path, scenario, decided=0)


def test_an_outsiders_proposal_is_answered_with_dag_cbor(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        p = proposal(local, party, [local.envelope(9)])
        early = await client.post("/proposals", content=p.encode())
        assert early.headers["content-type"] == "application/vnd.ipld.dag-cbor"
        answer = Answer.parse(early.content)
        assert answer.kind == "not-yet"
        d = local.descriptor
        await local.until(lambda: local.clock.now_ms() > d.end_ms(p.window))
        answer = Answer.parse((await client.post("/proposals", content=p.encode())).content)
        assert answer.kind in ("accept", "conflict")
        # Bodies without a proposal that needs them.
        path = f"/proposals/bodies?key={OUTSIDER.public_key.hex()}&cid={(p.cid[:-1] + b'x').hex()}"
        assert Answer.parse((await client.post(path, content=b"")).content).kind == "resend"

    with_one(tmp_path, scenario)


def test_a_replay_of_a_proposal_decided_long_ago_is_refused(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        machine = party.node.machine
        old = proposal(local, party, [], window=machine.base.window - 2)
        last = proposal(local, party, [], window=machine.base.window - 1)
        before = state_of(party)
        assert_error(await client.post("/proposals", content=old.encode()), 409, "decided")
        answer = Answer.parse((await client.post("/proposals", content=last.encode())).content)
        assert answer.kind == "conflict"
        assert state_of(party) == before

    with_one(tmp_path, scenario, decided=1)


def test_a_body_that_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_DEADLINE_S", 0.1)

    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        from starlette.requests import Request

        from restante.node.wire.http import RequestRefused, read_body

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.03)
            return {"type": "http.request", "body": b"x", "more_body": True}

        scope = {"type": "http", "method": "POST", "headers": [], "path": "/", "query_string": b""}
        with pytest.raises(RequestRefused) as raised:
            await read_body(Request(scope, receive), 1_000_000)
        assert (raised.value.status, raised.value.code) == (408, "body-timeout")

    with_one(tmp_path, scenario)


def test_status_and_health_say_what_is_wrong(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        assert (await client.get("/health")).json() == {"ok": True, "reasons": []}
        status = (await client.get("/status")).json()
        assert status["cosigned"] == status["size"] >= 1
        assert status["published"] == status["size"]
        assert status["pool"]["envelopes"] == 3
        party.network.connected = False
        assert (await client.get("/status")).json()["connected"] is False
        # What is not decided in time is a reason.
        party.node.machine.halted = __import__("restante.rules.actions", fromlist=["Halt"]).Halt(
            "split-tree", "for the test"
        )
        response = await client.get("/health")
        assert response.status_code == 503
        assert response.json()["reasons"][0]["code"] == "split-tree"

    with_one(tmp_path, scenario, decided=0)


def test_the_segment_path_is_that_of_the_root(tmp_path: Path) -> None:
    async def scenario(local: LocalSet, party: Party, client: httpx2.AsyncClient) -> None:
        data = (await client.get(f"/{segment_path(0, 0)}")).content
        root, blocks = car.read(data)
        assert parse_root(blocks[0][1]).first_window == 0
        assert party.state.lock.decision(0).cid == root  # type: ignore[union-attr]

    with_one(tmp_path, scenario, decided=0)
