"""Archives that lie: files of the small archive changed, and what a verifier must make of it.

A row has the files that differ, in base64 (null for one that is gone), and the number of one of the
archive's queries, which must not be answered with them. In the rows marked `signed` every hash and
signature is right, and what the validators signed contradicts itself. Rows `through` an index
concern who reads through it, the others who reads the segments by their own roots; both by bucket.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import format_levels as levels
from format_keys import LEVELS_LOG, VALIDATORS
from format_levels import SET, SIZE, A, B

from restante.formats import cid as cids
from restante.formats import dagcbor, tiles
from restante.formats.entry import LogEntry
from restante.formats.index_cut import Index
from restante.formats.level import Span
from restante.formats.page import topic_key
from restante.formats.paths import segment_path
from restante.formats.segment import Segment

FIRST, SECOND, DAY = Span(1, 0, 0, 2), Span(1, 1, 2, 2), Span(2, 0, 0, 4)
EVERYTHING = 0
"""The number of the question that reads all of the archive, for topic A; the next is for B."""


class Mutant(NamedTuple):
    """One archive that lies."""

    why: str
    files: dict[str, bytes | None]
    query: int = EVERYTHING
    signed: bool = False
    through: str = "any"


@cache
def right() -> dict[str, bytes]:
    return levels.files(levels.worked())


def flipped(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def served() -> Iterator[Mutant]:
    """What a source can do alone."""
    files = right()
    bundle, tile = tiles.entries_path(0, SIZE), tiles.Tile(0, 0, SIZE).path
    first, second, batch = (segment_path(*each) for each in ((1, 0), (1, 1), (0, 4)))
    day = segment_path(2, 0)
    entries = tiles.decode_bundle(files[bundle], SIZE)
    swapped = [entries[1], entries[0], *entries[2:]]
    note = files["checkpoint"].decode().splitlines(keepends=True)
    yield Mutant("a bit of an envelope in a roll-up", {first: flipped(files[first], -1)})
    yield Mutant("a bit of an envelope in a batch", {batch: flipped(files[batch], -1)})
    yield Mutant("a bit of a roll-up's root", {first: flipped(files[first], 150)})
    yield Mutant("another span's roll-up", {second: files[first]})
    yield Mutant("a roll-up that ends early", {first: files[first][:-1]})
    yield Mutant("two entries in each other's place", {bundle: tiles.encode_bundle(swapped)})
    yield Mutant("a bit of an entry", {bundle: flipped(files[bundle], 40)})
    yield Mutant("a bundle that ends early", {bundle: files[bundle][:-1]})
    yield Mutant("a bit of a tile", {tile: flipped(files[tile], 0)})
    yield Mutant("two cosignatures of three", {"checkpoint": "".join(note[:-1]).encode()})
    yield Mutant(
        "one cosignature three times",
        {"checkpoint": "".join([*note[:6], note[5], note[5]]).encode()},
    )
    yield Mutant(
        "a size that nobody signed",
        {"checkpoint": files["checkpoint"].replace(b"\n10\n", b"\n11\n")},
    )
    yield Mutant("another set's descriptor", {"descriptor": flipped(files["descriptor"], -1)})
    yield Mutant("a bit of an index block", {day: flipped(files[day], -1)}, through="index")
    yield Mutant("another span's index", {day: files[segment_path(2, 1)]}, through="index")


# --- what the validators would have to sign -------------------------------------------------------


def resigned(archive: levels.Archive) -> dict[str, bytes | None]:
    """What differs between an archive and the right one, certificates apart."""
    new, old = levels.files(archive), right()
    differing: dict[str, bytes | None] = {
        path: data
        for path, data in new.items()
        if data != old.get(path) and not path.startswith("certificate/")
    }
    return differing | dict.fromkeys(sorted(old.keys() - new.keys()))


def with_wrong(wrong: levels.Wrong) -> dict[str, bytes | None]:
    return resigned(levels.made(SET, levels.worked().members, SIZE, wrong))


def with_rollups(window: int, rollups: tuple[bytes | None, ...]) -> dict[str, bytes | None]:
    """One entry names other roll-ups."""
    archive = levels.worked()
    entries: list[LogEntry] = list(archive.entries)
    entries[window] = replace(entries[window], rollups=rollups)
    return resigned(archive._replace(entries=entries))


def contradictions() -> Iterator[Mutant]:
    archive = levels.worked()
    members = archive.members
    kept = [m for m in members if (m.window, m.topic_key) != (1, archive.members[0].topic_key)]
    yield Mutant(
        "a roll-up that lacks an envelope of its windows",
        with_wrong({FIRST: levels.segment_of(SET, kept, FIRST)}),
    )
    yield Mutant(
        "an entry that names another span's roll-up", with_wrong({SECOND: archive.bodies[FIRST]})
    )
    yield Mutant(
        "a roll-up whose directory lacks a topic of its pages",
        with_wrong({FIRST: _without_key(archive.bodies[FIRST])}),
        query=EVERYTHING + 1,
    )
    first, day = archive.bodies[FIRST].root_cid, archive.indexes[DAY]
    second = archive.bodies[SECOND].root_cid
    yield Mutant("a roll-up within the limit that is said to be none", with_rollups(2, (None,)))
    yield Mutant("a roll-up where none comes due", with_rollups(1, (first,)))
    yield Mutant("none where one comes due", with_rollups(2, ()))
    yield Mutant("an index that is said to be none", with_rollups(4, (second, None)))
    yield Mutant(
        "an index that hides a topic in one of its children",
        with_wrong({DAY: _without_bit(day)}),
        through="index",
    )
    hiding = levels.made(SET, members, SIZE)
    del hiding.bodies[FIRST]
    yield Mutant(
        "an index that hides a child",
        with_wrong({DAY: levels.index_of(SET, hiding, DAY)}),
        query=EVERYTHING + 1,
        through="index",
    )


def _without_key(segment: Segment) -> Segment:
    directory = segment.root.directory
    assert directory is not None
    assert directory[1] == topic_key(SET.set_id, B)
    root = replace(segment.root, directory=directory[:1])
    block = root.encode()
    cid = cids.cid_of(cids.DAG_CBOR, block)
    return Segment(cid, root, segment.rows, [(cid, block), *segment.blocks[1:]])


def _without_bit(index: Index) -> Index:
    """Topic A no longer in child 0, where it is; all lengths stay."""
    (named,) = index.root.blocks or ()
    value = dagcbor.decode(index.blocks[1][1])
    assert isinstance(value, list)
    keys, runs = value
    assert isinstance(keys, bytes)
    key = topic_key(SET.set_id, A).to_bytes(4, "big")
    assert key + b"\3" in keys
    block = dagcbor.encode([keys.replace(key + b"\3", key + b"\2"), runs])
    cid = cids.cid_of(cids.DAG_CBOR, block)
    root = replace(index.root, blocks=(named._replace(cid=cid),))
    encoded = root.encode()
    root_cid = cids.cid_of(cids.DAG_CBOR, encoded)
    return Index(root_cid, root, [(root_cid, encoded), (cid, block)])


def vectors() -> list[dict[str, Any]]:
    assert SET.validators == tuple(key.vkey() for key in VALIDATORS)
    assert SET.origin == LEVELS_LOG.name
    rows = [*served(), *(each._replace(signed=True) for each in contradictions())]
    return [each._asdict() | {"files": levels.encoded(each.files)} for each in rows]
