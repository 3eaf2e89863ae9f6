"""Log entries under one trusted checkpoint, from whoever serves them."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from restante import limits
from restante.client.failures import SourceFailed
from restante.client.machine import Ask, Machine, Named, Reply, got, together
from restante.client.retention import Retention, describe
from restante.client.roster import Missing, Standings, Target, Unverifiable
from restante.formats import tiles
from restante.formats.entry import LogEntry
from restante.rules.verify import Entries, TrustedArchive

T = TypeVar("T")

TILE_MAX_BYTES = tiles.WIDTH * 32
BUNDLE_MAX_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)


class _Wanted(Exception):
    """A step of verification needs one more file."""

    def __init__(self, path: str) -> None:
        self.path = path


def with_files(
    source: Named,
    paths: Iterable[str],
    verify: Callable[[tiles.Get], T],
    files: dict[str, Reply] | None = None,
) -> Machine[T]:
    """What `verify` makes of a source's tiles and bundles, which it reads by a getter.

    `paths` are asked for at once; what else it turns out to need comes one by one, `verify` being
    called again. They are left in `files`, if that is given. Raises as `verify`.
    """
    files = {} if files is None else files
    wanted = list(dict.fromkeys(paths))

    def get(path: str) -> bytes:
        if path not in files:
            raise _Wanted(path)
        return got(files[path])

    while True:
        if wanted:
            replies = yield [Ask(source, path, _most(path)) for path in wanted]
            files.update(zip(wanted, replies, strict=True))
        try:
            return verify(get)
        except _Wanted as more:
            wanted = [more.path]


def _most(path: str) -> int:
    return BUNDLE_MAX_BYTES if path.startswith("tile/entries/") else TILE_MAX_BYTES


class Log:
    """The entries of a log, by bundles; those read last are kept."""

    def __init__(self, archive: TrustedArchive, standings: Standings) -> None:
        self._archive = archive
        self._standings = standings
        self._bundles: dict[int, Entries] = {}
        self._begun: set[int] = set()
        """Those that somebody is reading ahead."""
        self._ahead = 1
        """Bundles that are read at once where the entries of all windows are wanted."""

    def entry(self, window: int) -> LogEntry | None:
        """The log entry of a window below the tree size, if its bundle was read."""
        bundle = self._bundles.get(window // tiles.WIDTH)
        return None if bundle is None else bundle[window % tiles.WIDTH]

    def read(
        self, window: int, stop: int, retention: Retention, windows: range
    ) -> Machine[LogEntry]:
        """The log entry of a window, and soon those up to `stop`: bundles are read ahead.

        `windows` are those of the query that it is read for. Raises Unverifiable, Missing,
        SetFault.
        """
        n = window // tiles.WIDTH
        if n not in self._bundles:
            beyond = range(n + 1, min(n + self._ahead, (stop - 1) // tiles.WIDTH + 1))
            ahead = [i for i in beyond if i not in self._bundles and i not in self._begun]
            self._begun.update(ahead)
            wanted = [self._bundle(n, retention, windows)]
            wanted += [self._bundle_ahead(i, retention) for i in ahead]
            try:
                yield from together(wanted)
            finally:
                self._begun.difference_update(ahead)
            if len(wanted) == self._ahead:
                self._ahead = min(2 * self._ahead, limits.LOG_BUNDLES_AT_ONCE)
        return self._bundles[n][window % tiles.WIDTH]

    def _bundle_ahead(self, n: int, retention: Retention) -> Machine[None]:
        windows = range(n * tiles.WIDTH, (n + 1) * tiles.WIDTH)
        with suppress(Unverifiable, Missing):  # whoever needs it asks again
            yield from self._bundle(n, retention, windows)

    def _bundle(self, n: int, retention: Retention, windows: range) -> Machine[None]:
        first, last = n * tiles.WIDTH, min((n + 1) * tiles.WIDTH, self._archive.checkpoint.size)

        def verify(get: tiles.Get) -> Entries:
            # Several objects read it at once; the first one's is everybody's.
            return self._bundles.get(n) or self._archive.bundle(n, get)

        def attempt(source: Named) -> Machine[Entries]:
            retention.require(source, windows)
            try:
                return (yield from with_files(source, self._archive.wanted_for_bundle(n), verify))
            except SourceFailed as error:
                yield from retention.explain(source, windows, error)
                raise

        path = tiles.entries_path(n, last - first)
        what = f"the log entries of {describe(self._archive.descriptor, first, last)}"
        bundle = yield from self._standings.verified(Target(what, path), attempt)
        self._bundles.setdefault(n, bundle)
        while len(self._bundles) > limits.LOG_BUNDLES_KEPT:
            del self._bundles[next(iter(self._bundles))]
