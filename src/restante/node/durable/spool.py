"""Roll-ups taken apart: one pass over the pages of one leaves a file of each window's envelopes.

A roll-up sorts its records by topic, so a window's stand all over it, and who rebuilds the batches
of many windows must not read it once for each. The files are nothing but a saving of work: what is
built of them counts only if it has the CID that was decided, and a start begins without them.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from restante import limits
from restante.durable import read_range
from restante.errors import VerificationFailed
from restante.formats.level import Span
from restante.formats.page import parse
from restante.node.segment_reader import SegmentReader

_LENGTH = 4


class Spool:
    """The envelopes of one roll-up, by window. One thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.span: Span | None = None
        """The windows that it has."""
        self.clear()

    def clear(self) -> None:
        """Forget what it has."""
        self.span = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def fill(self, span: Span, reader: SegmentReader, each_page: Callable[[], None]) -> None:
        """Take a roll-up apart, in place of the one before; `each_page` may break it off.

        Raises what the reader raises, VerificationFailed `rollup-records`, OSError.
        """
        self.clear()
        self._directory.mkdir(parents=True)
        pieces: dict[int, list[bytes]] = {}
        held = count = 0
        for _, page in reader.pages(reader.rows()):
            each_page()
            for window, raw in parse(page, span.first, span.windows):
                pieces.setdefault(window, []).append(len(raw).to_bytes(_LENGTH, "big") + raw)
                held += len(raw)
                count += 1
            if held > limits.SPOOL_BYTES:
                self._write(pieces)
                held = 0
        self._write(pieces)
        if count != reader.root.count:
            raise VerificationFailed(
                f"a roll-up of {count} records, its root says {reader.root.count}",
                code="rollup-records",
            )
        self.span = span

    def records(self, window: int) -> Iterator[tuple[int, bytes]]:
        """The (window, envelope) of one of its windows."""
        data = read_range(self._directory / str(window)) or b""
        at = 0
        while at < len(data):
            end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
            yield window, data[at + _LENGTH : end]
            at = end

    def _write(self, pieces: dict[int, list[bytes]]) -> None:
        for window, raws in pieces.items():
            with (self._directory / str(window)).open("ab") as file:
                file.write(b"".join(raws))
        pieces.clear()
