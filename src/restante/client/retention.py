"""From which window on a source still has what a query reads; found out once for each source.

A publisher drops what lies wholly below its floor, entry bundles and segments alike, and never says
where that is. So when a file is not there, requests of one byte tell whether it is the floor that
makes it missing, or the file alone.
"""

from collections.abc import Sequence

from restante import limits
from restante.client.failures import BelowRetention, SourceFailed
from restante.client.machine import Ask, Machine, Named
from restante.errors import RestanteError
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.paths import segment_path
from restante.rules.cover import Cover


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
        start = self._windows.start
        if (yield from self._present(source, self._paths(range(start, start + 1))))[0]:
            return start
        numbers = range(start // tiles.WIDTH, (self._windows.stop - 1) // tiles.WIDTH)
        # The newest bundle of the range is not asked for: it may be a partial one.
        bundle = numbers.start + (
            yield from self._first(source, [tiles.entries_path(n) for n in numbers])
        )
        first = max(start, bundle * tiles.WIDTH)
        within = range(first, min(self._windows.stop, (bundle + 1) * tiles.WIDTH))
        steps = list(self._cover.segments(within))
        paths = self._paths(within)
        found = yield from self._first(source, paths)
        return steps[found].windows.start if found < len(steps) else within.stop

    def _paths(self, windows: range) -> list[str]:
        spans = (step.span for step in self._cover.segments(windows))
        return [segment_path(span.level, span.number) for span in spans]

    def _first(self, source: Named, paths: Sequence[str]) -> Machine[int]:
        """How many of these files, from the first on, a source lacks, if it has all after them."""
        low, high = 0, len(paths)
        while low < high:
            stride = -(-(high - low) // limits.RETENTION_PROBES)
            asked = list(range(low + stride - 1, high, stride))
            present = yield from self._present(source, [paths[i] for i in asked])
            has = [i for i, there in zip(asked, present, strict=True) if there]
            lacks = [i for i, there in zip(asked, present, strict=True) if not there]
            high = min(has, default=high)
            low = max([low, *(i + 1 for i in lacks if i < high)])
        return high

    def _present(self, source: Named, paths: Sequence[str]) -> Machine[list[bool]]:
        replies = yield [Ask(source, path, 1, 0, 1) for path in paths]
        return [not (isinstance(r, RestanteError) and r.code == "not-found") for r in replies]


def describe(d: Descriptor, first: int, stop: int) -> str:
    """Windows in words, with the times of arrival that they stand for."""
    name = f"window {first}" if stop == first + 1 else f"windows {first} to {stop - 1}"
    return f"{name} (arrivals from {d.start_s(first)} to {d.start_s(stop)})"
