"""Behind a trusted proxy each client counts for itself; nobody else can say who he is."""

import asyncio
from collections.abc import Sequence

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante import limits
from restante.errors import ConfigError
from restante.node.clock import WallClock
from restante.node.wire.connections import Connection, Connections
from restante.node.wire.http import Listener, build_app
from restante.node.wire.proxies import Forwarded, Proxies
from restante.node.wire.routes_network import HandedIn
from restante.node.wire.routes_node import common_routes

PROXIES = Proxies(["127.0.0.1", "10.0.0.0/24", "fd00::/64"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "198.51.100.1, 192.0.2.7", "192.0.2.7"),  # the first is the client's word
        ("127.0.0.1", "192.0.2.7, 10.0.0.9", "192.0.2.7"),  # two proxies
        ("127.0.0.1", "10.0.0.8, 10.0.0.9", "10.0.0.8"),  # a proxy asks by itself
        ("127.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "2001:DB8::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("fd00::5", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7, unknown", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7, ", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7, nonsense, 10.0.0.9", "10.0.0.9"),
        ("127.0.0.1", "x" * 60_000, "127.0.0.1"),
        # Nobody else is believed.
        ("192.0.2.1", "192.0.2.7", "192.0.2.1"),
        ("10.0.1.1", "192.0.2.7", "10.0.1.1"),
        ("fd00:0:0:1::5", "192.0.2.7", "fd00:0:0:1::5"),
        ("testclient", "192.0.2.7", "testclient"),
    ],
)
def test_who_asks(peer: str, forwarded: str, client: str) -> None:
    assert PROXIES.client_of(peer, forwarded) == client


def test_without_proxies_the_header_says_nothing() -> None:
    assert Proxies().client_of("127.0.0.1", "192.0.2.7") == "127.0.0.1"


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.1/24", "0.0.0.0/0", "::/0", "", "*"])
def test_what_is_no_proxy_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Proxies([wrong])
    assert raised.value.code == "proxies"
    assert raised.value.hint


def client(app: object, peer: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, client=(peer, 1))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://node")


def test_each_client_behind_a_proxy_has_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENVELOPE_BURST", 1)
    monkeypatch.setattr(limits, "ENVELOPE_RATE_PER_S", 0.001)
    app = Forwarded(
        build_app(common_routes(dict, lambda raw: HandedIn(raw, 0), 10), WallClock()), PROXIES
    )

    async def statuses(peer: str, clients: Sequence[str]) -> list[int]:
        async with client(app, peer) as asking:
            return [
                (
                    await asking.post("/envelopes", content=b"x", headers={"X-Forwarded-For": who})
                ).status_code
                for who in clients
            ]

    async def scenario() -> None:
        assert await statuses("127.0.0.1", ["192.0.2.1", "192.0.2.2", "192.0.2.1"]) == [
            202,
            202,
            429,
        ]
        # A client that writes a header of its own is still itself: the proxy appends its address.
        forged = ["198.51.100.9, 192.0.2.2", "198.51.100.8, 192.0.2.2"]
        assert await statuses("127.0.0.1", forged) == [429, 429]
        # And whoever comes directly counts once, whatever he writes.
        assert await statuses("203.0.113.5", ["192.0.2.9", "192.0.2.10"]) == [202, 429]

    asyncio.run(scenario())


def test_two_header_lines_are_one_list() -> None:
    """HAProxy adds a line of its own after the client's."""
    seen: list[str] = []

    async def show(request: Request) -> Response:
        assert request.client is not None
        seen.append(request.client.host)
        return Response()

    app = Forwarded(build_app([Route("/", show)], WallClock()), PROXIES)

    async def scenario() -> None:
        async with client(app, "127.0.0.1") as asking:
            lines = [("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-For", "192.0.2.7")]
            await asking.get("/", headers=lines)
            await asking.get("/")

    asyncio.run(scenario())
    assert seen == ["192.0.2.7", "127.0.0.1"]


class Held:
    """What `admit` reads of a connection."""

    def __init__(self, source: str, proxied: bool) -> None:
        self.source, self.proxied, self.rank, self.since_s = source, proxied, None, 0.0


def test_trusted_proxies_have_half_of_the_connections_and_peers_the_rest() -> None:
    connections = Connections(PROXIES)

    def admitted(count: int, source: str, proxied: bool) -> int:
        made = [Held(source, proxied) for _ in range(count)]
        return sum(connections.admit(each) for each in made)  # type: ignore[arg-type]

    assert admitted(limits.HTTP_CONNECTIONS, "127.0.0.1", True) == limits.HTTP_CONNECTIONS_PROXIED
    assert admitted(1, "10.0.0.9", True) == 0, "all proxies together"
    each = limits.HTTP_CONNECTIONS_PER_SOURCE
    assert admitted(2 * each, "192.0.2.1", False) == each
    assert admitted(2 * each, "192.0.2.2", False) == each


def test_over_a_real_connection() -> None:
    """The listener knows its own connections' peers, and asks for whom they come."""
    seen: list[tuple[str, bool]] = []

    async def show(request: Request) -> Response:
        assert request.client is not None
        seen.append((request.client.host, any(c.proxied for c in held())))
        return Response()

    def held() -> list[Connection]:
        server = listener._server
        assert server is not None
        config = server.config
        return list(config.connections._held)  # type: ignore[attr-defined]

    async def scenario(proxies: Proxies) -> None:
        nonlocal listener
        listener = Listener("127.0.0.1", 0, proxies)
        listener.listen()
        task = asyncio.ensure_future(listener.serve(build_app([Route("/", show)], WallClock())))
        async with httpx2.AsyncClient(trust_env=False) as asking:
            await asking.get(f"{listener.url}/", headers={"X-Forwarded-For": "192.0.2.7"})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()

    listener = Listener("127.0.0.1", 0)
    listener.close()
    asyncio.run(scenario(PROXIES))
    asyncio.run(scenario(Proxies(["10.0.0.0/24"])))
    assert seen == [("192.0.2.7", True), ("127.0.0.1", False)]
