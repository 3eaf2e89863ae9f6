"""Mining finds what R0 takes, tells how far it is, and can be stopped."""

import pytest

from restante.formats import whisper
from restante.networks.keccak import keccak256
from restante.networks.whisper import mine
from restante.rules import valid

NOW_S = 1_800_000_000


def test_finds_the_lowest_nonce_that_passes_the_floor() -> None:
    fields = (NOW_S + 1, 1, b"abcd", b"hello")
    nonce = mine.mine(*fields, 1_000_000)
    for tried in range(nonce + 1):
        raw = whisper.assemble(*fields, tried)
        found = whisper.scan(raw)
        zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
        assert whisper.has_work(zeros, len(found.work), 1, 1_000_000) == (tried == nonce)


def test_what_was_mined_is_accepted_at_once() -> None:
    fields = (NOW_S + 20, 20, b"abcd", bytes(284))
    nonce = mine.mine(*fields, valid.DEFAULTS.pow_floor_millionths)
    raw = whisper.assemble(*fields, nonce)
    facts = valid.receive(raw, NOW_S * 1000, valid.DEFAULTS, keccak256)
    assert facts.sent_s == NOW_S


def test_a_floor_of_nothing_takes_the_first_nonce() -> None:
    assert mine.mine(NOW_S, 1, b"abcd", b"", 0) == 0
    assert mine.mine(NOW_S, 1, b"abcd", b"", 0, first_nonce=7) == 7


def test_reports_progress_and_stops_when_told() -> None:
    reports: list[mine.Progress] = []

    def report(progress: mine.Progress) -> bool:
        reports.append(progress)
        return len(reports) < 3

    with pytest.raises(mine.NotMined) as caught:
        mine.mine(NOW_S, 300, b"abcd", bytes(1000), 10**12, progress=report)
    assert [progress.tries for progress in reports] == [
        mine.TRIES_PER_REPORT * count for count in (1, 2, 3)
    ]
    expected = mine.expected_hashes(NOW_S, 300, b"abcd", bytes(1000), 10**12)
    assert {progress.expected for progress in reports} == {expected}
    assert expected >= 300 * 1000 * 10**6
    assert caught.value.code == "not-mined"


def test_gives_up_in_time() -> None:
    with pytest.raises(mine.NotMined):
        mine.mine(NOW_S, 300, b"abcd", bytes(1000), 10**12, timeout_s=0)


def test_ctrl_c_is_not_swallowed() -> None:
    def interrupt(progress: mine.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine.mine(NOW_S, 300, b"abcd", bytes(1000), 10**12, progress=interrupt)
