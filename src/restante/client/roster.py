"""Which source is asked next, and what is held against each.

For the length of one call: a source that lied is left, one that failed is asked again only when
nobody else is left. Nothing is held against a source beyond the call.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar, cast

from restante import limits
from restante.client.failures import ABSENT, BelowRetention
from restante.client.machine import Ask, Machine, Named, SourceLeft, got
from restante.client.sources import Source
from restante.errors import Invalid, RestanteError, Unavailable, VerificationFailed
from restante.rules.verify import SetFault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one source did wrong."""

    source: str
    """Its name."""
    code: str
    """Of `rules.verify.CODES`, or of `client.failures.CODES`."""
    detail: str
    """For a person."""
    path: str
    """What was asked for."""
    lied: bool
    """Whether what it gave was wrong, rather than nothing."""
    lost: tuple[int, int] | None = None
    """With code `below-retention`: the windows [a, b) of the range that it has no more."""

    def __str__(self) -> str:
        return f"{self.source}: {self.code}, {self.path}: {self.detail}"


class _NoAnswer(RestanteError):
    what: str = ""
    complaints: tuple[Complaint, ...] = ()


class Unverifiable(_NoAnswer, VerificationFailed):
    """No source gave what verifies, and at least one gave what does not.

    `what` names what is missing, `complaints` says what each source did.
    """

    code = "unverifiable"
    hint = "add a source that you have reason to expect more of"


class Missing(_NoAnswer, Unavailable):
    """No source gave anything. `what` names what is missing, `complaints` says why."""

    code = "missing"
    hint = "try again later, or add a source"
    lost: tuple[int, int] | None = None
    """With code `below-retention`: the windows [a, b) of the range that no source has any more."""


class Standing(IntEnum):
    """In which order sources are asked."""

    GOOD = 0
    BEHIND = 1
    """Its checkpoint is an older one: what is newest it does not have."""
    LAST_RESORT = 2
    """It failed, or is far behind."""
    LEFT = 3
    """It lied: never asked again in this call."""


@dataclass(slots=True)
class Target:
    """What is read."""

    what: str
    """For a person: "the log entries of windows 0 to 255"."""
    path: str
    """For complaints: the file."""


class Standings:
    """The sources of one call, how each stands, and the complaints about them."""

    def __init__(self, sources: Sequence[Named]) -> None:
        self._sources = list(sources)
        self._standing = dict.fromkeys(range(len(self._sources)), Standing.GOOD)
        self._complaints: dict[tuple[str, str, str], Complaint] = {}
        self._lock = threading.Lock()
        self.requests = 0
        self.rounds = 0
        self.bytes_fetched = 0

    @property
    def sources(self) -> list[Named]:
        """All of them, as they were given."""
        return list(self._sources)

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """One for each source and code, the first of its kind."""
        with self._lock:
            first: dict[tuple[str, str], Complaint] = {}
            for complaint in self._complaints.values():
                first.setdefault((complaint.source, complaint.code), complaint)
            return tuple(first.values())

    @property
    def any_left(self) -> bool:
        """Whether a source was left."""
        with self._lock:
            return Standing.LEFT in self._standing.values()

    def standing(self, source: Named) -> Standing:
        """How a source stands now."""
        with self._lock:
            return self._standing[self._index(source)]

    def set_standing(self, source: Named, standing: Standing) -> None:
        """Lower a source's standing; it never rises within a call."""
        with self._lock:
            index = self._index(source)
            self._standing[index] = max(standing, self._standing[index])

    def _index(self, source: Named) -> int:
        return next(i for i, each in enumerate(self._sources) if each is source)

    def candidates(self, first: Sequence[Named] = ()) -> list[Named]:
        """The sources that may still be asked, those in `first` before others of equal standing."""
        with self._lock:
            order = sorted(
                (standing, self._sources[index] not in first, index)
                for index, standing in self._standing.items()
                if standing is not Standing.LEFT
            )
            return [self._sources[index] for *_, index in order]

    def complain(self, source: Named, error: RestanteError, path: str) -> Complaint:
        """Hold an error against a source: it is left if it lied, else comes last.

        A missing file costs no standing: nobody has to keep everything.
        """
        lied = isinstance(error, Invalid)
        lost = error.lost if isinstance(error, BelowRetention) else None
        complaint = Complaint(source.name, error.code, str(error), path, lied, lost)
        with self._lock:
            key = (source.name, error.code, path)
            if len(self._complaints) < limits.COMPLAINTS_KEPT:
                self._complaints.setdefault(key, complaint)
        if lied:
            self.set_standing(source, Standing.LEFT)
        elif error.code not in ABSENT:
            self.set_standing(source, Standing.LAST_RESORT)
        return complaint

    def verified(
        self,
        target: Target,
        attempt: Callable[[Named], Machine[T]],
        first: Sequence[Named] = (),
    ) -> Machine[T]:
        """What the first source gives of which `attempt` makes something right.

        Raises Unverifiable, Missing; SetFault at once, since no other source can do better.
        """
        causes: list[Complaint] = []
        asked: set[int] = set()
        # Standings change meanwhile, by other machines too: ask whoever is best and unasked.
        while True:
            left = [source for source in self.candidates(first) if id(source) not in asked]
            if not left:
                raise self.failure(target.what, causes)
            source = left[0]
            asked.add(id(source))
            try:
                return (yield from attempt(source))
            except SetFault:
                raise
            except SourceLeft:
                continue
            except (Invalid, Unavailable) as error:
                causes.append(self.complain(source, error, target.path))

    def failure(self, what: str, causes: Sequence[Complaint] = ()) -> Unverifiable | Missing:
        """The error for something that no source gave, with all that is held against them.

        Its code is that of the causes where they agree.
        """
        blamed = {complaint.source for complaint in causes}
        earlier = [c for c in self.complaints if c.lied and c.source not in blamed]
        held = (*causes, *earlier)
        reasons = "; ".join(map(str, held)) or "no source was named"
        kind = Unverifiable if any(complaint.lied for complaint in held) else Missing
        codes = {complaint.code for complaint in held}
        code = codes.pop() if len(codes) == 1 else None
        error = kind(f"no source gave {what}: {reasons}", code=code)
        error.what = what
        error.complaints = held
        if isinstance(error, Missing) and code == BelowRetention.code:
            ranges = [complaint.lost for complaint in held if complaint.lost is not None]
            floor = min(stop for _, stop in ranges)
            error.lost = min(first for first, _ in ranges), floor
            error.hint = f"ask from window {floor} on (--since {floor}), or add a source"
        return error

    def counted(self, machine: Machine[T]) -> Machine[T]:
        """The same machine, what it costs counted here."""
        replies: Sequence[bytes | RestanteError] | None = None
        while True:
            try:
                asks = next(machine) if replies is None else machine.send(replies)
            except StopIteration as end:
                return cast(T, end.value)
            self.rounds += 1
            self.requests += len(asks)
            replies = yield asks
            self.bytes_fetched += sum(len(r) for r in replies if isinstance(r, bytes))


def fetch(
    source: Named, path: str, max_bytes: int, *, offset: int = 0, length: int | None = None
) -> Machine[bytes]:
    """One file, or a range of it. Raises as the source does."""
    (reply,) = yield [Ask(source, path, max_bytes, offset, length)]
    return got(reply)


class Roster(Standings):
    """The same for a caller that does its own I/O, from several threads perhaps."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__(sources)

    def fetch(
        self,
        source: Source,
        path: str,
        max_bytes: int,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> bytes:
        """Ask one source, and count what it costs. Raises as `Source.get`."""
        with self._lock:
            self.requests += 1
        data = source.get(path, offset=offset, length=length, max_bytes=max_bytes)
        with self._lock:
            self.bytes_fetched += len(data)
        return data

    def first_verified(
        self,
        what: str,
        path: str,
        ask: Callable[[Source], T],
        first: Sequence[Source] = (),
    ) -> T:
        """The first answer that `ask` gets of a source and finds right.

        `what` is for a person and names what is missing if there is none. Raises as `verified`.
        """

        def attempt(source: Named) -> Machine[T]:
            yield from ()
            return ask(cast(Source, source))

        try:
            next(self.verified(Target(what, path), attempt, first))
        except StopIteration as end:
            return cast(T, end.value)
        raise AssertionError("a machine that asks for nothing")
