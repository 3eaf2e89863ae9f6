"""Roll-ups and indexes as docs/formats.md says that their bytes are, made from the omniscient
history by a plain sort: no code of `formats.merge`, `cut`, `page`, `index` or `level` is used.

What a simulation makes is small: tables stand in the root, an index has one block, a CAR one part.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from restante.formats import dagcbor
from restante.formats.dagcbor import Link, Value
from restante.formats.descriptor import Descriptor
from restante.testing.sim.history import Batch
from restante.testing.sim.workload import Made

PAGE_BYTES = 65_536
CID_BYTES = 36


class Due(NamedTuple):
    """A span whose roll-up an entry names."""

    level: int
    first: int
    windows: int
    is_index: bool


def due(d: Descriptor, window: int) -> list[Due]:
    """The spans that end `rollup_lag` windows before a window, lowest level first."""
    stop = window - d.rollup_lag + 1
    return [
        Due(number, stop - windows, windows, kind == "index")
        for number, (windows, kind) in enumerate(d.levels, start=1)
        if stop >= windows and stop % windows == 0
    ]


def is_none(of: Due, chain: Sequence[Batch], made: dict[bytes, Made], d: Descriptor) -> bool:
    """Whether a span has more bytes of envelopes than a set allows a roll-up to have."""
    return not of.is_index and _bytes(members(of, chain, made)) > d.rollup_limit_bytes


Members = list[tuple[int, Made]]
"""(window, envelope)."""


def members(of: Due, chain: Sequence[Batch], made: dict[bytes, Made]) -> Members:
    """The envelopes of a span, in no order."""
    spanned = chain[of.first : of.first + of.windows]
    return [(b.window, made[id_]) for b in spanned for id_ in b.ids if id_ in made]


def _bytes(members: Members) -> int:
    return sum(len(made.raw) for _, made in members)


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _section_bytes(block_bytes: int) -> int:
    return len(_varint(CID_BYTES + block_bytes)) + CID_BYTES + block_bytes


def _cid(codec: int, block: bytes) -> bytes:
    return bytes([1, codec, 0x12, 32]) + sha256(block).digest()


class Page(NamedTuple):
    """A page, reckoned."""

    key: int
    window: int
    offset: int
    records: int
    block: bytes


class Reckoned(NamedTuple):
    """A segment of bodies, reckoned."""

    cid: bytes
    root: dict[str, Value]
    root_bytes: int
    keys: list[int]
    pages: list[Page]


def _key(d: Descriptor, made: Made) -> int:
    return int.from_bytes(sha256(d.set_id + made.topic).digest()[:4], "big")


def _depth(size_bytes: int, d: Descriptor) -> int:
    depth = 0
    while PAGE_BYTES << depth < size_bytes and depth < d.bucket_bits:
        depth += 1
    return depth


def _pages(d: Descriptor, first: int, depth: int, members: Members) -> list[Page]:
    pages: list[Page] = []
    bucket = -1
    for window, made in sorted(members, key=lambda m: (_key(d, m[1]), m[0], m[1].sent_s, m[1].id)):
        key = _key(d, made)
        record = _varint(window - first) + _varint(len(made.raw)) + made.raw
        last = pages[-1] if pages else None
        if (
            last is None
            or key >> (32 - depth) != bucket
            or len(last.block) + len(record) > PAGE_BYTES
        ):
            offset = last.offset + _section_bytes(len(last.block)) if last else 0
            pages.append(Page(key, window, offset, 1, record))
            bucket = key >> (32 - depth)
        else:
            pages[-1] = last._replace(records=last.records + 1, block=last.block + record)
    return pages


def bodies(d: Descriptor, of: Due, members: Members) -> Reckoned:
    """The one segment of a span's envelopes; of level 0 as well."""
    depth = _depth(_bytes(members), d)
    pages = _pages(d, of.first, depth, members)
    keys = sorted({_key(d, made) for _, made in members})
    sent = [made.sent_s for _, made in members]
    rows: list[Value] = [
        [p.key, p.window, 0, p.offset, len(p.block), p.records, Link(_cid(0x55, p.block))]
        for p in pages
    ]
    root: dict[str, Value] = {
        "version": 1,
        "kind": "segment",
        "set": d.set_id,
        "level": of.level,
        "first_window": of.first,
        "windows": of.windows,
        "count": len(members),
        "bytes": _bytes(members),
        "sent_min": min(sent, default=None),
        "sent_max": max(sent, default=None),
        "depth": depth,
        "pages": rows,
        "directory": b"".join(key.to_bytes(4, "big") for key in keys),
    }
    block = dagcbor.encode(root)
    return Reckoned(_cid(0x71, block), root, len(block), keys, pages)


def index(d: Descriptor, of: Due, children: Sequence[Reckoned | None]) -> bytes:
    """The root CID of an index of a span."""
    present = [(number, child) for number, child in enumerate(children) if child is not None]
    mask_bytes = (len(children) + 7) // 8
    keys = b""
    all_keys = sorted({key for _, child in present for key in child.keys})
    for key in all_keys:
        mask = sum(2**number for number, child in present if key in child.keys)
        keys += key.to_bytes(4, "big") + mask.to_bytes(mask_bytes, "big")
    runs: list[Value] = [b"" if child is None else _run(of, child) for child in children]
    block = dagcbor.encode([keys, runs])
    assert len(block) <= 16_000, "a simulated index has one block"
    blocks: list[Value] = [[all_keys[0], len(block), Link(_cid(0x71, block))]] if all_keys else []
    root: dict[str, Value] = {
        "version": 1,
        "kind": "index",
        "set": d.set_id,
        "level": of.level,
        "first_window": of.first,
        "windows": of.windows,
        "children": [None if child is None else _listed(child) for child in children],
        "blocks": blocks,
    }
    return _cid(0x71, dagcbor.encode(root))


def _run(of: Due, child: Reckoned) -> bytes:
    """49 bytes for each page."""
    return b"".join(
        page.key.to_bytes(4, "big")
        + (page.window - of.first).to_bytes(2, "big")
        + b"\0"
        + page.offset.to_bytes(4, "big")
        + len(page.block).to_bytes(4, "big")
        + page.records.to_bytes(2, "big")
        + sha256(page.block).digest()
        for page in child.pages
    )


def _listed(child: Reckoned) -> Value:
    names = ("count", "bytes", "sent_min", "sent_max", "depth")
    header = dagcbor.encode({"roots": [Link(child.cid)], "version": 1})
    pages_start = 1 + len(header) + _section_bytes(child.root_bytes)
    return [child.cid, *(child.root[name] for name in names), pages_start]


def cid_of(d: Descriptor, of: Due, chain: Sequence[Batch], made: dict[bytes, Made]) -> bytes | None:
    """The root CID of a span's roll-up, or None for none."""
    if not of.is_index:
        if is_none(of, chain, made, d):
            return None
        return bodies(d, of, members(of, chain, made)).cid
    width = d.levels[of.level - 2].windows if of.level > 1 else 1
    children: list[Reckoned | None] = []
    for first in range(of.first, of.first + of.windows, width):
        child = Due(of.level - 1, first, width, is_index=False)
        none = of.level > 1 and is_none(child, chain, made, d)
        children.append(None if none else bodies(d, child, members(child, chain, made)))
    return index(d, of, children)
