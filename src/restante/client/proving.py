"""What a proof of an envelope consists of, fetched so that nobody learns which one it is for."""

from collections import OrderedDict

from restante import limits
from restante.client.log import Log, with_files
from restante.client.machine import Machine, Named, Running, carry_on
from restante.client.retention import Retention
from restante.client.roster import Standings, Target
from restante.client.segments import Segments
from restante.errors import ConfigError
from restante.formats.level import entry_window
from restante.formats.policy import merge
from restante.formats.proof import ProofFile
from restante.rules.committed import Committed
from restante.rules.cover import Cover
from restante.rules.query import Found, Mode
from restante.rules.verify import TrustedArchive
from restante.rules.verify_segment import TrustedSegment


class Proving:
    """Makes proofs under one checkpoint."""

    def __init__(
        self, archive: TrustedArchive, note: bytes, log: Log, standings: Standings
    ) -> None:
        self._archive = archive
        self._d = archive.descriptor
        self._note = note
        self._log = log
        self._standings = standings
        self._segments: OrderedDict[tuple[bytes, bytes, Mode], TrustedSegment] = OrderedDict()

    def prove(self, found: Found, mode: Mode) -> Machine[ProofFile]:
        """The proof of an envelope that a query in this mode found.

        What a mode reads of a segment is read again, with its root and tables, and the entries of
        the whole bundle: whoever sees that learns what the query told already, and that something
        in that segment is proved. Raises Unverifiable, Missing, SetFault; ConfigError `proof` for
        an envelope that no answer of this archive gave.
        """
        of = found.read_from
        index = None if of is None else entry_window(self._d, of.span)
        if of is None or index is None or index >= self._archive.checkpoint.size:
            raise ConfigError("not an envelope of this archive's answers", code="proof")
        windows = range(of.span.first, of.span.stop)
        retention = Retention(Cover(self._d, self._archive.checkpoint.size, mode), windows)
        return (yield from self._standings.counted(self._prove(found, of, mode, retention, index)))

    def _prove(
        self, found: Found, of: Committed, mode: Mode, retention: Retention, index: int
    ) -> Machine[ProofFile]:
        windows = range(of.span.first, of.span.stop)
        entry = Running(self._log.read(index, index + 1, retention, windows))
        segment = Running(self._segment(of, found.topic, mode, retention))
        while waiting := [each for each in (entry, segment) if not each.done]:
            yield from carry_on(waiting)
        hashes = yield from self._inclusion(index)
        way = segment.result.way_to(found.id)
        if way is None:
            raise ConfigError("the envelope is not in the segment it names", code="proof")
        return ProofFile(
            index=index,
            hashes=tuple(hashes),
            checkpoint=merge([self._note], self._archive.policy),
            descriptor=self._d.encode(),
            entry=entry.result.encode(),
            root=way.root,
            page_block=way.page_block,
            page=way.page,
            id=found.id,
        )

    def _segment(
        self, of: Committed, topic: bytes, mode: Mode, retention: Retention
    ) -> Machine[TrustedSegment]:
        """A segment with its blocks; those read last are kept for the next proof."""
        key = (of.cid, topic, mode)
        held = self._segments.pop(key, None)
        if held is None:
            reading = Segments(self._d, self._standings, retention, mode, (topic,))
            windows = range(of.span.first, of.span.stop)
            held = yield from reading.whole(of, windows)
        self._segments[key] = held
        while len(self._segments) > limits.PROOF_SEGMENTS_KEPT:
            self._segments.popitem(last=False)
        return held

    def _inclusion(self, index: int) -> Machine[list[bytes]]:
        """The hashes that prove an entry whose bundle was read: of tiles that are known, mostly."""

        def attempt(source: Named) -> Machine[list[bytes]]:
            return with_files(source, [], lambda get: self._archive.inclusion(index, get))

        target = Target(f"the tiles of entry {index}", "tile")
        return self._standings.verified(target, attempt)
