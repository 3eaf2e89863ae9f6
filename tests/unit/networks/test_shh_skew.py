"""Whether our clock is off: what ages and words prove, and what one liar cannot."""

import pytest

from restante import limits
from restante.networks.whisper import skew
from restante.networks.whisper.skew import Skew, Witness

NOW = 1_000.0
LATER = NOW + limits.SKEW_FRESH_AFTER_S
MOMENT = limits.SKEW_MOMENT_S
END = LATER + 60.0


def witness(
    *ages: float, in_time: bool = True, at: float = LATER, apart: float = MOMENT
) -> Witness:
    one = Witness(NOW)
    for number, age in enumerate(ages):
        one.saw(age, in_time, at + number * apart)
    return one


def judged(*witnesses: Witness, now_s: float = END) -> Skew:
    return skew.judge(witnesses, now_s)


def test_nobody_says_nothing() -> None:
    assert judged() == Skew(None, 0, 0, 0)
    assert not judged().seems_off


def test_ages_of_a_right_clock() -> None:
    assert judged(witness(0.2, 0.9, 1.4, 0.3, 30.0, 0.7, -1.0, 5.5)).off_s is None


def test_a_clock_that_is_ahead() -> None:
    found = judged(witness(31.0, 30.2, 33.0, 60.0, 30.4))
    assert found == Skew(30.4, 5, 1, 0, agreed=True)
    assert found.seems_off


def test_a_clock_that_is_behind() -> None:
    assert judged(witness(-9.0, -8.1, -8.5, -9.5, 3.0)) == Skew(-8.5, 5, 1, 0, agreed=True)


def test_few_ages_prove_nothing() -> None:
    assert judged(witness(*[60.0] * (limits.SKEW_MIN_AGES - 1))).off_s is None


def test_some_authors_that_are_ahead_are_not_our_fault() -> None:
    assert judged(witness(-9.0, -9.0, 0.1, 0.2, 0.3, 0.4)).off_s is None


def test_old_envelopes_of_some_authors_are_not_our_fault() -> None:
    assert judged(witness(20.0, 25.0, 0.3, 19.0, 0.4, 1.0)).off_s is None


def test_what_a_peer_brings_at_first_is_its_old_pool() -> None:
    assert judged(witness(*[40.0] * 10, at=LATER - 0.1, apart=0.0)) == Skew(None, 0, 0, 0)


def test_one_liar_among_three_convinces_nobody() -> None:
    liar, honest = witness(*[60.0] * 30), [witness(*[0.5] * 5) for _ in range(2)]
    assert judged(liar, *honest).off_s is None


def test_old_ages_are_forgotten() -> None:
    one = witness(*[60.0] * limits.SKEW_MIN_AGES)
    assert judged(one, now_s=LATER + limits.SKEW_MEMORY_S).off_s is not None
    assert judged(one, now_s=LATER + limits.SKEW_MEMORY_S + 1).off_s is None


# --- old envelopes, by an honest peer or another ----------------------------------------------

OLD = [5.5, 20.0, 77.0, 125.0, 300.0, 600.0]


@pytest.mark.parametrize("old_s", OLD)
def test_what_a_peer_brings_in_one_go_is_one_age(old_s: float) -> None:
    """Its own links were cut for so long, and it heals: a tick or three, then what is fresh."""
    burst = [old_s * (1 + number / 1000) for number in range(40)]
    one = witness(*burst, apart=MOMENT / 50)
    assert judged(one) == Skew(None, 0, 0, 0)
    for number in range(limits.SKEW_MIN_AGES):
        one.saw(0.5, True, LATER + (2 + number) * MOMENT)
        assert judged(one).off_s is None
    assert judged(one).peers == 1


@pytest.mark.parametrize("old_s", OLD)
def test_a_peer_that_brings_old_ones_for_long_is_refuted_by_one_fresh_one(old_s: float) -> None:
    """It is behind a slow link, and alone: then nothing tells it from a clock that is ahead."""
    one = witness(*[old_s] * 10)
    assert judged(one) == Skew(old_s, 10, 1, 0, agreed=True)
    one.saw(1.0, True, LATER + 10 * MOMENT)
    assert judged(one).off_s is None


@pytest.mark.parametrize("old_s", [*OLD, -5.0, -60.0])
@pytest.mark.parametrize("fresh", [1, limits.SKEW_MIN_AGES, 30])
def test_one_liar_and_one_that_is_fresh(old_s: float, fresh: int) -> None:
    liar, honest = witness(*[old_s] * 30), witness(*[0.5] * fresh)
    for pair in ((liar, honest), (honest, liar)):
        found = judged(*pair)
        assert found.off_s is None
        assert not found.agreed


@pytest.mark.parametrize("off_s", [60.0, -60.0])
def test_what_is_sent_depends_on_nothing_that_one_peer_denies(off_s: float) -> None:
    two, fresh = [witness(*[off_s] * 30) for _ in range(2)], witness(0.5)
    assert judged(*two) == Skew(off_s, 60, 2, 0, agreed=True)
    # The operator looks into it at no cost; it would stop relaying.
    assert judged(*two, fresh) == Skew(off_s, 60, 2, 0, agreed=False)


@pytest.mark.parametrize("off_s", [60.0, -60.0])
def test_what_is_sent_depends_on_nothing_that_half_of_the_peers_say(off_s: float) -> None:
    one, silent = witness(*[off_s] * 30), witness()
    assert judged(one, silent) == Skew(off_s, 30, 1, 0, agreed=False)
    other = witness(*[off_s] * 30)
    assert judged(one, other, silent).agreed


@pytest.mark.parametrize("off_s", [12.0, 60.0, -12.0, -60.0])
def test_a_clock_that_is_off_shows_in_all_that_all_bring(off_s: float) -> None:
    """Delays of gossip, some old ones, authors a few seconds apart: the operator is told."""
    ages = [0.3, 1.2, -2.0, 0.8, 2.0, 30.0, 0.1, 1.9, -1.0, 0.6]
    found = judged(*[witness(*[off_s + age for age in ages]) for _ in range(3)])
    assert found.off_s == pytest.approx(off_s, abs=2.0)
    assert found.agreed


# --- peers' words -----------------------------------------------------------------------------


def complaining(count: int) -> list[Witness]:
    found = [witness() for _ in range(count)]
    for one in found:
        one.complained(NOW)
        one.complained(NOW + 1)
    return found


def test_peers_words_are_counted_by_peer_and_forgotten() -> None:
    two = complaining(2)
    assert judged(*two, witness()) == Skew(None, 0, 0, 2, blamed=True)
    assert judged(*two, witness()).seems_off
    assert not judged(*two, now_s=NOW + limits.SKEW_MEMORY_S + 2).seems_off


@pytest.mark.parametrize(("complain", "silent"), [(1, 0), (1, 1), (2, 2), (2, 5), (10, 10)])
def test_one_peers_word_and_a_minoritys_convince_nobody(complain: int, silent: int) -> None:
    found = judged(*complaining(complain), *[witness() for _ in range(silent)])
    assert found == Skew(None, 0, 0, complain)
    assert not found.seems_off


def test_others_vouch_for_our_clock_by_what_is_fresh() -> None:
    assert skew.vouched([witness(*[0.5] * 5)], END)
    assert not skew.vouched([witness(*[0.5] * 4)], END)
    assert not skew.vouched([], LATER)
    # A long TTL passes with a clock that is 40 s ahead, too.
    assert not skew.vouched([witness(*[40.0] * 30)], END)


def test_others_that_are_out_of_time_themselves_do_not_vouch() -> None:
    fresh, late = witness(*[0.5] * 6), witness(*[40.0] * 3, in_time=False)
    assert not skew.vouched([fresh, late], END)
    assert skew.vouched([fresh, witness(40.0, in_time=False)], END)
