"""Bloom filters: geth's bits, its lost bits, and what is sent in spite of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidEncoding
from restante.networks.whisper import bloom

# Half of them such that two bits often fall into one byte.
TOPICS = st.binary(min_size=4, max_size=4) | st.tuples(*[st.integers(0, 15)] * 4).map(bytes)


def bits(value: int) -> set[int]:
    return {bit for bit in range(512) if value >> bit & 1}


def assigned(topic: bytes) -> bytes:
    """As geth does it, byte by byte."""
    found = bytearray(64)
    for j in range(3):
        index = topic[j] + (256 if topic[3] & 1 << j else 0)
        found[index // 8] = 1 << index % 8
    return bytes(found)


@pytest.mark.parametrize(
    ("topic", "indices"),
    [
        ("9c22ff5f", {412, 290, 511}),
        ("cd423760", {205, 66, 55}),
        ("f8946aac", {248, 148, 362}),
    ],
)
def test_bits_of_known_topics(topic: str, indices: set[int]) -> None:
    assert bits(bloom.sample(bytes.fromhex(topic))) == indices
    assert bits(bloom.of_topics([bytes.fromhex(topic)])) == indices


def test_a_bit_is_lost_where_two_fall_into_one_byte() -> None:
    topic = bytes.fromhex("1716941b")
    assert bits(bloom.of_topics([topic])) == {279, 278, 148}
    assert bits(bloom.sample(topic)) == {278, 148}


@given(TOPICS)
def test_samples_are_as_geth_assigns_them(topic: bytes) -> None:
    assert bloom.encode(bloom.sample(topic)) == assigned(topic)


@given(st.lists(TOPICS, max_size=20), TOPICS)
def test_a_filter_matches_its_topics_and_is_tested_as_geth_does(
    topics: list[bytes], other: bytes
) -> None:
    filter_ = bloom.of_topics(topics)
    assert all(bloom.matches(filter_, bloom.sample(topic)) for topic in topics)
    wire, sample = bloom.encode(filter_), assigned(other)
    geth = all(f | s == f for f, s in zip(wire, sample, strict=True))
    assert bloom.matches(filter_, bloom.sample(other)) == geth


@given(st.binary(min_size=64, max_size=64))
def test_filters_round_trip(data: bytes) -> None:
    assert bloom.encode(bloom.decode(data)) == data


def test_bounds() -> None:
    assert bloom.decode(b"\xff" * 64) == bloom.FULL
    assert not bloom.matches(0, bloom.sample(b"abcd"))
    assert bloom.matches(bloom.FULL, bloom.sample(b"abcd"))
    for size in (0, 63, 65):
        with pytest.raises(InvalidEncoding) as caught:
            bloom.decode(bytes(size))
        assert caught.value.code == "bloom-length"
    with pytest.raises(InvalidEncoding):
        bloom.sample(b"abc")
