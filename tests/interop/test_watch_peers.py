"""`restante watch --peer`: what a wnode carries at once, and what a broken link swallowed from the
index; nothing twice."""

import contextlib
import queue
import time
from pathlib import Path

import pytest

from e2e.cuttable_link import link
from e2e.test_single_node import make_node
from e2e.test_watch import Watching, next_window_s, port_of, wait_for
from peers import wnode
from restante.testing.cluster import Process, running

pytestmark = pytest.mark.usefixtures("alone")


def watch(home: Path, source: str, state: Path, *peers: str) -> Watching:
    """A watcher of wnode's topic, with its password, that also listens to these."""
    secret = state.with_suffix(".password")
    secret.write_text(wnode.PASSWORD)
    listened = [word for enode in peers for word in ("--peer", enode)]
    opened = ("--topic", wnode.TOPIC.hex(), "--password-file", str(secret))
    return Watching(home, source, state, *opened, *listened)


def through(enode: str, port: int) -> str:
    """The same node, reached at another port."""
    return f"{enode.rpartition(':')[0]}:{port}"


def test_what_a_wnode_carries_is_shown_at_once_and_not_again(tmp_path: Path) -> None:
    home, url, gateway = make_node(tmp_path, window=2)
    state = tmp_path / "place.json"
    with wnode.relay() as relay, wnode.chat(relay.enode) as chat:
        process = Process.start(home, url, arguments=("--peer", relay.enode))
        with running([process]):
            process.wait_ready()
            watching = watch(home, gateway, state, relay.enode)
            wait_for(state)
            time.sleep(1)  # its link to the wnode
            said_s = time.time()
            chat.say("live")
            at_s, text = watching.next(15)
            assert text == "live"
            assert at_s < said_s + 2
            chat.say("another")
            assert watching.next(15)[1] == "another"
            sealed_s = time.monotonic() + 6  # three windows: both came by the index, too
            with pytest.raises(queue.Empty):
                watching.next(max(0.1, sealed_s - time.monotonic()))
            assert watching.interrupt() == 130
            again = watch(home, gateway, state, relay.enode)
            chat.say("after a restart")
            assert again.next(15)[1] == "after a restart", "what was printed live stays printed"
            assert again.interrupt() == 130


@pytest.mark.slow
def test_the_last_message_swallowed_by_a_cut_link_comes_from_the_index(tmp_path: Path) -> None:
    """status-go#7563 again, now live: a wnode sends it while both of the watcher's links are down,
    and it is dead when they are up. It is shown grace + 5 s after the cut-off that followed its
    arrival, at the latest."""
    home, url, gateway = make_node(tmp_path, window=30)
    file = home / "restante.toml"
    file.write_text(file.read_text().replace("grace_s = 0\n", "grace_s = 5\n"))
    state = tmp_path / "place.json"
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(wnode.relay())
        chat = stack.enter_context(wnode.chat(relay.enode, "-ttl", "5"))
        process = Process.start(home, url, arguments=("--peer", relay.enode))
        stack.enter_context(running([process]))
        to_gateway = stack.enter_context(link(port_of(gateway)))
        to_relay = stack.enter_context(link(relay.port))
        process.wait_ready()
        source = f"http://127.0.0.1:{to_gateway.port}"
        watching = watch(home, source, state, through(relay.enode, to_relay.port))
        wait_for(state, within_s=90)
        time.sleep(1)
        chat.say("live")
        assert watching.next(15)[1] == "live"
        start_s = next_window_s(home)
        time.sleep(max(0.0, start_s + 1 - time.time()))
        for each in (to_gateway, to_relay):
            each.cut()
        chat.say("the last one")
        relay.wait_shown("the last one")
        time.sleep(max(0.0, start_s + 31 - time.time()))
        for each in (to_gateway, to_relay):
            each.mend()
        at_s, text = watching.next(60)
        assert text == "the last one"
        assert at_s <= start_s + 30 + 5 + 5
        chat.say("and it listens again")
        assert watching.next(40)[1] == "and it listens again"
        assert watching.printed() == []
        assert watching.interrupt() == 130
