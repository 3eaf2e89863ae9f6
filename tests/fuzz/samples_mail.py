"""What the fuzz harness throws at a mail server: name -> (parser, valid samples, errors)."""

from collections.abc import Callable

from restante import limits
from restante.errors import InvalidEncoding, RestanteError
from restante.formats import rlp, whisper
from restante.networks.whisper import bloom, crypt, mail
from restante.networks.whisper.mail_request import MailKeys, MailRefused, MailRequest, open_request

_NOW_S = 1_795_400_000
_PASSWORD = crypt.password_key("status-offline-inbox")
_SIGNER, _SERVER = b"\x11" * 32, b"\x22" * 32
_KEYS = MailKeys(_PASSWORD, _SERVER)
_TOPIC = bytes.fromhex("5a4ea131")
_FILTER = bloom.encode(bloom.of_topics([_TOPIC]))
_RAW = (_NOW_S - 100).to_bytes(4, "big") + _NOW_S.to_bytes(4, "big")
_LOWER, _UPPER, _LIMIT = (rlp.encode_uint(n) for n in (_NOW_S - 100, _NOW_S, 3))
_CURSOR = bytes(range(36))
_FULL_FORM = [_LOWER, _UPPER, _FILTER, [_TOPIC, b"abcd"], _LIMIT, _CURSOR, b"\x01"]


def _enveloped(data: bytes) -> bytes:
    return whisper.assemble(_NOW_S, 50, bytes(4), data, 5)


def _request(payload: bytes) -> MailRequest:
    found = open_request(payload, _KEYS, _NOW_S)
    assert len(found.request_id) == mail.HASH_BYTES
    assert 0 <= found.lower_s <= found.upper_s < 2**32
    assert 0 <= found.bloom <= bloom.FULL
    assert found.limit is None or 0 < found.limit <= limits.MAIL_PAGE
    assert len(found.topics) == len(set(found.topics)) <= limits.QUERY_TOPICS
    assert all(len(topic) == 4 for topic in found.topics)
    assert found.cursor is None or len(found.cursor.encode()) == mail.CURSOR_BYTES
    return found


def _within(content: bytes) -> MailRequest:
    """What is mutated is under the encryption and the signature, so that it gets that far."""
    return _request(_enveloped(crypt.encrypt_symmetric(content, _PASSWORD, sign_with=_SIGNER)))


def _cursor(data: bytes) -> mail.MailCursor:
    found = mail.MailCursor.parse(data)
    assert found.encode() == data
    return found


PARSERS: dict[
    str, tuple[Callable[[bytes], object], list[bytes], tuple[type[RestanteError], ...]]
] = {
    "mail.request": (
        _request,
        [
            _enveloped(crypt.encrypt_symmetric(_RAW, _PASSWORD, sign_with=_SIGNER)),
            _enveloped(
                crypt.encrypt_asymmetric(_RAW, crypt.public_key(_SERVER), sign_with=_SIGNER)
            ),
            rlp.encode([b"i" * 32, _LOWER, _UPPER, _LIMIT, _CURSOR, _FILTER]),
            rlp.encode([b"i" * 32, _LOWER, b"", b"", b"", _FILTER]),
        ],
        (InvalidEncoding, MailRefused),
    ),
    # Never InvalidEncoding: who signed a request is told what was wrong with it.
    "mail.content": (
        _within,
        [
            _RAW,
            _RAW + _FILTER,
            _RAW + _FILTER + bytes(4),
            _RAW + _FILTER + bytes(3) + b"\x03" + _CURSOR,
            _RAW + _FILTER + bytes(3) + b"\x03" + _CURSOR + _TOPIC,
            rlp.encode([_LOWER, _UPPER, _FILTER, _LIMIT, _CURSOR]),
            rlp.encode([_LOWER, _UPPER, _FILTER, b"", b"", b"\x01"]),
            rlp.encode(_FULL_FORM),
            rlp.encode([_LOWER, b"", b"", [_TOPIC], b"", b"", b""]),
        ],
        (MailRefused,),
    ),
    "mail.cursor": (_cursor, [_CURSOR, bytes(36), b"\xff" * 36], (InvalidEncoding,)),
}
