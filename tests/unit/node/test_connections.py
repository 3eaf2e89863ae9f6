"""Connections that say nothing, or say it too slowly, keep nobody out and are closed."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante import limits
from restante.node.clock import WallClock
from restante.node.wire.connections import Seldom
from restante.node.wire.http import Listener, build_app, read_body

HALF = b"GET / HT"
WHOLE = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(request: Request) -> Response:
    return Response(b"hello")


async def take(request: Request) -> Response:
    return Response(str(len(await read_body(request, 10**6))).encode())


async def much(request: Request) -> Response:
    return Response(b"x" * 64 * 1024 * 1024)


async def slow(request: Request) -> Response:
    await asyncio.sleep(60)
    return Response()


async def broken(request: Request) -> Response:
    raise ValueError("a defect")


@contextlib.asynccontextmanager
async def serving(host: str = "0.0.0.0") -> AsyncIterator[int]:
    listener = Listener(host, 0)
    listener.listen()
    routes = [
        Route("/hello", hello),
        Route("/take", take, methods=["POST"]),
        Route("/much", much),
        Route("/slow", slow),
        Route("/broken", broken),
    ]
    task = asyncio.ensure_future(listener.serve(build_app(routes, WallClock())))
    try:
        yield listener.port
    finally:
        while Client.opened:
            Client.opened.pop().close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


class Client:
    """A raw connection from an address of this machine."""

    opened: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.opened.append(self)

    @classmethod
    async def open(cls, port: int, data: bytes, source: str = "127.0.0.1") -> "Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(data)
        return cls(reader, writer)

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return int(head.split()[1]), body

    async def rest(self) -> bytes:
        """All that still comes, to the connection's end."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.transport.abort()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_hundreds_of_half_open_connections_keep_no_peer_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 2.0)

    async def scenario() -> None:
        async with serving() as port:
            sources = [f"127.0.0.{last}" for last in range(2, 12)]
            held = [await Client.open(port, HALF, each) for each in sources for _ in range(60)]
            assert len(held) > limits.HTTP_CONNECTIONS
            # From an address of its own, and from one of theirs.
            for source in ("127.0.0.1", "127.0.0.5"):
                peer = await Client.open(port, WHOLE, source)
                assert await asyncio.wait_for(peer.answer(), 1) == (200, b"hello")
            ends = await asyncio.wait_for(asyncio.gather(*(each.rest() for each in held)), 10)
            told = [json.loads(end.split(b"\r\n\r\n")[1]) for end in ends if end]
            assert len(told) >= limits.HTTP_CONNECTIONS - 10
            assert {each["code"] for each in told} == {"head-timeout"}
            assert all(each["hint"] for each in told)

    run(scenario)


def test_one_source_has_its_share_and_its_oldest_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_PER_SOURCE", 4)

    async def scenario() -> None:
        async with serving() as port:
            idle = await Client.open(port, WHOLE)
            assert (await idle.answer())[0] == 200
            halves = [await Client.open(port, HALF) for _ in range(3)]
            await asyncio.sleep(0.05)
            for each in halves:
                new = await Client.open(port, WHOLE)
                # Half-open ones go before an older idle one, the oldest first.
                assert await asyncio.wait_for(each.rest(), 1) == b""
                assert (await new.answer())[0] == 200
            idle.writer.write(WHOLE)
            assert (await idle.answer())[0] == 200

    run(scenario)


def test_connections_that_are_being_answered_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_PER_SOURCE", 2)

    async def scenario() -> None:
        async with serving() as port:
            for _ in range(2):
                await Client.open(port, WHOLE.replace(b"hello", b"slow"))
            await asyncio.sleep(0.1)
            late = await Client.open(port, b"")
            status, body = await late.answer()
            assert (status, json.loads(body)["code"]) == (503, "busy")
            assert json.loads(body)["hint"]

    run(scenario)


@pytest.mark.parametrize(
    "prefix",
    [b"", WHOLE, WHOLE * 2, b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"],
    ids=["first", "kept", "pipelined", "rest-of-a-refused-body"],
)
def test_bytes_now_and_then_do_not_keep_a_connection(
    monkeypatch: pytest.MonkeyPatch, prefix: bytes
) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.3)

    async def scenario() -> None:
        async with serving() as port:
            client = await Client.open(port, prefix)
            async with asyncio.timeout(3):
                reading = asyncio.ensure_future(client.rest())
                while not reading.done():
                    client.writer.write(b"G")
                    await asyncio.sleep(0.05)

    run(scenario)


def test_a_head_in_time_is_not_closed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.2)

    async def scenario() -> None:
        async with serving() as port:
            client = await Client.open(port, b"POST /take HTTP/1.1\r\nHost: x\r\n")
            client.writer.write(b"Content-Length: 4\r\n\r\nab")
            # The body and the idle time between two requests have limits of their own.
            await asyncio.sleep(0.4)
            client.writer.write(b"cd")
            assert await client.answer() == (200, b"4")
            await asyncio.sleep(0.4)
            client.writer.write(WHOLE)
            assert await client.answer() == (200, b"hello")

    run(scenario)


def test_an_answer_that_nobody_reads_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_STALL_S", 0.2)

    async def scenario() -> None:
        async with serving() as port:
            client = await Client.open(port, WHOLE.replace(b"hello", b"much"))
            await client.reader.readexactly(10)
            client.writer.transport.pause_reading()
            await asyncio.sleep(0.6)
            client.writer.transport.resume_reading()
            assert len(await asyncio.wait_for(client.rest(), 5)) < 64 * 1024 * 1024

    run(scenario)


def test_what_is_no_http_gets_json_with_a_hint() -> None:
    async def scenario() -> None:
        async with serving() as port:
            for data, status, code in (
                (b"\x16\x03\x01 junk\r\n\r\n", 400, "http"),
                (WHOLE.replace(b"hello", b"broken"), 500, "internal"),
                (WHOLE.replace(b"hello", b"nothing"), 404, "not-found"),
                (WHOLE.replace(b"GET", b"PUT"), 405, "method"),
            ):
                client = await Client.open(port, data)
                got, body = await client.answer()
                assert (got, json.loads(body)["code"]) == (status, code)
                assert json.loads(body)["hint"]

    run(scenario)


def test_a_line_is_logged_once_in_a_while() -> None:
    seldom = Seldom()

    def passes(level: int, text: str) -> bool:
        return seldom.filter(logging.LogRecord("x", level, "", 0, text, (), None))

    assert [passes(logging.WARNING, "one") for _ in range(3)] == [True, False, False]
    assert passes(logging.WARNING, "two")
    assert [passes(logging.ERROR, "one") for _ in range(2)] == [True, True]
