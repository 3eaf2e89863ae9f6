"""Unsigned varints: minimal or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidEncoding
from restante.formats import varint


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_survives_between_other_bytes(n: int, before: bytes, after: bytes) -> None:
    data = varint.encode(n)
    assert len(data) == varint.size(n) <= varint.VARINT_MAX_BYTES
    assert varint.decode(before + data + after, len(before)) == (n, len(before) + len(data))


@given(st.binary(max_size=12))
def test_what_decodes_is_the_encoding(data: bytes) -> None:
    try:
        n, end = varint.decode(data)
    except InvalidEncoding:
        return
    assert varint.encode(n) == data[:end]


@pytest.mark.parametrize(
    ("n", "data"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (255, "ff01"),
        (300, "ac02"),
        (16384, "808001"),
    ],
)
def test_vectors_of_multiformats(n: int, data: str) -> None:
    assert varint.encode(n) == bytes.fromhex(data)


@pytest.mark.parametrize("data", ["", "80", "8000", "ff00", "80808000", "80" * 9 + "01", "ff" * 20])
def test_refuses(data: str) -> None:
    with pytest.raises(InvalidEncoding):
        varint.decode(bytes.fromhex(data))


def test_bounds_of_the_caller() -> None:
    assert varint.decode(b"\xff\x01", max_bytes=2) == (255, 2)
    with pytest.raises(InvalidEncoding):
        varint.decode(b"\xff\x01", max_bytes=1)
    with pytest.raises(InvalidEncoding):
        varint.decode(b"\x01", 1)


@pytest.mark.parametrize("n", [-1, 2**63])
def test_encoding_beyond_63_bits_is_a_bug(n: int) -> None:
    with pytest.raises(ValueError):
        varint.encode(n)
