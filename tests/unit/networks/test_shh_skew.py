"""Whether our clock is off: what ages and words prove, and what one liar cannot."""

from restante import limits
from restante.networks.whisper import skew
from restante.networks.whisper.skew import Skew, Witness

NOW = 1_000.0
LATER = NOW + limits.SKEW_FRESH_AFTER_S


def witness(*ages: float, in_time: bool = True, at: float = LATER) -> Witness:
    one = Witness(NOW)
    for age in ages:
        one.saw(age, in_time, at)
    return one


def judged(*witnesses: Witness, now_s: float = LATER) -> Skew:
    return skew.judge(witnesses, now_s)


def test_nobody_says_nothing() -> None:
    assert judged() == Skew(None, 0, 0, 0)
    assert not judged().seems_off


def test_ages_of_a_right_clock() -> None:
    assert judged(witness(0.2, 0.9, 1.4, 0.3, 30.0, 0.7, -1.0, 5.5)).off_s is None


def test_a_clock_that_is_ahead() -> None:
    found = judged(witness(31.0, 30.2, 33.0, 60.0, 30.4))
    assert found == Skew(30.4, 5, 1, 0)
    assert found.seems_off


def test_a_clock_that_is_behind() -> None:
    assert judged(witness(-9.0, -8.1, -8.5, -9.5, 3.0)).off_s == -8.5


def test_few_ages_prove_nothing() -> None:
    assert judged(witness(*[60.0] * (limits.SKEW_MIN_AGES - 1))).off_s is None


def test_some_authors_that_are_ahead_are_not_our_fault() -> None:
    assert judged(witness(-9.0, -9.0, 0.1, 0.2, 0.3, 0.4)).off_s is None


def test_old_envelopes_of_some_authors_are_not_our_fault() -> None:
    assert judged(witness(20.0, 25.0, 0.3, 19.0, 0.4, 1.0)).off_s is None


def test_what_a_peer_brings_at_first_is_its_old_pool() -> None:
    assert judged(witness(*[40.0] * 10, at=LATER - 0.1)).off_s is None


def test_one_liar_among_three_convinces_nobody() -> None:
    liar, honest = witness(*[60.0] * 30), [witness(*[0.5] * 5) for _ in range(2)]
    assert judged(liar, *honest).off_s is None


def test_old_ages_are_forgotten() -> None:
    one = witness(*[60.0] * 10)
    assert judged(one, now_s=LATER + limits.SKEW_MEMORY_S).off_s is not None
    assert judged(one, now_s=LATER + limits.SKEW_MEMORY_S + 1).off_s is None


def test_peers_words_are_counted_by_peer_and_forgotten() -> None:
    one, other = witness(), witness()
    one.complained(NOW)
    one.complained(NOW + 1)
    assert judged(one, other) == Skew(None, 0, 0, 1)
    assert judged(one, other).seems_off
    assert not judged(one, other, now_s=NOW + limits.SKEW_MEMORY_S + 2).seems_off


def test_others_vouch_for_our_clock_by_what_is_fresh() -> None:
    assert skew.vouched([witness(*[0.5] * 5)], LATER)
    assert not skew.vouched([witness(*[0.5] * 4)], LATER)
    assert not skew.vouched([], LATER)
    # A long TTL passes with a clock that is 40 s ahead, too.
    assert not skew.vouched([witness(*[40.0] * 30)], LATER)


def test_others_that_are_out_of_time_themselves_do_not_vouch() -> None:
    fresh, late = witness(*[0.5] * 6), witness(*[40.0] * 3, in_time=False)
    assert not skew.vouched([fresh, late], LATER)
    assert skew.vouched([fresh, witness(40.0, in_time=False)], LATER)
