"""Whisper encryption: what wnode made decrypts, what we make comes back, nothing else passes."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante.errors import ConfigError
from restante.formats import whisper
from restante.networks.keccak import keccak256
from restante.networks.rlpx import ecies
from restante.networks.whisper import crypt

ROOT = Path(__file__).parents[3]
TRACE = ROOT / "traces" / "whisper"
VECTOR: dict[str, Any] = json.loads(
    (ROOT / "tests" / "vectors" / "whisper_envelope.json").read_text()
)
KEY = bytes(range(32))
ALICE, BOB = b"\x01" * 32, b"\x02" * 32


def test_password_keys() -> None:
    known = {
        "wwww": VECTOR["sym_key"],
        "status-offline-inbox": "765df27c0765526f920ba742ff4b9452bb0064e016435ffccd81186aa6feaae8",
    }
    for password, key in known.items():
        assert crypt.password_key(password).hex() == key


def test_topics_by_name() -> None:
    """Status's names: its test channel, and contact discovery."""
    assert crypt.topic_of_name("status").hex() == "cd423760"
    assert crypt.topic_of_name("test").hex() == "9c22ff5f"
    assert crypt.topic_of_name("contact-discovery").hex() == "f8946aac"


def test_the_golden_envelope_decrypts() -> None:
    data = whisper.parse(bytes.fromhex(VECTOR["rlp"])).data
    message = crypt.decrypt_symmetric(data, bytes.fromhex(VECTOR["sym_key"]))
    assert message.payload.decode() == VECTOR["payload"]
    assert message.signer is not None
    assert len(message.signer) == 65
    assert 2 + len(message.payload) + len(message.padding) + 65 == VECTOR["plaintext_bytes"]


def test_every_known_message_of_the_trace_decrypts() -> None:
    truth = json.loads((TRACE / "truth.json").read_text())
    wanted = {row["hash"]: row for row in truth["decrypt"]}
    keys = {key["id"]: key for key in truth["keys"]}
    decrypted = signed = 0
    with gzip.open(TRACE / "observer1.jsonl.gz") as lines:
        raws = [bytes.fromhex(json.loads(line)["rlp"]) for line in lines]
    for raw in raws:
        row = wanted.get(keccak256(raw).hex())
        if row is None:
            continue
        key = keys[row["key"]]
        data = whisper.parse(raw).data
        if key["kind"] == "asym":
            message = crypt.decrypt_asymmetric(data, bytes.fromhex(key["private_key"]))
        else:
            message = crypt.decrypt_symmetric(data, bytes.fromhex(key["sym_key"]))
        if "payload_hex" in row:
            assert message.payload.hex() == row["payload_hex"]
        else:
            assert len(message.payload) == row["payload_len"]
            assert hashlib.sha256(message.payload).hexdigest() == row["payload_sha256"]
        assert ("0x" + message.signer.hex() if message.signer else None) == row["signer"]
        decrypted += 1
        signed += message.signer is not None
    assert decrypted == len(wanted) == 67
    assert signed > 0


def test_passwords_of_the_trace_give_its_keys() -> None:
    truth = json.loads((TRACE / "truth.json").read_text())
    for key in truth["keys"]:
        if key["kind"] == "password":
            assert crypt.password_key(key["password"]).hex() == key["sym_key"]
        else:
            public = "0x" + crypt.public_key(bytes.fromhex(key["private_key"])).hex()
            assert public == key["public_key"]


@given(st.binary(max_size=700), st.sampled_from([None, ALICE]))
@example(b"", None)
@example(bytes(254), None)  # already aligned: a full 256 of padding follows
@example(bytes(189), ALICE)
@example(bytes(65_536), ALICE)
def test_messages_come_back_whole(payload: bytes, author: bytes | None) -> None:
    signer = crypt.public_key(author) if author else None
    symmetric = crypt.encrypt_symmetric(payload, KEY, sign_with=author)
    assert (len(symmetric) - 28) % 256 == 0
    asymmetric = crypt.encrypt_asymmetric(payload, crypt.public_key(BOB), sign_with=author)
    assert len(asymmetric) - len(symmetric) == 113 - 28
    for message in (
        crypt.decrypt_symmetric(symmetric, KEY),
        crypt.decrypt_asymmetric(asymmetric, BOB),
    ):
        assert message.payload == payload
        assert message.signer == signer
        assert 1 <= len(message.padding) <= 256


def test_an_aligned_plaintext_gets_a_full_block() -> None:
    assert len(crypt.encrypt_symmetric(bytes(253), KEY)) == 28 + 256
    assert len(crypt.encrypt_symmetric(bytes(254), KEY)) == 28 + 512


@given(st.data())
def test_no_altered_byte_passes(data: st.DataObject) -> None:
    symmetric = crypt.encrypt_symmetric(b"hello", KEY)
    asymmetric = crypt.encrypt_asymmetric(b"hello", crypt.public_key(BOB))
    for sealed, open_ in (
        (symmetric, lambda sealed: crypt.decrypt_symmetric(sealed, KEY)),
        (asymmetric, lambda sealed: crypt.decrypt_asymmetric(sealed, BOB)),
    ):
        at = data.draw(st.integers(0, len(sealed) - 1))
        bit = data.draw(st.integers(0, 7))
        altered = bytearray(sealed)
        altered[at] ^= 1 << bit
        with pytest.raises(crypt.NotDecrypted):
            open_(bytes(altered))
        with pytest.raises(crypt.NotDecrypted):
            open_(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def seal(plain: bytes) -> bytes:
    nonce = bytes(12)
    return crypt.AESGCM(KEY).encrypt(nonce, plain, None) + nonce


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\x01",  # no length
        b"\x01\x05abcd",  # length past the end
        b"\x03\xff\xff\xffabcd",
        b"\x05\x00" + bytes(60),  # shorter than its signature
        b"\x05\x00" + bytes(64) + b"\x1b",  # V 27
        b"\x05\x00" + bytes(65),  # a signature that gives no key
        b"\x05\x00" + b"\xff" * 64 + b"\x01",
        b"\x05\x20" + bytes(31) + bytes(65),  # the payload reaches into the signature
    ],
)
def test_hostile_plaintexts_are_named(plain: bytes) -> None:
    """The sender of a public chat chooses the plaintext."""
    with pytest.raises(crypt.NotDecrypted) as caught:
        crypt.decrypt_symmetric(seal(plain), KEY)
    assert caught.value.code == "not-decrypted"


def test_a_payload_that_reaches_into_a_good_signature_is_refused() -> None:
    for length, fits in ((31, True), (32, False)):
        body = bytes((5, length)) + bytes(31)
        signature = crypt.coincurve.PrivateKey(ALICE).sign_recoverable(keccak256(body), hasher=None)
        if fits:
            message = crypt.decrypt_symmetric(seal(body + signature), KEY)
            assert message.signer == crypt.public_key(ALICE)
        else:
            with pytest.raises(crypt.NotDecrypted, match="past the end"):
                crypt.decrypt_symmetric(seal(body + signature), KEY)


def test_a_length_of_no_bytes_is_an_empty_payload() -> None:
    message = crypt.decrypt_symmetric(seal(b"\x00" + bytes(255)), KEY)
    assert message.payload == b""


def test_wrong_keys_are_the_callers_mistake() -> None:
    for call in (
        lambda: crypt.encrypt_symmetric(b"", b"short"),
        lambda: crypt.decrypt_symmetric(b"", b"short"),
        lambda: crypt.encrypt_asymmetric(b"", b"\x04" + bytes(64)),
        lambda: crypt.decrypt_asymmetric(b"", bytes(32)),
        lambda: crypt.public_key(b"\xff" * 32),
        lambda: crypt.encrypt_symmetric(b"", KEY, sign_with=b"short"),
        lambda: crypt.encrypt_symmetric(bytes(2**24), KEY),
    ):
        with pytest.raises(ConfigError):
            call()


def test_ecies_authenticates_what_is_not_sent() -> None:
    sealed = ecies.encrypt(b"auth", crypt.public_key(BOB), b"\x01\x02")
    assert ecies.decrypt(sealed, BOB, b"\x01\x02") == b"auth"
    with pytest.raises(crypt.NotDecrypted):
        ecies.decrypt(sealed, BOB)
