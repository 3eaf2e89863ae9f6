"""Batches and roll-ups from whoever else has them: the own stores, and the peers.

Nobody is trusted. A batch must have the CID that was decided, wherever its envelopes come from
(R3); a roll-up the CID that the log names, which is the own log or else one that k of the set
signed, so that nobody makes us read gigabytes of anything. Blocking, in threads; what it asks of
others runs on the event loop.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar

from restante import limits
from restante.errors import Invalid, StateError, Unavailable, VerificationFailed
from restante.formats import entry as entries
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, body_levels, due_at, entry_window, is_index, span_of
from restante.formats.page import PageRow
from restante.formats.paths import segment_path
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.segment import Segment, read_cars
from restante.formats.whisper import parse as parse_envelope
from restante.node.durable.archive import Archive
from restante.node.durable.spool import Spool
from restante.node.durable.state import State
from restante.node.segment_reader import IndexReader, Read, SegmentReader
from restante.node.waiting import Stopped, in_thread
from restante.node.wire.peers import Peers
from restante.ports import Store
from restante.rules.commit import rebuilt
from restante.rules.verify import check_note

log = logging.getLogger("restante")

T = TypeVar("T")
_LOG_FILE_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)
Batch = tuple[Segment, list[bytes]]
"""A batch, and its envelopes in the order of records."""


class Holder(Protocol):
    """Who may have files of the set's archives."""

    @property
    def name(self) -> str: ...

    def read(self, path: str, offset: int, length: int) -> Coroutine[Any, Any, bytes]:
        """Bytes of a file; fewer where it ends. Raises Unavailable, Invalid."""
        ...


class PeerHolder:
    """A validator of the set."""

    def __init__(self, peers: Peers, name: str) -> None:
        self.name = name
        self._peers = peers

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """See `Holder`."""
        return await self._peers.read(self.name, path, offset, length)


class StoreHolder:
    """A store of this node."""

    def __init__(self, store: Store) -> None:
        self.name = f"store {store.name}"
        self._store = store

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """See `Holder`."""
        return await self._store.get(path, offset, length)


class OwnHolder:
    """The own archive, which may have a roll-up and not its children."""

    name = "the own archive"

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """See `Holder`."""
        return self._archive.read(path, offset, length)


class Elsewhere:
    """What the archive lacks, from others. One call at a time."""

    def __init__(
        self,
        d: Descriptor,
        policy: Policy,
        state: State,
        peers: Peers,
        stores: Sequence[Store],
        name: str,
    ) -> None:
        """`name` tells the places apart where several take roll-ups apart."""
        self._d = d
        self._policy = policy
        self._state = state
        self.peers = [PeerHolder(peers, name) for name in peers.names]
        self._stores = [StoreHolder(store) for store in stores]
        self._own = OwnHolder(state.archive)
        self._spool = Spool(state.archive.spool / name)
        self._turn = asyncio.Lock()
        self._stop = threading.Event()
        self._silent_until_s: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def has_peers(self) -> bool:
        """Whether there is anybody else."""
        return bool(self.peers)

    # --- called on the event loop

    async def batch(self, window: int, cid: bytes, *, peers_first: bool = False) -> Batch:
        """The decided batch of a window: one attempt at everyone who may have it, or a roll-up
        that covers it. Raises Unavailable, OSError."""
        holders: list[Holder] = [*self._stores, *self.peers]
        if peers_first:
            holders = [*self.peers, *self._stores]
        # Who did not answer a moment ago is asked last.
        holders.sort(key=lambda holder: self._silent_until_s.get(holder.name, 0.0) > monotonic())
        return await self.in_thread(lambda: self._batch(window, cid, holders))

    async def rollup(self, span: Span, cid: bytes) -> None:
        """Install a roll-up that the log names: made from its children, or fetched.

        Raises Unavailable, OSError.
        """
        holders: list[Holder] = [*self._stores, *self.peers]
        await self.in_thread(lambda: self._rollup(span, cid, holders))

    async def checkpoint(self) -> VerifiedCheckpoint | None:
        """The newest checkpoint of the peers that satisfies the policy."""
        found = await self.note()
        return None if found is None else found[0]

    async def note(self, within_s: float | None = None) -> tuple[VerifiedCheckpoint, bytes] | None:
        """The same, with the note that it is of, of those that answer in time."""

        async def ask(peer: PeerHolder) -> tuple[VerifiedCheckpoint, bytes] | None:
            try:
                reading = peer.read("checkpoint", 0, limits.NOTE_MAX_BYTES)
                note = await _in_time(peer, reading, within_s)
                return self._checked(note), note
            except (Unavailable, Invalid):
                return None

        found = await asyncio.gather(*map(ask, self.peers))
        return max((c for c in found if c is not None), key=lambda c: c[0].size, default=None)

    async def in_thread(self, work: Callable[[], T]) -> T:
        async with self._turn:
            self._loop = asyncio.get_running_loop()
            return await in_thread(work, self._stop)

    # --- in a thread

    def ask(
        self, holder: Holder, path: str, offset: int, length: int, within_s: float | None = None
    ) -> bytes:
        if self._stop.is_set() or self._loop is None:
            raise Stopped
        reading = _in_time(holder, holder.read(path, offset, length), within_s)
        asked = asyncio.run_coroutine_threadsafe(reading, self._loop)
        try:
            return asked.result()
        except Unavailable as error:
            if error.code != "not-found":
                self._silent_until_s[holder.name] = monotonic() + limits.SILENT_S
            raise

    def has_batch(self, holder: Holder, window: int, cid: bytes) -> bool:
        """Whether a holder has a window's batch in truth: it gave it just now."""
        try:
            self._batch(window, cid, [holder])
        except Unavailable:
            return False
        return True

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _read_of(self, holder: Holder, span: Span) -> Read:
        def read(part: int, offset: int, length: int) -> bytes:
            return self.ask(holder, segment_path(span.level, span.number, part), offset, length)

        return read

    def _batch(self, window: int, cid: bytes, holders: Sequence[Holder]) -> Batch:
        found = self._from_spool(window, cid)
        if found is not None:
            return found
        why = "there is neither a store nor a peer"
        for holder in holders:
            try:
                return self._whole(holder, window, cid)
            except (Unavailable, Invalid) as error:
                why = f"{holder.name}: {error}"
        for level in body_levels(self._d)[1:]:
            for holder in (self._own, *holders):
                found = self._out_of(holder, span_of(self._d, level, window), window, cid)
                if found is not None:
                    return found
        raise Unavailable(f"the batch of window {window}: {why}", code="not-found")

    def _out_of(self, holder: Holder, span: Span, window: int, cid: bytes) -> Batch | None:
        """A batch out of a roll-up that a holder may have; what follows it stays in the spool."""
        try:
            read = self._read_of(holder, span)
            reader = SegmentReader(self._d, span, self._named(holder, span), read)
            self._spool.fill(span, reader, self._go_on)
        except (Unavailable, Invalid, StateError) as error:
            log.debug("roll-up of windows %d to %d: %s", span.first, span.stop - 1, error)
            return None
        windows = f"{span.first} to {span.stop - 1}"
        log.info("the batches of windows %s come out of a roll-up of %s", windows, holder.name)
        return self._from_spool(window, cid)

    def _whole(self, holder: Holder, window: int, cid: bytes) -> Batch:
        parts: list[bytes] = []
        read = self._read_of(holder, Span(0, window, window, 1))
        # Only a batch over 64 MiB has more parts, and all but its last are about that large.
        while not parts or len(parts[-1]) >= limits.CAR_PART_BYTES // 2:
            try:
                parts.append(read(len(parts), 0, limits.CAR_MAX_BYTES))
            except Unavailable as error:
                if error.code != "not-found" or not parts:
                    raise
                break
        contents = read_cars(parts, self._d, _topic_of, _sent_of)
        if contents.segment.root_cid != cid:
            raise VerificationFailed(f"another batch of window {window}", code="segment-differs")
        return contents.segment, [member.raw for member in contents.members]

    # --- out of a roll-up

    def _from_spool(self, window: int, cid: bytes) -> Batch | None:
        """A batch of the spool, if it has the window's; it goes if it has the wrong ones."""
        span = self._spool.span
        if span is None or window not in span:
            self._spool.clear()
            return None
        records = self._spool.records(window)
        try:
            segment, raws = rebuilt(self._d, window, records, _topic_of, _sent_of)
        except Invalid as error:
            log.error("window %d: a roll-up holds what no batch does: %s", window, error)
        else:
            if segment.root_cid == cid:
                return segment, raws
            log.error("window %d: a roll-up holds another batch than was decided", window)
        self._spool.clear()
        return None

    # --- what the log names

    def _own_log(self, span: Span) -> bytes | None:
        archive = self._state.archive
        if not archive.floor <= entry_window(self._d, span) < archive.stop:
            return None
        return self._state.keeping.rollup(span)

    def _named(self, holder: Holder, span: Span) -> bytes:
        """The root's CID of a roll-up: of the own log, or of a holder's that k signed."""
        cid = self._own_log(span)
        if cid is None:
            window = entry_window(self._d, span)
            note = self.ask(holder, "checkpoint", 0, limits.NOTE_MAX_BYTES)
            checkpoint = self._checked(note)
            if window >= self._d.first_window + checkpoint.size:
                raise Unavailable(f"{holder.name}: its log is shorter", code="not-found")
            reader = tiles.LogReader(
                lambda path: self.ask(holder, path, 0, _LOG_FILE_BYTES),
                checkpoint.size,
                checkpoint.root,
            )
            entry = entries.parse(reader.entry(window - self._d.first_window))
            entries.check_rollups(entry, self._d)
            cid = dict(zip(due_at(self._d, window), entry.rollups, strict=True))[span]
        if cid is None:
            raise Unavailable("it was not made", code="not-found")
        return cid

    def _checked(self, note: bytes) -> VerifiedCheckpoint:
        """The checkpoint of a note that k of the set signed. Raises VerificationFailed."""
        checkpoint = check_note(self._policy, note)
        if checkpoint.origin != self._d.origin:
            raise VerificationFailed("a checkpoint of another log", code="origin")
        return checkpoint

    # --- roll-ups

    def _rollup(self, span: Span, cid: bytes, holders: Sequence[Holder]) -> None:
        rollups = self._state.rollups
        try:
            rollups.make(span, self._state.keeping.children(span), cid, self._go_on)
            return
        except (Unavailable, Invalid, StateError) as error:
            why = str(error)
        for holder in holders:
            try:
                self._fetch_rollup(holder, span, cid)
                return
            except (Unavailable, Invalid) as error:
                why = f"{holder.name}: {error}"
        path = segment_path(span.level, span.number)
        raise Unavailable(f"{path}: {why}", code="not-found")

    def _fetch_rollup(self, holder: Holder, span: Span, cid: bytes) -> None:
        """Merged from itself alone, a roll-up is the same again: so all of it is checked."""
        rollups = self._state.rollups
        read = self._read_of(holder, span)
        if is_index(self._d, span.level):
            rollups.write_index(span, cid, IndexReader(self._d, span, cid, read).blocks())
        else:
            reader = SegmentReader(self._d, span, cid, read)
            rollups.write(span, [_InOrder(reader, self._go_on)], cid)


class _InOrder:
    """A segment whose pages are read in groups, for whoever takes them in the table's order."""

    def __init__(self, reader: SegmentReader, each_page: Callable[[], None]) -> None:
        self.root = reader.root
        self._reader = reader
        self._each_page = each_page
        self._page = b""

    def rows(self) -> Iterator[PageRow]:
        """The page table."""
        for row, page in self._reader.pages(self._reader.rows()):
            self._each_page()
            self._page = page
            yield row

    def page(self, row: PageRow) -> bytes:
        """The page of the row that came last."""
        return self._page


async def _in_time(
    holder: Holder, reading: Coroutine[Any, Any, bytes], within_s: float | None
) -> bytes:
    """What a holder answers. Raises as its `read`, and Unavailable when the time is over."""
    try:
        async with asyncio.timeout(within_s):
            return await reading
    except TimeoutError:
        raise Unavailable(
            f"{holder.name} did not answer in {within_s} s", code="peer-unreachable"
        ) from None


def _topic_of(raw: bytes) -> bytes:
    return parse_envelope(raw).topic


def _sent_of(raw: bytes) -> int:
    return parse_envelope(raw).sent_s
