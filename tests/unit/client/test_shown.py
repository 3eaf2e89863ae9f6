"""What was shown is not shown again, by either way, for as long as either may bring it."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.cli.watched import Place
from restante.client.shown import Shown
from restante.testing.archive_fixture import make_set

D = make_set().descriptor


def sent(window: int) -> int:
    """The earliest sent time that R0 lets into a window."""
    return D.start_s(window) - D.ttl_max_s - D.slack_s


def ids(shown: Shown) -> list[bytes]:
    return [id_ for id_, _ in shown.items()]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.integers(0, 2**32 - 1))))
def test_each_is_first_once(came: list[tuple[bytes, int]]) -> None:
    shown = Shown(D)
    answers = [shown.first(id_, sent_s) for id_, sent_s in came]
    assert answers == [
        id_ not in [other for other, _ in came[:i]] for i, (id_, _) in enumerate(came)
    ]


def test_it_is_known_until_no_window_can_hold_it() -> None:
    shown = Shown(D)
    assert shown.first(b"a", sent(10))
    shown.caught(0)
    shown.caught(10)
    assert not shown.first(b"a", sent(10)), "window 10 is not sealed yet, and may hold it"
    shown.caught(11)
    assert ids(shown) == []


def test_the_oldest_are_forgotten_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_SHOWN_IDS", 3)
    shown = Shown(D)
    for id_ in (b"a", b"b", b"c", b"d"):
        assert shown.first(id_, 0)
    assert ids(shown) == [b"b", b"c", b"d"]


class TestPlace:
    def test_what_was_shown_is_known_after_a_restart(self, place: Place) -> None:
        place.add_shown(b"\1" * 32, 5)
        place.add_shown(b"\2" * 32, 2**32 - 1)
        assert list(place.shown()) == [(b"\1" * 32, 5), (b"\2" * 32, 2**32 - 1)]
        place.keep_shown(Shown(D, [(b"\2" * 32, 7)]))
        assert list(place.shown()) == [(b"\2" * 32, 7)]

    @pytest.mark.parametrize("cut", range(1, 67))
    def test_a_line_that_a_crash_cut_short_spoils_no_other(self, place: Place, cut: int) -> None:
        place.add_shown(b"\1" * 32, 5)
        place.add_shown(b"\2" * 32, 6)
        file = place.shown_file
        file.write_bytes(file.read_bytes()[:-cut])
        known = Shown(D, place.shown())
        place.keep_shown(known)
        place.add_shown(b"\3" * 32, 7)
        found = [id_ for id_, _ in place.shown()]
        assert found in ([b"\1" * 32, b"\3" * 32], [b"\1" * 32, b"\2" * 32, b"\3" * 32])

    @pytest.mark.parametrize("junk", [b"x", b"\xff" * 500, b"01 2 3\n", b"zz 5\n", b"\n" * 9])
    def test_junk_is_passed_over(self, place: Place, junk: bytes) -> None:
        place.shown_file.write_bytes(junk + b"\n" + b"%s 5\n" % (b"01" * 32))
        assert (b"\1" * 32, 5) in list(place.shown())

    def test_forgetting_takes_both(self, place: Place) -> None:
        place.write(3, None)
        place.add_shown(b"\1" * 32, 5)
        place.forget()
        assert place.read() is None
        assert empty(place.shown())


def empty(items: Iterable[object]) -> bool:
    return not list(items)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place.json")
