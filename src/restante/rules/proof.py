"""A proof file, verified by the policy alone: bytes in, what they prove out.

    policy → checkpoint → log entry → segment root → (page-table block) → page → envelope

No clock is read and nobody is asked, so that a proof holds for as long as the policy's keys are
believed. Nothing in a proof file is passed over: whichever byte is changed, it fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import ParamSpec, TypeVar

from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import cid as cids
from restante.formats import entry as entries
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.level import due_at
from restante.formats.note import Note, Signature
from restante.formats.page import Member, PageRow
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.proof import ProofFile
from restante.formats.root import (
    SegmentRoot,
    check_page_block,
    check_rollup_root,
    check_root,
    parse_root,
)
from restante.formats.segment import check_records
from restante.formats.tree import leaf_hash, verify_inclusion
from restante.rules.verify_page import READERS

P = ParamSpec("P")
T = TypeVar("T")

CODES = {
    "proof": "not a proof file, or one of a form that is not known here",
    "no-set": "the policy names no validator set",
    "wrong-set": "the proof is of another validator set",
    "descriptor": "the descriptor has the right hash and cannot be used by this version",
    "checkpoint": "what stands for a checkpoint is none",
    "origin": "the checkpoint is of another log",
    "log-signature": "the log's own signature is missing",
    "bad-signature": "a signature of a known key is bad",
    "unknown-signature": "a signature line is of no key of the policy, or there twice",
    "quorum": "too few of the policy's keys cosigned",
    "inclusion": "the log entry is not under the checkpoint's root",
    "entry": "the log entry cannot be read, or is not that of its place",
    "root": "the segment's root is not one that the log entry names",
    "page-table": "the page-table block or the page is not one that the root names",
    "page": "the page is not what its row says",
    "absent": "the page does not hold the envelope",
}
"""Every code that a proof fails with, and what it means."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof file proves."""

    id: bytes
    """SHA-256 of `raw`."""
    topic: bytes
    sent_s: int
    """Sent time as its author claims it, unix seconds."""
    window: int
    """The window in whose batch it is."""
    raw: bytes
    """The envelope."""
    descriptor: Descriptor
    checkpoint: VerifiedCheckpoint
    """Who cosigned, and when they said that they did."""


def verify(policy: Policy, data: bytes) -> Proven:
    """What a proof file proves under a policy.

    Raises VerificationFailed with a code of `CODES`.
    """
    proof = _step("proof", ProofFile.parse, data)
    d = _descriptor(policy, proof.descriptor)
    _step("checkpoint", require_known_lines, policy, proof.checkpoint)
    checkpoint = _step("checkpoint", policy.verify_checkpoint, proof.checkpoint)
    if checkpoint.origin != d.origin:
        raise VerificationFailed("the checkpoint is of another log", code="origin")
    leaf = leaf_hash(proof.entry)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    entry = _step("entry", _entry, proof, d)
    root = _step("root", _root, proof, entry, d)
    row, following = _step("page-table", _row, proof, root)
    member = _step("page", _member, proof, root, row, following, d)
    topic, _ = READERS[d.network](member.raw)
    return Proven(member.id, topic, member.sent_s, member.window, member.raw, d, checkpoint)


def _step(code: str, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a check answers; whatever it finds wrong comes out under the step's code."""
    try:
        return check(*args, **kwargs)
    except Invalid as error:
        named = error.code if error.code in CODES else code
        raise VerificationFailed(str(error), code=named) from error


def _descriptor(policy: Policy, data: bytes) -> Descriptor:
    if policy.set_id is None:
        raise VerificationFailed("the policy names no validator set", code="no-set")
    if sha256(data).digest() != policy.set_id:
        raise VerificationFailed("the proof is of another validator set", code="wrong-set")
    d = _step("descriptor", Descriptor.parse, data)
    if d.network not in READERS:
        raise VerificationFailed(f"no reader for network {d.network}", code="descriptor")
    return d


def _entry(proof: ProofFile, d: Descriptor) -> LogEntry:
    entry = entries.parse(proof.entry)
    if entry.window != d.first_window + proof.index:
        raise InvalidEncoding("the entry is of another window than its place in the log")
    entries.check_rollups(entry, d)
    return entry


def _root(proof: ProofFile, entry: LogEntry, d: Descriptor) -> SegmentRoot:
    """The root, as the entry names it: of its batch, or of a roll-up that came due there."""
    named = cids.cid_of(cids.DAG_CBOR, proof.root)
    root = parse_root(proof.root)
    if named == entry.segment:
        check_root(root, entry, set_id=d.set_id, bucket_bits=d.bucket_bits)
        return root
    for of, cid in zip(due_at(d, entry.window), entry.rollups, strict=True):
        if cid == named:
            check_rollup_root(root, of, set_id=d.set_id, bucket_bits=d.bucket_bits)
            return root
    raise InvalidEncoding("the log entry names another segment")


def _row(proof: ProofFile, root: SegmentRoot) -> tuple[PageRow, PageRow | None]:
    """The page's row and the one after it, where that is known."""
    cid = cids.cid_of(cids.RAW, proof.page)
    if root.pages is not None:
        if proof.page_block is not None:
            raise InvalidEncoding("a page-table block, and the root has its own table")
        rows = root.pages
    else:
        if proof.page_block is None:
            raise InvalidEncoding("the page-table block is missing")
        block_cid = cids.cid_of(cids.DAG_CBOR, proof.page_block)
        named = [block for block in root.page_blocks or () if block.cid == block_cid]
        if not named:
            raise InvalidEncoding("the root names no such page-table block")
        rows = check_page_block(named[0], proof.page_block)
    for index, row in enumerate(rows):
        if row.cid == cid:
            return row, rows[index + 1] if index + 1 < len(rows) else None
    raise InvalidEncoding("the page table names no such page")


def _member(
    proof: ProofFile, root: SegmentRoot, row: PageRow, following: PageRow | None, d: Descriptor
) -> Member:
    # The row was found by the page's hash.
    members = check_records(root, row, proof.page, READERS[d.network], following=following)
    for member in members:
        if member.id == proof.id:
            least, greatest = d.sent_bounds_s(member.window)
            if not least <= member.sent_s <= greatest:
                raise InvalidEncoding("its sent time lies outside its window")
            return member
    raise VerificationFailed("the page does not hold the envelope", code="absent")


def require_known_lines(policy: Policy, note: bytes) -> None:
    """Refuse a note with a line of a key that is not the policy's: whoever checks a proof file must
    not pass over anything in it. Raises VerificationFailed `unknown-signature`."""
    known = {(each.key.name, each.key.key_id) for each in (*policy.logs, *policy.witnesses)}
    lines = [(line.name, line.key_id) for line in Note.parse(note).signatures]
    if not known.issuperset(lines) or len(set(lines)) != len(lines):
        raise VerificationFailed(
            "a signature line is of no key of the policy, or there twice", code="unknown-signature"
        )


def trimmed(policy: Policy, note: bytes) -> bytes:
    """The note with the policy's lines alone, each key's first: what a proof file holds."""
    parsed = Note.parse(note)
    known = {(each.key.name, each.key.key_id) for each in (*policy.logs, *policy.witnesses)}
    lines: dict[tuple[str, bytes], Signature] = {}
    for line in parsed.signatures:
        key = (line.name, line.key_id)
        if key in known:
            lines.setdefault(key, line)
    return Note(parsed.text, tuple(lines.values())).encode()
