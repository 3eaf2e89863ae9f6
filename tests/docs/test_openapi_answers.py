"""What real nodes serve and answer is what docs/openapi.json says, as `up` puts them together."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Match, Route

from local_set import SpeedClock
from openapi_file import DOCUMENT, deref, misfits, template_of
from restante import limits
from restante.durable import no_hook
from restante.formats import car, whisper
from restante.formats import cid as cids
from restante.networks.whisper.mine import mine
from restante.node import run
from restante.node.clock import WallClock
from restante.node.config import load
from restante.node.home import Home
from restante.node.setup import create_node, create_outside
from restante.node.wire.http import Listener, build_app

PATHS: dict[str, Any] = DOCUMENT["paths"]
TYPE = "application/json"
ROLES = ("validator", "proposer", "gateway")

# What nodes ask of each other, and nothing that a client may rely on.
NODE_TO_NODE = {
    "/pool",
    "/bodies",
    "/proposals",
    "/proposals/bodies",
    "/accepts",
    "/certificates/{window}",
    "/cosignatures",
}
DENYLIST = "denylist"
FILES = [each for each, item in PATHS.items() if "archive" in item.get("get", {}).get("tags", ())]
EVERYTHING = "/{path:path}"
SAMPLES = {
    "/checkpoint": "/checkpoint",
    "/descriptor": "/descriptor",
    "/policy": "/policy",
    "/watch/{name}": "/watch/v1",
    "/contact/{name}": "/contact/v1",
    "/tile/{level}/{n}": "/tile/0/000.p/1",
    "/tile/entries/{n}": "/tile/entries/000.p/1",
    "/certificate/{n}": "/certificate/000.p/1",
    "/segment/{level}/{n}.car": "/segment/0/000.car",
    "/ipfs/{cid}": "/ipfs/bafkqaaa",
    "/ipfs/{cid}/{rest}": "/ipfs/bafkqaaa/a/b",
    "/envelopes": "/envelopes",
    "/health": "/health",
    "/readiness": "/readiness",
    "/metrics": "/metrics",
    "/status": "/status",
    "/peers": "/peers",
    "/windows": "/windows",
}
# Not brought about here. `http`, `head-timeout` and `busy` have a test of their own; the rest of
# 500 and 503 is damage and races.
UNSEEN = {"400", "408", "500", "503"}


@dataclass
class Nodes:
    """A validator with a gateway that reads its folder, a proposer with one that reads it over
    HTTP, and a mail server alone. `gateway` is the second, `beside` the first."""

    home: Home
    clock: SpeedClock
    apps: dict[str, Any]
    urls: dict[str, str]
    working: list[asyncio.Task[None]] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    size: int = 1
    """Of the log, once time stands still."""

    def sample(self, template: str) -> str:
        """A path that is served now: narrower partial files may be gone."""
        return SAMPLES[template].replace(".p/1", f".p/{self.size}")

    def routes(self, role: str) -> list[Route]:
        """The routes of a role's app."""
        app = self.apps[role]
        while not isinstance(app, Starlette):
            app = app._app
        assert all(isinstance(route, Route) for route in app.routes)
        return list(app.routes)

    async def send(
        self, role: str, method: str, target: str, *, address: str = "127.0.0.1", **more: Any
    ) -> httpx2.Response:
        """Ask a role's app, from an address."""
        transport = httpx2.ASGITransport(self.apps[role], client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.request(method, target, **more)

    async def ask(
        self, role: str, target: str, status: int, code: str | None = None, **more: Any
    ) -> httpx2.Response:
        """Ask, and hold the answer against the file. GET, but POST where there is a body."""
        method = "POST" if "content" in more else "GET"
        response = await self.send(role, method, target, **more)
        at = f"{role} {method} {target}"
        assert response.status_code == status, (
            f"{at}: {response.status_code} {response.content[:300]!r}"
        )
        template = template_of(target.partition("?")[0])
        if template is None:
            assert_answer(response, DOCUMENT["components"]["responses"]["NotFound"], at)
        else:
            assert role.replace("beside", "gateway") in PATHS[template]["x-roles"]
            described = PATHS[template][method.lower()]["responses"]
            assert str(status) in described, at
            assert_answer(response, deref(described[str(status)]), at)
            self.seen.add((template, method, str(status)))
        if status >= 400:
            assert response.headers["cache-control"] == "no-store", at
        if code is not None:
            assert response.json()["code"] == code, at
        if method == "GET":
            await self._same_by_head(role, target, response, more)
        return response

    async def _same_by_head(
        self, role: str, target: str, got: httpx2.Response, more: dict[str, Any]
    ) -> None:
        head = await self.send(role, "HEAD", target, **more)
        assert head.status_code == got.status_code
        assert head.content == b""
        for name in ("content-type", "cache-control", "content-range", "accept-ranges"):
            assert head.headers.get(name) == got.headers.get(name), (target, name)

    async def until(self, role: str, target: str) -> None:
        """Until something is served."""
        for _ in range(1_500):
            if (await self.send(role, "GET", target)).status_code == 200:
                return
            for node in self.working:
                if node.done():
                    node.result()
            await asyncio.sleep(0.02)
        state = (await self.send("validator", "GET", "/status")).text
        raise AssertionError(f"{role} never had {target}: {state}")

    async def stop_time(self) -> None:
        """Let no window end any more, and wait until all agree on the newest checkpoint."""
        assert self.clock._ticking is not None
        self.clock._ticking.cancel()
        for _ in range(1_500):
            roles = ("validator", "beside", "gateway")
            notes = {(await self.send(role, "GET", "/checkpoint")).content for role in roles}
            size = (await self.send("validator", "GET", "/status")).json()["size"]
            if len(notes) == 1 and int(notes.pop().split(b"\n")[1]) == size:
                self.size = size
                return
            await asyncio.sleep(0.02)
        raise AssertionError("no common checkpoint")


def assert_answer(response: httpx2.Response, described: dict[str, Any], at: str) -> None:
    """The answer's headers, type and body are as a response of the file says."""
    kinds = described.get("content", {})
    for name, each in described.get("headers", {}).items():
        header = deref(each)
        value = response.headers.get(name)
        if value is None:
            assert not header.get("required"), f"{at}: no {name}"
        else:
            assert not list(misfits(header["schema"], value, name)), f"{at}: {name}: {value}"
    if not kinds:
        assert response.content == b"", at
        return
    kind = response.headers["content-type"]
    assert kind in kinds, f"{at}: {kind}"
    if "x-max-bytes" in kinds[kind]:
        assert len(response.content) <= getattr(limits, kinds[kind]["x-max-bytes"]), at
    if kind == TYPE:
        wrong = list(misfits(kinds[kind]["schema"], json.loads(response.content)))
        assert not wrong, f"{at}: {wrong}"


Scenario = Callable[[Nodes], Awaitable[None]]


def with_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> None:
    """Run against real nodes, made and put together as `init` and `up` do."""
    apps: list[Any] = []
    build = run.build_app

    def recorded(*arguments: Any) -> Any:
        apps.append(build(*arguments))
        return apps[-1]

    monkeypatch.setattr(run, "build_app", recorded)
    monkeypatch.setattr(limits, "DENYLIST_LOOK_S", 0.0)
    monkeypatch.setattr(limits, "ENVELOPE_BURST", 5)
    monkeypatch.setattr(limits, "ENVELOPE_RATE_PER_S", 0.001)
    home, outside, mail = (Home(tmp_path / name) for name in "abc")
    any_port = {"listen.port": 0, "gateway.port": 0}
    create_node(home, "v1", {**any_port, "gateway.denylist": DENYLIST})
    (home.path / DENYLIST).touch()

    async def play() -> None:
        clock = SpeedClock(home.read_descriptor().genesis_s * 1000, 60)
        clock.start()
        monkeypatch.setattr(run.adapters, "open_clock", lambda config, home: clock)
        async with AsyncExitStack() as stack:
            first = await run.Node.open(home, load(home.config, {}), no_hook, stack)
            peers = {"v1": first.urls["validator"]}
            roles = ["proposer", "gateway"]
            create_outside(
                outside, home.path, "p1", {**any_port, "node.roles": roles, "peers": peers}
            )
            second = await run.Node.open(outside, load(outside.config, {}), no_hook, stack)
            values = {
                **any_port,
                "node.roles": ["mailserver"],
                "network.source": "whisper",
                "mailserver.sources": [str(home.archive)],
                "peers": peers,
            }
            create_outside(mail, home.path, "m1", values)
            third = await run.Node.open(mail, load(mail.config, {}), no_hook, stack)
            names = ["validator", "beside", "proposer", "gateway", "mailserver"]
            nodes = Nodes(home, clock, dict(zip(names, apps, strict=True)), first.urls)
            await nodes.ask("validator", "/checkpoint", 404, "not-found")
            for role in ("proposer", "beside"):
                await nodes.ask(role, "/readiness", 503)
            nodes.working += [asyncio.ensure_future(node.work()) for node in (first, second, third)]
            try:
                await scenario(nodes)
            finally:
                for each in nodes.working:
                    each.cancel()
                await asyncio.gather(*nodes.working, return_exceptions=True)

    asyncio.run(asyncio.wait_for(play(), 120))


# --- routes ---------------------------------------------------------------------------------------


def test_the_file_has_every_client_facing_route_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(nodes: Nodes) -> None:
        of_nodes: set[str] = set()
        for role in ROLES:
            there = {}
            for route in nodes.routes(role):
                path = route.path.replace(":path}", "}") if route.path != EVERYTHING else EVERYTHING
                if path in NODE_TO_NODE:
                    of_nodes.add(path)
                else:
                    there[path] = route
            for template, item in PATHS.items():
                assert_route(template, item, role, there)
            served = {template for template in PATHS if role in PATHS[template]["x-roles"]}
            assert set(there) - {EVERYTHING} <= served, f"{role} has what the file has not"
        assert of_nodes == NODE_TO_NODE, "a route of nodes is gone: take it off the list"
        assert not NODE_TO_NODE & set(PATHS)

    with_nodes(tmp_path, monkeypatch, scenario)


def assert_route(template: str, item: dict[str, Any], role: str, there: dict[str, Route]) -> None:
    """The role answers a path of the file with its methods, or has no such path."""
    sample = SAMPLES[template]
    assert template_of(sample) == template
    methods = {method.upper() for method in ("get", "post") if method in item}
    if "GET" in methods:
        methods.add("HEAD")
    # Starlette takes the first route that fits.
    scope = {"type": "http", "path": sample, "root_path": "", "method": min(methods)}
    taken = next((r.path for r in there.values() if r.matches(scope)[0] is Match.FULL), None)
    route = there.get(EVERYTHING if template in FILES else template)
    if role in item["x-roles"]:
        assert route is not None, f"{role} does not have {template}"
        assert (taken, route.methods) == (route.path, methods), template
    else:
        assert route is None, f"{role} has {template}"


# --- answers --------------------------------------------------------------------------------------

RANGED = [each for each in FILES if "206" in PATHS[each]["get"]["responses"]]
ABSENT = {
    "/watch/{name}": "/watch/v9",
    "/contact/{name}": "/contact/v9",
    "/tile/{level}/{n}": "/tile/7/000",
    "/tile/entries/{n}": "/tile/entries/900",
    "/certificate/{n}": "/certificate/900",
    "/segment/{level}/{n}.car": "/segment/0/x900/000.car",
}


def test_answers_are_as_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(nodes: Nodes) -> None:
        await nodes.until("gateway", "/segment/0/001.car")
        await nodes.stop_time()
        for role in ("validator", "gateway"):
            for template in FILES:
                await ask_for_file(nodes, role, template)
            await ask_for_blocks(nodes, role)
            await nodes.ask(role, "/nothing", 404, "not-found")
            await nodes.ask(role, "/tile/0/000.p/999", 404, "not-found")
            await refuse_other_methods(nodes, role)
        await hand_in(nodes)
        await ask_how_it_is(nodes)
        await ask_for_damage(nodes)
        await ask_for_what_is_withheld(nodes)
        documented = {
            (template, method.upper(), status)
            for template, item in PATHS.items()
            for method in ("get", "post")
            for status in item.get(method, {}).get("responses", ())
            if status not in UNSEEN
        }
        assert documented - nodes.seen == NOT_HERE

    with_nodes(tmp_path, monkeypatch, scenario)


# A node without its own descriptor or policy does not start.
NOT_HERE = {("/descriptor", "GET", "404"), ("/policy", "GET", "404")}


async def ask_for_file(nodes: Nodes, role: str, template: str) -> None:
    target = nodes.sample(template)
    whole = await nodes.ask(role, target, 200)
    assert whole.content
    known = {"If-None-Match": whole.headers["etag"]}
    await nodes.ask(role, target, 304, headers=known)
    if template in ABSENT:
        await nodes.ask(role, ABSENT[template], 404, "not-found")
    part = {"Range": "bytes=1-3"}
    if template not in RANGED:
        assert (await nodes.ask(role, target, 200, headers=part)).status_code == 200
        return
    assert (await nodes.ask(role, target, 206, headers=part)).content == whole.content[1:4]
    await nodes.ask(role, target, 416, "range", headers={"Range": "bytes=99999999-"})
    several = {"Range": "bytes=1-3,5-6"}
    assert (await nodes.ask(role, target, 200, headers=several)).content == whole.content


async def ask_for_blocks(nodes: Nodes, role: str) -> None:
    data = (await nodes.send(role, "GET", SAMPLES["/segment/{level}/{n}.car"])).content
    root, blocks = car.read(data)
    block = f"/ipfs/{cids.to_text(root)}"
    raw = await nodes.ask(role, f"{block}?format=raw", 200)
    assert raw.content == blocks[0][1]
    whole = await nodes.ask(role, f"{block}?format=car", 200)
    assert car.read(whole.content)[0] == root
    await nodes.ask(role, block, 200, headers={"Accept": "application/vnd.ipld.car"})
    await nodes.ask(role, "/ipfs/bafkqaaa?format=raw", 200)
    for form, answer in (("raw", raw), ("car", whole)):
        known = {"If-None-Match": answer.headers["etag"]}
        await nodes.ask(role, f"{block}?format={form}", 304, headers=known)
    part = {"Range": "bytes=0-3"}
    assert (await nodes.ask(role, f"{block}?format=raw", 206, headers=part)).content == raw.content[
        :4
    ]
    outside = {"Range": "bytes=99999999-"}
    await nodes.ask(role, f"{block}?format=raw", 416, "range", headers=outside)
    missing = cids.to_text(cids.cid_of(cids.RAW, b"nowhere"))
    await nodes.ask(role, f"/ipfs/{missing}?format=raw", 404, "not-found")
    await nodes.ask(role, "/ipfs/nonsense?format=raw", 400, "cid")
    await nodes.ask(role, f"{block}?format=car&dag-scope=x", 400, "parameter")
    await nodes.ask(role, f"{block}/a/b?format=raw", 400, "path")
    await nodes.ask(role, f"{block}/a/b", 406, "format")
    for form in ("", "?format=tar"):
        await nodes.ask(role, f"{block}{form}", 406, "format")


async def refuse_other_methods(nodes: Nodes, role: str) -> None:
    for template, item in PATHS.items():
        if "x-other-methods" not in item or role not in item["x-roles"]:
            continue
        for method in ("POST", "DELETE", "OPTIONS"):
            response = await nodes.send(role, method, SAMPLES[template])
            at = f"{role} {method} {template}"
            assert response.status_code == 405, at
            assert_answer(response, deref(item["x-other-methods"]), at)


async def hand_in(nodes: Nodes) -> None:
    now_s = nodes.clock.now_ms() // 1000
    fields = (now_s + 50, 50, b"abcd", b"data")
    raw = whisper.assemble(*fields, mine(*fields, 200_000))
    for role in ("validator", "proposer"):
        for _ in range(2):
            response = await nodes.ask(role, "/envelopes", 202, content=raw)
            id_ = sha256(raw).hexdigest()
            assert response.json() == {"id": id_, "peers": 0, "waits": False}
        await nodes.ask(role, "/envelopes", 422, "rlp-not-list", content=b"junk")
        large = bytes(nodes.home.read_descriptor().max_envelope_bytes + 1)
        await nodes.ask(role, "/envelopes", 413, "body-too-large", content=large)
        await nodes.ask(role, "/envelopes", 422, content=b"")
        await nodes.ask(role, "/envelopes", 429, "rate", content=raw)
    for role in ("gateway", "mailserver"):
        await nodes.ask(role, "/envelopes", 405, "method", content=raw)
    asked = {role: await nodes.send(role, "GET", "/envelopes") for role in ROLES}
    found = {role: response.status_code for role, response in asked.items()}
    assert found == {"validator": 404, "proposer": 405, "gateway": 404}


async def ask_how_it_is(nodes: Nodes) -> None:
    for role in ROLES:
        status = await nodes.ask(role, "/status", 200)
        well = not status.json()["reasons"]
        assert well, status.json()["reasons"]
        await nodes.ask(role, "/health", 200)
        await nodes.ask(role, "/readiness", 200)
        assert b"restante_" in (await nodes.ask(role, "/metrics", 200)).content
    for role in ("validator", "proposer"):
        nobody = {"enode": "", "peers": [], "static": []}
        assert (await nodes.ask(role, "/peers", 200)).json() == nobody
        await nodes.ask(role, "/peers", 403, "not-local", address="192.0.2.1")
    assert (await nodes.ask("mailserver", "/peers", 200)).json()["enode"].startswith("enode://")
    here = (await nodes.ask("mailserver", "/status", 200)).json()["network"]
    there = (await nodes.ask("mailserver", "/status", 200, address="192.0.2.1")).json()["network"]
    assert "static" in here
    assert set(here) - set(there) == {"static"}, "with whom it speaks is the operator's business"
    windows = (await nodes.ask("validator", "/windows?since=1", 200)).json()["windows"]
    assert windows[0]["window"] == 1
    await nodes.ask("validator", "/windows?since=x", 400, "parameter")


async def ask_for_damage(nodes: Nodes) -> None:
    """A gateway whose only source is damaged hands on nothing, and says whose fault it is."""
    spoilt = [each for each in FILES if "403" in PATHS[each]["get"]["responses"]]
    for template in spoilt:
        folder = (nodes.home.archive / nodes.sample(template).removeprefix("/")).parent
        files = [file for file in folder.rglob("*") if file.is_file()]
        whole = {file: file.read_bytes() for file in files}
        for file, data in whole.items():
            file.write_bytes(bytes(len(data)))
        try:
            await nodes.ask("beside", nodes.sample(template), 403)
        finally:
            for file, data in whole.items():
                file.write_bytes(data)
    assert (await nodes.ask("beside", "/health", 503)).json()["reasons"]
    await nodes.ask("beside", "/status", 200)


async def ask_for_what_is_withheld(nodes: Nodes) -> None:
    target = "/segment/0/001.car"
    root, _ = car.read((await nodes.ask("beside", target, 200)).content)
    (nodes.home.path / DENYLIST).write_text(cids.to_text(root) + "\n")
    await nodes.ask("beside", target, 410, "withheld")
    await nodes.ask("beside", f"/ipfs/{cids.to_text(root)}?format=raw", 410, "withheld")


# --- what the connection itself answers -----------------------------------------------------------


def test_the_connection_itself_answers_as_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        listener = Listener("127.0.0.1", 0)
        listener.listen()
        serving = asyncio.ensure_future(listener.serve(build_app([], WallClock())))

        async def talk(data: bytes) -> httpx2.Response:
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            writer.write(data)
            answer = await reader.read()
            writer.close()
            head, _, body = answer.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = [tuple(line.split(": ", 1)) for line in lines]
            return httpx2.Response(int(first.split()[1]), headers=headers, content=body)

        monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.05)
        answers = {"400": await talk(b"NONSENSE\r\n\r\n"), "408": await talk(b"GET / HT")}
        monkeypatch.setattr(limits, "HTTP_CONNECTIONS_PER_SOURCE", 0)
        answers["503"] = await talk(b"")
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()
        for status, answer in answers.items():
            assert str(answer.status_code) == status
            for template, item in PATHS.items():
                for method in {"get", "post"} & set(item):
                    described = item[method]["responses"]
                    assert_answer(answer, deref(described[status]), f"{template} {status}")

    asyncio.run(asyncio.wait_for(play(), 60))
