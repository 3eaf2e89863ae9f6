"""Peers that a node dials in vain: what its operator sees, wherever that is looked for."""

import json
import time
from pathlib import Path

from e2e.test_single_node import make_node, restante
from restante.networks.rlpx.session import Identity
from restante.testing.cluster import Process, free_ports, running

NODE_ID = Identity(b"\x01" * 32, "x", ("shh", 6, 128)).node_id.hex()


def test_the_log_the_peers_and_the_status_say_who_is_not_reached_and_why(tmp_path: Path) -> None:
    home, url, _ = make_node(tmp_path)
    (closed,) = free_ports(1)
    address = f"127.0.0.1:{closed}"
    arguments = ("--peer", f"enode://{NODE_ID}@{address}")
    process = Process.start(home, url, arguments=arguments)
    with running([process]):
        process.wait_ready()
        deadline = time.monotonic() + 20
        while True:
            code, out, errors = restante("peers", str(home), "--json")
            assert code == 0, errors
            [row] = json.loads(out)["static"]
            if row["attempts"] >= 3 and row["next_s"]:
                break
            assert time.monotonic() < deadline, row
            time.sleep(0.05)
        assert address in row["error"]
        assert "is the peer up" in row["hint"]

        code, out, _ = restante("peers", str(home))
        assert code == 0
        assert "no peer now" in out
        assert f"not here: {NODE_ID[:16]}…@{address}: " in out
        assert "    is the peer up" in out
        assert "times; again " in out

        code, out, _ = restante("status", str(home))
        assert code == 1
        assert f"  not here: {NODE_ID[:16]}…@{address}: " in out
        assert "NOT WELL (no-peer)" in out
        told = [line for line in process.tail(100_000).splitlines() if "is not reached" in line]
        assert len(told) == 1
        assert address in told[0]


def test_a_host_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    home, _, _ = make_node(tmp_path)
    code, _, errors = restante("up", str(home), "--peer", f"enode://{NODE_ID}@a..b:30303")
    assert code == 2
    assert "a..b" in errors
    assert "between the dots" in errors
