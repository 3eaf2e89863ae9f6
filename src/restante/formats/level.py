"""The levels of roll-ups, and the spans of windows that they cut time into: arithmetic alone.

Level 0 is the batches. Whoever knows the descriptor knows which entry names which roll-up, so that
a client computes what covers a range, and a validator what a window's entry must hold.
"""

from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats.dagcbor import Value, is_int

Kind = Literal["bodies", "index"]
DAY_S = 86_400
"""How long a publisher keeps the children of a roll-up after the window whose entry names it."""


class Level(NamedTuple):
    """One level of roll-ups."""

    windows: int
    """How many windows a span of it covers."""
    kind: Kind = "bodies"
    """`bodies`: the children's records, merged. `index`: only where they stand."""


STANDARD = (Level(10), Level(120), Level(2_880, "index"))
"""Five minutes, an hour, a day, of windows of 30 s."""


class Span(NamedTuple):
    """The windows [first, stop) that one segment covers; sorts by level."""

    level: int
    number: int
    """Counted from genesis: `first` / `windows`."""
    first: int
    windows: int

    @property
    def stop(self) -> int:
        """The window after its last."""
        return self.first + self.windows

    def __contains__(self, window: object) -> bool:
        return isinstance(window, int) and self.first <= window < self.stop


class Leveled(Protocol):
    """What of a descriptor says where roll-ups stand."""

    @property
    def levels(self) -> tuple[Level, ...]: ...

    @property
    def rollup_lag(self) -> int: ...

    @property
    def window_s(self) -> int: ...


def windows_of(d: Leveled, level: int) -> int:
    """How many windows a span of a level has."""
    return 1 if level == 0 else d.levels[level - 1].windows


def is_index(d: Leveled, level: int) -> bool:
    """Whether the spans of a level hold no bodies."""
    return level > 0 and d.levels[level - 1].kind == "index"


def body_levels(d: Leveled) -> range:
    """The levels whose segments hold bodies, batches among them."""
    return range(len(d.levels) + 1 - (is_index(d, len(d.levels))))


def span(d: Leveled, level: int, number: int) -> Span:
    """The span of a level and number."""
    windows = windows_of(d, level)
    return Span(level, number, number * windows, windows)


def span_of(d: Leveled, level: int, window: int) -> Span:
    """The span of a level that a window lies in."""
    return span(d, level, window // windows_of(d, level))


def children(d: Leveled, parent: Span) -> list[Span]:
    """The spans of the level below that make up one of a level above 0."""
    windows = windows_of(d, parent.level - 1)
    first = parent.first // windows
    return [span(d, parent.level - 1, first + i) for i in range(parent.windows // windows)]


def entry_window(d: Leveled, of: Span) -> int:
    """The window whose log entry names a span's segment: its own, or its last plus the lag."""
    return of.first if of.level == 0 else of.stop - 1 + d.rollup_lag


def ended_by(d: Leveled, window: int) -> list[Span]:
    """The spans of levels above 0 whose last window is this one, in order of levels."""
    stop = window + 1
    return [
        Span(number, stop // level.windows - 1, stop - level.windows, level.windows)
        for number, level in enumerate(d.levels, 1)
        if stop >= level.windows and stop % level.windows == 0
    ]


def due_at(d: Leveled, window: int) -> list[Span]:
    """The spans whose roll-ups stand in the entry of this window, in the order they stand there."""
    return ended_by(d, window - d.rollup_lag)


def day_windows(d: Leveled) -> int:
    """A day, in windows."""
    return -(-DAY_S // d.window_s)


def children_kept_until(d: Leveled, parent: Span) -> int:
    """The last window of the log at which the children of a body roll-up are surely still kept."""
    return entry_window(d, parent) + day_windows(d)


def encode(levels: tuple[Level, ...]) -> Value:
    """As the descriptor's field."""
    return [list[Value](level) for level in levels]


def read(value: Value) -> tuple[Level, ...]:
    """The descriptor's field. Raises InvalidEncoding; `check` asks the rest."""
    if not isinstance(value, list) or len(value) > limits.SEGMENT_MAX_LEVEL:
        raise InvalidEncoding(f"levels: not a list of at most {limits.SEGMENT_MAX_LEVEL}")
    levels: list[Level] = []
    for item in value:
        match item:
            case [windows, ("bodies" | "index") as kind] if is_int(windows):
                levels.append(Level(windows, kind))
            case _:
                raise InvalidEncoding("levels: an item is not [windows, bodies or index]")
    return tuple(levels)


def check(levels: tuple[Level, ...], *, batch_max_envelopes: int, rollup_limit_bytes: int) -> None:
    """Refuse levels that no set can have. Raises InvalidEncoding.

    What is allowed here can always be made: no segment has more pages, parts or topics than its
    root can name, so that a roll-up is *none* for one reason only, the committed bytes.
    """
    if len(levels) > limits.SEGMENT_MAX_LEVEL:
        raise InvalidEncoding(f"levels: more than {limits.SEGMENT_MAX_LEVEL}")
    for below, level in pairwise((Level(1), *levels)):
        if not below.windows < level.windows <= limits.SEGMENT_MAX_WINDOWS:
            raise InvalidEncoding("levels: not ascending, or beyond what a segment may cover")
        if level.windows % below.windows:
            raise InvalidEncoding("levels: one is no multiple of the one below")
        if below.kind == "index":
            raise InvalidEncoding("levels: nothing stands above an index")
        if level.kind == "index":
            if level.windows // below.windows > limits.INDEX_MAX_CHILDREN:
                raise InvalidEncoding("levels: an index of too many children")
        elif level.windows * batch_max_envelopes > limits.ROLLUP_MAX_ENVELOPES:
            raise InvalidEncoding("levels: more envelopes in a span than a root can name topics")
    if levels and rollup_limit_bytes > limits.ROLLUP_LIMIT_BYTES:
        raise InvalidEncoding("descriptor: rollup_limit_bytes is beyond what a segment can hold")
