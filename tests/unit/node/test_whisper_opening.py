"""What `[whisper]` becomes: where it listens, and what enode is told."""

import asyncio
import socket
from pathlib import Path

import pytest

from restante.errors import ConfigError
from restante.networks.rlpx.enode import Enode
from restante.node.clock import WallClock
from restante.node.config import load
from restante.node.home import Home
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
