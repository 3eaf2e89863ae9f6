"""What `docs/formats.md` says, written from it alone: nothing here imports our code.

It reads the page's example blocks and `formats.json`; it stands on hashlib, Ed25519, and somebody
else's DAG-CBOR. Where it could not be written, the page has a defect.
"""

import base64
import json
import re
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import dag_cbor
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from multiformats import CID

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text("utf-8")
VECTORS = json.loads((ROOT / "tests" / "vectors" / "formats.json").read_text("utf-8"))
BLOCKS = {
    name: bytes.fromhex(body) if kind == "hex" else body.encode()
    for kind, name, body in re.findall(
        r"^```(hex|text) name=([a-z0-9.-]+)\n(.*?)^```$", PAGE, re.M | re.S
    )
}


# --- 1. Encodings -------------------------------------------------------------------------------


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n % 128 + 128])
        n //= 128
    return out + bytes([n])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        n += data[at] % 128 << shift
        at += 1
        shift += 7
        if data[at - 1] < 128:
            return n, at


def cid_of(codec: int, block: bytes) -> bytes:
    return bytes([1, codec, 0x12, 0x20]) + sha256(block).digest()


def cid_text(cid: bytes) -> str:
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def link(cid: bytes) -> CID:
    return CID.decode(cid)


def section(cid: bytes, block: bytes) -> bytes:
    return varint(36 + len(block)) + cid + block


def car(root: bytes, blocks: Sequence[tuple[bytes, bytes]]) -> bytes:
    header = dag_cbor.encode({"roots": [link(root)], "version": 1})
    parts = [varint(len(header)), header]
    for cid, block in blocks:
        parts += [varint(36 + len(block)), cid, block]
    return b"".join(parts)


# --- 2. and 8. Keys and notes -------------------------------------------------------------------


class Key(NamedTuple):
    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def signed(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def vkey(text: str) -> Key:
    name, id_, encoded = text.strip().split("+", 2)
    data = base64.b64decode(encoded)
    key = Key(name, data[0], data[1:])
    assert key.id.hex() == id_
    return key


def signers(note: bytes, keys: Sequence[Key]) -> tuple[str, set[str]]:
    """(text, names of those that signed), none of whose lines is bad."""
    text, _, lines = note.decode().rpartition("\n\n")
    text += "\n"
    found = set()
    for line in lines.splitlines():
        dash, name, encoded = line.split(" ")
        assert dash == "—"
        data = base64.b64decode(encoded)
        for key in keys:
            if (key.name, key.id) == (name, data[:4]):
                message, signature = text.encode(), data[4:]
                if key.kind == 4:
                    (time_s,) = struct.unpack(">Q", signature[:8])
                    message = f"cosignature/v1\ntime {time_s}\n{text}".encode()
                    signature = signature[8:]
                assert key.signed(message, signature)
                found.add(name)
    return text, found


def policy_keys() -> tuple[list[Key], list[Key], int, bytes]:
    """(log keys, witness keys, quorum, set id) of the policy."""
    words = [line.split(" ") for line in BLOCKS["policy"].decode().splitlines()]
    logs = [vkey(w[1]) for w in words if w[0] == "log"]
    witnesses = [vkey(w[2]) for w in words if w[0] == "witness"]
    (quorum,) = [w[1] for w in words if w[0] == "quorum"]
    (group,) = [w for w in words if w[0] == "group" and w[1] == quorum]
    assert group[3:] == [key.name for key in witnesses]
    (set_id,) = [bytes.fromhex(w[2]) for w in words if w[:2] == ["#restante", "set"]]
    return logs, witnesses, int(group[2]), set_id


# --- 4. Envelope --------------------------------------------------------------------------------


class Envelope(NamedTuple):
    expiry: int
    ttl: int
    topic: bytes
    data: bytes
    nonce: int
    r: bytes
    raw: bytes

    @property
    def sent(self) -> int:
        return self.expiry - self.ttl

    @property
    def id(self) -> bytes:
        return sha256(self.raw).digest()


def rlp_header(n: int, base: int) -> bytes:
    if n < 56:
        return bytes([base + n])
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size


def rlp(item: bytes) -> bytes:
    return item if len(item) == 1 and item[0] < 128 else rlp_header(len(item), 128) + item


def rlp_list(items: Sequence[bytes]) -> bytes:
    body = b"".join(rlp(item) for item in items)
    return rlp_header(len(body), 192) + body


def integer(n: int) -> bytes:
    return n.to_bytes((n.bit_length() + 7) // 8, "big")


def rlp_strings(data: bytes) -> Iterator[bytes]:
    """The strings of a list, leniently: encoding again shows what was not canonical."""
    at = 1 if data[0] < 248 else data[0] - 246
    while at < len(data):
        prefix, at = data[at], at + 1
        if prefix < 128:
            yield bytes([prefix])
            continue
        n = prefix - 128
        if prefix > 183:
            n, at = int.from_bytes(data[at : at + prefix - 183], "big"), at + prefix - 183
        yield data[at : at + n]
        at += n


def envelope(raw: bytes) -> Envelope:
    fields = list(rlp_strings(raw))
    assert rlp_list(fields) == raw
    expiry, ttl, topic, data, nonce = fields
    numbers = [int.from_bytes(field, "big") for field in (expiry, ttl, nonce)]
    assert [integer(n) for n in numbers] == [expiry, ttl, nonce]
    return Envelope(numbers[0], numbers[1], topic, data, numbers[2], rlp_list(fields[:4]), raw)


# --- 5. Segment: a builder ----------------------------------------------------------------------


def topic_key(set_id: bytes, topic: bytes) -> int:
    (key,) = struct.unpack(">I", sha256(set_id + topic).digest()[:4])
    return int(key)


class Record(NamedTuple):
    """An envelope in a segment, in the order of records."""

    key: int
    window: int
    sent: int
    id: bytes
    raw: bytes


class Segment(NamedTuple):
    """A built segment, or what of one an index is made of."""

    cid: bytes
    root: dict[str, Any]
    root_block: bytes
    files: list[bytes]
    pages: list[bytes]
    rows: list[list[Any]]
    keys: list[int]
    region: int
    """Where the pages of part 0 begin."""


def record_of(set_id: bytes, window: int, e: Envelope) -> Record:
    return Record(topic_key(set_id, e.topic), window, e.sent, e.id, e.raw)


def segment(
    set_id: bytes, bucket_bits: int, level: int, first: int, windows: int, some: Sequence[Record]
) -> Segment:
    """The segment of some records, as section 5 says; they are sorted here."""
    records = sorted(some)
    total = sum(len(r.raw) for r in records)
    depth = 0
    while depth < bucket_bits and 65_536 * 2**depth < total:
        depth += 1
    pages = list(paged(records, first, depth))
    rows, regions = placed(pages)
    root: dict[str, Any] = {
        "version": 1,
        "kind": "segment",
        "set": set_id,
        "level": level,
        "first_window": first,
        "windows": windows,
        "count": len(records),
        "bytes": total,
        "sent_min": min((r.sent for r in records), default=None),
        "sent_max": max((r.sent for r in records), default=None),
        "depth": depth,
    }
    children: list[tuple[bytes, bytes]] = []
    keys = sorted({r.key for r in records})
    if len(rows) <= 1_024:
        root["pages"] = rows
    else:
        root["page_blocks"] = []
        for at in range(0, len(rows), 1_024):
            block = dag_cbor.encode(rows[at : at + 1_024])
            cid = cid_of(0x71, block)
            named = [rows[at][0], len(rows[at : at + 1_024]), len(block), link(cid)]
            root["page_blocks"].append(named)
            children.append((cid, block))
    if len(keys) <= 16_384:
        root["directory"] = b"".join(struct.pack(">I", key) for key in keys)
    else:
        root["directory_blocks"] = []
        for at in range(0, len(keys), 16_384):
            listed = keys[at : at + 16_384]
            block = b"".join(struct.pack(">I", key) for key in listed)
            cid = cid_of(0x55, block)
            root["directory_blocks"].append([listed[0], len(listed), link(cid)])
            children.append((cid, block))
    root_block = dag_cbor.encode(root)
    root_cid = cid_of(0x71, root_block)
    heads = [[(root_cid, root_block), *children]] + [[] for _ in regions[1:]]
    files = [car(root_cid, [*head, *region]) for head, region in zip(heads, regions, strict=True)]
    region = 59 + sum(len(section(cid, block)) for cid, block in heads[0])
    only = [page for _, _, page, _ in pages]
    return Segment(root_cid, root, root_block, files, only, rows, keys, region)


def paged(
    records: Sequence[Record], first: int, depth: int
) -> Iterator[tuple[int, int, bytes, int]]:
    """(topic key and window of its first record, page, records) of each page."""
    pages: list[list[Any]] = []
    for r in records:
        record = varint(r.window - first) + varint(len(r.raw)) + r.raw
        if (
            not pages
            or pages[-1][4] + len(record) > 65_536
            or pages[-1][0] // 2 ** (32 - depth) != r.key // 2 ** (32 - depth)
        ):
            pages.append([r.key, r.window, [], 0, 0])
        pages[-1][2].append(record)
        pages[-1][3] += 1
        pages[-1][4] += len(record)
    return ((key, window, b"".join(parts), n) for key, window, parts, n, _ in pages)


def placed(
    pages: Sequence[tuple[int, int, bytes, int]],
) -> tuple[list[list[Any]], list[list[tuple[bytes, bytes]]]]:
    """(the page table, the blocks of each part's pages region)."""
    rows: list[list[Any]] = []
    regions: list[list[tuple[bytes, bytes]]] = [[]]
    end = 0
    for key, window, page, records in pages:
        size = len(varint(36 + len(page))) + 36 + len(page)
        if regions[-1] and end + size > 64 * 2**20:
            regions.append([])
            end = 0
        cid = cid_of(0x55, page)
        rows.append([key, window, len(regions) - 1, end, len(page), records, link(cid)])
        regions[-1].append((cid, page))
        end += size
    return rows, regions


def recipe(runs: Sequence[Sequence[int]]) -> Iterator[Envelope]:
    number = 0
    for run, (topics, count, data_bytes) in enumerate(runs):
        for _ in range(count):
            topic = sha256(f"topic {run} {number % topics}".encode()).digest()[:4]
            data = struct.pack(">I", number) + bytes(data_bytes - 4)
            sent = 1_500_000_030 + number % 30
            fields = [integer(sent + 50), integer(50), topic, data, integer(number)]
            yield Envelope(sent + 50, 50, topic, data, number, b"", rlp_list(fields))
            number += 1


# --- 6. to 8. The log ---------------------------------------------------------------------------


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def bundle(data: bytes) -> list[bytes]:
    items = []
    while data:
        (n,) = struct.unpack(">H", data[:2])
        items.append(data[2 : 2 + n])
        data = data[2 + n :]
    return items
