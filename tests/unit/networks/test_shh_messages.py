"""The messages of shh/6: observed bytes, round trips, and refusals by name."""

import contextlib
import math
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import rlp
from restante.networks.whisper import bloom, messages
from restante.networks.whisper.messages import Status

FLOORS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
RATES = st.tuples(*[st.integers(0, 2**64 - 1)] * 3)
HASH = bytes(range(32))


def uint(value: int) -> bytes:
    return rlp.encode_uint(value)


def refusal(parse, payload: bytes) -> str:
    with pytest.raises(InvalidEncoding) as caught:
        parse(payload)
    return caught.value.code


# --- status -----------------------------------------------------------------------------------


def test_the_status_that_a_wnode_sends() -> None:
    wnode = rlp.encode([b"\x06", bytes.fromhex("3fc999999999999a"), b"", b""])
    assert Status.parse(wnode) == Status(pow=0.2)


def test_the_status_that_status_go_sends() -> None:
    bits = bytes.fromhex("3f60624dd2f1a9fc")
    payload = rlp.encode([b"\x06", bits, b"", b"", b"\x01", [b"", b"", b""]])
    assert Status.parse(payload) == Status(pow=0.002, confirmations=True)
    assert Status(pow=0.002, confirmations=True).encode() == payload


def test_only_the_version_is_needed() -> None:
    assert Status.parse(rlp.encode([b"\x06"])) == Status()
    more = rlp.encode([b"\x06", b"", b"", b"", b"", [b"", b"\x05", b"", b"\x07"], b"new", [b""]])
    assert Status.parse(more) == Status(rates=(0, 5, 0))


@given(FLOORS, st.integers(0, bloom.FULL), st.booleans(), st.booleans(), RATES)
def test_statuses_round_trip(
    floor: float, filter_: int, light: bool, confirmations: bool, rates: tuple[int, int, int]
) -> None:
    status = Status(floor, filter_, light, confirmations, rates)
    assert Status.parse(status.encode()) == status


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], "status-malformed"),
        ([[b"\x06"]], "status-malformed"),
        ([b"\x05"], "status-version"),
        ([b""], "status-version"),
        ([b"\x00\x06"], "integer-leading-zero"),
        ([b"\x06", [b""]], "pow-malformed"),
        ([b"\x06", uint(unpack(">Q", pack(">d", math.inf))[0])], "pow-malformed"),
        ([b"\x06", uint(unpack(">Q", pack(">d", -0.5))[0])], "pow-malformed"),
        ([b"\x06", uint(unpack(">Q", pack(">d", math.nan))[0])], "pow-malformed"),
        ([b"\x06", b"\x01" * 9], "integer-overflow"),
        ([b"\x06", b"", bytes(63)], "bloom-length"),
        ([b"\x06", b"", [b""]], "status-malformed"),
        ([b"\x06", b"", b"", [b""]], "status-malformed"),
        ([b"\x06", b"", b"", b"", b"", b"\x05"], "status-malformed"),
        ([b"\x06", b"", b"", b"", b"", [b"", b""]], "status-malformed"),
    ],
)
def test_statuses_that_are_refused(items: rlp.Encodable, code: str) -> None:
    assert refusal(Status.parse, rlp.encode(items)) == code


def test_a_status_is_one_list() -> None:
    assert refusal(Status.parse, rlp.encode(b"\x06")) == "status-malformed"
    assert refusal(Status.parse, rlp.encode([b"\x06"]) + b"\0") == "rlp-trailing"
    assert refusal(Status.parse, b"\xc1") == "rlp-truncated"
    assert refusal(Status.parse, b"") == "rlp-truncated"
    large = rlp.encode([b"\x06", b"", b"", b"", b"", b"", bytes(limits.SHH_CONTROL_MAX_BYTES)])
    assert refusal(Status.parse, large) == "rlp-too-large"
    nested = b""
    for _ in range(6):
        nested = rlp.list_header(len(nested)) + nested
    assert refusal(Status.parse, nested) == "rlp-depth"


# --- demands ----------------------------------------------------------------------------------


@given(FLOORS)
def test_floors_round_trip(floor: float) -> None:
    assert messages.parse_pow(messages.encode_pow(floor)) == floor


def test_floors_as_observed() -> None:
    assert messages.encode_pow(0.001).hex() == "883f50624dd2f1a9fc"
    assert messages.encode_pow(0.0) == b"\x80"


def test_demands_that_are_refused() -> None:
    assert refusal(messages.parse_pow, rlp.encode([b"\x01"])) == "pow-malformed"
    assert refusal(messages.parse_bloom, rlp.encode(b"")) == "bloom-length"
    assert refusal(messages.parse_bloom, rlp.encode([bytes(64)])) == "bloom-length"
    assert refusal(messages.parse_rate_limits, rlp.encode(b"\x01")) == "rates-malformed"


@given(st.integers(0, bloom.FULL))
def test_filters_round_trip(filter_: int) -> None:
    assert messages.parse_bloom(messages.encode_bloom(filter_)) == filter_


# --- confirmations ----------------------------------------------------------------------------


def test_what_became_of_a_packet() -> None:
    assert messages.parse_batch_taken(messages.encode_batch_taken(HASH)) == HASH
    assert messages.parse_response(messages.encode_response(HASH, [])) == (0, 0)
    assert messages.parse_response(messages.encode_response(HASH, [HASH, HASH])) == (2, 0)


def test_a_response_of_status_go() -> None:
    errors = [[HASH, uint(37), b"very old"], [HASH, uint(38), b"other"], [HASH, uint(38), b""]]
    payload = rlp.encode([b"\x01", [HASH, errors]])
    assert messages.parse_response(payload) == (1, 2)


def test_a_response_of_a_later_version_is_passed_over() -> None:
    assert messages.parse_response(rlp.encode([b"\x02", [b"whatever"]])) == (0, 0)


@pytest.mark.parametrize(
    "item",
    [
        b"",
        [],
        [b"\x01"],
        [b"\x01", b""],
        [b"\x01", [HASH]],
        [b"\x01", [HASH[1:], []]],
        [b"\x01", [HASH, b""]],
        [b"\x01", [HASH, [b""]]],
        [b"\x01", [HASH, [[HASH]]]],
        [b"\x01", [HASH, [[b"short", b"\x25"]]]],
        [[b"\x01"], [HASH, []]],
    ],
)
def test_responses_that_are_refused(item: rlp.Encodable) -> None:
    assert refusal(messages.parse_response, rlp.encode(item)) == "response-malformed"


def test_a_response_is_bounded() -> None:
    many = rlp.encode([b"\x01", [HASH, [[b""]] * limits.SHH_RESPONSE_MAX_ITEMS]])
    assert refusal(messages.parse_response, many) == "rlp-items"
    assert refusal(messages.parse_batch_taken, rlp.encode(HASH[1:])) == "batch-malformed"


@pytest.mark.parametrize(
    "parse",
    [
        Status.parse,
        messages.parse_pow,
        messages.parse_bloom,
        messages.parse_batch_taken,
        messages.parse_response,
        messages.parse_rate_limits,
    ],
)
@given(payload=st.binary(max_size=200))
def test_nothing_but_named_errors_comes_of_any_bytes(parse, payload: bytes) -> None:
    with contextlib.suppress(InvalidEncoding):
        parse(payload)
