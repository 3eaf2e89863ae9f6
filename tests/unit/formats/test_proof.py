"""The proof file as text: one spelling, and what is no proof file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor
from restante.formats.note import decode_base64, encode_base64
from restante.formats.proof import HEADER, ProofFile

GOOD = ProofFile(
    index=12,
    hashes=(bytes(32), b"\x01" * 32),
    checkpoint=b"any bytes\n\nthat nobody\nlooks at yet",
    descriptor=b"d",
    entry=b"e",
    root=b"r",
    page_block=None,
    page=b"p",
    id=bytes(range(32)),
)
TEXT = GOOD.encode()
LINES = TEXT.decode().split("\n")


def test_the_lines_are_those_of_tlog_proof() -> None:
    assert LINES[0] == HEADER == "c2sp.org/tlog-proof@v1"
    assert LINES[1].startswith("extra ")
    assert LINES[2:6] == ["index 12", encode_base64(bytes(32)), encode_base64(b"\x01" * 32), ""]
    assert TEXT.endswith(b"\n\n" + GOOD.checkpoint)


proofs = st.builds(
    ProofFile,
    index=st.integers(0, limits.TREE_SIZE_MAX),
    hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=limits.PROOF_HASHES).map(tuple),
    checkpoint=st.binary(max_size=80),
    descriptor=st.binary(max_size=40),
    entry=st.binary(max_size=40),
    root=st.binary(max_size=40),
    page_block=st.none() | st.binary(max_size=40),
    page=st.binary(max_size=40),
    id=st.binary(min_size=32, max_size=32),
)


@given(proofs)
def test_what_is_written_is_read(proof: ProofFile) -> None:
    assert ProofFile.parse(proof.encode()) == proof


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 255))
def test_what_is_read_has_one_spelling(at: int, byte: int) -> None:
    changed = TEXT[:at] + bytes([byte]) + TEXT[at + 1 :]
    try:
        found = ProofFile.parse(changed)
    except InvalidEncoding:
        return
    assert found.encode() == changed


def with_lines(*head: str) -> bytes:
    return "\n".join([*head, *LINES[3:]]).encode()


def with_extra(**fields: dagcbor.Value) -> bytes:
    value = dagcbor.decode(decode_base64(LINES[1].removeprefix("extra ")))
    assert isinstance(value, dict)
    encoded = encode_base64(dagcbor.encode(value | fields))
    return with_lines(LINES[0], f"extra {encoded}", LINES[2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        TEXT.split(b"\n\n")[0],
        TEXT.replace(b"@v1", b"@v2"),
        b"\xef\xbb\xbf" + TEXT,
        with_lines(LINES[0], LINES[2]),
        with_lines(LINES[1], LINES[0], LINES[2]),
        with_lines(LINES[0], LINES[1], LINES[1], LINES[2]),
        with_lines(LINES[0], LINES[1].replace("extra ", "extra  "), LINES[2]),
        with_lines(LINES[0], LINES[1] + " ", LINES[2]),
        with_lines(LINES[0], LINES[1], "index 012"),
        with_lines(LINES[0], LINES[1], "index -1"),
        with_lines(LINES[0], LINES[1], "index 1٢"),
        with_lines(LINES[0], LINES[1], "index 99999999999999"),
        with_lines(LINES[0], LINES[1], "index 12 "),
        with_lines(LINES[0], LINES[1], LINES[2], "AAAA"),
        with_lines(LINES[0], LINES[1], LINES[2], *LINES[3:4] * limits.PROOF_HASHES),
        TEXT.replace(b"\n", b"\r\n"),
        with_extra(version=2),
        with_extra(kind="segment"),
        with_extra(time=0),
        with_extra(id=bytes(31)),
        with_extra(page=None),
        with_extra(descriptor=bytes(limits.DESCRIPTOR_MAX_BYTES + 1)),
        with_extra(entry=bytes(limits.ENTRY_MAX_BYTES + 1)),
        with_extra(root=bytes(limits.SEGMENT_ROOT_MAX_BYTES + 1)),
        with_extra(page=bytes(limits.BLOCK_MAX_BYTES + 1)),
        with_extra(page_block=bytes(limits.BLOCK_MAX_BYTES + 1)),
        TEXT + bytes(limits.PROOF_MAX_BYTES),
    ],
)
def test_no_proof_file(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        ProofFile.parse(data)


def test_the_largest_parts_fit() -> None:
    """Every bound at once stays below the bound of the file."""
    largest = ProofFile(
        index=limits.TREE_SIZE_MAX,
        hashes=(bytes(32),) * limits.PROOF_HASHES,
        checkpoint=bytes(limits.NOTE_MAX_BYTES),
        descriptor=bytes(limits.DESCRIPTOR_MAX_BYTES),
        entry=bytes(limits.ENTRY_MAX_BYTES),
        root=bytes(limits.SEGMENT_ROOT_MAX_BYTES),
        page_block=bytes(limits.BLOCK_MAX_BYTES),
        page=bytes(limits.BLOCK_MAX_BYTES),
        id=bytes(32),
    )
    assert ProofFile.parse(largest.encode()) == largest
