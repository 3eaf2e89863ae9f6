"""Roll-ups and indexes too large for a page of documentation, by recipe, and what must come out.

`envelopes`: those of a recipe as in `segments`, number i in window i mod (children · windows),
where windows is what a child covers; from window 0 on, of each child the roll-up of level 1; then
the index of level 2 over them, told that those listed as none were not made.

`tables`: children that exist as tables alone, so that the index needs tables itself. Child c, of
two windows, has count = rows, bytes = rows · length, sent times 1,500,000,000 + c to 1,500,000,059,
depth 6, its pages region at 1,000 + c, and a root whose hash is SHA-256("root c"). Its page j has
one record, the length given, topic key 100,000 · ⌊j / 2⌋ + c, window j mod 2 of the child, and the
hash SHA-256("page c j"); places follow. Its directory has these topic keys, and 100,000 · i + 50
for each i below rows / 2 that is not c modulo children.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, NamedTuple

import format_segments
from format_levels import Source
from format_segments import SET_ID

from restante.formats import car
from restante.formats import cid as cids
from restante.formats.index_cut import Index
from restante.formats.index_cut import build as build_index
from restante.formats.level import Span
from restante.formats.page import Member, PageRow, place, topic_key
from restante.formats.segment import Segment, build

BUCKET_BITS = 6


class Recipe(NamedTuple):
    """Children of level 1, from window 0 on, and an index of level 2."""

    children: int
    windows: int
    """Of one child."""
    none: tuple[int, ...]
    """Children that the index is told were not made."""
    runs: tuple[tuple[int, int, int], ...]
    """As of `format_segments`."""


ENVELOPES = Recipe(4, 3, (2,), ((1, 900, 33_000), (9_000, 12_000, 8), (40, 200, 900)))


@cache
def rollups(recipe: Recipe) -> list[Segment]:
    windows = recipe.children * recipe.windows
    made = format_segments.envelopes(format_segments.Recipe("", BUCKET_BITS, list(recipe.runs)))
    members = [
        Member(topic_key(SET_ID, topic), i % windows, sent_s, sha256(raw).digest(), raw)
        for i, (topic, sent_s, raw) in enumerate(made)
    ]
    spans = [Span(1, n, n * recipe.windows, recipe.windows) for n in range(recipe.children)]
    return [
        build(
            SET_ID,
            [member for member in members if member.window in of],
            of.first,
            of.windows,
            of.level,
            bucket_bits=BUCKET_BITS,
        )
        for of in spans
    ]


def of_envelopes(recipe: Recipe) -> dict[str, Any]:
    segments = rollups(recipe)
    sources = [None if n in recipe.none else Source(s) for n, s in enumerate(segments)]
    of = Span(2, 0, 0, recipe.children * recipe.windows)
    return {
        "why": "roll-ups of several pages a bucket, a topic whose rows fill several index blocks",
        "set": SET_ID.hex(),
        "bucket_bits": BUCKET_BITS,
        "children": recipe.children,
        "windows": recipe.windows,
        "none": list(recipe.none),
        "runs": [list(run) for run in recipe.runs],
        "rollups": [
            {
                "root_cid": cids.to_text(segment.root_cid),
                "depth": segment.root.depth,
                "pages": len(segment.rows),
                "parts": [_file(part) for part in segment.cars()],
            }
            for segment in segments
        ],
        "index": described(build_index(SET_ID, of, sources)),
    }


# --- an index of tables ---------------------------------------------------------------------------

CHILDREN = 9
ROWS = 38_000
LENGTH = 60_000


class Table:
    """A child of the second recipe."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.cid = cids.cid_from_digest(cids.DAG_CBOR, sha256(b"root %d" % number).digest())
        self.root: Any = SimpleNamespace(
            count=ROWS,
            bytes_=ROWS * LENGTH,
            sent_min=1_500_000_000 + number,
            sent_max=1_500_000_059,
            depth=6,
        )
        self.pages_start = 1_000 + number

    def rows(self) -> Iterator[PageRow]:
        part = end = 0
        for j in range(ROWS):
            part, offset = place(part, end, LENGTH)
            end = offset + car.section_bytes(LENGTH)
            digest = sha256(b"page %d %d" % (self._number, j)).digest()
            cid = cids.cid_from_digest(cids.RAW, digest)
            key, window = 100_000 * (j // 2) + self._number, 2 * self._number + j % 2
            yield PageRow(key, window, part, offset, LENGTH, 1, cid)

    def topic_keys(self) -> Iterable[int]:
        for i in range(ROWS // 2):
            yield 100_000 * i + self._number
            if i % CHILDREN != self._number:
                yield 100_000 * i + 50


def of_tables() -> dict[str, Any]:
    of = Span(2, 0, 0, 2 * CHILDREN)
    return {
        "why": "an index with more blocks than its root can name",
        "set": SET_ID.hex(),
        "children": CHILDREN,
        "windows": 2,
        "rows": ROWS,
        "length": LENGTH,
        "index": described(build_index(SET_ID, of, [Table(n) for n in range(CHILDREN)])),
    }


def described(index: Index) -> dict[str, Any]:
    root = index.root
    tables = root.tables or ()
    return {
        "root_cid": cids.to_text(index.root_cid),
        "tables": len(tables),
        "blocks": len(index.blocks) - 1 - len(tables),
        "file": _file(index.car()),
    }


def _file(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


@cache
def vectors() -> dict[str, Any]:
    return {"envelopes": of_envelopes(ENVELOPES), "tables": of_tables()}
