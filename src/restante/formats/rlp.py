"""RLP, strict and canonical in both directions (Ethereum's Recursive Length Prefix).

An item is a byte string or a list of items. Every item has exactly one encoding that is taken
here: shortest header, no leading zero in a length, nothing after the last byte. So decoding and
encoding again gives the same bytes, and a hash of the bytes is a hash of the meaning.

Two readers: `decode` builds any item within named limits; `envelope_spans` finds the five fields
of an envelope in place, without building anything, for the path that every arrival takes.
"""

from collections.abc import Sequence
from typing import NamedTuple, NoReturn, TypeAlias

from restante import limits
from restante.errors import InvalidEncoding

Item: TypeAlias = "bytes | list[Item]"
Encodable: TypeAlias = "bytes | Sequence[Encodable]"


class Spans(NamedTuple):
    """Where the fields of a five-item list lie in its bytes (offsets, half-open).

    `fields` are (start, stop) of each payload, header left out; `body` is where the list's own
    payload starts; `nonce_header` where the last item's header starts, so that
    raw[body:nonce_header] is the encoding of the first four items.
    """

    fields: tuple[tuple[int, int], ...]
    body: int
    nonce_header: int


def decode(
    data: bytes,
    *,
    max_bytes: int = limits.RLP_MAX_BYTES,
    max_depth: int = limits.RLP_MAX_DEPTH,
    max_items: int = limits.RLP_MAX_ITEMS,
) -> Item:
    """The one item that `data` encodes. Raises InvalidEncoding (codes `rlp-…`)."""
    if len(data) > max_bytes:
        _fail("rlp-too-large", f"{len(data)} bytes of RLP, at most {max_bytes} are read")
    reader = _Reader(data, max_depth, max_items)
    item, stop = reader.item(0, len(data), 0)
    if stop != len(data):
        _fail("rlp-trailing", f"{len(data) - stop} bytes after the item")
    return item


def encode(item: Encodable) -> bytes:
    """The canonical encoding of a byte string or of a (nested) sequence of them."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _header(len(item), 0x80) + item
    payload = b"".join(map(encode, item))
    return list_header(len(payload)) + payload


def list_header(payload_bytes: int) -> bytes:
    """The header of a list whose payload is so long."""
    return _header(payload_bytes, 0xC0)


def encode_uint(value: int) -> bytes:
    """An integer as the string that stands for it: big-endian, no leading zero, 0 is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def to_uint(payload: bytes, max_bytes: int) -> int:
    """The integer that a string stands for. Raises InvalidEncoding for a leading zero
    (`integer-leading-zero`) and for more than `max_bytes` bytes (`integer-overflow`)."""
    if payload[:1] == b"\x00":
        _fail("integer-leading-zero", "an integer starts with a zero byte")
    if len(payload) > max_bytes:
        _fail("integer-overflow", f"an integer of {len(payload)} bytes, at most {max_bytes}")
    return int.from_bytes(payload, "big")


def split_list(data: bytes, *, max_items: int) -> list[bytes]:
    """The encodings of a list's items, one level deep; the items themselves are not looked into.

    Raises InvalidEncoding when `data` is not exactly one list, or an item's header is not
    canonical or leads out of the list.
    """
    pos, end = _outer_list(data)
    items: list[bytes] = []
    while pos < end:
        if len(items) == max_items:
            _fail("rlp-items", f"more than {max_items} items")
        stop = 0
        if data[pos] == 0xF9 and pos + 3 <= end and data[pos + 1]:
            # A list of 256 bytes to 64 KiB, as nearly every envelope is.
            stop = pos + 3 + (data[pos + 1] << 8 | data[pos + 2])
        if not pos < stop <= end:
            _, stop, _ = _span(data, pos, end)
        items.append(data[pos:stop])
        pos = stop
    return items


def envelope_spans(raw: bytes) -> Spans:
    """The fields of a list of exactly five strings, found in one pass.

    Raises InvalidEncoding: `rlp-not-list`, `rlp-truncated`, `rlp-trailing`, `rlp-noncanonical`,
    `rlp-items` (not five), `data-is-list` (the fourth), `field-is-list` (another).
    """
    pos, end = _outer_list(raw)
    body = header = pos
    fields = []
    for index in range(5):
        if pos >= end:
            _fail("rlp-items", f"{index} items, an envelope has 5")
        header = pos
        prefix = raw[pos]
        if prefix < 0x80:
            start, pos = pos, pos + 1
        elif 0x81 < prefix < 0xB8 and pos + prefix - 0x7F <= end:
            start, pos = pos + 1, pos + prefix - 0x7F
        else:
            start, pos, is_list = _span(raw, pos, end)
            if is_list:
                code = "data-is-list" if index == 3 else "field-is-list"
                _fail(code, f"field {index + 1} of an envelope is a list")
        fields.append((start, pos))
    if pos != end:
        _fail("rlp-items", "more than 5 items, an envelope has 5")
    return Spans(tuple(fields), body, header)


def _outer_list(data: bytes) -> tuple[int, int]:
    """Payload bounds of the one list that `data` must be."""
    start, stop, is_list = _span(data, 0, len(data))
    if not is_list:
        _fail("rlp-not-list", "a byte string where a list must be")
    if stop != len(data):
        _fail("rlp-trailing", f"{len(data) - stop} bytes after the list")
    return start, stop


def _span(data: bytes, pos: int, end: int) -> tuple[int, int, bool]:
    """Bounds of the payload whose header is at `pos`, and whether it is a list."""
    if pos >= end:
        _fail("rlp-truncated", "an item is missing")
    prefix = data[pos]
    if prefix < 0x80:
        return pos, pos + 1, False
    is_list = prefix >= 0xC0
    short = prefix - (0xC0 if is_list else 0x80)
    start = pos + 1
    if short <= 55:
        stop = start + short
        if short == 1 and not is_list and stop <= end and data[start] < 0x80:
            _fail("rlp-noncanonical", "a byte below 0x80 must stand for itself")
    else:
        start += short - 55
        length = data[pos + 1 : start]
        if start > end:
            _fail("rlp-truncated", "the bytes end within a length")
        size = int.from_bytes(length, "big")
        if length[0] == 0 or size < 56:
            _fail("rlp-noncanonical", "a length is not written in its shortest form")
        stop = start + size
    if stop > end:
        _fail("rlp-truncated", f"an item of {stop - start} bytes, {end - start} are left")
    return start, stop, is_list


class _Reader:
    """One decoding: the bytes, and what is left of its limits."""

    __slots__ = ("data", "items_left", "max_depth")

    def __init__(self, data: bytes, max_depth: int, max_items: int) -> None:
        self.data = data
        self.max_depth = max_depth
        self.items_left = max_items

    def item(self, pos: int, end: int, depth: int) -> tuple[Item, int]:
        self.items_left -= 1
        if self.items_left < 0:
            _fail("rlp-items", "more items than the limit allows")
        start, stop, is_list = _span(self.data, pos, end)
        if not is_list:
            return self.data[start:stop], stop
        if depth == self.max_depth:
            _fail("rlp-depth", f"lists nested deeper than {self.max_depth}")
        items: list[Item] = []
        while start < stop:
            inner, start = self.item(start, stop, depth + 1)
            items.append(inner)
        return items, stop


def _header(size: int, base: int) -> bytes:
    if size <= 55:
        return bytes((base + size,))
    length = encode_uint(size)
    return bytes((base + 55 + len(length),)) + length


def _fail(code: str, message: str) -> NoReturn:
    raise InvalidEncoding(message, code=code)
