"""Which source is asked next, and what is held against each.

For the length of one call: a source that lied is left, one that failed is asked again only when
nobody else is left. Nothing is held against a source beyond the call.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from restante import limits
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


class Standing(IntEnum):
    """In which order sources are asked."""

    GOOD = 0
    BEHIND = 1
    """Its checkpoint is an older one: what is newest it does not have."""
    LAST_RESORT = 2
    """It failed, or is far behind."""
    LEFT = 3
    """It lied: never asked again in this call."""


class Roster:
    """The sources of one call, their standings, and the complaints about them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._standing = dict.fromkeys(range(len(self._sources)), Standing.GOOD)
        self._complaints: dict[tuple[str, str, str], Complaint] = {}
        self._lock = threading.Lock()
        self.requests = 0
        self.bytes_fetched = 0

    @property
    def sources(self) -> list[Source]:
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

    def standing(self, source: Source) -> Standing:
        """How a source stands now."""
        with self._lock:
            return self._standing[self._sources.index(source)]

    def set_standing(self, source: Source, standing: Standing) -> None:
        """Lower a source's standing; it never rises within a call."""
        with self._lock:
            index = self._sources.index(source)
            self._standing[index] = max(standing, self._standing[index])

    def candidates(self, first: Sequence[Source] = ()) -> list[Source]:
        """The sources that may still be asked, those in `first` before others of equal standing."""
        with self._lock:
            order = sorted(
                (standing, self._sources[index] not in first, index)
                for index, standing in self._standing.items()
                if standing is not Standing.LEFT
            )
            return [self._sources[index] for *_, index in order]

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

    def complain(self, source: Source, error: RestanteError, path: str) -> Complaint:
        """Hold an error against a source: it is left if it lied, else comes last.

        A missing file costs no standing: nobody has to keep everything.
        """
        lied = isinstance(error, Invalid)
        complaint = Complaint(source.name, error.code, str(error), path, lied)
        with self._lock:
            key = (source.name, error.code, path)
            if len(self._complaints) < limits.COMPLAINTS_KEPT:
                self._complaints.setdefault(key, complaint)
        if lied:
            self.set_standing(source, Standing.LEFT)
        elif error.code != "not-found":
            self.set_standing(source, Standing.LAST_RESORT)
        return complaint

    def first_verified(
        self,
        what: str,
        path: str,
        ask: Callable[[Source], T],
        first: Sequence[Source] = (),
    ) -> T:
        """The first answer that `ask` gets of a source and finds right.

        `what` is for a person and names what is missing if there is none. Raises Unverifiable,
        Missing; SetFault at once, since no other source can do better.
        """
        causes: list[Complaint] = []
        asked: set[int] = set()
        # Standings change meanwhile, by other threads too: ask whoever is best and unasked.
        while True:
            left = [source for source in self.candidates(first) if id(source) not in asked]
            if not left:
                raise self.failure(what, causes)
            source = left[0]
            asked.add(id(source))
            try:
                return ask(source)
            except SetFault:
                raise
            except (Invalid, Unavailable) as error:
                causes.append(self.complain(source, error, path))

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
        return error
