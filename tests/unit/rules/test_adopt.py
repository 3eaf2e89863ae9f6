"""R6, below every floor: when a tree is adopted, from where on, and what must be proved first."""

from dataclasses import replace

import pytest

from restante.errors import VerificationFailed
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.level import Level
from restante.formats.policy import VerifiedCheckpoint
from restante.formats.tree import Frontier, leaf_hash
from restante.rules.adopt import AdoptionRefused, adopt, first_needed, floor_for
from restante.rules.cosign import Signed, SplitTree


def descriptor(n: int, levels: tuple[Level, ...] = (), lag: int = 10) -> Descriptor:
    keys = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(n)]
    return Descriptor(
        origin="adopt.example/log-00112233",
        genesis_s=1_500_000_000,
        f=(n - 1) // 3,
        validators=tuple(key.vkey() for key in keys),
        levels=levels,
        rollup_lag=lag,
    )


D = descriptor(4)
SIZE = 20_000
ENTRIES = [b"entry %d" % i for i in range(600)]


def root_of(size: int) -> bytes:
    return Frontier.EMPTY.extend(map(leaf_hash, ENTRIES[:size])).root()


def absent(path: str) -> bytes:
    raise AssertionError(path)


FILES, _ = tiles.grow(0, list(map(leaf_hash, ENTRIES)), absent)


def checkpoint(size: int = 600, root: bytes | None = None) -> VerifiedCheckpoint:
    return VerifiedCheckpoint(D.origin, size, root or root_of(size), ())


def reader(of: VerifiedCheckpoint, files: dict[str, bytes] = FILES) -> tiles.LogReader:
    return tiles.LogReader(files.__getitem__, of.size, of.root)


@pytest.mark.parametrize(
    ("floors", "expected"),
    [
        ([], None),
        ([900], None),  # one peer's word
        ([900, 800], 900),  # of two, one may lie: one honest has all from 900 on
        ([900, 800, 850], 850),
        ([900, 100, 850], None),  # somebody has window 100
        ([900, 101, 850], 850),  # a liar claims a low floor, and has not the window itself
    ],
)
def test_enough_peers_and_none_that_keeps_it(floors: list[int], expected: int | None) -> None:
    answers = {f"v{i}": floor for i, floor in enumerate(floors)}
    assert floor_for(D, 100, SIZE, answers) == expected


def test_sets_of_other_sizes() -> None:
    assert floor_for(descriptor(1), 100, SIZE, {}) is None
    assert floor_for(descriptor(2), 100, SIZE, {"v1": 200}) == 200
    seven = descriptor(7)
    assert floor_for(seven, 100, SIZE, dict.fromkeys("abc", 200)) is None
    assert floor_for(seven, 100, SIZE, {"a": 1, "b": 200, "c": 300, "d": 400}) is None
    assert floor_for(seven, 100, SIZE, {"a": 101, "b": 200, "c": 300, "d": 400}) == 300


def test_an_own_tree_that_is_lost_is_adopted_whoever_keeps_the_window() -> None:
    assert floor_for(D, 100, SIZE, {"a": 50, "b": 60}, lost=False) == 60


def test_what_new_needs_must_be_kept() -> None:
    k = D.recent_windows
    assert floor_for(D, 100, SIZE, {"a": SIZE - k, "b": SIZE - k}) == SIZE - k
    assert floor_for(D, 100, SIZE, {"a": SIZE - k, "b": SIZE - k + 1}) is None


def test_what_pending_roll_ups_are_made_of_must_be_kept() -> None:
    bodies = descriptor(4, (Level(10), Level(500)), lag=10)
    # [500, 1000) is named by the entry of window 1009.
    assert first_needed(bodies, 1_009) == 500
    assert first_needed(bodies, 1_010) == 1_000 - max(0, bodies.recent_windows - 10)
    # Of an index the log must name the first child, whose last window is 599.
    index = descriptor(4, (Level(100), Level(500, "index")), lag=10)
    assert first_needed(index, 1_009) == 599
    assert first_needed(index, 5) == 0


def test_it_must_continue_what_was_held_and_signed() -> None:
    of = checkpoint()
    held, signed = Signed(300, root_of(300)), Signed(299, root_of(299))
    adopted = adopt(of, b"note", reader(of), held, signed, 450, 300)
    assert (adopted.size, adopted.root) == (of.size, of.root)
    assert (adopted.floor, adopted.lost_from, adopted.note) == (450, 300, b"note")
    adopt(of, b"", reader(of), Signed(0, root_of(0)), None, 450, 300)
    for wrong in (replace(held, root=bytes(32)), replace(held, root=root_of(301))):
        with pytest.raises(SplitTree):
            adopt(of, b"", reader(of), wrong, signed, 450, 300)
        with pytest.raises(SplitTree):
            adopt(of, b"", reader(of), held, wrong, 450, 300)
    with pytest.raises(SplitTree):
        adopt(of, b"", reader(of), held, Signed(600, root_of(599)), 450, 300)


def test_a_tree_that_is_behind_is_refused() -> None:
    of = checkpoint()
    with pytest.raises(AdoptionRefused):
        adopt(of, b"", reader(of), Signed(601, bytes(32)), None, 450, 300)
    with pytest.raises(AdoptionRefused):
        adopt(of, b"", reader(of), Signed(300, root_of(300)), Signed(601, bytes(32)), 450, 300)


def test_false_hashes_are_the_peers_fault() -> None:
    of = checkpoint()
    refused = set()
    for path in FILES:
        altered = FILES | {path: bytes(len(FILES[path]))}
        try:
            adopt(of, b"", reader(of, altered), Signed(300, root_of(300)), None, 450, 300)
        except VerificationFailed as error:
            refused.add((path, error.code))
    edge = {tile.path for tile in tiles.right_edge(of.size)}
    assert {path for path, _ in refused} >= edge
    assert {code for _, code in refused} == {"tile"}
    with pytest.raises(ValueError, match="another tree"):
        adopt(of, b"", reader(checkpoint(599)), Signed(300, root_of(300)), None, 450, 300)
