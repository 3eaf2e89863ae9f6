"""Clocks: wall time, or the replayed time that a supervisor's record defines.

Windows, freezes, R0 and cosignature times read a clock. Time-outs, retries and back-off never do:
they use real monotonic time.
"""

import asyncio
import os
import time
from pathlib import Path
from struct import Struct
from zlib import crc32

from restante.errors import ConfigError, StateError

_RECORD = Struct(">QQQ")
_CRC = Struct(">I")
RECORD_BYTES = _RECORD.size + _CRC.size
"""u64 monotonic ns ‖ u64 virtual ms ‖ u64 speed in millionths ‖ u32 CRC-32 of these."""

# Wall time may be set while we sleep, and a replay's speed may change: look again this often.
_WALL_NAP_S = 1.0
_REPLAY_NAP_S = 0.05
# A reader may meet a writer once or twice; more often means that the record is damaged.
_READ_ATTEMPTS = 50


class WallClock:
    """The system's clock, made monotone within the process."""

    def __init__(self) -> None:
        self._last_ms = 0

    def now_ms(self) -> int:
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms

    async def sleep_until(self, when_ms: int) -> None:
        while (left_ms := when_ms - self.now_ms()) > 0:  # noqa: ASYNC110 no event tells the time
            await asyncio.sleep(min(left_ms / 1000, _WALL_NAP_S))


class ReplayClock:
    """Virtual time: what the record says it was, plus the time since, times the speed.

    The record is a file that one supervisor writes and every process reads at each call; the
    monotonic clock is the machine's, so that all of them agree. It never goes back here.
    """

    def __init__(self, record: Path) -> None:
        """Raises ConfigError `replay-record`."""
        try:
            self._fd = os.open(record, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{record}: {error.strerror}", code="replay-record") from error
        self._record = record
        self._last_ms = 0
        self._read()

    @property
    def speed(self) -> float:
        """Virtual seconds per real second, now."""
        return self._read()[2] / 1e6

    def now_ms(self) -> int:
        monotonic_ns, virtual_ms, speed = self._read()
        elapsed_ns = max(0, time.monotonic_ns() - monotonic_ns)
        self._last_ms = max(self._last_ms, virtual_ms + elapsed_ns * speed // 10**12)
        return self._last_ms

    async def sleep_until(self, when_ms: int) -> None:
        while (left_ms := when_ms - self.now_ms()) > 0:  # noqa: ASYNC110 no event tells the time
            await asyncio.sleep(min(left_ms / 1000 / max(self.speed, 1e-6), _REPLAY_NAP_S))

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> tuple[int, int, int]:
        for _ in range(_READ_ATTEMPTS):
            data = os.pread(self._fd, RECORD_BYTES, 0)
            if len(data) == RECORD_BYTES and _CRC.pack(crc32(data[: _RECORD.size])) == data[-4:]:
                return _RECORD.unpack_from(data)
            time.sleep(0)
        raise StateError(f"{self._record} is not a replay clock's record", code="replay-record")


def encode_record(monotonic_ns: int, virtual_ms: int, speed: float) -> bytes:
    """The bytes of a record; `speed` is virtual seconds per real second, above 0."""
    data = _RECORD.pack(monotonic_ns, virtual_ms, max(1, round(speed * 1e6)))
    return data + _CRC.pack(crc32(data))


def write_record(path: Path, monotonic_ns: int, virtual_ms: int, speed: float) -> None:
    """Replace the record in place, for readers that hold the file open.

    They tell a half-written one by its checksum. Only one process ever writes.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(fd, encode_record(monotonic_ns, virtual_ms, speed), 0)
    finally:
        os.close(fd)
