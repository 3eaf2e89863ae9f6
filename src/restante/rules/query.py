"""What a query covers, in which order its answer comes, and what the answer may claim.

Records stand in the archive by window of arrival and are answered by sent time: R0 bounds how far
the two differ, so a client streams, and knows before which sent time its answer is final. Cursors
belong to a query and a tree size: any source with at least that size continues them.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias

from restante import limits
from restante.errors import ConfigError, InvalidEncoding, Unavailable
from restante.formats import dagcbor
from restante.formats.contact import WatchNote
from restante.formats.dagcbor import Fields
from restante.formats.descriptor import Descriptor
from restante.rules.committed import Committed

Mode: TypeAlias = Literal["bucket", "exact", "all"]
MODES: tuple[Mode, ...] = ("bucket", "exact", "all")


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """An envelope of an answer; sorts in the order of answers."""

    sent_s: int
    """Sent time as its author claims it, unix seconds."""
    id: bytes
    """SHA-256 of `raw`."""
    topic: bytes
    window: int
    """The window whose batch holds it."""
    raw: bytes
    """The envelope as the network carried it."""
    read_from: Committed | None = field(default=None, compare=False, repr=False)
    """The segment that it was read from."""


@dataclass(frozen=True, slots=True)
class Query:
    """Topics × a range. Raises ConfigError `query` for what cannot be asked.

    Mode says what is fetched, and so what an observer of all fetches learns:
    `bucket`, in every segment of the range the pages of the topic's bucket, hit or not: the bucket,
    which many topics share, and never the topic; costs a page or more for each segment. `exact`,
    only pages where a directory or index shows a hit: cheapest, and tells which topic. `all`,
    everything: tells the range alone, costs all of its bytes; it reads the smallest segments that
    are surely still there, and holds the records of one of them (an hour's at most, by default).
    """

    topics: tuple[bytes, ...]
    """Empty asks for every topic, in mode `all` only."""
    since: int = 0
    """A tree size: only windows from this one on."""
    sent_from_s: int | None = None
    """Only sent times from this one on, unix seconds."""
    sent_to_s: int | None = None
    """Only sent times before this one."""
    mode: Mode = "bucket"
    limit: int | None = None
    """Answer at most so many envelopes."""
    cursor: str | None = None
    """Go on where an earlier answer of the same query ended."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise _bad(f"no such mode: {self.mode}")
        if not self.topics and self.mode != "all":
            raise _bad("a query names topics; without any it must be of mode all")
        if len(self.topics) > limits.QUERY_TOPICS:
            raise _bad(f"a query of more than {limits.QUERY_TOPICS} topics")
        if any(not 0 < len(topic) <= limits.TOPIC_MAX_BYTES for topic in self.topics):
            raise _bad("not a topic")
        if not 0 <= self.since <= limits.TREE_SIZE_MAX:
            raise _bad("since is a tree size")
        for time_s in (self.sent_from_s, self.sent_to_s):
            if time_s is not None and not 0 <= time_s <= limits.DESCRIPTOR_TIME_MAX_S:
                raise _bad("a sent time is in unix seconds")
        if self.sent_to_s is not None and self.sent_to_s <= (self.sent_from_s or 0):
            raise _bad("the range of sent times is empty")
        if self.limit is not None and self.limit < 1:
            raise _bad("a limit is at least 1")

    def hash(self) -> bytes:
        """What a cursor is bound to: topics and range, not mode, limit or cursor."""
        return sha256(
            dagcbor.encode(
                {
                    "topics": list[dagcbor.Value](sorted(set(self.topics))),
                    "since": self.since,
                    "from": self.sent_from_s,
                    "to": self.sent_to_s,
                }
            )
        ).digest()

    def wants(self, topic: bytes, sent_s: int) -> bool:
        """Whether an envelope of this topic and sent time is asked for, wherever it stands."""
        return (
            (not self.topics or topic in self.topics)
            and (self.sent_from_s is None or sent_s >= self.sent_from_s)
            and (self.sent_to_s is None or sent_s < self.sent_to_s)
        )


def _bad(message: str) -> ConfigError:
    return ConfigError(message, code="query")


class Place(NamedTuple):
    """Where in an answer's order an envelope stands."""

    sent_s: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where an answer was left.

    With `after`, windows [since, size) go on behind that place; without, they are done, and what
    comes next is "since `size`".
    """

    set_id: bytes
    query: bytes
    """Hash of the query."""
    since: int
    """First window that the answer covers."""
    size: int
    """Tree size it was made at: W + 1."""
    after: Place | None

    def text(self) -> str:
        """Base64url without padding."""
        data = dagcbor.encode(
            {
                "version": 1,
                "kind": "cursor",
                "set": self.set_id,
                "query": self.query,
                "since": self.since,
                "size": self.size,
                "after": None if self.after is None else list(self.after),
            }
        )
        return urlsafe_b64encode(data).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor of its text, which has one spelling. Raises InvalidEncoding `cursor`."""
        try:
            cursor = cls._read(text)
        except InvalidEncoding as error:
            raise InvalidEncoding(f"not a cursor: {error}", code="cursor") from error
        if cursor.text() != text:
            raise InvalidEncoding("not a cursor: another spelling of one", code="cursor")
        return cursor

    @classmethod
    def _read(cls, text: str) -> "Cursor":
        if not text.isascii() or len(text) > limits.CURSOR_CHARACTERS:
            raise InvalidEncoding("too long, or not ASCII")
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise InvalidEncoding("not base64url") from error
        fields = Fields.decode(data, "cursor")
        fields.version()
        fields.literal("kind", "cursor")
        set_id, query = fields.bytes_("set", size=32), fields.bytes_("query", size=32)
        since = fields.uint("since", limits.TREE_SIZE_MAX)
        size = fields.uint("size", limits.TREE_SIZE_MAX)
        match fields.value("after"):
            case None:
                after = None
            case [int() as sent_s, bytes() as id_] if (
                dagcbor.is_int(sent_s) and sent_s >= 0 and len(id_) == 32
            ):
                after = Place(sent_s, id_)
            case _:
                raise InvalidEncoding("not a place in an answer")
        fields.done()
        if since > size:
            raise InvalidEncoding("it begins after its end")
        return cls(set_id, query, since, size, after)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which windows answer a query under one checkpoint."""

    query: Query
    query_hash: bytes
    set_id: bytes
    since: int
    """The answer speaks of windows [since, size)."""
    size: int
    after: Place | None
    """What comes before or at this place was answered earlier."""
    windows: range
    """Those of them that can hold what is left (R0)."""
    covered: range
    """Those of them that can hold what was asked for (R0): what blind windows are told of."""

    def keeps(self, found: Found) -> bool:
        """Whether an envelope of these windows belongs to what is left of the answer."""
        return self.query.wants(found.topic, found.sent_s) and (
            self.after is None or (found.sent_s, found.id) > self.after
        )

    def may_hold(self, sent_min_s: int | None, sent_max_s: int | None) -> bool:
        """Whether a batch with these sent times (None if it is empty) can hold what is left."""
        if sent_min_s is None or sent_max_s is None:
            return False
        least, beyond = self.query.sent_from_s, self.query.sent_to_s
        if self.after is not None:
            least = max(self.after.sent_s, least or 0)
        return (least is None or sent_max_s >= least) and (beyond is None or sent_min_s < beyond)

    def cursor(self, after: Place | None) -> str:
        """The cursor behind a place of this answer; None says that the answer is at its end."""
        return Cursor(self.set_id, self.query_hash, self.since, self.size, after).text()


def plan(query: Query, d: Descriptor, size: int) -> Plan:
    """What to read for a query at a tree size.

    Raises InvalidEncoding `cursor`; ConfigError `cursor-set` or `cursor-query` for a cursor of
    another set or query; Unavailable `cursor-ahead` if the cursor was made at a larger tree.
    """
    hashed = query.hash()
    since, after = query.since, None
    if query.cursor is not None:
        cursor = _checked_cursor(query.cursor, d.set_id, hashed)
        if cursor.size > size:
            raise Unavailable(
                f"the cursor was made at tree size {cursor.size}, the archive shows {size}",
                code="cursor-ahead",
                hint="ask again later, or ask another source",
            )
        if cursor.after is None:
            since = max(since, cursor.size)
        else:
            since, size, after = cursor.since, cursor.size, cursor.after
    since = min(since, size)
    covered = _windows(d, since, size, query.sent_from_s, query.sent_to_s)
    least = query.sent_from_s if after is None else max(after.sent_s, query.sent_from_s or 0)
    windows = _windows(d, since, size, least, query.sent_to_s)
    return Plan(query, hashed, d.set_id, since, size, after, windows, covered)


def _checked_cursor(text: str, set_id: bytes, query_hash: bytes) -> Cursor:
    cursor = Cursor.parse(text)
    if cursor.set_id != set_id:
        raise ConfigError("the cursor is of another validator set", code="cursor-set")
    if cursor.query != query_hash:
        raise ConfigError(
            "the cursor is of another query",
            code="cursor-query",
            hint="give the topics and the range that the cursor was made with",
        )
    return cursor


def _windows(d: Descriptor, since: int, size: int, least: int | None, beyond: int | None) -> range:
    """The windows of [since, size) whose batches may hold sent times in [least, beyond)."""
    latest = limits.DESCRIPTOR_TIME_MAX_S if beyond is None else beyond - 1
    bounds = d.windows_for_sent(0 if least is None else least, latest)
    first = max(since, bounds.start if least is not None else since)
    return range(first, max(first, min(size, bounds.stop)))


def waits_for(query: Query, d: Descriptor, size: int) -> tuple[int, int | None] | None:
    """The windows [a, b) from `size` on that may still bring what the query asks for.

    b is None where the range has no end; None if the answer is final.
    """
    if query.sent_to_s is None:
        return size, None
    stop = d.windows_for_sent(query.sent_from_s or 0, query.sent_to_s - 1).stop
    return (size, stop) if stop > size else None


class Order:
    """Envelopes by (sent time, id), each once, of windows that are read in ascending order.

    What is sent before `final_before_s(w)` cannot come after window w: it goes out as soon as w is
    read, so no more than the envelopes of K windows are held, and of the segment read last.
    """

    def __init__(self, final_before_s: Callable[[int], int]) -> None:
        self._final_before_s = final_before_s
        # Sorted; as tuples, whose comparison is much faster.
        self._held: list[tuple[int, bytes, Found]] = []
        self._last = b""

    def push(self, window: int, batch: Iterable[Found]) -> Iterator[Found]:
        """Take what was found up to a window, its last; what is final then."""
        self._held += [(found.sent_s, found.id, found) for found in batch]
        # Sorting goes by runs, and all but the new ones are one.
        self._held.sort()
        final = bisect_left(self._held, (self._final_before_s(window),))
        ready, self._held = self._held[:final], self._held[final:]
        return self._once(ready)

    def rest(self) -> Iterator[Found]:
        """All that is left, once everything was read."""
        ready, self._held = self._held, []
        return self._once(ready)

    def _once(self, ready: Iterable[tuple[int, bytes, Found]]) -> Iterator[Found]:
        for _, id_, found in ready:
            if id_ != self._last:
                yield found
            self._last = id_


def in_order(
    batches: Iterable[tuple[int, Iterable[Found]]], final_before_s: Callable[[int], int]
) -> Iterator[Found]:
    """The envelopes of batches by ascending window, in the order of answers."""
    order = Order(final_before_s)
    for window, batch in batches:
        yield from order.push(window, batch)
    yield from order.rest()


Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Half-open ranges of windows, ascending, apart."""


class Sight(NamedTuple):
    """How well windows were watched. What is not named was watched well enough."""

    blind: Ranges
    """At most f of n − f or more watch notes watched them: blind is not quiet."""
    unknown: Ranges
    """Fewer than n − f watch notes speak of them."""


def sight(notes: Sequence[WatchNote], windows: range, d: Descriptor) -> Sight:
    """What watch notes of distinct validators say of these windows."""
    # (window, change of how many speak, change of how many watched), swept in order.
    steps: list[tuple[int, int, int]] = [(windows.start, 0, 0), (windows.stop, 0, 0)]
    for note in notes:
        steps += [(note.floor, 1, 1), (note.size, -1, -1)]
        for a, b in note.unwatched:
            steps += [(a, 0, -1), (b, 0, 1)]
    steps.sort()
    blind: list[tuple[int, int]] = []
    unknown: list[tuple[int, int]] = []
    speaking = watching = at = 0
    for window, spoke, watched in steps:
        a, b = max(at, windows.start), min(window, windows.stop)
        if a < b and speaking < d.k:
            _extend(unknown, a, b)
        elif a < b and watching <= d.f:
            _extend(blind, a, b)
        speaking, watching, at = speaking + spoke, watching + watched, window
    return Sight(tuple(blind), tuple(unknown))


def _extend(ranges: list[tuple[int, int]], a: int, b: int) -> None:
    if ranges and ranges[-1][1] == a:
        ranges[-1] = (ranges[-1][0], b)
    else:
        ranges.append((a, b))
