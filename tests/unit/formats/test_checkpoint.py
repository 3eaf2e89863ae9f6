"""Checkpoints and their cosignatures."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import note
from restante.formats.checkpoint import (
    Checkpoint,
    cosignature_time_s,
    verify_cosignature,
)
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1, ED25519, Note, Signature
from restante.formats.tree import EMPTY_ROOT

KEY = SigningKey("v0", bytes([3]) * 32)
ROOT = bytes(range(32))
TEXT = Checkpoint("example.org/log", 7, ROOT).text()


def test_the_text_is_the_specifications() -> None:
    assert f"example.org/log\n7\n{b64encode(ROOT).decode()}\n" == TEXT
    assert Checkpoint.parse_text(TEXT) == Checkpoint("example.org/log", 7, ROOT)


@given(st.integers(1, limits.TREE_SIZE_MAX), st.binary(min_size=32, max_size=32))
def test_texts_round_trip(size: int, root: bytes) -> None:
    one = Checkpoint("o", size, root)
    assert Checkpoint.parse_text(one.text()) == one


B64 = b64encode(ROOT).decode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"o\n7\n{B64}\nextension\n", "extension-lines"),
        (f"o\n7\n{B64}\n\n", "extension-lines"),
        (f"o\n7\n{B64}", "encoding"),
        (f"\n7\n{B64}\n", "encoding"),
        (f"o o\n7\n{B64}\n", "encoding"),
        (f"o\n07\n{B64}\n", "encoding"),
        (f"o\n+7\n{B64}\n", "encoding"),
        (f"o\n-7\n{B64}\n", "encoding"),
        (f"o\n٧\n{B64}\n", "encoding"),
        (f"o\n\n{B64}\n", "encoding"),
        (f"o\n{limits.TREE_SIZE_MAX + 1}\n{B64}\n", "encoding"),
        (f"o\n{'9' * 5000}\n{B64}\n", "encoding"),
        (f"o\n0\n{B64}\n", "encoding"),
        (f"o\n7\n{B64[:-1]}\n", "encoding"),
        ("o\n7\nAAAA\n", "encoding"),
        ("", "encoding"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidEncoding) as failure:
        Checkpoint.parse_text(text)
    assert failure.value.code == code


def test_a_cosignature_is_time_and_ed25519_over_the_stated_message() -> None:
    signature = KEY.cosignature(TEXT, 1_700_000_000)
    assert len(signature.value) == 72
    assert signature.key_id == KEY.vkey(COSIGNATURE_V1).key_id != KEY.vkey(ED25519).key_id
    message = b"cosignature/v1\ntime 1700000000\n" + TEXT.encode()
    assert note.ed25519_verifies(KEY.public_key, signature.value[8:], message)
    assert verify_cosignature(TEXT, KEY.vkey(), signature.value) == 1_700_000_000
    opened = Note.parse(Note(TEXT, (signature,)).encode())
    assert note.verify(opened, [KEY.vkey()]) == [KEY.vkey()]


def test_the_empty_log_can_be_cosigned() -> None:
    text = Checkpoint("o", 0, EMPTY_ROOT).text()
    assert verify_cosignature(text, KEY.vkey(), KEY.cosignature(text, 5).value) == 5


def test_every_altered_byte_of_a_cosignature_is_refused() -> None:
    signature = KEY.cosignature(TEXT, 99)
    for at in range(72):
        value = bytearray(signature.value)
        value[at] ^= 1
        with pytest.raises(VerificationFailed) as failure:
            verify_cosignature(TEXT, KEY.vkey(), bytes(value))
        assert failure.value.code == "bad-signature"


def test_a_cosignature_speaks_for_one_key_text_and_type() -> None:
    signature = KEY.cosignature(TEXT, 99)
    other = SigningKey("v1", bytes([4]) * 32).vkey()
    plain = KEY.note_signature(TEXT)
    for text, key, line in (
        (TEXT.replace("\n7\n", "\n8\n"), KEY.vkey(), signature),
        (TEXT, other, signature),
        (TEXT, KEY.vkey(ED25519), plain),
        (TEXT, KEY.vkey(), plain),
        (TEXT, KEY.vkey(), Signature("v0", signature.key_id, signature.value[:-1])),
    ):
        with pytest.raises(VerificationFailed):
            verify_cosignature(text, key, line.value)
    with pytest.raises(InvalidEncoding):
        cosignature_time_s(signature.value[:-1])
