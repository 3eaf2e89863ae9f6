"""Signing keys: Go's text form, one secret in no message, and domains that never meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidEncoding
from restante.formats.checkpoint import Checkpoint
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1, ED25519, ed25519_verifies
from restante.formats.tree import EMPTY_ROOT

# The example of Go's note package.
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
)


def test_the_published_key_signs_the_published_note() -> None:
    key = SigningKey.parse(GO_SKEY)
    assert key.text() == GO_SKEY
    assert key.vkey(ED25519).text() == GO_VKEY
    assert key.note_signature(GO_TEXT).line() == GO_LINE


def test_no_part_and_no_neighbour_of_a_key_is_a_key() -> None:
    for end in range(len(GO_SKEY)):
        with pytest.raises(InvalidEncoding):
            SigningKey.parse(GO_SKEY[:end])
        with pytest.raises(InvalidEncoding):
            SigningKey.parse(GO_SKEY[end + 1 :])
        with pytest.raises(InvalidEncoding) as failure:
            SigningKey.parse(GO_SKEY[:end] + chr(ord(GO_SKEY[end]) + 1) + GO_SKEY[end + 1 :])
        assert GO_SKEY[40:] not in str(failure.value)


@given(st.binary(min_size=32, max_size=32), st.sampled_from([ED25519, COSIGNATURE_V1]))
def test_text_round_trips(seed: bytes, kind: int) -> None:
    key = SigningKey("v0", seed)
    assert SigningKey.parse(key.text(kind)) == key
    assert ed25519_verifies(key.public_key, key.sign(b"x"), b"x")
    assert not ed25519_verifies(key.public_key, key.sign(b"x"), b"y")


def test_the_secret_is_in_no_repr() -> None:
    key = SigningKey("v0", bytes(range(32)))
    assert repr(key.seed) not in repr(key)
    assert "seed" not in repr(key)


def test_seeds_have_32_bytes_and_names_are_names() -> None:
    for name, seed in (("v0", bytes(31)), ("v0", bytes(33)), ("v 0", bytes(32))):
        with pytest.raises(InvalidEncoding):
            SigningKey(name, seed)


def test_a_note_cannot_be_had_signed_that_is_another_message() -> None:
    key = SigningKey("v0", bytes(32))
    checkpoint = Checkpoint("log", 0, EMPTY_ROOT).text()
    for text in (f"cosignature/v1\ntime 1\n{checkpoint}", "restante/v1/accept\n"):
        with pytest.raises(ValueError):
            key.note_signature(text)


def test_only_checkpoints_are_cosigned() -> None:
    key = SigningKey("v0", bytes(32))
    with pytest.raises(InvalidEncoding):
        key.cosignature("restante/contact/v1\n", 1)
    with pytest.raises(ValueError):
        key.cosignature(Checkpoint("log", 0, EMPTY_ROOT).text(), 0)
