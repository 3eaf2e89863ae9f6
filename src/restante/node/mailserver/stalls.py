"""Which windows were not yet in the index at a time in the past.

A client asks from where its last request ended, so what was not yet sealed then would be lost for
it: it was sent, and arrived, before its new lower bound (status-legacy#6814 is the same gap in old
servers). Ordinarily a window is in the index MARGIN_S after its end. Where it was not, because the
engine, the validators or our sources stood still, the times and the tree size are written down.
"""

import json
from pathlib import Path
from typing import NamedTuple

from restante import limits
from restante.durable import write_file
from restante.formats.descriptor import Descriptor

MARGIN_S = 90
"""Three windows of 30 s: grace, a few steps of standings, and a gateway on the way."""


class _Stall(NamedTuple):
    from_s: int
    to_s: int
    size: int


class Stalls:
    """Of one archive; kept in a file, since a restart falls into the worst of times."""

    def __init__(self, path: Path, d: Descriptor) -> None:
        self._path = path
        self._d = d
        self._stalls: list[_Stall] = []
        self._last_s = 0
        self._load()

    def __len__(self) -> int:
        return len(self._stalls)

    def note(self, now_s: int, size: int) -> None:
        """That requests of this time are answered from this tree size. Raises OSError."""
        since_s, self._last_s = self._last_s or now_s, now_s
        if size >= self._ordinary(now_s):
            return
        last = self._stalls[-1] if self._stalls else None
        if last is not None and last.size == size:
            self._stalls[-1] = last._replace(to_s=max(last.to_s, now_s))
        else:
            self._stalls.append(_Stall(since_s, now_s, size))
            del self._stalls[: -limits.MAIL_STALLS]
        if last is None or last.size != size or now_s - last.to_s >= 1:
            self._save()

    def not_yet_at(self, then_s: int) -> int:
        """The first window that a request at that time may not have been answered from."""
        sizes = [s.size for s in self._stalls if s.from_s <= then_s <= s.to_s + MARGIN_S]
        return max(0, min([self._ordinary(then_s), *sizes]))

    def _ordinary(self, now_s: int) -> int:
        """The first window that ended after MARGIN_S ago."""
        return self._d.window_of((now_s - MARGIN_S) * 1000)

    def _save(self) -> None:
        write_file(self._path, json.dumps(self._stalls).encode())

    def _load(self) -> None:
        try:
            with self._path.open("rb") as file:
                rows = json.loads(file.read(limits.MAIL_STALLS_BYTES))
            self._stalls = [_Stall(*map(int, row)) for row in rows][-limits.MAIL_STALLS :]
        except (OSError, ValueError, TypeError, RecursionError):
            # Ordinary times are told from it without a file.
            self._stalls = []
