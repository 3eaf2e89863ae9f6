"""What `[whisper]` becomes: where it listens, and what enode is told."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from restante.durable import no_hook
from restante.errors import ConfigError
from restante.networks.rlpx.enode import Enode
from restante.node import setup
from restante.node.clock import WallClock
from restante.node.config import load
from restante.node.durable.refill import Refill
from restante.node.home import Home
from restante.node.run import Node
from restante.node.whisper import node_key, open_whisper
from restante.testing.archive_fixture import make_set

D = make_set().descriptor


def told(home: Home, **values: str | int) -> Enode:
    """The enode of a network of these options."""
    config = load(None, {}, {f"whisper.{name}": value for name, value in values.items()})

    async def play() -> Enode:
        network = await open_whisper(config, home, WallClock(), D, None)
        try:
            return Enode.parse(network.status()["enode"])
        finally:
            await network.close()

    return asyncio.run(play())


def test_the_enode_names_where_others_come(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = told(home)
    assert first.host == "127.0.0.1"
    assert told(home, advertise="mail.example").host == "mail.example"
    # Nobody can dial it.
    assert told(home, host="0.0.0.0").host == "127.0.0.1"
    again = told(home, host="0.0.0.0", advertise="192.0.2.7")
    assert (again.host, again.node_id) == ("192.0.2.7", first.node_id)
    assert len(node_key(home)) == 32


def test_a_port_in_use_is_a_mistake_with_a_hint(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError) as raised:
        told(Home(tmp_path), port=taken.getsockname()[1])
    assert raised.value.code == "listen"
    assert "whisper.port" in raised.value.hint


def test_nobody_comes_before_what_new_needs_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither over HTTP nor from Whisper: who waits for an answer, or to write, would leave."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [each.getsockname()[1] for each in (one, other)]
    home = Home(tmp_path / "node")
    setup.create_node(home, "solo", {"listen.port": ports[0], "whisper.port": ports[1]})
    refused = []

    def come(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()

    async def recent(refill: Refill) -> bool:
        for port in ports:
            with contextlib.suppress(ConnectionRefusedError):
                come(port)
                continue
            refused.append(port)
        return True

    monkeypatch.setattr(Refill, "recent", recent)
    values = {"node.roles": ["validator"], "network.source": "whisper"}

    async def play() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await Node.open(home, load(home.config, {}, values), no_hook, stack)
            for port in ports:
                come(port)

    asyncio.run(play())
    assert refused == ports
