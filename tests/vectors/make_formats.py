"""Rebuild `formats.json` and the examples of `docs/formats.md`, the same bytes on every machine.

    python tests/vectors/make_formats.py            say whether both are what the code gives
    python tests/vectors/make_formats.py --write    make them so

Nothing is random: keys come from fixed seeds, Ed25519 is deterministic, nonces are the lowest that
do the work. An example stands in the page as a fenced block, ```hex name=… or ```text name=….
"""

import argparse
import json
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import format_indexes
import format_levels
import format_mutants
import format_proofs
import format_refusals
import format_segments
from format_keys import LEVELS_LOG, LOG, ONE_LOG, PROPOSER, VALIDATORS

from restante.formats import car, cid, dagcbor, note, tiles, tree, varint, whisper
from restante.formats.checkpoint import Checkpoint
from restante.formats.contact import ContactNote, WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import (
    BodiesRequest,
    CosignatureReport,
    PoolPage,
    ReportItem,
    encode_bodies,
)
from restante.formats.index import check_block, names_value
from restante.formats.index_cut import Index
from restante.formats.level import Span
from restante.formats.message import Answer, Certificate, Proposal, accept_statement
from restante.formats.note import ED25519, Note
from restante.formats.page import Member, rows_value, topic_key
from restante.formats.policy import Policy
from restante.formats.root import encode_keys
from restante.formats.segment import Segment, build
from restante.networks.keccak import keccak256
from restante.rules.valid import Facts, examine

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "formats.md"
JSON = ROOT / "tests" / "vectors" / "formats.json"

ORIGIN = LOG.name
GENESIS_S = 1_500_000_000
WINDOW = 1
TTL_S = 50
COSIGNED_S = GENESIS_S + 66

SET = Descriptor(
    origin=ORIGIN,
    genesis_s=GENESIS_S,
    f=1,
    validators=tuple(key.vkey() for key in VALIDATORS),
)
# (topic, seconds after the window's start, data)
ENVELOPES = [
    ("a1b2c3d4", 20, b"the first example"),
    ("00000001", 11, b"the second example"),
    ("a1b2c3d4", 5, b"the third example"),
]
Files = dict[str, bytes]


class Example(NamedTuple):
    """One object: as the page shows it, and what else there is to say of it."""

    kind: str
    """`hex` or `text`."""
    data: bytes

    def lines(self) -> list[str]:
        """The lines of its fenced block: text as it is, or 32 bytes a line in hex."""
        if self.kind == "text":
            return self.data.decode().rstrip("\n").split("\n")
        return [self.data[at : at + 32].hex() for at in range(0, len(self.data), 32)] or [""]


def hexed(data: bytes) -> Example:
    return Example("hex", data)


def text(*lines: str) -> Example:
    return Example("text", "".join(f"{line}\n" for line in lines).encode())


def notation(data: bytes) -> Example:
    """DAG-CBOR in the notation of RFC 8949 §8, keys in the order of the bytes."""
    value = dagcbor.decode(data)
    assert isinstance(value, dict)
    order = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    width = max(len(key) for key in order) + 4
    return text("{", *(f"  {json.dumps(k) + ':':{width}}{_shown(value[k])}," for k in order), "}")


def _shown(value: dagcbor.Value) -> str:
    match value:
        case bytes():
            return f"h'{value.hex()}'"
        case dagcbor.Link():
            return f"42(h'00{value.cid.hex()}')"
        case list():
            return f"[{', '.join(map(_shown, value))}]"
        case dict():
            order = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return f"{{{', '.join(f'{json.dumps(k)}: {_shown(value[k])}' for k in order)}}}"
    return json.dumps(value, ensure_ascii=False)


# --- the worked log: window 0 is quiet, window 1 has three envelopes ------------------------------


def mined(topic: str, sent_s: int, data: bytes) -> bytes:
    """An envelope with the lowest nonce that reaches the set's floor."""
    expiry_s, raw_topic = sent_s + TTL_S, bytes.fromhex(topic)
    work = whisper.work_prefix(expiry_s, TTL_S, raw_topic, data)
    for nonce in range(1 << 24):
        zeros = whisper.leading_zeros(keccak256(work + nonce.to_bytes(8, "big")))
        if whisper.has_work(zeros, len(work), TTL_S, SET.pow_floor_millionths):
            return whisper.assemble(expiry_s, TTL_S, raw_topic, data, nonce)
    raise AssertionError("no nonce was found")


class Worked(NamedTuple):
    """All objects of the worked log."""

    raws: list[bytes]
    facts: list[Facts]
    segments: list[Segment]
    """Of windows 0 and 1."""
    entries: list[bytes]
    leaves: list[bytes]
    certificates: list[bytes]


@cache
def worked() -> Worked:
    start_s = SET.start_s(WINDOW)
    raws = [mined(topic, start_s + after_s, data) for topic, after_s, data in ENVELOPES]
    facts = [examine(raw, SET, keccak256) for raw in raws]
    members = [
        Member(topic_key(SET.set_id, fact.topic), WINDOW, fact.sent_s, fact.id, raw)
        for fact, raw in zip(facts, raws, strict=True)
    ]
    bits = SET.bucket_bits
    segments = [
        build(SET.set_id, [], 0, bucket_bits=bits),
        build(SET.set_id, members, WINDOW, bucket_bits=bits),
    ]
    entries = [segment.entry().encode() for segment in segments]
    leaves = [tree.leaf_hash(entry) for entry in entries]
    certificates = [
        certificate(w, tree.root(leaves[:w]), s.root_cid) for w, s in enumerate(segments)
    ]
    return Worked(raws, facts, segments, entries, leaves, certificates)


def certificate(window: int, base_root: bytes, root_cid: bytes) -> bytes:
    statement = accept_statement(SET.set_id, window, window, base_root, root_cid)
    accepts = sorted((key.vkey().key_id, key.sign(statement)) for key in VALIDATORS[: SET.k])
    return Certificate(SET.set_id, window, window, base_root, root_cid, tuple(accepts)).encode()


def envelope_facts(raw: bytes, facts: Facts) -> Example:
    found = whisper.scan(raw)
    digest = keccak256(found.work + found.raw_nonce)
    nonce = int.from_bytes(found.raw_nonce, "big")
    return text(
        f"id        {facts.id.hex()}",
        f"expiry    {facts.expiry_s}",
        f"ttl       {facts.ttl_s}",
        f"sent      {facts.sent_s}",
        f"topic     {facts.topic.hex()}",
        f"topic key {topic_key(SET.set_id, facts.topic):08x}",
        f"nonce     {nonce}",
        f"r         {found.work.hex()}",
        f"keccak    {digest.hex()}",
        f"zeros     {whisper.leading_zeros(digest)}",
        f"rank      {facts.rank}",
    )


# --- examples, by section of the page ---------------------------------------------------------


def encodings() -> dict[str, Example]:
    hello = b"hello"
    sample: dagcbor.Value = {
        "n": -1,
        "list": [0, 23, 24, 65536, True, None],
        "bytes": b"\x00\xff",
        "text": "é",
        "link": dagcbor.Link(cid.cid_of(cid.RAW, hello)),
    }
    numbers = (0, 1, 127, 128, 300, 16384, 2**63 - 1)
    data = dagcbor.encode(sample)
    small = cid.cid_of(cid.RAW, hello)
    return {
        "dagcbor.notation": notation(data),
        "dagcbor": hexed(data),
        "varint": text(*(f"{n} {varint.encode(n).hex()}" for n in numbers)),
        "cid": text(
            f"binary {small.hex()}",
            f"text   {cid.to_text(small)}",
        ),
        "car-small": hexed(car.write(small, [(small, hello)])),
    }


def keys() -> dict[str, Example]:
    return {
        "vkey-v0": text(VALIDATORS[0].vkey().text()),
        "vkey-v0-notes": text(VALIDATORS[0].vkey(ED25519).text()),
        "vkey-log": text(LOG.vkey(ED25519).text()),
        "private-key-v0": text(VALIDATORS[0].text()),
    }


def objects() -> dict[str, Example]:
    w = worked()
    quiet, segment = w.segments
    out = {
        "descriptor.notation": notation(SET.encode()),
        "descriptor": hexed(SET.encode()),
        "set-id": hexed(SET.set_id),
    }
    for number, (raw, facts) in enumerate(zip(w.raws, w.facts, strict=True), 1):
        out[f"envelope-{number}"] = hexed(raw)
        out[f"envelope-{number}.facts"] = envelope_facts(raw, facts)
    (page,) = [block for _, block in segment.blocks[-len(segment.rows) :]]
    root = segment.blocks[0][1]
    rows = dagcbor.encode(rows_value(segment.rows))
    directory = segment.root.directory
    assert directory is not None
    return out | {
        "page": hexed(page),
        "page.cid": text(cid.to_text(segment.rows[0].cid)),
        "page-table-block": hexed(rows),
        "directory-block": hexed(encode_keys(directory)),
        "root.notation": notation(root),
        "root": hexed(root),
        "root.cid": text(cid.to_text(segment.root_cid)),
        "car": hexed(segment.cars()[0]),
        "quiet-root": hexed(quiet.blocks[0][1]),
        "quiet-root.cid": text(cid.to_text(quiet.root_cid)),
        "quiet-entry": hexed(w.entries[0]),
        "entry.notation": notation(w.entries[1]),
        "entry": hexed(w.entries[1]),
    }


@cache
def checkpoint_note() -> Note:
    at = Checkpoint(ORIGIN, 2, tree.root(worked().leaves)).text()
    cosigned = [key.cosignature(at, COSIGNED_S) for key in VALIDATORS[: SET.k]]
    return Note(at, (LOG.note_signature(at), *cosigned))


def logs() -> dict[str, Example]:
    w = worked()
    signed = checkpoint_note()
    contacts = [(key.name, f"https://{key.name}.example.org") for key in VALIDATORS]
    policy = Policy.of_validators(
        LOG.vkey(ED25519), SET.validators, SET.k, SET.set_id, contacts[:1]
    )
    contact = ContactNote(SET.set_id, 3, "v0", (("url", "https://v0.example.org"),))
    watch = WatchNote(SET.set_id, 0, 2, ((0, 1),))
    return {
        "tree": text(
            f"leaf 0 {w.leaves[0].hex()}",
            f"leaf 1 {w.leaves[1].hex()}",
            f"root 0 {tree.EMPTY_ROOT.hex()}",
            f"root 1 {tree.root(w.leaves[:1]).hex()}",
            f"root 2 {tree.root(w.leaves).hex()}",
        ),
        "tile": hexed(b"".join(w.leaves)),
        "entry-bundle": hexed(tiles.encode_bundle(w.entries)),
        "certificate-bundle": hexed(tiles.encode_bundle(w.certificates)),
        "checkpoint-text": Example("text", signed.text.encode()),
        "cosigned": Example("text", note.cosignature_message(COSIGNED_S, signed.text)),
        "cosignature": hexed(signed.signatures[1].value),
        "checkpoint": Example("text", signed.encode()),
        "policy": Example("text", policy.encode()),
        "contact": Example("text", contact.sign(VALIDATORS[0])),
        "watch": Example("text", watch.sign(VALIDATORS[0])),
    }


def messages() -> dict[str, Example]:
    w = worked()
    segment = w.segments[WINDOW]
    ids = tuple(fact.id for fact in w.facts)
    base: dict[str, Any] = {
        "set_id": SET.set_id,
        "window": WINDOW,
        "base_size": 1,
        "base_root": tree.root(w.leaves[:1]),
        "cid": segment.root_cid,
        "count": segment.count,
        "size_bytes": segment.bytes_,
    }
    # A first proposal that left the third envelope out, from which the second one differs.
    bits = SET.bucket_bits
    members = [
        Member(topic_key(SET.set_id, fact.topic), WINDOW, fact.sent_s, fact.id, raw)
        for fact, raw in zip(w.facts[:2], w.raws[:2], strict=True)
    ]
    earlier = build(SET.set_id, members, WINDOW, bucket_bits=bits).root_cid
    full = Proposal.make(PROPOSER, ids=ids, **base)
    difference = Proposal.make(PROPOSER, against=earlier, add=ids[2:], drop=(), **base)
    statement = accept_statement(
        SET.set_id, WINDOW, base["base_size"], base["base_root"], base["cid"]
    )
    v0 = VALIDATORS[0]
    pool = PoolPage(bytes(range(16)), 0, 0, ids, 3, 0, 0)
    items = [
        ReportItem(key.vkey().key_id, 2, tree.root(w.leaves), line.value)
        for key, line in zip(VALIDATORS, checkpoint_note().signatures[1:], strict=False)
    ]
    report = CosignatureReport(tuple(sorted(items)))
    return {
        "proposal.notation": notation(full.encode()),
        "proposal": hexed(full.encode()),
        "proposal-difference": hexed(difference.encode()),
        "accept-statement": hexed(statement),
        "accept-signature": hexed(v0.sign(statement)),
        **answers(ids, v0.vkey().key_id, v0.sign(statement), base["base_root"]),
        "certificate": hexed(w.certificates[WINDOW]),
        "pool-page": hexed(pool.encode()),
        "bodies-request": hexed(BodiesRequest(ids[:1]).encode()),
        "bodies": hexed(encode_bodies(w.raws[:2])),
        "cosignatures": hexed(report.encode()),
    }


def answers(
    ids: tuple[bytes, ...], key_id: bytes, signature: bytes, base_root: bytes
) -> dict[str, Example]:
    made = [
        Answer.accept(key_id, signature),
        Answer.missing(ids[:1]),
        Answer.need(ids[1:2], [sorted(ids).index(ids[1])]),
        Answer.invalid(ids[2:], code="not-allowed"),
        Answer.not_yet(1500),
        Answer.conflict(1, 1, base_root),
        Answer.resend(),
        Answer.refused("quota", "come back after the next cut-off"),
    ]
    return {f"answer-{answer.kind}": hexed(answer.encode()) for answer in made}


def levels() -> dict[str, Example]:
    """Of the small archive with roll-ups: what concerns its first roll-up and its first index."""
    archive, d = format_levels.worked(), format_levels.SET
    rollup, index = archive.bodies[Span(1, 0, 0, 2)], archive.indexes[Span(2, 0, 0, 4)]
    (block,) = [data for _, data in index.blocks[1:]]
    policy = format_levels.policy(d, LEVELS_LOG)
    raws = [member.raw for member in archive.members[:3]]
    entries = {w: archive.entries[w].encode() for w in (2, 4, 6)}
    return {
        "levels-descriptor": hexed(d.encode()),
        "levels-set-id": hexed(d.set_id),
        **{f"levels-envelope-{n}": hexed(raw) for n, raw in enumerate(raws, 1)},
        "rollup-root.notation": notation(rollup.blocks[0][1]),
        "rollup-root": hexed(rollup.blocks[0][1]),
        "rollup-root.cid": text(cid.to_text(rollup.root_cid)),
        "rollup-car": hexed(rollup.cars()[0]),
        "index-root.notation": notation(index.blocks[0][1]),
        "index-root": hexed(index.blocks[0][1]),
        "index-root.cid": text(cid.to_text(index.root_cid)),
        "index-table": hexed(dagcbor.encode(names_value(index.root.blocks or ()))),
        "index-block": hexed(block),
        "index-block.facts": index_facts(index, block),
        "index-car": hexed(index.car()),
        "levels-entry-4.notation": notation(entries[4]),
        **{f"levels-entry-{w}": hexed(entry) for w, entry in entries.items()},
        "levels-policy": Example("text", policy.encode()),
        "proof": Example("text", format_proofs.of_a_batch().encode()),
        "proof-of-rollup": Example("text", format_proofs.of_a_rollup().encode()),
    }


def index_facts(index: Index, block: bytes) -> Example:
    (name,) = index.root.blocks or ()
    contents = check_block(name, block, index.root)
    lines = [f"key {key:08x} mask {mask:02x}" for key, mask in contents.keys.items()]
    for child, rows in enumerate(contents.rows):
        for row in rows:
            numbers = " ".join(str(number) for number in row[1:6])
            lines.append(f"row of child {child}: {row.topic_key:08x} {numbers} {row.cid[4:].hex()}")
    return text(*lines)


@cache
def examples() -> dict[str, Example]:
    """Every example of the page."""
    return encodings() | keys() | objects() | logs() | messages() | levels()


# --- the page and the file --------------------------------------------------------------------

_BLOCK = re.compile(
    r"^```(?P<kind>hex|text) name=(?P<name>[a-z0-9.-]+)\n(?P<body>.*?)^```$", re.M | re.S
)


def blocks(page: str) -> list[tuple[str, str, list[str]]]:
    """(name, kind, lines) of every named block of a page."""
    return [(m["name"], m["kind"], m["body"].splitlines()) for m in _BLOCK.finditer(page)]


def filled(page: str, known: Mapping[str, Example]) -> str:
    """The page with every named block holding its example. KeyError for an unknown name."""

    def block(match: re.Match[str]) -> str:
        example = known[match["name"]]
        assert example.kind == match["kind"], match["name"]
        return "\n".join([match[0].partition("\n")[0], *example.lines(), "```"])

    return _BLOCK.sub(block, page)


def _one_line(doc: str | None) -> str:
    """A docstring as running text, the same whatever a Python makes of its line breaks."""
    return " ".join((doc or "").split())


ABOUT = {
    "file": "made by make_formats.py from fixed seeds; docs/formats.md says what each object is",
    "examples": "those of the page; value is hex, or the text itself",
    "segments": _one_line(format_segments.__doc__),
    "indexes": _one_line(format_indexes.__doc__),
    "trees": _one_line(format_segments.trees.__doc__),
    "archive": "all files of a small archive by path, in base64, and what a client of its policy "
    "finds for a topic in windows [a, b): window, sent time and id of each envelope, in the order "
    "of answers. cover is the fewest spans, [level, number], that hold these windows",
    "archive_mutants": _one_line(format_mutants.__doc__),
    "proofs": "proof files that hold, with what they prove, and such as must be refused, with the "
    "word of section 15 (why); policies by name. Besides, each of the good ones must be refused "
    "with any one byte changed, inserted or left out",
    "refused": "bytes that a strict reader of the format refuses",
}


def vectors() -> str:
    """The text of `formats.json`."""
    shown = {
        name: {
            "kind": example.kind,
            "value": example.data.hex() if example.kind == "hex" else example.data.decode(),
            "sha256": sha256(example.data).hexdigest(),
        }
        for name, example in examples().items()
    }
    signing = [*VALIDATORS, LOG, PROPOSER, LEVELS_LOG, ONE_LOG]
    whole = {
        "about": ABOUT,
        "keys": [
            {"name": k.name, "seed": k.seed.hex(), "public_key": k.public_key.hex()}
            for k in signing
        ],
        "examples": shown,
        "segments": format_segments.vectors(),
        "indexes": format_indexes.vectors(),
        "trees": format_segments.trees(),
        "archive": format_levels.vectors(),
        "archive_mutants": format_mutants.vectors(),
        "proofs": format_proofs.vectors(),
        "refused": format_refusals.vectors(
            {name: example.data for name, example in examples().items()}
        ),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write what differs")
    write = parser.parse_args().write
    differs = False
    for path, expected in [
        (DOC, filled(DOC.read_text("utf-8"), examples())),
        (JSON, vectors()),
    ]:
        if path.exists() and path.read_text("utf-8") == expected:
            continue
        differs = True
        if write:
            path.write_text(expected, "utf-8")
        print(f"{path.relative_to(ROOT)} {'written' if write else 'differs'}")
    return int(differs and not write)


if __name__ == "__main__":
    raise SystemExit(main())
