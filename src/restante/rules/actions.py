"""What the state machines ask of whoever drives them.

A handler answers a list of actions, and the driver carries them out *in that order*: a durable
action (the first group) is on disk before any later one begins. A driver that cannot carry out
a durable action stops the process; the machine's memory is then worthless and is rebuilt from disk.
"""

from dataclasses import dataclass

from restante.formats.level import Span
from restante.formats.message import Answer, Proposal
from restante.formats.segment import Segment


@dataclass(frozen=True, slots=True)
class Append:
    """Durable, pool: (arrival_ms, body) in order, the first at `position`."""

    position: int
    records: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Freeze:
    """Durable, lock: the frozen set of `window` is the pool below `position` (R1)."""

    window: int
    position: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Durable, lock: this validator is about to sign an accept of this batch on this base (R2).

    `members` are the batch's envelopes as half-open runs of pool positions. Bodies alone do not
    serve a batch: if everyone who accepted it restarts before it is committed, nobody else knows
    which of the pool's envelopes its CID means.
    """

    window: int
    base_size: int
    base_root: bytes
    cid: bytes
    members: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """Durable, archive then lock: the decided batch of `window` and its log entry (step 7).

    The segment's and certificate's files come first; the lock's decision makes them count.
    """

    window: int
    slot: int
    entry_hash: bytes
    segment: Segment
    certificate: bytes
    entry: bytes


@dataclass(frozen=True, slots=True)
class Advance:
    """Durable, lock: engine entries up to `slot` were read; the last hashes to `entry_hash`."""

    slot: int
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class Cosign:
    """Durable, lock, then published: the cosignature of (size, root), never made again (R6)."""

    size: int
    root: bytes
    text: str
    time_s: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """Durable: everything below `position` of this peer's pool is here, or invalid (R7)."""

    peer: str
    pool_id: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Release:
    """Pool rows below `position` can no longer be due anywhere."""

    position: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the proposal just handed in."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Submit:
    """Append this certificate to the engine."""

    window: int
    certificate: bytes


@dataclass(frozen=True, slots=True)
class FetchBatch:
    """Get the decided segment from any peer and hand it to `Validator.batch`."""

    window: int
    cid: bytes


@dataclass(frozen=True, slots=True)
class RollUp:
    """Make this span's roll-up from the archive, or find it none (`rollup.is_made`); install its
    files durably, and only then hand its root CID, or None, to `Validator.rolled_up`.

    A span is asked for once in a life, after its children: whoever does them one after the other,
    in order, finds every child there. What was installed before a restart is found, not made again.
    """

    span: Span


@dataclass(frozen=True, slots=True)
class AskPool:
    """Read a peer's pool after a position and hand the page to `Validator.pool_page` (R7)."""

    peer: str
    after: int


@dataclass(frozen=True, slots=True)
class FetchBodies:
    """Get bodies from a peer: for `Validator.shared` (R7) or `Proposing.fetched` (step 4)."""

    peer: str
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """It is this validator's turn to propose `window` (R8)."""

    window: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Nothing may be signed any more; `code` and `detail` name the reason to the operator."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class SendProposal:
    """Hand the proposal to a validator; its answer goes to `Proposing.answered`."""

    peer: str
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class PushBodies:
    """Hand bodies to a validator that needs them for this proposal; it answers anew."""

    peer: str
    cid: bytes
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Certified:
    """n − f accepts stand over one batch: hand the certificate to every validator (step 5)."""

    window: int
    certificate: bytes


Action = (
    Append
    | Freeze
    | Accept
    | Commit
    | Advance
    | Cosign
    | Cursor
    | Release
    | Reply
    | Submit
    | FetchBatch
    | RollUp
    | AskPool
    | FetchBodies
    | Propose
    | Halt
    | SendProposal
    | PushBodies
    | Certified
)
