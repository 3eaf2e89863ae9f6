"""The tree as files: c2sp.org/tlog-tiles (v0.1.0 and the text of 2026-10).

A tile is up to 256 consecutive hashes of one tile level, so that a tile level is eight tree levels;
an entry bundle is up to 256 log entries, each behind its length as u16. Only the rightmost tile of
a level is partial. Paths are relative to the archive's root.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from restante import limits
from restante.errors import InvalidEncoding, Unavailable, VerificationFailed
from restante.formats import tree

WIDTH = 256
_HEIGHT = 8
_HASH = tree.HASH_BYTES
_GROUPS = r"(?P<n>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<w>[1-9][0-9]{0,2}))?"
_TILE = re.compile(r"tile/(?P<level>0|[1-9][0-9]?)/" + _GROUPS, re.ASCII)
_BUNDLE = re.compile(r"(?P<kind>tile/entries|certificate)/" + _GROUPS, re.ASCII)

_K = TypeVar("_K")
_V = TypeVar("_V")

Get = Callable[[str], bytes]
"""A file by its path; raises Unavailable where there is none."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The name of one tile."""

    level: int
    """Tile level: its hashes are of tree level 8 * level."""
    n: int
    """Index within the level."""
    width: int = WIDTH
    """Hashes in it: 1…255 of a partial tile, 256 of a full one."""

    @property
    def path(self) -> str:
        """Its path in the archive."""
        return tile_path(self.level, self.n, self.width)


def number(n: int) -> str:
    """An index as the specification groups it: 1234067 is `x001/x234/067`."""
    if n < 0:
        raise ValueError("an index is not negative")
    text = f"{n % 1000:03d}"
    while n := n // 1000:
        text = f"x{n % 1000:03d}/{text}"
    return text


def parse_number(text: str) -> int:
    """The index of its canonical text. Raises InvalidEncoding."""
    match = re.fullmatch(_GROUPS, text, re.ASCII)
    if match is None or match["w"] is not None:
        raise InvalidEncoding("not an index in groups of three digits")
    return _index(match["n"])


def tile_path(level: int, n: int, width: int = WIDTH) -> str:
    """`tile/<level>/<n>[.p/<width>]`."""
    return f"tile/{level}/{number(n)}{_suffix(width)}"


def entries_path(n: int, width: int = WIDTH) -> str:
    """`tile/entries/<n>[.p/<width>]`: entries [256 n, 256 n + width)."""
    return f"tile/entries/{number(n)}{_suffix(width)}"


def certificate_path(n: int, width: int = WIDTH) -> str:
    """`certificate/<n>[.p/<width>]`: the certificates of the same entries, bundled alike."""
    return f"certificate/{number(n)}{_suffix(width)}"


def _suffix(width: int) -> str:
    if not 1 <= width <= WIDTH:
        raise ValueError("a tile holds 1…256 hashes")
    return "" if width == WIDTH else f".p/{width}"


def _index(groups: str) -> int:
    n = int(groups.replace("x", "").replace("/", ""))
    if number(n) != groups or n >= limits.TREE_SIZE_MAX:
        raise InvalidEncoding("an index is not canonical or too large")
    return n


def _width(text: str | None) -> int:
    width = WIDTH if text is None else int(text)
    if width > WIDTH - (text is not None):
        raise InvalidEncoding("a partial tile holds 1…255 hashes")
    return width


def parse_tile_path(path: str) -> Tile:
    """The tile of its path. Raises InvalidEncoding."""
    match = _TILE.fullmatch(path)
    if match is None or int(match["level"]) > 63:
        raise InvalidEncoding("not a tile's path")
    return Tile(int(match["level"]), _index(match["n"]), _width(match["w"]))


def parse_entries_path(path: str) -> tuple[int, int]:
    """(index, width) of an entry bundle's path. Raises InvalidEncoding."""
    return _bundle(path, "tile/entries")


def parse_certificate_path(path: str) -> tuple[int, int]:
    """(index, width) of a certificate bundle's path. Raises InvalidEncoding."""
    return _bundle(path, "certificate")


def _bundle(path: str, kind: str) -> tuple[int, int]:
    match = _BUNDLE.fullmatch(path)
    if match is None or match["kind"] != kind:
        raise InvalidEncoding(f"not a path below {kind}/")
    return _index(match["n"]), _width(match["w"])


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each behind its length as big-endian u16; ValueError for one above 65,535 bytes."""
    out = bytearray()
    for entry in entries:
        if len(entry) > limits.BUNDLE_ENTRY_MAX_BYTES:
            raise ValueError("an entry of a bundle has at most 65,535 bytes")
        out += len(entry).to_bytes(2, "big") + entry
    return bytes(out)


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """Exactly `count` entries and nothing after them. Raises InvalidEncoding."""
    entries: list[bytes] = []
    at = 0
    for _ in range(count):
        length = int.from_bytes(data[at : at + 2], "big")
        end = at + 2 + length
        if end > len(data):
            raise InvalidEncoding("an entry bundle is truncated")
        entries.append(data[at + 2 : end])
        at = end
    if at != len(data):
        raise InvalidEncoding("bytes follow the last entry of a bundle")
    return entries


def right_edge(size: int) -> list[Tile]:
    """The partial tiles of a tree, which together give its root, level 0 first."""
    edge = []
    level = 0
    while hashes := size >> _HEIGHT * level:
        if hashes % WIDTH:
            edge.append(Tile(level, hashes // WIDTH, hashes % WIDTH))
        level += 1
    return edge


def tiles_for_growth(old: int, new: int) -> list[Tile]:
    """The tiles of the tree of `new` leaves that are not in that of `old`, level 0 first."""
    tiles = []
    level = 0
    while hashes := new >> _HEIGHT * level:
        before = old >> _HEIGHT * level
        tiles += [Tile(level, n) for n in range(before // WIDTH, hashes // WIDTH)]
        if hashes % WIDTH and hashes != before:
            tiles.append(Tile(level, hashes // WIDTH, hashes % WIDTH))
        level += 1
    return tiles


def bundles_for_growth(old: int, new: int) -> list[tuple[int, int]]:
    """(index, width) of the entry bundles that hold an entry of [old, new)."""
    return [(tile.n, tile.width) for tile in tiles_for_growth(old, new) if tile.level == 0]


def tile_of(level: int, n: int, size: int) -> Tile:
    """Tile `n` of `level` as wide as the tree of `size` has it. ValueError if it has none."""
    width = min(WIDTH, (size >> _HEIGHT * level) - n * WIDTH)
    if n < 0 or width < 1:
        raise ValueError("the tree has no such tile")
    return Tile(level, n, width)


def tiles_to_verify(first: int, last: int, size: int) -> list[Tile]:
    """All tiles that verifying entries [first, last) touches, so that they can be had at once."""
    tiles = right_edge(size)
    level, low, high = 0, first // WIDTH, (last - 1) // WIDTH
    while first < last and low * WIDTH < size >> _HEIGHT * level:
        end = min(high, ((size >> _HEIGHT * level) - 1) // WIDTH)
        tiles += [t for n in range(low, end + 1) if (t := tile_of(level, n, size)) not in tiles]
        level, low, high = level + 1, low // WIDTH, high // WIDTH
    return tiles


def read_cut(get: Get, partial: str, full: str) -> tuple[bytes, bool]:
    """(bytes, whether they are the full tile's): the partial file may have made room for it."""
    if partial != full:
        try:
            return get(partial), False
        except Unavailable:
            return get(full), True
    return get(full), True


def _keep(cache: dict[_K, _V], key: _K, value: _V) -> None:
    if len(cache) >= limits.TILES_KEPT:
        del cache[next(iter(cache))]
    cache[key] = value


def _levels(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """The perfect subtrees over a tile's hashes: eight or fewer tree levels, lowest first."""
    levels = [list(hashes)]
    while len(below := levels[-1]) > 1:
        # tree.node_hash, without a call for each: a month's log has 86,400 of these.
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])
    return levels


class TileReader:
    """The hashes of one tree, read from tiles. With a root, no hash comes out unverified:

    the partial tiles of the right edge must together give the root, and each full tile must
    give the hash that its parent tile, verified before it, has for it.
    """

    def __init__(self, get: Get, size: int, root: bytes | None = None) -> None:
        """`root` None trusts the tiles (one's own, or to be checked by the caller)."""
        if not 0 <= size <= limits.TREE_SIZE_MAX:
            raise InvalidEncoding("a tree of that size is not supported")
        self.size = size
        self.root = root
        self._get = get
        self._tiles: dict[Tile, list[list[bytes]]] = {}
        # Full tiles of level 0 are nobody's parents: the oldest make room, memory stays bounded.
        self._leaf_tiles: dict[Tile, list[list[bytes]]] = {}
        self._edge_checked = root is None

    def hash_at(self, level: int, index: int) -> bytes:
        """The perfect subtree (level, index). Raises VerificationFailed (`tile`), Unavailable."""
        if level < 0 or index < 0 or index + 1 << level > self.size:
            raise ValueError("the tree has no such subtree")
        tile_level, height = divmod(level, _HEIGHT)
        tile = tile_of(tile_level, (index << height) // WIDTH, self.size)
        return self._levels_of(tile)[height][index - (tile.n * WIDTH >> height)]

    def leaves(self, n: int) -> list[bytes]:
        """The leaf hashes of tile `n` of level 0. Raises as `hash_at`."""
        return self._levels_of(tile_of(0, n, self.size))[0]

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` leaves. Raises as `hash_at`."""
        return tree.frontier_at(size, self.hash_at).root()

    def _levels_of(self, tile: Tile) -> list[list[bytes]]:
        self.check_edge()
        known = self._tiles.get(tile) or self._leaf_tiles.get(tile)
        if known is not None:
            return known
        # Walk up to a verified tile, then verify downwards: no recursion, at most five levels.
        chain = [tile]
        while self.root is not None:
            last = chain[-1]
            parent = tile_of(last.level + 1, last.n // WIDTH, self.size)
            if parent in self._tiles:
                break
            chain.append(parent)
        levels: list[list[bytes]] = []
        for each in reversed(chain):
            levels = self._read(each)
            if self.root is not None:
                parent = tile_of(each.level + 1, each.n // WIDTH, self.size)
                if levels[-1][0] != self._tiles[parent][0][each.n % WIDTH]:
                    raise VerificationFailed(f"{each.path} is not under the root", code="tile")
            if each.level or each.width < WIDTH:
                self._tiles[each] = levels
            else:
                _keep(self._leaf_tiles, each, levels)
        return levels

    def check_edge(self) -> None:
        """Verify the root from the right edge, once. Raises VerificationFailed (`tile`)."""
        if self._edge_checked:
            return
        edge = {tile: self._read(tile) for tile in right_edge(self.size)}

        def at(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, _HEIGHT)
            tile = tile_of(tile_level, (index << height) // WIDTH, self.size)
            return edge[tile][height][index - (tile.n * WIDTH >> height)]

        if tree.frontier_at(self.size, at).root() != self.root:
            raise VerificationFailed("the tiles do not give the checkpoint's root", code="tile")
        self._tiles.update(edge)
        self._edge_checked = True

    def _read(self, tile: Tile) -> list[list[bytes]]:
        data, full = read_cut(self._get, tile.path, tile_path(tile.level, tile.n))
        if len(data) != _HASH * (WIDTH if full else tile.width):
            raise VerificationFailed(f"{tile.path} has {len(data)} bytes", code="tile")
        return _levels([data[i : i + _HASH] for i in range(0, tile.width * _HASH, _HASH)])


class LogReader:
    """The entries of a log under one verified checkpoint (size, root), each proved by its tiles."""

    def __init__(self, get: Get, size: int, root: bytes) -> None:
        self.tiles = TileReader(get, size, root)
        self.size = size
        self._get = get
        self._bundles: dict[int, list[bytes]] = {}

    def entry(self, index: int) -> bytes:
        """Entry `index`. Raises VerificationFailed (`tile`, `entry`), Unavailable; ValueError."""
        if not 0 <= index < self.size:
            raise ValueError("the log has no such entry")
        return self.bundle(index // WIDTH)[index % WIDTH]

    def bundle(self, n: int) -> list[bytes]:
        """Entries [256 n, min(256 (n + 1), size)). Raises as `entry`."""
        known = self._bundles.get(n)
        if known is not None:
            return known
        leaves = self.tiles.leaves(n)
        path = entries_path(n, len(leaves))
        data, full = read_cut(self._get, path, entries_path(n))
        try:
            entries = decode_bundle(data, WIDTH if full else len(leaves))[: len(leaves)]
        except InvalidEncoding as error:
            raise VerificationFailed(f"{path}: {error}", code="entry") from error
        if [sha256(b"\x00" + entry).digest() for entry in entries] != leaves:
            raise VerificationFailed(f"{path} is not what its tile says", code="entry")
        _keep(self._bundles, n, entries)
        return entries

    def check_consistent(self, old_size: int, old_root: bytes) -> None:
        """That an older checkpoint is a prefix. Raises VerificationFailed (`consistency`)."""
        if old_size > self.size:
            raise VerificationFailed("the older tree is the larger one", code="consistency")
        self.tiles.check_edge()
        if self.tiles.root_at(old_size) != old_root:
            raise VerificationFailed(
                f"the tree of {self.size} does not continue that of {old_size}", code="consistency"
            )


def grow(old: int, leaf_hashes: Sequence[bytes], get: Get) -> tuple[dict[str, bytes], bytes]:
    """(new tiles by path, new root) of appending leaf hashes to a tree whose tiles one trusts.

    `get` is asked only for tiles of the tree of `old` leaves. Raises Unavailable.
    """
    new = old + len(leaf_hashes)
    before = TileReader(get, old)
    fresh: dict[tuple[int, int], bytes] = {(0, old + i): h for i, h in enumerate(leaf_hashes)}

    def at(level: int, index: int) -> bytes:
        if index + 1 << level <= old:
            return before.hash_at(level, index)
        known = fresh.get((level, index))
        if known is None:
            known = tree.node_hash(at(level - 1, 2 * index), at(level - 1, 2 * index + 1))
            fresh[level, index] = known
        return known

    files = {
        tile.path: b"".join(
            at(_HEIGHT * tile.level, i) for i in range(tile.n * WIDTH, tile.n * WIDTH + tile.width)
        )
        for tile in tiles_for_growth(old, new)
    }
    return files, tree.frontier_at(new, at).root()
