"""Which windows answer a query, in which order, and what may be claimed of them."""

from hashlib import sha256
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import ConfigError, InvalidEncoding, Unavailable
from restante.rules.query import (
    Cursor,
    Found,
    Place,
    Query,
    in_order,
    plan,
    sight,
    waits_for,
)
from restante.rules.valid import in_window
from restante.testing.archive_fixture import GENESIS_S, make_set

MADE = make_set()
D = MADE.descriptor
TOPIC = bytes.fromhex("01020304")
times = st.integers(GENESIS_S - 700, GENESIS_S + 3_000)


def found(sent_s: int, name: bytes = b"", window: int = 0) -> Found:
    return Found(sent_s, sha256(name + str(sent_s).encode()).digest(), TOPIC, window, name)


# --- ranges ---------------------------------------------------------------------------------


@given(times, st.integers(1, 600), st.integers(0, 90), st.integers(0, 90))
def test_plan_reads_every_window_that_r0_lets_hold_the_range(start, width, since, size):
    query = Query((TOPIC,), since=since, sent_from_s=start, sent_to_s=start + width)
    made = plan(query, D, size)
    for window in range(since, size):
        sents = range(start, start + width)
        assert (window in made.windows) == any(in_window(sent, window, D) for sent in sents)
    assert all(since <= window < size for window in made.windows)


@given(times, st.integers(0, 60))
def test_half_open_ends(time_s, size):
    low = plan(Query((TOPIC,), sent_from_s=time_s), D, size).windows
    high = plan(Query((TOPIC,), sent_to_s=time_s), D, size).windows
    for window in range(size):
        least, greatest = D.sent_bounds_s(window)
        assert (window in low) == (greatest >= time_s)
        assert (window in high) == (least < time_s)


def test_a_range_without_bounds_is_all_windows_since():
    made = plan(Query((TOPIC,), since=7), D, 20)
    assert made.windows == made.covered == range(7, 20)
    assert list(plan(Query((TOPIC,), since=30), D, 20).windows) == []


@given(times, st.integers(1, 400), st.integers(0, 100))
def test_waits_for_is_what_r0_still_allows(start, width, size):
    query = Query((TOPIC,), sent_from_s=start, sent_to_s=start + width)
    waiting = waits_for(query, D, size)
    later = range(size, size + 200)
    may = [w for w in later if any(in_window(s, w, D) for s in range(start, start + width))]
    if waiting is None:
        assert not may
        assert start + width <= D.final_before_s(size - 1)
    else:
        assert waiting[0] == size
        assert waiting[1] is not None
        assert all(size <= w < waiting[1] for w in may)
        assert (not may) or waiting[1] == may[-1] + 1


def test_without_an_upper_bound_an_answer_is_never_final():
    assert waits_for(Query((TOPIC,), sent_from_s=5), D, 9) == (9, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"topics": ()},
        {"topics": (b"",)},
        {"topics": (bytes(256),)},
        {"topics": (TOPIC,) * (limits.QUERY_TOPICS + 1)},
        {"topics": (TOPIC,), "mode": "some"},
        {"topics": (TOPIC,), "since": -1},
        {"topics": (TOPIC,), "sent_from_s": -1},
        {"topics": (TOPIC,), "sent_to_s": 1 << 40},
        {"topics": (TOPIC,), "sent_from_s": 9, "sent_to_s": 9},
        {"topics": (TOPIC,), "sent_to_s": 0},
        {"topics": (TOPIC,), "limit": 0},
    ],
)
def test_what_cannot_be_asked(fields):
    with pytest.raises(ConfigError) as caught:
        Query(**fields)
    assert caught.value.code == "query"


def test_all_needs_no_topic():
    assert Query((), mode="all").wants(b"anything", 5)


# --- cursors --------------------------------------------------------------------------------

places = st.none() | st.builds(Place, st.integers(0, 2**40), st.binary(min_size=32, max_size=32))
digests = st.binary(min_size=32, max_size=32)
sizes = st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)).map(sorted)
cursors = st.builds(
    lambda set_id, query, ab, after: Cursor(set_id, query, ab[0], ab[1], after),
    digests,
    digests,
    sizes,
    places,
)


@given(cursors)
def test_cursor_round_trip(cursor):
    assert Cursor.parse(cursor.text()) == cursor


@given(cursors, st.data())
def test_a_mutated_cursor_is_another_or_none(cursor, data):
    text = cursor.text()
    at = data.draw(st.integers(0, len(text) - 1))
    other = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    try:
        parsed = Cursor.parse(other)
    except InvalidEncoding:
        return
    assert (parsed == cursor) == (other == text)
    assert parsed.text() == other


@given(st.text(max_size=300))
def test_any_text_is_a_cursor_or_refused(text):
    with pytest.raises(InvalidEncoding) as caught:
        Cursor.parse(text)
    assert caught.value.code == "cursor"


@pytest.mark.parametrize("suffix", ["=", "\n", " ", "A" * 2000])
def test_a_cursor_has_one_spelling(suffix):
    text = Cursor(bytes(32), bytes(32), 0, 1, None).text()
    with pytest.raises(InvalidEncoding):
        Cursor.parse(text + suffix)


def test_a_cursor_that_begins_after_its_end():
    with pytest.raises(InvalidEncoding):
        Cursor.parse(Cursor(bytes(32), bytes(32), 2, 1, None).text())


def test_cursors_are_bound_to_set_and_query_and_not_to_mode_or_limit():
    query = Query((TOPIC,), sent_from_s=GENESIS_S)
    text = plan(query, D, 9).cursor(Place(GENESIS_S + 5, bytes(32)))
    same = Query((TOPIC,), sent_from_s=GENESIS_S, mode="all", limit=3, cursor=text)
    assert plan(same, D, 30).size == 9
    for other in (
        Query((TOPIC, b"more"), sent_from_s=GENESIS_S, cursor=text),
        Query((TOPIC,), sent_from_s=GENESIS_S + 1, cursor=text),
        Query((TOPIC,), sent_from_s=GENESIS_S, sent_to_s=2 * GENESIS_S, cursor=text),
        Query((TOPIC,), since=1, sent_from_s=GENESIS_S, cursor=text),
    ):
        with pytest.raises(ConfigError) as caught:
            plan(other, D, 30)
        assert caught.value.code == "cursor-query"
    with pytest.raises(ConfigError) as caught:
        plan(same, make_set(seed=1).descriptor, 30)
    assert caught.value.code == "cursor-set"


def test_topics_in_any_order_are_one_query():
    assert Query((b"a", b"b")).hash() == Query((b"b", b"a", b"b")).hash() != Query((b"a",)).hash()


def test_a_cursor_of_a_larger_tree_waits():
    text = plan(Query((TOPIC,)), D, 9).cursor(None)
    with pytest.raises(Unavailable) as caught:
        plan(Query((TOPIC,), cursor=text), D, 8)
    assert caught.value.code == "cursor-ahead"


def test_a_mid_cursor_keeps_the_tree_size_and_the_last_one_moves_on():
    query = Query((TOPIC,), since=2)
    first = plan(query, D, 20)
    place = Place(D.start_s(10), bytes(32))
    second = plan(Query((TOPIC,), since=2, cursor=first.cursor(place)), D, 50)
    assert (second.since, second.size, second.after) == (2, 20, place)
    assert second.windows.stop == 20
    assert not any(D.sent_bounds_s(w)[1] < place.sent_s for w in second.windows)
    third = plan(Query((TOPIC,), since=2, cursor=second.cursor(None)), D, 50)
    assert (third.since, third.size, third.after, third.windows) == (20, 50, None, range(20, 50))
    # A continued answer that is cut short remembers where it began.
    fourth = plan(Query((TOPIC,), since=2, cursor=third.cursor(place)), D, 60)
    assert (fourth.since, fourth.size) == (20, 50)


def test_since_beyond_the_tree_stays_beyond_it():
    query = Query((TOPIC,), since=30)
    text = plan(query, D, 20).cursor(None)
    assert plan(Query((TOPIC,), since=30, cursor=text), D, 40).windows == range(30, 40)


# --- order ----------------------------------------------------------------------------------


@given(st.lists(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3))), max_size=40))
def test_in_order_is_sorted_and_deduplicated(windows):
    batches = []
    for window, drawn in enumerate(windows):
        least, greatest = D.sent_bounds_s(window)
        sents = [(least + offset % (greatest - least + 1), name) for offset, name in drawn]
        batches.append((window, [found(sent, bytes([name]), window) for sent, name in sents]))
    everything = {(f.sent_s, f.id) for _, batch in batches for f in batch}
    got = [(f.sent_s, f.id) for f in in_order(batches, D.final_before_s)]
    assert got == sorted(everything)


def test_what_is_sent_at_the_bound_itself_may_still_come():
    """The least sent time that the next window allows is not yet final."""
    bound = D.final_before_s(0)
    low, high = Found(bound, bytes(32), TOPIC, 1, b""), Found(bound, b"\xff" * 32, TOPIC, 0, b"")
    assert list(in_order([(0, [high]), (1, [low])], D.final_before_s)) == [low, high]


def test_in_order_streams_and_holds_k_windows_at_most():
    read = 0

    def batches():
        nonlocal read
        for window in range(200):
            read += 1
            yield window, [found(D.start_s(window), window=window)]

    for count, one in enumerate(in_order(batches(), D.final_before_s)):
        if read < 200:
            assert read - count <= D.recent_windows + 1
        assert one.window == count


def test_plan_keeps_what_is_behind_the_cursor_alone():
    query = Query((TOPIC,), sent_from_s=GENESIS_S, sent_to_s=GENESIS_S + 100)
    one, two = found(GENESIS_S + 5), found(GENESIS_S + 6)
    text = plan(query, D, 9).cursor(Place(one.sent_s, one.id))
    made = plan(Query((TOPIC,), 0, GENESIS_S, GENESIS_S + 100, cursor=text), D, 9)
    assert not made.keeps(one)
    assert made.keeps(two)
    assert not made.keeps(found(GENESIS_S + 100))
    assert not made.keeps(Found(two.sent_s, two.id, b"else", 0, b""))


@given(times, st.integers(0, 50), times, st.integers(1, 200))
def test_may_hold_skips_only_what_holds_nothing(low, span, start, width):
    made = plan(Query((TOPIC,), sent_from_s=start, sent_to_s=start + width), D, 9)
    asked = range(start, start + width)
    # Only the ends are known to be there, all between may be.
    possible = any(s in asked for s in range(low, low + span + 1))
    assert made.may_hold(low, low + span) or not possible
    assert not made.may_hold(None, None)


# --- sight ----------------------------------------------------------------------------------


@st.composite
def watch_notes(draw):
    floor = draw(st.integers(0, 20))
    size = draw(st.integers(floor, 40))
    dark = draw(st.sets(st.integers(floor, size - 1))) if size > floor else set()
    ranges = []
    for window in sorted(dark):
        if ranges and ranges[-1][1] == window:
            ranges[-1] = (ranges[-1][0], window + 1)
        else:
            ranges.append((window, window + 1))
    return SimpleNamespace(floor=floor, size=size, unwatched=tuple(ranges), dark=dark)


@given(st.lists(watch_notes(), max_size=4), st.integers(0, 30), st.integers(0, 15))
def test_sight_is_what_counting_each_window_gives(notes, first, count):
    windows = range(first, first + count)
    seen = sight(notes, windows, D)

    def expand(ranges):
        return [w for a, b in ranges for w in range(a, b)]

    blind, unknown = [], []
    for window in windows:
        speaking = [n for n in notes if n.floor <= window < n.size]
        if len(speaking) < D.k:
            unknown.append(window)
        elif sum(window not in n.dark for n in speaking) <= D.f:
            blind.append(window)
    assert (expand(seen.blind), expand(seen.unknown)) == (blind, unknown)
    for ranges in seen:  # ascending, and apart
        assert all(a < b for a, b in ranges)
        assert all(one[1] < other[0] for one, other in pairwise(ranges))
