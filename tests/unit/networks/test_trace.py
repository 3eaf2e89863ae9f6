"""Trace replay: the merged view of several observers, its intervals, and its strictness."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from contract.network_contract import FIRST_MS, StepClock, take
from restante import limits
from restante.errors import ConfigError, Unavailable
from restante.networks import trace
from restante.networks.trace import Source, TraceMalformed, TraceNetwork
from restante.ports import Arrival

TRACE = Path(__file__).parents[3] / "traces" / "whisper"


def row(at: int, raw: bytes) -> bytes:
    return json.dumps({"arrival_ms": FIRST_MS + at, "rlp": raw.hex()}).encode() + b"\n"


def replay(found: list[Source], until_ms: int, count: int, **options: Any) -> list[Arrival]:
    async def run() -> list[Arrival]:
        clock = StepClock(0)
        network = TraceNetwork(found, clock, **options)
        clock.move_to(until_ms)
        taken = await take(network, count)
        await network.close()
        return taken

    return asyncio.run(run())


def test_one_observer_of_the_trace_as_it_was_recorded() -> None:
    taken = replay(trace.sources(TRACE, ["observer2"]), 2**42, 2030)
    lines = gzip.decompress((TRACE / "observer2.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(r["arrival_ms"], bytes.fromhex(r["rlp"])) for r in rows] == taken


def test_two_observers_are_one_view_with_the_first_arrival_of_each() -> None:
    found = trace.sources(TRACE, ["observer1", "observer3"])
    first: dict[bytes, int] = {}
    for source in found:
        for arrival in trace.read_arrivals(source.path):
            first[arrival.raw] = min(arrival.arrival_ms, first.get(arrival.raw, 2**62))
    taken = replay(found, 2**42, 2168)
    assert {arrival.raw: arrival.arrival_ms for arrival in taken} == first
    assert len(taken) == 2168
    assert [a.arrival_ms for a in taken] == sorted(first.values())


def test_a_repeat_of_one_observer_is_left_to_whoever_observes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row(0, b"one") + row(1, b"one") + row(2, b"two"))
    taken = replay([Source(path)], FIRST_MS + 99, 3)
    assert [arrival.raw for arrival in taken] == [b"one", b"one", b"two"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"arrival_ms": 17, "rlp": "c0ffee"}\n',
        b'{"arrival_ms": 17, "rlp": "C0fFee"}\n',
        b'{"arrival_ms":17,"rlp":"c0ffee"}\n',
        b'{"rlp": "c0ffee", "arrival_ms": 17}\r\n',
        b'{"arrival_ms": 17, "rlp": "c0ffee", "more": [1]}\n',
        b'{"arrival_ms": 17, "rlp": "c0\\u0066fee"}\n',
        b'{"arrival_ms": 17, "rlp": "c0ffee"}',
    ],
)
def test_a_row_is_the_same_however_its_json_is_written(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line)
    assert list(trace.read_arrivals(path)) == [(17, b"\xc0\xff\xee")]


def test_a_node_that_was_down_misses_what_came_meanwhile(tmp_path: Path) -> None:
    one, two = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_bytes(row(0, b"early") + row(10, b"missed") + row(30, b"later"))
    two.write_bytes(row(25, b"early"))
    taken = replay([Source(one), Source(two)], FIRST_MS + 99, 2, since_ms=FIRST_MS + 20)
    assert [arrival.raw for arrival in taken] == [b"early", b"later"]


def test_connected_follows_the_truth_file() -> None:
    (source,) = trace.sources(TRACE, ["observer2"])
    cut = (1795365444354, 1795365514502)
    clock = StepClock(1795365190913)
    network = TraceNetwork([source], clock)
    both = TraceNetwork(trace.sources(TRACE, ["observer2", "observer3"]), clock)
    assert (network.connected, both.connected) == (False, False)
    for at, connected in [
        (1795365190914, True),
        (cut[0] - 1, True),
        (cut[0], False),
        (cut[1] - 1, False),
        (cut[1], True),
    ]:
        clock.move_to(at)
        assert network.connected == connected
        assert both.connected == (at >= 1795365190915 or connected)
    clock.move_to(1795365790008)
    assert not network.connected
    with pytest.raises(Unavailable) as caught:
        network.send(b"x")
    assert caught.value.code == "no-peer"


def test_without_a_truth_file_always_connected(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"")
    found = trace.sources(tmp_path, ["x"])
    assert found == [Source(tmp_path / "x.jsonl", None)]
    assert TraceNetwork(found, StepClock(0)).connected


def test_what_is_sent_comes_back_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row(0, b"one") + row(20, b"two"))

    async def run() -> list[Arrival]:
        clock = StepClock(FIRST_MS)
        network = TraceNetwork([Source(path)], clock)
        clock.move_to(FIRST_MS + 10)
        network.send(b"mine")
        clock.move_to(FIRST_MS + 30)
        first = await take(network, 3)
        await network.close()
        return first

    assert asyncio.run(run()) == [
        (FIRST_MS, b"one"),
        (FIRST_MS + 10, b"mine"),
        (FIRST_MS + 20, b"two"),
    ]


def test_sending_wakes_a_consumer_after_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")

    async def run() -> None:
        network = TraceNetwork([Source(path)], StepClock(FIRST_MS))
        waiting = asyncio.ensure_future(take(network, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        network.send(b"mine")
        assert await waiting == [(FIRST_MS, b"mine")]
        await network.close()

    asyncio.run(run())


def test_a_backlog_leaves_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRACE_GROUP_MAX", 2)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(row(at, bytes([at + 1])) for at in range(20)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        network = TraceNetwork([Source(path)], StepClock(FIRST_MS + 99))
        other = asyncio.ensure_future(others())
        seen = []
        async for group in network.arrivals():
            seen.append(turns)
            if group[-1].raw == bytes([20]):
                break
        assert seen == sorted(set(seen))
        assert len(seen) == 10
        other.cancel()
        await network.close()

    asyncio.run(run())


GOOD = row(5, b"good")


@pytest.mark.parametrize(
    "bad",
    [
        b"\n",
        b"not json\n",
        b"[]\n",
        b"{}\n",
        b'{"arrival_ms": 1.5, "rlp": "00"}\n',
        b'{"arrival_ms": true, "rlp": "00"}\n',
        b'{"arrival_ms": "1", "rlp": "00"}\n',
        b'{"arrival_ms": 0%d, "rlp": "00"}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d_0, "rlp": "00"}\n' % FIRST_MS,
        b'{"arrival_ms": , "rlp": "00"}\n',
        b'{"arrival_ms": %d, "rlp": "\xd9\xa0"}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d, "rlp": 7}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d, "rlp": "0"}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d, "rlp": "0x00"}\n' % (FIRST_MS + 9),
        b'{"arrival_ms": %d, "rlp": "00 00"}\n' % (FIRST_MS + 9),
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        row(4, b"earlier"),
        GOOD[:-10],
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + bad)
    rows = trace.read_arrivals(path)
    assert next(rows).raw == b"good"
    with pytest.raises(TraceMalformed, match=r"a\.jsonl, line 2: ") as caught:
        next(rows)
    assert caught.value.code == "trace-malformed"
    with pytest.raises(TraceMalformed):
        replay([Source(path)], FIRST_MS + 99, 2)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(GOOD * 50)
    for damaged in (whole[:-1], whole[:20], whole[:12] + bytes(20), whole[:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(TraceMalformed, match="damaged gzip"):
            list(trace.read_arrivals(path))


def test_missing_observers_and_broken_truth_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trace.sources(tmp_path, ["nobody"])
    assert caught.value.code == "trace-missing"
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    for truth in ("[]", "x", '{"observers": {"a": {"connected_ms": [1]}}}'):
        (tmp_path / "truth.json").write_text(truth)
        with pytest.raises(TraceMalformed):
            trace.sources(tmp_path, ["a"])
