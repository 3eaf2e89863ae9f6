"""What the fuzz harness throws at Whisper's parsers: name -> (parser, valid samples, errors)."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from restante.errors import InvalidEncoding, RestanteError
from restante.formats import rlp, whisper
from restante.networks import trace
from restante.networks.keccak import keccak256
from restante.networks.whisper import crypt
from restante.rules import valid

_KEY = bytes(range(32))
_PRIVATE = b"\x01" * 32
_NOW_MS = 1_795_366_010_165
_GOLDEN = bytes.fromhex(
    json.loads((Path(__file__).parents[1] / "vectors" / "whisper_envelope.json").read_text())["rlp"]
)
_SMALL = whisper.assemble(1_795_366_030, 20, b"abcd", b"data", 99)
_ROW = b'{"arrival_ms": 1795366010165, "rlp": "%s"}\n' % _SMALL.hex().encode()


def _receive(raw: bytes) -> valid.Facts:
    return valid.receive(raw, _NOW_MS, valid.DEFAULTS, keccak256)


def _examine(raw: bytes) -> valid.Facts:
    return valid.examine(raw, valid.DEFAULTS, keccak256)


def _trace(data: bytes) -> list[tuple[int, object]]:
    return list(trace.read_rows(BytesIO(data), "fuzz"))


PARSERS: dict[
    str, tuple[Callable[[bytes], object], list[bytes], tuple[type[RestanteError], ...]]
] = {
    "rlp.decode": (
        rlp.decode,
        [_GOLDEN, _SMALL, b"\xc0", b"\x80", rlp.encode([[b"a", [b"b"]], bytes(60), [[]]])],
        (InvalidEncoding,),
    ),
    "rlp.envelope_spans": (rlp.envelope_spans, [_GOLDEN, _SMALL], (InvalidEncoding,)),
    "whisper.parse": (whisper.parse, [_GOLDEN, _SMALL], (InvalidEncoding,)),
    "whisper.parse_packet": (
        whisper.parse_packet,
        [whisper.assemble_packet([_GOLDEN, _SMALL]), whisper.assemble_packet([])],
        (InvalidEncoding,),
    ),
    "valid.receive": (_receive, [_GOLDEN, _SMALL], (valid.EnvelopeRefused,)),
    "valid.examine": (_examine, [_GOLDEN, _SMALL], (valid.EnvelopeRefused,)),
    "crypt.decrypt_symmetric": (
        lambda data: crypt.decrypt_symmetric(data, _KEY),
        [crypt.encrypt_symmetric(b"hello", _KEY, sign_with=_PRIVATE)],
        (crypt.NotDecrypted,),
    ),
    "crypt.decrypt_asymmetric": (
        lambda data: crypt.decrypt_asymmetric(data, _PRIVATE),
        [crypt.encrypt_asymmetric(b"hello", crypt.public_key(_PRIVATE))],
        (crypt.NotDecrypted,),
    ),
    "trace.read_rows": (_trace, [_ROW, _ROW * 3], (trace.TraceMalformed,)),
}
"""Samples of `valid.*` may be refused too (work is not mined here): errors are what is listed."""
