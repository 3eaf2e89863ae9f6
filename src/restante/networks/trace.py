"""A recorded network: replays what observers saw, at the pace of a clock.

A trace is a folder of `<observer>.jsonl` or `.jsonl.gz`, one line per envelope in order of
arrival, `{"arrival_ms": …, "rlp": "<hex>"}`, and possibly a `truth.json` that says when each
observer was connected. Several observers make one view: merged by arrival, a repeat left out.
Nothing is forgiven: a line that is not such a row is an error that names file and line.
"""

import asyncio
import contextlib
import gzip
import heapq
import io
import json
import zlib
from binascii import unhexlify
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from restante import limits
from restante.errors import ConfigError, Unavailable
from restante.ports import Arrival, Clock
from restante.rules.intake import Verdict

_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIXES = (".jsonl", ".jsonl.gz")
_ROW_HEAD = b'{"arrival_ms": '
_ROW_END = b'"}\n'


class TraceMalformed(ConfigError):
    """A line, or the truth file, is not what the trace's format says."""

    code = "trace-malformed"
    hint = 'a row is {"arrival_ms": <unix ms>, "rlp": "<hex>"}, one a line, in order of arrival'


@dataclass(frozen=True, slots=True)
class Source:
    """One observer's file, and when it was connected.

    connected_ms: half-open intervals of unix ms; None: always.
    """

    path: Path
    connected_ms: tuple[tuple[int, int], ...] | None = None


def sources(folder: Path, observers: Sequence[str]) -> list[Source]:
    """The files of these observers, with their intervals where `truth.json` has them. Raises
    ConfigError (code `trace-missing`), TraceMalformed."""
    intervals = _intervals(folder / "truth.json")
    found = []
    for name in observers:
        candidates = (folder / f"{name}{suffix}" for suffix in _SUFFIXES)
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise ConfigError(
                f"the trace in {folder} has no observer {name!r}",
                code="trace-missing",
                hint="observers are files named <observer>.jsonl or <observer>.jsonl.gz",
            )
        found.append(Source(path, intervals.get(name)))
    return found


class TraceNetwork:
    """A `Network` whose peers are files. What is sent comes back as an arrival, and goes no
    further."""

    name = "trace"

    def __init__(self, found: Sequence[Source], clock: Clock, *, since_ms: int | None = None):
        """`since_ms`: rows that arrived before are left out, as by a node that was down."""
        self._sources = tuple(found)
        self._clock = clock
        self._since_ms = since_ms
        self._sent: deque[Arrival] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether one of the observers was connected at the clock's time."""
        if self._closed:
            return False
        now_ms = self._clock.now_ms()
        return any(
            source.connected_ms is None
            or any(start <= now_ms < stop for start, stop in source.connected_ms)
            for source in self._sources
        )

    async def arrivals(self) -> AsyncIterator[Sequence[Arrival]]:
        """Rows once their time has come, and what was sent, by arrival. After the last row it
        goes on for what is sent, until `close`. Raises TraceMalformed."""
        with contextlib.closing(self._rows()) as rows:
            row = next(rows, None)
            while not self._closed:
                now_ms = self._clock.now_ms()
                group: list[Arrival] = []
                while len(group) < limits.TRACE_GROUP_MAX:
                    due = row is not None and row.arrival_ms <= now_ms
                    if self._sent and not (due and row and row <= self._sent[0]):
                        group.append(self._sent.popleft())
                    elif due and row is not None:
                        group.append(row)
                        row = next(rows, None)
                    else:
                        break
                if group:
                    yield group
                    # Whoever is behind has rows at once, again and again: let others have a turn.
                    await asyncio.sleep(0)
                else:
                    await self._pause(None if row is None else row.arrival_ms)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """A trace relays to nobody, and leaves nobody."""

    def send(self, raw: bytes) -> int:
        """Deliver an envelope to this node's own arrivals. Raises Unavailable (`no-peer`)."""
        if not self.connected:
            raise Unavailable("the trace has no connected observer now", code="no-peer")
        self._sent.append(Arrival(self._clock.now_ms(), raw))
        self._wake.set()
        return 0

    def resume(self, raws: Sequence[bytes]) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {}

    def reasons(self) -> list[tuple[str, str]]:
        return []

    def peers(self) -> list[dict[str, Any]]:
        return []

    async def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def _pause(self, until_ms: int | None) -> None:
        """Until the clock says so, or something was sent, or the network was closed."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._wake.wait())]
        if until_ms is not None:
            waits.append(asyncio.ensure_future(_at(self._clock, until_ms)))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._wake.clear()

    def _rows(self) -> Generator[Arrival, None, None]:
        """All rows by arrival; of several observers, each envelope once."""
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(contextlib.closing(read_arrivals(source.path)))
                for source in self._sources
            ]
            rows: Iterator[Arrival] = heapq.merge(*streams)
            if self._since_ms is not None:
                rows = (row for row in rows if row.arrival_ms >= self._since_ms)
            yield from rows if len(streams) == 1 else _each_once(rows)


def _each_once(rows: Iterable[Arrival]) -> Iterator[Arrival]:
    """Leave out what came before. Kept in memory: ids, 32 bytes each."""
    seen: set[bytes] = set()
    for row in rows:
        id_ = sha256(row.raw).digest()
        if id_ not in seen:
            seen.add(id_)
            yield row


def read_arrivals(path: Path) -> Generator[Arrival, None, None]:
    """The rows of an observer's file, as a stream. Raises TraceMalformed."""
    last_ms = 0
    with path.open("rb") as file:
        for number, line in read_lines(file, str(path)):
            row = _plain_row(line) or _any_row(line, path, number)
            if row.arrival_ms < last_ms:
                raise _malformed(path, number, "arrives before the line above it")
            last_ms = row.arrival_ms
            yield row


def _plain_row(line: bytes) -> Arrival | None:
    """A row that is written as `json.dumps` does it; None leaves every other line to JSON, which
    takes three times as long."""
    head, _, text = line.partition(b', "rlp": "')
    number = head[len(_ROW_HEAD) :]
    if not (head.startswith(_ROW_HEAD) and number.isdigit() and text.endswith(_ROW_END)):
        return None
    if number.startswith(b"0"):  # JSON knows no leading zeros
        return None
    try:
        return Arrival(int(number), unhexlify(text[: -len(_ROW_END)]))
    except ValueError:
        return None


def _any_row(line: bytes, path: Path, number: int) -> Arrival:
    row = parse_row(line, str(path), number)
    arrival_ms, text = row.get("arrival_ms"), row.get("rlp")
    if type(arrival_ms) is not int or not isinstance(text, str):
        raise _malformed(path, number, "arrival_ms (integer) and rlp (hex) are needed")
    try:
        return Arrival(arrival_ms, unhex(text))
    except ValueError:
        raise _malformed(path, number, "rlp is not hex") from None


def read_rows(file: BinaryIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line of JSONL, gzipped or not; empty lines are errors too.
    Raises TraceMalformed, naming the line."""
    for number, line in read_lines(file, name):
        yield number, parse_row(line, name, number)


def read_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes) of each line, unpacked if the file is gzipped. Raises
    TraceMalformed for damaged gzip and for a line over the limit."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(_raw(file))
    packed = buffered.peek(2)[:2] == _GZIP_MAGIC
    number = 0
    try:
        with gzip.open(buffered) if packed else contextlib.nullcontext(buffered) as lines:
            while line := lines.readline(limits.TRACE_LINE_MAX_BYTES + 1):
                number += 1
                if len(line) > limits.TRACE_LINE_MAX_BYTES:
                    raise _malformed(name, number, "the line is too long")
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _malformed(name, number + 1, f"damaged gzip ({error})") from None


def parse_row(line: bytes, name: str, number: int) -> dict[str, Any]:
    """The JSON object that a line holds. Raises TraceMalformed."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _malformed(name, number, f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _malformed(name, number, "not a JSON object")
    return row


def unhex(text: str) -> bytes:
    """The bytes that `text` stands for, two digits a byte and nothing between. ValueError."""
    raw = bytes.fromhex(text)
    if len(text) != 2 * len(raw):  # fromhex itself forgives white space
        raise ValueError("white space between hex digits")
    return raw


async def _at(clock: Clock, when_ms: int) -> None:
    await clock.sleep_until(when_ms)


def _raw(file: BinaryIO) -> io.RawIOBase:
    return cast(io.RawIOBase, file)


def _malformed(name: str | Path, number: int, why: str) -> TraceMalformed:
    return TraceMalformed(f"{name}, line {number}: {why}")


def _intervals(truth: Path) -> dict[str, tuple[tuple[int, int], ...]]:
    """observer → its connection intervals, of those that the truth file gives intervals for."""
    if not truth.is_file():
        return {}
    try:
        if truth.stat().st_size > limits.TRACE_TRUTH_MAX_BYTES:
            raise ValueError("too large")
        observers = json.loads(truth.read_bytes()).get("observers", {})
        return {
            str(name): tuple((int(start), int(stop)) for start, stop in entry["connected_ms"])
            for name, entry in observers.items()
            if "connected_ms" in entry
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TraceMalformed(f"{truth}: not a trace's truth file ({error})") from None
