"""fsck makes every roll-up again, and names each way in which one can be wrong."""

import shutil
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_sample import Node, SampleSet
from restante import limits
from restante.formats import cid as cids
from restante.formats import dagcbor, whisper
from restante.formats.cut import cut
from restante.formats.index import ROW, IndexBlock
from restante.formats.index_cut import Index
from restante.formats.level import Level, Span, is_index, span
from restante.formats.page import Member
from restante.formats.segment import Place, Segment, Totals, make_head
from restante.node.fsck.check import fsck
from restante.node.fsck.findings import CODES, Report, Severity

LEVELS = (Level(2), Level(4), Level(8, "index"))
WINDOWS = 22
FORMS: dict[str, Any] = {"levels": LEVELS, "per_window": 6, "bucket_bits": 2, "data_bytes": 400}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes fill pages, tables and parts."""
    monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 1_200)
    monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 3)
    monkeypatch.setattr(limits, "DIRECTORY_KEYS", 2)
    monkeypatch.setattr(limits, "CAR_PART_BYTES", 6_000)
    monkeypatch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 200)
    monkeypatch.setattr(limits, "INDEX_NAMES", 2)


def make(directory: Path, sample: SampleSet, windows: int = WINDOWS) -> None:
    node = Node.create(sample, directory)
    for _ in range(windows):
        sealed = sample.next_window()
        node.observe(sealed)
        node.commit(sealed)
        node.cosign()
    node.close()


def check(sample: SampleSet, directory: Path) -> Report:
    return fsck(directory, sample.descriptor, sample.examine)


def found(report: Report) -> set[tuple[str, str]]:
    return {(f.code, f.file) for f in report.findings}


def test_good_roll_ups(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample)
    report = check(sample, tmp_path)
    assert report.findings == []
    # Entries name what ended two windows before at the latest.
    assert (report.rollups, report.indexes) == (10 + 5, 2)
    assert report.envelopes == 6 * WINDOWS
    parts = list((tmp_path / "archive/segment/2").iterdir())
    assert len(parts) > 8, "roll-ups of several parts"


def test_every_flipped_byte_of_a_roll_up_is_found(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample, 12)
    for level in (1, 2, 3):
        for path in sorted((tmp_path / f"archive/segment/{level}").glob("000*.car")):
            data = path.read_bytes()
            for at in range(0, len(data), max(1, len(data) // 25)):
                flipped = bytearray(data)
                flipped[at] ^= 1
                path.write_bytes(flipped)
                report = check(sample, tmp_path)
                name = f"archive/segment/{level}/000.car"
                assert ("rollup", name) in found(report), (path, at, report.findings)
            path.write_bytes(data)
            for wrong in (data + b"x", data[:-1]):
                path.write_bytes(wrong)
                assert not check(sample, tmp_path).ok
            path.write_bytes(data)
    assert check(sample, tmp_path).findings == []


# --- mutants: what a wrong implementation makes, and names in its log -----------------------------

FIVE = span(SampleSet(**FORMS).descriptor, 1, 5)
OF = span(SampleSet(**FORMS).descriptor, 2, 2)
DAY = span(SampleSet(**FORMS).descriptor, 3, 1)


def records_of(sample: SampleSet, of: Span) -> list[Member]:
    return sorted(member for member in sample.members if member.window in of)


def cut_of(sample: SampleSet, of: Span, members: list[Member]) -> Segment:
    """A segment of exactly these records, which may be no set."""
    directory = array("I")
    depth = 2
    records = ((m.topic_key, m.window, m.raw) for m in members)
    pages = list(cut(records, of.first, of.windows, depth, directory))
    sent = [m.sent_s for m in members]
    totals = Totals(len(members), sum(len(m.raw) for m in members), min(sent), max(sent))
    rows = [row for row, _ in pages]
    place = Place(of.level, of.first, of.windows)
    cid, root, head = make_head(sample.set_id, place, totals, depth, rows, directory)
    return Segment(cid, root, tuple(rows), head + [(row.cid, page) for row, page in pages])


def dropped(sample: SampleSet, of: Span, honest: Any) -> Segment:
    return cut_of(sample, of, records_of(sample, of)[:-1])


def page_cut_elsewhere(sample: SampleSet, of: Span, honest: Any) -> Segment:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "PAGE_TARGET_BYTES", 500)
        return cut_of(sample, of, records_of(sample, of))


def child_twice(sample: SampleSet, of: Span, honest: Any) -> Segment:
    again = [member for member in records_of(sample, of) if member.window == of.first]
    return cut_of(sample, of, sorted([*records_of(sample, of), *again]))


def another_envelope(sample: SampleSet, of: Span, honest: Any) -> Segment:
    """As many, as long, sent in the same second: only the children tell."""
    *rest, last = records_of(sample, of)
    parsed = whisper.parse(last.raw)
    data = bytes([parsed.data[0] ^ 1]) + parsed.data[1:]
    raw = whisper.assemble(parsed.expiry_s, parsed.ttl_s, parsed.topic, data, parsed.nonce)
    return cut_of(sample, of, [*rest, last._replace(raw=raw, id=bytes(32))])


def another_number(sample: SampleSet, of: Span, honest: Any) -> Segment:
    earlier = sample.made[Span(of.level, of.number - 1, of.first - of.windows, of.windows)]
    assert isinstance(earlier, Segment)
    return earlier


def hidden_topic(sample: SampleSet, of: Span, honest: Any) -> Segment:
    """The directory does not name its last topic."""
    assert isinstance(honest, Segment)
    rows = list(honest.rows)
    keys = array("I", sorted({m.topic_key for m in records_of(sample, of)})[:-1])
    root = honest.root
    totals = Totals(root.count, root.bytes_, root.sent_min, root.sent_max)
    place = Place(of.level, of.first, of.windows)
    cid, new, head = make_head(sample.set_id, place, totals, root.depth, rows, keys)
    pages = honest.blocks[-len(rows) :]
    return Segment(cid, new, honest.rows, head + pages)


def with_blocks(honest: Index, change: Callable[[list[Any]], None]) -> Index:
    """An index whose first block was changed."""
    root, blocks = honest.root, dict(honest.blocks)
    names = list(root.blocks or ())
    assert names, "a small index"
    value: Any = dagcbor.decode(blocks[names[0].cid])
    change(value)
    data = dagcbor.encode(value)
    cid = cids.cid_of(cids.DAG_CBOR, data)
    rest = [(name.cid, blocks[name.cid]) for name in names[1:]]
    names[0] = IndexBlock(names[0].topic_key, len(data), cid)
    changed = replace(root, blocks=tuple(names))
    encoded = changed.encode()
    root_cid = cids.cid_of(cids.DAG_CBOR, encoded)
    return Index(root_cid, changed, [(root_cid, encoded), (cid, data), *rest])


def wrong_mask(sample: SampleSet, of: Span, honest: Any) -> Index:
    def change(value: list[Any]) -> None:
        keys = bytearray(value[0])
        keys[4] = 0b01 if keys[4] != 0b01 else 0b10
        value[0] = bytes(keys)

    return with_blocks(honest, change)


def wrong_row(sample: SampleSet, of: Span, honest: Any) -> Index:
    def change(value: list[Any]) -> None:
        run = bytearray(value[1][0])
        run[ROW.size - 1] ^= 1
        value[1][0] = bytes(run)

    return with_blocks(honest, change)


def hidden_hour(sample: SampleSet, of: Span, honest: Any) -> Index:
    """The index says that an hour was not made."""
    children = [None, *honest.root.children[1:]]
    changed = replace(honest.root, children=tuple(children))
    encoded = changed.encode()
    root_cid = cids.cid_of(cids.DAG_CBOR, encoded)
    return Index(root_cid, changed, [(root_cid, encoded), *honest.blocks[1:]])


MUTANTS = [
    (OF, dropped, "rollup-records"),
    (OF, page_cut_elsewhere, "rollup-pages"),
    (OF, child_twice, "rollup-repeats"),
    (OF, another_envelope, "rollup-records"),
    (FIVE, another_number, "rollup-span"),
    (OF, hidden_topic, "rollup-directory"),
    (DAY, wrong_mask, "index-mask"),
    (DAY, wrong_row, "index-rows"),
    (DAY, hidden_hour, "index-children"),
]


class Mutant(SampleSet):
    """Makes one roll-up wrongly."""

    def wrong(self, of: Span, make: Callable[[SampleSet, Span, Any], Any]) -> None:
        self._of, self._make = of, make

    def roll_up(self, of: Span) -> Any:
        honest = super().roll_up(of)
        return self._make(self, of, honest) if of == self._of else honest


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("of", "make_wrong", "code"), MUTANTS)
def test_each_mutant_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of: Span,
    make_wrong: Callable[[SampleSet, Span, Any], Any],
    code: str,
    released: bool,
) -> None:
    """Also where what the roll-up was made of was given up, as far as the entries tell it."""
    monkeypatch.setattr(limits, "INDEX_NAMES", 1_000)
    sample = Mutant(**FORMS)
    sample.wrong(of, make_wrong)
    make(tmp_path, sample)
    node = Node.open(sample, tmp_path)
    if released:
        node.release(0, kept_windows=0)
    node.close()
    report = check(sample, tmp_path)
    if released and make_wrong in (page_cut_elsewhere, another_envelope, another_number):
        assert report.findings == [], "nobody can tell any more"
        return
    name = f"archive/segment/{of.level}/{of.number:03}.car"
    assert (code, name) in found(report), report.findings
    assert report.worst is Severity.LOST
    # What is made of it is at odds with the other children then, or is its faithful copy.
    assert {c for c, f in found(report) if f != name} <= {"index-children"}


def test_a_roll_up_at_another_place(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample)
    folder = tmp_path / "archive/segment/1"
    for file in folder.glob("003*"):
        file.unlink()
    for file in folder.glob("002*"):
        shutil.copy(file, folder / file.name.replace("002", "003"))
    assert ("rollup-misplaced", "archive/segment/1/003.car") in found(check(sample, tmp_path))


def test_none_is_a_matter_of_the_limit(tmp_path: Path) -> None:
    """A span over the limit has no roll-up, and keeps what it would have been made of."""
    few = SampleSet(**FORMS).envelope(0, 0)
    sample = SampleSet(**FORMS, rollup_limit_bytes=13 * len(few))
    make(tmp_path, sample)
    report = check(sample, tmp_path)
    assert report.findings == []
    assert (report.rollups, report.indexes) == (10, 2), "no hour, and the day says so"
    node = Node.open(sample, tmp_path)
    node.release(0, kept_windows=0)
    assert node.archive.segments.numbers(1) == list(range(11)), "nothing stands above them"
    assert node.archive.segments.numbers(0) == list(range(18, 22)), "within the lag"
    node.close()
    assert check(sample, tmp_path).findings == []


class Limitless(SampleSet):
    """Names what must be none."""

    def roll_up(self, of: Span) -> Any:
        d = self.descriptor
        if is_index(d, of.level):
            return super().roll_up(of)
        return cut_of(self, of, records_of(self, of))


def test_a_roll_up_over_the_limit_and_one_that_is_missing_from_the_log(tmp_path: Path) -> None:
    few = SampleSet(**FORMS).envelope(0, 0)
    sample: SampleSet = Limitless(**FORMS, rollup_limit_bytes=13 * len(few))
    make(tmp_path / "over", sample, 8)
    assert ("rollup-limit", "archive/tile/entries") in found(check(sample, tmp_path / "over"))

    class Forgetful(SampleSet):
        def due(self, window: int) -> tuple[bytes | None, ...]:
            return super().due(window)[1:]

    sample = Forgetful(**FORMS)
    make(tmp_path / "forgot", sample, 8)
    assert ("rollup-due", "archive/tile/entries") in found(check(sample, tmp_path / "forgot"))


# --- which files there are ------------------------------------------------------------------------


def test_released_children_are_no_damage_and_lost_ones_are(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample)
    node = Node.open(sample, tmp_path)
    whole = {level: node.archive.segments.numbers(level) for level in range(4)}
    # The newest window is 21, the lag 2: parents that end by 21 − 2 − 6 are past their time.
    node.release(0, kept_windows=6)
    kept = {level: node.archive.segments.numbers(level) for level in range(4)}
    node.close()
    assert kept[0] == list(range(12, 22))
    assert kept[1] == list(range(6, 11))
    assert (kept[2], kept[3]) == (whole[2], whole[3])
    assert check(sample, tmp_path).findings == []
    lost = {"rollup-missing": "1/006.car", "segment-missing": "0/012.car"}
    for code, name in lost.items():
        path = tmp_path / "archive/segment" / name
        data = path.read_bytes()
        path.unlink()
        assert found(check(sample, tmp_path)) == {(code, f"archive/segment/{name}")}
        path.write_bytes(data)
    # Without its marks a child may be gone where what was made of it is here.
    (tmp_path / "archive/.state/blocks.db").unlink()
    assert {code for code, _ in found(check(sample, tmp_path))} == {"block-index"}


def test_what_should_be_gone_is_a_note(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample)
    folder = tmp_path / "archive/segment"
    child = (folder / "0/003.car").read_bytes()
    node = Node.open(sample, tmp_path)
    node.release(0, kept_windows=6)
    node.close()
    (folder / "0/003.car").write_bytes(child)
    (folder / "1/500.car").write_bytes(child)
    report = check(sample, tmp_path)
    assert found(report) == {
        ("segment-unreleased", "archive/segment/0/003.car"),
        ("segment-stray", "archive/segment/1/500.car"),
    }
    assert report.ok


def test_retention_over_roll_ups(tmp_path: Path) -> None:
    sample = SampleSet(**FORMS)
    make(tmp_path, sample)
    node = Node.open(sample, tmp_path)
    node.release(9)
    kept = {level: node.archive.segments.numbers(level) for level in range(4)}
    node.close()
    assert kept[0] == list(range(9, 22))
    assert kept[1] == list(range(4, 11)), "one goes once all its windows are below"
    assert kept[2] == list(range(2, 5))
    assert kept[3] == [1]
    assert check(sample, tmp_path).findings == []


def test_a_roll_up_before_its_entry_is_checked_too(tmp_path: Path) -> None:
    """The next start takes it for right if its root adds up."""
    sample = SampleSet(**FORMS)
    make(tmp_path, sample, 21)
    path = tmp_path / "archive/segment/1/009.car"  # its entry is that of window 21
    assert check(sample, tmp_path).findings == []
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert found(check(sample, tmp_path)) == {("rollup", "archive/segment/1/009.car")}


def test_every_code_is_tested() -> None:
    ours = {code for code in CODES if code.startswith(("rollup", "index-", "segment-"))}
    tested = {code for *_, code in MUTANTS} | {
        "rollup", "rollup-misplaced", "rollup-limit", "rollup-due", "rollup-missing",
        "segment-missing", "segment-unreleased", "segment-stray",
    }  # fmt: skip
    assert ours - tested == {"rollup-content"}, "its clauses are those of a batch's pages"
