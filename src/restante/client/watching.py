"""Watch notes: which windows which validators watched, from whoever serves them."""

from restante import limits
from restante.client.machine import Machine, Named, together
from restante.client.roster import Standings, fetch
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor


class WatchNotes:
    """For each validator its watch note that reaches furthest; none where there is none.

    A note that is missing is no error: what it would have said is unknown.
    """

    def __init__(self, d: Descriptor, size: int, standings: Standings) -> None:
        self._d = d
        self._size = size
        self._standings = standings
        self._faults: list[tuple[Named, Invalid | Unavailable, str]] = []
        self.notes: list[WatchNote] = []

    def complain(self) -> None:
        """Hold against sources what they served. Not before the answer's end: who has forged a
        note may be the only one that has the segments, which prove themselves."""
        for source, error, path in self._faults:
            self._standings.complain(source, error, path)
        self._faults.clear()

    def read(self) -> Machine[None]:
        """Read them, all validators' at once."""
        names = [key.name for key in self._d.validators]
        notes = yield from together(self._note(name) for name in names)
        self.notes = [note for note in notes if note is not None]

    def _note(self, name: str) -> Machine[WatchNote | None]:
        path = f"watch/{name}"
        best: WatchNote | None = None
        for source in self._standings.candidates():
            try:
                note = yield from self._of(source, path, name)
            except (Invalid, Unavailable) as error:
                if error.code != "not-found":
                    self._faults.append((source, error, path))
                continue
            if best is None or note.size > best.size:
                best = note
            if best.size >= self._size:
                break
        return best

    def _of(self, source: Named, path: str, name: str) -> Machine[WatchNote]:
        data = yield from fetch(source, path, limits.CONTACT_MAX_BYTES)
        try:
            return WatchNote.open(data, self._d, name)
        except Invalid as error:
            raise VerificationFailed(str(error), code="watch") from error
