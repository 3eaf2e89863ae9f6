"""DAG-CBOR: one value, one encoding; the pure `dag-cbor` package is the oracle."""

from random import Random

import dag_cbor
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import cid
from restante.formats.dagcbor import UINT_MAX, Fields, Link, Value, decode, encode

LINK = Link(cid.cid_of(cid.DAG_CBOR, b"block"))
RAW_LINK = Link(cid.cid_of(cid.RAW, b"block"))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -24, -25, -(2**64)])
    | st.binary(max_size=40)
    | st.text(max_size=12)
    | st.sampled_from([LINK, RAW_LINK])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=25,
)


def foreign(value: Value) -> object:
    """The same value in the oracle's types."""
    match value:
        case Link():
            return CID.decode(value.cid)
        case list():
            return [foreign(item) for item in value]
        case dict():
            return {key: foreign(item) for key, item in value.items()}
        case _:
            return value


@given(values)
def test_a_value_survives_its_encoding(value: Value) -> None:
    assert decode(encode(value)) == value


@given(values)
def test_bytes_are_those_of_the_oracle(value: Value) -> None:
    assert encode(value) == dag_cbor.encode(foreign(value))


def _mutant(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(out) + 1)
        match random.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << random.randrange(8)
            case 1 if at < len(out):
                del out[at]
            case 2:
                out[at:at] = random.choice((b"\x18", b"\x19\x00", b"\x58", b"\xd8\x2a", b"\x80"))
            case _ if at < len(out):
                out[at] = random.randrange(256)
    return bytes(out)


def test_never_takes_what_the_oracle_refuses() -> None:
    """Mutants of many shapes: wherever ours decodes, the oracle decodes to the same value."""
    random = Random(20)
    samples = [
        encode({"a": 1, "bb": [True, None, b"x" * 30], "c": {"d": "text", "ee": -500}}),
        encode([LINK, RAW_LINK, 2**40, -1, "é"]),
        encode({"version": 1, "ids": b"i" * 64, "list": [[1, 2], [24, 256, 65536]]}),
    ]
    taken = 0
    for _ in range(8_000):
        data = _mutant(random.choice(samples), random)
        try:
            value = decode(data)
        except InvalidEncoding:
            continue
        taken += 1
        assert dag_cbor.decode(data) == foreign(value)
        assert encode(value) == data
    assert taken > 500


REFUSED = {
    "empty": "",
    "truncated head": "18",
    "truncated bytes": "4201",
    "truncated list": "8201",
    "truncated map": "a16161",
    "non-minimal int in 1": "1817",
    "non-minimal int in 2": "190001",
    "non-minimal int in 4": "1a0000ffff",
    "non-minimal int in 8": "1b00000000ffffffff",
    "non-minimal int 1800": "1800",
    "non-minimal negative": "3800",
    "non-minimal bytes length": "580161",
    "non-minimal text length": "780161",
    "non-minimal list length": "980101",
    "non-minimal map length": "b801616101",
    "non-minimal tag": "d9002a58250001711220" + "00" * 32,
    "float16": "f93c00",
    "float32": "fa3f800000",
    "float64": "fb3ff0000000000000",
    "NaN": "fb7ff8000000000000",
    "infinity": "f97c00",
    "indefinite bytes": "5f4161ff",
    "indefinite text": "7f6161ff",
    "indefinite list": "9f01ff",
    "indefinite map": "bf616101ff",
    "break": "ff",
    "reserved head 28": "1c",
    "reserved head 29": "5d",
    "reserved head 30": "9e",
    "unsorted keys": "a2616201616101",
    "longer key first": "a262616101616201",
    "repeated key": "a2616101616102",
    "int key": "a10101",
    "bytes key": "a1416101",
    "null key": "a1f601",
    "undefined": "f7",
    "simple 0": "e0",
    "simple 19": "f3",
    "simple 23 in two bytes": "f817",
    "simple 32": "f820",
    "simple 255": "f8ff",
    "tag 0": "c074323031332d30332d32315432303a30343a30305a",
    "tag 2 bignum": "c249010000000000000000",
    "tag 41": "d82958250001711220" + "00" * 32,
    "link without multibase prefix": "d82a582401711220" + "00" * 32,
    "link with another prefix": "d82a58250101711220" + "00" * 32,
    "link of text": "d82a6161",
    "link of CIDv0": "d82a5823001220" + "00" * 32,
    "link of another codec": "d82a58250001701220" + "00" * 32,
    "link of another hash": "d82a58250001711320" + "00" * 32,
    "link of a short digest": "d82a5824000171121f" + "00" * 31,
    "trailing byte": "0000",
    "not UTF-8": "61ff",
    "surrogate": "63eda080",
    "overlong UTF-8": "62c080",
    "not UTF-8 in a key": "a161ff01",
    "huge list claim": "9b7fffffffffffffff",
    "huge map claim": "bb7fffffffffffffff",
    "huge bytes claim": "5bffffffffffffffff",
    "list claim beyond the bytes": "83f6f6",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(data: str) -> None:
    with pytest.raises(InvalidEncoding):
        decode(bytes.fromhex(data))


def test_bytes_that_look_like_a_cid_stay_bytes() -> None:
    for data in (LINK.cid, b"\x00" + LINK.cid, bytes.fromhex("01550000")):
        assert decode(encode(data)) == data
        assert encode(data)[0] >> 5 == 2


def test_depth_is_bounded_on_both_sides() -> None:
    value: Value = 1
    for _ in range(limits.DAGCBOR_MAX_DEPTH):
        value = [value]
    assert decode(encode(value)) == value
    with pytest.raises(ValueError):
        encode([value])
    with pytest.raises(InvalidEncoding, match="nested"):
        decode(b"\x81" + encode(value))
    with pytest.raises(InvalidEncoding, match="nested"):
        decode(b"\x81" * 100_000 + b"\x01")
    with pytest.raises(InvalidEncoding, match="nested"):
        decode(b"\xa1\x61a" * 17 + b"\x01")


def test_size_and_items_are_bounded() -> None:
    data = encode([1, 2, {"a": 3}])
    assert decode(data, max_bytes=len(data), max_items=6)
    with pytest.raises(InvalidEncoding, match="bytes"):
        decode(data, max_bytes=len(data) - 1)
    with pytest.raises(InvalidEncoding, match="items"):
        decode(data, max_items=5)
    with pytest.raises(InvalidEncoding, match="items"):
        decode(b"\x9a\x00\x04\x00\x00" + b"\x00" * limits.DAGCBOR_MAX_ITEMS)


@pytest.mark.parametrize("value", [1.5, (1,), {1: 2}, object(), bytearray(b"x")])
def test_encoding_what_has_no_form_is_a_bug(value: object) -> None:
    with pytest.raises((TypeError, AttributeError)):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, "\ud800"])
def test_encoding_beyond_the_format_is_a_bug(value: Value) -> None:
    with pytest.raises(ValueError):
        encode(value)


def test_a_link_holds_only_our_cids() -> None:
    with pytest.raises(InvalidEncoding):
        Link(b"\x00" + LINK.cid)


def _fields() -> Fields:
    return Fields(
        {
            "version": 1,
            "kind": "k",
            "n": 5,
            "m": -5,
            "b": b"xyz",
            "t": "text",
            "l": [1, 2],
            "yes": True,
            "map": {"x": 1},
            "link": LINK,
            "none": None,
        },
        "thing",
    )


def test_fields_reads_each_type_and_ends() -> None:
    f = _fields()
    f.version()
    f.literal("kind", "k")
    assert f.uint("n", 5) == 5
    assert f.int_("m") == -5
    assert f.bytes_("b", size=3) == b"xyz"
    assert f.text("t", 4) == "text"
    assert f.list_("l", 2) == [1, 2]
    assert f.bool_("yes") is True
    inner = f.map_("map")
    assert inner.uint("x") == 1
    inner.done()
    assert f.link("link") == LINK.cid
    assert f.has("none")
    assert f.optional_uint("none") is None
    assert not f.has("none")
    f.done()


@pytest.mark.parametrize(
    "read",
    [
        lambda f: f.version(2),
        lambda f: f.literal("kind", "other"),
        lambda f: f.uint("absent"),
        lambda f: f.uint("n", 4),
        lambda f: f.uint("m"),
        lambda f: f.uint("yes"),
        lambda f: f.int_("t"),
        lambda f: f.int_("m", -4),
        lambda f: f.bytes_("b", size=2),
        lambda f: f.bytes_("b", max=2),
        lambda f: f.bytes_("t"),
        lambda f: f.text("t", 3),
        lambda f: f.text("b", 3),
        lambda f: f.list_("l", 1),
        lambda f: f.list_("map", 1),
        lambda f: f.bool_("n"),
        lambda f: f.map_("l"),
        lambda f: f.link("b"),
        lambda f: f.optional_uint("absent"),
        lambda f: f.optional_uint("t"),
        lambda f: f.optional_bytes("b", size=2),
        lambda f: f.optional_text("n", 3),
        lambda f: f.done(),
        lambda f: (f.uint("n"), f.uint("n")),
    ],
)
def test_fields_refuses(read: object) -> None:
    with pytest.raises(InvalidEncoding, match="thing"):
        read(_fields())  # type: ignore[operator]


def test_fields_wants_a_map_and_an_integer_of_63_bits() -> None:
    with pytest.raises(InvalidEncoding, match="not a map"):
        Fields([], "thing")
    assert Fields.decode(encode({"a": UINT_MAX}), "thing").uint("a") == UINT_MAX
    with pytest.raises(InvalidEncoding):
        Fields.decode(encode({"a": UINT_MAX + 1}), "thing").uint("a")
