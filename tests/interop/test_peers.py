"""The real peers among themselves: what the other tests here take for granted about them."""

import time
from pathlib import Path

import pytest

from peers import harness, wnode
from peers.harness import COMPLETE, DIRECT


def test_harness_and_harness_relay_to_each_other() -> None:
    with harness.geth(pow=0.002) as geth, harness.status(pow=0.002) as status:
        peer = status.connect(geth.enode)
        geth.joined(status.node_id)
        status.ask("subscribe", password="wwww", topics=["5a4ea131"])
        raw = geth.post("from geth", pow=0.002)
        status.wait_envelope(raw)
        assert bytes.fromhex(status.wait("message")["payload"]) == b"from geth"
        geth.wait_envelope(status.post("from status", pow=0.002))
        assert peer == geth.node_id
        geth.ask("disconnect", enode=status.enode)


def test_wnode_and_a_harness_relay_to_each_other(alone: None) -> None:
    with wnode.relay() as relay, harness.geth() as geth:
        geth.connect(relay.enode)
        geth.post("to wnode")
        relay.wait_shown("to wnode")
        geth.ask("subscribe", password="wwww", topics=[wnode.TOPIC])
        with wnode.chat(relay.enode) as chat:
            chat.say("typed")
            geth.wait("message")
            relay.wait_shown("typed")
        assert [event["payload"] for event in geth.all("message")] == [b"typed".hex()]


@pytest.mark.slow
def test_wnode_as_mail_server_and_as_mail_client(alone: None, tmp_path: Path) -> None:
    now_s = int(time.time())
    with wnode.mail_server(tmp_path / "mail") as server, harness.geth() as geth:
        peer = geth.connect(server.enode)
        raw = geth.post("kept", ttl=3)
        server.wait_shown("kept")
        bounds = (now_s - 60).to_bytes(4, "big") + (now_s + 60).to_bytes(4, "big")
        geth.ask("request", peer=peer, password="wwww", payload=bounds, pow=0.2, ttl=50)
        geth.wait("packet", way="in", code=DIRECT)
        assert geth.packets(DIRECT) == [raw]
        time.sleep(max(0.0, now_s + 6 - time.time()))  # it would come by relay, too
        with wnode.mail_client(server.enode) as client:
            client.ask_mail(now_s - 60, now_s + 60)
            client.wait_shown("kept")


@pytest.mark.parametrize("program", ["geth", "status"])
def test_a_harness_as_mail_server(program: str, tmp_path: Path) -> None:
    now_s = int(time.time())
    with (
        harness.mail_server(program, tmp_path, pow=0.002, password="pw") as server,
        harness.status(pow=0.002) as client,
    ):
        peer = client.connect(server.enode)
        server.wait_envelope(raw := client.post("kept", pow=0.002))
        bounds = (now_s - 60).to_bytes(4, "big") + (now_s + 60).to_bytes(4, "big")
        client.ask("subscribe", password="wwww", topics=["5a4ea131"], direct=True)
        client.ask("request", peer=peer, password="pw", payload=bounds, pow=0.2, ttl=50)
        client.wait("packet", way="in", code=DIRECT)
        assert client.packets(DIRECT) == [raw]
        if program == "status":
            client.wait("packet", way="in", code=COMPLETE)
            client.wait("mail", what="mailserver.request.completed")
