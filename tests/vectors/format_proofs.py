"""Proof files: of a batch, of a roll-up, of a page-table block, and many that must fail."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

import format_levels as levels
import format_segments
from format_keys import LEVELS_LOG, LOG, ONE_LOG, PROPOSER, VALIDATORS
from format_levels import SET
from format_mutants import flipped

from restante.formats import cid as cids
from restante.formats import dagcbor, tree
from restante.formats.cut import page_table
from restante.formats.descriptor import Descriptor
from restante.formats.entry import LogEntry
from restante.formats.keys import SigningKey
from restante.formats.level import Span
from restante.formats.note import Note, decode_base64, encode_base64
from restante.formats.proof import ProofFile
from restante.formats.segment import Segment, build

ONE = Descriptor(
    origin=ONE_LOG.name,
    genesis_s=1_500_000_030,
    f=0,
    validators=(VALIDATORS[0].vkey(),),
    pow_floor_millionths=0,
)
# Two topics of large envelopes, one to a page, and a third with the greatest topic key: 1,034 rows,
# of which the last page, a small one, stands in the second block.
BLOCKS_RUNS = [(2, 1_033, 33_000), (1, 1, 60)]


@dataclass(frozen=True)
class Log:
    """A log that can be signed."""

    d: Descriptor
    key: SigningKey
    entries: Sequence[LogEntry]

    def checkpoint(self) -> bytes:
        signers = VALIDATORS[: self.d.k]
        return levels.checkpoint(self.d, self.key, self._leaves(), signers)

    def hashes(self, index: int) -> tuple[bytes, ...]:
        leaves = self._leaves()

        def at(level: int, n: int) -> bytes:
            return tree.root(leaves[n << level : (n + 1) << level])

        return tuple(tree.inclusion_proof(index, len(leaves), at))

    def proof(self, index: int, segment: Segment, id_: bytes) -> ProofFile:
        """That an envelope is in a segment that an entry names."""
        pages = dict(segment.blocks)
        rows, named, blocks = page_table(segment.rows)
        for number, row in enumerate(segment.rows):
            page = pages[row.cid]
            if any(sha256(raw).digest() == id_ for raw in records(page)):
                block = None if rows is not None else blocks[number // named[0].rows][1]  # type: ignore[index]
                return ProofFile(
                    index=index,
                    hashes=self.hashes(index),
                    checkpoint=self.checkpoint(),
                    descriptor=self.d.encode(),
                    entry=self.entries[index].encode(),
                    root=segment.blocks[0][1],
                    page_block=block,
                    page=page,
                    id=id_,
                )
        raise AssertionError("no such envelope")

    def _leaves(self) -> list[bytes]:
        return [tree.leaf_hash(entry.encode()) for entry in self.entries]


def records(page: bytes) -> Iterator[bytes]:
    from restante.formats.page import parse

    return (raw for _, raw in parse(page, 0, 2_880))


@cache
def levels_log() -> Log:
    return Log(SET, LEVELS_LOG, levels.worked().entries)


@cache
def of_a_batch() -> ProofFile:
    """Topic A in window 0."""
    archive = levels.worked()
    return levels_log().proof(0, archive.bodies[Span(0, 0, 0, 1)], archive.members[0].id)


@cache
def of_a_rollup() -> ProofFile:
    """The same envelope, in the roll-up that the entry of window 2 names."""
    archive = levels.worked()
    return levels_log().proof(2, archive.bodies[Span(1, 0, 0, 2)], archive.members[0].id)


@cache
def of_page_blocks() -> ProofFile:
    """The small envelope of a batch whose page table stands in blocks, in a log of one entry."""
    recipe = format_segments.Recipe("", ONE.bucket_bits, BLOCKS_RUNS)
    members = [
        levels.member_of(ONE, 0, topic, sent_s, raw)
        for topic, sent_s, raw in format_segments.envelopes(recipe)
    ]
    segment = build(ONE.set_id, members, 0, bucket_bits=ONE.bucket_bits)
    last = max(members)
    assert last.raw == members[-1].raw
    return Log(ONE, ONE_LOG, [segment.entry()]).proof(0, segment, last.id)


def facts(proof: ProofFile, d: Descriptor) -> dict[str, Any]:
    """What a proof file proves."""
    from restante.formats import whisper

    (raw,) = [raw for raw in records(proof.page) if sha256(raw).digest() == proof.id]
    parsed = whisper.parse(raw)
    # All of them are in the window in which they were sent.
    window = (parsed.sent_s - d.genesis_s) // d.window_s
    return {
        "id": proof.id.hex(),
        "topic": parsed.topic.hex(),
        "sent": parsed.sent_s,
        "window": window,
        "envelope": raw.hex(),
    }


# --- what must fail -------------------------------------------------------------------------------


def policies() -> dict[str, str]:
    """Policies by name: the small archive's, one validator's, and some that fit no proof."""
    good = levels.policy(SET, LEVELS_LOG)
    unusable = sha256(_unusable()).digest()
    return {
        "levels": good.encode().decode(),
        "one": levels.policy(ONE, ONE_LOG).encode().decode(),
        "no-set": replace(good, set_id=None).encode().decode(),
        "unusable": replace(good, set_id=unusable).encode().decode(),
    }


def _unusable() -> bytes:
    """The descriptor of a network that nobody knows."""
    value = dagcbor.decode(SET.encode())
    assert isinstance(value, dict)
    return dagcbor.encode(value | {"network": "pigeon-v1"})


Row = tuple[str, str, str, bytes]
"""(code, what is wrong, policy, file)."""


def refused() -> Iterator[Row]:
    good = of_a_rollup()
    for code, what, policy, data in [*_files(good), *_sets(good), *_signed(good)]:
        yield code, what, policy, data if isinstance(data, bytes) else data.encode()
    blocks = of_page_blocks()
    yield (
        "page-table",
        "the page-table block is missing",
        "one",
        replace(blocks, page_block=None).encode(),
    )
    yield (
        "page-table",
        "a page-table block that the root does not name",
        "one",
        replace(blocks, page_block=_extra_row(blocks.page_block)).encode(),
    )


Loose = tuple[str, str, str, bytes | ProofFile]


def _extra_row(block: bytes | None) -> bytes:
    rows = dagcbor.decode(block or b"")
    assert isinstance(rows, list)
    return dagcbor.encode(rows[:-1])


def _files(good: ProofFile) -> Iterator[Loose]:
    """The file's own form."""
    text = good.encode().decode()
    lines = text.split("\n")
    extra = lines[1]

    def joined(*head: str) -> bytes:
        return "\n".join([*head, *lines[3:]]).encode()

    yield "proof", "nothing", "levels", b""
    yield "proof", "another first line", "levels", text.replace("@v1", "@v2", 1).encode()
    yield "proof", "no extra line", "levels", joined(lines[0], lines[2])
    yield "proof", "an extra line twice", "levels", joined(lines[0], extra, extra, lines[2])
    yield "proof", "an index with a leading zero", "levels", joined(lines[0], extra, "index 02")
    yield "proof", "a carriage return", "levels", text.replace("\n", "\r\n").encode()
    yield (
        "proof",
        "a hash of 31 bytes",
        "levels",
        text.replace(lines[3], lines[3][:40] + "AA==").encode(),
    )
    yield "proof", "extra data that is no base64", "levels", joined(lines[0], extra + "*", lines[2])
    value = extra_of(good)
    for what, changed in [
        ("an unknown version", value | {"version": 2}),
        ("an unknown field", value | {"time": 0}),
        ("a field is missing", {k: v for k, v in value.items() if k != "page_block"}),
        ("another kind", value | {"kind": "segment"}),
    ]:
        line = "extra " + encode_base64(dagcbor.encode(changed))
        yield "proof", what, "levels", joined(lines[0], line, lines[2])


def extra_of(proof: ProofFile) -> dict[str, dagcbor.Value]:
    """The extra data of a file, decoded."""
    line = proof.encode().decode().split("\n")[1].removeprefix("extra ")
    value = dagcbor.decode(decode_base64(line))
    assert isinstance(value, dict)
    return value


def _sets(good: ProofFile) -> Iterator[Loose]:
    """Set, checkpoint and place in the tree."""
    note = Note.parse(good.checkpoint)
    first, *cosigned = note.signatures
    stranger = PROPOSER.note_signature(note.text)

    def signed_by(*lines: Any) -> ProofFile:
        return replace(good, checkpoint=Note(note.text, lines).encode())

    def altered(old: str, new: str) -> ProofFile:
        changed = good.checkpoint.decode().replace(old, new, 1)
        return replace(good, checkpoint=changed.encode())

    bad = replace(cosigned[0], value=flipped(cosigned[0].value, 20))
    yield "no-set", "a policy without a set id", "no-set", good
    yield "wrong-set", "another set's policy", "one", good
    yield (
        "wrong-set",
        "a bit of the descriptor",
        "levels",
        replace(good, descriptor=flipped(good.descriptor, -1)),
    )
    yield (
        "descriptor",
        "of a network that nobody knows",
        "unusable",
        replace(good, descriptor=_unusable()),
    )
    yield "checkpoint", "an extension line", "levels", altered("\n\n", "\nmore\n\n")
    yield "checkpoint", "no signatures", "levels", replace(good, checkpoint=note.text.encode())
    yield "origin", "another log's name", "levels", altered(SET.origin, LOG.name)
    yield "log-signature", "the log's line is missing", "levels", signed_by(*cosigned)
    yield "bad-signature", "a bit of a cosignature", "levels", signed_by(first, bad, *cosigned[1:])
    yield "bad-signature", "another size", "levels", altered("\n10\n", "\n11\n")
    yield (
        "unknown-signature",
        "a line of an unknown key",
        "levels",
        signed_by(first, *cosigned, stranger),
    )
    yield "unknown-signature", "a line twice", "levels", signed_by(first, *cosigned, cosigned[0])
    yield "quorum", "two cosignatures of three", "levels", signed_by(first, *cosigned[:2])
    yield "inclusion", "a hash too few", "levels", replace(good, hashes=good.hashes[:-1])
    yield "inclusion", "a hash too many", "levels", replace(good, hashes=(*good.hashes, bytes(32)))
    yield "inclusion", "hashes out of order", "levels", replace(good, hashes=good.hashes[::-1])
    yield "inclusion", "another index", "levels", replace(good, index=3)
    yield "inclusion", "an index beyond the tree", "levels", replace(good, index=10)
    yield "inclusion", "a bit of the entry", "levels", replace(good, entry=flipped(good.entry, -1))


def _signed(good: ProofFile) -> Iterator[Loose]:
    """From the entry down; where it says *signed*, the validators signed a contradiction."""
    archive = levels.worked()
    batches = [archive.bodies[Span(0, w, w, 1)] for w in range(levels.SIZE)]
    rollup = archive.bodies[Span(1, 0, 0, 2)]
    entries = list(archive.entries)

    def log(window: int, entry: LogEntry) -> Log:
        return Log(SET, LEVELS_LOG, [*entries[:window], entry, *entries[window + 1 :]])

    def under(new: Log, **changes: Any) -> ProofFile:
        return replace(
            good,
            hashes=new.hashes(good.index),
            checkpoint=new.checkpoint(),
            entry=new.entries[good.index].encode(),
            **changes,
        )

    yield (
        "entry",
        "signed: of another window than its place",
        "levels",
        under(log(2, replace(entries[2], window=3))),
    )
    yield (
        "entry",
        "signed: a roll-up less than comes due",
        "levels",
        under(log(2, replace(entries[2], rollups=()))),
    )
    yield "root", "another batch's root", "levels", replace(good, root=batches[1].blocks[0][1])
    yield (
        "root",
        "a roll-up that another entry names",
        "levels",
        replace(good, root=archive.bodies[Span(1, 1, 2, 2)].blocks[0][1]),
    )
    yield (
        "root",
        "signed: of other windows than come due",
        "levels",
        under(
            log(2, replace(entries[2], rollups=(batches[0].root_cid,))),
            root=batches[0].blocks[0][1],
        ),
    )
    yield (
        "page-table",
        "another segment's page",
        "levels",
        replace(good, page=batches[0].blocks[1][1]),
    )
    yield (
        "page-table",
        "a page-table block where the root has the table",
        "levels",
        replace(good, page_block=dagcbor.encode([])),
    )
    root = replace(rollup.root, pages=(rollup.rows[0]._replace(window=1),)).encode()
    name = cids.cid_of(cids.DAG_CBOR, root)
    yield (
        "page",
        "signed: the row says another window",
        "levels",
        under(log(2, replace(entries[2], rollups=(name,))), root=root),
    )
    yield (
        "absent",
        "an envelope that is elsewhere",
        "levels",
        replace(good, id=archive.members[-1].id),
    )


def vectors() -> dict[str, Any]:
    proofs = {
        "batch": ("levels", of_a_batch(), SET),
        "rollup": ("levels", of_a_rollup(), SET),
        "page-blocks": ("one", of_page_blocks(), ONE),
    }
    found = {
        name: {"policy": policy, "file": proof.encode().decode(), "proves": facts(proof, d)}
        for name, (policy, proof, d) in proofs.items()
    }
    return {
        "policies": policies(),
        "proofs": found,
        "page_blocks_recipe": {
            "set": ONE.encode().hex(),
            "window": 0,
            "runs": [list(run) for run in BLOCKS_RUNS],
        },
        "refused": [
            {"why": code, "what": what, "policy": policy, "file": data.decode()}
            for code, what, policy, data in refused()
        ],
    }
