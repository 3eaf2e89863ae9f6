"""Only an interval that lies wholly outside N/30 takes trust away."""

from restante.node.wire.skew import Offset, Offsets


def offsets(*intervals: tuple[int, int]) -> Offsets:
    made = Offsets(30)
    for number, (least, greatest) in enumerate(intervals):
        made.note(f"v{number}", Offset(least, greatest))
    return made


def test_without_peers_the_clock_is_trusted() -> None:
    assert offsets().trusted
    assert offsets().median() is None


def test_an_interval_that_touches_the_bound_is_trusted() -> None:
    assert offsets((1000, 1200), (1000, 1200), (1000, 1200)).trusted
    assert offsets((-1300, -1000), (-1300, -1000), (-1300, -1000)).trusted


def test_a_whole_interval_outside_is_not() -> None:
    assert not offsets((1001, 1200), (1001, 1200), (1001, 1200)).trusted
    assert not offsets((-1300, -1001), (-1300, -1001), (-1300, -1001)).trusted


def test_a_slow_network_proves_nothing() -> None:
    assert offsets((-20_000, 25_000), (-20_000, 25_000), (-20_000, 25_000)).trusted


def test_one_liar_among_three_does_not_silence() -> None:
    assert offsets((900_000, 900_001), (0, 10), (-5, 5)).trusted


def test_who_does_not_answer_says_nothing() -> None:
    made = offsets((5000, 5001), (5000, 5001), (5000, 5001))
    assert not made.trusted
    for number in range(3):
        made.forget(f"v{number}")
    assert made.trusted


def test_a_measurement_bounds_the_offset() -> None:
    # Sent at 100, the peer said 500 in between, received at 140: 360…400 ahead.
    assert Offset.measured(100, 140, 500) == Offset(360, 400)
