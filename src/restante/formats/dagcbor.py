"""Strict DAG-CBOR without floats (RFC 8949 §4.2, ipld.io/specs/codecs/dag-cbor/spec).

One value has one encoding: minimal heads, definite lengths, text keys in strictly ascending order
(shorter first, then bytewise), tag 42 alone, no trailing bytes. A byte string is never taken for a
link, whatever it looks like: links have a type of their own, so no author of bytes can make one.

`Fields` reads decoded maps: every object parser states its fields, and nothing else passes by.
"""

from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias, TypeGuard

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import cid as cids


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a block: CBOR tag 42."""

    cid: bytes
    """Binary CIDv1, 36 bytes, without the 0x00 that the codec writes before it."""

    def __post_init__(self) -> None:
        cids.require(self.cid)


Value: TypeAlias = "bool | int | bytes | str | Link | list[Value] | dict[str, Value] | None"

_UINT, _NINT, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_LINK_TAG = 42
_LINK_HEAD = b"\xd8\x2a\x58\x25\x00"
_INT_MAX: Final = (1 << 64) - 1
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}


def encode(value: Value) -> bytes:
    """The one encoding of `value`; TypeError or ValueError for what DAG-CBOR cannot hold."""
    out = bytearray()
    _encode(value, out, limits.DAGCBOR_MAX_DEPTH)
    return bytes(out)


def _head(out: bytearray, major: int, argument: int) -> None:
    if argument < 24:
        out.append(major << 5 | argument)
        return
    if argument > _INT_MAX:
        raise ValueError("an integer of more than 64 bits has no DAG-CBOR form")
    exponent = (
        0 if argument < 0x100 else 1 if argument < 0x10000 else 2 if argument >> 32 == 0 else 3
    )
    out.append(major << 5 | 24 + exponent)
    out += argument.to_bytes(1 << exponent, "big")


def _encode(value: Value, out: bytearray, depth: int) -> None:
    kind = type(value)
    if kind is int:
        assert isinstance(value, int)
        _head(out, _UINT if value >= 0 else _NINT, value if value >= 0 else -1 - value)
    elif kind is bytes:
        assert isinstance(value, bytes)
        _head(out, _BYTES, len(value))
        out += value
    elif kind is str:
        assert isinstance(value, str)
        text = value.encode("utf-8")
        _head(out, _TEXT, len(text))
        out += text
    elif isinstance(value, Link):
        out += _LINK_HEAD
        out += value.cid
    elif value is None or isinstance(value, bool):
        out.append(0xF6 if value is None else 0xF5 if value else 0xF4)
    elif isinstance(value, (list, dict)):
        if depth == 0:
            raise ValueError("nested deeper than any of our objects")
        if isinstance(value, list):
            _head(out, _LIST, len(value))
            for item in value:
                _encode(item, out, depth - 1)
            return
        _head(out, _MAP, len(value))
        for key, item in sorted(((k.encode("utf-8"), v) for k, v in value.items()), key=_key_order):
            _head(out, _TEXT, len(key))
            out += key
            _encode(item, out, depth - 1)
    else:
        raise TypeError(f"{kind.__name__} has no DAG-CBOR form here")


def _key_order(pair: tuple[bytes, Value]) -> tuple[int, bytes]:
    return len(pair[0]), pair[0]


def decode(
    data: bytes,
    *,
    max_bytes: int = limits.DAGCBOR_MAX_BYTES,
    max_depth: int = limits.DAGCBOR_MAX_DEPTH,
    max_items: int = limits.DAGCBOR_MAX_ITEMS,
) -> Value:
    """The value of which `data` is the one encoding. Raises InvalidEncoding on all else.

    `max_depth` counts lists and maps around a value, `max_items` every value and key.
    """
    if len(data) > max_bytes:
        raise InvalidEncoding(f"{len(data)} bytes of DAG-CBOR where {max_bytes} are allowed")
    reader = _Reader(data, max_items)
    value = reader.item(max_depth)
    if reader.at != len(data):
        raise InvalidEncoding("bytes follow the DAG-CBOR value")
    return value


class _Reader:
    __slots__ = ("at", "data", "items_left")

    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.at = 0
        self.items_left = max_items

    def head(self) -> tuple[int, int]:
        """(major type, argument) of the item at the cursor; the argument's form is minimal."""
        data, at = self.data, self.at
        if at >= len(data):
            raise InvalidEncoding("DAG-CBOR is truncated")
        if self.items_left == 0:
            raise InvalidEncoding("more items than any of our objects has")
        self.items_left -= 1
        first = data[at]
        argument = first & 31
        if argument < 24:
            self.at = at + 1
            return first >> 5, argument
        width = _WIDTHS.get(argument)
        if width is None:
            raise InvalidEncoding("indefinite lengths and reserved heads are not DAG-CBOR")
        end = at + 1 + width
        if end > len(data):
            raise InvalidEncoding("DAG-CBOR is truncated")
        argument = int.from_bytes(data[at + 1 : end], "big")
        # Floats come here too, as the arguments of simple values, and are refused as such.
        if argument < (24 if width == 1 else 1 << 4 * width):
            raise InvalidEncoding("a number or length is not minimal")
        self.at = end
        return first >> 5, argument

    def take(self, length: int) -> bytes:
        start = self.at
        end = start + length
        if end > len(self.data):
            raise InvalidEncoding("DAG-CBOR is truncated")
        self.at = end
        return self.data[start:end]

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidEncoding("a text is not UTF-8") from error

    def item(self, depth: int) -> Value:
        major, argument = self.head()
        if major == _UINT:
            return argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            return self.text(argument)
        if major == _NINT:
            return -1 - argument
        if major == _TAG:
            return self.link(argument)
        if major == _SIMPLE:
            return self.simple(argument)
        # Each item has a byte at least, each pair two: a claim beyond that is a lie told early.
        if argument * (major - 3) > len(self.data) - self.at:
            raise InvalidEncoding("a list or map claims more items than there are bytes")
        if depth == 0:
            raise InvalidEncoding("nested deeper than any of our objects")
        if major == _LIST:
            return self.list(argument, depth - 1)
        return self.map(argument, depth - 1)

    def list(self, length: int, depth: int) -> list[Value]:
        """Most of a list are numbers, and most of these small: read here, without a call each."""
        out: list[Value] = []
        data, end = self.data, len(self.data)
        for _ in range(length):
            at = self.at
            if at < end and data[at] < 24 and self.items_left:
                self.items_left -= 1
                self.at = at + 1
                out.append(data[at])
            else:
                out.append(self.item(depth))
        return out

    def map(self, length: int, depth: int) -> dict[str, Value]:
        out: dict[str, Value] = {}
        previous = b""
        for index in range(length):
            major, argument = self.head()
            if major != _TEXT:
                raise InvalidEncoding("a map key is not text")
            start = self.at
            text = self.text(argument)
            key = self.data[start : self.at]
            if index and (len(previous), previous) >= (argument, key):
                raise InvalidEncoding("map keys are out of order or repeated")
            previous = key
            out[text] = self.item(depth)
        return out

    def link(self, tag: int) -> Link:
        if tag != _LINK_TAG:
            raise InvalidEncoding("the only tag of DAG-CBOR is 42")
        major, length = self.head()
        if major != _BYTES or length != cids.CID_BYTES + 1:
            raise InvalidEncoding("a link does not hold a CIDv1")
        body = self.take(length)
        if body[0] != 0:
            raise InvalidEncoding("a link lacks the identity multibase prefix")
        return Link(body[1:])

    def simple(self, argument: int) -> bool | None:
        if argument == 20:
            return False
        if argument == 21:
            return True
        if argument == 22:
            return None
        raise InvalidEncoding("a float, undefined or another simple value is not taken")


# --- typed reading: each field is read once, with its type and bound; `done()` ends a parser.


UINT_MAX = 2**63 - 1


def is_int(value: Value) -> TypeGuard[int]:
    """An integer proper: a bool is none."""
    return type(value) is int


class Fields:
    """The fields of one decoded map, each to be read once."""

    __slots__ = ("_left", "what")

    def __init__(self, value: Value, what: str) -> None:
        """`what` names the object in messages. Raises InvalidEncoding if `value` is not a map."""
        self.what = what
        if not isinstance(value, dict):
            raise InvalidEncoding(f"{what}: not a map")
        self._left = dict(value)

    @classmethod
    def decode(
        cls, data: bytes, what: str, *, max_bytes: int = limits.DAGCBOR_MAX_BYTES
    ) -> "Fields":
        """The fields of encoded bytes."""
        return cls(decode(data, max_bytes=max_bytes), what)

    def has(self, key: str) -> bool:
        """Whether the field is there and unread (for fields that exclude each other)."""
        return key in self._left

    def value(self, key: str) -> Value:
        """The field as it is; it must be there."""
        if key not in self._left:
            raise InvalidEncoding(f"{self.what}: no field {key!r}")
        return self._left.pop(key)

    def version(self, expected: int = 1) -> None:
        """The format version; an unknown one is refused before anything else is read."""
        if self.uint("version") != expected:
            raise InvalidEncoding(f"{self.what}: unknown version", code="version")

    def literal(self, key: str, expected: str) -> None:
        """A text that must be exactly `expected` (kinds, domains)."""
        if self.value(key) != expected:
            self._refuse(key, f"is not {expected!r}")

    def uint(self, key: str, max: int = UINT_MAX) -> int:
        """An integer in 0…max."""
        return self.int_(key, 0, max)

    def int_(self, key: str, min: int = -UINT_MAX - 1, max: int = UINT_MAX) -> int:
        """An integer in min…max."""
        value = self.value(key)
        if not is_int(value) or not min <= value <= max:
            self._refuse(key, f"is not an integer in {min}…{max}")
        return value

    def bytes_(self, key: str, *, size: int | None = None, max: int | None = None) -> bytes:
        """A byte string: of exactly `size` bytes, or of at most `max`."""
        value = self.value(key)
        if not isinstance(value, bytes):
            self._refuse(key, "is not a byte string")
        if (size is not None and len(value) != size) or (max is not None and len(value) > max):
            self._refuse(key, f"has {len(value)} bytes")
        return value

    def text(self, key: str, max: int) -> str:
        """A text of at most `max` characters."""
        value = self.value(key)
        if not isinstance(value, str) or len(value) > max:
            self._refuse(key, f"is not a text of at most {max} characters")
        return value

    def list_(self, key: str, max: int) -> list[Value]:
        """A list of at most `max` items."""
        value = self.value(key)
        if not isinstance(value, list) or len(value) > max:
            self._refuse(key, f"is not a list of at most {max} items")
        return value

    def map_(self, key: str) -> "Fields":
        """A map, to be read (and ended by `done`) in its turn."""
        return Fields(self.value(key), f"{self.what} {key}")

    def bool_(self, key: str) -> bool:
        """True or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            self._refuse(key, "is not a boolean")
        return value

    def link(self, key: str) -> bytes:
        """The binary CID of a link."""
        value = self.value(key)
        if not isinstance(value, Link):
            self._refuse(key, "is not a link")
        return value.cid

    def optional_uint(self, key: str, max: int = UINT_MAX) -> int | None:
        """null, or an integer in 0…max; the field itself must be there."""
        return None if self._null(key) else self.uint(key, max)

    def optional_int(self, key: str, min: int = -UINT_MAX - 1, max: int = UINT_MAX) -> int | None:
        """null, or an integer in min…max; the field itself must be there."""
        return None if self._null(key) else self.int_(key, min, max)

    def optional_bytes(
        self, key: str, *, size: int | None = None, max: int | None = None
    ) -> bytes | None:
        """null, or a byte string; the field itself must be there."""
        return None if self._null(key) else self.bytes_(key, size=size, max=max)

    def optional_text(self, key: str, max: int) -> str | None:
        """null, or a text; the field itself must be there."""
        return None if self._null(key) else self.text(key, max)

    def done(self) -> None:
        """Refuse fields that nobody read: an unknown field is another format."""
        if self._left:
            raise InvalidEncoding(f"{self.what}: unknown field {min(self._left)!r}")

    def _null(self, key: str) -> bool:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return True
        return False

    def _refuse(self, key: str, why: str) -> NoReturn:
        raise InvalidEncoding(f"{self.what}: {key} {why}")
