"""Messages: what they hold, who signed it, and nothing that could be taken for something else."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import cid as cids
from restante.formats import dagcbor
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.message import (
    Answer,
    BodiesRequest,
    Certificate,
    CosignatureReport,
    PoolPage,
    Proposal,
    ReportItem,
    accept_statement,
    encode_bodies,
    parse_bodies,
)
from restante.formats.note import ed25519_verifies

KEYS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(7)]
SET = Descriptor(
    origin="o/0123456789abcdef",
    genesis_s=0,
    f=1,
    validators=tuple(key.vkey() for key in KEYS[:4]),
)
OTHER = replace(SET, origin="other")
ID = SET.set_id
IDS = tuple(sorted(sha256(bytes([i])).digest() for i in range(6)))
ROOT = bytes([8]) * 32
CID = cids.cid_of(cids.DAG_CBOR, b"segment")
CID2 = cids.cid_of(cids.DAG_CBOR, b"earlier")
RAW_CID = cids.cid_of(cids.RAW, b"page")
MAX = 50


def propose(**changes: Any) -> Proposal:
    fields: dict[str, Any] = {
        "set_id": ID,
        "window": 7,
        "base_size": 7,
        "base_root": ROOT,
        "cid": CID,
        "count": 6,
        "size_bytes": 900,
        "ids": IDS,
    }
    return Proposal.make(KEYS[0], **(fields | changes))


FULL = propose()
DIFFERENCE = propose(ids=(), against=CID2, add=IDS[:2], drop=IDS[4:])
EMPTY = propose(ids=(), count=0, size_bytes=0)


def altered(data: bytes) -> list[bytes]:
    """Each byte changed in two ways, truncations, and a byte more."""
    out = [data + b"\0", data[:-1], data[: len(data) // 2], b""]
    for at in range(len(data)):
        for change in (1, 0x80):
            each = bytearray(data)
            each[at] ^= change
            out.append(bytes(each))
    return out


def edited(data: bytes, **changes: Any) -> bytes:
    """The same map with fields changed; `...` removes one, `body__x` reaches into the body."""
    fields = dagcbor.decode(data)
    assert isinstance(fields, dict)
    for key, value in changes.items():
        target: Any = fields
        for part in key.split("__")[:-1]:
            target = target[part]
        last = key.split("__")[-1]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return dagcbor.encode(fields)


# --- proposals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [FULL, DIFFERENCE, EMPTY], ids=["full", "difference", "empty"])
def test_proposals_round_trip_and_verify(one: Proposal) -> None:
    parsed = Proposal.parse(one.encode(), ID, MAX)
    assert parsed == one
    parsed.verify(ID)
    with pytest.raises(VerificationFailed) as failure:
        parsed.verify(OTHER.set_id)
    assert failure.value.code == "signature"


@pytest.mark.parametrize("one", [FULL, DIFFERENCE], ids=["full", "difference"])
def test_no_altered_proposal_verifies(one: Proposal) -> None:
    for data in altered(one.encode()):
        with pytest.raises(Invalid):
            Proposal.parse(data, ID, MAX).verify(ID)


def test_a_proposal_is_signed_under_its_own_domain() -> None:
    unsigned = dagcbor.decode(FULL.encode())
    assert isinstance(unsigned, dict)
    signature = unsigned.pop("signature")
    assert isinstance(signature, bytes)
    encoded = dagcbor.encode(unsigned)
    assert ed25519_verifies(KEYS[0].public_key, signature, b"restante/v1/proposal\n" + encoded)
    for other in (encoded, b"restante/v1/accept\n" + encoded):
        forged = replace(FULL, signature=KEYS[0].sign(other))
        with pytest.raises(VerificationFailed):
            forged.verify(ID)


def test_a_proposal_by_another_key_does_not_verify() -> None:
    with pytest.raises(VerificationFailed):
        replace(FULL, key=KEYS[1].public_key).verify(ID)
    with pytest.raises(VerificationFailed):
        replace(FULL, key=bytes(31)).verify(ID)


def test_ids_are_sorted_when_a_proposal_is_made() -> None:
    assert propose(ids=IDS[::-1]) == FULL


SWAPPED = IDS[1] + IDS[0] + b"".join(IDS[2:])
DOUBLED = IDS[0] + IDS[0] + b"".join(IDS[2:])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (edited(FULL.encode(), version=2), "version"),
        (edited(FULL.encode(), set=OTHER.set_id), "unknown-set"),
        (edited(FULL.encode(), set=ID[:31]), "encoding"),
        (edited(FULL.encode(), kind="accept"), "encoding"),
        (edited(FULL.encode(), key=bytes(31)), "encoding"),
        (edited(FULL.encode(), signature=bytes(63)), "encoding"),
        (edited(FULL.encode(), signature=...), "encoding"),
        (edited(FULL.encode(), more=1), "encoding"),
        (edited(FULL.encode(), body__more=1), "encoding"),
        (edited(FULL.encode(), body__count=5), "encoding"),
        (edited(FULL.encode(), body__count=-1), "encoding"),
        (edited(FULL.encode(), body__window=-1), "encoding"),
        (edited(FULL.encode(), body__window=limits.TREE_SIZE_MAX + 1), "encoding"),
        (edited(FULL.encode(), body__base_root=bytes(33)), "encoding"),
        (edited(FULL.encode(), body__cid=CID[:-1]), "encoding"),
        (edited(FULL.encode(), body__cid=RAW_CID), "encoding"),
        (edited(FULL.encode(), body__cid=dagcbor.Link(CID)), "encoding"),
        (edited(FULL.encode(), body__bytes=1 << 50), "encoding"),
        (edited(FULL.encode(), body__ids=b"".join(IDS)[:-1]), "encoding"),
        (edited(FULL.encode(), body__ids=SWAPPED), "encoding"),
        (edited(FULL.encode(), body__ids=DOUBLED), "encoding"),
        (edited(FULL.encode(), body__ids=...), "encoding"),
        (edited(FULL.encode(), body__add=b""), "encoding"),
        (edited(FULL.encode(), body__against=CID2), "encoding"),
        (edited(DIFFERENCE.encode(), body__ids=b""), "encoding"),
        (edited(DIFFERENCE.encode(), body__drop=...), "encoding"),
        (edited(DIFFERENCE.encode(), body__drop=IDS[0]), "encoding"),
        (edited(DIFFERENCE.encode(), body__add=SWAPPED), "encoding"),
        (edited(DIFFERENCE.encode(), body__count=1), "encoding"),
        (edited(DIFFERENCE.encode(), body__against=RAW_CID), "encoding"),
        (edited(DIFFERENCE.encode(), body=[]), "encoding"),
        (dagcbor.encode([]), "encoding"),
    ],
)
def test_other_proposals_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(InvalidEncoding) as failure:
        Proposal.parse(data, ID, MAX)
    assert failure.value.code == code


def test_a_proposal_of_more_than_the_limit_is_refused() -> None:
    data = FULL.encode()
    assert Proposal.parse(data, ID, 6) == FULL
    with pytest.raises(InvalidEncoding):
        Proposal.parse(data, ID, 5)
    with pytest.raises(InvalidEncoding):
        Proposal.parse(data + bytes(4096 + 64 * 6), ID, 6)


def test_the_largest_proposal_fits_the_codec() -> None:
    most = limits.DESCRIPTOR_BATCH_ENVELOPES
    ids = tuple(n.to_bytes(32, "big") for n in range(most))
    data = propose(ids=ids, count=most).encode()
    assert len(data) < 64 * most + limits.MESSAGE_OVERHEAD_BYTES
    parsed = Proposal.parse(data, ID, most)
    parsed.verify(ID)
    assert parsed.ids == ids


# --- answers ------------------------------------------------------------------------------------

ANSWERS = [
    Answer.accept(b"abcd", bytes(64)),
    Answer.missing(IDS[::-1]),
    Answer.need(IDS[:2]),
    Answer.need(IDS[:2], (4, 9)),
    Answer.invalid(code="cid"),
    Answer.invalid(IDS[:1], code="not-allowed"),
    Answer.not_yet(0),
    Answer.not_yet(1_234),
    Answer.conflict(9, 8, ROOT),
    Answer.resend(),
    Answer.refused("quota", "come back later"),
    Answer.refused("quota"),
]


@pytest.mark.parametrize("one", ANSWERS, ids=lambda one: one.kind)
def test_answers_round_trip(one: Answer) -> None:
    data = one.encode()
    assert Answer.parse(data) == one
    for other in altered(data):
        try:
            parsed = Answer.parse(other)
        except InvalidEncoding:
            continue
        assert parsed != one
        assert parsed.encode() == other


@pytest.mark.parametrize(
    "data",
    [
        edited(ANSWERS[0].encode(), version=2),
        edited(ANSWERS[0].encode(), answer="yes"),
        edited(ANSWERS[0].encode(), key=b"abc"),
        edited(ANSWERS[0].encode(), signature=bytes(63)),
        edited(ANSWERS[0].encode(), hint=""),
        edited(ANSWERS[1].encode(), ids=b""),
        edited(ANSWERS[1].encode(), ids=bytes(31)),
        edited(ANSWERS[1].encode(), ids=bytes(64)),
        edited(ANSWERS[2].encode(), ids=b""),
        edited(ANSWERS[3].encode(), positions=[1]),
        edited(ANSWERS[3].encode(), positions=[1, -1]),
        edited(ANSWERS[3].encode(), positions=[1, True]),
        edited(ANSWERS[4].encode(), code=""),
        edited(ANSWERS[4].encode(), code="Two words"),
        edited(ANSWERS[4].encode(), code="a" * (limits.ANSWER_CODE_CHARACTERS + 1)),
        edited(ANSWERS[6].encode(), retry_ms=limits.ANSWER_RETRY_MAX_MS + 1),
        edited(ANSWERS[6].encode(), retry_ms=-1),
        edited(ANSWERS[8].encode(), base_root=bytes(31)),
        edited(ANSWERS[9].encode(), code="x"),
        edited(ANSWERS[10].encode(), hint="a" * (limits.ANSWER_HINT_CHARACTERS + 1)),
    ],
)
def test_other_answers_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        Answer.parse(data)


def test_an_answer_names_at_most_so_many_ids() -> None:
    assert Answer.parse(Answer.missing(IDS).encode(), 6).ids == IDS
    with pytest.raises(InvalidEncoding):
        Answer.parse(Answer.missing(IDS).encode(), 5)
    hint = Answer.refused("quota", "x" * 9_999).hint
    assert len(hint) == limits.ANSWER_HINT_CHARACTERS


def test_an_answer_of_the_most_ids_and_positions_fits_the_codec() -> None:
    ids = tuple(n.to_bytes(32, "big") for n in range(limits.ANSWER_IDS))
    one = Answer.need(ids, range(limits.ANSWER_IDS))
    assert Answer.parse(one.encode()) == one


# --- accepts and certificates -------------------------------------------------------------------

STATEMENT = accept_statement(ID, 7, 7, ROOT, CID)


def certify(*signers: int, statement: bytes = STATEMENT, **changes: Any) -> Certificate:
    accepts = tuple(sorted((KEYS[i].vkey().key_id, KEYS[i].sign(statement)) for i in signers))
    fields: dict[str, Any] = {
        "set_id": ID,
        "window": 7,
        "base_size": 7,
        "base_root": ROOT,
        "cid": CID,
        "accepts": accepts,
    }
    return Certificate(**(fields | changes))


def test_an_accepts_statement_has_the_stated_form() -> None:
    eight = (7).to_bytes(8, "big")
    assert b"restante/v1/accept\n" + ID + eight + eight + ROOT + CID == STATEMENT
    assert len(STATEMENT) == 19 + 32 + 8 + 8 + 32 + 36


def test_exactly_n_minus_f_distinct_validators_make_a_certificate() -> None:
    for many in range(5):
        for chosen in combinations(range(4), many):
            one = certify(*chosen)
            assert Certificate.parse(one.encode(), ID) == one
            if many == 3:
                one.verify(SET)
            else:
                with pytest.raises(VerificationFailed) as failure:
                    one.verify(SET)
                assert failure.value.code == "quorum"


FIRST = (KEYS[0].vkey().key_id, KEYS[0].sign(STATEMENT))


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (certify(0, 1, 5), "quorum"),
        (certify(0, 1, 2, accepts=(FIRST, FIRST, FIRST)), "quorum"),
        (certify(0, 1, 2, window=8), "signature"),
        (certify(0, 1, 2, base_size=8), "signature"),
        (certify(0, 1, 2, base_root=bytes(32)), "signature"),
        (certify(0, 1, 2, cid=CID2), "signature"),
        (
            certify(0, 1, 2, statement=accept_statement(OTHER.set_id, 7, 7, ROOT, CID)),
            "signature",
        ),
        (certify(0, 1, 2, statement=STATEMENT[19:]), "signature"),
        (certify(0, 1, 2, set_id=OTHER.set_id), "unknown-set"),
    ],
)
def test_other_certificates_do_not_verify(one: Certificate, code: str) -> None:
    with pytest.raises(VerificationFailed) as failure:
        one.verify(SET)
    assert failure.value.code == code


def test_a_certificate_speaks_for_one_set() -> None:
    data = certify(0, 1, 2).encode()
    with pytest.raises(InvalidEncoding) as failure:
        Certificate.parse(data, OTHER.set_id)
    assert failure.value.code == "unknown-set"


def test_no_altered_certificate_verifies() -> None:
    for data in altered(certify(0, 2, 3).encode()):
        with pytest.raises(Invalid):
            Certificate.parse(data, ID).verify(SET)


CERTIFICATE = certify(0, 1, 2).encode()
ACCEPTS = [list(each) for each in certify(0, 1, 2).accepts]


@pytest.mark.parametrize(
    "data",
    [
        edited(CERTIFICATE, version=0),
        edited(CERTIFICATE, kind="proposal"),
        edited(CERTIFICATE, more=0),
        edited(CERTIFICATE, cid=RAW_CID),
        edited(CERTIFICATE, accepts=ACCEPTS[::-1]),
        edited(CERTIFICATE, accepts=[ACCEPTS[0], ACCEPTS[0]]),
        edited(CERTIFICATE, accepts=[ACCEPTS[0][0]]),
        edited(CERTIFICATE, accepts=[[ACCEPTS[0][0], bytes(63)]]),
        edited(CERTIFICATE, accepts=[[b"abc", bytes(64)]]),
        edited(CERTIFICATE, accepts=[["abcd", bytes(64)]]),
        edited(CERTIFICATE, accepts=[[b"abcd", bytes(64), 1]]),
        edited(
            CERTIFICATE,
            accepts=[[bytes([0, 0, 0, i]), bytes(64)] for i in range(17)],
        ),
    ],
)
def test_malformed_certificates_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        Certificate.parse(data, ID)


def test_the_largest_certificate_fits_a_bundle() -> None:
    accepts = tuple((bytes([0, 0, 0, i]), bytes(64)) for i in range(16))
    data = certify(accepts=accepts, window=limits.TREE_SIZE_MAX).encode()
    assert len(Certificate.parse(data, ID).accepts) == 16
    assert len(data) < limits.BUNDLE_ENTRY_MAX_BYTES


# --- pages, bodies, reports ---------------------------------------------------------------------

PAGE = PoolPage(bytes(16), 3, 10, IDS[::-1], 16, 7, 12)


def test_pool_pages_round_trip_in_order_of_arrival() -> None:
    for one in (PAGE, PoolPage(bytes(16), 0, 0, (), 0, None, 0)):
        assert PoolPage.parse(one.encode()) == one
    for other in altered(PAGE.encode()):
        try:
            parsed = PoolPage.parse(other)
        except InvalidEncoding:
            continue
        assert parsed != PAGE
        assert parsed.encode() == other


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"pool": bytes(15)},
        {"next": 15},
        {"next": 5},
        {"floor": -1},
        {"ids": bytes(64)},
        {"ids": bytes(33)},
        {"frozen_window": None},
        {"frozen_window": ...},
        {"frozen_position": None},
        {"more": 1},
    ],
    ids=str,
)
def test_other_pool_pages_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEncoding):
        PoolPage.parse(edited(PAGE.encode(), **changes))


def test_pages_and_requests_name_at_most_so_many_ids() -> None:
    request = BodiesRequest(IDS[::-1])
    assert BodiesRequest.parse(request.encode()) == request
    for parse, data in ((PoolPage.parse, PAGE.encode()), (BodiesRequest.parse, request.encode())):
        checked: Callable[[bytes, int], object] = parse
        checked(data, 6)
        with pytest.raises(InvalidEncoding):
            checked(data, 5)
    for changes in ({"ids": bytes(64)}, {"ids": bytes(1)}, {"version": 2}, {"kind": "x"}):
        with pytest.raises(InvalidEncoding):
            BodiesRequest.parse(edited(request.encode(), **changes))


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_bodies_round_trip(raws: list[bytes]) -> None:
    data = encode_bodies(raws)
    assert parse_bodies(data) == raws
    for end in range(len(data)):
        try:
            shorter = parse_bodies(data[:end])
        except InvalidEncoding:
            continue
        assert shorter == raws[: len(shorter)]


def test_bodies_keep_their_limits() -> None:
    data = encode_bodies([b"abc", b"d"])
    assert parse_bodies(data, 3, 2) == [b"abc", b"d"]
    for envelope_bytes, envelopes in ((2, 2), (3, 1)):
        with pytest.raises(InvalidEncoding):
            parse_bodies(data, envelope_bytes, envelopes)
    for bad in (b"\0", b"\x80", b"\x81\x00a", b"\x05abcd", b"\xff" * 9):
        with pytest.raises(InvalidEncoding):
            parse_bodies(bad)


TREE = Checkpoint(SET.origin, 5, ROOT)
ITEMS = tuple(
    sorted(
        ReportItem(key.vkey().key_id, 5, ROOT, key.cosignature(TREE.text(), 77).value)
        for key in KEYS[:3]
    )
)
REPORT = CosignatureReport(ITEMS)


def test_a_report_tells_what_a_key_cosigned_and_when() -> None:
    parsed = CosignatureReport.parse(REPORT.encode())
    assert parsed == REPORT
    item = parsed.of_key(KEYS[1].vkey().key_id)
    assert item is not None
    assert item.verify(KEYS[1].vkey(), SET.origin) == 77
    assert parsed.of_key(KEYS[3].vkey().key_id) is None
    for key, origin, claim in (
        (KEYS[0], SET.origin, item),
        (KEYS[1], "other", item),
        (KEYS[1], SET.origin, item._replace(size=6)),
        (KEYS[1], SET.origin, item._replace(root=bytes(32))),
    ):
        with pytest.raises(VerificationFailed):
            claim.verify(key.vkey(), origin)


ROWS = [list(item) for item in ITEMS]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"kind": "certificate"},
        {"more": 1},
        {"items": ROWS[::-1]},
        {"items": [ROWS[0], ROWS[0]]},
        {"items": [ROWS[0][:3]]},
        {"items": [[*ROWS[0], 1]]},
        {"items": [[ROWS[0][0][:3], *ROWS[0][1:]]]},
        {"items": [[ROWS[0][0], True, *ROWS[0][2:]]]},
        {"items": [[ROWS[0][0], 0, *ROWS[0][2:]]]},
        {"items": [[ROWS[0][0], -1, *ROWS[0][2:]]]},
        {"items": [[ROWS[0][0], 5, bytes(31), ROWS[0][3]]]},
        {"items": [[ROWS[0][0], 5, ROOT, bytes(71)]]},
        {"items": ["x"]},
        {"items": [[bytes([0, 0, 0, i]), 5, ROOT, bytes(72)] for i in range(65)]},
    ],
)
def test_other_reports_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEncoding):
        CosignatureReport.parse(edited(REPORT.encode(), **changes))


def test_the_largest_report_fits() -> None:
    items = tuple(
        ReportItem(bytes([0, 0, 0, i]), limits.TREE_SIZE_MAX, ROOT, bytes(72))
        for i in range(limits.REPORT_ITEMS)
    )
    assert CosignatureReport.parse(CosignatureReport(items).encode()).items == items


@given(st.binary(max_size=120))
def test_no_other_error_comes_out_of_the_parsers(data: bytes) -> None:
    for parse in (
        lambda data: Proposal.parse(data, ID, MAX),
        lambda data: Certificate.parse(data, ID),
        Answer.parse,
        PoolPage.parse,
        BodiesRequest.parse,
        CosignatureReport.parse,
        parse_bodies,
    ):
        try:
            parse(data)
        except InvalidEncoding:
            continue
