"""Policies: the file, and a table of checkpoints that must not satisfy one."""

from itertools import combinations

import pytest

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats.checkpoint import Checkpoint
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, Note, Signature, VerifierKey
from restante.formats.policy import Group, Listed, Policy, merge

ORIGIN = "example.org/log/0123456789abcdef"
LOG = SigningKey(ORIGIN, bytes([9]) * 32)
KEYS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(4)]
STRANGER = SigningKey("v9", bytes([99]) * 32)
SET = bytes(range(32))
CONTACTS = [("v0", "http://127.0.0.1:8000"), ("mirror", "https://example.org/a?b=c")]
POLICY = Policy.of_validators(LOG.vkey(ED25519), [key.vkey() for key in KEYS], 3, SET, CONTACTS)
TREE = Checkpoint(ORIGIN, 12, bytes([5]) * 32)
TEXT = TREE.text()
LOG_LINE = LOG.note_signature(TEXT)
LINES = [key.cosignature(TEXT, 1_000 + i) for i, key in enumerate(KEYS)]


def note(*lines: Signature, text: str = TEXT) -> bytes:
    return Note(text, lines).encode()


# --- the file -----------------------------------------------------------------------------------


def test_the_file_has_the_stated_form() -> None:
    assert POLICY.encode().decode().splitlines() == [
        f"#restante set {SET.hex()}",
        f"log {LOG.vkey(ED25519).text()}",
        *(f"witness {key.name} {key.vkey().text()}" for key in KEYS),
        "group validators 3 v0 v1 v2 v3",
        "quorum validators",
        "#restante contact v0 url=http://127.0.0.1:8000",
        "#restante contact mirror url=https://example.org/a?b=c",
    ]
    assert Policy.parse(POLICY.encode()) == POLICY


def test_other_peoples_policies_are_read() -> None:
    a, b, c = (key.vkey().text() for key in KEYS[:3])
    data = (
        "  # comment \u00fc\n\n"
        f"\tlog {LOG.vkey(ED25519).text()} https://log.example/ \n"
        f"witness X1  {a}\twitness-url\n"
        f"witness X+2 {b}\n"
        f"witness Y {c}\n"
        "group X any X1 X+2\n"
        "group XY all X Y\n"
        "quorum XY\n"
        "#restanteness\n"
    ).encode()
    policy = Policy.parse(data)
    assert policy.logs == (Listed(ORIGIN, LOG.vkey(ED25519), "https://log.example/"),)
    assert policy.witnesses[0] == Listed("X1", KEYS[0].vkey(), "witness-url")
    assert policy.groups == (Group("X", 1, ("X1", "X+2")), Group("XY", 2, ("X", "Y")))
    assert (policy.set_id, policy.contacts) == (None, ())
    assert Policy.parse(policy.encode()) == policy
    assert policy.satisfied(["X+2", "Y"])
    for too_few in ([], ["Y"], ["X1", "X+2"], ["X", "Y"], ["XY"], ["none", "Y"]):
        assert not policy.satisfied(too_few)


A = KEYS[0].vkey()
W = f"witness a {A.text()}\nwitness b {KEYS[1].vkey().text()}\n"
Q = "quorum none\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        W,
        W + Q + Q,
        W + "quorum c\n",
        "quorum a\n" + W,
        W + "quorum a",
        W + "quorum a\r\n",
        W + "quorum a b\n",
        W + "quorum\n",
        W + Q + "\x0b\n",
        W + Q + "\x7f\n",
        W + Q + "witness\n",
        W + Q + "Witness c x\n",
        W + Q + f"witness c {A.text()}\n",
        W + Q + f"witness c {VerifierKey('other', A.kind, A.public_key).text()}\n",
        W + Q + f"witness a {KEYS[2].vkey().text()}\n",
        W + Q + f"witness none {KEYS[2].vkey().text()}\n",
        W + Q + f"witness c {KEYS[2].vkey(ED25519).text()}\n",
        W + Q + f"witness c {KEYS[2].vkey().text()} url more\n",
        W + Q + f"log {KEYS[2].vkey().text()}\n",
        W + Q + f"log {LOG.vkey(ED25519).text()}\n" * 2,
        W + Q + "log nobody\n",
        W + Q + "group g 1\n",
        W + Q + "group g 0 a\n",
        W + Q + "group g 2 a\n",
        W + Q + "group g 01 a\n",
        W + Q + "group g -1 a\n",
        W + Q + "group g ١ a\n",
        W + Q + "group g most a b\n",
        W + Q + "group g 1 c\n",
        W + Q + "group g 1 g\n",
        W + Q + "group g 1 none\n",
        W + Q + "group g 2 a a\n",
        W + Q + "group a 1 b\n",
        W + Q + "group none 1 b\n",
        W + Q + "group g any a\ngroup h any a\n",
        W + "quorum g\ngroup g any a\n",
        W + Q + "#restante set 00\n",
        W + Q + f"#restante set {'AA' * 32}\n",
        W + Q + f"#restante set {'00' * 32}\n" * 2,
        W + Q + "#restante contact a\n",
        W + Q + "#restante contact a http://x\n",
        W + Q + "#restante contact a url=ftp://x\n",
        W + Q + "#restante contact a url=\n",
        W + Q + "#restante contacts a url=http://x\n",
        W + Q + "#" * limits.POLICY_MAX_BYTES + "\n",
        W + Q + "#restante contact a url=http://x\n" * (limits.POLICY_MAX_CONTACTS + 1),
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        Policy.parse(text.encode())


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(InvalidEncoding):
        Policy.parse((W + Q).encode() + b"#\xff\n")


def test_a_truncated_file_is_refused() -> None:
    data = POLICY.encode()
    for end in range(len(data)):
        try:
            shorter = Policy.parse(data[:end])
        except InvalidEncoding:
            continue
        # Only whole contact lines may be gone: trust stays what it was.
        assert (shorter.quorum, shorter.groups) == (POLICY.quorum, POLICY.groups)
        assert shorter.witnesses == POLICY.witnesses


# --- checkpoints --------------------------------------------------------------------------------


def test_any_quorum_of_validators_satisfies_it_and_fewer_never() -> None:
    for many in range(5):
        for chosen in combinations(range(4), many):
            data = note(LOG_LINE, *(LINES[i] for i in chosen))
            if many >= 3:
                verified = POLICY.verify_checkpoint(data)
                assert verified.checkpoint == TREE
                assert verified.cosigners == tuple((f"v{i}", 1_000 + i) for i in chosen)
            else:
                with pytest.raises(VerificationFailed) as failure:
                    POLICY.verify_checkpoint(data)
                assert failure.value.code == "quorum"


OTHER_TREE = Checkpoint(ORIGIN, 12, bytes([6]) * 32).text()
OTHER_ORIGIN = Checkpoint("example.org/other", 12, bytes([5]) * 32).text()
EXTENDED = TEXT + "extension\n"
BAD = Signature("v3", LINES[3].key_id, LINES[3].value[:-1] + bytes([LINES[3].value[-1] ^ 1]))


def all_signed(text: str) -> bytes:
    """By everybody, with extension lines too, which no key here would sign."""
    lines = [LOG._private.sign(text.encode())]
    log = Signature(LOG.name, LOG.vkey(ED25519).key_id, lines[0])
    cosigned = [
        Signature(
            key.name,
            key.vkey().key_id,
            (7).to_bytes(8, "big") + key.sign(b"cosignature/v1\ntime 7\n" + text.encode()),
        )
        for key in KEYS
    ]
    return note(log, *cosigned, text=text)


def test_the_table_signs_what_it_says() -> None:
    assert POLICY.verify_checkpoint(all_signed(TEXT)).cosigners == tuple(
        (f"v{i}", 7) for i in range(4)
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (note(LOG_LINE, *LINES[:2]), "quorum"),
        (note(LOG_LINE, LINES[0], LINES[0], LINES[0]), "quorum"),
        (note(LOG_LINE, *(KEYS[0].cosignature(TEXT, t) for t in (1, 2, 3))), "quorum"),
        (note(LOG_LINE, *LINES[:2], STRANGER.cosignature(TEXT, 5)), "quorum"),
        (
            note(LOG_LINE, *LINES[:2], SigningKey("v3", bytes(32)).cosignature(TEXT, 5)),
            "quorum",
        ),
        (note(LOG_LINE, *LINES[:2], KEYS[2].note_signature(TEXT)), "quorum"),
        (note(*LINES), "log-signature"),
        (note(*LINES, SigningKey(ORIGIN, bytes(32)).note_signature(TEXT)), "log-signature"),
        (note(Signature(ORIGIN, LOG_LINE.key_id, bytes(64)), *LINES), "bad-signature"),
        (note(LOG_LINE, *LINES[:3], BAD), "bad-signature"),
        (note(LOG_LINE, *LINES, text=OTHER_TREE), "bad-signature"),
        (all_signed(OTHER_ORIGIN), "origin"),
        (all_signed(EXTENDED), "extension-lines"),
        (all_signed("restante/contact/v1\n"), "encoding"),
        (TEXT.encode(), "encoding"),
        (note(LOG_LINE, *LINES)[:-1], "encoding"),
        (b"", "encoding"),
    ],
    ids=[
        "k-1",
        "same line thrice",
        "same key, three times",
        "unknown key",
        "known name, other key",
        "signed as a note",
        "no log",
        "another log key",
        "bad log signature",
        "bad cosignature beside a quorum",
        "another root",
        "another origin",
        "extension lines",
        "no checkpoint",
        "no signatures",
        "truncated",
        "empty",
    ],
)
def test_it_is_not_satisfied(data: bytes, code: str) -> None:
    with pytest.raises(Invalid) as failure:
        POLICY.verify_checkpoint(data)
    assert failure.value.code == code


def test_unknown_lines_do_no_harm_and_the_newest_time_counts() -> None:
    strangers = [STRANGER.cosignature(TEXT, 5), Signature("v0", b"\0\0\0\0", b"x" * 3000)]
    newer = KEYS[1].cosignature(TEXT, 5_000)
    data = note(*strangers, newer, LOG_LINE, *LINES[:3])
    assert POLICY.verify_checkpoint(data).cosigners == (
        ("v0", 1_000),
        ("v1", 5_000),
        ("v2", 1_002),
    )


def test_a_quorum_of_none_still_wants_the_log() -> None:
    policy = Policy((Listed(ORIGIN, LOG.vkey(ED25519)),), (), (), "none")
    assert policy.verify_checkpoint(note(LOG_LINE)).cosigners == ()
    with pytest.raises(VerificationFailed):
        policy.verify_checkpoint(note(LINES[0]))
    nobody = Policy((), (), (), "none")
    with pytest.raises(VerificationFailed) as failure:
        nobody.verify_checkpoint(note(LOG_LINE))
    assert failure.value.code == "origin"


def test_one_logs_key_does_not_speak_for_another() -> None:
    other = SigningKey("example.org/other", bytes([77]) * 32)
    logs = (Listed(ORIGIN, LOG.vkey(ED25519)), Listed(other.name, other.vkey(ED25519)))
    policy = Policy(logs, (), (), "none")
    with pytest.raises(VerificationFailed) as failure:
        policy.verify_checkpoint(note(other.note_signature(TEXT)))
    assert failure.value.code == "log-signature"
    policy.verify_checkpoint(note(other.note_signature(TEXT), LOG_LINE))


def test_every_altered_byte_is_refused_or_costs_a_signature() -> None:
    data = note(LOG_LINE, *LINES[:3])
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(Invalid):
            POLICY.verify_checkpoint(bytes(altered))


# --- merging ------------------------------------------------------------------------------------


def test_merging_joins_signatures_in_the_policys_order() -> None:
    parts = [note(LOG_LINE, LINES[2]), note(LINES[0], LOG_LINE), note(LINES[1], LINES[0])]
    merged = merge(parts, POLICY)
    assert merged == note(LOG_LINE, *LINES[:3])
    assert merge([merged], POLICY) == merged
    POLICY.verify_checkpoint(merged)


def test_merging_takes_the_newest_and_drops_what_does_not_verify() -> None:
    newer = KEYS[0].cosignature(TEXT, 9_999)
    forged = Signature("v1", LINES[1].key_id, b"\xff" * 72)
    stranger = STRANGER.cosignature(TEXT, 5)
    merged = merge([note(LINES[0], forged), note(newer, LINES[1], stranger), note(BAD)], POLICY)
    assert merged == note(newer, LINES[1])


@pytest.mark.parametrize(
    ("notes", "code"),
    [
        ([note(LOG_LINE), note(LOG_LINE, text=OTHER_TREE)], "merge"),
        ([], "merge"),
        ([all_signed(OTHER_ORIGIN)], "origin"),
        ([all_signed(EXTENDED)], "extension-lines"),
        ([note(BAD)], "no-signature"),
        ([b"x"], "encoding"),
    ],
)
def test_other_notes_are_not_merged(notes: list[bytes], code: str) -> None:
    with pytest.raises(Invalid) as failure:
        merge(notes, POLICY)
    assert failure.value.code == code
