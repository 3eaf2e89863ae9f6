"""A roll-up of several parts fails at every durable step: what is made after it is the same."""

from pathlib import Path

import pytest

from node_sample import Node, SampleSet
from restante import limits
from restante.errors import VerificationFailed
from restante.formats import cid as cids
from restante.formats.level import Level, Span, span
from restante.formats.segment import Segment
from restante.node.durable.rollups import Named, RollUps
from restante.testing.faults import FailAt, InjectedFault, Recorder

OF = Span(1, 1, 4, 4)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 1_500)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 6_000)
    monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 3)


def prepared(tmp_path: Path) -> tuple[SampleSet, Node]:
    """A node with eight windows, and without the roll-up of the last four."""
    sample = SampleSet(per_window=20, data_bytes=300, levels=(Level(4),), rollup_lag=50)
    node = Node.create(sample, tmp_path)
    for _ in range(8):
        node.commit(sample.next_window())
    node.archive.segments.remove(1, 1)
    return sample, node


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("when", ["before", "after"])
def test_each_part_fails_once(tmp_path: Path, when: str) -> None:
    sample, node = prepared(tmp_path)
    d, segments = sample.descriptor, node.archive.segments
    below = [Named(Span(0, w, w, 1), sample.batches[w].root_cid) for w in range(OF.first, OF.stop)]
    made = sample.made[OF]
    assert isinstance(made, Segment)
    expected = made.cars()
    assert len(expected) > 4
    recorder = Recorder()
    assert RollUps(d, segments, recorder).make(OF, below) == made.root_cid
    assert recorder.steps == ["archive.rollup.before", "archive.rollup.after"] * len(expected)
    entries = list(node.archive.log(OF.first, OF.stop))
    for nth in range(1, len(expected) + 1):
        segments.remove(1, 1)
        failing = RollUps(d, segments, FailAt(f"archive.rollup.{when}", nth))
        with pytest.raises(InjectedFault):
            failing.make(OF, below)
        whole = nth == len(expected) and when == "after"
        # After a restart: the first part is there once all are.
        plain = RollUps(d, segments)
        assert plain.found(OF, entries) == (made.root_cid if whole else None)
        assert segments.has(1, 1) == whole
        assert plain.make(OF, below) == made.root_cid
        assert segments.parts(1, 1) == expected
        assert plain.found(OF, entries) == made.root_cid
        for cid, block in made.blocks:
            assert segments.block(cid) == block
        assert not any(name.endswith(".tmp") for name in names_in(segments.file(1, 1).parent))
    node.close()


def test_a_wrong_result_is_not_installed(tmp_path: Path) -> None:
    sample, node = prepared(tmp_path)
    below = [Named(Span(0, w, w, 1), sample.batches[w].root_cid) for w in range(OF.first, OF.stop)]
    rollups = RollUps(sample.descriptor, node.archive.segments)
    with pytest.raises(VerificationFailed) as caught:
        rollups.make(OF, below, cids.cid_of(cids.DAG_CBOR, b"another"))
    assert caught.value.code == "root-hash"
    assert not node.archive.segments.has(1, 1)
    assert not any(name.endswith(".tmp") for name in names_in(tmp_path / "archive/segment/1"))
    node.close()


def test_what_a_crash_left_is_no_roll_up(tmp_path: Path) -> None:
    """Another span's file, a damaged root, counts that are not the entries'."""
    sample, node = prepared(tmp_path)
    d, segments = sample.descriptor, node.archive.segments
    rollups = RollUps(d, segments)
    entries = list(node.archive.log(OF.first, OF.stop))
    assert rollups.found(OF, entries) is None
    other = segments.file(1, 0).read_bytes()
    path = segments.file(1, 1)
    path.write_bytes(other)
    assert rollups.found(OF, entries) is None
    first = span(d, 1, 0)
    assert rollups.found(first, list(node.archive.log(first.first, first.stop))) is not None
    assert rollups.found(first, entries[:2]) is None
    path.write_bytes(b"")
    assert rollups.found(OF, entries) is None
    node.close()
