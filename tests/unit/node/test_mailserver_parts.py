"""The mail server's parts alone: topic book, stalls, requests that wait."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.networks.whisper import bloom
from restante.networks.whisper.mail_request import MailRequest
from restante.node.mailserver.stalls import MARGIN_S, Stalls
from restante.node.mailserver.topics import TopicBook
from restante.node.mailserver.waiting import Job, WaitingRequests
from restante.testing.archive_fixture import make_set

D = make_set().descriptor
SET = D.set_id
DAY = limits.MAIL_CHAPTER_WINDOWS
ONE, OTHER = bytes.fromhex("5a4ea131"), bytes.fromhex("9c22ff5f")
AFFECTED = bytes.fromhex("1716941b")


def book(tmp_path, **options):
    return TopicBook(tmp_path / "topics.json", SET, **options)


# --- the topic book -------------------------------------------------------------------------------


def test_a_filter_becomes_topics_of_its_days(tmp_path):
    known = book(tmp_path)
    known.begin(DAY)
    known.learn(range(DAY, DAY + 10), [(DAY, ONE), (DAY + 1, ONE), (DAY + 2, OTHER)])
    known.learn(range(DAY - 5, DAY), [(DAY - 1, AFFECTED)])
    assert known.knows(range(DAY - 5, DAY + 10))
    assert not known.knows(range(DAY - 6, DAY))
    assert not known.knows(range(DAY, DAY + 11))
    assert known.matching(bloom.FULL, range(DAY - 5, DAY + 1)).topics == (AFFECTED, ONE, OTHER)
    found = known.matching(bloom.of_topics([ONE]), range(DAY, DAY + 1))
    assert found.topics == (ONE,)
    assert found.share == pytest.approx(2 / 3)
    assert known.matching(bloom.of_topics([ONE]), range(DAY - 5, DAY)).topics == ()
    # A filter of geth's lacks a bit of this topic; the envelope is tested by the bits left.
    assert known.matching(bloom.sample(AFFECTED), range(DAY - 5, DAY)).topics == (AFFECTED,)
    assert known.matching(0, range(DAY)).topics == ()


def test_only_neighbours_are_learnt(tmp_path):
    known = book(tmp_path)
    known.begin(100)
    for windows in (range(101, 110), range(90, 99), range(95, 105)):
        with pytest.raises(ValueError):
            known.learn(windows, [])


def test_whole_days_are_forgotten_and_not_spoken_of(tmp_path):
    known = book(tmp_path, most=5)
    known.begin(2 * DAY)
    known.learn(range(DAY, 2 * DAY), [(DAY + i, bytes([i]) * 4) for i in range(3)])
    known.learn(range(2 * DAY, 3 * DAY), [(2 * DAY, bytes([9, i, 0, 0])) for i in range(3)])
    assert (known.low, known.high, known.full, len(known)) == (2 * DAY, 3 * DAY, True, 3)
    assert not known.knows(range(2 * DAY - 1, 2 * DAY + 1))
    # A day that alone has too many leaves nothing, and is not read again and again.
    known.learn(range(3 * DAY, 3 * DAY + 9), [(3 * DAY, bytes([8, i, 0, 0])) for i in range(6)])
    assert known.low == known.high == 3 * DAY + 9
    known.begin(3 * DAY + 20)
    assert known.full
    assert len(known) == 0


def test_its_file(tmp_path):
    known = book(tmp_path)
    known.begin(50)
    known.learn(range(40, 50), [(41, ONE), (42, OTHER)])
    known.save()
    again = book(tmp_path)
    assert (again.low, again.high, len(again), again.full) == (40, 50, 2, False)
    assert again.matching(bloom.FULL, range(40, 50)) == known.matching(bloom.FULL, range(40, 50))
    assert len(TopicBook(tmp_path / "topics.json", b"s" * 32)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"low": 51},
        {"low": -1},
        {"high": "x"},
        {"days": []},
        {"days": {"0": {"5a4e": 1}}},
        {"days": {"0": {"zz": 1}}},
        {"days": {"0": 7}},
        {"set": 5},
    ],
)
def test_a_file_that_is_not_right_is_as_good_as_none(tmp_path, change):
    known = book(tmp_path)
    known.begin(50)
    known.learn(range(40, 50), [(41, ONE)])
    known.save()
    path = tmp_path / "topics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert book(tmp_path).low == book(tmp_path).high == 0
    for data in (b"", b"[" * 100_000, b"null", b"\xff"):
        path.write_bytes(data)
        assert len(book(tmp_path)) == 0


# --- stalls ---------------------------------------------------------------------------------------


def ordinary(then_s):
    return max(0, D.window_of((then_s - MARGIN_S) * 1000))


def test_ordinarily_a_margin_is_enough(tmp_path):
    stalls = Stalls(tmp_path / "stalls", D)
    for window in range(5, 50):
        stalls.note(D.start_s(window), window - 1)
    assert len(stalls) == 0
    assert not (tmp_path / "stalls").exists()
    for then_s in (0, D.start_s(0), D.start_s(30) + 7):
        assert stalls.not_yet_at(then_s) == ordinary(then_s)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_no_window_that_was_not_served_is_left_out(tmp_path_factory, steps):
    """Whatever the index did: at each time, what a request then was not answered from is late."""
    stalls = Stalls(tmp_path_factory.mktemp("stalls") / "stalls", D)
    size, sizes = 20, {}
    for i, step in enumerate(steps):
        now_s = D.start_s(20) + 30 * i
        size = min(size + step, D.window_of(now_s * 1000))
        stalls.note(now_s, size)
        sizes[now_s] = size
    for then_s, served in sizes.items():
        assert stalls.not_yet_at(then_s) <= served


def test_they_outlive_a_restart_and_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAIL_STALLS", 3)
    stalls = Stalls(tmp_path / "stalls", D)
    for i in range(10):
        stalls.note(D.start_s(50 + i), 20 + i)
    again = Stalls(tmp_path / "stalls", D)
    assert len(again) == len(stalls) == 3
    assert again.not_yet_at(D.start_s(59)) == stalls.not_yet_at(D.start_s(59)) <= 29
    for data in (b"", b"{}", b"[[1]]", b"[1]", b"\xff", b"[" * 100_000):
        (tmp_path / "stalls").write_bytes(data)
        assert len(Stalls(tmp_path / "stalls", D)) == 0


# --- requests that wait ---------------------------------------------------------------------------


@dataclass
class Peer:
    node_id: bytes
    address: str = "192.0.2.1:1"
    backlog_bytes: int = 0
    gone: bool = False

    def send(self, code, payload):
        raise AssertionError("who waits is not answered")


def job(peer, source="a", limit=1):
    return Job(Peer(bytes([peer])), source, MailRequest(b"r" * 32, 0, 1, 0, limit=limit))


def test_who_has_not_read_its_last_answer_waits_for_its_own_reading():
    waiting = WaitingRequests()
    slow, other = job(1), job(2)
    slow.peer.backlog_bytes = limits.MAIL_BACKLOG_BYTES
    assert all(map(waiting.put, (slow, other)))
    assert waiting.take() is other
    assert waiting.take() is None
    slow.peer.backlog_bytes //= 2
    assert waiting.take() is slow
    waiting.put(gone := job(3))
    gone.peer.backlog_bytes, gone.peer.gone = limits.MAIL_BACKLOG_BYTES, True
    assert waiting.take() is gone, "to be forgotten"


def test_in_turn_and_one_of_a_peer():
    waiting = WaitingRequests()
    first, second, other = job(1), job(1), job(2)
    assert all(map(waiting.put, (first, second, other)))
    assert waiting.take() is first
    assert waiting.take() is other
    assert waiting.take() is None
    waiting.done(first)
    assert waiting.take() is second
    assert len(waiting) == 0
    assert waiting.running == 2


def test_bounds_of_what_waits():
    waiting = WaitingRequests()
    assert sum(waiting.put(job(1)) for _ in range(100)) == limits.MAIL_QUEUE_PER_PEER
    own = sum(waiting.put(job(n)) for n in range(2, 200)) + limits.MAIL_QUEUE_PER_PEER
    assert own == limits.MAIL_QUEUE_PER_ADDRESS
    for n in range(2, 250):
        for i in range(4):
            waiting.put(job(n, f"{n % 30} {i}"))
    assert len(waiting) == limits.MAIL_QUEUE


def test_bounds_of_what_runs():
    waiting = WaitingRequests()
    for n in range(20):
        waiting.put(job(n, "one"))
        waiting.put(job(100 + n, f"b{n}", None))
        waiting.put(job(200 + n, f"c{n}"))
    running = []
    while (taken := waiting.take()) is not None:
        running.append(taken)
    assert len(running) == limits.MAIL_RUNNING
    for each in running:
        waiting.done(each)
    only = WaitingRequests()
    for n in range(20):
        only.put(job(n, "one"))
        only.put(job(100 + n, f"b{n}", None))
    kinds = []
    while (taken := only.take()) is not None:
        kinds.append(taken)
    assert sum(each.source == "one" for each in kinds) == limits.MAIL_RUNNING_PER_ADDRESS
    assert sum(each.request.limit is None for each in kinds) == limits.MAIL_RUNNING_UNPAGED
    # No address or peer that is done is remembered.
    for each in kinds:
        only.done(each)
    assert only.running == 0
