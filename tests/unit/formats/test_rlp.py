"""RLP against an independent implementation, by round trips, and at its limits."""

import random

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidEncoding
from restante.formats import rlp

ITEMS = st.recursive(
    st.binary(max_size=70) | st.integers(250, 300).map(bytes),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)

# The specification's own examples (ethereum.org, "Recursive-length prefix serialization").
EXAMPLES = [
    (b"dog", "83646f67"),
    ([b"cat", b"dog"], "c88363617483646f67"),
    (b"", "80"),
    ([], "c0"),
    (b"\x0f", "0f"),
    (b"\x04\x00", "820400"),
    ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
    (
        b"Lorem ipsum dolor sit amet, consectetur adipisicing elit",
        "b8384c6f72656d20697073756d20646f6c6f722073697420616d65742c20636f6e736563746574757220616469706973696369"
        "6e6720656c6974",
    ),
]


def oracle_takes(data: bytes) -> bool:
    """Whether the oracle decodes `data` and gives the very same bytes back."""
    try:
        item = oracle.decode(data, strict=True)
    except oracle.exceptions.DecodingError:
        return False
    return bool(oracle.encode(item) == data)


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.randrange(4)
        at = rng.randrange(len(changed) + 1)
        if kind == 0 and at < len(changed):
            changed[at] = rng.choice((0, 1, 0x37, 0x38, 0x7F, 0x80, 0x81, 0xB7, 0xB8, 0xC0, 0xF8))
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[at:at] = bytes((rng.choice((0, 1, 0x80, 0x81, 0xB8, 0xC0, 0xF8)),))
        else:
            del changed[at : at + rng.choice((1, 1, 2, 5))]
    return bytes(changed)


@pytest.mark.parametrize(("item", "encoded"), EXAMPLES)
def test_examples_of_the_specification(item: rlp.Item, encoded: str) -> None:
    assert rlp.encode(item).hex() == encoded
    assert rlp.decode(bytes.fromhex(encoded)) == item


@given(ITEMS)
def test_encodes_as_the_oracle_and_comes_back(item: rlp.Item) -> None:
    encoded = rlp.encode(item)
    assert encoded == oracle.encode(item)
    assert rlp.decode(encoded) == item


@given(ITEMS, st.integers(0, 2**32))
def test_is_as_strict_as_the_oracle_on_mutated_input(item: rlp.Item, seed: int) -> None:
    rng = random.Random(seed)
    encoded = rlp.encode(item)
    for _ in range(10):
        data = mutated(rng, encoded)
        try:
            decoded = rlp.decode(data)
        except InvalidEncoding:
            assert not oracle_takes(data), data.hex()
        else:
            assert oracle_takes(data), data.hex()
            assert rlp.encode(decoded) == data


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 2**32))
def test_the_fast_readers_agree_with_the_general_one(strings: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    encoded = rlp.encode(strings)
    for data in (encoded, *(mutated(rng, encoded) for _ in range(8))):
        try:
            item: rlp.Item | None = rlp.decode(data)
        except InvalidEncoding:
            item = None
        flat = isinstance(item, list) and all(isinstance(part, bytes) for part in item)
        try:
            spans = rlp.envelope_spans(data)
        except InvalidEncoding:
            assert not (flat and item is not None and len(item) == 5), data.hex()
        else:
            assert item == [data[start:stop] for start, stop in spans.fields]
            assert (
                rlp.encode(item[:4])[-(spans.nonce_header - spans.body) :]
                == (data[spans.body : spans.nonce_header])
            )
        if isinstance(item, list):
            assert rlp.split_list(data, max_items=1000) == [rlp.encode(part) for part in item]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "rlp-truncated"),
        ("8180", None),
        ("817f", "rlp-noncanonical"),
        ("b801ff", "rlp-noncanonical"),
        ("b837" + "ff" * 55, "rlp-noncanonical"),
        ("f837" + "01" * 55, "rlp-noncanonical"),
        ("b838" + "ff" * 56, None),
        ("f838" + "01" * 56, None),
        ("b80000", "rlp-noncanonical"),
        ("b90001ff", "rlp-noncanonical"),
        ("f800", "rlp-noncanonical"),
        ("f9003800", "rlp-noncanonical"),
        ("83ffff", "rlp-truncated"),
        ("b8", "rlp-truncated"),
        ("bf" + "ff" * 7, "rlp-truncated"),
        ("bf" + "ff" * 8, "rlp-truncated"),
        ("ff" + "ff" * 8, "rlp-truncated"),
        ("c28180", None),
        ("c18180", "rlp-truncated"),
        ("c3c2ff", "rlp-truncated"),
        ("c000", "rlp-trailing"),
        ("8000", "rlp-trailing"),
    ],
)
def test_refusals_have_stable_codes(data: str, code: str | None) -> None:
    if code is None:
        assert rlp.encode(rlp.decode(bytes.fromhex(data))).hex() == data
        return
    with pytest.raises(InvalidEncoding) as caught:
        rlp.decode(bytes.fromhex(data))
    assert caught.value.code == code


def test_limits_hold() -> None:
    def nested(depth: int) -> bytes:
        data = b"\xc0"
        for _ in range(depth - 1):
            data = rlp.list_header(len(data)) + data
        return data

    assert rlp.decode(nested(4), max_depth=4) == [[[[]]]]
    for call, code in [
        (lambda: rlp.decode(nested(5), max_depth=4), "rlp-depth"),
        (lambda: rlp.decode(nested(100_000)), "rlp-depth"),
        (lambda: rlp.decode(b"\xc3\x01\x01\x01", max_items=3), "rlp-items"),
        (lambda: rlp.decode(b"\x82\x01\x01", max_bytes=2), "rlp-too-large"),
        (lambda: rlp.split_list(b"\xc3\x01\x01\x01", max_items=2), "rlp-items"),
        (lambda: rlp.split_list(b"\x80", max_items=2), "rlp-not-list"),
        (lambda: rlp.to_uint(b"\x00", 4), "integer-leading-zero"),
        (lambda: rlp.to_uint(b"\x01" * 5, 4), "integer-overflow"),
    ]:
        with pytest.raises(InvalidEncoding) as caught:
            call()
        assert caught.value.code == code
    assert len(rlp.decode(b"\xc3\x01\x01\x01", max_items=4)) == 3
    assert len(rlp.split_list(b"\xc3\x01\x01\x01", max_items=3)) == 3


def test_lists_with_16_bits_of_length_are_split_strictly() -> None:
    """They have a way of their own, which must refuse what the other refuses."""
    sizes = (55, 56, 255, 256, 257, 65_535, 65_536)
    parts = [rlp.list_header(size) + b"\x01" * size for size in sizes]
    whole = b"".join(parts)
    assert rlp.split_list(rlp.list_header(len(whole)) + whole, max_items=7) == parts
    for inside, code in [
        (b"\xf9", "rlp-truncated"),
        (b"\xf9\x01", "rlp-truncated"),
        (b"\xf9\x01\x00", "rlp-truncated"),
        (b"\xf9\x01\x00" + bytes(255), "rlp-truncated"),
        (b"\xf9\x00\xff" + bytes(255), "rlp-noncanonical"),
        (b"\x01\xf9\x00\x00", "rlp-noncanonical"),
    ]:
        with pytest.raises(InvalidEncoding) as caught:
            rlp.split_list(rlp.list_header(len(inside)) + inside, max_items=9)
        assert caught.value.code == code


@given(st.integers(0, 2**64 - 1))
def test_integers_come_back(value: int) -> None:
    assert rlp.to_uint(rlp.encode_uint(value), 8) == value
