"""CARv1: one root, every block hashed."""

import dag_cbor
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats import car, cid, dagcbor, varint
from restante.formats.dagcbor import Link

ROOT = cid.cid_of(cid.DAG_CBOR, b"\xa0")
blocks = st.lists(st.binary(max_size=300), max_size=6).map(
    lambda found: [(cid.cid_of(cid.RAW, block), block) for block in found]
)


@given(blocks)
def test_a_car_survives(blocks: list[tuple[bytes, bytes]]) -> None:
    data = car.write(ROOT, blocks)
    assert car.read(data) == (ROOT, blocks)
    assert data == car.header(ROOT) + b"".join(car.section(*pair) for pair in blocks)
    assert len(data) == car.HEADER_BYTES + sum(car.section_bytes(len(b)) for _, b in blocks)


def test_the_header_is_that_of_the_oracle() -> None:
    body = dag_cbor.encode({"version": 1, "roots": [CID.decode(ROOT)]})
    assert car.header(ROOT) == varint.encode(len(body)) + body
    assert car.read_header(car.header(ROOT)) == (ROOT, car.HEADER_BYTES)


@pytest.mark.parametrize("size", [0, 91, 92, 16_347, 16_348, 65_536])
def test_a_section_is_as_long_as_computed(size: int) -> None:
    block = bytes(size)
    section = car.section(cid.cid_of(cid.RAW, block), block)
    assert len(section) == car.section_bytes(size) == car.section_overhead(size) + size


def test_every_flipped_bit_and_every_cut_is_caught() -> None:
    found = [(cid.cid_of(cid.RAW, b), b) for b in (b"one", b"", b"three")]
    data = car.write(ROOT, found)
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                root, _ = car.read(bytes(changed))
            except Invalid:
                continue
            # A CAR of another root is a CAR; that root is what its reader compares.
            assert root != ROOT
    ends = {car.HEADER_BYTES}
    for _, block in found:
        ends.add(max(ends) + car.section_bytes(len(block)))
    for length in set(range(len(data))) - ends:
        with pytest.raises(InvalidEncoding):
            car.read(data[:length])


def _with_header(value: dagcbor.Value) -> bytes:
    body = dagcbor.encode(value)
    return varint.encode(len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        _with_header({"roots": [], "version": 1}),
        _with_header({"roots": [Link(ROOT), Link(ROOT)], "version": 1}),
        _with_header({"roots": [Link(ROOT)], "version": 2}),
        _with_header({"roots": [Link(ROOT)], "version": 1, "more": 1}),
        _with_header({"roots": [ROOT], "version": 1, "xx": 1}),
        b"\x0a\xa1gversion\x02" + bytes(60),
        car.header(ROOT) + b"\x00",
        car.header(ROOT) + b"\x23" + bytes(35),
        car.header(ROOT) + varint.encode(36) + bytes(36),
        car.header(ROOT) + varint.encode(2**62),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        car.read(data)


def test_a_lying_cid_is_named() -> None:
    data = car.write(ROOT, [(cid.cid_of(cid.RAW, b"x"), b"y")])
    with pytest.raises(VerificationFailed) as caught:
        car.read(data)
    assert caught.value.code == "block-hash"


def test_sizes_and_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    block = b"four"
    data = car.write(ROOT, [(cid.cid_of(cid.RAW, block), block)] * 3)
    assert car.read(data, max_block_bytes=4)
    with pytest.raises(InvalidEncoding):
        car.read(data, max_block_bytes=3)
    monkeypatch.setattr(limits, "CAR_MAX_BLOCKS", 2)
    with pytest.raises(InvalidEncoding):
        car.read(data)
    monkeypatch.setattr(limits, "CAR_MAX_BLOCKS", 3)
    monkeypatch.setattr(limits, "CAR_MAX_BYTES", len(data) - 1)
    with pytest.raises(InvalidEncoding):
        car.read(data)
