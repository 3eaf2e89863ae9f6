"""The pool: append, read, recover. Every cut and every flipped byte of its files is tried."""

import os
import random
import shutil
from pathlib import Path

import pytest

from restante import limits
from restante.errors import StateError
from restante.node.durable.pool import Pool
from restante.ports import Arrival
from restante.testing.faults import FailAt, InjectedFault

ID, SALT = bytes(range(16)), b"s" * 16


def arrivals(*raws: bytes, at_ms: int = 1_000) -> list[Arrival]:
    return [Arrival(at_ms + i, raw) for i, raw in enumerate(raws)]


def create(directory: Path) -> Pool:
    return Pool.create(directory, ID, SALT)


def raws(pool: Pool) -> list[bytes]:
    return [record.raw for record in pool.records()]


def test_append_read_reopen(tmp_path: Path) -> None:
    pool = create(tmp_path / "pool")
    assert (pool.id, pool.floor, pool.size) == (ID, 0, 0)
    assert pool.append(arrivals(b"a", b"bb")) == 0
    assert pool.append([]) == 2
    assert pool.append(arrivals(b"ccc", at_ms=5_000)) == 2
    for _ in range(2):
        assert (pool.floor, pool.size, pool.newest_arrival_ms) == (0, 3, 5_000)
        assert [tuple(r) for r in pool.records()] == [
            (0, 1_000, b"a"),
            (1, 1_001, b"bb"),
            (2, 5_000, b"ccc"),
        ]
        assert pool.read(1) == b"bb"
        assert [r.position for r in pool.records(2)] == [2]
        assert pool.size_bytes == sum(p.stat().st_size for p in (tmp_path / "pool").glob("*.log"))
        pool.close()
        pool = Pool.open(tmp_path / "pool")
    pool.close()


def test_arrival_never_goes_back(tmp_path: Path) -> None:
    pool = create(tmp_path)
    pool.append([Arrival(9, b"a"), Arrival(3, b"b")])
    pool.close()
    pool = Pool.open(tmp_path)
    pool.append([Arrival(5, b"c"), Arrival(10, b"d")])
    assert [r.arrival_ms for r in pool.records()] == [9, 9, 9, 10]
    pool.close()


@pytest.mark.parametrize("position", [-1, 1, 10**12])
def test_a_position_that_is_not_held(tmp_path: Path, position: int) -> None:
    pool = create(tmp_path)
    pool.append(arrivals(b"a"))
    with pytest.raises(StateError) as caught:
        pool.read(position)
    assert caught.value.code == "pool-position"
    pool.close()


def test_lengths_are_bounded(tmp_path: Path) -> None:
    pool = create(tmp_path)
    pool.append(arrivals(bytes(limits.ENVELOPE_MAX_BYTES)))
    for raw in (b"", bytes(limits.ENVELOPE_MAX_BYTES + 1)):
        with pytest.raises(ValueError):
            pool.append(arrivals(b"fine", raw))
    assert pool.size == 1
    pool.close()
    pool = Pool.open(tmp_path)
    assert pool.read(0) == bytes(limits.ENVELOPE_MAX_BYTES)
    pool.close()


def test_files_roll_by_size_and_are_released_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POOL_FILE_BYTES", 100)
    pool = create(tmp_path)
    for i in range(10):
        pool.append(arrivals(bytes([i + 1]) * 60))
    assert [p.name for p in sorted(tmp_path.glob("*.log"))] == [
        f"{i:020}.log" for i in range(0, 10, 2)
    ]
    pool.release(5)
    assert pool.floor == 4
    assert raws(pool) == [bytes([i + 1]) * 60 for i in range(4, 10)]
    with pytest.raises(StateError):
        pool.read(3)
    pool.release(10**9)
    assert (pool.floor, pool.size) == (8, 10)
    pool.append(arrivals(b"after"))
    pool.roll()
    pool.roll()
    pool.release(11)
    assert (pool.floor, pool.size, pool.size_bytes) == (11, 11, 0)
    pool.close()
    pool = Pool.open(tmp_path)
    assert (pool.floor, pool.size) == (11, 11)
    assert pool.append(arrivals(b"more")) == 11
    pool.close()


def test_every_cut_of_the_tail_leaves_whole_records(tmp_path: Path) -> None:
    """A torn append loses at most itself: all that was acknowledged before it stays."""
    pool = create(tmp_path / "whole")
    pool.append(arrivals(b"a" * 10, b"b" * 20))
    acknowledged = pool.size_bytes
    pool.append(arrivals(b"c" * 5, b"d" * 7, at_ms=2_000))
    total = pool.size_bytes
    everything = raws(pool)
    pool.close()
    for cut in range(acknowledged, total + 1):
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        os.truncate(tmp_path / "cut" / f"{0:020}.log", cut)
        pool = Pool.open(tmp_path / "cut")
        assert raws(pool) == everything[: pool.size]
        assert pool.size >= 2
        pool.append(arrivals(b"next", at_ms=3_000))
        pool.close()
        pool = Pool.open(tmp_path / "cut")
        assert raws(pool) == [*everything[: pool.size - 1], b"next"]
        pool.close()
        shutil.rmtree(tmp_path / "cut")


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Damage in front of a later append is named; in the last append it is a torn tail."""
    pool = create(tmp_path / "whole")
    pool.append(arrivals(b"a" * 10, b"b" * 20))
    acknowledged = pool.size_bytes
    pool.append(arrivals(b"c" * 5, b"d" * 7, at_ms=2_000))
    everything = raws(pool)
    pool.close()
    data = (tmp_path / "whole" / f"{0:020}.log").read_bytes()
    for at in range(len(data)):
        shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (tmp_path / "flipped" / f"{0:020}.log").write_bytes(flipped)
        if at < acknowledged:
            with pytest.raises(StateError) as caught:
                Pool.open(tmp_path / "flipped")
            assert caught.value.code == "pool-damaged"
            assert (tmp_path / "flipped" / f"{0:020}.log").read_bytes() == flipped
        else:
            pool = Pool.open(tmp_path / "flipped")
            assert raws(pool) == everything[: pool.size]
            assert 2 <= pool.size < 4
            pool.close()
            shutil.rmtree(tmp_path / "flipped")
            shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
            (tmp_path / "flipped" / f"{0:020}.log").write_bytes(flipped)
            # Who knows that all four were acknowledged is told, and nothing is cut off.
            with pytest.raises(StateError) as caught:
                Pool.open(tmp_path / "flipped", at_least=4)
            assert caught.value.code == "pool-damaged"
            assert (tmp_path / "flipped" / f"{0:020}.log").read_bytes() == flipped
        shutil.rmtree(tmp_path / "flipped")


@pytest.mark.parametrize("hole", ["first", "middle"])
def test_pages_written_out_of_order_are_a_torn_tail(tmp_path: Path, hole: str) -> None:
    """A loss of power may keep the end of one unsynced append and lose its beginning."""
    pool = create(tmp_path)
    pool.append(arrivals(b"acknowledged"))
    start = pool.size_bytes
    pool.append(arrivals(*[b"%04d" % i * 20 for i in range(100)]))
    pool.close()
    path = tmp_path / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    at = start if hole == "first" else start + 2_000
    data[at : at + 500] = bytes(500)
    path.write_bytes(data)
    pool = Pool.open(tmp_path)
    assert pool.read(0) == b"acknowledged"
    assert pool.size == 1 if hole == "first" else 1 < pool.size < 101
    pool.close()


def test_a_lost_file_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOL_FILE_BYTES", 10)
    pool = create(tmp_path / "pool")
    for i in range(4):
        pool.append(arrivals(b"%d" % i))
    pool.close()
    for name, mutate in (
        ("middle", lambda p: (p / f"{1:020}.log").unlink()),
        ("short", lambda p: os.truncate(p / f"{1:020}.log", 5)),
        ("all", lambda p: [f.unlink() for f in p.glob("*.log")]),
    ):
        shutil.copytree(tmp_path / "pool", tmp_path / name)
        mutate(tmp_path / name)
        with pytest.raises(StateError) as caught:
            Pool.open(tmp_path / name)
        assert caught.value.code == "pool-damaged"


def test_a_record_inside_an_envelope_is_no_record(tmp_path: Path) -> None:
    """A sender who knows the format but not the salt cannot make a torn tail look like damage."""
    other = Pool.create(tmp_path / "other", ID, b"t" * 16)
    other.append(arrivals(b"inner"))
    other.close()
    inner = (tmp_path / "other" / f"{0:020}.log").read_bytes()
    pool = create(tmp_path / "pool")
    pool.append(arrivals(b"x" * 100 + inner + b"y" * 100))
    total = pool.size_bytes
    pool.close()
    os.truncate(tmp_path / "pool" / f"{0:020}.log", total - 10)
    pool = Pool.open(tmp_path / "pool")
    assert pool.size == 0
    pool.close()


def test_create_open_and_two_processes(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        Pool.open(tmp_path)
    assert caught.value.code == "pool-missing"
    pool = create(tmp_path)
    for call, code in (
        (lambda: create(tmp_path), "pool-exists"),
        (lambda: Pool.open(tmp_path), "pool-busy"),
    ):
        with pytest.raises(StateError) as caught:
            call()
        assert caught.value.code == code
    pool.close()
    (tmp_path / "pool").write_bytes(b"\xa0")
    with pytest.raises(StateError) as caught:
        Pool.open(tmp_path)
    assert caught.value.code == "pool-damaged"


def test_a_full_disk_acknowledges_nothing_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = create(tmp_path)
    pool.append(arrivals(b"before"))

    def half(fd: int, data: bytes) -> None:
        os.write(fd, data[:9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("restante.node.durable.pool.write_all", half)
        with pytest.raises(StateError) as caught:
            pool.append(arrivals(b"lost"))
        assert caught.value.code == "pool-write"
    assert pool.append(arrivals(b"after")) == 1
    assert raws(pool) == [b"before", b"after"]
    pool.close()
    pool = Pool.open(tmp_path)
    assert raws(pool) == [b"before", b"after"]
    pool.close()


def test_after_a_failed_sync_nothing_more_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = create(tmp_path)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StateError):
            pool.append(arrivals(b"lost"))
    with pytest.raises(StateError) as caught:
        pool.append(arrivals(b"after"))
    assert caught.value.code == "pool-write"
    assert pool.size == 0
    pool.close()


def test_after_a_fault_an_append_is_refused(tmp_path: Path) -> None:
    pool = Pool.create(tmp_path, ID, SALT, hook=FailAt("pool.append.after"))
    with pytest.raises(InjectedFault):
        pool.append(arrivals(b"a"))
    with pytest.raises(StateError):
        pool.append(arrivals(b"b"))
    pool.close()


def test_a_record_that_rots_after_opening_is_not_served(tmp_path: Path) -> None:
    pool = create(tmp_path)
    pool.append(arrivals(b"abc", b"def"))
    path = tmp_path / f"{0:020}.log"
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data.replace(b"abc", b"abd"))
    with pytest.raises(StateError) as caught:
        pool.read(0)
    assert caught.value.code == "pool-damaged"
    assert pool.read(1) == b"def"
    pool.close()


def test_random_histories_match_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOL_FILE_BYTES", 2_000)
    rng = random.Random(7)
    pool = create(tmp_path)
    model: list[bytes] = []
    for _ in range(200):
        step = rng.randrange(10)
        if step < 7:
            new = [rng.randbytes(rng.randrange(1, 200)) for _ in range(rng.randrange(5))]
            assert pool.append(arrivals(*new)) == len(model)
            model += new
        elif step == 7:
            pool.roll()
        elif step == 8:
            position = rng.randrange(len(model) + 1)
            pool.release(position)
            assert pool.floor <= max(position, pool.floor)
        else:
            pool.close()
            pool = Pool.open(tmp_path)
        assert pool.size == len(model)
        assert raws(pool) == model[pool.floor :]
        if model and pool.floor < pool.size:
            at = rng.randrange(pool.floor, pool.size)
            assert pool.read(at) == model[at]
    assert pool.floor > 0
    pool.close()
