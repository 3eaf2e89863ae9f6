"""Whole nodes of ours (`restante up`, and the commands that people type) among wnodes."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.test_single_node import make_node, restante
from peers import wnode
from restante.testing.cluster import Cluster, Process, free_ports, running

PASSWORD = {"RESTANTE_PASSWORD": wnode.PASSWORD}
TOPIC = wnode.TOPIC.hex()
PACE = {"validator.grace_s": 0, "validator.step_s": 1}

pytestmark = pytest.mark.usefixtures("alone")


def until(condition: Callable[[], Any], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def run(*arguments: str) -> list[dict[str, Any]]:
    """What a command printed as JSON lines."""
    code, out, errors = restante(*arguments, **PASSWORD)
    assert code == 0, errors
    return [json.loads(line) for line in out.splitlines()]


def texts(policy: Path, source: str) -> list[str]:
    """What the index holds of wnode's topic, decrypted."""
    asked = ("query", "--policy", str(policy), "--source", source, "--no-memory", "--json")
    return [row["text"] for row in run(*asked, "--topic", TOPIC) if "text" in row]


def brought(process: Process) -> int:
    """Valid envelopes that a node's network brought. Late ones it may have by then: from another
    validator (R7), a proposal, or out of the index."""
    counts: dict[str, int] = process.status()["network"]["counts"]
    return counts.get("accepted", 0) + counts.get("repeat", 0)


def rows(process: Process) -> list[dict[str, Any]]:
    """`restante peers` of a node."""
    found: list[dict[str, Any]] = run("peers", process.url, "--json")[0]["peers"]
    return found


def test_a_node_behind_a_wnode(tmp_path: Path) -> None:
    """What a wnode posts is sealed; what is posted here, is shown there, and proved."""
    home, url, gateway = make_node(tmp_path)
    with wnode.relay() as relay, wnode.chat(relay.enode) as chat:
        process = Process.start(home, url, arguments=("--peer", relay.enode))
        with running([process]):
            process.wait_ready()
            until(lambda: rows(process))
            chat.say("typed at a wnode")
            until(lambda: "typed at a wnode" in texts(home / "policy", gateway))
            posted = ("post", "from us", "--node", str(home), "--topic", TOPIC, "--json")
            proof = tmp_path / "ours.tlog-proof"
            made = run(*posted, "--wait", "--timeout", "30", "--proof", str(proof))[0]
            assert (made["peers"], made["node_peers"]) == (0, 1)
            relay.wait_shown("from us")
            chat.wait_shown("from us")
            assert sorted(texts(home / "policy", gateway)) == ["from us", "typed at a wnode"]
            code, out, _ = restante("verify", str(proof), "--policy", str(home / "policy"))
            assert code == 0, out
            assert made["id"] in out
            (row,) = rows(process)
            assert row["left"] is None
            assert row["client"].startswith("wnode/")
            assert (row["new"], row["sent"]) == (1, 1)
            code, out, _ = restante("peers", str(home))
            assert code == 0
            assert "wnode/" in out
            # Through a wnode alone: our node knows of it by observing.
            twice = ("--peer", relay.enode) * 2
            way = (*twice, "--policy", str(home / "policy"), "--topic", TOPIC)
            wait = ("--wait", "--timeout", "30", "--proof", str(tmp_path / "2.tlog-proof"))
            (sent,) = run("post", "through a wnode", *way, *wait, "--json")
            assert sent["peers"] == 1, "named twice, it is one"
            chat.wait_shown("through a wnode")


def test_a_set_that_has_sealed_nothing_yet_is_posted_to_through_a_wnode(tmp_path: Path) -> None:
    """Its parameters are known by the policy's set id, though nothing is signed."""
    home, url, _ = make_node(tmp_path, window=600)
    with wnode.relay() as relay:
        process = Process.start(home, url, arguments=("--peer", relay.enode))
        with running([process]):
            process.wait_ready()
            way = ("--peer", relay.enode, "--policy", str(home / "policy"), "--topic", TOPIC)
            (sent,) = run("post", "to a young set", *way, "--json")
            assert sent["peers"] == 1
            relay.wait_shown("to a young set")
            until(lambda: brought(process) == 1)


def test_wnodes_come_to_a_node_that_listens(tmp_path: Path) -> None:
    """They talk through it, and it keeps what they say. Its enode outlives a restart."""
    home, url, gateway = make_node(tmp_path)
    port = free_ports(1)[0]
    arguments = ("--network", "whisper", "--whisper-port", str(port))
    process = Process.start(home, url, arguments=arguments)
    with contextlib.ExitStack() as stack:
        stack.enter_context(running([process]))
        process.wait_ready()
        enode = process.status()["network"]["enode"]
        one, two = (stack.enter_context(wnode.chat(enode)) for _ in range(2))
        until(lambda: len(rows(process)) == 2)
        one.say("through you")
        two.wait_shown("through you")
        until(lambda: "through you" in texts(home / "policy", gateway))
        assert process.stop() == 0
        again = Process.start(home, url, arguments=arguments)
        stack.enter_context(running([again]))
        again.wait_ready()
        assert again.status()["network"]["enode"] == enode
        assert texts(home / "policy", gateway) == ["through you"]


def test_what_is_posted_while_nobody_is_there_goes_to_who_comes_also_after_a_crash(
    tmp_path: Path,
) -> None:
    home, url, _ = make_node(tmp_path)
    port = free_ports(1)[0]
    arguments = ("--network", "whisper", "--whisper-port", str(port))

    def post(process: Process, text: str) -> str:
        """What `restante post` says."""
        posted = ("post", text, "--node", process.url, "--topic", TOPIC, "--ttl", "300")
        code, out, errors = restante(*posted, **PASSWORD)
        assert code == 0, errors
        return out

    process = Process.start(home, url, arguments=arguments)
    with contextlib.ExitStack() as stack:
        stack.enter_context(running([process]))
        process.wait_ready()
        enode = process.status()["network"]["enode"]
        assert "goes out when one comes" in post(process, "to whom it may concern")
        with wnode.chat(enode) as first:
            first.wait_shown("to whom it may concern")
        until(lambda: process.status()["network"]["peers"] == 0)
        post(process, "posted a moment before the crash")
        process.kill()
        again = Process.start(home, url, arguments=arguments)
        stack.enter_context(running([again]))
        again.wait_ready()
        with wnode.chat(enode) as second:
            second.wait_shown("posted a moment before the crash")
            second.wait_shown("to whom it may concern")


@pytest.mark.slow
def test_a_proposer_and_four_validators_each_behind_a_wnode_of_its_own(tmp_path: Path) -> None:
    """They seal what a sixth posts; none of ours knows another's wnode."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(wnode.relay())
        own = [stack.enter_context(wnode.chat(hub.enode)) for _ in range(5)]
        cluster = Cluster.create(
            tmp_path,
            4,
            parameters={"window_s": 3, "pow_floor_millionths": 200_000},
            values={**PACE, "network.source": "whisper"},
            per_validator={
                f"v{i + 1}": {"whisper.peers": [own[i].enode]} for i in range(4)
            },
        )  # fmt: skip
        port, gateway_port = free_ports(2)
        for name, roles, values in (
            ("p1", ["proposer"], {"listen.port": port, "whisper.peers": [own[4].enode]}),
            ("gw", ["gateway"], {"gateway.port": gateway_port}),
        ):
            values = {"network.source": "whisper", **PACE, **values} if name == "p1" else values
            cluster.add(name, roles, values)
        observers = [Process.start(tmp_path / n, url) for n, url in cluster.urls.items()]
        observers.append(Process.start(tmp_path / "p1", f"http://127.0.0.1:{port}"))
        gateway = Process.start(tmp_path / "gw", f"http://127.0.0.1:{gateway_port}")
        stack.enter_context(running([*observers, gateway]))
        for process in (*observers, gateway):
            process.wait_ready()
        until(lambda: all(rows(process) for process in observers))
        sender = stack.enter_context(wnode.chat(hub.enode))
        said = [f"message {i}" for i in range(8)]
        for text in said:
            sender.say(text)
            time.sleep(0.5)
        until(lambda: all(brought(process) == len(said) for process in observers))
        until(lambda: set(said) <= set(texts(cluster.policy, gateway.url)))
        assert sorted(texts(cluster.policy, gateway.url)) == sorted(said), "nothing twice"
        until(lambda: observers[-1].status()["certified"] > 0)
        for process in observers:
            assert [row["left"] for row in rows(process)] == [None]
