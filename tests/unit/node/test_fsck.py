"""fsck finds nothing in good state, and finds each damage, with its file and its severity."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from node_sample import Node, SampleSet
from restante.errors import StateError
from restante.formats.segment import Member, build, topic_key
from restante.node.durable.lock import Lock
from restante.node.durable.outbox import Outbox
from restante.node.fsck.check import fsck
from restante.node.fsck.findings import CODES, Report, Severity
from restante.ports import Arrival

WINDOWS = 6


def make(directory: Path, windows: int = WINDOWS) -> SampleSet:
    sample = SampleSet()
    node = Node.create(sample, directory)
    for _ in range(windows):
        sealed = sample.next_window()
        node.observe(sealed)
        node.commit(sealed)
        node.cosign()
    node.close()
    return sample


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleSet, Path]:
    directory = tmp_path_factory.mktemp("good")
    return make(directory), directory


@pytest.fixture
def copy(good: tuple[SampleSet, Path], tmp_path: Path) -> tuple[SampleSet, Path]:
    sample, directory = good
    shutil.copytree(directory, tmp_path / "node")
    return sample, tmp_path / "node"


def check(sample: SampleSet, directory: Path) -> Report:
    return fsck(directory, sample.descriptor, sample.examine)


def test_good_state(good: tuple[SampleSet, Path]) -> None:
    sample, directory = good
    seen: list[tuple[str, int, int]] = []
    report = fsck(
        directory, sample.descriptor, sample.examine, progress=lambda *step: seen.append(step)
    )
    assert report.findings == []
    assert report.ok
    assert report.worst is None
    assert (report.windows, report.segments, report.cosignatures) == (WINDOWS, WINDOWS, WINDOWS)
    assert report.envelopes == report.pool_records == 3 * WINDOWS
    assert report.envelope_bytes > 0
    assert {stage for stage, _, _ in seen} == {"tree", "segments", "decisions"}
    assert all(0 <= done <= total for _, done, total in seen)


def test_more_than_one_tile(tmp_path: Path) -> None:
    sample = SampleSet(per_window=1)
    node = Node.create(sample, tmp_path)
    for _ in range(260):
        node.commit(sample.next_window())
    node.cosign()
    node.close()
    report = check(sample, tmp_path)
    assert report.findings == []
    assert (report.windows, report.cosignatures) == (260, 1)
    path = tmp_path / "archive/tile/1/000.p/1"
    path.write_bytes(bytes(32))
    assert [(f.code, f.file) for f in check(sample, tmp_path).findings] == [
        ("tile", "archive/tile/1/000.p/1")
    ]


def test_every_flipped_byte_of_the_archive_is_found(copy: tuple[SampleSet, Path]) -> None:
    """Every file of the archive is covered: three bytes of each are tried, one at a time."""
    sample, directory = copy
    edge = {f"archive/{k}/000.p/{WINDOWS}" for k in ("tile/0", "tile/entries", "certificate")}
    files = [
        str(p.relative_to(directory))
        for p in (directory / "archive").rglob("*")
        if p.is_file() and ".state" not in p.parts
    ]
    # Partial files that a newer one covers are not proved: nothing newer links to them.
    files = [f for f in files if ".p/" not in f or f in edge]
    assert len(files) == WINDOWS + 3 + 2
    for file in files:
        data = (directory / file).read_bytes()
        for at in (0, len(data) // 2, len(data) - 1):
            flipped = bytearray(data)
            flipped[at] ^= 1
            (directory / file).write_bytes(flipped)
            report = check(sample, directory)
            assert not report.ok, (file, at)
            assert any(f.file == file for f in report.findings), (file, at, report.findings)
        (directory / file).write_bytes(data)
    assert check(sample, directory).ok


def remove(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).unlink()


def sql(statement: str) -> Callable[[Path], object]:
    def run(directory: Path) -> None:
        db = sqlite3.connect(directory / "lock" / "lock.db")
        db.execute(statement)
        db.commit()
        db.close()

    return run


def cut_pool(directory: Path) -> None:
    path = directory / "pool" / f"{0:020}.log"
    os.truncate(path, path.stat().st_size - 1)


def rot_pool(directory: Path) -> None:
    path = directory / "pool" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)


def leftover(directory: Path) -> None:
    (directory / "archive" / "tile" / ".000.1-1.tmp").write_bytes(b"half")


@pytest.mark.parametrize(
    ("damage", "code", "severity"),
    [
        (lambda d: shutil.rmtree(d / "archive"), "archive-missing", Severity.REBUILDABLE),
        (remove("archive/segment/0/002.car"), "segment-missing", Severity.REBUILDABLE),
        (remove(f"archive/tile/entries/000.p/{WINDOWS}"), "archive-file", Severity.REBUILDABLE),
        (remove(f"archive/certificate/000.p/{WINDOWS}"), "archive-file", Severity.REBUILDABLE),
        (remove(f"archive/tile/0/000.p/{WINDOWS}"), "archive-behind", Severity.REBUILDABLE),
        (remove("archive/.state/blocks.db"), "block-index", Severity.NOTE),
        (leftover, "leftover", Severity.NOTE),
        (lambda d: shutil.rmtree(d / "lock"), "lock", Severity.LOST),
        (lambda d: shutil.rmtree(d / "pool"), "pool-missing", Severity.LOST),
        (remove(f"pool/{0:020}.log"), "pool-damaged", Severity.LOST),
        (rot_pool, "pool-damaged", Severity.LOST),
        (cut_pool, "pool-short", Severity.LOST),
        (sql("DELETE FROM decision WHERE window = 3"), "lock-gap", Severity.LOST),
        (sql("DELETE FROM decision WHERE window = 5"), "lock-behind-archive", Severity.LOST),
        (sql("UPDATE decision SET cid = zeroblob(36) WHERE window = 2"), "decision", Severity.LOST),
        (
            sql("UPDATE decision SET certificate = zeroblob(9) WHERE window = 2"),
            "decision",
            Severity.LOST,
        ),
        (sql("UPDATE decision SET entry = zeroblob(9) WHERE window = 2"), "entry", Severity.LOST),
        (
            sql("UPDATE cosignature SET root = zeroblob(32) WHERE size = 4"),
            "cosignature",
            Severity.LOST,
        ),
        (
            sql("UPDATE cosignature SET line = zeroblob(72) WHERE size = 4"),
            "cosignature",
            Severity.LOST,
        ),
        (
            sql("UPDATE cosignature SET size = 60 WHERE size = 6"),
            "cosignature",
            Severity.LOST,
        ),
        (sql("UPDATE meta SET value = x'00000000' WHERE name = 'key_id'"), "lock", Severity.LOST),
        (sql("UPDATE meta SET value = zeroblob(32) WHERE name = 'set_id'"), "lock", Severity.LOST),
    ],
)
def test_each_damage_is_named(
    copy: tuple[SampleSet, Path],
    damage: Callable[[Path], object],
    code: str,
    severity: Severity,
) -> None:
    sample, directory = copy
    damage(directory)
    report = check(sample, directory)
    assert code in {f.code for f in report.findings}, report.findings
    assert report.worst == severity, report.findings
    assert report.ok == (severity is Severity.NOTE)
    assert all(f.hint and f.file and f.detail for f in report.findings)


@pytest.mark.parametrize(
    ("held", "found"),
    [
        (b"entry", []),
        (None, ["engine-differs"]),
        (b"another", ["engine-differs"]),
        (StateError("engine.db is missing"), ["engine-missing"]),
    ],
)
def test_the_engine_is_the_one_that_was_read(
    copy: tuple[SampleSet, Path], held: bytes | StateError | None, found: list[str]
) -> None:
    sample, directory = copy
    lock = Lock.open(directory / "lock", sample.set_id, None)
    with lock.transaction("advance"):
        lock.advance_engine(900, sha256(b"entry").digest())
    lock.close()

    def slot(number: int) -> bytes | None:
        assert number == 900
        if isinstance(held, StateError):
            raise held
        return held

    report = fsck(directory, sample.descriptor, sample.examine, slot=slot)
    assert [f.code for f in report.findings] == found
    assert all("new history" in f.hint and f.severity is Severity.LOST for f in report.findings)


def test_a_torn_tail_is_a_note(copy: tuple[SampleSet, Path]) -> None:
    sample, directory = copy
    with (directory / "pool" / f"{0:020}.log").open("ab") as file:
        file.write(b"\x80\x00\x00\x40half a record")
    report = check(sample, directory)
    assert [f.code for f in report.findings] == ["pool-torn"]
    assert report.ok


def bad_batch(tmp_path: Path, window: int, raws: list[bytes]) -> Report:
    """A node that committed a batch which validators ought to have refused."""
    sample = SampleSet()
    node = Node.create(sample, tmp_path)
    for _ in range(window):
        node.commit(sample.next_window())
    node.commit(sample.next_window(raws))
    node.close()
    return check(sample, tmp_path)


def test_an_envelope_twice(tmp_path: Path) -> None:
    report = bad_batch(tmp_path, 3, [SampleSet().envelope(2, 1)])
    assert [(f.code, f.file) for f in report.findings] == [
        ("batch-repeats", "archive/segment/0/003.car")
    ]


def test_an_envelope_outside_its_window(tmp_path: Path) -> None:
    report = bad_batch(tmp_path, 1, [SampleSet().envelope(40, 1)])
    assert [(f.code, f.file) for f in report.findings] == [
        ("batch-invalid", "archive/segment/0/001.car")
    ]


def test_an_envelope_that_r0_refuses(tmp_path: Path) -> None:
    sample = SampleSet()
    node = Node.create(sample, tmp_path)
    rubbish = b"\xc5no envelope"
    member = Member(
        topic_key(sample.set_id, b"1234"), 0, sample.descriptor.start_s(0), b"i" * 32, rubbish
    )
    sealed = sample.next_window([])
    segment = build(sample.set_id, [member], 0, bucket_bits=6)
    node.commit(sealed._replace(segment=segment, cars=segment.cars()))
    node.close()
    report = check(sample, tmp_path)
    assert any(
        f.code == "segment" and f.file == "archive/segment/0/000.car" for f in report.findings
    )


def test_a_released_range_is_no_damage(copy: tuple[SampleSet, Path]) -> None:
    sample, directory = copy
    node = Node.open(sample, directory)
    node.release(3)
    node.lock.prune(4, archived_below=3)
    node.close()
    report = check(sample, directory)
    assert report.findings == []
    assert (report.windows, report.segments) == (WINDOWS, WINDOWS - 3)


def test_what_waits_for_a_store_and_is_gone(copy: tuple[SampleSet, Path]) -> None:
    sample, directory = copy
    node = Node.open(sample, directory)
    outbox = Outbox(directory / "outbox.db", node.archive, ["near"])
    outbox.catch_up()
    outbox.close()
    node.close()
    assert check(sample, directory).findings == []
    (directory / "archive" / "segment" / "0" / "001.car").unlink()
    assert {f.code for f in check(sample, directory).findings} == {"outbox-path", "segment-missing"}


def test_a_running_node_is_left_alone(copy: tuple[SampleSet, Path]) -> None:
    sample, directory = copy
    node = Node.open(sample, directory)
    node.pool.append([Arrival(10**15, b"more")])
    with pytest.raises(StateError) as caught:
        check(sample, directory)
    assert caught.value.code == "lock-busy"
    node.close()
    assert check(sample, directory).ok


def test_many_findings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante.limits.FSCK_FINDINGS", 2)
    report = Report()
    for _ in range(5):
        report.add("leftover", "file", "detail")
    assert (len(report.findings), report.dropped, report.ok) == (2, 3, False)


def test_every_code_has_a_hint() -> None:
    assert all(hint for _, hint in CODES.values())
