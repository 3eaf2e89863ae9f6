"""Sources that keep only what is new: what they lack is named, and the next one is asked."""

import os
import shutil
from pathlib import Path

import pytest

from restante.client import Client, FolderSource, Missing, ProcessMemory, Query
from restante.client.failures import SourceFailed
from restante.formats import tiles
from restante.formats.level import Level, Span, children
from restante.formats.paths import segment_path
from restante.testing.archive_fixture import envelope, make_archive, make_set

TOPIC = b"aaaa"
WINDOWS = 600
LEVELS = {
    "no levels": (),
    "with an index": (Level(2), Level(6), Level(24, "index")),
}


@pytest.fixture(scope="module", params=LEVELS)
def whole(request, tmp_path_factory):
    """An archive that keeps everything."""
    made = make_set(levels=LEVELS[request.param], rollup_lag=2, ttl_max_s=60, slack_s=80)
    d = made.descriptor
    envelopes = {w: [envelope(TOPIC, d.start_s(w))] for w in range(0, WINDOWS, 3)}
    return make_archive(tmp_path_factory.mktemp("whole"), envelopes, WINDOWS, made=made)


def keeping(whole, root: Path, floor: int) -> Path:
    """A copy of an archive, of a publisher with a floor."""
    shutil.copytree(whole.root, root, copy_function=os.link)
    original, whole.root = whole.root, root
    whole.retain(floor)
    whole.root = original
    return root


class Counting(FolderSource):
    def __init__(self, root):
        super().__init__(root, root.name)
        self.asked = []

    def get(self, path, *, offset=0, length=None, max_bytes):
        self.asked.append((path, length))
        return super().get(path, offset=offset, length=length, max_bytes=max_bytes)


def ask(whole, *roots, since=0, mode="bucket"):
    """(windows of what was found, what it cost each source, the error, the complaints)."""
    sources = [Counting(root) for root in roots]
    with Client(whole.made.policy(), sources, ProcessMemory()) as client:
        trusted = client.refresh()
        got, error = [], None
        try:
            got.extend(f.window for f in trusted.query(Query((TOPIC,), since=since, mode=mode)))
        except Missing as caught:
            error = caught
        return got, sources, error, trusted.complaints


EVERYTHING = list(range(0, WINDOWS, 3))
MODES = ["bucket", "exact", "all"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("floor", [24, 100, 256, 300, 599])
def test_below_a_floor_the_next_source_is_asked(whole, tmp_path, floor, mode):
    short = keeping(whole, tmp_path / "short", floor)
    got, _, error, complaints = ask(whole, short, whole.root, mode=mode)
    assert error is None
    assert got == EVERYTHING
    complaint = next(c for c in complaints if c.code == "below-retention")
    assert complaint.source == "short"
    # Between, smaller segments are gone that a larger one still holds.
    assert {c.code for c in complaints if c is not complaint} <= (
        {"not-found"} if mode == "all" else set()
    )
    d = whole.made.descriptor
    first, stop = complaint.lost
    # No more is said to be lost than is, but for what larger segments still hold.
    assert first == 0
    assert floor - max((level.windows for level in d.levels), default=1) < stop <= floor
    assert f"{d.start_s(first)} to {d.start_s(stop)}" in complaint.detail
    assert not complaint.lied


@pytest.mark.parametrize("mode", MODES)
def test_where_no_source_has_it_the_lost_range_is_named(whole, tmp_path, mode):
    one = keeping(whole, tmp_path / "one", 300)
    other = keeping(whole, tmp_path / "other", 400)
    got, _, error, complaints = ask(whole, one, other, mode=mode)
    assert got == []
    assert error.code == "below-retention"
    assert error.lost == (0, 300)
    assert "--since 300" in error.hint
    assert {c.code for c in complaints} == {"below-retention"}
    # And from there on it is answered.
    got, _, error, complaints = ask(whole, other, one, since=300, mode=mode)
    assert error is None
    assert got == [w for w in EVERYTHING if w >= 300]
    complaint = next(c for c in complaints if c.code == "below-retention")
    levels = whole.made.descriptor.levels
    assert (complaint.source, complaint.lost) == ("other", (300, 396 if levels else 400))


def test_a_floor_is_found_once_and_by_little(whole, tmp_path):
    short = keeping(whole, tmp_path / "short", 400)
    _, (first, _), error, _ = ask(whole, short, whole.root)
    assert error is None
    probes = [path for path, length in first.asked if length == 1]
    assert 0 < len(probes) < 60
    # What lies below it is not asked for again, whatever stands there.
    gone = {segment_path(0, w) for w in range(400)}
    assert sum(path in gone and length != 1 for path, length in first.asked) <= 8


def test_a_hole_is_no_floor(whole, tmp_path):
    """One file that is missing: its source is asked for all others."""
    holed = tmp_path / "holed"
    shutil.copytree(whole.root, holed, copy_function=os.link)
    levels = whole.made.descriptor.levels
    (holed / (segment_path(2, 20) if levels else segment_path(0, 120))).unlink()
    got, _, error, complaints = ask(whole, holed, whole.root)
    assert (got, error) == (EVERYTHING, None)
    assert [(c.source, c.code, c.lost) for c in complaints] == [("holed", "not-found", None)]
    got, _, error, _ = ask(whole, holed)
    assert error.code == "not-found"
    assert error.lost is None


def test_bundles_alone_that_are_gone(whole, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(whole.root, short, copy_function=os.link)
    (short / tiles.entries_path(0)).unlink()
    got, _, error, complaints = ask(whole, short, whole.root)
    assert (got, error) == (EVERYTHING, None)
    assert {c.code for c in complaints} == {"not-found"}


def test_a_source_with_nothing_but_its_newest(whole, tmp_path):
    bare = keeping(whole, tmp_path / "bare", WINDOWS)
    got, _, error, complaints = ask(whole, bare, whole.root)
    assert (got, error) == (EVERYTHING, None)
    assert {c.code for c in complaints} <= {"below-retention", "not-found"}


# --- released, missing, withheld --------------------------------------------------------------


def test_children_that_are_gone_are_read_in_their_parent(whole, tmp_path):
    """Before a day has passed too, if no source has them: what else is there is left out."""
    d = whole.made.descriptor
    root = tmp_path / "released"
    shutil.copytree(whole.root, root, copy_function=os.link)
    for made in whole.rollups:
        if made.level in (1, 2):
            for child in children(d, made):
                (root / segment_path(child.level, child.number)).unlink()
    for since in (0, 1, 2, 7, 25, 580, 595):
        for mode in MODES:
            got, (source,), error, _ = ask(whole, root, since=since, mode=mode)
            assert error is None, error
            assert got == [w for w in EVERYTHING if w >= since]
            read = [path for path, length in source.asked if (length or 0) > 1]
            segments = [path for path in read if path.startswith("segment/")]
            # Each parent is read once, however many of its children were wanted.
            assert len(segments) <= 2 * len(set(segments))


def test_an_index_that_nobody_has(whole, tmp_path):
    root = tmp_path / "without"
    shutil.copytree(whole.root, root, copy_function=os.link)
    shutil.rmtree(root / "segment/3", ignore_errors=True)
    for mode in ("bucket", "exact"):
        got, (source,), error, _ = ask(whole, root, mode=mode)
        assert (got, error) == (EVERYTHING, None)
        level = "2" if whole.made.descriptor.levels else "0"
        assert any(path.startswith(f"segment/{level}/") for path, _ in source.asked)


def test_what_is_withheld_is_named_and_asked_of_the_next(whole):
    withheld = segment_path(3, 4) if whole.made.descriptor.levels else segment_path(0, 6)

    class Censored(FolderSource):
        def get(self, path, **range_):
            if path == withheld:
                raise SourceFailed(f"{path}: withheld by source", code="withheld")
            return super().get(path, **range_)

    def query(*sources):
        with Client(whole.made.policy(), sources, ProcessMemory()) as client:
            answer = client.query(Query((TOPIC,)))
            return [f.window for f in answer], answer.summary.complaints

    censored = Censored(whole.root, "censored")
    got, complaints = query(censored, FolderSource(whole.root))
    assert got == EVERYTHING
    assert [(c.source, c.code, c.lied) for c in complaints] == [("censored", "withheld", False)]
    with pytest.raises(Missing) as caught:
        query(censored)
    assert caught.value.code == "withheld"
    assert "withheld by source" in str(caught.value)


def test_the_cover_knows_what_it_is_asked_of(whole):
    """A span that the tests name is one of the archive."""
    if whole.made.descriptor.levels:
        assert Span(2, 20, 120, 6) in whole.rollups
