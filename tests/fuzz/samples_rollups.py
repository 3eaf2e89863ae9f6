"""Samples of levels, roll-ups, the index and the proof file (see `samples.py`)."""

import json
from pathlib import Path

from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid, dagcbor, entry, index, level
from restante.formats.descriptor import Descriptor
from restante.formats.level import Level, Span
from restante.formats.note import decode_base64, encode_base64
from restante.formats.policy import Policy
from restante.formats.proof import ProofFile
from restante.formats.root import check_rollup_root, parse_root
from restante.rules import proof

STRICT = (InvalidEncoding,)
CHECKED = (InvalidEncoding, VerificationFailed)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "formats.json").read_text("utf-8"))
EXAMPLES = {
    name: bytes.fromhex(row["value"]) if row["kind"] == "hex" else row["value"].encode()
    for name, row in VECTORS["examples"].items()
}
SET = Descriptor.parse(EXAMPLES["levels-descriptor"])
ENTRIES = [EXAMPLES[f"levels-entry-{w}"] for w in (2, 4, 6)]
_GIVEN = VECTORS["proofs"]
POLICIES = {name: Policy.parse(text.encode()) for name, text in _GIVEN["policies"].items()}
PROOFS = [(POLICIES[row["policy"]], row["file"].encode()) for row in _GIVEN["proofs"].values()]
ROOT = index.parse_root(EXAMPLES["index-root"])
CID = cid.cid_of(cid.DAG_CBOR, b"")
CHILD = index.IndexChild(CID, 2_000_000, 9_000_000_000, 5, 9, 6, 400)
TABLES = index.IndexRoot(
    SET.set_id,
    3,
    2_880,
    2_880,
    (CHILD, None, CHILD._replace(envelopes=0, bytes_=0, sent_min=None, sent_max=None, depth=0)),
    None,
    (
        index.IndexTable(1, 1_024, 50_000, 0, CID),
        index.IndexTable(7, 1_024, 50_000, 16_000_000, CID),
        index.IndexTable(7, 3, 150, 32_000_000, CID),
    ),
)
QUIET = index.IndexRoot(SET.set_id, 1, 0, 2, (None, None), (), None)


def read_levels(data: bytes) -> None:
    found = level.read(dagcbor.decode(data))
    level.check(found, batch_max_envelopes=50_000, rollup_limit_bytes=1 << 32)
    assert level.encode(found) == dagcbor.decode(data)


def read_entry(data: bytes) -> None:
    found = entry.parse(data)
    entry.check_rollups(found, SET)
    assert found.encode() == data


def read_rollup_root(data: bytes) -> None:
    root = parse_root(data)
    of = Span(1, 0, 0, 2)
    check_rollup_root(root, of, set_id=SET.set_id, bucket_bits=SET.bucket_bits)


def read_index_root(data: bytes) -> None:
    assert index.parse_root(data).encode() == data


def read_index_block(data: bytes) -> None:
    """As if a root named whatever stands here."""
    contents = index.parse_block(data, ROOT.first_window, ROOT.windows, len(ROOT.children))
    name = index.IndexBlock(next(iter(contents.keys)), len(data), cid.cid_of(cid.DAG_CBOR, data))
    index.check_block(name, data, ROOT)


def read_proof(data: bytes) -> None:
    """A file has one spelling."""
    assert ProofFile.parse(data).encode() == data


def verify_proof(data: bytes) -> None:
    """Under each of the policies: what one takes was a sample, and a refusal has a listed code."""
    refusals: list[VerificationFailed] = []
    for policy, _ in PROOFS:
        try:
            proof.verify(policy, data)
        except VerificationFailed as error:
            refusals.append(error)
    assert {error.code for error in refusals} <= proof.CODES.keys()
    if len(refusals) == len(PROOFS):
        raise refusals[0]
    assert data in [good for _, good in PROOFS]


def verify_extra(data: bytes) -> None:
    """A sample's file with other extra data, so that mutants reach what is within."""
    head, extra, rest = PROOFS[1][1].split(b"\n", 2)
    line = b"extra " + encode_base64(data).encode()
    assert extra.startswith(b"extra ")
    verify_proof(b"\n".join([head, line, rest]))


PARSERS = {
    "levels": (
        read_levels,
        [
            dagcbor.encode(level.encode(levels))
            for levels in ((), level.STANDARD, (Level(2), Level(4), Level(256, "index")))
        ],
        STRICT,
    ),
    "descriptor with levels": (Descriptor.parse, [SET.encode()], STRICT),
    "entry with roll-ups": (read_entry, ENTRIES, STRICT),
    "roll-up root": (read_rollup_root, [EXAMPLES["rollup-root"]], CHECKED),
    "index root": (
        read_index_root,
        [EXAMPLES["index-root"], TABLES.encode(), QUIET.encode()],
        STRICT,
    ),
    "index table": (index.parse_table, [EXAMPLES["index-table"]], STRICT),
    "index block": (read_index_block, [EXAMPLES["index-block"]], CHECKED),
    "proof file": (read_proof, [data for _, data in PROOFS], STRICT),
    "proof": (verify_proof, [data for _, data in PROOFS], CHECKED),
    "proof's extra data": (
        verify_extra,
        [decode_base64(PROOFS[1][1].decode().split("\n")[1].removeprefix("extra "))],
        CHECKED,
    ),
}
