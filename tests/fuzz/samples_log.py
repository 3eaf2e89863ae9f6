"""Samples of the log's formats and of messages (see `samples.py`)."""

from collections.abc import Callable
from typing import Any

from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid, tiles
from restante.formats.checkpoint import Checkpoint
from restante.formats.contact import ContactNote, WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import (
    BodiesRequest,
    CosignatureReport,
    PoolPage,
    ReportItem,
    encode_bodies,
    parse_bodies,
)
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Certificate, Proposal, accept_statement
from restante.formats.note import ED25519, Note, Signature, VerifierKey
from restante.formats.policy import Policy, merge

STRICT = (InvalidEncoding,)
CHECKED = (InvalidEncoding, VerificationFailed)

KEYS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(4)]
LOG = SigningKey("example.org/log/0123456789abcdef", bytes([9]) * 32)
SET = Descriptor(origin=LOG.name, genesis_s=0, f=1, validators=tuple(key.vkey() for key in KEYS))
ONE = Descriptor(origin="one", genesis_s=60, f=0, validators=(KEYS[0].vkey(),))
POLICY = Policy.of_validators(
    LOG.vkey(ED25519), SET.validators, SET.k, SET.set_id, [("v0", "http://127.0.0.1:1")]
)
NESTED = Policy.parse(
    (
        f"# nested\nlog {LOG.vkey(ED25519).text()} url\n"
        f"witness a {KEYS[0].vkey().text()}\nwitness b {KEYS[1].vkey().text()} url\n"
        "group c any a\ngroup d all c b\nquorum d\n"
    ).encode()
)
TEXT = Checkpoint(LOG.name, 3, bytes(32)).text()
NOTE = Note(TEXT, (LOG.note_signature(TEXT), *(key.cosignature(TEXT, 9) for key in KEYS[:3])))
IDS = tuple(bytes([i]) * 32 for i in range(4))
CID = cid.cid_of(cid.DAG_CBOR, b"segment")
STATEMENT = accept_statement(SET.set_id, 1, 1, bytes(32), CID)


def _proposal(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "set_id": SET.set_id,
        "window": 1,
        "base_size": 1,
        "base_root": bytes(32),
        "cid": CID,
        "count": 4,
        "size_bytes": 9,
        "ids": IDS,
    }
    return Proposal.make(KEYS[0], **(fields | changes)).encode()


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text, also fed with lone surrogates, which no UTF-8 has."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _verify_proposal(data: bytes) -> None:
    Proposal.parse(data, SET.set_id, 8).verify(SET.set_id)


def _verify_certificate(data: bytes) -> None:
    Certificate.parse(data, SET.set_id).verify(SET)


def _verify_report(data: bytes) -> None:
    for item in CosignatureReport.parse(data).items:
        key = SET.validator_by_id(item.key_id)
        if key is not None:
            item.verify(key, SET.origin)


def _policy(data: bytes) -> None:
    policy = Policy.parse(data)
    assert Policy.parse(policy.encode()) == policy
    policy.satisfied(["v0", "a"])


PARSERS = {
    "note": (Note.parse, [NOTE.encode()], STRICT),
    "signature line": (
        _text(Signature.parse),
        [NOTE.signatures[0].line().strip().encode()],
        STRICT,
    ),
    "vkey": (_text(VerifierKey.parse), [KEYS[0].vkey().text().encode()], STRICT),
    "signing key": (_text(SigningKey.parse), [KEYS[0].text().encode()], STRICT),
    "checkpoint": (_text(Checkpoint.parse_text), [TEXT.encode()], STRICT),
    "policy": (_policy, [POLICY.encode(), NESTED.encode()], STRICT),
    "policy checkpoint": (POLICY.verify_checkpoint, [NOTE.encode()], CHECKED),
    "merge": (lambda data: merge([NOTE.encode(), data], POLICY), [NOTE.encode()], CHECKED),
    "descriptor": (Descriptor.parse, [SET.encode(), ONE.encode()], STRICT),
    "proposal": (
        _verify_proposal,
        [_proposal(), _proposal(ids=(), against=CID, add=IDS[:1], drop=IDS[2:])],
        CHECKED,
    ),
    "answer": (
        Answer.parse,
        [
            Answer.accept(b"abcd", bytes(64)).encode(),
            Answer.missing(IDS).encode(),
            Answer.need(IDS, range(4)).encode(),
            Answer.invalid(IDS[:1], code="cid").encode(),
            Answer.not_yet(5).encode(),
            Answer.conflict(1, 1, bytes(32)).encode(),
            Answer.resend().encode(),
            Answer.refused("quota", "later").encode(),
        ],
        STRICT,
    ),
    "certificate": (
        _verify_certificate,
        [
            Certificate(
                SET.set_id,
                1,
                1,
                bytes(32),
                CID,
                tuple(sorted((key.vkey().key_id, key.sign(STATEMENT)) for key in KEYS[:3])),
            ).encode()
        ],
        CHECKED,
    ),
    "pool page": (
        PoolPage.parse,
        [
            PoolPage(bytes(16), 0, 5, IDS, 9, 1, 7).encode(),
            PoolPage(bytes(16), 0, 0, (), 0, None, 0).encode(),
        ],
        STRICT,
    ),
    "bodies request": (BodiesRequest.parse, [BodiesRequest(IDS).encode()], STRICT),
    "bodies": (parse_bodies, [encode_bodies([b"a", b"b" * 200]), b""], STRICT),
    "cosignatures": (
        _verify_report,
        [
            CosignatureReport(
                tuple(
                    sorted(
                        ReportItem(key.vkey().key_id, 3, bytes(32), key.cosignature(TEXT, 9).value)
                        for key in KEYS[:2]
                    )
                )
            ).encode()
        ],
        CHECKED,
    ),
    "contact": (
        lambda data: ContactNote.open(data, SET),
        [ContactNote(SET.set_id, 1, "v0", (("url", "http://a"), ("x", "y"))).sign(KEYS[0])],
        CHECKED,
    ),
    "watch": (
        lambda data: WatchNote.open(data, SET, "v0"),
        [WatchNote(SET.set_id, 0, 9, ((1, 2), (4, 9))).sign(KEYS[0])],
        CHECKED,
    ),
    "tile path": (_text(tiles.parse_tile_path), [b"tile/3/x001/234.p/7", b"tile/0/000"], STRICT),
    "entries path": (_text(tiles.parse_entries_path), [b"tile/entries/x001/234.p/7"], STRICT),
    "certificate path": (_text(tiles.parse_certificate_path), [b"certificate/001"], STRICT),
    "entry bundle": (
        lambda data: tiles.decode_bundle(data, 3),
        [tiles.encode_bundle([b"", b"a", b"b" * 99])],
        STRICT,
    ),
}
