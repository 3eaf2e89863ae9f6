"""What the fuzz tests feed: each parser, valid samples to mutate, and the errors it may raise.

`PARSERS[name] = (parse, samples, allowed errors)`: `parse` takes bytes and must return or raise one
of the allowed errors, on any input. Samples are valid, small (a fuzz input should cost some tens of
microseconds) and differ in shape.

Other rooms add theirs in a file of their own beside this one, named `samples_*.py`, with a
module-level dict `PARSERS` of the same form. They are found by name; two may not share a key.
"""

import importlib.util
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import car, cid, dagcbor, entry, layout, page, root, segment, varint
from restante.formats.dagcbor import Link

Parser = tuple[Callable[[bytes], object], list[bytes], tuple[type[Exception], ...]]

SET_ID = sha256(b"a set").digest()
STRICT = (InvalidEncoding,)
CHECKED = (InvalidEncoding, VerificationFailed)


def envelope(topic: int, sent_s: int, body: bytes) -> bytes:
    """A stand-in for an envelope: topic, sent time, body."""
    return topic.to_bytes(4, "big") + sent_s.to_bytes(8, "big") + body


def topic_of(raw: bytes) -> bytes:
    if len(raw) < 12:
        raise InvalidEncoding("not an envelope")
    return raw[:4]


def sent_of(raw: bytes) -> int:
    topic_of(raw)
    return int.from_bytes(raw[4:12], "big")


def member(raw: bytes, window: int, set_id: bytes = SET_ID) -> page.Member:
    key = page.topic_key(set_id, topic_of(raw))
    return page.Member(key, window, sent_of(raw), sha256(raw).digest(), raw)


def _segment(raws: list[bytes]) -> segment.Segment:
    return segment.build(SET_ID, [member(raw, 7) for raw in raws], 7, bucket_bits=6)


_D = SimpleNamespace(set_id=SET_ID, bucket_bits=6)
_SMALL = _segment([envelope(t, 100 + t, b"x" * t) for t in (1, 2, 2 + 5, 9)])
_TWO_PAGES = _segment([envelope(t, 5, bytes(300)) for t in range(300)])
_EMPTY = _segment([])
_CID = cid.cid_of(cid.DAG_CBOR, b"")
_TABLES = root.SegmentRoot(
    **{
        **{name: getattr(_TWO_PAGES.root, name) for name in _TWO_PAGES.root.__slots__},
        "pages": None,
        "page_blocks": (
            root.PageBlock(1, 1024, 70_000, _CID),
            root.PageBlock(5, 2, 140, _CID),
        ),
        "directory": None,
        "directory_blocks": (
            root.DirectoryBlock(1, 16_384, cid.cid_of(cid.RAW, b"")),
            root.DirectoryBlock(99_999, 3, cid.cid_of(cid.RAW, b"")),
        ),
        "count": 20_000,
        "bytes_": 2_000_000,
        "depth": 5,
    }
)

PARSERS: dict[str, Parser] = {
    "dagcbor": (
        dagcbor.decode,
        [
            dagcbor.encode({"a": [1, -1, 2**40, None, True], "bb": {"c": b"\x01U\x12 " * 9}}),
            dagcbor.encode([Link(_CID), "é", b"", [], {}, -(2**64), 2**64 - 1]),
            dagcbor.encode([[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]),
            dagcbor.encode(["x" * 30, b"y" * 300, list(range(40))]),
        ],
        STRICT,
    ),
    "varint": (
        varint.decode,
        [varint.encode(n) for n in (0, 1, 127, 128, 2**32, 2**63 - 1)],
        STRICT,
    ),
    "cid text": (
        lambda data: cid.from_text(data.decode("latin-1")),
        [cid.to_text(_CID).encode(), cid.to_text(cid.cid_of(cid.RAW, b"1")).encode()],
        STRICT,
    ),
    "car": (
        car.read,
        [car.write(_CID, []), car.write(_CID, [(_CID, b""), (cid.cid_of(cid.RAW, b"1"), b"1")])],
        CHECKED,
    ),
    "entry": (
        entry.parse,
        [entry.encode(_SMALL.entry()), entry.encode(_EMPTY.entry())],
        STRICT,
    ),
    "page": (
        lambda data: page.parse(data, 7, 3),
        [_SMALL.blocks[1][1], b"\x02\x05hello\x00\x01x\x01\x02yz"],
        STRICT,
    ),
    "page table block": (
        page.parse_page_block,
        [dagcbor.encode(page.rows_value(_TWO_PAGES.rows))],
        STRICT,
    ),
    "directory block": (
        segment.parse_directory_block,
        [(1).to_bytes(4, "big") + (2**31).to_bytes(4, "big")],
        STRICT,
    ),
    "segment root": (
        segment.parse_root,
        [_SMALL.root.encode(), _EMPTY.root.encode(), _TABLES.encode()],
        STRICT,
    ),
    "segment page": (
        lambda data: segment.check_page(
            _SMALL.root,
            _SMALL.rows[0]._replace(length=len(data), cid=cid.cid_of(cid.RAW, data)),
            data,
            topic_of,
            sent_of,
        ),
        [_SMALL.blocks[1][1]],
        CHECKED,
    ),
    "segment cars": (
        lambda data: segment.read_cars([data], _D, topic_of, sent_of),
        [_SMALL.cars()[0], _EMPTY.cars()[0]],
        CHECKED,
    ),
    "segment prefix": (
        lambda data: layout.locate(data, _SMALL.root_cid),
        [_SMALL.cars()[0]],
        CHECKED,
    ),
}


def _discover() -> None:
    for path in sorted(Path(__file__).parent.glob("samples_*.py")):
        spec = importlib.util.spec_from_file_location(f"fuzz_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        shared = PARSERS.keys() & module.PARSERS.keys()
        assert not shared, f"{path.name} repeats {sorted(shared)}"
        PARSERS.update(module.PARSERS)


_discover()
