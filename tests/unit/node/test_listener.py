"""What a listener's connections are like, whatever is served on them."""

import asyncio
import socket

import pytest

from restante.errors import ConfigError
from restante.node.wire.http import Listener


def test_small_writes_are_sent_at_once() -> None:
    # Without TCP_NODELAY an answer's body waits for the peer's delayed acknowledgement of its
    # header: 40 ms for every exchange on a kept connection.
    seen: list[int] = []

    async def served(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def connect() -> None:
        listener = Listener("127.0.0.1", 0)
        # As uvicorn does with a socket that it is given.
        async with await asyncio.start_server(served, sock=listener._socket):
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        listener.close()

    asyncio.run(connect())
    assert seen
    assert all(seen)


def test_who_comes_before_it_listens_is_refused_at_once() -> None:
    listener = Listener("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((listener.host, listener.port))
    listener.listen()
    listener.listen()
    socket.create_connection((listener.host, listener.port)).close()
    listener.close()


def test_a_busy_port_is_told_when_it_is_bound_or_else_when_it_listens() -> None:
    first = Listener("127.0.0.1", 0)
    port_too = Listener("127.0.0.1", first.port)
    first.listen()
    for late in (lambda: Listener("127.0.0.1", first.port), port_too.listen):
        with pytest.raises(ConfigError) as raised:
            late()
        assert raised.value.code == "listen"
        assert str(first.port) in str(raised.value)
    first.close()
    port_too.close()
