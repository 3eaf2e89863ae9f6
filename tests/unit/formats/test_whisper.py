"""Envelopes and packets: vectors of geth and wnode, round trips, every refusal by its code."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import rlp, whisper
from restante.networks.keccak import keccak256

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "whisper_envelope.json").read_text()
)
U32 = st.integers(0, 2**32 - 1)
ENVELOPES = st.tuples(
    U32,
    U32 | st.integers(0, 300),
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=600),
    st.integers(0, 2**64 - 1) | st.integers(0, 300),
)


def test_the_golden_envelope() -> None:
    raw = bytes.fromhex(VECTOR["rlp"])
    envelope = whisper.parse(raw)
    assert envelope.expiry_s == VECTOR["expiry_s"]
    assert envelope.ttl_s == VECTOR["ttl_s"]
    assert envelope.sent_s == VECTOR["expiry_s"] - VECTOR["ttl_s"]
    assert envelope.topic.hex() == VECTOR["topic"]
    assert envelope.nonce == VECTOR["nonce"]
    assert len(envelope.data) == 284
    assert whisper.whisper_hash(raw, keccak256).hex() == VECTOR["whisper_hash"]
    found = whisper.scan(raw)
    assert len(found.work) == VECTOR["work_bytes"]
    zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
    assert zeros == VECTOR["leading_zeros"]
    # pow 0.45359911406423037, in millionths from both sides
    assert whisper.has_work(zeros, 301, 30, 453_599)
    assert not whisper.has_work(zeros, 301, 30, 453_600)


@pytest.mark.parametrize(
    ("nonce", "pow_"), [(100_000, 0.07692307692307693), (276, 19.692307692307693)]
)
def test_proof_of_work_vectors_of_geth(nonce: int, pow_: float) -> None:
    found = whisper.scan(whisper.assemble(0, 1, bytes(4), bytes.fromhex("deadbeef"), nonce))
    assert len(found.work) == 13
    zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
    assert 2**zeros / 13 / 1 == pow_
    assert whisper.has_work(zeros, 13, 1, int(pow_ * 10**6))
    assert not whisper.has_work(zeros, 13, 1, int(pow_ * 10**6) + 1)


@given(ENVELOPES)
def test_fields_come_back(fields: tuple[int, int, bytes, bytes, int]) -> None:
    raw = whisper.assemble(*fields)
    envelope = whisper.parse(raw)
    got = (envelope.expiry_s, envelope.ttl_s, envelope.topic, envelope.data, envelope.nonce)
    assert got == fields
    assert envelope.raw == raw
    item = rlp.decode(raw)
    assert isinstance(item, list)
    found = whisper.scan(raw)
    assert found.work == rlp.encode(item[:4])
    assert found.raw_nonce == fields[4].to_bytes(8, "big")
    assert found.data_bytes == len(fields[3])


@given(ENVELOPES, st.data())
def test_a_mutant_is_refused_or_is_another_canonical_envelope(
    fields: tuple[int, int, bytes, bytes, int], data: st.DataObject
) -> None:
    raw = whisper.assemble(*fields)
    at = data.draw(st.integers(0, len(raw) - 1))
    piece = data.draw(st.binary(max_size=3))
    mutant = raw[:at] + piece + raw[at + data.draw(st.integers(0, 2)) :]
    try:
        found = whisper.parse(mutant)
    except InvalidEncoding:
        return
    again = whisper.assemble(found.expiry_s, found.ttl_s, found.topic, found.data, found.nonce)
    assert again == mutant


def read_or_refused(read: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return read(raw)
    except InvalidEncoding as error:
        return error.code


def shortly(raw: bytes) -> tuple[Any, ...]:
    """What the short way finds where there is one."""
    found = whisper.scan(raw)
    assert whisper.reading(raw) == (found.topic, found.expiry_s - found.ttl_s)
    return tuple(found)


def at_length(raw: bytes) -> tuple[Any, ...]:
    """The same by the long way, which `parse` always takes."""
    found = whisper.parse(raw)
    r = b"".join(rlp.split_list(raw, max_items=5)[:4])
    work, nonce = rlp.list_header(len(r)) + r, found.nonce.to_bytes(8, "big")
    return (found.expiry_s, found.ttl_s, found.topic, len(found.data), work, nonce)


# Where the short way decides: lengths of one and two bytes, zeros in front.
TIMES = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000])
NONCES = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**32, 2**56 - 1, 2**56, 2**64 - 1])
SIZES = st.sampled_from([0, 55, 56, 200, 236, 237, 238, 239, 240, 241, 242, 255, 256, 300, 70_000])


@given(TIMES | U32, TIMES | U32, SIZES, NONCES, st.data())
def test_the_short_way_finds_what_the_long_way_finds(
    expiry: int, ttl: int, size: int, nonce: int, data: st.DataObject
) -> None:
    raw = whisper.assemble(expiry, ttl, b"\x84\xb9\x01\x00", b"\x88" * size, nonce)
    assert shortly(raw) == at_length(raw)
    # All that is not data: the first bytes, and the last.
    at = data.draw(
        st.integers(0, min(30, len(raw) - 1)) | st.integers(max(0, len(raw) - 11), len(raw) - 1)
    )
    piece = data.draw(
        st.binary(max_size=2)
        | st.sampled_from([b"\x00", b"\x80", b"\x81", b"\x82", b"\xb8", b"\xb9", b"\xc0"])
    )
    mutant = raw[:at] + piece + raw[at + data.draw(st.integers(0, 2)) :]
    assert read_or_refused(shortly, mutant) == read_or_refused(at_length, mutant)


def test_the_short_way_refuses_what_the_long_way_refuses() -> None:
    """Each byte of the header and the nonce with each value; the length of the list follows."""
    for ttl in (50, 200, 3_000):
        for nonce in (0, 7, 200, 2**40):
            raw = whisper.assemble(0x6B031252, ttl, b"abcd", bytes(300), nonce)
            heads = [*range(22), *range(len(raw) - 8, len(raw))]
            for at, value in product(heads, range(256)):
                mutant = raw[:at] + bytes((value,)) + raw[at + 1 :]
                assert read_or_refused(shortly, mutant) == read_or_refused(at_length, mutant)
            for size in range(40):
                assert read_or_refused(shortly, raw[:size]) == read_or_refused(
                    at_length, raw[:size]
                )
    body = rlp.encode([EXPIRY, TTL, TOPIC])[1:]
    long = rlp.encode(bytes(300))
    for data, nonce in (
        (b"\xb9\x00\xff" + bytes(255), b"\x07"),
        (long, b"\x89" + b"\x07" * 9),
        (long, b"\x81\x07"),
        (long, b"\x82\x00\x07"),
        (long, b"\xb8\x01\x07"),
        (long, b""),
        (long + b"\x07", b"\x07"),
    ):
        raw = rlp.list_header(len(body + data + nonce)) + body + data + nonce
        assert isinstance(read_or_refused(shortly, raw), str)
        assert read_or_refused(shortly, raw) == read_or_refused(at_length, raw)


TOPIC, EXPIRY, TTL, NONCE = b"abcd", b"\x6b\x03\x12\x52", b"\x1e", b"\x06\x4f"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([], "rlp-items"),
        ([EXPIRY, TTL, TOPIC, b"data"], "rlp-items"),
        ([EXPIRY, TTL, TOPIC, b"data", NONCE, b""], "rlp-items"),
        (b"not a list", "rlp-not-list"),
        ([EXPIRY, TTL, b"abc", b"data", NONCE], "topic-length"),
        ([EXPIRY, TTL, b"abcde", b"data", NONCE], "topic-length"),
        ([EXPIRY, TTL, TOPIC, [b"data"], NONCE], "data-is-list"),
        ([EXPIRY, TTL, [TOPIC], b"data", NONCE], "field-is-list"),
        ([EXPIRY, TTL, TOPIC, b"data", []], "field-is-list"),
        ([b"\x01" * 5, TTL, TOPIC, b"data", NONCE], "integer-overflow"),
        ([EXPIRY, b"\x01" * 5, TOPIC, b"data", NONCE], "integer-overflow"),
        ([EXPIRY, TTL, TOPIC, b"data", b"\x01" * 9], "integer-overflow"),
        ([b"\x00" + EXPIRY, TTL, TOPIC, b"data", NONCE], "integer-leading-zero"),
        ([EXPIRY, b"\x00", TOPIC, b"data", NONCE], "integer-leading-zero"),
        ([EXPIRY, TTL, TOPIC, b"data", b"\x00" + NONCE], "integer-leading-zero"),
    ],
)
def test_refusals_have_stable_codes(fields: rlp.Encodable, code: str) -> None:
    raw = rlp.encode(fields)
    for read in (whisper.parse, whisper.scan, whisper.reading):
        with pytest.raises(InvalidEncoding) as caught:
            read(raw)
        assert caught.value.code == code


@pytest.mark.parametrize("field", range(5))
def test_a_field_that_leads_out_of_the_list_is_truncated(field: int) -> None:
    """By one byte, so that the list's own end is what stops it."""
    payload = b"".join(rlp.encode(value) for value in (EXPIRY, b"\x01\x1e", TOPIC, b"data", NONCE))
    starts = [0, 5, 8, 13, 18]
    end = starts[field] + 1 + (payload[starts[field]] - 0x80)
    cut = payload[: end - 1]
    with pytest.raises(InvalidEncoding) as caught:
        whisper.scan(rlp.list_header(len(cut)) + cut)
    assert caught.value.code == "rlp-truncated"


def test_work_that_just_reaches_the_floor_is_enough() -> None:
    assert whisper.has_work(0, 1, 1, 1_000_000)
    assert not whisper.has_work(0, 1, 1, 1_000_001)
    assert whisper.has_work(12, 4, 8, 128_000_000)
    assert not whisper.has_work(12, 4, 8, 128_000_001)
    assert whisper.has_work(0, 300, 0, 10**12)  # geth's +Inf


def test_edges_of_the_fields_are_taken() -> None:
    for fields in [
        (0, 0, bytes(4), b"", 0),
        (2**32 - 1, 2**32 - 1, b"\xff" * 4, b"\x00", 2**64 - 1),
        (1, 127, b"abcd", b"\x7f", 127),
        (1, 128, b"abcd", b"\x80", 128),
        (1, 1, b"abcd", bytes(55), 1),
        (1, 1, b"abcd", bytes(56), 1),
        (1, 1, b"abcd", bytes(65_536), 1),
    ]:
        parsed = whisper.parse(whisper.assemble(*fields))
        assert (parsed.expiry_s, parsed.ttl_s, parsed.topic, parsed.data, parsed.nonce) == fields


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((2**32, 1, b"abcd", b"", 0), "integer-overflow"),
        ((1, -1, b"abcd", b"", 0), "integer-overflow"),
        ((1, 1, b"abcd", b"", 2**64), "integer-overflow"),
        ((1, 1, b"abc", b"", 0), "topic-length"),
    ],
)
def test_what_has_no_encoding_is_not_assembled(
    fields: tuple[int, int, bytes, bytes, int], code: str
) -> None:
    with pytest.raises(InvalidEncoding) as caught:
        whisper.assemble(*fields)
    assert caught.value.code == code


def test_packets_are_split_and_nothing_may_follow() -> None:
    raws = [whisper.assemble(9, 5, b"abcd", bytes(size), size) for size in (0, 60, 300)]
    packet = whisper.assemble_packet(raws)
    assert whisper.parse_packet(packet) == raws
    assert whisper.parse_packet(whisper.assemble_packet([])) == []
    refusals = [
        (packet + b"\x00", "rlp-trailing"),  # geth takes this one
        (packet[:-1], "rlp-truncated"),
        (b"\x80", "rlp-not-list"),
        (b"", "rlp-truncated"),
        (bytes(limits.RLP_MAX_BYTES + 1), "rlp-too-large"),
        (
            whisper.assemble_packet([b"\x80"] * (limits.WHISPER_PACKET_MAX_ENVELOPES + 1)),
            "rlp-items",
        ),
    ]
    for payload, code in refusals:
        with pytest.raises(InvalidEncoding) as caught:
            whisper.parse_packet(payload)
        assert caught.value.code == code
    # A bare envelope is a list of five items, none of which is an envelope.
    items = whisper.parse_packet(raws[0])
    with pytest.raises(InvalidEncoding):
        whisper.parse(items[0])


@given(st.integers(0, 3000), st.integers(0, 2**32), st.integers(0, 10**9))
def test_zeros_for_is_the_least_that_has_work(size: int, lifetime: int, floor: int) -> None:
    zeros = whisper.zeros_for(size, lifetime, floor)
    assert whisper.has_work(zeros, size, lifetime, floor)
    assert zeros == 0 or not whisper.has_work(zeros - 1, size, lifetime, floor)


@given(st.integers(0, 2**256 - 1), st.integers(0, 256))
def test_leading_zeros(value: int, shift: int) -> None:
    digest = (value >> shift).to_bytes(32, "big")
    assert whisper.leading_zeros(digest) == (
        bin(int.from_bytes(digest, "big") + 2**256)[3:] + "1"
    ).index("1")
