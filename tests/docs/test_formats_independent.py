"""A verifier and a builder written from `docs/formats.md` alone, tried on its examples."""

import base64
import math
import re
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import dag_cbor
import pytest
import sha3

from docs.independent import (
    BLOCKS,
    VECTORS,
    Envelope,
    Key,
    bundle,
    car,
    cid_of,
    cid_text,
    envelope,
    link,
    node,
    policy_keys,
    read_varint,
    recipe,
    record_of,
    section,
    segment,
    signers,
    topic_key,
    varint,
    vkey,
)

# --- 1. Encodings -------------------------------------------------------------------------------


def test_encodings() -> None:
    for line in BLOCKS["varint"].decode().splitlines():
        n, encoded = line.split(" ")
        assert varint(int(n)).hex() == encoded
    binary, text = (line.split()[1] for line in BLOCKS["cid"].decode().splitlines())
    assert cid_of(0x55, b"hello").hex() == binary
    assert cid_text(bytes.fromhex(binary)) == text
    assert car(cid_of(0x55, b"hello"), [(cid_of(0x55, b"hello"), b"hello")]) == BLOCKS["car-small"]
    for name, block in BLOCKS.items():
        if f"{name}.notation" in BLOCKS or name.startswith("answer-"):
            assert dag_cbor.encode(dag_cbor.decode(block)) == block


# --- 2. and 8. Keys and notes -------------------------------------------------------------------


def test_keys() -> None:
    for name in ("vkey-v0", "vkey-v0-notes", "vkey-log"):
        key = vkey(BLOCKS[name].decode())
        (seed,) = [row for row in VECTORS["keys"] if row["name"] == key.name]
        assert key.public.hex() == seed["public_key"]


# --- 4. Envelope --------------------------------------------------------------------------------


def test_envelopes_satisfy_r0() -> None:
    d = dag_cbor.decode(BLOCKS["descriptor"])
    start = d["genesis_s"] + d["window_s"]
    for number in (1, 2, 3):
        raw = BLOCKS[f"envelope-{number}"]
        e = envelope(raw)
        h = sha3.keccak_256(e.r + struct.pack(">Q", e.nonce)).digest()
        zeros = 256 - int.from_bytes(h, "big").bit_length()
        assert len(raw) <= d["max_envelope_bytes"]
        assert len(e.topic) == 4
        assert 1 <= e.ttl <= d["ttl_max_s"] <= e.expiry
        assert 10**6 * 2**zeros >= d["pow_floor_millionths"] * len(e.r) * e.ttl
        assert start - d["ttl_max_s"] - d["slack_s"] <= e.sent <= start + d["window_s"] + 10
        lines = BLOCKS[f"envelope-{number}.facts"].decode().splitlines()
        facts = {line[:9].strip(): line[10:] for line in lines}
        key = topic_key(sha256(BLOCKS["descriptor"]).digest(), e.topic)
        assert facts == {
            "id": e.id.hex(),
            "expiry": str(e.expiry),
            "ttl": str(e.ttl),
            "sent": str(e.sent),
            "topic": e.topic.hex(),
            "topic key": f"{key:08x}",
            "nonce": str(e.nonce),
            "r": e.r.hex(),
            "keccak": h.hex(),
            "zeros": str(zeros),
            "rank": str(2 ** (zeros + 64) // (len(e.r) * e.ttl)),
        }


# --- 5. Segment: a builder ----------------------------------------------------------------------


def batch(
    set_id: bytes, window: int, bucket_bits: int, envelopes: Sequence[Envelope]
) -> tuple[bytes, list[bytes], list[bytes]]:
    """(root block, CAR files, pages) of a batch."""
    records = [record_of(set_id, window, e) for e in envelopes]
    made = segment(set_id, bucket_bits, 0, window, 1, records)
    return made.root_block, made.files, made.pages


def test_the_worked_segments_are_built() -> None:
    set_id, bits = BLOCKS["set-id"], dag_cbor.decode(BLOCKS["descriptor"])["bucket_bits"]
    envelopes = [envelope(BLOCKS[f"envelope-{number}"]) for number in (1, 2, 3)]
    root, files, pages = batch(set_id, 1, bits, envelopes)
    assert pages == [BLOCKS["page"]]
    assert root == BLOCKS["root"]
    assert files == [BLOCKS["car"]]
    assert cid_text(cid_of(0x71, root)) == BLOCKS["root.cid"].decode().strip()
    assert cid_text(cid_of(0x55, pages[0])) == BLOCKS["page.cid"].decode().strip()
    assert dag_cbor.encode(dag_cbor.decode(root)["pages"]) == BLOCKS["page-table-block"]
    assert dag_cbor.decode(root)["directory"] == BLOCKS["directory-block"]
    quiet, _, _ = batch(set_id, 0, bits, [])
    assert quiet == BLOCKS["quiet-root"]
    assert cid_text(cid_of(0x71, quiet)) == BLOCKS["quiet-root.cid"].decode().strip()


@pytest.mark.parametrize("name", VECTORS["segments"])
def test_large_segments_are_built(name: str) -> None:
    given = VECTORS["segments"][name]
    set_id = bytes.fromhex(given["set"])
    root, files, pages = batch(
        set_id, given["window"], given["bucket_bits"], list(recipe(given["runs"]))
    )
    value = dag_cbor.decode(root)
    found = [{"bytes": len(f), "sha256": sha256(f).hexdigest()} for f in files]
    assert found == given["parts"]
    assert cid_text(cid_of(0x71, root)) == given["root_cid"]
    assert [value["count"], value["bytes"], value["depth"], len(pages)] == [
        given[key] for key in ("count", "bytes", "depth", "pages")
    ]
    if name.startswith("edges"):
        # The recipe's point: a page of exactly the target, and one that one byte kept apart.
        assert 65_536 in map(len, pages)
        assert max(map(len, pages)) > 65_536


# --- 6. to 8. The log ---------------------------------------------------------------------------


def test_from_the_policy_to_the_envelopes() -> None:
    logs, witnesses, quorum, set_id = policy_keys()
    assert sha256(BLOCKS["descriptor"]).digest() == set_id == BLOCKS["set-id"]
    d = dag_cbor.decode(BLOCKS["descriptor"])
    assert [vkey(text) for text in d["validators"]] == witnesses
    assert quorum == len(witnesses) - d["f"]
    text, names = signers(BLOCKS["checkpoint"], [*logs, *witnesses])
    assert text == BLOCKS["checkpoint-text"].decode()
    assert d["origin"] in names
    assert len(names - {d["origin"]}) >= quorum
    origin, size, root = text.splitlines()
    assert (origin, size) == (d["origin"], "2")
    leaves = [BLOCKS["tile"][:32], BLOCKS["tile"][32:]]
    assert node(*leaves) == base64.b64decode(root)
    entries = bundle(BLOCKS["entry-bundle"])
    assert entries == [BLOCKS["quiet-entry"], BLOCKS["entry"]]
    assert [sha256(b"\x00" + entry).digest() for entry in entries] == leaves
    stated = dict(line.rsplit(" ", 1) for line in BLOCKS["tree"].decode().splitlines())
    assert stated == {
        "leaf 0": leaves[0].hex(),
        "leaf 1": leaves[1].hex(),
        "root 0": sha256(b"").hexdigest(),
        "root 1": leaves[0].hex(),
        "root 2": node(*leaves).hex(),
    }
    for window, (entry, root_block) in enumerate(
        zip(entries, (BLOCKS["quiet-root"], BLOCKS["root"]), strict=True)
    ):
        value, seen = dag_cbor.decode(entry), dag_cbor.decode(root_block)
        assert value["segment"] == cid_of(0x71, root_block)
        assert (value["version"], value["window"], value["rollups"]) == (1, window, [])
        same = ("count", "bytes", "sent_min", "sent_max")
        assert [value[key] for key in same] == [seen[key] for key in same]
    assert read_page() == [BLOCKS[f"envelope-{n}"] for n in (2, 3, 1)]


def read_page() -> list[bytes]:
    """The envelopes of the page, found in the CAR by the place that the root's row gives."""
    car_file, root = BLOCKS["car"], BLOCKS["root"]
    (row,) = dag_cbor.decode(root)["pages"]
    region = 59 + len(section(bytes(36), root))
    start = region + row[3] + len(varint(36 + row[4])) + 36
    page = car_file[start : start + row[4]]
    assert link(cid_of(0x55, page)) == row[6]
    records, at = [], 0
    while at < len(page):
        window, at = read_varint(page, at)
        length, at = read_varint(page, at)
        assert window == 0
        records.append(page[at : at + length])
        at += length
    assert len(records) == row[5]
    return records


def test_cosignature() -> None:
    key = vkey(BLOCKS["vkey-v0"].decode())
    value = BLOCKS["cosignature"]
    assert key.signed(BLOCKS["cosigned"], value[8:])
    time_line = BLOCKS["cosigned"].decode().splitlines()[1]
    assert time_line == f"time {struct.unpack('>Q', value[:8])[0]}"


def test_roots_and_proofs() -> None:
    given = VECTORS["trees"]
    size = 70_000
    leaves = [sha256(b"\x00" + struct.pack(">I", i)).digest() for i in range(size)]

    def root(some: Sequence[bytes]) -> bytes:
        if len(some) < 2:
            return some[0] if some else sha256(b"").digest()
        split = 2 ** (math.ceil(math.log2(len(some))) - 1)
        return node(root(some[:split]), root(some[split:]))

    for n, expected in given["roots"].items():
        assert root(leaves[: int(n)]).hex() == expected
    for path, expected in given["tiles"].items():
        _, level, rest = path.split("/", 2)
        n, _, width = rest.partition(".p/")
        index = int(n.replace("x", "").replace("/", ""))
        span = 256 ** int(level)
        first = [(256 * index + i) * span for i in range(int(width or 256))]
        tile = b"".join(root(leaves[at : at + span]) for at in first)
        assert sha256(tile).hexdigest() == expected


# --- 9. and 10. Notes and messages --------------------------------------------------------------


def test_contact_and_watch() -> None:
    _, witnesses, _, set_id = policy_keys()
    key = Key("v0", 1, witnesses[0].public)
    assert key == vkey(BLOCKS["vkey-v0-notes"].decode())
    for name in ("contact", "watch"):
        text, names = signers(BLOCKS[name], [key])
        assert names == {"v0"}
        assert text.splitlines()[:2] == [f"restante/{name}/v1", set_id.hex()]


def test_proposals() -> None:
    envelopes = [envelope(BLOCKS[f"envelope-{n}"]) for n in (1, 2, 3)]
    ids = sorted(e.id for e in envelopes)
    full, difference = (
        dag_cbor.decode(BLOCKS[name]) for name in ("proposal", "proposal-difference")
    )
    _, _, _, set_id = policy_keys()
    for message in (full, difference):
        signature = message.pop("signature")
        signed = b"restante/v1/proposal\n" + dag_cbor.encode(message)
        assert Key("", 0, message["key"]).signed(signed, signature)
        body = message["body"]
        assert message["set"] == set_id
        assert body["cid"] == cid_of(0x71, BLOCKS["root"])
        assert (body["window"], body["base_size"]) == (1, 1)
        assert body["base_root"] == sha256(b"\x00" + BLOCKS["quiet-entry"]).digest()
        assert (body["count"], body["bytes"]) == (3, sum(len(e.raw) for e in envelopes))
    assert full["body"]["ids"] == b"".join(ids)
    body = difference["body"]
    earlier, _, _ = batch(set_id, 1, 6, envelopes[:2])
    assert body["against"] == cid_of(0x71, earlier)
    assert (body["add"], body["drop"]) == (envelopes[2].id, b"")


def test_accepts_and_certificates() -> None:
    _, witnesses, quorum, set_id = policy_keys()
    certificates = bundle(BLOCKS["certificate-bundle"])
    assert certificates[1] == BLOCKS["certificate"]
    for data in certificates:
        c = dag_cbor.decode(data)
        statement = (
            b"restante/v1/accept\n"
            + set_id
            + struct.pack(">QQ", c["window"], c["base_size"])
            + c["base_root"]
            + c["cid"]
        )
        by_id = {key.id: key for key in witnesses}
        ids = [key_id for key_id, _ in c["accepts"]]
        assert ids == sorted(set(ids))
        assert len(ids) == quorum
        assert all(by_id[i].signed(statement, signature) for i, signature in c["accepts"])
    assert statement == BLOCKS["accept-statement"]
    assert witnesses[0].signed(statement, BLOCKS["accept-signature"])
    accept = dag_cbor.decode(BLOCKS["answer-accept"])
    assert accept == {
        "version": 1,
        "answer": "accept",
        "key": witnesses[0].id,
        "signature": BLOCKS["accept-signature"],
    }


def test_exchanges() -> None:
    envelopes = [BLOCKS[f"envelope-{n}"] for n in (1, 2, 3)]
    ids = [sha256(raw).digest() for raw in envelopes]
    assert dag_cbor.decode(BLOCKS["pool-page"])["ids"] == b"".join(ids)
    assert dag_cbor.decode(BLOCKS["bodies-request"]) == {"version": 1, "ids": ids[0]}
    assert BLOCKS["bodies"] == b"".join(varint(len(raw)) + raw for raw in envelopes[:2])
    _, witnesses, _, _ = policy_keys()
    origin = dag_cbor.decode(BLOCKS["descriptor"])["origin"]
    items = dag_cbor.decode(BLOCKS["cosignatures"])["items"]
    assert [item[0] for item in items] == sorted(key.id for key in witnesses[:3])
    for key_id, size, root, value in items:
        (key,) = [key for key in witnesses if key.id == key_id]
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        (time_s,) = struct.unpack(">Q", value[:8])
        assert key.signed(f"cosignature/v1\ntime {time_s}\n{text}".encode(), value[8:])
    need = dag_cbor.decode(BLOCKS["answer-need"])
    assert [sorted(ids)[at] for at in need["positions"]] == [need["ids"]]


def test_these_files_stand_alone() -> None:
    """Nothing of ours is imported, not even by another name."""
    for path in Path(__file__).parent.glob("*independent*.py"):
        imports = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.M)
        assert imports
        assert not {name for name in imports if name.startswith(("restante", "make_", "format_"))}
