"""Roll-ups, index, archive and proof file: what a stranger makes of `docs/formats.md`."""

import base64
import heapq
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import dag_cbor
import pytest

from docs.independent import (
    BLOCKS,
    VECTORS,
    Record,
    Segment,
    car,
    cid_of,
    cid_text,
    envelope,
    link,
    read_varint,
    recipe,
    record_of,
    section,
    segment,
)
from docs.independent_log import Archive, Refused, Span, Trust
from docs.independent_proof import verify_proof

ARCHIVE, PROOFS = VECTORS["archive"], VECTORS["proofs"]
FILES = {path: base64.b64decode(data) for path, data in ARCHIVE["files"].items()}
POLICIES = {name: Trust.of(text) for name, text in PROOFS["policies"].items()}


# --- roll-ups -------------------------------------------------------------------------------------


def records_of(made: Segment, set_id: bytes) -> list[Record]:
    """The records of a segment's pages, in their order."""
    found = []
    for page in made.pages:
        at = 0
        while at < len(page):
            window, at = read_varint(page, at)
            length, at = read_varint(page, at)
            raw = page[at : at + length]
            found.append(record_of(set_id, made.root["first_window"] + window, envelope(raw)))
            at += length
    return found


def merged(
    set_id: bytes, bits: int, level: int, first: int, windows: int, below: Sequence[Segment]
) -> Segment:
    """The roll-up of segments, by a merge that never sorts: what is merged must be in order."""

    def stream(child: int) -> Iterator[tuple[int, int, int, Record]]:
        return ((r.key, child, n, r) for n, r in enumerate(records_of(below[child], set_id)))

    records = [r for _, _, _, r in heapq.merge(*map(stream, range(len(below))))]
    assert records == sorted(records)
    return segment(set_id, bits, level, first, windows, records)


def of_files(path: str) -> list[tuple[int, bytes]]:
    """(window, envelope) of every record of a small segment's file."""
    data = FILES[path]
    length, at = read_varint(data, 59)
    root = dag_cbor.decode(data[at + 36 : at + length])
    found, start = [], at + length
    for row in root["pages"]:
        at = start + row[3] + len(section(bytes(36), bytes(row[4]))) - row[4]
        end = at + row[4]
        while at < end:
            window, at = read_varint(data, at)
            size, at = read_varint(data, at)
            found.append((root["first_window"] + window, data[at : at + size]))
            at += size
    return found


def test_the_worked_rollup_is_built() -> None:
    set_id, bits = (
        BLOCKS["levels-set-id"],
        dag_cbor.decode(BLOCKS["levels-descriptor"])["bucket_bits"],
    )
    assert sha256(BLOCKS["levels-descriptor"]).digest() == set_id
    raws = [envelope(BLOCKS[f"levels-envelope-{n}"]) for n in (1, 2, 3)]
    windows = [[record_of(set_id, 0, e) for e in raws[:2]], [record_of(set_id, 1, raws[2])]]
    batches = [segment(set_id, bits, 0, w, 1, records) for w, records in enumerate(windows)]
    assert [FILES[f"segment/0/00{w}.car"] for w in (0, 1)] == [b.files[0] for b in batches]
    made = merged(set_id, bits, 1, 0, 2, batches)
    assert made.root_block == BLOCKS["rollup-root"]
    assert cid_text(made.cid) == BLOCKS["rollup-root.cid"].decode().strip()
    assert made.files == [BLOCKS["rollup-car"]] == [FILES["segment/1/000.car"]]


def worked(span: Span) -> Segment:
    """A segment of the archive, built from the envelopes of its batches."""
    archive = Archive(Trust.of(ARCHIVE["policy"]), FILES)
    of = archive.set
    windows = of.range(span)
    records = [
        record_of(of.id, w, envelope(raw))
        for window in windows
        for w, raw in of_files(f"segment/0/{window:03d}.car")
    ]
    return segment(of.id, of.d["bucket_bits"], span[0], windows.start, len(windows), records)


@pytest.mark.parametrize("span", [*((0, w) for w in range(10)), (1, 0), (1, 1), (1, 3)])
def test_every_segment_of_the_archive_is_built(span: Span) -> None:
    assert worked(span).files == [FILES[f"segment/{span[0]}/{span[1]:03d}.car"]]


# --- the index ------------------------------------------------------------------------------------


class Child(NamedTuple):
    """What an index takes of a segment."""

    facts: list[Any]
    """The list of 7."""
    rows: Sequence[Sequence[Any]]
    keys: Sequence[int]


def child_of(made: Segment) -> Child:
    r = made.root
    facts = [
        made.cid,
        r["count"],
        r["bytes"],
        r["sent_min"],
        r["sent_max"],
        r["depth"],
        made.region,
    ]
    return Child(facts, made.rows, made.keys)


Event = tuple[int, bytes, int]
"""(topic key, what is written, the row's child or −1 for a key)."""


def events(children: Sequence[Child | None], first: int) -> Iterator[Event]:
    width = (len(children) + 7) // 8
    masks: dict[int, int] = {}
    rows: dict[int, list[Event]] = {}
    for i, child in enumerate(children):
        for key in child.keys if child else ():
            masks[key] = masks.get(key, 0) + 2**i
        for key, window, part, offset, length, records, page in child.rows if child else ():
            data = struct.pack(">IHBIIH", key, window - first, part, offset, length, records)
            rows.setdefault(key, []).append((key, data + bytes(page)[4:], i))
    for key in sorted(masks):
        yield key, struct.pack(">I", key) + masks[key].to_bytes(width, "big"), -1
        yield from rows.get(key, ())


def index(
    set_id: bytes, level: int, first: int, windows: int, children: Sequence[Child | None]
) -> list[tuple[bytes, bytes]]:
    """The blocks of an index: root, tables, index blocks."""
    blocks: list[tuple[int, bytes]] = []
    last: list[bytes] = [b""] * len(children)
    key_now = b""
    opened: list[Any] | None = None

    def close() -> None:
        assert opened is not None
        blocks.append(
            (opened[0], dag_cbor.encode([b"".join(opened[1]), list(map(b"".join, opened[2]))]))
        )

    for key, data, child in events(children, first):
        if opened is not None and opened[3] + len(data) > 16_000:
            close()
            opened = None
        if opened is None:
            runs = [[row] if row else [] for row in last]
            opened = [key, [], runs, sum(map(len, last))]
            if child >= 0:
                opened[1].append(key_now)
                opened[3] += len(key_now)
        if child < 0:
            key_now = data
            opened[1].append(data)
        else:
            opened[2][child].append(data)
            last[child] = data
        opened[3] += len(data)
    if opened is not None:
        close()

    names = [[key, len(block), link(cid_of(0x71, block))] for key, block in blocks]
    root: dict[str, Any] = {
        "version": 1,
        "kind": "index",
        "set": set_id,
        "level": level,
        "first_window": first,
        "windows": windows,
        "children": [child and child.facts for child in children],
    }
    tables: list[bytes] = []
    if len(names) <= 1_024:
        root["blocks"] = names
    else:
        root["tables"] = []
        sizes = [len(section(bytes(36), block)) for _, block in blocks]
        for at in range(0, len(names), 1_024):
            tables.append(dag_cbor.encode(names[at : at + 1_024]))
            table = tables[-1]
            held = [names[at][0], len(names[at : at + 1_024]), len(table), sum(sizes[:at])]
            root["tables"].append([*held, link(cid_of(0x71, table))])
    out = [dag_cbor.encode(root), *tables, *(block for _, block in blocks)]
    return [(cid_of(0x71, block), block) for block in out]


def test_the_worked_index_is_built() -> None:
    made = index(BLOCKS["levels-set-id"], 2, 0, 4, [child_of(worked((1, n))) for n in (0, 1)])
    (cid, root), (_, block) = made
    assert root == BLOCKS["index-root"]
    assert cid_text(cid) == BLOCKS["index-root.cid"].decode().strip()
    assert block == BLOCKS["index-block"]
    assert car(cid, made) == BLOCKS["index-car"] == FILES["segment/2/000.car"]
    assert dag_cbor.encode(dag_cbor.decode(root)["blocks"]) == BLOCKS["index-table"]
    keys, runs = dag_cbor.decode(block)
    lines = [
        f"key {keys[at : at + 4].hex()} mask {keys[at + 4]:02x}" for at in range(0, len(keys), 5)
    ]
    for child, run in enumerate(runs):
        for row in struct.iter_unpack(">IHBIIH32s", run):
            numbers = " ".join(map(str, row[1:6]))
            lines.append(f"row of child {child}: {row[0]:08x} {numbers} {row[6].hex()}")
    assert lines == BLOCKS["index-block.facts"].decode().splitlines()


def test_an_index_with_a_child_that_is_none_is_built() -> None:
    made = index(BLOCKS["levels-set-id"], 2, 4, 4, [None, child_of(worked((1, 3)))])
    assert car(made[0][0], made) == FILES["segment/2/001.car"]


def described(made: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    file = car(made[0][0], made)
    tables = len(dag_cbor.decode(made[0][1]).get("tables", []))
    return {
        "root_cid": cid_text(made[0][0]),
        "tables": tables,
        "blocks": len(made) - 1 - tables,
        "file": {"bytes": len(file), "sha256": sha256(file).hexdigest()},
    }


def test_large_rollups_and_their_index_are_built() -> None:
    given = VECTORS["indexes"]["envelopes"]
    set_id, bits, width = bytes.fromhex(given["set"]), given["bucket_bits"], given["windows"]
    windows = given["children"] * width
    records = [record_of(set_id, i % windows, e) for i, e in enumerate(recipe(given["runs"]))]
    batches = [
        segment(set_id, bits, 0, w, 1, [r for r in records if r.window == w])
        for w in range(windows)
    ]
    children: list[Child | None] = []
    for n, expected in enumerate(given["rollups"]):
        made = merged(set_id, bits, 1, n * width, width, batches[n * width : (n + 1) * width])
        assert cid_text(made.cid) == expected["root_cid"]
        assert (made.root["depth"], len(made.rows)) == (expected["depth"], expected["pages"])
        found = [{"bytes": len(f), "sha256": sha256(f).hexdigest()} for f in made.files]
        assert found == expected["parts"]
        children.append(None if n in given["none"] else child_of(made))
    made_index = index(set_id, 2, 0, windows, children)
    assert described(made_index) == given["index"]
    # The recipe's point: one topic in several blocks, of which each must have its key.
    held = [dag_cbor.decode(block)[0] for _, block in made_index[1:]]
    busiest = max(records, key=lambda r: len(r.raw)).key.to_bytes(4, "big")
    assert sum(busiest in keys for keys in held) > 2


def test_an_index_with_tables_is_built() -> None:
    given = VECTORS["indexes"]["tables"]
    n, count, length = given["children"], given["rows"], given["length"]
    size = len(section(bytes(36), bytes(length)))
    per_part = 64 * 2**20 // size
    children: list[Child | None] = []
    for c in range(n):
        rows = [
            (
                *(100_000 * (j // 2) + c, 2 * c + j % 2, j // per_part, j % per_part * size),
                *(length, 1, bytes(4) + sha256(f"page {c} {j}".encode()).digest()),
            )
            for j in range(count)
        ]
        keys = [100_000 * i + c for i in range(count // 2)]
        keys += [100_000 * i + 50 for i in range(count // 2) if i % n != c]
        cid = b"\x01\x71\x12\x20" + sha256(f"root {c}".encode()).digest()
        facts = [cid, count, count * length, 1_500_000_000 + c, 1_500_000_059, 6, 1_000 + c]
        children.append(Child(facts, rows, keys))
    made = index(bytes.fromhex(given["set"]), 2, 0, n * given["windows"], children)
    assert described(made) == given["index"]
    assert given["index"]["tables"] == 2


# --- the archive ----------------------------------------------------------------------------------


def opened(files: dict[str, bytes] = FILES) -> Archive:
    return Archive(Trust.of(ARCHIVE["policy"]), files)


def asked(archive: Archive, query: dict[str, Any], exact: bool, through: bool) -> list[Any]:
    """The answer to a query, read segment by segment or through the indexes where there are any."""
    topic, windows = bytes.fromhex(query["topic"]), range(*query["windows"])
    cover = archive.cover(windows)
    assert [list(span) for span in cover] == query["cover"]
    known: dict[Span, list[Record]] = {}
    if through:
        level, width = len(archive.set.d["levels"]), archive.set.windows(2)
        for number in {archive.set.range(span).start // width for span in cover if span[0] == 1}:
            if archive.set.entry_of((level, number)) < archive.size:
                known |= archive.through((level, number), topic, exact=exact)
    found = [
        record
        for span in cover
        for record in (known[span] if span in known else archive.bucket(span, topic, exact=exact))
        if record.window in windows
    ]
    found.sort(key=lambda r: (r.sent, r.id))
    return [{"id": r.id.hex(), "sent": r.sent, "window": r.window} for r in found]


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("query", ARCHIVE["queries"], ids=lambda query: query["why"])
def test_queries(query: dict[str, Any], exact: bool, through: bool) -> None:
    assert asked(opened(), query, exact, through) == query["found"]


@pytest.mark.parametrize("mutant", VECTORS["archive_mutants"], ids=lambda mutant: mutant["why"])
def test_an_archive_that_lies_is_refused(mutant: dict[str, Any]) -> None:
    files = dict(FILES)
    for path, data in mutant["files"].items():
        if data is None:
            files.pop(path)
        else:
            files[path] = base64.b64decode(data)
    query = ARCHIVE["queries"][mutant["query"]]
    with pytest.raises(Refused) as refusal:
        asked(opened(files), query, False, mutant["through"] == "index")
    assert refusal.value.word != "missing"


def test_the_lies_concern_what_the_queries_read() -> None:
    """Each mutant's own file is read: without it there is no answer either."""
    for mutant in VECTORS["archive_mutants"]:
        path = next(iter(mutant["files"]))
        files = {name: data for name, data in FILES.items() if name != path}
        query = ARCHIVE["queries"][mutant["query"]]
        with pytest.raises(Refused) as refusal:
            asked(opened(files), query, False, mutant["through"] == "index")
        assert refusal.value.word == "missing"


def test_counts_are_conserved_in_every_bucket() -> None:
    for parent, below in [((1, 0), [(0, 0), (0, 1)]), ((1, 1), [(0, 2), (0, 3)])]:
        made = [worked(span) for span in (parent, *below)]
        shift = 32 - min(s.root["depth"] for s in made)

        def counts(s: Segment, shift: int = shift) -> dict[int, int]:
            found: dict[int, int] = {}
            for row in s.rows:
                found[row[0] >> shift] = found.get(row[0] >> shift, 0) + row[5]
            return found

        added: dict[int, int] = {}
        for child in made[1:]:
            for bucket, n in counts(child).items():
                added[bucket] = added.get(bucket, 0) + n
        assert counts(made[0]) == added


# --- proof files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROOFS["proofs"])
def test_proof_files(name: str) -> None:
    given = PROOFS["proofs"][name]
    proven = verify_proof(POLICIES[given["policy"]], given["file"].encode())
    record = proven.record
    assert given["proves"] == {
        "id": record.id.hex(),
        "topic": envelope(record.raw).topic.hex(),
        "sent": record.sent,
        "window": record.window,
        "envelope": record.raw.hex(),
    }


def test_the_proof_files_of_the_page() -> None:
    trust = Trust.of(BLOCKS["levels-policy"].decode())
    for name in ("proof", "proof-of-rollup"):
        proven = verify_proof(trust, BLOCKS[name])
        assert proven.set.id == BLOCKS["levels-set-id"]
        assert proven.record.raw == BLOCKS["levels-envelope-1"]


@pytest.mark.parametrize("row", PROOFS["refused"], ids=lambda row: f"{row['why']}: {row['what']}")
def test_a_proof_file_that_must_fail(row: dict[str, str]) -> None:
    with pytest.raises(Refused) as refusal:
        verify_proof(POLICIES[row["policy"]], row["file"].encode())
    assert refusal.value.word == row["why"]


def test_the_proof_of_a_page_block_is_of_the_recipes_segment() -> None:
    given = PROOFS["page_blocks_recipe"]
    set_id = sha256(bytes.fromhex(given["set"])).digest()
    bits = dag_cbor.decode(bytes.fromhex(given["set"]))["bucket_bits"]
    records = [record_of(set_id, given["window"], e) for e in recipe(given["runs"])]
    made = segment(set_id, bits, 0, given["window"], 1, records)
    line = PROOFS["proofs"]["page-blocks"]["file"].split("\n")[1].removeprefix("extra ")
    extra = dag_cbor.decode(base64.b64decode(line))
    assert extra["root"] == made.root_block
    assert extra["page"] == made.pages[-1]
    assert len(made.rows) == 1_034
