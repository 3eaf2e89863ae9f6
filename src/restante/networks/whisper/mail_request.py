"""Requests for old mail (code 126), in every form that geth's and status-go's clients send. Pure.

    an envelope, encrypted with the server's password or to its key, and signed, that holds
        lower u32 ‖ upper u32 [‖ bloom 64 [‖ limit u32 [‖ cursor 36 or 40]]]      (raw)
        [lower, upper, bloom, limit, cursor]                                    (the specification)
        [lower, upper, bloom, limit, cursor, batch]                             (2018 to 2020)
        [lower, upper, bloom, [topic, …], limit, cursor, batch]                 (from 2020)
    or a list without envelope: [id 32, lower, upper, limit, cursor, bloom], which means batches

Topic, expiry and TTL of the envelope are not looked at, as geth and status-go do not either; nor
is its work, of which each of them asks what its operator set: a floor would lose a client that
mines less, and what requests cost is bounded by address instead.
Whatever one of the two takes is taken: raw ranges over a day, which status-go refuses; what stands
behind 72 raw bytes that is none of status-go's lengths, which geth passes over; and topics that
cannot be looked for, since status-go passes over all topics and goes by the filter.
"""

from dataclasses import dataclass

from restante import limits
from restante.errors import Invalid, InvalidEncoding
from restante.formats import rlp, whisper
from restante.formats.rlp import Item
from restante.networks.keccak import keccak256
from restante.networks.whisper import bloom, crypt
from restante.networks.whisper.mail import CURSOR_BYTES, HASH_BYTES, MailCursor

DEFAULT_PASSWORD = "status-offline-inbox"  # noqa: S105 - every client of Status knows it
_U32_MAX = 2**32 - 1
_RAW_BYTES = 8
_RAW_WITH_BLOOM = 72
_RAW_WITH_LIMIT = 76
_RAW_WITH_CURSOR = (112, 116)
# The longest list of topics that can be looked for, each with its header of a byte, and its own.
_TOPICS_BYTES = 3 + 5 * limits.QUERY_TOPICS


class MailRefused(Invalid):
    """A request that gets no mail. Its text is what old clients know; `code` is the counter's."""

    def __init__(self, request_id: bytes, text: str, code: str) -> None:
        super().__init__(text, code=code)
        self.request_id = request_id
        """What the 125 names."""


@dataclass(frozen=True, slots=True)
class MailKeys:
    """What requests may be encrypted with; at least one."""

    password_key: bytes | None = None
    """32 bytes: `crypt.password_key` of the password."""
    private_key: bytes | None = None
    """32 bytes."""

    def __repr__(self) -> str:
        return "MailKeys(…)"


@dataclass(frozen=True, slots=True)
class MailRequest:
    """What a client asks for."""

    request_id: bytes
    """32 bytes that the end of the answer names."""
    lower_s: int
    upper_s: int
    """Sent times, unix seconds, both included; what stands for "until now" is already a time."""
    bloom: int
    """As in `networks.whisper.bloom`; FULL for every topic, 0 for none."""
    topics: tuple[bytes, ...] = ()
    """If there are any, they decide in the filter's place."""
    limit: int | None = None
    """Envelopes of one page; None for a form whose clients know no pages."""
    cursor: MailCursor | None = None
    batch: bool = False
    """Whether the client takes lists of envelopes."""


def open_request(payload: bytes, keys: MailKeys, now_s: int) -> MailRequest:
    """The request that a code-126 payload is.

    Raises MailRefused where the client is to be told why; InvalidEncoding for what is no request,
    so that there is no id to answer to: geth leaves peers for it.
    """
    if len(payload) > limits.MAIL_REQUEST_BYTES:
        raise InvalidEncoding(f"a request of {len(payload)} bytes", code="mail-too-large")
    items = rlp.split_list(payload, max_items=6)
    if len(items) == 6:
        return _plain(payload, now_s)
    envelope = whisper.parse(payload)
    request_id = keccak256(payload)
    message = _decrypt(envelope.data, keys, request_id)
    if message.signer is None:
        raise MailRefused(request_id, "wrong signature of p2p request", "unsigned")
    return _content(request_id, message.payload, now_s)


def _decrypt(data: bytes, keys: MailKeys, request_id: bytes) -> crypt.Message:
    if keys.password_key is not None:
        try:
            return crypt.decrypt_symmetric(data, keys.password_key)
        except crypt.NotDecrypted:
            pass
    if keys.private_key is not None:
        try:
            return crypt.decrypt_asymmetric(data, keys.private_key)
        except crypt.NotDecrypted:
            pass
    raise MailRefused(request_id, "failed to decrypt p2p request", "not-decrypted")


def _plain(payload: bytes, now_s: int) -> MailRequest:
    items = _decode(payload)
    assert isinstance(items, list)
    request_id = items[0]
    if not isinstance(request_id, bytes) or len(request_id) != HASH_BYTES:
        raise InvalidEncoding("a request's id has 32 bytes", code="mail-request")
    _, lower, upper, limit, cursor, filter_ = items
    return _structured(request_id, (lower, upper, filter_, [], limit, cursor, b"\x01"), now_s)


def _content(request_id: bytes, content: bytes, now_s: int) -> MailRequest:
    """A list of 5, 6 or 7 items, or else raw: times begin as lists do only from 2072 on."""
    try:
        form = _form(content)
    except InvalidEncoding:
        return _raw(request_id, content, now_s)
    return _structured(request_id, form, now_s)


def _form(content: bytes) -> tuple[Item, ...]:
    """The 7 items that a list of 5, 6 or 7 stands for. Raises InvalidEncoding."""
    encoded = rlp.split_list(content, max_items=7)
    # More topics than can be looked for are not even read. So long a list begins with f8 or more.
    if len(encoded) == 7 and len(encoded[3]) > _TOPICS_BYTES and encoded[3][0] >= 0xF8:
        encoded[3] = b"\xc0"
    match [_decode(item) for item in encoded]:
        case [lower, upper, filter_, limit, cursor]:
            return lower, upper, filter_, [], limit, cursor, b""
        case [lower, upper, filter_, limit, cursor, batch]:
            return lower, upper, filter_, [], limit, cursor, batch
        case [_, _, _, _, _, _, _] as items:
            return tuple(items)
    raise InvalidEncoding(f"{len(encoded)} items, not 5, 6 or 7", code="mail-request")


def _decode(data: bytes) -> Item:
    # Topics may be many; nothing else here is.
    return rlp.decode(
        data, max_bytes=limits.MAIL_REQUEST_BYTES, max_depth=3, max_items=limits.QUERY_TOPICS + 16
    )


def _structured(request_id: bytes, form: tuple[Item, ...], now_s: int) -> MailRequest:
    lower, upper, filter_, topics, limit, cursor, batch = form
    named = _topics(request_id, topics)
    size = _number(request_id, limit)
    if not isinstance(filter_, bytes) or len(filter_) not in (0, bloom.FILTER_BYTES):
        raise _invalid(request_id, "bloom filter has not 64 bytes")
    if not filter_ and not named:
        raise _invalid(request_id, "bloom filter is empty")
    if not isinstance(cursor, bytes) or not isinstance(batch, bytes):
        raise _invalid(request_id, "a list where a string must be")
    least, greatest = _range(
        request_id, _number(request_id, lower), _number(request_id, upper), now_s
    )
    return MailRequest(
        request_id,
        least,
        greatest,
        bloom.decode(filter_) if filter_ else 0,
        named,
        _page(request_id, size),
        # status-go's client takes a shorter one for none, and so may have kept one.
        MailCursor.parse(cursor) if len(cursor) == CURSOR_BYTES else None,
        batch not in (b"", b"\x00"),
    )


def _topics(request_id: bytes, topics: Item) -> tuple[bytes, ...]:
    """Each once; none, so that the filter decides, where one of them has not 4 bytes."""
    if not isinstance(topics, list):
        raise _invalid(request_id, "a string where the topics must be")
    named: dict[bytes, None] = {}
    for topic in topics:
        if not isinstance(topic, bytes):
            raise _invalid(request_id, "a list where a topic must be")
        named[topic] = None
    if any(len(topic) != whisper.TOPIC_BYTES for topic in named):
        return ()
    return tuple(named)


def _raw(request_id: bytes, data: bytes, now_s: int) -> MailRequest:
    if len(data) < _RAW_BYTES:
        raise MailRefused(request_id, "Undersized p2p request", "undersized")
    if _RAW_BYTES < len(data) < _RAW_WITH_BLOOM:
        raise MailRefused(request_id, "Undersized bloom filter in p2p request", "undersized")
    lower, upper = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    least, greatest = _range(request_id, lower, upper, now_s)
    if len(data) == _RAW_BYTES:
        return MailRequest(request_id, least, greatest, bloom.FULL)
    filter_ = bloom.decode(data[_RAW_BYTES:_RAW_WITH_BLOOM])
    if len(data) != _RAW_WITH_LIMIT and len(data) not in _RAW_WITH_CURSOR:
        return MailRequest(request_id, least, greatest, filter_)
    limit = _page(request_id, int.from_bytes(data[_RAW_WITH_BLOOM:_RAW_WITH_LIMIT], "big"))
    # Of 40 bytes, status-go's longer key, the first 36 are the cursor.
    after = data[_RAW_WITH_LIMIT : _RAW_WITH_LIMIT + CURSOR_BYTES]
    cursor = MailCursor.parse(after) if after else None
    return MailRequest(request_id, least, greatest, filter_, limit=limit, cursor=cursor)


def _number(request_id: bytes, item: Item) -> int:
    if not isinstance(item, bytes):
        raise _invalid(request_id, "a list where a number must be")
    try:
        return rlp.to_uint(item, 4)
    except InvalidEncoding as error:
        raise _invalid(request_id, str(error)) from error


def _page(request_id: bytes, limit: int) -> int:
    if limit > limits.MAIL_PAGE:
        raise _invalid(request_id, "limit exceeds the maximum allowed value")
    return limit or limits.MAIL_PAGE


def _range(request_id: bytes, lower: int, upper: int, now_s: int) -> tuple[int, int]:
    """A wnode whose user types 0 sends ffffffff, which old servers take for nothing at all."""
    if upper in (0, _U32_MAX):
        # Also where a client's clock is ahead of ours, "since then" is a question.
        upper = max(lower, now_s + limits.MAIL_AHEAD_S)
    if lower > upper:
        text = f"query range is invalid: from > to ({lower} > {upper})"
        raise MailRefused(request_id, text, "range")
    return lower, upper


def _invalid(request_id: bytes, text: str) -> MailRefused:
    return MailRefused(request_id, f"request is invalid: {text}", "invalid")
