"""Outsiders' turns: bounded, fair by address and key, and cheap for copies."""

import pytest

from restante import limits
from restante.formats.message import Answer
from restante.node.wire.quota import Queue, Rate, Waiting, WindowQuota


def item(address: str, key: str = "k", work: str = "", size: int = 1) -> Waiting[str]:
    return Waiting(address, key.encode(), size, work)


def drain(queue: Queue[str]) -> list[str]:
    out = []
    while (found := queue.get()) is not None:
        out.append(found.work)
    return out


def test_addresses_take_turns_then_keys() -> None:
    queue: Queue[str] = Queue()
    for work in ("a1", "a2", "a3"):
        queue.put(item("a", "k1", work))
    queue.put(item("a", "k2", "a-other-key"))
    queue.put(item("b", "k1", "b1"))
    assert drain(queue) == ["a1", "b1", "a-other-key", "a2", "a3"]
    assert len(queue) == 0


def test_one_address_has_a_bounded_share() -> None:
    queue: Queue[str] = Queue()
    dropped = []
    for number in range(limits.OUTSIDER_QUEUE_PER_ADDRESS + 5):
        dropped += queue.put(item("a", f"k{number}", str(number)))
    assert len(queue) == limits.OUTSIDER_QUEUE_PER_ADDRESS
    assert len(dropped) == 5
    assert queue.put(item("b", "k", "b")) == []


def test_a_full_queue_makes_room_at_whoever_has_most() -> None:
    queue: Queue[str] = Queue()
    hoarders = limits.OUTSIDER_QUEUE // limits.OUTSIDER_QUEUE_PER_ADDRESS
    for hoarder in range(hoarders):
        for number in range(limits.OUTSIDER_QUEUE_PER_ADDRESS):
            queue.put(item(f"h{hoarder}", "k", f"h{hoarder}-{number}"))
    assert len(queue) == limits.OUTSIDER_QUEUE
    dropped = queue.put(item("newcomer", "k", "mine"))
    assert [d.address[0] for d in dropped] == ["h"]
    # The newcomer is heard in the first round of turns.
    first = [queue.get() for _ in range(hoarders + 1)]
    assert "mine" in [each.work for each in first if each is not None]


def test_bytes_are_bounded_too() -> None:
    queue: Queue[str] = Queue()
    half = limits.OUTSIDER_QUEUE_BYTES // 2
    assert queue.put(item("a", "k", "1", half)) == []
    assert queue.put(item("a", "k", "2", half)) == []
    dropped = queue.put(item("b", "k", "3", half))
    assert [d.work for d in dropped] == ["2"]


@pytest.mark.parametrize("seed", range(20))
def test_counts_and_bytes_always_agree_with_what_comes_out(seed: int) -> None:
    import random

    rng = random.Random(seed)
    queue: Queue[str] = Queue()
    inside = 0
    for number in range(600):
        if rng.random() < 0.7:
            address, key = rng.choice("abcdefghijklmnop"), rng.choice("xyz")
            inside += 1 - len(queue.put(item(address, key, str(number), rng.randrange(2**20))))
        elif queue.get() is not None:
            inside -= 1
        assert len(queue) == inside
    assert len(drain(queue)) == inside
    assert queue._bytes == 0
    assert not queue._by_address


def test_a_wrong_cid_bars_its_key_and_its_address_for_the_window() -> None:
    quota = WindowQuota(7)
    wrong = Answer.invalid(code="cid")
    quota.judged("a", b"k", b"digest", wrong, 1)
    assert quota.refusal("a", b"other") is not None
    assert quota.refusal("b", b"k") is not None
    assert quota.refusal("b", b"other") is None
    assert WindowQuota(8).refusal("a", b"k") is None


def test_builds_are_bounded_for_each_address_and_in_all() -> None:
    quota = WindowQuota(0)
    accept = Answer.accept(b"1234", b"s" * 64)
    for number in range(limits.OUTSIDER_BUILDS_PER_ADDRESS):
        assert quota.may_build("a")
        quota.judged("a", b"k", b"%d" % number, accept, 1)
    assert not quota.may_build("a")
    assert quota.may_build("b")
    for number in range(limits.OUTSIDER_BUILDS):
        quota.judged(f"address {number}", b"k", b"x%d" % number, accept, 1)
    assert not quota.may_build("yet another")


def test_a_repetition_costs_one_look_up() -> None:
    quota = WindowQuota(0)
    accept = Answer.accept(b"1234", b"s" * 64)
    quota.judged("a", b"k", b"same", accept, 1)
    assert quota.known(b"same") == accept
    # What may change is asked again.
    quota.judged("a", b"k", b"later", Answer.not_yet(100), 0)
    assert quota.known(b"later") is None
    for number in range(limits.OUTSIDER_ANSWERS):
        quota.judged("a", b"k", b"%d" % number, accept, 0)
    assert quota.known(b"same") is None


def test_too_many_unknown_bodies_are_refused() -> None:
    quota = WindowQuota(0)
    few = Answer.need([b"i" * 32])
    assert quota.judged("a", b"k", b"1", few, 0) == few
    ids = [number.to_bytes(32, "big") for number in range(limits.OUTSIDER_UNKNOWN_IDS + 1)]
    told = quota.judged("a", b"k", b"2", Answer.need(ids), 0)
    assert (told.kind, told.code) == ("refused", "too-many-unknown")


def test_a_source_has_a_burst_and_then_a_rate() -> None:
    rate = Rate(per_s=2, burst=3, sources=2)
    assert [rate.take("a", 10.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 10.0)
    assert [rate.take("a", 10.5) for _ in range(2)] == [True, False]
    assert [rate.take("a", 99.0) for _ in range(4)] == [True, True, True, False]
