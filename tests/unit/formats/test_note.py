"""Signed notes: published keys and notes, and everything that must not pass for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import note
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1, ED25519, Note, Signature, VerifierKey

# The example of Go's note package, which later became c2sp.org/signed-note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
).encode()

A = SigningKey("a.example/x", bytes([1]) * 32)
B = SigningKey("b", bytes([2]) * 32)
TEXT = "first\n\nsecond ø\n"
SIGNED = Note(TEXT, (A.note_signature(TEXT), B.note_signature(TEXT)))


def test_the_published_note_verifies() -> None:
    key = VerifierKey.parse(GO_VKEY)
    assert key.text() == GO_VKEY
    assert (key.name, key.kind, key.key_id.hex()) == ("PeterNeumann", ED25519, "c74f20a3")
    opened = Note.parse(GO_NOTE)
    assert note.verify(opened, [key]) == [key]
    assert opened.encode() == GO_NOTE


def test_another_published_key_id_is_ours() -> None:
    # The Go checksum database's key, pinned in every Go toolchain.
    vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert VerifierKey.parse(vkey).text() == vkey


def test_no_part_and_no_neighbour_of_a_vkey_is_a_vkey() -> None:
    for start in range(len(GO_VKEY) + 1):
        for end in range(start, len(GO_VKEY) + 1):
            if end - start < len(GO_VKEY):
                with pytest.raises(InvalidEncoding):
                    VerifierKey.parse(GO_VKEY[start:end])
    for at in range(len(GO_VKEY)):
        for step in (-1, 1):
            with pytest.raises(InvalidEncoding):
                VerifierKey.parse(GO_VKEY[:at] + chr(ord(GO_VKEY[at]) + step) + GO_VKEY[at + 1 :])


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        GO_VKEY + "\n",
        " " + GO_VKEY,
        "PeterNeumann+c74f20a3+",
    ],
    ids=["long key", "unknown type", "upper case", "LF", "space", "empty"],
)
def test_malformed_keys_are_refused(vkey: str) -> None:
    with pytest.raises(InvalidEncoding):
        VerifierKey.parse(vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2003", "a\n", "\x7f" * 256])
def test_names_hold_no_spaces_and_no_plus(name: str) -> None:
    with pytest.raises(InvalidEncoding):
        note.check_name(name)
    with pytest.raises(InvalidEncoding):
        VerifierKey(name, ED25519, A.public_key)


def test_lone_surrogates_are_no_name() -> None:
    with pytest.raises(InvalidEncoding):
        note.check_name("\ud800")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1).filter(
    lambda name: "+" not in name and len(name.encode()) < 200
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n"))


@given(
    texts,
    st.lists(
        st.builds(
            Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_notes_round_trip(text: str, signatures: list[Signature]) -> None:
    one = Note(text + "\n", tuple(signatures))
    assert Note.parse(one.encode()) == one


def test_both_signers_are_found_and_unknown_keys_passed_over() -> None:
    opened = Note.parse(SIGNED.encode())
    a, b = A.vkey(ED25519), B.vkey(ED25519)
    assert note.verify(opened, [b, a]) == [a, b]
    assert note.verify(opened, [b]) == [b]
    # The same name with another key, and the same key id under another name, are unknown keys.
    for stranger in (VerifierKey("b", ED25519, A.public_key), b.of_kind(COSIGNATURE_V1)):
        with pytest.raises(VerificationFailed) as failure:
            note.verify(opened, [stranger])
        assert failure.value.code == "no-signature"
    forged = opened.with_signatures([Signature("c", b.key_id, bytes(64))])
    assert note.verify(forged, [a, b]) == [a, b]


def test_one_key_that_signed_twice_is_one_signer() -> None:
    doubled = SIGNED.with_signatures(SIGNED.signatures)
    assert note.verify(doubled, [A.vkey(ED25519)]) == [A.vkey(ED25519)]


def test_a_bad_signature_of_a_known_key_condemns_the_note() -> None:
    bad = Signature(B.name, B.vkey(ED25519).key_id, bytes(64))
    opened = SIGNED.with_signatures([bad])
    assert note.verify(opened, [A.vkey(ED25519)])
    with pytest.raises(VerificationFailed) as failure:
        note.verify(opened, [A.vkey(ED25519), B.vkey(ED25519)])
    assert failure.value.code == "bad-signature"
    for length in (1, 63, 65):
        short = SIGNED.with_signatures([Signature(B.name, bad.key_id, bytes(length))])
        with pytest.raises(VerificationFailed):
            note.verify(short, [B.vkey(ED25519)])


def test_every_altered_byte_is_refused() -> None:
    data = SIGNED.encode()
    keys = [A.vkey(ED25519), B.vkey(ED25519)]
    for at in range(len(data)):
        for change in (1, 0x20, 0x80):
            altered = bytearray(data)
            altered[at] ^= change
            try:
                signers = note.verify(Note.parse(bytes(altered)), keys)
            except (InvalidEncoding, VerificationFailed):
                continue
            # A changed name or key id makes one line a stranger's; the other still covers the text.
            assert Note.parse(bytes(altered)).text == TEXT
            assert len(signers) == 1


LINE = A.note_signature("t\n").line()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"t\n",
        f"t\n{LINE}".encode(),
        f"t\n\n{LINE}"[:-1].encode(),
        f"t\n\n{LINE}\n".encode(),
        f"t\n\n{LINE}more".encode(),
        f"t\r\n\r\n{LINE}".encode(),
        f"t\t\n\n{LINE}".encode(),
        f"t\0\n\n{LINE}".encode(),
        f"t\n\n{LINE}".replace("—", "-").encode(),
        f"t\n\n{LINE}".replace("— ", "—").encode(),
        f"t\n\n{LINE}".replace("x ", "x  ").encode(),
        f"t\n\n{LINE}".replace("=\n", "\n").encode(),
        "t\n\n— a AAAA\n".encode(),
        "t\n\n— a AAAAAA==\n".encode(),
        "t\n\n— a AAAAAAB=\n".encode(),
        "t\n\n— a+ AAAAAAA=\n".encode(),
        "t\n\n—  AAAAAAA=\n".encode(),
        b"\xff\n\n" + LINE.encode(),
        f"t\n\n{LINE * (limits.NOTE_MAX_SIGNATURES + 1)}".encode(),
        b"t" * limits.NOTE_MAX_BYTES + b"\n\n" + LINE.encode(),
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        Note.parse(data)


def test_sixteen_signature_lines_and_more_are_taken() -> None:
    opened = Note.parse(f"t\n\n{LINE * limits.NOTE_MAX_SIGNATURES}".encode())
    assert len(opened.signatures) == limits.NOTE_MAX_SIGNATURES >= 16


def test_nothing_malformed_is_ever_signed_or_written() -> None:
    for text in ("", "t", "t\r\n", "\0\n"):
        with pytest.raises(ValueError):
            A.note_signature(text)
        with pytest.raises(ValueError):
            Note(text, SIGNED.signatures).encode()
    with pytest.raises(ValueError):
        Note(TEXT, ()).encode()
    with pytest.raises(ValueError):
        note.verify(SIGNED, [A.vkey(ED25519), A.vkey(ED25519)])


@given(st.binary(max_size=200))
def test_no_other_error_comes_out_of_the_parsers(data: bytes) -> None:
    for parse in (Note.parse, lambda data: Note.parse(b"t\n\n\xe2\x80\x94 " + data + b"\n")):
        try:
            parse(data)
        except InvalidEncoding:
            continue
