"""Segments and indexes read piece by piece: everything is hashed, and nothing more is read."""

from collections import Counter
from pathlib import Path

import pytest

from node_sample import SampleSet
from restante import limits
from restante.errors import Invalid, VerificationFailed
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.index_cut import Index
from restante.formats.level import Level, Span, span
from restante.formats.page import parse
from restante.formats.segment import Segment
from restante.node.durable.spool import Spool
from restante.node.segment_reader import IndexReader, Read, Section, SegmentReader

LEVELS = (Level(4), Level(8, "index"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 1_000)
    monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 3)
    monkeypatch.setattr(limits, "DIRECTORY_KEYS", 2)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 5_000)
    monkeypatch.setattr(limits, "PAGES_AT_ONCE", 4)
    monkeypatch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 200)
    monkeypatch.setattr(limits, "INDEX_NAMES", 2)
    monkeypatch.setattr("restante.node.segment_reader.PREFIX_BYTES", 1_200)


@pytest.fixture
def sample() -> SampleSet:
    made = SampleSet(per_window=12, data_bytes=300, levels=LEVELS, rollup_lag=2)
    for _ in range(10):
        made.next_window()
    return made


def reading(parts: list[bytes], asked: Counter[int] | None = None) -> Read:
    def read(part: int, offset: int, length: int) -> bytes:
        if asked is not None:
            asked[part] += length
        return parts[part][offset : offset + length]

    return read


def body(sample: SampleSet, number: int = 1) -> tuple[Span, Segment]:
    of = span(sample.descriptor, 1, number)
    made = sample.made[of]
    assert isinstance(made, Segment)
    return of, made


def day(sample: SampleSet) -> tuple[Span, Index]:
    of = span(sample.descriptor, 2, 0)
    made = sample.made[of]
    assert isinstance(made, Index)
    return of, made


def test_a_segment_from_its_root_down(sample: SampleSet) -> None:
    of, made = body(sample)
    parts = made.cars()
    assert len(parts) > 3
    reader = SegmentReader(sample.descriptor, of, made.root_cid, reading(parts))
    assert tuple(reader.rows()) == made.rows
    keys = sorted({m.topic_key for m in sample.members if m.window in of})
    assert list(reader.topic_keys()) == keys
    pages = dict(made.blocks)
    for row in made.rows:
        assert reader.page(row) == pages[row.cid]
    assert [(row, page) for row, page in reader.pages(reader.rows())] == [
        (row, pages[row.cid]) for row in made.rows
    ]
    # The sections are the files, but for the headers.
    files: dict[int, bytes] = {}
    for section in reader.sections():
        data = files.setdefault(section.part, car.header(made.root_cid))
        data += car.section(section.cid, reader.block(section))
        assert len(data) == section.offset + section.length
        files[section.part] = data
    assert [files[part] for part in range(len(parts))] == parts


def test_a_page_costs_its_table_and_itself(sample: SampleSet) -> None:
    of, made = body(sample)
    asked: Counter[int] = Counter()
    reader = SegmentReader(sample.descriptor, of, made.root_cid, reading(made.cars(), asked))
    asked.clear()
    reader.page(made.rows[-1])
    assert asked == {made.rows[-1].part: made.rows[-1].length}


def test_an_index_from_its_root_down(sample: SampleSet) -> None:
    of, made = day(sample)
    assert made.root.tables, "an index with tables"
    reader = IndexReader(sample.descriptor, of, made.root_cid, reading([made.car()]))
    assert list(reader.blocks()) == made.blocks
    assert car.write(made.root_cid, reader.blocks()) == made.car()
    assert len(list(reader.index_blocks())) == len(made.blocks) - 1 - len(made.root.tables)


@pytest.mark.parametrize("kind", ["segment", "index"])
def test_every_flipped_byte_of_a_block_is_found(sample: SampleSet, kind: str) -> None:
    if kind == "segment":
        of, made = body(sample)
        parts, reader_of = made.cars(), SegmentReader
    else:
        of, index = day(sample)
        parts, reader_of = [index.car()], IndexReader  # type: ignore[assignment]
    cid = car.read_header(parts[0])[0]

    def read_all(files: list[bytes]) -> list[Section]:
        reader = reader_of(sample.descriptor, of, cid, reading(files))
        return [each for each in reader.sections() if reader.block(each)]

    for section in read_all(parts):
        at = section.offset + section.length // 2
        wrong = [bytearray(part) for part in parts]
        wrong[section.part][at] ^= 1
        with pytest.raises(Invalid):
            read_all([bytes(part) for part in wrong])


def test_of_another_span_set_or_root_it_is_refused(sample: SampleSet) -> None:
    of, made = body(sample)
    parts, d = made.cars(), sample.descriptor
    for wrong in (span(d, 1, 0), Span(0, 4, 4, 1), Span(1, 1, 4, 8)):
        with pytest.raises(VerificationFailed) as caught:
            SegmentReader(d, wrong, made.root_cid, reading(parts))
        assert caught.value.code == "root-contradicts-entry"
    with pytest.raises(VerificationFailed) as caught:
        SegmentReader(SampleSet().descriptor, of, made.root_cid, reading(parts))
    assert caught.value.code == "root-contradicts-entry"
    with pytest.raises(VerificationFailed) as caught:
        SegmentReader(d, of, cids.cid_of(cids.DAG_CBOR, b"another"), reading(parts))
    assert caught.value.code == "wrong-root"
    of, index = day(sample)
    with pytest.raises(VerificationFailed) as caught:
        IndexReader(d, span(d, 2, 1), index.root_cid, reading([index.car()]))
    assert caught.value.code == "root-contradicts-entry"


def test_what_is_cut_off_is_said_to_be(sample: SampleSet) -> None:
    of, made = body(sample)
    parts = made.cars()
    short = [part[:-1] for part in parts]
    reader = SegmentReader(sample.descriptor, of, made.root_cid, reading(short))
    with pytest.raises(VerificationFailed) as caught:
        reader.page(made.rows[-1])
    assert caught.value.code == "truncated"
    with pytest.raises(VerificationFailed) as caught:
        list(reader.pages(reader.rows()))
    assert caught.value.code == "truncated"


def test_a_roll_up_taken_apart(
    sample: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where little of it is held at once."""
    monkeypatch.setattr(limits, "SPOOL_BYTES", 2_000)
    of, made = body(sample)
    reader = SegmentReader(sample.descriptor, of, made.root_cid, reading(made.cars()))
    pages = 0

    def each_page() -> None:
        nonlocal pages
        pages += 1

    spool = Spool(tmp_path / "spool")
    spool.fill(of, reader, each_page)
    assert pages == len(made.rows)
    blocks = dict(made.blocks)
    every = [r for row in made.rows for r in parse(blocks[row.cid], of.first, of.windows)]
    for window in range(of.first, of.stop):
        assert list(spool.records(window)) == [r for r in every if r[0] == window]
    assert list(spool.records(of.stop)) == []
    # Another takes its place, and a start begins with none.
    other, made = body(sample, 0)
    reader = SegmentReader(sample.descriptor, other, made.root_cid, reading(made.cars()))
    spool.fill(other, reader, lambda: None)
    assert spool.span == other
    assert list(spool.records(of.first)) == []
    assert Spool(tmp_path / "spool").span is None
    assert not (tmp_path / "spool").exists()


def test_taking_apart_may_be_broken_off(sample: SampleSet, tmp_path: Path) -> None:
    of, made = body(sample)
    reader = SegmentReader(sample.descriptor, of, made.root_cid, reading(made.cars()))
    spool = Spool(tmp_path / "spool")

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        spool.fill(of, reader, stop)
    assert spool.span is None
