"""Log entries."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import cid, dagcbor
from restante.formats.entry import LogEntry, check_rollups, encode, parse
from restante.formats.level import Level

SEGMENT = cid.cid_of(cid.DAG_CBOR, b"root")
ENTRY = LogEntry(7, SEGMENT, 2, 500, 1_000, 1_020)
QUIET = LogEntry(8, SEGMENT, 0, 0, None, None)

entries = st.builds(
    lambda window, count, more, low, span, rollups: LogEntry(
        window, SEGMENT, count, count + more, low, low + span, tuple(rollups)
    ),
    st.integers(0, 2**40),
    st.integers(1, 50_000),
    st.integers(0, 2**30),
    st.integers(0, 2**33),
    st.integers(0, 400),
    st.lists(st.sampled_from([None, SEGMENT]), max_size=limits.SEGMENT_MAX_LEVEL),
) | st.builds(lambda window: replace(QUIET, window=window), st.integers(0, 2**40))


@given(entries)
def test_an_entry_survives(entry: LogEntry) -> None:
    data = encode(entry)
    assert parse(data) == entry
    assert len(data) < limits.ENTRY_MAX_BYTES


def test_the_segment_is_a_byte_string() -> None:
    """A log file under one pin must not drag every segment along."""
    value = dagcbor.decode(encode(ENTRY))
    assert isinstance(value, dict)
    assert value["segment"] == SEGMENT


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"window": -1},
        {"window": None},
        {"segment": SEGMENT[:-1]},
        {"segment": dagcbor.Link(SEGMENT)},
        {"segment": cid.cid_of(cid.RAW, b"root")},
        {"segment": bytes(36)},
        {"count": 0},
        {"count": True},
        {"count": 501},
        {"bytes": 1},
        {"sent_min": None},
        {"sent_min": 1_021},
        {"sent_max": -1},
        {"rollups": None},
        {"rollups": [7]},
        {"rollups": [dagcbor.Link(SEGMENT)]},
        {"rollups": [SEGMENT[:-1]]},
        {"rollups": [cid.cid_of(cid.RAW, b"root")]},
        {"rollups": [None] * 9},
        {"more": 1},
    ],
)
def test_refuses(change: dict[str, dagcbor.Value]) -> None:
    value = dagcbor.decode(encode(ENTRY))
    assert isinstance(value, dict)
    with pytest.raises(InvalidEncoding):
        parse(dagcbor.encode({**value, **change}))


@pytest.mark.parametrize("change", [{"bytes": 1}, {"sent_min": 0}, {"sent_max": 0}, {"count": 1}])
def test_refuses_a_quiet_entry_that_claims_something(change: dict[str, dagcbor.Value]) -> None:
    value = dagcbor.decode(encode(QUIET))
    assert isinstance(value, dict)
    with pytest.raises(InvalidEncoding):
        parse(dagcbor.encode({**value, **change}))


@pytest.mark.parametrize("key", ["version", "window", "segment", "count", "sent_min", "rollups"])
def test_refuses_a_missing_field(key: str) -> None:
    value = dagcbor.decode(encode(ENTRY))
    assert isinstance(value, dict)
    del value[key]
    with pytest.raises(InvalidEncoding):
        parse(dagcbor.encode(value))


class Levels:
    """Pairs of windows, and an index of two of them, each named one window after its end."""

    levels = (Level(2), Level(4, "index"))
    rollup_lag = 1
    window_s = 30


@pytest.mark.parametrize(
    ("window", "rollups", "allowed"),
    [
        (0, (), True),
        (1, (), True),
        (2, (SEGMENT,), True),
        (2, (None,), True),
        (2, (), False),
        (3, (SEGMENT,), False),
        (4, (SEGMENT, SEGMENT), True),
        (4, (None, SEGMENT), True),
        (4, (SEGMENT, None), False),
        (4, (SEGMENT,), False),
    ],
)
def test_an_entry_names_what_comes_due_there(
    window: int, rollups: tuple[bytes | None, ...], allowed: bool
) -> None:
    entry = replace(ENTRY, window=window, rollups=rollups)
    if allowed:
        check_rollups(entry, Levels())
    else:
        with pytest.raises(InvalidEncoding):
            check_rollups(entry, Levels())
