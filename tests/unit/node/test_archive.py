"""The archive's files: what a reader with a checkpoint needs is there, at every size."""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node_sample import Node, SampleSet, Sealed
from restante import limits
from restante.errors import InvalidEncoding, StateError, Unavailable
from restante.formats import cid as cids
from restante.formats import tiles, tree
from restante.node.durable.archive import Archive, Changes
from restante.node.durable.keeping import Keeping
from restante.node.durable.lock import Decision
from restante.testing.faults import FailAt, InjectedFault

PLAIN = SimpleNamespace(first_window=0, levels=(), rollup_lag=10, window_s=30)
"""A set without roll-ups."""
EMPTY_CID = cids.cid_of(cids.DAG_CBOR, b"")


class Decisions:
    """A lock state of made-up decisions: the archive does not look into entries."""

    def __init__(self, count: int, first_kept: int = 0) -> None:
        self._rows = [
            Decision(w, w + 1, EMPTY_CID, b"certificate %d" % w, b"entry %d" % w)
            for w in range(count)
        ]
        self._first_kept = first_kept

    def size(self) -> int:
        return len(self._rows)

    def decisions(self, from_window: int, limit: int) -> list[Decision]:
        return self._rows[max(from_window, self._first_kept) :][:limit]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive.create(tmp_path / "archive", PLAIN)
    yield archive
    archive.close()


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back every archive that a test opens, however it ends."""
    opened: list[Archive] = []
    make = Archive.__init__

    def noted(archive: Archive, *args: Any, **kwargs: Any) -> None:
        make(archive, *args, **kwargs)
        opened.append(archive)

    monkeypatch.setattr(Archive, "__init__", noted)
    yield
    for archive in opened:
        archive.close()


def entries(count: int, start: int = 0) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, start + count)]


def reopen(archive: Archive) -> Archive:
    archive.close()
    return Archive.open(archive.directory, PLAIN)


def check_readable(archive: Archive, size: int, all_entries: list[bytes]) -> None:
    """What a client does with a checkpoint of this size."""
    leaves = [tree.leaf_hash(entry) for entry in all_entries[:size]]
    reader = tiles.LogReader(archive.read, size, tree.root(leaves))
    for index in {0, size // 2, size - 1, max(0, size - 257)}:
        assert reader.entry(index) == all_entries[index]


def test_create_and_open_are_different(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        Archive.open(tmp_path, PLAIN)
    assert caught.value.code == "archive-missing"
    archive = Archive.create(tmp_path, PLAIN)
    assert (archive.size, archive.floor, archive.root()) == (0, 0, tree.EMPTY_ROOT)
    archive.close()
    with pytest.raises(StateError) as caught:
        Archive.create(tmp_path, PLAIN)
    assert caught.value.code == "archive-exists"


def test_one_by_one_every_size_is_readable_and_so_are_the_last_few(archive: Archive) -> None:
    everything = entries(530)
    for i, entry in enumerate(everything):
        archive.put_certificates(i, [b"certificate %d" % i])
        changes = archive.append_entries(i, [entry])
        size = i + 1
        assert archive.size == size
        assert all((archive.directory / p).is_file() for p in changes.written)
        assert not any((archive.directory / p).exists() for p in changes.released)
        if i % 59 == 0 or i in (19, 20, 21, 254, 255, 256, 257, 274, 276, 277, 511, 512, 529):
            assert archive.root() == tree.root([tree.leaf_hash(e) for e in everything[:size]])
            for older in {size, max(1, size - 1), max(1, size - limits.PARTIALS_KEPT)}:
                check_readable(archive, older, everything)
                # The partial files themselves are there, not only the full ones that cover them.
                for tile in tiles.right_edge(older):
                    assert len(archive.read(tile.path)) == 32 * tile.width
            assert archive.entry(i) == entry
            assert archive.certificate(i) == b"certificate %d" % i
    archive = reopen(archive)
    assert archive.size == 530
    assert archive.certificate(3) == b"certificate 3"
    kept = sum(1 for _ in archive.directory.glob("tile/0/*.p/*"))
    assert kept <= limits.PARTIALS_KEPT + 1
    with pytest.raises(ValueError):
        archive.entry(530)


@pytest.mark.parametrize("groups", [(256,), (1, 255, 1), (255, 2), (300, 300), (1, 511, 513)])
def test_in_groups(archive: Archive, groups: tuple[int, ...]) -> None:
    everything = entries(sum(groups))
    at = 0
    for count in groups:
        archive.put_certificates(at, [b"c %d" % i for i in range(at, at + count)])
        archive.append_entries(at, everything[at : at + count])
        at += count
        archive = reopen(archive)
        assert archive.size == at
        check_readable(archive, at, everything)
        assert [archive.certificate(i) for i in range(at)] == [b"c %d" % i for i in range(at)]
        assert archive.frontier().append(tree.leaf_hash(b"x")).size == at + 1


def test_an_append_elsewhere_than_at_the_end_is_a_mistake(archive: Archive) -> None:
    archive.append_entries(0, entries(2))
    for index in (0, 1, 3):
        with pytest.raises(ValueError):
            archive.append_entries(index, [b"x"])


@pytest.mark.parametrize("have", [0, 1, 255, 256, 257, 600])
def test_integrate_makes_what_the_lock_decided(archive: Archive, have: int) -> None:
    decided = Decisions(600)
    everything = entries(600)
    if have:
        archive.put_certificates(0, [d.certificate for d in decided.decisions(0, have)])
        archive.append_entries(0, everything[:have])
    changes = archive.integrate(decided)
    assert archive.size == 600
    assert bool(changes.written) == (have < 600)
    check_readable(archive, 600, everything)
    assert archive.certificate(599) == b"certificate 599"
    assert archive.integrate(decided) == Changes()


def test_integrate_names_a_lock_that_is_older(archive: Archive) -> None:
    archive.append_entries(0, entries(5))
    for lock, code in (
        (Decisions(4), "lock-behind-archive"),
        (Decisions(9, first_kept=7), "archive-behind"),
    ):
        with pytest.raises(StateError) as caught:
            archive.integrate(lock)
        assert caught.value.code == code
    archive.append_entries(5, [b"another"])
    with pytest.raises(StateError) as caught:
        archive.integrate(Decisions(9))
    assert caught.value.code == "archive-differs"


def sealed_windows(count: int, **sizes: int) -> tuple[SampleSet, list[Sealed]]:
    sample = SampleSet(**sizes)
    return sample, [sample.next_window() for _ in range(count)]


def test_segments_and_their_blocks(archive: Archive) -> None:
    _, windows = sealed_windows(3, per_window=40, data_bytes=5_000)
    for sealed in windows:
        changes = archive.put_segment(sealed.window, sealed.cars)
        assert changes.written == (f"segment/0/{sealed.window:03}.car",)
        assert archive.segment(sealed.window) == sealed.cars
    for _ in range(2):
        for sealed in windows:
            assert len(sealed.segment.blocks) > 3
            for cid, block in sealed.segment.blocks:
                assert archive.block(cid) == block
        assert archive.block(cids.cid_of(cids.RAW, b"unknown")) is None
        with pytest.raises(InvalidEncoding):
            archive.block(b"no cid")
        # Without its index, and after losing it, the archive makes it again.
        archive.close()
        for file in (archive.directory / ".state").iterdir():
            file.unlink()
        archive = Archive.open(archive.directory, PLAIN)


def test_parts(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 70_000)
    _, (sealed,) = sealed_windows(1, per_window=60, data_bytes=5_000)
    assert len(sealed.cars) > 2
    changes = archive.put_segment(0, sealed.cars)
    assert changes.written[-1] == "segment/0/000.car"
    assert archive.segment(0) == sealed.cars
    for cid, block in sealed.segment.blocks:
        assert archive.block(cid) == block


def test_a_rotten_block_is_not_served(archive: Archive) -> None:
    _, (sealed,) = sealed_windows(1)
    archive.put_segment(0, sealed.cars)
    cid, _ = sealed.segment.blocks[-1]
    path = archive.directory / "segment/0/000.car"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError) as caught:
        archive.block(cid)
    assert caught.value.code == "archive-damaged"


def test_a_batch_that_was_never_decided_leaves_no_blocks(archive: Archive) -> None:
    """After a crash the engine may show another batch of the window than before."""
    sample = SampleSet()
    first = sample.seal(0, [sample.envelope(0, i) for i in range(3)])
    other = sample.seal(0, [sample.envelope(0, i) for i in range(2)])
    archive.put_segment(0, first.cars)
    archive.put_segment(0, other.cars)
    assert archive.block(first.segment.root_cid) is None
    assert archive.block(other.segment.root_cid) == other.segment.blocks[0][1]


def test_ranges_and_paths(archive: Archive) -> None:
    archive.put_checkpoint(b"0123456789")
    assert archive.read("checkpoint", 3, 4) == b"3456"
    assert archive.read("checkpoint", 8) == b"89"
    with pytest.raises(Unavailable) as caught:
        archive.read("policy")
    assert caught.value.code == "not-found"
    for path in ("../lock/lock.db", ".state/blocks.db", "/etc/passwd", ""):
        with pytest.raises(InvalidEncoding):
            archive.read(path)
    for path in ("descriptor", "policy", "watch/v0", "contact/v0"):
        assert archive.put_named(path, b"x") == Changes((path,))
        assert archive.read(path) == b"x"
    for path, data in (("checkpoint", b""), ("tile/0/000", b""), ("policy", bytes(2**20))):
        with pytest.raises(ValueError):
            archive.put_named(path, data)


def release(archive: Archive, floor: int) -> tuple[str, ...]:
    """Give up what is below the floor; the paths that went."""
    keeping = Keeping(archive)
    gone: list[str] = []
    while (plan := keeping.plan(floor, 1 << 40, 0)) is not None:
        keeping.carry_out(plan)
        gone += plan.changes.released
    return tuple(gone)


def test_retention_keeps_the_tree(archive: Archive) -> None:
    _, (sealed,) = sealed_windows(1)
    everything = entries(600)
    archive.put_certificates(0, [b"c"] * 600)
    archive.append_entries(0, everything)
    for window in range(250, 300):
        archive.put_segment(window, sealed.cars)
    assert set(release(archive, 260)) == {
        *(f"segment/0/{w}.car" for w in range(250, 260)),
        "tile/entries/000",
        "certificate/000",
    }
    assert archive.floor == 260
    archive = reopen(archive)
    assert archive.floor == 260
    assert release(archive, 255) == ()
    with pytest.raises(Unavailable):
        archive.entry(0)
    with pytest.raises(Unavailable):
        archive.segment(259)
    assert archive.entry(256) == everything[256]
    assert archive.segment(260) == sealed.cars
    assert archive.size == 600
    assert archive.frontier(100).root() == tree.root([tree.leaf_hash(e) for e in everything[:100]])
    archive.append_entries(600, [b"entry 600"])
    assert len(release(archive, 10**9)) == 40 + 2


def test_a_lost_index_knows_the_floor_from_the_bundles(archive: Archive) -> None:
    archive.append_entries(0, entries(600))
    release(archive, 300)
    assert archive.floor == 300
    archive.close()
    for file in (archive.directory / ".state").iterdir():
        file.unlink()
    archive = Archive.open(archive.directory, PLAIN)
    assert archive.floor == 256
    assert Keeping(archive).marks().floor == 256


def test_all_changes_for_a_new_store(tmp_path: Path) -> None:
    sample, windows = sealed_windows(5)
    node = Node.create(sample, tmp_path)
    for sealed in windows:
        node.observe(sealed)
        node.commit(sealed)
        node.cosign()
    changes = node.archive.changes(0, 5)
    assert changes.written[-1] == "checkpoint"
    assert set(changes.written) == {
        *(f"segment/0/{w:03}.car" for w in range(5)),
        "certificate/000.p/5",
        "tile/entries/000.p/5",
        "tile/0/000.p/5",
        "descriptor",
        "checkpoint",
    }
    other = tmp_path / "copy"
    for path in changes.written:
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(node.archive.directory / path, other / path)
    reader = tiles.LogReader(lambda p: (other / p).read_bytes(), 5, node.archive.root())
    assert sha256(reader.entry(4)).digest() == sha256(windows[4].entry).digest()
    assert node.archive.changes(5, 5) == Changes()
    node.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["archive.entries", "archive.tile"])
def test_a_growth_over_a_full_tile_counts_whole_or_not_at_all(
    tmp_path: Path, step: str, when: str
) -> None:
    decided, everything = Decisions(260), entries(260)
    nth = 1
    while True:
        directory = tmp_path / f"{nth}"
        archive = Archive.create(directory, PLAIN)
        archive.integrate(Decisions(250))
        archive.close()
        archive = Archive.open(directory, PLAIN, hook=FailAt(f"{step}.{when}", nth))
        try:
            archive.integrate(decided)
        except InjectedFault:
            nth += 1
        else:
            break
        archive = reopen(archive)
        # Whatever size it shows, all of that size is readable; then it goes on.
        check_readable(archive, archive.size, everything)
        archive.integrate(decided)
        check_readable(archive, 260, everything)
        archive.close()
    archive.close()
    assert nth == (4 if step == "archive.tile" else 3)


def test_a_segment_of_several_parts_is_there_only_when_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 70_000)
    _, (sealed,) = sealed_windows(1, per_window=60, data_bytes=5_000)
    Archive.create(tmp_path, PLAIN).close()
    for nth in range(1, len(sealed.cars)):
        archive = Archive.open(tmp_path, PLAIN, hook=FailAt("archive.segment.after", nth))
        with pytest.raises(InjectedFault):
            archive.put_segment(0, sealed.cars)
        assert not archive.has_segment(0)
        archive.close()
