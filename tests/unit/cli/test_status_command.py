"""What `restante status` shows of a node's network and mail, whatever its roles."""

from typing import Any

import pytest

from restante.cli.status import _show

COMMON: dict[str, Any] = {"set": "ab" * 32, "window": 7, "reasons": []}
NETWORK = {
    "peers": 2,
    "enode": "enode://ab@127.0.0.1:1",
    "counts": {"low-pow": 3, "accepted": 9},
    "left": {},
    "turned_away": {"handshake": 2, "too-often": 40},
    "static": [
        {"enode": f"enode://{'ab' * 64}@192.0.2.7:1", "error": ""},
        {"enode": f"enode://{'cd' * 64}@a.example:2", "error": "a.example:2: no \x1bsuch host"},
    ],
}


def shown(capsys: pytest.CaptureFixture[str], **more: Any) -> list[str]:
    _show(COMMON | more)
    return capsys.readouterr().out.splitlines()


def test_a_mail_server_alone(capsys: pytest.CaptureFixture[str]) -> None:
    mail = {"counts": {"answered": 4, "too-soon": 1}}
    lines = shown(capsys, roles=["mailserver"], network=NETWORK, mail=mail)
    assert "network: 2 peers, at enode://ab@127.0.0.1:1" in lines
    assert "  brought: accepted 9, low-pow 3" in lines
    assert "  turned away: handshake 2, too-often 40" in lines
    assert r"  not here: cdcdcdcdcdcdcdcd…@a.example:2: a.example:2: no \x1bsuch host" in lines
    assert not any("192.0.2.7" in line for line in lines)
    assert not any("left" in line for line in lines)
    assert "mail: answered 4, too-soon 1" in lines
    assert lines[-1] == "all is well"


def test_without_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, roles=["gateway"], size=3)
    assert lines == ["gateway of set abababababababab…", "window 7, tree size 3", "all is well"]
