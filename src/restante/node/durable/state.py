"""A validator's durable parts, opened together, and how durable actions reach the disk.

Everything here is written before anything that follows from it leaves the process: a failure is
raised to the top and ends it, and the next start rebuilds the machine from what is on disk.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256

from restante import limits
from restante.durable import Hook, no_hook
from restante.errors import Invalid, StateError, Unavailable
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.level import due_at
from restante.formats.note import Signature, VerifierKey
from restante.formats.segment import Cars, read_cars
from restante.formats.whisper import parse as parse_envelope
from restante.node.durable.archive import Archive, Changes
from restante.node.durable.keeping import Keeping
from restante.node.durable.lock import Lock
from restante.node.durable.outbox import Outbox
from restante.node.durable.pool import Pool
from restante.node.durable.rollups import RollUps
from restante.node.home import Home
from restante.node.waiting import in_thread
from restante.ports import Engine
from restante.rules import actions as act
from restante.rules.actions import Action
from restante.rules.cosign import Signed
from restante.rules.pool import Row
from restante.rules.validator import Restored

_LOCKED = (act.Freeze, act.Accept, act.Advance, act.Cosign, act.Cursor, act.Commit)


class State:
    """Lock, pool, archive and outbox of one validator."""

    def __init__(
        self, d: Descriptor, key: VerifierKey, lock: Lock, pool: Pool, archive: Archive,
        outbox: Outbox, hook: Hook,
    ) -> None:  # fmt: skip
        """Use `open`."""
        self.lock = lock
        self.pool = pool
        self.archive = archive
        self.outbox = outbox
        self.rollups = RollUps(d, archive.segments, hook)
        self.keeping = Keeping(archive, hook)
        self._d = d
        self._key = key
        self._group: ExitStack | None = None
        self._commits: list[act.Commit] = []
        self._segments = Changes()
        self.cosigned: act.Cosign | None = None
        """The newest cosignature made since the start."""

    @classmethod
    def create(
        cls, home: Home, d: Descriptor, key: SigningKey, pool_id: bytes, salt: bytes
    ) -> None:
        """Make the lock state, pool and archive of a validator, once. Raises StateError."""
        Pool.create(home.pool, pool_id, salt).close()
        Archive.create(home.archive, d).close()
        # The lock last: where it is, the rest is.
        Lock.create(home.lock, d.set_id, key.vkey().key_id, first_window=d.first_window).close()

    @classmethod
    def open(
        cls,
        home: Home,
        d: Descriptor,
        key: VerifierKey,
        stores: Sequence[str],
        hook: Hook = no_hook,
    ) -> "State":
        """Open what `create` made, and bring the archive up to the lock; a lost archive is begun
        anew. Raises StateError."""
        with ExitStack() as stack:
            lock = Lock.open(home.lock, d.set_id, key.key_id, hook=hook)
            stack.callback(lock.close)
            acknowledged = max(lock.freezes().values(), default=0)
            pool = Pool.open(home.pool, at_least=acknowledged, hook=hook)
            stack.callback(pool.close)
            if not Archive.exists(home.archive):
                # It is trusted for nothing: the log is made again from the lock, below; segments
                # come from the stores and the peers (node/durable/refill.py).
                Archive.create(home.archive, d, hook=hook).close()
            archive = Archive.open(home.archive, d, hook=hook)
            stack.callback(archive.close)
            outbox = Outbox(home.path / "outbox.db", archive, stores, hook=hook)
            stack.callback(outbox.close)
            state = cls(d, key, lock, pool, archive, outbox, hook)
            if not state.adopting:
                state.bring_up()
            stack.pop_all()
        return state

    def close(self) -> None:
        """Finish an open group, and give the files back."""
        self.end_group()
        self.outbox.close()
        self.archive.close()
        self.pool.close()
        self.lock.close()

    # --- start ------------------------------------------------------------------------------

    @property
    def adopting(self) -> bool:
        """Whether the archive is not yet as large as the tree that was adopted (R6): nothing works
        before it is (`node/durable/adopting`)."""
        adopted = self.lock.adopted()
        return adopted is not None and self.archive.size < adopted.size

    def bring_up(self) -> None:
        """Bring the archive up to the lock, and the stores' queues up to the archive."""
        adopted = self.lock.adopted()
        if adopted is not None:
            self.archive.raise_floor(adopted.floor)
            if self.archive.root(adopted.size) != adopted.root:
                raise StateError(
                    f"the archive has another tree of size {adopted.size} than was adopted",
                    code="archive-differs",
                    hint="the archive is damaged or of another node; move it away, it is rebuilt",
                )
        self.archive.integrate(self.lock)
        self.outbox.catch_up()

    def restored(self) -> Restored:
        """What the machine is rebuilt from. Raises StateError."""
        newest, adopted = self.lock.newest_cosignature(), self.lock.adopted()
        return Restored(
            adopted=self.archive.frontier(0 if adopted is None else adopted.size),
            freezes=self.lock.freezes(),
            accepts=[
                act.Accept(*accept)
                for accept in self.lock.accepts(self._d.first_window + self.lock.size())
            ],
            entries=self._entries(0 if adopted is None else adopted.size),
            recent=list(self._recent()),
            cosigned=None if newest is None else Signed(newest.size, newest.root),
            engine_slot=self.lock.engine_at()[0],
            pool_floor=self.pool.floor,
            pool=((record.arrival_ms, record.raw) for record in self.pool.records()),
            cursors=self.lock.cursors(),
        )

    def batch_cid(self, window: int) -> bytes:
        """The batch of a window: by the own decision, else by the log, which k signed so far.

        Raises Unavailable below the floor, ValueError outside the log.
        """
        decision = self.lock.decision(window)
        return (
            next(self.archive.log(window, window + 1)).segment
            if decision is None
            else (decision.cid)
        )

    def _entries(self, index: int) -> Iterator[bytes]:
        """The log entries from one on, from the lock, which keeps every decision."""
        window = self._d.first_window + index
        while group := self.lock.decisions(window, limits.ENTRIES_AT_ONCE):
            yield from (decision.entry for decision in group)
            window = group[-1].window + 1

    def missing_recent(self) -> list[int]:
        """Windows whose ids count for *new* and whose segments are not here."""
        return [w for w in self._recent_windows() if not self.archive.has_segment(w)]

    def _recent_windows(self) -> range:
        stop = self.archive.stop
        return range(max(self._d.first_window, stop - self._d.recent_windows), stop)

    def _recent(self) -> Iterator[tuple[int, list[bytes]]]:
        for window in self._recent_windows():
            try:
                contents = read_cars(
                    self.archive.segment(window),
                    self._d,
                    lambda raw: parse_envelope(raw).topic,
                    lambda raw: parse_envelope(raw).sent_s,
                )
            except (Invalid, Unavailable) as error:
                raise StateError(
                    f"the segment of window {window} cannot be read: {error}",
                    code="archive-damaged",
                    hint="`restante fsck` names the damage: delete that file, and start; it "
                    "comes back from a store or a peer",
                ) from error
            if self.batch_cid(window) != contents.segment.root_cid:
                raise StateError(
                    f"the archive has another segment for window {window}", code="archive-differs"
                )
            yield window, [member.id for member in contents.members]

    async def check_engine(self, engine: Engine) -> None:
        """An engine that is behind the lock, or differs, is no engine of ours.

        Raises StateError `engine-diverged`, Unavailable.
        """
        slot, known = self.lock.engine_at()
        if slot == 0:
            return
        found = await engine.entries(slot - 1, 1)
        if not found or found[0].number != slot or sha256(found[0].entry).digest() != known:
            raise StateError(
                f"the engine does not hold the entry at slot {slot} that was read before",
                code="engine-diverged",
                hint="this is another engine, or an old copy: put the right one back; never start "
                "a validator on a new history",
            )

    def body(self, row: Row) -> bytes:
        """The durable bytes of a pooled row."""
        return self.pool.read(row.position)

    # --- carrying out -----------------------------------------------------------------------

    def persist(self, actions: Sequence[Action]) -> list[Action]:
        """Carry out the durable actions in order; answer the others, in order.

        Neighbouring lock actions share one transaction. Raises StateError, OSError: stop then.
        """
        others: list[Action] = []
        run: list[Action] = []
        for action in actions:
            if isinstance(action, _LOCKED):
                run.append(action)
            elif isinstance(action, act.Append):
                self._flush(run)
                self._append(action)
            elif isinstance(action, act.Release):
                self._flush(run)
                self.pool.release(action.position)
            else:
                others.append(action)
        self._flush(run)
        return others

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let the lock actions and commits inside share one fsync, unless `end_group` comes first.

        For n = 1 that decides passed windows: until it ends, nothing that follows from it may
        leave the process but engine entries, which bring the same decisions back.
        """
        self._group = ExitStack()
        self._group.enter_context(self.lock.transaction("group"))
        try:
            yield
        except BaseException:
            group, self._group = self._group, None
            if group is not None:
                self._commits.clear()
                group.__exit__(StateError, StateError("the group failed"), None)
            raise
        self.end_group()

    def end_group(self) -> None:
        """Make durable what an open group holds."""
        group, self._group = self._group, None
        if group is None:
            return
        try:
            self._put_certificates()
        except BaseException as error:
            group.__exit__(type(error), error, error.__traceback__)
            raise
        group.close()
        self._finish()

    def _append(self, action: act.Append) -> None:
        first = self.pool.append(action.records)
        if first != action.position:
            raise StateError(
                f"pool position {first} where {action.position} was meant", code="pool-position"
            )

    def _flush(self, run: list[Action]) -> None:
        if not run:
            return
        for action in run:
            if isinstance(action, act.Commit):
                self._segments |= self.archive.put_segment(action.window, Cars(action.segment))
                self._segments |= self._rollups_of(action)
                self._commits.append(action)
        if self._group is None:
            self._put_certificates()
        with self.lock.transaction(_step(run)):
            for action in run:
                self._write(action)
        run.clear()
        if self._group is None:
            self._finish()

    def _rollups_of(self, commit: act.Commit) -> Changes:
        """The files of the roll-ups that an entry names: only now are they the log's."""
        due = due_at(self._d, commit.window)
        return Changes(
            tuple(
                path
                for span in due
                for path in reversed(self.archive.segments.paths(span.level, span.number))
            )
        )

    def _put_certificates(self) -> None:
        if self._commits:
            index = self._commits[0].window - self._d.first_window
            certificates = [commit.certificate for commit in self._commits]
            self._segments |= self.archive.put_certificates(index, certificates)

    def _write(self, action: Action) -> None:
        lock = self.lock
        match action:
            case act.Freeze(window, position):
                lock.freeze(window, position)
            case act.Accept(window, base_size, base_root, cid, members):
                lock.accept(window, base_size, base_root, cid, members)
            case act.Advance(slot, entry_hash):
                lock.advance_engine(slot, entry_hash)
            case act.Cursor(peer, pool_id, position):
                lock.put_cursor(peer, pool_id, position)
            case act.Cosign(size, root, _, _, value):
                line = Signature(self._key.name, self._key.key_id, value).line().encode()
                lock.cosign(size, root, line)
                self.cosigned = action
            case act.Commit(window, slot, entry_hash, segment, certificate, entry):
                lock.decide(window, slot, segment.root_cid, certificate, entry)
                lock.advance_engine(slot, entry_hash)

    def _finish(self) -> None:
        """After the decisions are durable: the log's files, then the outbox."""
        if not self._commits:
            return
        index = self._commits[0].window - self._d.first_window
        grown = self.archive.append_entries(index, [commit.entry for commit in self._commits])
        self.outbox.enqueue(self._segments | grown, self.archive.size)
        self._segments = Changes()
        self._commits.clear()

    # --- retention --------------------------------------------------------------------------

    async def release(self, floor: int, kept_windows: int) -> None:
        """Give up what lies below `floor`, and the children of roll-ups that have stood in the log
        for so many windows, group by group; see `keeping`. Raises OSError, StateError."""
        recent, unheard = self._d.recent_windows, threading.Event()
        while True:
            plan = await in_thread(lambda: self.keeping.plan(floor, kept_windows, recent), unheard)
            if plan is None:
                return
            self.outbox.enqueue(plan.changes)
            await in_thread(partial(self.keeping.carry_out, plan), unheard)

    # --- what is published ------------------------------------------------------------------

    def own_cosignature(self) -> tuple[Checkpoint, bytes] | None:
        """The newest tree that this validator cosigned, and the 72 bytes."""
        newest = self.lock.newest_cosignature()
        if newest is None:
            return None
        signature = Signature.parse(newest.line.decode().removesuffix("\n"))
        return Checkpoint(self._d.origin, newest.size, newest.root), signature.value

    def publish_checkpoint(self, note: bytes) -> None:
        """Replace the checkpoint, here and in the stores."""
        self.outbox.enqueue(self.archive.put_checkpoint(note))

    def publish_named(self, path: str, data: bytes) -> None:
        """Replace a named file, here and in the stores."""
        self.outbox.enqueue(self.archive.put_named(path, data))


def _step(run: Sequence[Action]) -> str:
    """The fault hook's name of a run: that of its weightiest action."""
    for kind, name in (
        (act.Commit, "decide"),
        (act.Cosign, "cosign"),
        (act.Accept, "accept"),
        (act.Freeze, "freeze"),
        (act.Advance, "advance"),
    ):
        if any(isinstance(action, kind) for action in run):
            return name
    return "cursor"
