"""The queue to the stores: in order, past every failure, and again after a restart."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_sample import Node, SampleSet
from restante import limits
from restante.errors import Conflict, StateError, Unavailable
from restante.node.durable.archive import Changes
from restante.node.durable.outbox import Outbox
from restante.ports import Health


class MemoryStore:
    """A store that notes every call and fails as told."""

    def __init__(self, name: str = "near") -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.down = False
        self.refused: set[str] = set()

    async def put(self, path: str, data: bytes) -> None:
        self.calls.append(path)
        if self.down:
            raise Unavailable("down", code="store-unavailable")
        if path in self.refused:
            raise Conflict("other bytes", code="store-conflict")
        self.files[path] = data

    async def get(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        raise AssertionError("the outbox only puts")

    async def has(self, path: str) -> bool:
        return path in self.files

    async def release(self, path: str) -> None:
        self.calls.append(f"-{path}")
        self.files.pop(path, None)

    async def health(self) -> Health:
        return Health(True)

    async def close(self) -> None: ...


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node.create(SampleSet(), tmp_path)
    yield node
    node.close()


def open_outbox(node: Node, tmp_path: Path, *stores: str) -> Outbox:
    return Outbox(tmp_path / "outbox.db", node.archive, stores or ("near",))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came true")


def commit(node: Node) -> Changes:
    sealed = node.sample.next_window()
    return node.commit(sealed) | node.cosign()


def test_files_arrive_in_order_and_are_the_archive(node: Node, tmp_path: Path) -> None:
    outbox, store = open_outbox(node, tmp_path), MemoryStore()
    order: list[str] = []
    for size in range(1, 4):
        changes = commit(node)
        order += changes.written
        outbox.enqueue(changes, size)
    assert outbox.pending("near") == len(order)
    assert asyncio.run(outbox.flush(store))
    # Partial files that were superseded meanwhile are still there, or are passed over.
    assert store.calls == order
    assert (outbox.pending("near"), outbox.reached("near")) == (0, 3)
    assert store.files["checkpoint"] == node.archive.read("checkpoint")
    for path in node.archive.changes(0, 3).written:
        assert store.files.get(path, b"") == node.archive.read(path) or path == "descriptor"
    outbox.close()


def test_a_checkpoint_is_the_one_that_was_queued(node: Node, tmp_path: Path) -> None:
    """A newer checkpoint must not overtake the tiles that it covers."""
    outbox, store = open_outbox(node, tmp_path), MemoryStore()
    outbox.enqueue(commit(node), 1)
    first = node.archive.read("checkpoint")
    commit(node)
    assert asyncio.run(outbox.flush(store))
    assert store.files["checkpoint"] == first
    outbox.close()


def test_a_failure_stops_a_store_and_keeps_its_order(node: Node, tmp_path: Path) -> None:
    outbox = open_outbox(node, tmp_path, "near", "far")
    near, far = MemoryStore("near"), MemoryStore("far")
    changes = commit(node)
    outbox.enqueue(changes, 1)
    far.down = True
    assert asyncio.run(outbox.flush(near))
    assert not asyncio.run(outbox.flush(far))
    assert far.calls == [changes.written[0]]
    error = outbox.last_error("far")
    assert error is not None
    assert error.code == "store-unavailable"
    assert outbox.last_error("near") is None
    assert outbox.pending("far") == len(changes.written)
    outbox.close()
    outbox = open_outbox(node, tmp_path, "near", "far")
    far.down = False
    assert asyncio.run(outbox.flush(far))
    assert outbox.last_error("far") is None
    assert far.files == near.files
    outbox.close()


def test_a_refused_file_does_not_stop_the_others(node: Node, tmp_path: Path) -> None:
    outbox, store = open_outbox(node, tmp_path), MemoryStore()
    changes = commit(node)
    store.refused = {changes.written[0]}
    outbox.enqueue(changes, 1)
    assert asyncio.run(outbox.flush(store))
    assert set(store.files) == set(changes.written[1:])
    error = outbox.last_error("near")
    assert error is not None
    assert error.code == "store-conflict"
    assert outbox.pending("near") == 1
    outbox.close()
    store.refused = set()
    outbox = open_outbox(node, tmp_path)
    assert asyncio.run(outbox.flush(store))
    assert set(store.files) == set(changes.written)
    outbox.close()


def test_releases_and_what_is_gone_by_its_turn(node: Node, tmp_path: Path) -> None:
    outbox, store = open_outbox(node, tmp_path), MemoryStore()
    first = commit(node)
    outbox.enqueue(first, 1)
    assert asyncio.run(outbox.flush(store))
    commit(node)
    gone = node.release(1)
    outbox.enqueue(Changes(("segment/0/000.car",), gone.released))
    assert asyncio.run(outbox.flush(store))
    assert "segment/0/000.car" not in store.files
    assert store.calls[-1] == "-segment/0/000.car"
    outbox.close()


def test_catch_up_after_a_crash_and_for_a_new_store(node: Node, tmp_path: Path) -> None:
    outbox, near = open_outbox(node, tmp_path), MemoryStore()
    outbox.enqueue(commit(node), 1)
    assert asyncio.run(outbox.flush(near))
    # Committed, and the process died before these were queued.
    commit(node)
    commit(node)
    outbox.close()
    outbox, far = open_outbox(node, tmp_path, "near", "far"), MemoryStore("far")
    outbox.catch_up()
    outbox.catch_up()
    for store in (near, far):
        assert asyncio.run(outbox.flush(store))
        assert outbox.reached(store.name) == 3
        for path in node.archive.changes(0, 3).written:
            assert store.files[path] == node.archive.read(path)
    assert far.calls.count("segment/0/000.car") == 1
    outbox.close()


def test_draining_goes_on_and_retries(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOX_RETRY_FIRST_S", 0.001)
    outbox, store = open_outbox(node, tmp_path), MemoryStore()
    store.down = True

    async def run() -> None:
        task = asyncio.create_task(outbox.drain(store))
        outbox.enqueue(commit(node), 1)
        await until(lambda: len(store.calls) >= 3)
        store.down = False
        await until(lambda: outbox.pending("near") == 0)
        outbox.enqueue(commit(node), 2)
        await until(lambda: outbox.pending("near") == 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(run(), 10))
    assert store.files["checkpoint"] == node.archive.read("checkpoint")
    outbox.close()


def test_a_damaged_queue_is_named(node: Node, tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"rubbish" * 1_000)
    with pytest.raises(StateError) as caught:
        open_outbox(node, tmp_path)
    assert caught.value.code == "outbox"
