"""Segments of all levels in one archive: their index, what a new store gets, what goes when."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_sample import Node, SampleSet
from restante import limits
from restante.errors import Unavailable
from restante.formats.level import Level, span
from restante.formats.segment import Segment
from restante.node.durable.archive import Archive
from restante.node.durable.blocks import BlockIndex
from restante.node.durable.keeping import Demand, Keeping
from restante.node.durable.outbox import Outbox

LEVELS = (Level(2), Level(4), Level(8, "index"))


def make(tmp_path: Path, windows: int, **forms: int) -> tuple[SampleSet, Node]:
    sample = SampleSet(levels=LEVELS, **forms)  # type: ignore[arg-type]
    node = Node.create(sample, tmp_path)
    for _ in range(windows):
        node.commit(sample.next_window())
    return sample, node


def blocks_of(sample: SampleSet) -> dict[bytes, bytes]:
    found = {cid: block for batch in sample.batches for cid, block in batch.blocks}
    for made in sample.made.values():
        assert made is not None
        found |= dict(made.blocks)
    return found


def test_blocks_of_all_levels_are_found(tmp_path: Path) -> None:
    sample, node = make(tmp_path, 12)
    for cid, block in blocks_of(sample).items():
        assert node.archive.block(cid) == block
    # What stands in several levels goes with the last of them.
    assert node.archive.segments.numbers(0) == list(range(12))
    node.close()


def test_an_index_of_the_version_before_is_made_anew_beside_everything(tmp_path: Path) -> None:
    sample, node = make(tmp_path, 12)
    node.archive.segments.index.set_mark("floor", 0)
    node.close()
    path = tmp_path / "archive/.state/blocks.db"
    path.unlink()
    db = sqlite3.connect(path)
    db.executescript(
        """CREATE TABLE block(digest BLOB, window INTEGER, part INTEGER NOT NULL,
  offset INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY(digest, window)) WITHOUT ROWID;
CREATE TABLE indexed(window INTEGER PRIMARY KEY);
CREATE TABLE floor(name TEXT PRIMARY KEY, window INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO floor VALUES('floor', 3), ('released', 3);
INSERT INTO indexed VALUES(7);
PRAGMA user_version = 1;"""
    )
    db.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "INDEX_AT_START", 2)
        archive = Archive.open(tmp_path / "archive", sample.descriptor)
    assert archive.floor == 3, "what was released stays released"
    newest = sample.batches[-1]
    assert archive.block(newest.root_cid) == newest.blocks[0][1]
    oldest = sample.batches[0]
    assert archive.block(oldest.root_cid) is None, "the start did not wait for it"
    archive.index_missing()
    for cid, block in blocks_of(sample).items():
        assert archive.block(cid) == block
    archive.close()
    again = BlockIndex(path)
    assert again.indexed(0) == set(range(12))
    again.close()


def test_a_large_segment_is_indexed_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOCK_INDEX_GROUP", 3)
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 300)
    sample, node = make(tmp_path, 4, per_window=10)
    made = sample.made[span(sample.descriptor, 2, 0)]
    assert isinstance(made, Segment)
    assert len(made.blocks) > 9
    for cid, block in made.blocks:
        assert node.archive.block(cid) == block
    # Broken off between two groups, it does not count as indexed.
    index = node.archive.segments.index

    def rows() -> Iterator[tuple[bytes, int, int, int]]:
        yield from ((bytes([i]) * 32, 0, i, 1) for i in range(4))
        raise Unavailable("broken off")

    with pytest.raises(Unavailable):
        index.add(2, 0, rows())
    assert node.archive.block(made.root_cid) is None
    node.close()
    node = Node.open(sample, tmp_path)
    for cid, block in made.blocks:
        assert node.archive.block(cid) == block
    node.close()


def test_a_new_store_gets_roll_ups_and_what_is_still_there(tmp_path: Path) -> None:
    _, node = make(tmp_path, 14)
    node.release(0, kept_windows=4)
    paths = node.archive.changes(0, 14).written
    here = {
        p.relative_to(node.archive.directory).as_posix()
        for p in (node.archive.directory / "segment").rglob("*.car")
    }
    # Of spans whose entries are still to come nothing is published yet.
    early = {"segment/1/006.car"}
    assert early <= here
    assert {p for p in paths if p.startswith("segment/")} == here - early
    assert "segment/0/000.car" not in here
    outbox = Outbox(tmp_path / "outbox.db", node.archive, ["new"])
    outbox.catch_up()
    assert set(outbox.paths()) == set(paths)
    outbox.close()
    node.close()


def test_what_is_missing_and_what_may_be(tmp_path: Path) -> None:
    sample, node = make(tmp_path, 20)
    keeping = Keeping(node.archive)
    assert keeping.missing(0, 20) == []
    d, segments = sample.descriptor, node.archive.segments
    for level, number in ((0, 1), (0, 18), (1, 0), (1, 8), (2, 1), (3, 0)):
        segments.remove(level, number)
    lost = [span(d, *key) for key in ((0, 1), (0, 18), (1, 0), (1, 8), (2, 1), (3, 0))]
    assert keeping.missing(0, 20) == lost
    assert keeping.missing(17, 20) == [span(d, 0, 18), span(d, 1, 8)]
    # Children go only where what was made of them is here: not those of 2/1.
    node.release(0, kept_windows=2)
    assert not segments.has(0, 0)
    assert keeping.missing(0, 20) == [span(d, 0, 18), span(d, 1, 8), span(d, 2, 1), span(d, 3, 0)]
    assert segments.has(1, 2), "needed to make 2/1 again"
    # Once it is here again they go.
    made = sample.made[span(d, 2, 1)]
    assert isinstance(made, Segment)
    segments.put(2, 1, made.cars())
    node.release(0, kept_windows=2)
    assert not segments.has(1, 2)
    assert keeping.marks().demand(d, span(d, 1, 2), lambda parent: False) is Demand.GONE
    assert keeping.marks().demand(d, span(d, 1, 2), lambda parent: True) is Demand.KEPT
    node.close()


def test_what_counts_for_new_stays_whatever_else_holds(tmp_path: Path) -> None:
    _, node = make(tmp_path, 20)
    keeping = Keeping(node.archive)
    while (plan := keeping.plan(19, 0, 10)) is not None:
        keeping.carry_out(plan)
    assert node.archive.floor == 10
    assert node.archive.segments.numbers(0) == list(range(10, 20))
    node.close()


def test_releases_come_in_groups_and_stores_hear_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RELEASE_GROUP", 1)
    _, node = make(tmp_path, 20)
    before = {
        p.relative_to(node.archive.directory).as_posix()
        for p in (node.archive.directory / "segment").rglob("*.car")
    }
    groups: list[set[str]] = []
    node.release(6, lambda changes: groups.append(set(changes.released)), kept_windows=2)
    gone = {path for path in before if not (node.archive.directory / path).exists()}
    assert set().union(*groups) >= gone
    assert len(groups) > 4
    node.close()
