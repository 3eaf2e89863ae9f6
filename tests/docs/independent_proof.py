"""The proof file as section 15 of `docs/formats.md` says; a refusal's word is the page's."""

import re
from hashlib import sha256
from typing import Any, NamedTuple

import dag_cbor

from docs.independent import Record, cid_of, link, node
from docs.independent_log import (
    TOTALS,
    Holds,
    Refused,
    Set,
    Trust,
    canonical,
    check_page,
    check_root,
    decoded,
    entry_at,
    need,
)

PROOF = {"version", "kind", "descriptor", "entry", "root", "page_block", "page", "id"}


class Proven(NamedTuple):
    """What a proof file proves."""

    set: Set
    record: Record


def verify_proof(trust: Trust, data: bytes) -> Proven:
    """Section 15, step by step."""
    head, _, note = data.partition(b"\n\n")
    need(head.isascii(), "proof", "not ASCII")
    lines = head.decode("ascii").split("\n")
    need(len(lines) >= 3 and lines[0] == "c2sp.org/tlog-proof@v1", "proof", "first line")
    found = re.fullmatch("index (0|[1-9][0-9]*)", lines[2])
    need(found and lines[1].startswith("extra "), "proof", "lines")
    assert found
    index, hashes = int(found[1]), [canonical(line, "proof") for line in lines[3:]]
    need(len(hashes) <= 40 and all(len(h) == 32 for h in hashes), "proof", "hashes")
    raw = canonical(lines[1].removeprefix("extra "), "proof")
    extra = decoded(raw, "proof")
    need(isinstance(extra, dict) and set(extra) == PROOF, "proof", "fields")
    need(dag_cbor.encode(extra) == raw, "proof", "not canonical")
    need((extra["version"], extra["kind"], len(extra["id"])) == (1, "proof", 32), "proof", "kind")

    need(trust.set_id is not None, "no-set")
    need(sha256(extra["descriptor"]).digest() == trust.set_id, "wrong-set")
    of = Set.of(extra["descriptor"])
    origin, size, root_hash = trust.checkpoint(note, alone=True)
    need(origin == of.d["origin"], "origin")
    leaf = sha256(b"\0" + extra["entry"]).digest()
    need(included(leaf, index, size, hashes, root_hash), "inclusion")
    entry = entry_at(of, extra["entry"], index)
    root = _proof_root(of, extra["root"], entry)
    row, following = _proof_row(root, extra)
    windows = range(root["first_window"], root["first_window"] + root["windows"])
    records = check_page(of, Holds(windows, root["depth"]), row, extra["page"], following)
    mine = [r for r in records if r.id == extra["id"]]
    need(mine, "absent")
    return Proven(of, mine[0])


def _proof_root(of: Set, block: bytes, entry: dict[str, Any]) -> Any:
    cid, window = cid_of(0x71, block), entry["window"]
    named = {(0, window): entry["segment"]}
    named |= dict(zip(of.due(window), entry["rollups"], strict=True))
    spans = [span for span, name in named.items() if name == cid]
    need(spans, "root", "no entry names it")
    root = decoded(block, "root")
    check_root(of, root, spans[0])
    if spans[0][0] == 0:
        need([root[name] for name in TOTALS] == [entry[name] for name in TOTALS], "root", "totals")
    return root


def _proof_row(root: Any, extra: Any) -> tuple[list[Any], list[Any] | None]:
    block = extra["page_block"]
    need((block is None) == ("pages" in root), "page-table", "block")
    rows = root.get("pages")
    if block is not None:
        named = [n for n in root["page_blocks"] if bytes(n[3]) == cid_of(0x71, block)]
        need(named, "page-table", "no such block")
        rows = decoded(block, "page-table")
        need([rows[0][0], len(rows), len(block)] == named[0][:3], "page-table", "block")
    cid = link(cid_of(0x55, extra["page"]))
    for i, row in enumerate(rows):
        if row[6] == cid:
            return row, rows[i + 1] if i + 1 < len(rows) else None
    raise Refused("page-table", "no such page")


def included(leaf: bytes, index: int, size: int, hashes: list[bytes], root: bytes) -> bool:
    """RFC 9162 §2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in hashes:
        if sn == 0:
            return False
        if fn % 2 or fn == sn:
            r = node(p, r)
            while fn % 2 == 0 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root
