"""A mirror is the archive, byte for byte, or an error; and goes on where it broke off."""

import random
from pathlib import Path

import pytest

from restante.client import Client, FolderSource, ProcessMemory, Query, SourceFailed
from restante.client.roster import Unverifiable
from restante.formats import tiles
from restante.formats.level import Level
from restante.formats.message import Certificate, accept_statement
from restante.node.mirror import Copied, Mirror
from restante.testing.archive_fixture import MadeArchive, envelope, make_set

MADE = make_set(
    levels=(Level(2), Level(6), Level(12, "index")), rollup_lag=2, ttl_max_s=60, slack_s=80
)
D = MADE.descriptor


def grow(archive: MadeArchive, windows: int) -> None:
    """More windows of a few envelopes, cosigned, with certificates and notes."""
    for _ in range(windows):
        window = archive.size
        dice = random.Random(window)
        raws = [
            envelope(
                bytes([0, 0, 0, dice.randrange(4)]), D.start_s(window) + i, dice.randbytes(900)
            )
            for i in range(dice.randrange(6))
        ]
        archive.append(raws)
    archive.cosign()
    archive.watch("v01")
    certificates(archive)


def certificates(archive: MadeArchive) -> None:
    """The bundle of certificates, whose bases nobody here looks at."""
    made = []
    for window in range(archive.size):
        cid = archive.segment(window, [r for w, r in archive.envelopes if w == window]).root_cid
        statement = accept_statement(D.set_id, window, window, bytes(32), cid)
        accepts = [(k.vkey().key_id, k.sign(statement)) for k in MADE.validators[: D.k]]
        made.append(Certificate(D.set_id, window, window, bytes(32), cid, tuple(sorted(accepts))))
    path = tiles.certificate_path(0, archive.size)
    archive.write(path, tiles.encode_bundle([each.encode() for each in made]))


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    made = MadeArchive(tmp_path / "archive", MADE)
    grow(made, 30)
    return made


def mirror(to: Path, *sources: FolderSource) -> Copied:
    with Client(MADE.policy(), list(sources), ProcessMemory()) as client:
        return Mirror(client, to).copy()


def newest(root: Path, size: int) -> dict[str, bytes]:
    """The files of an archive, but for partial ones of smaller trees."""
    edge = {tile.path for tile in tiles.right_edge(size)}
    edge |= {tiles.entries_path(0, size), tiles.certificate_path(0, size)}
    files = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_file() and not name.startswith(".") and (".p/" not in name or name in edge):
            files[name] = path.read_bytes()
    return files


def test_a_mirror_has_every_file_of_the_archive(tmp_path: Path, archive: MadeArchive) -> None:
    done = mirror(tmp_path / "copy", FolderSource(archive.root))
    assert newest(tmp_path / "copy", 30) == newest(archive.root, 30)
    assert (done.size, done.windows, done.gone) == (30, 30, 0)
    assert done.envelopes > len(archive.envelopes), "roll-ups have them once more"
    with Client(MADE.policy(), [FolderSource(tmp_path / "copy")], ProcessMemory()) as client:
        found = list(client.query(Query((), mode="all")))
    assert {(f.window, f.raw) for f in found} == set(archive.envelopes)


def test_a_second_run_copies_what_is_new(tmp_path: Path, archive: MadeArchive) -> None:
    source = Counting(archive.root)
    mirror(tmp_path / "copy", source)
    first = source.paths
    source.paths = []
    assert mirror(tmp_path / "copy", source).segments == 0
    assert not any(path.startswith("segment/") for path in source.paths)
    grow(archive, 7)
    done = mirror(tmp_path / "copy", source)
    assert (done.size, done.segments > 7) == (37, True)
    assert newest(tmp_path / "copy", 37).items() >= newest(archive.root, 37).items()
    assert first


class Counting(FolderSource):
    """Writes down what it is asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.paths: list[str] = []

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        self.paths.append(path)
        return super().get(path, offset=offset, length=length, max_bytes=max_bytes)


class Breaking(Counting):
    """Goes away after some requests."""

    left = 40

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise SourceFailed("gone", code="source-failed")
        return super().get(path, offset=offset, length=length, max_bytes=max_bytes)


def test_a_copy_that_broke_off_goes_on_and_has_no_checkpoint_before(
    tmp_path: Path, archive: MadeArchive
) -> None:
    with pytest.raises(Exception, match="gone"):
        mirror(tmp_path / "copy", Breaking(archive.root))
    assert not (tmp_path / "copy" / "checkpoint").exists()
    held = len(list((tmp_path / "copy" / "segment").rglob("*.car")))
    assert held > 10
    mirror(tmp_path / "copy", FolderSource(archive.root))
    assert newest(tmp_path / "copy", 30) == newest(archive.root, 30)
    assert not list((tmp_path / "copy").rglob("*.tmp"))


@pytest.mark.parametrize(
    "path",
    [
        "segment/0/007.car",
        "segment/1/003.car",
        "segment/2/001.car",
        "segment/3/000.car",
        "tile/0/000.p/30",
        "tile/entries/000.p/30",
        "certificate/000.p/30",
    ],
)
def test_a_lie_is_refused_and_the_next_source_asked(
    tmp_path: Path, archive: MadeArchive, path: str
) -> None:
    liar = tmp_path / "liar"
    mirror(liar, FolderSource(archive.root))
    data = bytearray((liar / path).read_bytes())
    data[len(data) * 2 // 3] ^= 1
    (liar / path).write_bytes(data)
    with pytest.raises(Unverifiable):
        mirror(tmp_path / "alone", FolderSource(liar, "liar"))
    assert not (tmp_path / "alone" / "checkpoint").exists()
    mirror(tmp_path / "both", FolderSource(liar, "liar"), FolderSource(archive.root))
    assert newest(tmp_path / "both", 30) == newest(archive.root, 30)


def test_a_liar_cannot_keep_a_mirror_from_what_the_honest_source_gave_up(
    tmp_path: Path, archive: MadeArchive
) -> None:
    liar = tmp_path / "liar"
    mirror(liar, FolderSource(archive.root))
    (archive.root / "segment/1/000.car").unlink()
    (liar / "segment/1/000.car").write_bytes(b"junk" * 100)
    done = mirror(tmp_path / "copy", FolderSource(liar), FolderSource(archive.root))
    assert done.gone == 1
    assert newest(tmp_path / "copy", 30) == newest(archive.root, 30)


def test_what_the_source_gave_up_is_left_out(tmp_path: Path, archive: MadeArchive) -> None:
    for window in range(12):
        (archive.root / f"segment/0/{window:03}.car").unlink()
    done = mirror(tmp_path / "copy", FolderSource(archive.root))
    assert done.gone == 12
    assert newest(tmp_path / "copy", 30) == newest(archive.root, 30)
