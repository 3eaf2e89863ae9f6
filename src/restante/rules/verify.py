"""From a policy down to envelopes: every byte that a client returns has passed here, in this order.

    policy → descriptor → checkpoint → (continues the remembered one) → log entry
           → segment root → page-table and directory blocks → pages → envelopes
             or index root → index blocks → pages of the segments below

Bytes in, typed values out; who fetches them is the caller's question. A call out of order is a
RuntimeError. What fails is VerificationFailed with a code of `CODES`: the source is to be left. It
is SetFault where the hashes hold and the contents contradict each other: then the validators signed
it so, and no other source can do better.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats import entry as entries
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.tiles import (
    WIDTH,
    Get,
    LogReader,
    entries_path,
    parse_tile_path,
    tiles_to_verify,
)
from restante.formats.tree import inclusion_proof

NETWORKS = frozenset({"whisper-v6"})
"""Networks whose envelopes can be read here: see `verify_page.READERS`."""

CODES: dict[str, str] = {
    "no-set": "the policy names no validator set, so nothing says which descriptor is right",
    "wrong-set": "a descriptor or segment of another validator set",
    "descriptor": "the descriptor has the right hash and cannot be used by this version",
    "checkpoint": "not a checkpoint note",
    "origin": "a checkpoint of another log",
    "log-signature": "the log's own signature is missing from a checkpoint",
    "bad-signature": "a signature of a known key is bad: somebody altered the note",
    "quorum": "too few of the policy's keys cosigned the checkpoint",
    "stale-checkpoint": "older than a checkpoint that is known",
    "split-view": "two checkpoints that both satisfy the policy contradict each other",
    "tile": "a tile does not give the hashes that the checkpoint's root covers",
    "entry": "an entry bundle is not what its tile says, or an entry cannot be read",
    "wrong-window": "an entry or segment of another window",
    "sent-bounds": "a sent time that R0 does not allow in its window",
    "truncated": "fewer bytes than the object has",
    "root-hash": "a segment's root is not the one that the log entry names",
    "root-contradicts-entry": "a root is of other windows, counts, times or depth than named for",
    "index-block": "a block or table of an index is not the one named, or contradicts itself",
    "index-contradicts-entry": "an index and a log entry say different things of one segment",
    "page-table": "a page-table block is not the one that the root names",
    "directory": "a directory block is not the one that the root names",
    "page-hash": "a page is not the one that the page table names",
    "page-content": "a page has the right hash and breaks the format, its order or its bucket",
    "directory-contradicts-page": "the directory names other topics than the pages hold",
    "index-contradicts-page": "an index names other topics or sent times than the pages hold",
    "watch": "not a watch note of its validator",
}
"""Every code that verification fails with, and what it means."""


class SetFault(VerificationFailed):
    """Everything hashes to what the validators signed, and what they signed is wrong."""

    hint = "the validator set itself is at fault: keep the files and tell its operators"


@contextmanager
def failing_as(code: str, fault: type[VerificationFailed] = VerificationFailed) -> Iterator[None]:
    """Let whatever data is found wrong come out under the step's own code."""
    try:
        yield
    except (SetFault, Unavailable):
        raise
    except Invalid as error:
        # What a source refuses to read on is its own failure, not the object's.
        own = error.code in CODES or error.code.startswith("source-")
        named = error.code if own else code
        raise fault(str(error), code=named) from error


@contextmanager
def by_hash(code: str) -> Iterator[None]:
    """A block with another hash is its source's lie; one with the right hash is the set's fault."""
    try:
        yield
    except Invalid as error:
        fault = VerificationFailed if error.code == "block-hash" else SetFault
        raise fault(str(error), code=code) from error


def check_note(policy: Policy, data: bytes) -> VerifiedCheckpoint:
    """The checkpoint of a note that satisfies the policy, of whatever size.

    Raises VerificationFailed: `checkpoint`, `origin`, `log-signature`, `bad-signature`, `quorum`.
    """
    with failing_as("checkpoint"):
        return policy.verify_checkpoint(data)


class TrustedArchive:
    """What is known to be true of one archive, from the descriptor to the log's entries."""

    def __init__(self, policy: Policy, remembered: Checkpoint | None = None) -> None:
        """`remembered` is the checkpoint last accepted: nothing that contradicts it is taken."""
        if policy.set_id is None:
            raise VerificationFailed(CODES["no-set"], code="no-set")
        self.policy = policy
        self.remembered = remembered
        self._descriptor: Descriptor | None = None
        self._candidate: VerifiedCheckpoint | None = None
        self._trusted: VerifiedCheckpoint | None = None
        self._log: LogReader | None = None
        self._get: Get | None = None
        self._reads: list[str] = []
        self._held: set[str] = set()
        """Paths of the tiles that were verified under the candidate and are kept."""

    @property
    def descriptor(self) -> Descriptor:
        """The set's parameters; RuntimeError before `update_descriptor`."""
        if self._descriptor is None:
            raise RuntimeError("the descriptor comes first")
        return self._descriptor

    @property
    def checkpoint(self) -> VerifiedCheckpoint:
        """The accepted checkpoint; RuntimeError before `accept`."""
        if self._trusted is None:
            raise RuntimeError("no checkpoint was accepted")
        return self._trusted

    def update_descriptor(self, data: bytes) -> Descriptor:
        """Take the descriptor whose hash the policy names.

        Raises VerificationFailed `wrong-set`, `origin`; SetFault `descriptor`.
        """
        if sha256(data).digest() != self.policy.set_id:
            raise VerificationFailed("the descriptor has not the set id's hash", code="wrong-set")
        with failing_as("descriptor", SetFault):
            descriptor = Descriptor.parse(data)
        if descriptor.network not in NETWORKS:
            raise SetFault(f"no reader for network {descriptor.network}", code="descriptor")
        if all(log.key.name != descriptor.origin for log in self.policy.logs):
            raise VerificationFailed(
                "the policy has no log line of the set's origin", code="origin"
            )
        self._descriptor = descriptor
        return descriptor

    def update_checkpoint(self, data: bytes) -> VerifiedCheckpoint:
        """Take a note as the candidate for the newest checkpoint; `accept` decides.

        Raises VerificationFailed as `check_note`, and `origin`, `stale-checkpoint`, `split-view`.
        """
        found = check_note(self.policy, data)
        if found.origin != self.descriptor.origin:
            raise VerificationFailed("a checkpoint of another log of the policy", code="origin")
        known = self.remembered
        if known is not None and found.size < known.size:
            raise VerificationFailed(
                f"a checkpoint of size {found.size}, and {known.size} is known",
                code="stale-checkpoint",
            )
        if known is not None and found.size == known.size and found.root != known.root:
            raise VerificationFailed(
                f"two checkpoints of size {found.size} have different roots", code="split-view"
            )
        self._candidate = found
        self._log = LogReader(self._read, found.size, found.root)
        self._held.clear()
        return found

    def wanted_for_accept(self) -> list[str]:
        """The tiles that `accept` reads at least, so that they can be had at once."""
        known, found = self.remembered, self._candidate
        if known is None or found is None or not 0 < known.size < found.size:
            return []
        return [tile.path for tile in tiles_to_verify(known.size - 1, known.size, found.size)]

    def accept(self, get: Get) -> VerifiedCheckpoint:
        """Accept the candidate once its tiles prove that it continues the remembered checkpoint.

        `get` reads a tile; none is read where there is nothing to prove. Raises VerificationFailed
        `tile` (what `get` gave is wrong), `split-view` (it is right, and the trees contradict).
        """
        if self._candidate is None:
            raise RuntimeError("the checkpoint comes first")
        known = self.remembered
        if known is not None and 0 < known.size < self._candidate.size:
            self.require_contains(known, get)
        self._trusted = self._candidate
        return self._trusted

    def require_contains(self, older: Checkpoint, get: Get) -> None:
        """That another checkpoint is a prefix of the candidate. Raises as `accept`."""
        if self._log is None:
            raise RuntimeError("the checkpoint comes first")
        with self._reading(get):
            self._log.check_consistent(older.size, older.root)

    def wanted_for_bundle(self, n: int) -> list[str]:
        """The files that `bundle` reads, but for those that were verified before."""
        size = self.checkpoint.size
        first, last = WIDTH * n, min(WIDTH * (n + 1), size)
        above = [tile.path for tile in tiles_to_verify(first, last, size)]
        return [entries_path(n, last - first), *(p for p in above if p not in self._held)]

    def bundle(self, n: int, get: Get) -> "Entries":
        """The log entries of windows [256 n, 256 n + 256), as far as the checkpoint has them.

        Each is read when it is asked for. Raises VerificationFailed `tile`, `entry`.
        """
        size = self.checkpoint.size
        if self._log is None or not 0 <= WIDTH * n < size:
            raise RuntimeError("the accepted checkpoint has no such bundle")
        with self._reading(get):
            leaves = self._log.bundle(n)
        return Entries(self.descriptor, WIDTH * n, leaves)

    def inclusion(self, index: int, get: Get) -> list[bytes]:
        """The inclusion proof of an entry in the accepted checkpoint's tree. Raises as `bundle`."""
        size = self.checkpoint.size
        if self._log is None:
            raise RuntimeError("no checkpoint was accepted")
        with self._reading(get):
            return inclusion_proof(index, size, self._log.tiles.hash_at)

    @contextmanager
    def _reading(self, get: Get) -> Iterator[None]:
        # The log reader keeps what it verified, whoever served it; each call names its own source.
        self._get, self._reads = get, []
        try:
            with failing_as("tile"), renamed({"consistency": "split-view"}):
                yield
            self._held.update(path for path in self._reads if _is_kept(path))
        finally:
            self._get = None

    def _read(self, path: str) -> bytes:
        if self._get is None:
            raise RuntimeError("no source was named")
        self._reads.append(path)
        return self._get(path)


def _is_kept(path: str) -> bool:
    """Whether the log reader keeps a file for good: full tiles of leaves make room, and bundles."""
    if path.startswith("tile/entries/"):
        return False
    tile = parse_tile_path(path)
    return tile.level > 0 or tile.width < WIDTH


class Entries:
    """The entries of a bundle whose hashes were verified; few of them are ever looked at."""

    def __init__(self, d: Descriptor, first: int, leaves: Sequence[bytes]) -> None:
        self._d = d
        self._first = first
        self._leaves = leaves
        self._read: dict[int, LogEntry] = {}

    def __len__(self) -> int:
        return len(self._leaves)

    def __getitem__(self, place: int) -> LogEntry:
        """The entry at a place in the bundle.

        Raises SetFault `entry`, `wrong-window`, `sent-bounds`; IndexError.
        """
        known = self._read.get(place)
        if known is None:
            known = self._read[place] = self._entry(self._first + place, self._leaves[place])
        return known

    def _entry(self, window: int, leaf: bytes) -> LogEntry:
        with failing_as("entry", SetFault):
            entry = entries.parse(leaf)
            entries.check_rollups(entry, self._d)
        if entry.window != window:
            raise SetFault(f"entry {window} is of window {entry.window}", code="wrong-window")
        least, greatest = self._d.sent_bounds_s(window)
        sent = [time_s for time_s in (entry.sent_min, entry.sent_max) if time_s is not None]
        if any(not least <= time_s <= greatest for time_s in sent):
            raise SetFault(f"entry {window} has impossible sent times", code="sent-bounds")
        return entry


@contextmanager
def renamed(names: dict[str, str]) -> Iterator[None]:
    """Give the formats' codes the names that they have here."""
    try:
        yield
    except VerificationFailed as error:
        error.code = names.get(error.code, error.code)
        raise
