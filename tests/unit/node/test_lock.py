"""The lock state: written once, never otherwise, and only opened by its own key."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restante.errors import StateError
from restante.node.durable.lock import Cosignature, Decision, Lock
from restante.testing.faults import FailAt, InjectedFault, Recorder

SET, KEY = b"S" * 32, b"KEY1"
ROOT, OTHER_ROOT = b"r" * 32, b"o" * 32
CID, OTHER_CID = b"c" * 36, b"d" * 36


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Lock]:
    lock = Lock.create(tmp_path / "lock", SET, KEY)
    yield lock
    lock.close()


def reopen(lock: Lock, tmp_path: Path) -> Lock:
    lock.close()
    return Lock.open(tmp_path / "lock", SET, KEY)


def refused(call: Callable[[], object], code: str) -> None:
    with pytest.raises(StateError) as caught:
        call()
    assert caught.value.code == code


def decide(lock: Lock, window: int, cid: bytes = CID) -> None:
    lock.decide(window, window + 5, cid, b"certificate %d" % window, b"entry %d" % window)


def test_create_and_open_are_different(tmp_path: Path) -> None:
    refused(lambda: Lock.open(tmp_path, SET, KEY), "lock-missing")
    assert list(tmp_path.iterdir()) == []
    lock = Lock.create(tmp_path, SET, KEY)
    refused(lambda: Lock.create(tmp_path, SET, KEY), "lock-exists")
    refused(lambda: Lock.open(tmp_path, SET, KEY), "lock-busy")
    lock.close()
    refused(lambda: Lock.create(tmp_path, SET, KEY), "lock-exists")
    refused(lambda: Lock.open(tmp_path, b"T" * 32, KEY), "lock-mismatch")
    refused(lambda: Lock.open(tmp_path, SET, b"KEY2"), "lock-mismatch")
    Lock.open(tmp_path, SET, KEY).close()


def test_a_newer_version_and_damage_are_named(tmp_path: Path) -> None:
    Lock.create(tmp_path, SET, KEY).close()
    path = tmp_path / "lock.db"
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = 3 WHERE name = 'version'")
    db.commit()
    db.close()
    refused(lambda: Lock.open(tmp_path, SET, KEY), "lock-version")
    path.write_bytes(b"rubbish" * 1_000)
    refused(lambda: Lock.open(tmp_path, SET, KEY), "lock-damaged")
    path.write_bytes(b"")
    refused(lambda: Lock.open(tmp_path, SET, KEY), "lock-damaged")


def test_every_commit_waits_for_the_disk(lock: Lock) -> None:
    assert lock._one("PRAGMA synchronous") == (2,)
    assert lock._one("PRAGMA journal_mode") == ("wal",)


def test_freeze_never_changes(lock: Lock, tmp_path: Path) -> None:
    lock.freeze(4, 100)
    lock.freeze(3, 90)
    lock.freeze(4, 100)
    refused(lambda: lock.freeze(4, 101), "freeze-changed")
    again = reopen(lock, tmp_path)
    refused(lambda: again.freeze(4, 101), "freeze-changed")
    assert list(again.freezes().items()) == [(3, 90), (4, 100)]
    again.close()


def test_accepts_are_kept_each(lock: Lock, tmp_path: Path) -> None:
    for cid in (OTHER_CID, CID, CID):
        lock.accept(4, 4, ROOT, cid)
    lock.accept(4, 4, OTHER_ROOT, CID, ((0, 3), (7, 2**40)))
    lock.accept(5, 5, ROOT, CID)
    lock = reopen(lock, tmp_path)
    assert lock.accepts(4) == [
        (4, 4, OTHER_ROOT, CID, ((0, 3), (7, 2**40))),
        (4, 4, ROOT, CID, ()),
        (4, 4, ROOT, OTHER_CID, ()),
    ]
    assert lock.accepts(3) == []
    lock.close()


def test_windows_are_decided_in_sequence_and_once(lock: Lock, tmp_path: Path) -> None:
    refused(lambda: decide(lock, 1), "decision-order")
    for window in range(5):
        assert lock.size() == window
        decide(lock, window)
        decide(lock, window)
        refused(lambda window=window: decide(lock, window, OTHER_CID), "decision-changed")
    refused(lambda: decide(lock, 6), "decision-order")
    lock = reopen(lock, tmp_path)
    assert lock.size() == 5
    assert [d.window for d in lock.decisions(2, 2)] == [2, 3]
    assert lock.decision(1) == Decision(1, 6, CID, b"certificate 1", b"entry 1")
    assert lock.decision(5) is None
    lock.close()


def test_a_successor_counts_from_its_first_window(tmp_path: Path) -> None:
    lock = Lock.create(tmp_path, SET, KEY, first_window=70)
    assert lock.size() == 0
    refused(lambda: decide(lock, 0), "decision-changed")
    refused(lambda: decide(lock, 69), "decision-changed")
    decide(lock, 70)
    assert lock.size() == 1
    lock.close()


def test_the_engine_neither_goes_back_nor_changes(lock: Lock, tmp_path: Path) -> None:
    assert lock.engine_at() == (0, b"")
    lock.advance_engine(0, b"")
    lock.advance_engine(7, b"h" * 32)
    lock.advance_engine(7, b"h" * 32)
    lock = reopen(lock, tmp_path)
    assert lock.engine_at() == (7, b"h" * 32)
    refused(lambda: lock.advance_engine(6, b"g" * 32), "engine-behind")
    refused(lambda: lock.advance_engine(7, b"g" * 32), "engine-differs")
    lock.advance_engine(9, b"i" * 32)
    assert lock.engine_at() == (9, b"i" * 32)
    lock.close()


def test_a_tree_is_cosigned_once(lock: Lock, tmp_path: Path) -> None:
    assert lock.newest_cosignature() is None
    assert lock.cosign(3, ROOT, b"line at noon") == b"line at noon"
    assert lock.cosign(3, ROOT, b"line a second later") == b"line at noon"
    lock = reopen(lock, tmp_path)
    refused(lambda: lock.cosign(3, OTHER_ROOT, b"x"), "double-cosign")
    refused(lambda: lock.cosign(2, ROOT, b"x"), "cosign-behind")
    assert lock.newest_cosignature() == Cosignature(3, ROOT, b"line at noon")
    lock.cosign(8, ROOT, b"eight")
    assert lock.cosign(3, ROOT, b"again") == b"line at noon"
    assert [c.size for c in lock.cosignatures()] == [3, 8]
    assert [c.size for c in lock.cosignatures(4)] == [8]
    assert lock.cosignature(5) is None
    lock.close()


def test_one_transaction_is_one_commit(tmp_path: Path) -> None:
    hook = Recorder()
    lock = Lock.create(tmp_path, SET, KEY, hook=hook)
    hook.steps.clear()
    with lock.transaction():
        for window in range(256):
            decide(lock, window)
            lock.advance_engine(window + 5, b"h" * 32)
    assert hook.steps == ["lock.transaction.before", "lock.transaction.after"]
    lock.close()


def test_a_transaction_that_fails_leaves_nothing(lock: Lock) -> None:
    decide(lock, 0)

    def group() -> None:
        with lock.transaction():
            decide(lock, 1)
            lock.freeze(9, 9)
            decide(lock, 5)

    refused(group, "decision-order")
    assert lock.size() == 1
    assert lock.freezes() == {}
    decide(lock, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_at_the_commit(tmp_path: Path, when: str) -> None:
    Lock.create(tmp_path / "lock", SET, KEY).close()
    lock = Lock.open(tmp_path / "lock", SET, KEY, hook=FailAt(f"lock.freeze.{when}"))
    with pytest.raises(InjectedFault):
        lock.freeze(1, 10)
    lock = reopen(lock, tmp_path)
    assert lock.freezes() == ({} if when == "before" else {1: 10})
    lock.freeze(1, 10)
    lock.close()


def test_heartbeats_cursors_and_peers(lock: Lock, tmp_path: Path) -> None:
    for window, watched in ((1, True), (2, False), (2, True), (4, True), (4, False)):
        lock.put_heartbeat(window, watched)
    lock.put_cursor("b", b"p" * 16, 10)
    lock.put_cursor("b", b"q" * 16, 0)
    lock.put_peer_cosignature(b"AAAA", 5, ROOT, b"five")
    lock.put_peer_cosignature(b"AAAA", 4, ROOT, b"four")
    lock.put_peer_cosignature(b"BBBB", 1, ROOT, b"one")
    lock.put_peer_cosignature(b"BBBB", 2, OTHER_ROOT, b"two")
    lock = reopen(lock, tmp_path)
    assert lock.heartbeats(0) == {1: True, 2: False, 4: False}
    assert lock.heartbeats(2) == {2: False, 4: False}
    assert lock.cursors() == {"b": (b"q" * 16, 0)}
    assert lock.peer_cosignatures() == [
        (b"AAAA", 5, ROOT, b"five"),
        (b"BBBB", 2, OTHER_ROOT, b"two"),
    ]
    lock.close()


def test_prune_keeps_what_must_stay(lock: Lock, tmp_path: Path) -> None:
    for window in range(10):
        lock.freeze(window, window)
        lock.accept(window, window, ROOT, CID)
        decide(lock, window)
        lock.put_heartbeat(window, True)
        lock.cosign(window + 1, ROOT, b"%d" % window)
    lock.prune(6)
    assert list(lock.freezes()) == [6, 7, 8, 9]
    assert len(lock.decisions(0, 100)) == 10
    assert lock.accepts(5) == []
    refused(lambda: lock.freeze(5, 99), "lock-pruned")
    refused(lambda: lock.accept(5, 5, ROOT, CID), "lock-pruned")
    lock.prune(4)
    refused(lambda: lock.freeze(5, 5), "lock-pruned")
    lock.prune(100, archived_below=100)
    lock = reopen(lock, tmp_path)
    assert lock.size() == 10
    assert [d.window for d in lock.decisions(0, 100)] == [9]
    assert list(lock.heartbeats(0)) == [9]
    assert lock.newest_cosignature() == Cosignature(10, ROOT, b"9")
    refused(lambda: lock.cosign(10, OTHER_ROOT, b"x"), "double-cosign")
    refused(lambda: lock.cosign(4, ROOT, b"x"), "cosign-behind")
    decide(lock, 10)
    lock.close()


def test_a_copy_cannot_be_told_from_the_original_here(lock: Lock, tmp_path: Path) -> None:
    """Why peers are asked at start: an old copy opens, and nothing in it says that it is old."""
    lock.cosign(1, ROOT, b"one")
    lock.close()
    shutil.copytree(tmp_path / "lock", tmp_path / "backup")
    lock = Lock.open(tmp_path / "lock", SET, KEY)
    lock.cosign(2, ROOT, b"two")
    lock.close()
    shutil.rmtree(tmp_path / "lock")
    shutil.copytree(tmp_path / "backup", tmp_path / "lock")
    lock = Lock.open(tmp_path / "lock", SET, KEY)
    assert lock.newest_cosignature() == Cosignature(1, ROOT, b"one")
    lock.close()


def test_a_disk_that_refuses_writes_is_named(lock: Lock, tmp_path: Path) -> None:
    lock._db.execute("PRAGMA query_only = ON")
    refused(lambda: lock.freeze(1, 1), "lock-write")
    lock._db.execute("PRAGMA query_only = OFF")
    lock.freeze(1, 1)
    assert os.listdir(tmp_path / "lock")
