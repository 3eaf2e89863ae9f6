"""The cover of a range against brute force: exact, in order, and of as few objects as there are."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from restante.formats.level import (
    Level,
    Span,
    body_levels,
    children,
    children_kept_until,
    entry_window,
    span_of,
)
from restante.rules.cover import Cover, Step

DAY = 40
"""In windows."""


def shape(levels, lag):
    """A descriptor, as far as covers ask."""
    return SimpleNamespace(levels=levels, rollup_lag=lag, window_s=86_400 // DAY)


@st.composite
def shapes(draw):
    levels, width = [], 1
    for _ in range(draw(st.integers(0, 3))):
        width *= draw(st.integers(2, 4))
        levels.append(Level(width))
    if levels and draw(st.booleans()):
        levels[-1] = Level(width, "index")
    return shape(tuple(levels), draw(st.integers(1, 4)))


@st.composite
def ranges(draw, size):
    a = draw(st.integers(0, size))
    return range(a, draw(st.integers(a, size)))


def all_spans(d, size):
    return [
        span_of(d, level, w) for level in body_levels(d) for w in range(size)
        if span_of(d, level, w).first == w and entry_window(d, span_of(d, level, w)) < size
    ]  # fmt: skip


def none_spans(data, d, size):
    """Some spans that are none, with all above them, which hold more."""
    rollups = [span for span in all_spans(d, size) if span.level]
    drawn = data.draw(st.lists(st.sampled_from(rollups), max_size=4)) if rollups else []
    return {
        span_of(d, level, span.first)
        for span in drawn
        for level in range(span.level, body_levels(d).stop)
    }


def walk(cover, windows, none):
    """The steps, each refined as entries and indexes say which roll-ups are none."""
    out = []
    for step in cover.steps(windows):
        if step.span in none:
            cover.is_none(step.span)
            out += walk(cover, step.windows, none)
        else:
            out.append(step)
    return out


def segments_of(d, step, none, cover):
    """An index step as what is read through it."""
    if step.span.level not in body_levels(d):
        for child in children(d, step.span):
            own = range(max(child.first, step.windows.start), min(child.stop, step.windows.stop))
            if not own:
                continue
            if child in none:
                cover.is_none(child)
                yield from walk(cover, own, none)
            else:
                yield Step(child, own)
    else:
        yield step


def covered(d, size, windows, mode, none=()):
    cover = Cover(d, size, mode)
    steps = walk(cover, windows, none)
    return [each for step in steps for each in segments_of(d, step, none, cover)]


def is_kept(d, size, span, none):
    """Whether no roll-up that stands over a span lets its children go by now."""
    level = span.level + 1
    if level not in body_levels(d):
        return True
    above = span_of(d, level, span.first)
    stands = entry_window(d, above) < size and above not in none
    return not stands or size - 1 <= children_kept_until(d, above)


@settings(max_examples=400)
@given(st.data(), shapes(), st.integers(0, 200), st.sampled_from(["bucket", "exact", "all"]))
def test_every_window_is_read_once_in_order_from_what_is_there(data, d, size, mode):
    windows = data.draw(ranges(size))
    none = none_spans(data, d, size)
    steps = covered(d, size, windows, mode, none)
    assert [w for step in steps for w in step.windows] == list(windows)
    for step in steps:
        assert step.windows
        assert step.windows.start in step.span
        assert step.windows.stop - 1 in step.span
        assert step.span not in none
        assert entry_window(d, step.span) < size
        assert is_kept(d, size, step.span, none)


def fewest(spans, windows):
    """The least number of disjoint spans that make up a range, by trying all of them."""
    by_first = {}
    for span in spans:
        by_first.setdefault(span.first, []).append(span.stop)
    best = {windows.stop: 0}
    for at in reversed(windows):
        best[at] = min(
            (1 + best[stop] for stop in by_first.get(at, ()) if stop in best), default=10**9
        )
    return best[windows.start]


@settings(max_examples=400)
@given(st.data(), shapes(), st.integers(0, DAY))
def test_as_few_objects_as_there_are(data, d, size):
    """While everything is kept: no disjoint, exact cover has fewer."""
    windows = data.draw(ranges(size))
    none = none_spans(data, d, size)
    steps = covered(d, size, windows, "exact", none)
    spans = [span for span in all_spans(d, size) if span not in none]
    assert all(step.windows == range(step.span.first, step.span.stop) for step in steps)
    assert len(steps) == fewest(spans, windows)


@settings(max_examples=200)
@given(st.data(), shapes(), st.integers(0, 200))
def test_what_is_read_besides_is_of_one_segment_at_each_end(data, d, size):
    windows = data.draw(ranges(size))
    steps = covered(d, size, windows, "bucket")
    inner = [s for s in steps[1:-1] if s.windows != range(s.span.first, s.span.stop)]
    assert inner == []


@settings(max_examples=200)
@given(st.data(), shapes(), st.integers(0, 200))
def test_all_takes_the_smallest_that_are_surely_there(data, d, size):
    windows = data.draw(ranges(size))
    for step in covered(d, size, windows, "all"):
        for level in range(step.span.level):
            below = span_of(d, level, step.windows.start)
            assert not is_kept(d, size, below, ())


STANDARD = shape((Level(10), Level(120), Level(2_880, "index")), 10)
STANDARD.window_s = 30


def spans(steps):
    return [(step.span.level, step.windows.start, step.windows.stop) for step in steps]


def test_a_month_by_the_default_levels():
    """Thirty days, and at most 19 windows of tail."""
    size = 30 * 2_880 + 137
    steps = list(Cover(STANDARD, size, "exact").steps(range(size)))
    days, tail = steps[:30], steps[30:]
    assert spans(days) == [(3, d * 2_880, (d + 1) * 2_880) for d in range(30)]
    first = 30 * 2_880
    assert spans(tail)[0] == (2, first, first + 120)
    assert all(step.span.level == 0 for step in tail[1:])
    assert len(tail) == 1 + 17


def test_a_day_whose_index_does_not_stand_yet():
    size = 2_880 + 9
    steps = list(Cover(STANDARD, size, "exact").steps(range(size)))
    assert [step.span.level for step in steps[:23]] == [2] * 23
    assert len(list(Cover(STANDARD, size + 1, "exact").steps(range(2_880)))) == 1


def test_part_of_an_old_day():
    """From within an hour to within another: the hours whole, read through the index."""
    cover = Cover(STANDARD, 10 * 2_880, "exact")
    a, b = 2_880 + 130, 2_880 + 500
    assert spans(cover.steps(range(a, b))) == [(3, a, b)]
    assert spans(cover.segments(range(a, b))) == [
        (2, a, 2_880 + 240), (2, 2_880 + 240, 2_880 + 360), (2, 2_880 + 360, 2_880 + 480),
        (2, 2_880 + 480, b),
    ]  # fmt: skip


def test_the_parent_that_stands():
    cover = Cover(STANDARD, 300, "bucket")
    assert cover.parent(Span(0, 5, 5, 1)) == Span(1, 0, 0, 10)
    assert cover.parent(Span(1, 0, 0, 10)) == Span(2, 0, 0, 120)
    assert cover.parent(Span(1, 12, 120, 10)) == Span(2, 1, 120, 120)
    assert cover.parent(Span(1, 24, 240, 10)) is None
    assert cover.parent(Span(2, 0, 0, 120)) is None
    cover.is_none(Span(1, 0, 0, 10))
    assert cover.parent(Span(0, 5, 5, 1)) is None
