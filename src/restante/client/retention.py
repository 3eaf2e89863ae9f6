"""From which window on a source still has what a query reads; found out once for each source.

A publisher drops what lies wholly below its floor, entry bundles and segments alike, and never says
where that is. So when a file is not there, requests of one byte tell whether it is the floor that
makes it missing, or the file alone.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from restante import limits
from restante.client.failures import BelowRetention, SourceFailed
from restante.client.machine import Ask, Machine, Named
from restante.errors import RestanteError
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span
from restante.formats.paths import segment_path
from restante.rules.cover import Cover

T = TypeVar("T")


class Retention:
    """The floors of the sources of one query."""

    def __init__(self, cover: Cover, windows: range) -> None:
        """`windows` are those of the query."""
        self._cover = cover
        self._windows = windows
        self._floors: dict[int, int] = {}

    def require(self, source: Named, windows: range) -> None:
        """Refuse windows below a floor that is known. Raises BelowRetention."""
        floor = self._floors.get(id(source))
        if floor is None or windows.stop > floor:
            return
        lost = self._windows.start, floor
        raise BelowRetention(
            f"{source.name} keeps nothing of {describe(self._cover.d, *lost)}", lost
        )

    def explain(self, source: Named, windows: range, error: SourceFailed) -> Machine[None]:
        """Raise why a source lacks something of these windows: BelowRetention, or the error."""
        if error.code == "not-found":
            if id(source) not in self._floors:
                # Others that ask at the same time ask for the same, which is carried out once.
                floor = yield from self._find(source)
                self._floors[id(source)] = floor
            self.require(source, windows)
        raise error

    def _find(self, source: Named) -> Machine[int]:
        """The first window of the query that the source has, as far as small requests tell."""
        start, stop = self._windows.start, self._windows.stop
        spans = self._largest(range(start, min(start + 1, stop)))
        if (yield from self._has(source, spans)) == [True]:
            return start
        # The newest bundle of the range is not asked for: it may be a partial one.
        numbers = range(start // tiles.WIDTH, (stop - 1) // tiles.WIDTH)
        bundles = [[tiles.entries_path(n)] for n in numbers]
        gone = yield from _first(lambda some: _present(source, some), bundles)
        within = range((numbers.start + gone) * tiles.WIDTH, stop)[: tiles.WIDTH]
        spans = self._largest(range(max(start, within.start), within.stop))
        found = yield from _first(lambda some: self._has(source, some), spans)
        return max(start, spans[found].first) if found < len(spans) else within.stop

    def _largest(self, windows: range) -> list[Span]:
        """The largest segments that hold windows: what a publisher keeps longest."""
        return list(dict.fromkeys(self._cover.holding(window)[-1] for window in windows))

    def _has(self, source: Named, spans: Sequence[Span]) -> Machine[list[bool]]:
        """Whether a source has the last window of each span: there, or in a smaller segment, since
        the largest may be none."""
        held = [self._cover.holding(span.stop - 1) for span in spans]
        paths = [[segment_path(each.level, each.number) for each in some] for some in held]
        return _present(source, paths)


def _first(has: Callable[[Sequence[T]], Machine[list[bool]]], items: Sequence[T]) -> Machine[int]:
    """Which of these is the first that is there, as all after it are; their number if none is."""
    low, high = 0, len(items)
    while low < high:
        stride = -(-(high - low) // limits.RETENTION_PROBES)
        asked = range(low + stride - 1, high, stride)
        there = yield from has([items[i] for i in asked])
        high = min((i for i, yes in zip(asked, there, strict=True) if yes), default=high)
        low = max(
            [low, *(i + 1 for i, yes in zip(asked, there, strict=True) if not yes and i < high)]
        )
    return high


def _present(source: Named, items: Sequence[Sequence[str]]) -> Machine[list[bool]]:
    """Whether a source has any of the files of each item."""
    asks = list(dict.fromkeys(Ask(source, path, 1, 0, 1) for paths in items for path in paths))
    replies = dict(zip((ask.path for ask in asks), (yield asks), strict=True))

    def there(path: str) -> bool:
        reply = replies[path]
        return not (isinstance(reply, RestanteError) and reply.code == "not-found")

    return [any(map(there, paths)) for paths in items]


def describe(d: Descriptor, first: int, stop: int) -> str:
    """Windows in words, with the times of arrival that they stand for."""
    name = f"window {first}" if stop == first + 1 else f"windows {first} to {stop - 1}"
    return f"{name} (arrivals from {d.start_s(first)} to {d.start_s(stop)})"
