"""CIDs: two codecs, one hash, one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid

codecs = st.sampled_from([cid.RAW, cid.DAG_CBOR])


@given(codecs, st.binary(max_size=60))
def test_text_and_bytes_are_those_of_the_oracle(codec: int, block: bytes) -> None:
    name = cid.cid_of(codec, block)
    text = cid.to_text(name)
    theirs = CID.decode(text)
    assert bytes(theirs) == name
    assert str(theirs) == text
    assert cid.from_text(text) == name
    assert cid.codec(name) == codec
    assert cid.cid_from_digest(codec, cid.digest(name)) == name
    cid.check(name, block)


def test_a_vector_from_ipfs() -> None:
    """The empty raw block, as `ipfs block put` names it."""
    text = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    assert cid.to_text(cid.cid_of(cid.RAW, b"")) == text


@given(codecs, st.binary(max_size=60), st.integers(0, 58), st.characters(codec="ascii"))
def test_one_cid_has_one_text(codec: int, block: bytes, at: int, character: str) -> None:
    text = cid.to_text(cid.cid_of(codec, block))
    other = text[:at] + character + text[at + 1 :]
    if other == text:
        return
    try:
        decoded = cid.from_text(other)
    except InvalidEncoding:
        return
    assert cid.to_text(decoded) == other


GOOD = cid.to_text(cid.cid_of(cid.RAW, b"x"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        GOOD.upper(),
        "B" + GOOD[1:].upper(),
        "b" + GOOD[1:].upper(),
        GOOD + "=",
        GOOD[:-1],
        GOOD + "a",
        " " + GOOD,
        GOOD[:-1] + "1",
        GOOD[:-1] + "é",
        "z" + GOOD[1:],
        # Low bits of the last character beyond the 36 bytes.
        GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
    ],
)
def test_refuses_text(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        cid.from_text(text)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "0155",
        "00551220" + "00" * 32,
        "01701220" + "00" * 32,
        "01551320" + "00" * 32,
        "0155121f" + "00" * 32,
        "01551220" + "00" * 31,
        "01551220" + "00" * 33,
    ],
)
def test_refuses_bytes(data: str) -> None:
    raw = bytes.fromhex(data)
    for use in (cid.require, cid.codec, cid.digest, cid.to_text):
        with pytest.raises(InvalidEncoding):
            use(raw)


def test_another_block_is_refused() -> None:
    with pytest.raises(VerificationFailed) as caught:
        cid.check(cid.cid_of(cid.RAW, b"x"), b"y")
    assert caught.value.code == "block-hash"
    with pytest.raises(ValueError):
        cid.cid_from_digest(cid.RAW, b"short")
