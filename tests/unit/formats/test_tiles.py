"""Tiles: names, growth, and a reader that believes nothing that its root does not cover."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import limits
from restante.errors import InvalidEncoding, Unavailable, VerificationFailed
from restante.formats import tiles, tree


class Folder(dict[str, bytes]):
    """Files in memory, as a reader asks for them."""

    def get_file(self, path: str) -> bytes:
        self.asked.append(path)
        if path not in self:
            raise Unavailable(f"no {path}", code="not-found")
        return self[path]

    asked: list[str]


def entry(index: int) -> bytes:
    return b"entry %d" % index * (index % 3)


def published(size: int, step: int = 97) -> tuple[Folder, bytes]:
    """A log grown in steps, with every partial tile it ever had; and its root."""
    folder = Folder()
    folder.asked = []
    root = tree.EMPTY_ROOT
    for old in range(0, size, step):
        new = min(old + step, size)
        files, root = tiles.grow(
            old, [tree.leaf_hash(entry(i)) for i in range(old, new)], folder.get_file
        )
        folder.update(files)
        for n, width in tiles.bundles_for_growth(old, new):
            first = n * tiles.WIDTH
            folder[tiles.entries_path(n, width)] = tiles.encode_bundle(
                [entry(i) for i in range(first, first + width)]
            )
    return folder, root


# Two full tiles of level 1 would need 131,072 leaves; 66,000 pass one, and hold all shapes.
SMALL, SMALL_ROOT = published(700)
LARGE, LARGE_ROOT = published(66_000, 33_000)


def test_numbers_are_grouped_as_the_specification_says() -> None:
    for n, text in ((0, "000"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067")):
        assert tiles.number(n) == text
        assert tiles.parse_number(text) == n
    for text in ("", "0", "0000", "x000/000", "001/000", "x001", "x001/x002", "١٢٣", "000\n"):
        with pytest.raises(InvalidEncoding):
            tiles.parse_number(text)
    with pytest.raises(ValueError):
        tiles.number(-1)


@given(st.integers(0, 63), st.integers(0, 10**9), st.integers(1, 256))
def test_a_path_names_one_tile(level: int, n: int, width: int) -> None:
    assert tiles.parse_tile_path(tiles.tile_path(level, n, width)) == tiles.Tile(level, n, width)
    assert tiles.parse_entries_path(tiles.entries_path(n, width)) == (n, width)
    assert tiles.parse_certificate_path(tiles.certificate_path(n, width)) == (n, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p",
        "tile/0/x000/000",
        "tile/entries/000",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/" + "x999/" * 5 + "999",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidEncoding):
        tiles.parse_tile_path(path)


def test_bundles_are_not_taken_for_one_another() -> None:
    for path in ("certificate/000", "tile/0/000", "tile/entries/000.p/256"):
        with pytest.raises(InvalidEncoding):
            tiles.parse_entries_path(path)
    with pytest.raises(InvalidEncoding):
        tiles.parse_certificate_path("tile/entries/000")


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_bundles_round_trip_and_hold_nothing_else(entries: list[bytes]) -> None:
    data = tiles.encode_bundle(entries)
    assert tiles.decode_bundle(data, len(entries)) == entries
    for bad, count in ((data + b"\0", len(entries)), (data, len(entries) + 1), (data[:-1], 5)):
        if bad != data or count != len(entries):
            with pytest.raises(InvalidEncoding):
                tiles.decode_bundle(bad, count)


def test_a_bundle_entry_has_at_most_65535_bytes() -> None:
    largest = bytes(limits.BUNDLE_ENTRY_MAX_BYTES)
    assert tiles.decode_bundle(tiles.encode_bundle([largest]), 1) == [largest]
    with pytest.raises(ValueError):
        tiles.encode_bundle([largest + b"\0"])


def test_the_edge_of_70000_is_the_specifications_example() -> None:
    assert tiles.right_edge(70_000) == [
        tiles.Tile(0, 273, 112),
        tiles.Tile(1, 1, 17),
        tiles.Tile(2, 0, 1),
    ]
    assert tiles.right_edge(256) == [tiles.Tile(1, 0, 1)]
    assert tiles.right_edge(0) == []
    assert tiles.tiles_for_growth(250, 513) == [
        tiles.Tile(0, 0),
        tiles.Tile(0, 1),
        tiles.Tile(0, 2, 1),
        tiles.Tile(1, 0, 2),
    ]
    assert tiles.tiles_for_growth(257, 258) == [tiles.Tile(0, 1, 2)]
    assert tiles.tiles_for_growth(5, 5) == []


@pytest.mark.parametrize("step", [1, 7, 256, 300, 700])
def test_growth_in_any_steps_gives_the_same_tree(step: int) -> None:
    folder, root = published(700, step)
    assert root == SMALL_ROOT == tree.root([tree.leaf_hash(entry(i)) for i in range(700)])
    for tile in tiles.tiles_for_growth(0, 700):
        assert folder[tile.path] == SMALL[tile.path]


def test_growth_asks_only_for_the_right_edge() -> None:
    SMALL.asked = []
    tiles.grow(700, [bytes(32)], SMALL.get_file)
    assert set(SMALL.asked) == {tile.path for tile in tiles.right_edge(700)}


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 699, 700])
def test_every_hash_of_a_verified_tree_is_right(size: int) -> None:
    folder, root = published(size)
    reader = tiles.TileReader(folder.get_file, size, root)
    leaves = [tree.leaf_hash(entry(i)) for i in range(size)]
    for old in range(size + 1):
        assert reader.root_at(old) == tree.root(leaves[:old]) if old % 16 < 2 else True
    for index in range(0, size, 13):
        proof = tree.inclusion_proof(index, size, reader.hash_at)
        tree.verify_inclusion(leaves[index], index, size, proof, root)
    with pytest.raises(ValueError):
        reader.hash_at(0, size)


def test_entries_come_out_verified() -> None:
    log = tiles.LogReader(LARGE.get_file, 66_000, LARGE_ROOT)
    for index in (0, 1, 255, 256, 65_535, 65_536, 65_999):
        LARGE.asked = []
        assert log.entry(index) == entry(index)
        wanted = {tile.path for tile in tiles.tiles_to_verify(index, index + 1, 66_000)}
        assert {path for path in LARGE.asked if "entries" not in path} <= wanted
    for index in (-1, 66_000):
        with pytest.raises(ValueError):
            log.entry(index)
    assert len(log.bundle(257)) == 66_000 - 257 * 256


def test_what_verifying_needs_is_known_before() -> None:
    needed = tiles.tiles_to_verify(10, 600, 66_000)
    folder = Folder({tile.path: LARGE[tile.path] for tile in needed})
    folder.asked = []
    reader = tiles.TileReader(folder.get_file, 66_000, LARGE_ROOT)
    for index in range(10, 600):
        assert reader.hash_at(0, index) == tree.leaf_hash(entry(index))
    assert sorted(folder.asked) == sorted(tile.path for tile in needed)
    assert tiles.tiles_to_verify(3, 3, 5) == tiles.right_edge(5)


def test_a_full_tile_serves_where_the_partial_one_went() -> None:
    folder, root_500 = published(500, 250)
    grown, _ = published(700, 350)
    for path in list(folder):
        if ".p/" in path:
            del folder[path]
    for path, data in grown.items():
        if ".p/" not in path:
            folder[path] = data
    # 700 leaves have no full tile of level 1 yet: that partial one stays.
    folder[tiles.tile_path(1, 0, 1)] = grown[tiles.tile_path(1, 0, 2)][:32]
    log = tiles.LogReader(folder.get_file, 500, root_500)
    assert [log.entry(i) for i in range(500)] == [entry(i) for i in range(500)]


def test_older_checkpoints_are_held_against_newer_trees() -> None:
    log = tiles.LogReader(SMALL.get_file, 700, SMALL_ROOT)
    for old in (0, 1, 256, 699, 700):
        root = tree.root([tree.leaf_hash(entry(i)) for i in range(old)])
        log.check_consistent(old, root)
        with pytest.raises(VerificationFailed) as failure:
            log.check_consistent(old, bytes(32))
        assert failure.value.code == "consistency"
    with pytest.raises(VerificationFailed):
        log.check_consistent(701, SMALL_ROOT)


def test_any_altered_file_is_found_by_whoever_reads_it() -> None:
    for path in [path for path in SMALL if "/" in path]:
        for at in (0, len(SMALL[path]) // 2, len(SMALL[path]) - 1):
            data = bytearray(SMALL[path])
            data[at] ^= 1
            for altered in (bytes(data), bytes(data[:-1]), bytes(data) + b"\0"):
                folder = Folder(SMALL)
                folder.asked = []
                folder[path] = altered
                log = tiles.LogReader(folder.get_file, 700, SMALL_ROOT)
                codes = set()
                for n in range(3):
                    try:
                        assert log.bundle(n) == [
                            entry(i) for i in range(n * 256, min(700, n * 256 + 256))
                        ]
                    except VerificationFailed as failure:
                        codes.add(failure.code)
                if path in folder.asked:
                    assert codes == {"entry" if "entries" in path else "tile"}
                else:
                    assert not codes


def test_a_wrong_root_or_a_missing_tile_gives_nothing() -> None:
    with pytest.raises(VerificationFailed):
        tiles.LogReader(SMALL.get_file, 700, bytes(32)).entry(0)
    empty = Folder()
    empty.asked = []
    with pytest.raises(Unavailable):
        tiles.LogReader(empty.get_file, 700, SMALL_ROOT).entry(0)
    with pytest.raises(VerificationFailed):
        tiles.LogReader(empty.get_file, 0, bytes(32)).check_consistent(0, tree.EMPTY_ROOT)
    with pytest.raises(InvalidEncoding):
        tiles.TileReader(empty.get_file, limits.TREE_SIZE_MAX + 1)


def test_a_reader_forgets_old_bundles_and_reads_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TILES_KEPT", 2)
    log = tiles.LogReader(LARGE.get_file, 66_000, LARGE_ROOT)
    for n in (0, 1, 2, 3, 0):
        assert log.bundle(n)[5] == entry(n * 256 + 5)
    assert len(log._bundles) == 2
