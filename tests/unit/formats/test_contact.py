"""Contact and watch notes: signed by the validator they are of, and by nobody else."""

import pytest

from restante import limits
from restante.errors import Invalid, InvalidEncoding, VerificationFailed
from restante.formats.contact import ContactNote, WatchNote, check_url
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.note import Note

KEYS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(4)]
SET = Descriptor(
    origin="o/0123456789abcdef",
    genesis_s=0,
    f=1,
    validators=tuple(key.vkey() for key in KEYS),
)
OTHER = Descriptor(origin="other", genesis_s=0, f=1, validators=SET.validators)
ID = SET.set_id

CONTACT = ContactNote(
    ID, 3, "v1", (("url", "http://127.0.0.1:1/"), ("ipns", "k51q"), ("url", "https://b/"))
)
WATCH = WatchNote(ID, 10, 50, ((10, 12), (13, 14), (40, 50)))


def signed(text: str, key: SigningKey = KEYS[1]) -> bytes:
    return Note(text, (key.note_signature(text),)).encode()


def contact_text(*lines: str, set_id: bytes = ID) -> str:
    return "".join(f"{line}\n" for line in ("restante/contact/v1", set_id.hex(), *lines))


def watch_text(*lines: str, set_id: bytes = ID) -> str:
    return "".join(f"{line}\n" for line in ("restante/watch/v1", set_id.hex(), *lines))


def test_contacts_round_trip_in_the_stated_form() -> None:
    data = CONTACT.sign(KEYS[1])
    assert ContactNote.open(data, SET) == CONTACT
    assert CONTACT.urls == ("http://127.0.0.1:1/", "https://b/")
    assert CONTACT.text() == contact_text(
        "3", "v1", "url http://127.0.0.1:1/", "ipns k51q", "url https://b/"
    )


def test_watch_notes_round_trip_in_the_stated_form() -> None:
    data = WATCH.sign(KEYS[2])
    assert WatchNote.open(data, SET, "v2") == WATCH
    assert WATCH.text() == watch_text("10 50", "10 12", "13 14", "40 50")
    empty = WatchNote(ID, 0, 0, ())
    assert WatchNote.open(empty.sign(KEYS[0]), SET, "v0") == empty


def test_a_watch_note_speaks_to_its_own_windows_only() -> None:
    spoken = {w: WATCH.watched(w) for w in (9, 10, 11, 12, 13, 14, 39, 40, 49, 50)}
    assert spoken == {
        9: None,
        10: False,
        11: False,
        12: True,
        13: False,
        14: True,
        39: True,
        40: False,
        49: False,
        50: None,
    }


def test_only_the_named_validator_can_have_signed() -> None:
    for key in (KEYS[0], SigningKey("v1", bytes([88]) * 32), SigningKey("x", bytes([2]) * 32)):
        with pytest.raises(VerificationFailed) as failure:
            ContactNote.open(CONTACT.sign(key), SET)
        assert failure.value.code == "no-signature"
        with pytest.raises(VerificationFailed):
            WatchNote.open(WATCH.sign(key), SET, "v1")
    with pytest.raises(VerificationFailed):
        WatchNote.open(WATCH.sign(KEYS[1]), SET, "v9")
    # A stranger's line beside the validator's own is passed over.
    both = Note.parse(CONTACT.sign(KEYS[1])).with_signatures(
        [KEYS[0].note_signature(CONTACT.text())]
    )
    assert ContactNote.open(both.encode(), SET) == CONTACT


def test_another_sets_notes_are_named() -> None:
    for open_ in (
        lambda: ContactNote.open(CONTACT.sign(KEYS[1]), OTHER),
        lambda: WatchNote.open(WATCH.sign(KEYS[1]), OTHER, "v1"),
    ):
        with pytest.raises(InvalidEncoding) as failure:
            open_()
        assert failure.value.code == "unknown-set"


@pytest.mark.parametrize(
    "text",
    [
        contact_text(),
        contact_text("1"),
        contact_text("01", "v1"),
        contact_text("-1", "v1"),
        contact_text("x", "v1"),
        contact_text(str(limits.TREE_SIZE_MAX + 1), "v1"),
        contact_text("1", ""),
        contact_text("1", "v1", ""),
        contact_text("1", "v1", "url"),
        contact_text("1", "v1", "url ftp://x"),
        contact_text("1", "v1", "url http://"),
        contact_text("1", "v1", "url http://a b"),
        contact_text("1", "v1", "url http://ä"),
        contact_text("1", "v1", "url http://" + "a" * limits.URL_MAX_BYTES),
        contact_text("1", "v1", "URL http://a"),
        contact_text("1", "v1", "url http://a", "url http://a"),
        contact_text("1", "v1", *(f"url http://{i}" for i in range(limits.CONTACT_ENTRIES + 1))),
        contact_text("1", "v1").replace("v1\n", "v2\n", 1),
        contact_text("1", "v1").replace(ID.hex(), ID.hex().upper()),
        "restante/contact/v1\n",
        watch_text("0 1"),
    ],
)
def test_other_contacts_are_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        ContactNote.open(signed(text), SET)


@pytest.mark.parametrize(
    "text",
    [
        watch_text(),
        watch_text("5"),
        watch_text("5 4"),
        watch_text("5 6 7"),
        watch_text("05 6"),
        watch_text("5  6"),
        watch_text("0 9", "3 3"),
        watch_text("0 9", "4 3"),
        watch_text("0 9", "3 10"),
        watch_text("4 9", "3 5"),
        watch_text("0 9", "3 5", "5 6"),
        watch_text("0 9", "3 5", "4 6"),
        watch_text("0 9", "5 6", "3 4"),
        watch_text("0 9", "3 5", ""),
        watch_text("0 99999", *(f"{2 * i} {2 * i + 1}" for i in range(limits.WATCH_RANGES + 1))),
        watch_text("0 9").replace("watch/v1", "watch/v2"),
        contact_text("1", "v1"),
    ],
)
def test_other_watch_notes_are_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        WatchNote.open(signed(text), SET, "v1")


def test_every_altered_byte_is_refused() -> None:
    for data, open_ in (
        (CONTACT.sign(KEYS[1]), lambda data: ContactNote.open(data, SET)),
        (WATCH.sign(KEYS[1]), lambda data: WatchNote.open(data, SET, "v1")),
    ):
        for at in range(len(data)):
            altered = bytearray(data)
            altered[at] ^= 1
            with pytest.raises(Invalid):
                open_(bytes(altered))


def test_urls_are_http_in_printable_ascii() -> None:
    assert check_url("http://[::1]:8080/a?b#c") == "http://[::1]:8080/a?b#c"
    for text in ("", "http:/x", "file:///etc", "http://a\n", "http://a\x7f", "javascript:1"):
        with pytest.raises(InvalidEncoding):
            check_url(text)


def test_the_largest_notes_fit_their_limit() -> None:
    last = limits.TREE_SIZE_MAX
    ranges = tuple((last - 2 * i - 1, last - 2 * i) for i in range(limits.WATCH_RANGES))[::-1]
    widest = WatchNote(ID, 0, last, ranges)
    assert WatchNote.open(widest.sign(KEYS[1]), SET, "v1") == widest
