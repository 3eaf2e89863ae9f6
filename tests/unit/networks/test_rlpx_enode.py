"""Enodes: every form that peers print, and nothing that cannot be dialled."""

import pytest

from restante.errors import ConfigError
from restante.networks.rlpx.enode import Enode
from restante.networks.rlpx.session import Identity

ID = Identity(b"\x01" * 32, "x", ("shh", 6, 128)).node_id
HEX = ID.hex()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (f"enode://{HEX}@127.0.0.1:30303", "127.0.0.1", 30303),
        (f"enode://{HEX.upper()}@127.0.0.1:1", "127.0.0.1", 1),
        (f"enode://{HEX}@10.0.0.1:65535?discport=0", "10.0.0.1", 65535),
        (f"enode://{HEX}@[::]:30379", "::", 30379),
        (f"enode://{HEX}@[2001:db8::1]:30303?discport=30301", "2001:db8::1", 30303),
        (f"enode://{HEX}@peer-1.example.org:30303", "peer-1.example.org", 30303),
        (f"enode://{HEX}@{'a' * 63}.org.:30303", f"{'a' * 63}.org.", 30303),
    ],
)
def test_forms(text: str, host: str, port: int) -> None:
    enode = Enode.parse(text)
    assert enode == Enode(ID, host, port)
    assert Enode.parse(str(enode)) == enode


@pytest.mark.parametrize(
    "text",
    [
        "",
        "enode://",
        HEX,
        f"enode://{HEX}",
        f"enode://{HEX}@127.0.0.1",
        f"enode://{HEX}@127.0.0.1:",
        f"enode://{HEX}@127.0.0.1:0",
        f"enode://{HEX}@127.0.0.1:65536",
        f"enode://{HEX}@127.0.0.1:٣",
        f"enode://{HEX}@:30303",
        f"enode://{HEX}@::1:30303",
        f"enode://{HEX}@[::g]:30303",
        f"enode://{HEX}@[1:2]:30303",
        f"enode://{HEX}@a b:30303",
        f"enode://{HEX}@127.0.0.1:30303\n",
        f" enode://{HEX}@127.0.0.1:30303",
        f"enode://{HEX}@127.0.0.1:30303?discport=x",
        f"enode://{HEX}@127.0.0.1:30303?other=1",
        f"enode://{HEX[:-2]}@127.0.0.1:30303",
        f"enode://{HEX}00@127.0.0.1:30303",
        f"enode://{'00' * 64}@127.0.0.1:30303",
        f"enode://{HEX[:-1]}{'0' if HEX[-1] != '0' else '1'}@127.0.0.1:30303",
        f"http://{HEX}@127.0.0.1:30303",
        f"enode://{HEX}@{'a' * 254}:30303",
        f"enode://{HEX}@127.0.0.1:30303?discport={'1' * 1_000}",
        f"enode://{HEX}@a..b:30303",
        f"enode://{HEX}@.a:30303",
        f"enode://{HEX}@.:30303",
        f"enode://{HEX}@{'a' * 64}.org:30303",
    ],
)
def test_what_is_no_enode(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Enode.parse(text)
    assert caught.value.code == "enode"
    assert "enode://" in caught.value.hint
