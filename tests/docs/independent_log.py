"""Policy and archive as `docs/formats.md` says: a client that shares nothing of ours.

`Refused` is whatever the page says is refused.
"""

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import dag_cbor
from multiformats import CID

from docs.independent import (
    Key,
    Record,
    bundle,
    cid_of,
    envelope,
    node,
    read_varint,
    record_of,
    topic_key,
    varint,
    vkey,
)


class Refused(Exception):
    """What must not be taken."""

    def __init__(self, word: str, why: str = "") -> None:
        super().__init__(word, why)
        self.word = word


def need(condition: object, word: str, why: str = "") -> None:
    if not condition:
        raise Refused(word, why)


def canonical(text: str, word: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refused(word, "base64") from error
    need(base64.b64encode(data).decode() == text, word, "base64")
    return data


def decoded(block: bytes, word: str) -> Any:
    try:
        return dag_cbor.decode(block)
    except Exception as error:
        raise Refused(word, "DAG-CBOR") from error


# --- 8. Policy and checkpoint ---------------------------------------------------------------------


class Trust(NamedTuple):
    """A policy with one group, which is what a validator set's is."""

    set_id: bytes | None
    logs: list[Key]
    witnesses: list[Key]
    quorum: int

    @classmethod
    def of(cls, text: str) -> "Trust":
        words = [line.split(" ") for line in text.splitlines()]
        ids = [bytes.fromhex(w[2]) for w in words if w[:2] == ["#restante", "set"]]
        (group,) = [w for w in words if w[0] == "group"]
        witnesses = [w for w in words if w[0] == "witness"]
        assert group[3:] == [w[1] for w in witnesses]
        assert ["quorum", group[1]] in words
        return cls(
            ids[0] if ids else None,
            [vkey(w[1]) for w in words if w[0] == "log"],
            [vkey(w[2]) for w in witnesses],
            int(group[2]),
        )

    def checkpoint(self, note: bytes, *, alone: bool = False) -> tuple[str, int, bytes]:
        """(origin, size, root) of a note that satisfies the policy; `alone` as section 15 wants."""
        text, lines = split(note)
        keys = [*self.logs, *self.witnesses]
        if alone:
            ids = [(name, data[:4]) for name, data in lines]
            need(set(ids) <= {(k.name, k.id) for k in keys}, "unknown-signature")
            need(len(set(ids)) == len(ids), "unknown-signature")
        found = re.fullmatch(r"([^\n ]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]{44})\n", text)
        if found is None:
            raise Refused("checkpoint")
        origin, size, root = found[1], int(found[2]), canonical(found[3], "checkpoint")
        need(origin in {key.name for key in self.logs}, "origin")
        good = [key for name, data in lines for key in keys if self._signed(key, name, data, text)]
        need(any(key.kind == 1 and key.name == origin for key in good), "log-signature")
        need(len({key for key in good if key.kind == 4}) >= self.quorum, "quorum")
        return origin, size, root

    @staticmethod
    def _signed(key: Key, name: str, data: bytes, text: str) -> bool:
        if (name, data[:4]) != (key.name, key.id):
            return False
        message, signature = text.encode(), data[4:]
        if key.kind == 4:
            need(len(data) == 76, "bad-signature")
            (time_s,) = struct.unpack(">Q", data[4:12])
            message, signature = f"cosignature/v1\ntime {time_s}\n{text}".encode(), data[12:]
        need(key.signed(message, signature), "bad-signature")
        return True


def split(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """(text, [(name, key id and signature)]) of a note."""
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise Refused("checkpoint", "UTF-8") from error
    need(not re.search("[\x00-\x09\x0b-\x1f]", whole), "checkpoint", "controls")
    text, found, rest = whole.rpartition("\n\n")
    need(found and rest.endswith("\n"), "checkpoint", "no signatures")
    lines = []
    for line in rest[:-1].split("\n"):
        match = re.fullmatch(r"— ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        if match is None:
            raise Refused("checkpoint", "a signature line")
        lines.append((match[1], canonical(match[2], "checkpoint")))
    return text + "\n", lines


# --- 3. and 6. Levels, entries --------------------------------------------------------------------

Span = tuple[int, int]
"""(level, number)."""


class Set(NamedTuple):
    """A descriptor."""

    id: bytes
    d: dict[str, Any]

    @classmethod
    def of(cls, block: bytes) -> "Set":
        d = decoded(block, "descriptor")
        need(d.get("network") == "whisper-v6" and d.get("version") == 1, "descriptor")
        return cls(sha256(block).digest(), d)

    def windows(self, level: int) -> int:
        return 1 if level == 0 else int(self.d["levels"][level - 1][0])

    def range(self, span: Span) -> range:
        width = self.windows(span[0])
        return range(span[1] * width, (span[1] + 1) * width)

    def is_index(self, level: int) -> bool:
        return level > 0 and self.d["levels"][level - 1][1] == "index"

    def entry_of(self, span: Span) -> int:
        """The window whose entry names a span."""
        return self.range(span)[-1] + (self.d["rollup_lag"] if span[0] else 0)

    def due(self, window: int) -> list[Span]:
        """The spans whose roll-ups stand in an entry."""
        stop = window - self.d["rollup_lag"] + 1
        widths = [(level, self.windows(level)) for level in range(1, len(self.d["levels"]) + 1)]
        return [(level, stop // w - 1) for level, w in widths if stop > 0 and stop % w == 0]

    def depth(self, total: int) -> int:
        depth = 0
        while depth < self.d["bucket_bits"] and 65_536 * 2**depth < total:
            depth += 1
        return depth

    def sent_bounds(self, window: int) -> tuple[int, int]:
        start = self.d["genesis_s"] + window * self.d["window_s"]
        least = start - self.d["ttl_max_s"] - self.d["slack_s"]
        return least, start + self.d["window_s"] + 10


ENTRY = {"version", "window", "segment", "count", "bytes", "sent_min", "sent_max", "rollups"}
TOTALS = ("count", "bytes", "sent_min", "sent_max")


def entry_at(of: Set, block: bytes, window: int) -> dict[str, Any]:
    """A log entry, as far as it can be judged alone."""
    e = decoded(block, "entry")
    need(isinstance(e, dict) and set(e) == ENTRY and e["version"] == 1, "entry", "fields")
    need(e["window"] == window, "entry", "window")
    need(is_root_cid(e["segment"]), "entry", "segment")
    least, greatest = of.sent_bounds(window)
    sent = [t for t in (e["sent_min"], e["sent_max"]) if t is not None]
    need(all(least <= t <= greatest for t in sent), "entry", "sent times")
    due = of.due(window)
    need(len(due) == len(e["rollups"]), "entry", "roll-ups")
    for (level, _), cid in zip(due, e["rollups"], strict=True):
        need(cid is not None or not of.is_index(level), "entry", "an index that is none")
        need(cid is None or is_root_cid(cid), "entry", "a roll-up's CID")
    return dict(e)


def is_root_cid(cid: object) -> bool:
    return isinstance(cid, bytes) and len(cid) == 36 and cid[:4] == b"\x01\x71\x12\x20"


def totals(parts: Iterator[dict[str, Any]]) -> tuple[Any, ...]:
    """What some entries, or roots, add up to."""
    held = list(parts)
    least = [p["sent_min"] for p in held if p["sent_min"] is not None]
    greatest = [p["sent_max"] for p in held if p["sent_max"] is not None]
    return (
        sum(p["count"] for p in held),
        sum(p["bytes"] for p in held),
        min(least, default=None),
        max(greatest, default=None),
    )


# --- 5. Roots and pages ---------------------------------------------------------------------------


def check_root(of: Set, root: Any, span: Span) -> None:
    """A root is of its span."""
    windows = of.range(span)
    need(isinstance(root, dict) and root.get("kind") == "segment", "root", "kind")
    need(root["version"] == 1 and root["set"] == of.id, "root", "set")
    stated = (root["level"], root["first_window"], root["windows"])
    need(stated == (span[0], windows.start, len(windows)), "root", "span")
    need(root["depth"] == of.depth(root["bytes"]), "root", "depth")


class Holds(NamedTuple):
    """What is known of a segment when its pages are read."""

    windows: range
    depth: int


def check_page(
    of: Set, holds: Holds, row: list[Any], page: bytes, following: list[Any] | None
) -> list[Record]:
    """The records of a page, everything that section 5 says of them checked."""
    need(cid_of(0x55, page) == bytes(row[6]), "page-table", "hash")
    found: list[Record] = []
    at = 0
    while at < len(page):
        window, at = read_varint(page, at)
        length, at = read_varint(page, at)
        need(window < len(holds.windows) and 0 < length <= len(page) - at, "page", "record")
        raw = page[at : at + length]
        found.append(record_of(of.id, holds.windows.start + window, envelope(raw)))
        at += length
    need((len(page), len(found)) == (row[4], row[5]), "page", "length or records")
    need(found[0][:2] == (row[0], row[1]), "page", "first record")
    need(all(a[:4] < b[:4] for a, b in pairwise(found)), "page", "order")
    need(following is None or found[-1][:2] <= (following[0], following[1]), "page", "order")
    shift = 32 - holds.depth
    need(found[0].key >> shift == found[-1].key >> shift, "page", "bucket")
    for r in found:
        least, greatest = of.sent_bounds(r.window)
        need(least <= r.sent <= greatest, "page", "sent time")
    return found


# --- 11. and 12. The archive ----------------------------------------------------------------------


class Archive:
    """A client: from the policy to answers. Small archives only, of at most 255 windows."""

    def __init__(self, trust: Trust, files: Mapping[str, bytes]) -> None:
        self._files = files
        descriptor = self.get("descriptor")
        need(sha256(descriptor).digest() == trust.set_id, "wrong-set")
        self.set = Set.of(descriptor)
        origin, self.size, root = trust.checkpoint(self.get("checkpoint"))
        need(origin == self.set.d["origin"], "origin")
        tile = self.get(f"tile/0/000.p/{self.size}")
        leaves = [tile[at : at + 32] for at in range(0, len(tile), 32)]
        need(len(leaves) == self.size and merkle(leaves) == root, "tile")
        entries = bundle(self.get(f"tile/entries/000.p/{self.size}"))
        need([sha256(b"\0" + e).digest() for e in entries] == leaves, "entry", "hash")
        self.entries = [entry_at(self.set, e, w) for w, e in enumerate(entries)]
        for window, e in enumerate(self.entries):
            for span, cid in zip(self.set.due(window), e["rollups"], strict=True):
                if not self.set.is_index(span[0]):
                    committed = sum(self.entries[w]["bytes"] for w in self.set.range(span))
                    made = committed <= self.set.d["rollup_limit_bytes"]
                    need(made == (cid is not None), "entry", "none, or not")

    def get(self, path: str) -> bytes:
        need(path in self._files, "missing", path)
        return self._files[path]

    def cid(self, span: Span) -> bytes | None:
        """What its entry names for a span; None if that is none."""
        entry = self.entries[self.set.entry_of(span)]
        if span[0] == 0:
            return bytes(entry["segment"])
        found = entry["rollups"][self.set.due(entry["window"]).index(span)]
        return None if found is None else bytes(found)

    def cover(self, windows: range) -> list[Span]:
        """The fewest spans of bodies."""
        out: list[Span] = []
        at = windows.start
        while at < windows.stop:
            levels = range(len(self.set.d["levels"]), -1, -1)
            span = next(
                s
                for s in ((n, at // self.set.windows(n)) for n in levels)
                if self._serves(s, at, windows.stop)
            )
            out.append(span)
            at = self.set.range(span).stop
        return out

    def _serves(self, span: Span, at: int, stop: int) -> bool:
        if self.set.is_index(span[0]):
            return False
        own = self.set.range(span)
        if own.start != at or own.stop > stop or self.set.entry_of(span) >= self.size:
            return False
        return self.cid(span) is not None

    def bucket(self, span: Span, topic: bytes, *, exact: bool = False) -> list[Record]:
        """The records of a topic in a segment, by its root: by bucket, or by the directory."""
        of = self.set
        part = self.get(path_of(span))
        block, start = root_of(part, self.cid(span))
        root = decoded(block, "root")
        check_root(of, root, span)
        expected = totals(self.entries[w] for w in of.range(span))
        need(tuple(root[name] for name in TOTALS) == expected, "root", "totals")
        need("pages" in root and "directory" in root, "root", "too large for this client")
        key = topic_key(of.id, topic)
        data = root["directory"]
        directory = [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]
        holds = Holds(of.range(span), root["depth"])
        rows = root["pages"]
        if exact and key not in directory:
            return []
        low, high = (key, key) if exact else bucket_of(key, holds.depth)
        wanted = may_hold(rows, key, holds.depth) if exact else inside(rows, low, high)
        found = []
        for i in wanted:
            page = at_place(part, start, rows[i])
            found += check_page(
                of, holds, rows[i], page, rows[i + 1] if i + 1 < len(rows) else None
            )
        held = {r.key for r in found if low <= r.key <= high}
        need(held == {k for k in directory if low <= k <= high}, "root", "directory against pages")
        return [r for r in found if r.key == key]

    def through(
        self, index: Span, topic: bytes, *, exact: bool = False
    ) -> dict[Span, list[Record]]:
        """The records of a topic in every child of an index that has one."""
        of, key = self.set, topic_key(self.set.id, topic)
        part = self.get(path_of(index))
        block, start = root_of(part, self.cid(index))
        root = decoded(block, "index")
        children = self._children(index, root)
        depths = [child[5] for child in root["children"] if child is not None]
        low, high = (key, key) if exact else bucket_of(key, min(depths, default=0))
        keys: dict[int, int] = {}
        runs: list[list[list[Any]]] = [[] for _ in children]
        for name in speaking(root["blocks"], low, high):
            at = start + sum(section_bytes(n[1]) for n in root["blocks"][:name])
            body = at + section_bytes(root["blocks"][name][1]) - root["blocks"][name][1]
            data = part[body : body + root["blocks"][name][1]]
            read_block(data, root, root["blocks"][name], keys, runs)
        out: dict[Span, list[Record]] = {}
        for i, (child, facts) in enumerate(zip(children, root["children"], strict=True)):
            if facts is None:
                continue
            mine = (key, key) if exact else bucket_of(key, facts[5])
            rows = runs[i]
            present = exact and keys.get(key, 0) >> i & 1
            wanted = inside(rows, *mine) if not exact else []
            wanted = may_hold(rows, key, facts[5]) if present else wanted
            found = []
            for n in wanted:
                page = at_place(self.get(path_of(child)), facts[6], rows[n])
                after = rows[n + 1] if n + 1 < len(rows) else None
                found += check_page(of, Holds(of.range(child), facts[5]), rows[n], page, after)
            held = {r.key for r in found if mine[0] <= r.key <= mine[1]}
            said = {k for k, mask in keys.items() if mask >> i & 1 and mine[0] <= k <= mine[1]}
            need(held == said, "index", "masks against pages")
            out[child] = [r for r in found if r.key == key]
        return out

    def _children(self, index: Span, root: Any) -> list[Span]:
        """The children of an index, which its root must name as their entries do."""
        of = self.set
        need(isinstance(root, dict) and root.get("kind") == "index", "index", "kind")
        windows = of.range(index)
        stated = (root["set"], root["level"], root["first_window"], root["windows"])
        need(stated == (of.id, index[0], windows.start, len(windows)), "index", "span")
        width = of.windows(index[0] - 1)
        children = [(index[0] - 1, w // width) for w in windows[::width]]
        need(len(children) == len(root["children"]), "index", "children")
        for child, facts in zip(children, root["children"], strict=True):
            cid = self.cid(child)
            need((facts is None) == (cid is None), "index", "a child that is none, or not")
            if facts is not None:
                need(facts[0] == cid, "index", "another child")
                expected = totals(self.entries[w] for w in of.range(child))
                need(tuple(facts[1:5]) == expected, "index", "totals")
        return children


def merkle(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split_at = 1
    while 2 * split_at < len(leaves):
        split_at *= 2
    return node(merkle(leaves[:split_at]), merkle(leaves[split_at:]))


def path_of(span: Span) -> str:
    assert span[1] < 1_000
    return f"segment/{span[0]}/{span[1]:03d}.car"


def section_bytes(length: int) -> int:
    return len(varint(36 + length)) + 36 + length


def root_of(part: bytes, cid: bytes | None) -> tuple[bytes, int]:
    """(root block, where the section after it begins) of part 0."""
    length, at = read_varint(part, 59)
    block = part[at + 36 : at + length]
    need(len(block) == length - 36, "root", "truncated")
    need(part[at : at + 36] == cid == cid_of(0x71, block), "root", "CID")
    return block, at + length


def at_place(part: bytes, region: int, row: list[Any]) -> bytes:
    assert row[2] == 0
    at = region + row[3] + len(varint(36 + row[4])) + 36
    page = part[at : at + row[4]]
    need(len(page) == row[4], "page", "truncated")
    return page


def bucket_of(key: int, depth: int) -> tuple[int, int]:
    width = 2 ** (32 - depth)
    return key // width * width, key // width * width + width - 1


def inside(rows: list[list[Any]], low: int, high: int) -> list[int]:
    return [i for i, row in enumerate(rows) if low <= row[0] <= high]


def may_hold(rows: list[list[Any]], key: int, depth: int) -> list[int]:
    low, high = bucket_of(key, depth)
    found = speaking(rows, key, key)
    return [i for i in found if low <= rows[i][0] <= high]


def speaking(named: list[list[Any]], a: int, b: int) -> list[int]:
    """Those whose own first key is ≤ b, and after which comes one ≥ a, or none."""
    return [
        i
        for i, name in enumerate(named)
        if name[0] <= b and (i + 1 == len(named) or named[i + 1][0] >= a)
    ]


def read_block(
    data: bytes,
    root: Any,
    name: list[Any],
    keys: dict[int, int],
    runs: list[list[list[Any]]],
) -> None:
    """Add what an index block says."""
    need(cid_of(0x71, data) == bytes(name[2]), "index", "a block's hash")
    held, rows = decoded(data, "index")
    n = len(root["children"])
    width = 4 + (n + 7) // 8
    first = int.from_bytes(held[:4], "big")
    need(held and len(held) % width == 0 and first == name[0] and len(rows) == n, "index", "block")
    last = -1
    for at in range(0, len(held), width):
        key = int.from_bytes(held[at : at + 4], "big")
        mask = int.from_bytes(held[at + 4 : at + width], "big")
        need(key > last and 0 < mask < 1 << n, "index", "keys")
        need(keys.setdefault(key, mask) == mask, "index", "two masks")
        last = key
    for i, run in enumerate(rows):
        need(len(run) % 49 == 0 and (root["children"][i] is not None or not run), "index", "run")
        for row in struct.iter_unpack(">IHBIIH32s", run):
            key, window, part, offset, length, records, digest = row
            cid = CID.decode(b"\x01\x55\x12\x20" + digest)
            found = [key, root["first_window"] + window, part, offset, length, records, cid]
            if found not in runs[i]:
                runs[i].append(found)
