"""Requests for old mail in every form, and the bytes of the answers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import rlp, whisper
from restante.networks.keccak import keccak256
from restante.networks.whisper import bloom, crypt, mail
from restante.networks.whisper.mail import MailCursor
from restante.networks.whisper.mail_request import (
    DEFAULT_PASSWORD,
    MailKeys,
    MailRefused,
    MailRequest,
    open_request,
)
from restante.rules.query import Place

NOW_S = 1_795_400_000
SIGNER, SERVER = b"\x11" * 32, b"\x22" * 32
PASSWORD = crypt.password_key(DEFAULT_PASSWORD)
KEYS = MailKeys(PASSWORD, SERVER)
TOPIC = bytes.fromhex("5a4ea131")
FILTER = bloom.of_topics([TOPIC])
CURSOR = MailCursor(7, NOW_S - 50, bytes(range(28)))


def u32(value):
    return value.to_bytes(4, "big")


def uint(value):
    return rlp.encode_uint(value)


def wrapped(content, *, sign_with=SIGNER, key=PASSWORD):
    """A request as a client puts it into an envelope."""
    data = crypt.encrypt_symmetric(content, key, sign_with=sign_with)
    return whisper.assemble(NOW_S + 50, 50, bytes(4), data, 5)


def structured(items, **options):
    return wrapped(rlp.encode(items), **options)


RANGE = [uint(NOW_S - 100), uint(NOW_S)]
RAW = u32(NOW_S - 100) + u32(NOW_S)
FILTER_BYTES = bloom.encode(FILTER)


def test_the_default_password_is_the_one_of_every_client():
    assert PASSWORD.hex() == "765df27c0765526f920ba742ff4b9452bb0064e016435ffccd81186aa6feaae8"


FORMS = {
    "raw 8": (RAW, MailRequest(b"", NOW_S - 100, NOW_S, bloom.FULL)),
    "raw 72": (RAW + FILTER_BYTES, MailRequest(b"", NOW_S - 100, NOW_S, FILTER)),
    "raw 74, as geth": (RAW + FILTER_BYTES + b"zz", MailRequest(b"", NOW_S - 100, NOW_S, FILTER)),
    "raw 80, as geth": (
        RAW + FILTER_BYTES + u32(3) + b"zzzz",
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER),
    ),
    "raw 76": (
        RAW + FILTER_BYTES + u32(3),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=3),
    ),
    "raw 76, limit 0": (
        RAW + FILTER_BYTES + u32(0),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=limits.MAIL_PAGE),
    ),
    "raw 112": (
        RAW + FILTER_BYTES + u32(3) + CURSOR.encode(),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=3, cursor=CURSOR),
    ),
    "raw 116": (
        RAW + FILTER_BYTES + u32(3) + CURSOR.encode() + TOPIC,
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=3, cursor=CURSOR),
    ),
    "5 items": (
        rlp.encode([*RANGE, FILTER_BYTES, uint(3), CURSOR.encode()]),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=3, cursor=CURSOR),
    ),
    "6 items": (
        rlp.encode([*RANGE, FILTER_BYTES, b"", b"", uint(1)]),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, limit=limits.MAIL_PAGE, batch=True),
    ),
    "7 items": (
        rlp.encode([*RANGE, FILTER_BYTES, [TOPIC, b"abcd", TOPIC], uint(3), b"", b""]),
        MailRequest(b"", NOW_S - 100, NOW_S, FILTER, (TOPIC, b"abcd"), limit=3),
    ),
    "7 items, topics without a filter": (
        rlp.encode([*RANGE, b"", [TOPIC], uint(3), b"", uint(1)]),
        MailRequest(b"", NOW_S - 100, NOW_S, 0, (TOPIC,), limit=3, batch=True),
    ),
    "7 items, a filter that takes nothing": (
        rlp.encode([*RANGE, bytes(64), [], uint(3), b"", b""]),
        MailRequest(b"", NOW_S - 100, NOW_S, 0, limit=3),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_within_an_envelope(form):
    content, expected = FORMS[form]
    payload = wrapped(content)
    found = open_request(payload, KEYS, NOW_S)
    assert found.request_id == keccak256(payload)
    assert found == MailRequest(
        keccak256(payload),
        *(getattr(expected, name) for name in MailRequest.__slots__[1:]),
    )


def test_the_form_without_an_envelope_means_batches():
    payload = rlp.encode([b"i" * 32, *RANGE, uint(9), CURSOR.encode(), FILTER_BYTES])
    assert open_request(payload, MailKeys(PASSWORD), NOW_S) == MailRequest(
        b"i" * 32, NOW_S - 100, NOW_S, FILTER, limit=9, cursor=CURSOR, batch=True
    )
    for id_ in (b"i" * 31, [b"i" * 32]):
        with pytest.raises(InvalidEncoding):
            open_request(rlp.encode([id_, *RANGE, uint(9), b"", FILTER_BYTES]), KEYS, NOW_S)


def test_to_the_servers_key():
    data = crypt.encrypt_asymmetric(RAW, crypt.public_key(SERVER), sign_with=SIGNER)
    payload = whisper.assemble(NOW_S, 50, bytes(4), data, 0)
    assert open_request(payload, MailKeys(private_key=SERVER), NOW_S).lower_s == NOW_S - 100
    assert open_request(payload, KEYS, NOW_S).bloom == bloom.FULL
    with pytest.raises(MailRefused, match="failed to decrypt p2p request"):
        open_request(payload, MailKeys(PASSWORD), NOW_S)


@pytest.mark.parametrize("upper", [0, 2**32 - 1])
@pytest.mark.parametrize("raw", [True, False])
def test_what_stands_for_until_now(upper, raw):
    """A wnode sends ffffffff where its user types 0; both old servers overflow there."""
    items = [uint(NOW_S - 9), uint(upper), FILTER_BYTES, [], b"", b"", b""]
    payload = wrapped(u32(NOW_S - 9) + u32(upper)) if raw else structured(items)
    assert open_request(payload, KEYS, NOW_S).upper_s == NOW_S + 60


@pytest.mark.parametrize("upper", [0, 2**32 - 1])
def test_since_a_time_that_only_the_clients_clock_has_reached(upper):
    found = open_request(wrapped(u32(NOW_S + 500) + u32(upper)), KEYS, NOW_S)
    assert (found.lower_s, found.upper_s) == (NOW_S + 500, NOW_S + 500)


def test_the_longest_page_may_be_asked_for():
    assert open_request(structured(items7(limit=uint(1_000))), KEYS, NOW_S).limit == 1_000
    assert open_request(wrapped(RAW + FILTER_BYTES + u32(1_000)), KEYS, NOW_S).limit == 1_000


def refusal(payload, keys=KEYS):
    with pytest.raises(MailRefused) as caught:
        open_request(payload, keys, NOW_S)
    assert caught.value.request_id == keccak256(payload)
    return str(caught.value)


def items7(**changes):
    fields = {
        "lower": RANGE[0],
        "upper": RANGE[1],
        "bloom": FILTER_BYTES,
        "topics": [],
        "limit": uint(3),
        "cursor": b"",
        "batch": b"",
    }
    return list((fields | changes).values())


def test_refusals_have_the_words_that_old_clients_know():
    assert refusal(wrapped(RAW, sign_with=None)) == "wrong signature of p2p request"
    assert refusal(wrapped(RAW, key=b"k" * 32)) == "failed to decrypt p2p request"
    over = "request is invalid: limit exceeds the maximum allowed value"
    assert refusal(structured(items7(limit=uint(1001)))) == over
    assert refusal(wrapped(RAW + FILTER_BYTES + u32(1001))) == over
    assert refusal(structured(items7(bloom=b""))) == "request is invalid: bloom filter is empty"
    backwards = f"query range is invalid: from > to ({NOW_S} > {NOW_S - 1})"
    assert refusal(structured(items7(lower=uint(NOW_S), upper=uint(NOW_S - 1)))) == backwards
    assert refusal(wrapped(u32(NOW_S) + u32(NOW_S - 1))) == backwards


@pytest.mark.parametrize(
    "changes",
    [
        {"bloom": bytes(63)},
        {"bloom": [bytes(64)]},
        {"topics": b"abcd"},
        {"topics": [[b"abcd"]]},
        {"lower": [b""]},
        {"lower": b"\x00\x01"},
        {"upper": b"\x01" * 5},
        {"cursor": []},
        {"batch": []},
        {"limit": b"\x01" * 5},
    ],
)
def test_structured_requests_are_read_strictly(changes):
    assert refusal(structured(items7(**changes))).startswith("request is invalid: ")


@pytest.mark.parametrize("count", [0, 1, 4, 8])
def test_other_numbers_of_items_are_no_structure(count):
    undersized = "Undersized p2p request" if count < 7 else "Undersized bloom filter in p2p request"
    assert refusal(structured([b"a"] * count)) == undersized


@pytest.mark.parametrize("size", [0, 1, 7, 9, 71])
def test_raw_requests_between_the_sizes(size):
    what = "bloom filter in p2p request" if size > 8 else "p2p request"
    assert refusal(wrapped((RAW + FILTER_BYTES)[:size])) == f"Undersized {what}"


@pytest.mark.parametrize(
    "topics",
    [
        [TOPIC, b"abc"],
        [b""],
        [n.to_bytes(4, "big") for n in range(limits.QUERY_TOPICS + 1)],
        [n.to_bytes(4, "big") for n in range(10_000)],
    ],
    ids=["short", "empty", "one too many", "many"],
)
def test_topics_that_cannot_be_looked_for_leave_it_to_the_filter(topics):
    """status-go goes by the filter always."""
    found = open_request(structured(items7(topics=topics)), KEYS, NOW_S)
    assert (found.topics, found.bloom, found.limit) == ((), FILTER, 3)
    empty = "request is invalid: bloom filter is empty"
    assert refusal(structured(items7(topics=topics, bloom=b""))) == empty


def test_as_many_topics_as_can_be_looked_for():
    topics = [n.to_bytes(4, "big") for n in range(limits.QUERY_TOPICS)]
    found = open_request(structured(items7(topics=topics, bloom=b"")), KEYS, NOW_S)
    assert found.topics == tuple(topics)


def test_a_long_string_where_the_topics_must_be():
    changed = structured(items7(topics=bytes(6_000)))
    assert refusal(changed).startswith("request is invalid: ")


@pytest.mark.parametrize("lower", range(0xC0, 0x100))
def test_raw_times_that_begin_as_lists_do(lower):
    """From the year 2072 on; of all 8-byte lists, few have 5, 6 or 7 items."""
    raw = bytes([lower]) + bytes(3) + u32(2**32 - 2)
    found = open_request(wrapped(raw), KEYS, NOW_S)
    assert (found.lower_s, found.upper_s) == (lower << 24, 2**32 - 2)


def test_a_cursor_of_another_length_is_none():
    """As to status-go's client."""
    assert open_request(structured(items7(cursor=b"c" * 35)), KEYS, NOW_S).cursor is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"\xc0",
        rlp.encode([b"a"] * 4),
        rlp.encode([b"a"] * 7),
        rlp.encode([b"a"] * 6),
        wrapped(RAW) + b"\x00",
        wrapped(bytes(limits.MAIL_REQUEST_BYTES)),
        rlp.encode([b"i" * 32, *RANGE, b"", b"", [[[[b""]]]]]),
    ],
)
def test_what_is_no_request(payload):
    with pytest.raises(InvalidEncoding):
        open_request(payload, KEYS, NOW_S)


GOOD = wrapped(RAW + FILTER_BYTES)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_never_another_error(at, change):
    changed = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    with contextlib.suppress(MailRefused, InvalidEncoding):
        open_request(changed, KEYS, NOW_S)


@given(st.binary(max_size=130))
def test_whatever_a_signer_sends(content):
    try:
        found = open_request(wrapped(content), KEYS, NOW_S)
    except MailRefused:
        return
    assert found.lower_s <= found.upper_s
    assert found.limit is None or 0 < found.limit <= limits.MAIL_PAGE


# --- another encoder's bytes ----------------------------------------------------------------------


def encoded(item):
    """RLP by the yellow paper's definition, beside the encoder that the code itself uses."""
    if isinstance(item, int):
        item = bytes.fromhex(f"{item:x}".zfill(2 * ((item.bit_length() + 7) // 8))) if item else b""
    is_list = isinstance(item, list)
    body = b"".join(map(encoded, item)) if is_list else item
    if not is_list and len(body) == 1 and body[0] < 128:
        return body
    base = 192 if is_list else 128
    if len(body) < 56:
        return bytes([base + len(body)]) + body
    size = hex(len(body))[2:]
    size = bytes.fromhex(size if len(size) % 2 == 0 else "0" + size)
    return bytes([base + 55 + len(size)]) + size + body


TIMES = st.integers(0, 2**32 - 1)
FILTERS = st.binary(min_size=64, max_size=64)
TOPICS = st.lists(st.binary(min_size=4, max_size=4), max_size=20)
CURSORS = st.one_of(st.just(b""), st.binary(min_size=36, max_size=36))


@given(
    form=st.sampled_from(["raw", "5", "6", "7", "plain"]),
    times=st.tuples(TIMES, TIMES).map(sorted),
    filter_=FILTERS,
    topics=TOPICS,
    limit=st.integers(0, limits.MAIL_PAGE),
    cursor=CURSORS,
    batch=st.booleans(),
)
def test_whatever_an_old_client_asks_for_is_read_as_it_meant_it(
    form, times, filter_, topics, limit, cursor, batch
):
    lower, upper = times
    head = [lower, upper, filter_]
    match form:
        case "raw":
            payload = wrapped(b"".join(map(u32, times)) + filter_ + u32(limit) + cursor)
        case "5":
            payload = wrapped(encoded([*head, limit, cursor]))
        case "6":
            payload = wrapped(encoded([*head, limit, cursor, int(batch)]))
        case "7":
            payload = wrapped(encoded([*head, topics, limit, cursor, int(batch)]))
        case _:
            payload = encoded([b"i" * 32, lower, upper, limit, cursor, filter_])
    found = open_request(payload, KEYS, NOW_S)
    assert found.request_id == (b"i" * 32 if form == "plain" else keccak256(payload))
    assert found.lower_s == lower
    assert found.upper_s == (max(lower, NOW_S + 60) if upper in (0, 2**32 - 1) else upper)
    # Bit i of a filter is bit i % 8 of its byte i // 8.
    assert all(found.bloom >> i & 1 == filter_[i // 8] >> i % 8 & 1 for i in range(512))
    assert found.topics == (tuple(dict.fromkeys(topics)) if form == "7" else ())
    assert found.limit == (limit or 1_000)
    assert (found.cursor.encode() if found.cursor else b"") == cursor
    assert found.batch == {"6": batch, "7": batch, "plain": True}.get(form, False)


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_byte_of_the_content_is_read_or_refused_by_name(form):
    """Never as malformed: who signed a request is told what was wrong with it."""
    content, _ = FORMS[form]
    for at in range(len(content)):
        for change in (0x01, 0x40, 0x80, 0xFF):
            changed = content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]
            with contextlib.suppress(MailRefused):
                open_request(wrapped(changed), KEYS, NOW_S)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 9,
        b"\xf8",
        b"\xbf" + b"\xff" * 8,
        encoded([b""] * 5_000),
        encoded([NOW_S, NOW_S, FILTER_BYTES, [b""] * 5_000, 3, b"", 0]),
        encoded([NOW_S, NOW_S, FILTER_BYTES, [[[[[]]]]], 3, b"", 0]),
    ],
    ids=lambda content: content[:6].hex(),
)
def test_hostile_lists_are_refused_with_their_id(content):
    refusal(wrapped(content))


def test_a_key_is_tried_once_and_a_foreign_request_ends_there(monkeypatch):
    tried = []

    def count(name):
        original = getattr(crypt, name)

        def counted(data, key):
            tried.append(name)
            return original(data, key)

        monkeypatch.setattr(crypt, name, counted)

    count("decrypt_symmetric")
    count("decrypt_asymmetric")
    refusal(wrapped(RAW, key=b"k" * 32))
    assert sorted(tried) == ["decrypt_asymmetric", "decrypt_symmetric"]
    tried.clear()
    open_request(wrapped(RAW), KEYS, NOW_S)
    open_request(rlp.encode([b"i" * 32, *RANGE, b"", b"", FILTER_BYTES]), KEYS, NOW_S)
    assert tried == ["decrypt_symmetric"]


@pytest.mark.parametrize(("expiry_s", "ttl_s", "nonce"), [(0, 0, 0), (1, 2**32 - 1, 2**64 - 1)])
def test_expiry_and_work_of_a_request_do_not_matter(expiry_s, ttl_s, nonce):
    data = crypt.encrypt_symmetric(RAW, PASSWORD, sign_with=SIGNER)
    payload = whisper.assemble(expiry_s, ttl_s, b"any!", data, nonce)
    assert open_request(payload, KEYS, NOW_S).lower_s == NOW_S - 100


# --- answers --------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32))
def test_cursors(window, sent_s, id_):
    data = MailCursor.behind(window, Place(sent_s, id_)).encode()
    cursor = MailCursor.parse(data)
    assert len(data) == mail.CURSOR_BYTES
    assert cursor.encode() == data
    assert cursor.window == window
    # Behind the envelope, and before every other id.
    assert cursor.place >= Place(sent_s, id_)
    assert cursor.place < Place(sent_s + 1, bytes(32))
    assert cursor.place.id[:28] == id_[:28]


def test_another_servers_cursor_goes_on_at_its_second():
    theirs = MailCursor.parse(u32(NOW_S) + b"h" * 32)
    assert theirs.foreign(5_000_000) == Place(NOW_S, bytes(32))
    assert CURSOR.foreign(8) is None
    assert CURSOR.foreign(7) == Place(7, bytes(32))
    for size in (0, 35, 37):
        with pytest.raises(InvalidEncoding):
            MailCursor.parse(bytes(size))


def test_the_end_of_an_answer_has_64_or_100_bytes():
    assert rlp.decode(mail.completed(b"r" * 32)) == b"r" * 32 + bytes(32)
    with_cursor = rlp.decode(mail.completed(b"r" * 32, b"h" * 32, CURSOR.encode()))
    assert with_cursor == b"r" * 32 + b"h" * 32 + CURSOR.encode()
    assert len(with_cursor) == 100
    with pytest.raises(ValueError):
        mail.completed(b"r" * 32, b"h" * 32, b"c" * 35)


def test_failures_and_a_refused_sync():
    assert rlp.decode(mail.failed(b"r" * 32, "why")) == b"ERROR=" + b"r" * 32 + b"why"
    assert rlp.decode(mail.sync_refused("no")) == [[], b"", b"\x01", b"no"]


def test_packets():
    raws = [whisper.assemble(NOW_S, 50, TOPIC, bytes([n]), 0) for n in range(3)]
    assert mail.packet(raws[:1]) == raws[0]
    assert whisper.parse_packet(mail.packet(raws)) == raws
