"""Clocks never go back, and follow the record."""

import asyncio
import time
from pathlib import Path

import pytest

from restante.errors import ConfigError, StateError
from restante.node.clock import RECORD_BYTES, ReplayClock, WallClock, encode_record, write_record

NOW_MS = 1_795_365_000_000


def test_wall_time_is_monotone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock()
    first = clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.now_ms() == first


def test_wall_sleep_returns_at_its_time() -> None:
    async def scenario() -> None:
        clock = WallClock()
        when = clock.now_ms() + 30
        await clock.sleep_until(when)
        assert clock.now_ms() >= when
        await clock.sleep_until(when - 10_000)

    asyncio.run(scenario())


def test_replay_follows_speed_and_changes_of_it(tmp_path: Path) -> None:
    record = tmp_path / "record"
    write_record(record, time.monotonic_ns(), NOW_MS, 1000.0)
    clock = ReplayClock(record)
    assert clock.speed == 1000.0
    time.sleep(0.02)
    passed = clock.now_ms() - NOW_MS
    assert 20_000 <= passed < 2_000_000
    # Slower from now on, never back.
    before = clock.now_ms()
    write_record(record, time.monotonic_ns(), before, 0.5)
    time.sleep(0.01)
    assert before <= clock.now_ms() < before + 2_000


def test_replay_never_goes_back(tmp_path: Path) -> None:
    record = tmp_path / "record"
    write_record(record, time.monotonic_ns(), NOW_MS, 1.0)
    clock = ReplayClock(record)
    before = clock.now_ms()
    write_record(record, time.monotonic_ns(), NOW_MS - 50_000, 1.0)
    assert clock.now_ms() >= before


def test_replay_sleep_ends_when_the_speed_rises(tmp_path: Path) -> None:
    async def scenario() -> None:
        record = tmp_path / "record"
        write_record(record, time.monotonic_ns(), NOW_MS, 0.001)
        clock = ReplayClock(record)
        sleeping = asyncio.ensure_future(clock.sleep_until(NOW_MS + 60_000))
        await asyncio.sleep(0.02)
        assert not sleeping.done()
        write_record(record, time.monotonic_ns(), NOW_MS, 1_000_000.0)
        await asyncio.wait_for(sleeping, 2)
        clock.close()

    asyncio.run(scenario())


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ReplayClock(tmp_path / "none")
    record = tmp_path / "record"
    record.write_bytes(b"x" * RECORD_BYTES)
    with pytest.raises(StateError) as raised:
        ReplayClock(record)
    assert raised.value.code == "replay-record"


def test_speed_is_never_zero() -> None:
    data = encode_record(0, 0, 0.0)
    assert int.from_bytes(data[16:24], "big") == 1
