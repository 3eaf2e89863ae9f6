"""An hour with wnode: nothing that we do makes it cut us off.

RESTANTE_TRAFFIC_S sets how long it takes; 3600 is the hour, and CI has a minute.
"""

import contextlib
import os
import random
import time

import pytest

from interop.observer import Observer, envelope
from peers import harness, wnode

FOR_S = float(os.environ.get("RESTANTE_TRAFFIC_S", "60"))
PER_S = 20


@pytest.mark.slow
def test_wnode_keeps_us_through_traffic(alone: None) -> None:
    """A wnode that relays, one that chats, and go-ethereum's code with other demands: all of them
    send, and are sent what each wants, much of it short-lived or worked no more than it must."""
    lot = random.Random(15)
    with (
        wnode.relay("-pow", "0.002") as relay,
        wnode.chat(relay.enode, "-pow", "0.002") as chat,
        harness.geth("-quiet", pow=0.002) as geth,
        harness.status("-quiet", pow=0.02) as status,
        Observer(relay.enode, geth.enode, status.enode, floor_millionths=2_000) as ours,
    ):
        ours.wait_peers(3)
        until_s = time.monotonic() + FOR_S
        sent = 0
        while time.monotonic() < until_s:
            sent += 1
            by_us = sent % 3 == 0
            raw = envelope(
                b"%d" % sent,
                topic=lot.randbytes(4),
                ttl_s=lot.choice([1, 2, 3, 10, 50]),
                floor_millionths=lot.choice([2_000, 2_000, 20_000]),
                below_millionths=lot.choice([None, 40_000]),
                data_bytes=lot.choice([16, 300, 300, 1_000, 4_000, 60_000]),
                sent_s=int(time.time()) + lot.choice([0, 0, -1, int(by_us)]),
            )
            if by_us:
                ours.send(raw)
            else:
                with contextlib.suppress(AssertionError):  # dead before geth was asked
                    geth.ask("post-raw", raws=[raw])
            if sent % (15 * PER_S) == 0:
                status.ask("set-pow", pow=lot.choice([0.002, 0.02, 0.2]))
            if sent % 100 == 0:
                chat.say(f"typed {sent}")
            assert len(ours.rows()) == 3, ours.left()
            time.sleep(1 / PER_S)
        assert ours.left() == []
        assert len(ours.raws) > 0.5 * FOR_S * PER_S / 3
        assert set(ours.status()["counts"]) <= {"accepted", "repeat", "expired"}
