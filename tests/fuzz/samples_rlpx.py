"""What the fuzz harness throws at RLPx: name -> (parser, valid samples, errors)."""

import json
from collections.abc import Callable
from pathlib import Path

import cramjam

from restante.errors import ConfigError, Invalid, RestanteError
from restante.formats import rlp
from restante.networks.rlpx import ecies, handshake, reasons, session
from restante.networks.rlpx.enode import Enode
from restante.networks.rlpx.session import Identity, Session

_VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rlpx.json").read_text())
_A = bytes.fromhex(_VECTORS["static_a"])
_B = bytes.fromhex(_VECTORS["static_b"])
_SHH = ("shh", 6, 128)
_ID_A = Identity(_A, "a", _SHH).node_id
_TO_B = ecies.private(_B).public_key.format(compressed=False)
_AUTH_BODY = rlp.encode(
    [
        bytes.fromhex(_VECTORS["signature_a"]),
        _ID_A,
        bytes.fromhex(_VECTORS["nonce_a"]),
        b"\x04",
    ]
)


def _answer(packet: bytes) -> handshake.Answer:
    return handshake.answer(_B, packet)


def _answer_plain(plain: bytes) -> handshake.Answer:
    """What is mutated is under the encryption, so that it gets that far."""
    plain = plain[:1_500].ljust(150, b"\0")
    size = (ecies.OVERHEAD_BYTES + len(plain)).to_bytes(2, "big")
    return handshake.answer(_B, size + ecies.encrypt(plain, _TO_B, size))


def _uncompress(data: bytes) -> bytes:
    content = session.uncompress(data)
    assert len(content) <= 22 * len(data)
    return content


def _enode(data: bytes) -> Enode:
    text = data.decode("latin-1")
    found = Enode.parse(text)
    assert Enode.parse(str(found)) == found
    return found


def _session(data: bytes) -> Session:
    """A session never raises, whatever comes: it ends and says why."""
    found = Session(Identity(_B, "fuzzed", _SHH))
    assert found.receive(data) == []
    assert found.ready is False
    return found


_HELLO = bytes.fromhex(_VECTORS["hello_later"])

PARSERS: dict[
    str, tuple[Callable[[bytes], object], list[bytes], tuple[type[RestanteError], ...]]
] = {
    "rlpx.answer": (
        _answer,
        [bytes.fromhex(_VECTORS[name]) for name in ("auth2", "auth3")],
        (handshake.HandshakeFailed,),
    ),
    "rlpx.answer_plain": (
        _answer_plain,
        [_AUTH_BODY + bytes(100), _AUTH_BODY],
        (handshake.HandshakeFailed,),
    ),
    "rlpx.hello": (
        session.parse_hello,
        [
            _HELLO,
            rlp.encode([b"\x05", b"client", [[b"shh", b"\x06"]], b"\x76\x5f", _ID_A]),
            rlp.encode([b"\x05", b"", [], b"", _ID_A]),
        ],
        (Invalid,),
    ),
    "rlpx.uncompress": (
        _uncompress,
        [
            bytes(cramjam.snappy.compress_raw(content))
            for content in (_HELLO, bytes(5_000), b"abcd" * 50, b"")
        ],
        (session.MessageBroken,),
    ),
    "rlpx.disconnect": (
        reasons.decode,
        [b"\xc1\x04", b"\x04", b"\xc0", b"\x80", b"\xc2\x10\x01"],
        (),
    ),
    "rlpx.enode": (
        _enode,
        [
            f"enode://{_ID_A.hex()}@{host}".encode()
            for host in ("127.0.0.1:30303", "[::1]:1?discport=0", "a.example:65535")
        ],
        (ConfigError,),
    ),
    "rlpx.session": (
        _session,
        [bytes.fromhex(_VECTORS[name]) for name in ("auth2", "auth3", "auth1_plain")],
        (),
    ),
}
