"""What a validator process does at a start after an absence below every peer's floor (R6): it asks
its peers, and adopts the tree that k cosigned before there is a machine that could sign.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from restante.errors import Invalid
from restante.formats import tiles
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.entry import parse as parse_entry
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, Note, Signature
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.tree import Frontier, leaf_hash
from restante.rules import adopt, verify
from restante.rules.cosign import Signed, SplitTree
from restante.testing.sim.disk import Adopted, Archived
from restante.testing.sim.party import Crash
from restante.testing.sim.plan import key_of
from restante.testing.sim.rolling import RollingParty

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

RETRY_MS = 1_000
ASKS = 5
Line = tuple[str, int, bytes, bytes]
"""(validator, size, root, cosignature)."""


class Kept(NamedTuple):
    """What a peer says that it has."""

    floor: int
    entries: tuple[bytes, ...]
    """All: they stand for the tiles, which nobody releases."""
    batches: tuple[Archived, ...]
    lines: tuple[Line, ...]


class AdoptingParty(RollingParty):
    """The part of a validator process that comes before its machine."""

    key: SigningKey
    halted: str | None

    def __init__(self, sim: "Simulation", name: str) -> None:
        super().__init__(sim, name)
        self._answers: dict[str, Kept | None] = {}

    @abstractmethod
    def begin(self) -> None: ...

    def is_away(self) -> bool:
        """Whether this process has to ask before it begins."""
        if self.sim.plan.kept_batches is None or self.sim.d.n == 1:
            return False
        behind = self.sim.d.last_due(self.now_ms()) - self.disk.size()
        return self.disk.adopting() or behind >= self.sim.d.recent_windows

    def seek(self, attempt: int = 0) -> None:
        """Ask all peers, and weigh their answers once each has come or failed."""
        self._answers = {}
        for peer in self.sim.peers_of(self.name):
            self._ask_kept(peer, attempt)

    def _ask_kept(self, peer: str, attempt: int) -> None:
        def came(kept: Any) -> None:
            self._answers[peer] = kept if isinstance(kept, Kept) else None
            if len(self._answers) == self.sim.d.n - 1:
                self._weigh_or_die(attempt)

        self.sim.links.call(self, peer, "kept", (), came, lambda: came(None))

    def _weigh_or_die(self, attempt: int) -> None:
        try:
            settled = self._weigh([kept for kept in self._answers.values() if kept is not None])
        except Crash:
            self.crash()
            return
        except SplitTree as split:
            self.halted = split.code
            self.sim.history.note("halts", self.name, split.code, str(split))
            return
        if settled or (attempt == ASKS and not self.disk.adopting()):
            self.begin()
        else:
            self.sim.world.at(self.sim.world.now_ms + RETRY_MS, self._again, self.life, attempt)

    def _again(self, life: int, attempt: int) -> None:
        if self.life == life:
            self.seek(min(attempt + 1, ASKS))

    def _weigh(self, answers: Sequence[Kept]) -> bool:
        """Whether it is settled: the log can be followed, or a tree was adopted."""
        d, disk = self.sim.d, self.disk
        adopted = disk.adopted()
        unfinished = adopted if adopted is not None and disk.adopting() else None
        found = newest(d, answers, list(self.sim.byzantine))
        if found is None or found[0].size < disk.size():
            return found is not None and unfinished is None
        checkpoint, note = found
        if checkpoint.size == disk.size() and unfinished is None:
            return True
        window = disk.size() if unfinished is None else unfinished.made.lost_from
        floors: dict[str, int] = {}
        for peer, kept in self._answers.items():
            if kept is None:
                continue
            if unfinished is None and kept.floor <= window:
                if has(d, kept, window, checkpoint):
                    return True
                continue
            floors[peer] = max(kept.floor, window)
        floor = adopt.floor_for(d, window, checkpoint.size, floors, lost=unfinished is None)
        logs = [kept.entries for kept in answers if proves(kept, checkpoint)]
        if floor is None or not logs:
            return False
        self._take(checkpoint, note, logs[0][: checkpoint.size], floor, window)
        return self._complete(answers)

    def _take(
        self,
        checkpoint: VerifiedCheckpoint,
        note: bytes,
        entries: tuple[bytes, ...],
        floor: int,
        window: int,
    ) -> None:
        leaves = [leaf_hash(entry) for entry in entries]
        files, _ = tiles.grow(0, leaves, _absent)
        log = tiles.LogReader(files.__getitem__, checkpoint.size, checkpoint.root)
        frontier = self.disk.frontier()
        held = Signed(frontier.size, frontier.root())
        cosigned = self.disk.cosignatures()
        signed = Signed(cosigned[-1].size, cosigned[-1].root) if cosigned else None
        made = adopt.adopt(checkpoint, note, log, held, signed, floor, window)
        self.sim.history.note("adopts", self.name, made.size, made.root)
        self.keep_adoption(Adopted(made, entries))
        self.sim.history.adopt(self.name, made.size, made.root)

    def keep_adoption(self, adopted: Adopted) -> None:
        """Durable, lock: before there is anything that could sign."""
        self._durably(self.disk.lock, adopted)

    def _complete(self, answers: Sequence[Kept]) -> bool:
        """Fetch the batches from the floor on; whether all are here."""
        adopted = self.disk.adopted()
        assert adopted is not None
        cids = [parse_entry(entry).segment for entry in adopted.entries]
        for kept in answers:
            for batch in kept.batches:
                w = batch.window
                if not adopted.made.floor <= w < adopted.made.size:
                    continue
                if batch.segment.root_cid == cids[w] and self.disk.batch(w, cids[w]) is None:
                    self._durably(self.disk.archive, batch)
        return not self.disk.adopting()

    def kept(self) -> Kept:
        """What this validator tells others."""
        disk = self.disk
        lines = [(r.peer, r.size, r.root, r.value) for r in disk.peer_cosignatures()]
        lines += [(self.name, c.size, c.root, c.value) for c in disk.cosignatures()[-4:]]
        return Kept(disk.floor, tuple(disk.entries()), tuple(disk.batches()), tuple(lines))


def has(d: Descriptor, kept: Kept, window: int, checkpoint: VerifiedCheckpoint) -> bool:
    """Whether a peer has a window's batch in truth, as k signed it."""
    if window >= checkpoint.size or not proves(kept, checkpoint):
        return False
    cid = parse_entry(kept.entries[window]).segment
    return any(b.window == window and b.segment.root_cid == cid for b in kept.batches)


def proves(kept: Kept, checkpoint: VerifiedCheckpoint) -> bool:
    """Whether a peer's log begins with a tree."""
    leaves = [leaf_hash(entry) for entry in kept.entries[: checkpoint.size]]
    frontier = Frontier.EMPTY.extend(leaves)
    return (frontier.size, frontier.root()) == (checkpoint.size, checkpoint.root)


def newest(
    d: Descriptor, answers: Sequence[Kept], byzantine: Sequence[str]
) -> tuple[VerifiedCheckpoint, bytes] | None:
    """The largest tree that k cosigned, by the lines that peers know. Byzantine keys lend a hand
    wherever they are wanted."""
    trees: dict[tuple[int, bytes], dict[str, bytes]] = {}
    for kept in answers:
        for name, size, root, value in kept.lines:
            trees.setdefault((size, root), {})[name] = value
    policy = policy_of(d)
    for (size, root), values in sorted(trees.items(), reverse=True):
        text = Checkpoint(d.origin, size, root).text()
        for name in byzantine:
            values[name] = key_of(name).cosignature(text, d.genesis_s).value
        lines = [
            Signature(v.name, v.key_id, values[v.name]) for v in d.validators if v.name in values
        ]
        note = Note(text, (origin_of(d).note_signature(text), *lines)).encode()
        try:
            return verify.check_note(policy, note), note
        except Invalid:
            continue
    return None


@lru_cache(maxsize=64)
def origin_of(d: Descriptor) -> SigningKey:
    """The log's own key, which proves nothing."""
    return SigningKey(d.origin, sha256(d.origin.encode()).digest())


@lru_cache(maxsize=64)
def policy_of(d: Descriptor) -> Policy:
    """k of the set's validators."""
    return Policy.of_validators(origin_of(d).vkey(ED25519), d.validators, d.k, d.set_id)


def _absent(path: str) -> bytes:
    raise AssertionError(f"the empty tree has no {path}")
