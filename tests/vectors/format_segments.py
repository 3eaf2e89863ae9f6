"""Segments too large for a page of documentation, by recipe, and what must come out of them.

A recipe is a list of (topics, count, data bytes): `count` envelopes, numbered on through the whole
list, number i with TTL 50, expiry 1,500,000,080 + i mod 30, topic = the first 4 bytes of
SHA-256("topic " ‖ number of the run ‖ " " ‖ i mod topics, in decimal), data = i as u32 big-endian
followed by zero bytes, nonce = i. No proof of work is done: these are about layout alone.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from restante.formats import cid, tiles, tree, whisper
from restante.formats.page import Member, topic_key
from restante.formats.segment import Segment, build

SET_ID = bytes(range(32))
WINDOW = 1


class Recipe(NamedTuple):
    """One segment."""

    why: str
    bucket_bits: int
    runs: list[tuple[int, int, int]]
    """(topics, count, data bytes)."""


# Around 32,746 bytes of data a small nonce's record has 22 more: two of them fill a page.
_EDGES = [(5, 40, 100), (1, 20, 32_746), (1, 20, 32_747), (3, 3, 70_000), (7, 700, 1_000)]
RECIPES = {
    "pages-of-one-record": Recipe(
        "page table in blocks, and a second part: every record is over half a page",
        6,
        [(97, 2_100, 33_000)],
    ),
    "many-topics": Recipe("directory in blocks", 6, [(16_500, 16_500, 8)]),
    "edges": Recipe(
        "pages that end at 64 KiB exactly and a byte before, pages of one larger record, buckets",
        6,
        _EDGES,
    ),
    "edges-one-bucket": Recipe(
        "the same envelopes without buckets",
        0,
        _EDGES,
    ),
    "largest-envelope": Recipe("a page of nearly 1 MiB", 6, [(1, 1, 1_048_560 - 20)]),
}


def envelopes(recipe: Recipe) -> Iterator[tuple[bytes, int, bytes]]:
    """(topic, sent time, bytes) of each envelope."""
    number = 0
    for run, (topics, count, data_bytes) in enumerate(recipe.runs):
        for _ in range(count):
            topic = sha256(b"topic %d %d" % (run, number % topics)).digest()[:4]
            sent_s = 1_500_000_030 + number % 30
            data = number.to_bytes(4, "big").ljust(data_bytes, b"\0")
            yield topic, sent_s, whisper.assemble(sent_s + 50, 50, topic, data, number)
            number += 1


def built(recipe: Recipe) -> Segment:
    members = [
        Member(topic_key(SET_ID, topic), WINDOW, sent_s, sha256(raw).digest(), raw)
        for topic, sent_s, raw in envelopes(recipe)
    ]
    return build(SET_ID, members, WINDOW, bucket_bits=recipe.bucket_bits)


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe, and the segment that it gives."""
    segment = built(recipe)
    root = segment.root
    return {
        "why": recipe.why,
        "set": SET_ID.hex(),
        "window": WINDOW,
        "bucket_bits": recipe.bucket_bits,
        "runs": [list(run) for run in recipe.runs],
        "root_cid": cid.to_text(segment.root_cid),
        "count": segment.count,
        "bytes": segment.bytes_,
        "depth": root.depth,
        "topics": root.topics,
        "pages": len(segment.rows),
        "page_blocks": len(root.page_blocks or ()),
        "directory_blocks": len(root.directory_blocks or ()),
        "parts": [{"bytes": len(c), "sha256": sha256(c).hexdigest()} for c in segment.cars()],
    }


def vectors() -> dict[str, Any]:
    return {name: described(recipe) for name, recipe in RECIPES.items()}


def trees() -> dict[str, Any]:
    """A tree of 70,000 leaves, entry i being i as u32: roots, files and proofs of some of it."""
    size = 70_000
    leaves = [tree.leaf_hash(i.to_bytes(4, "big")) for i in range(size)]
    rows = [leaves]
    while len(below := rows[-1]) > 1:
        rows.append([tree.node_hash(*below[i : i + 2]) for i in range(0, len(below) - 1, 2)])

    def at(level: int, index: int) -> bytes:
        return rows[level][index]

    files = {}
    for tile in [
        tiles.Tile(0, 0),
        tiles.Tile(0, 273, 112),
        tiles.Tile(1, 0),
        *tiles.right_edge(size),
    ]:
        hashes = b"".join(at(8 * tile.level, 256 * tile.n + i) for i in range(tile.width))
        files[tile.path] = sha256(hashes).hexdigest()
    return {
        "entry": "i as u32 big-endian",
        "roots": {
            str(n): tree.frontier_at(n, at).root().hex()
            for n in (0, 1, 2, 3, 7, 8, 255, 256, 257, 65_535, 65_536, 65_537, size)
        },
        "tiles": files,
        "inclusion": [
            {"index": i, "size": n, "proof": [h.hex() for h in tree.inclusion_proof(i, n, at)]}
            for i, n in ((0, 1), (0, 7), (4, 7), (6, 7), (12_345, size), (size - 1, size))
        ],
        "consistency": [
            {"old": o, "size": n, "proof": [h.hex() for h in tree.consistency_proof(o, n, at)]}
            for o, n in ((1, 2), (3, 7), (4, 7), (6, 8), (256, size), (65_537, size))
        ],
    }
