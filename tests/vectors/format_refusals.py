"""Bytes that a strict reader refuses, each with the reason: what an accepting reader lacks.

Every row is an example of the page with one thing changed, so that only its reason refuses it. A
row's format is a key of `tests/docs/test_formats_doc.py::READERS`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from restante.formats import dagcbor
from restante.formats.dagcbor import Link

Files = Mapping[str, bytes]
Row = tuple[str, str, bytes]


def vectors(files: Files) -> list[dict[str, str]]:
    """{format, why, hex} of every row."""
    rows = [*encodings(files), *descriptors(files), *segments(files), *notes(files)]
    rows += [*rollups(files), *indexes(files), *messages(files), *envelopes(files)]
    return [{"format": kind, "why": why, "hex": data.hex()} for kind, why, data in rows]


def changed(data: bytes, **fields: Any) -> bytes:
    """An encoded map with some fields changed, or (`...`) left out."""
    value = dagcbor.decode(data)
    assert isinstance(value, dict)
    value |= fields
    return dagcbor.encode({key: item for key, item in value.items() if item is not ...})


def inner(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """An encoded map, decoded, changed in place, and encoded again."""
    value: Any = dagcbor.decode(data)
    change(value)
    return dagcbor.encode(value)


def replaced(data: bytes, old: str, new: str) -> bytes:
    """A text with its first `old` replaced."""
    assert old.encode() in data
    return data.replace(old.encode(), new.encode(), 1)


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with the lowest bit of one changed."""
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def encodings(files: Files) -> list[Row]:
    small = files["car-small"]
    cid_text = files["cid"].split()[3]
    rows = [
        ("dagcbor", "a number in two bytes that fits one", "1817"),
        ("dagcbor", "a length in three bytes that fits one", "58 01 00"),
        ("dagcbor", "an indefinite length", "9f 00 ff"),
        ("dagcbor", "map keys out of order: the longer one first", "a2 62 6161 00 61 62 00"),
        ("dagcbor", "map keys out of order: bytewise", "a2 61 62 00 61 61 00"),
        ("dagcbor", "a map key twice", "a2 61 61 00 61 61 01"),
        ("dagcbor", "a map key that is no text", "a1 00 00"),
        ("dagcbor", "a float", "fb 3ff0000000000000"),
        ("dagcbor", "a half float", "f9 3c00"),
        ("dagcbor", "undefined", "f7"),
        ("dagcbor", "a simple value in two bytes", "f8 18"),
        ("dagcbor", "a tag that is not 42", "c0 61 61"),
        ("dagcbor", "tag 42 in a longer head", "d9 002a 58 25 00" + "01551220" + "00" * 32),
        ("dagcbor", "a link without the leading 00", "d8 2a 58 24" + "01551220" + "00" * 32),
        ("dagcbor", "a link of another codec", "d8 2a 58 25 00" + "01701220" + "00" * 32),
        ("dagcbor", "a text that is not UTF-8", "61 ff"),
        ("dagcbor", "a text with a surrogate", "63 eda080"),
        ("dagcbor", "bytes after the value", "00 00"),
        ("dagcbor", "nothing at all", ""),
        ("dagcbor", "a list that claims more items than there are bytes", "9a ffffffff 00"),
        ("dagcbor", "17 lists in one another", "81" * 16 + "80"),
        ("varint", "not minimal", "80 00"),
        ("varint", "not minimal, from 1", "81 00"),
        ("varint", "ten bytes", "ff" * 9 + "01"),
        ("varint", "truncated", "80"),
    ]
    return [
        *((kind, why, bytes.fromhex(data)) for kind, why, data in rows),
        ("cid-text", "upper case", b"b" + cid_text[1:].upper()),
        ("cid-text", "multibase z", b"z" + cid_text[1:]),
        ("cid-text", "bits after the last whole byte", cid_text[:-1] + b"3"),
        ("car", "a block with another hash", flipped(small, -1)),
        ("car", "truncated in a section", small[:-1]),
        ("car", "two roots", _header([small[14:50]] * 2) + small[59:]),
        ("car", "no root", _header([]) + small[59:]),
        ("car", "version 2", _header([small[14:50]], 2) + small[59:]),
    ]


def _header(roots: list[bytes], version: int = 1) -> bytes:
    body = dagcbor.encode({"roots": [Link(root) for root in roots], "version": version})
    assert len(body) < 128
    return bytes([len(body)]) + body


def descriptors(files: Files) -> list[Row]:
    good = files["descriptor"]
    value: Any = dagcbor.decode(good)
    validators = value["validators"]
    rows: list[tuple[str, dict[str, Any]]] = [
        ("an unknown version", {"version": 2}),
        ("an unknown field", {"grace_s": 5}),
        ("a field is missing", {"start": ...}),
        *level_rows(),
        ("a successor, which version 1 does not know", {"start": {}}),
        ("n is below 3f + 1", {"f": 2}),
        ("validators are not sorted by name", {"validators": validators[::-1]}),
        ("a validator stands twice", {"validators": [validators[0], *validators]}),
        (
            "a validator's key id is wrong",
            {"validators": [_with_id(validators[0]), *validators[1:]]},
        ),
        (
            "a key of signature type 0x01",
            {"validators": [files["vkey-v0-notes"].decode().strip(), *validators[1:]]},
        ),
        ("the genesis is no multiple of the window", {"genesis_s": value["genesis_s"] + 1}),
        ("slack is below two windows and 20 s", {"slack_s": 79}),
        ("a batch cannot hold the largest envelope", {"batch_max_bytes": 1_048_559}),
        ("an envelope that no page holds", {"max_envelope_bytes": 1_048_561}),
        ("a window of no length", {"window_s": 0}),
        ("a true for a number", {"rollup_lag": True}),
    ]
    return [("descriptor", why, changed(good, **fields)) for why, fields in rows]


def level_rows() -> list[tuple[str, dict[str, Any]]]:
    """Levels that no set has."""
    bodies: list[Any] = [2, "bodies"]
    rows: list[tuple[str, list[Any]]] = [
        ("a level that is a number alone", [10]),
        ("a level of a kind that nobody knows", [[10, "hints"]]),
        ("a level of one window", [[1, "bodies"]]),
        ("two levels alike", [bodies, bodies]),
        ("a level that is no multiple of the one below", [bodies, [5, "bodies"]]),
        ("a level beyond a day of windows", [bodies, [5_760, "bodies"]]),
        ("a level above an index", [[2, "index"], [4, "bodies"]]),
        ("an index of 65 children", [bodies, [130, "index"]]),
        ("nine levels", [[2**i, "bodies"] for i in range(1, 10)]),
        ("more envelopes in a span than a directory can name", [[1_343, "bodies"]]),
    ]
    levels = [(why, {"levels": value}) for why, value in rows]
    too_large = {"levels": [bodies], "rollup_limit_bytes": 8 * 1024**3 + 1}
    return [*levels, ("with levels, more bytes than a roll-up can hold", too_large)]


def _with_id(vkey: str) -> str:
    name, key_id, key = vkey.split("+", 2)
    return f"{name}+{int(key_id, 16) ^ 1:08x}+{key}"


def segments(files: Files) -> list[Row]:
    root, page, entry, block = (files[n] for n in ("root", "page", "entry", "page-table-block"))
    directory = files["directory-block"]

    def row(at: int, new: Any) -> bytes:
        def change(value: Any) -> None:
            value["pages"][0][at] = new

        return inner(root, change)

    car = files["car"]
    return [
        ("page", "a record of length 0", b"\0\0"),
        ("page", "no record at all", b""),
        ("page", "truncated in an envelope", page[:-1]),
        ("page", "a window that the segment has not", b"\1" + page[1:]),
        ("page", "a length that is not minimal", b"\0\x81\0\xc0"),
        ("root", "an unknown version", changed(root, version=2)),
        ("root", "both inline and in blocks", changed(root, page_blocks=[])),
        ("root", "a batch of two windows", changed(root, windows=2)),
        ("root", "counts that do not add up", changed(root, count=4)),
        ("root", "envelopes without sent times", changed(root, sent_min=None, sent_max=None)),
        ("root", "deeper than its bytes allow", changed(root, depth=1)),
        (
            "root",
            "directory keys out of order",
            changed(root, directory=directory[4:] + directory[:4]),
        ),
        ("root", "a page's first topic key is not in the directory", row(0, 1)),
        ("root", "the first page is not at the start", row(3, 1)),
        ("root", "a page in a part that there cannot be", row(2, 1)),
        ("root", "a page without records", row(5, 0)),
        (
            "root",
            "a link to a block that is not raw",
            row(6, Link(b"\x01\x71" + bytes([0x12, 32]) + bytes(32))),
        ),
        ("page-table-block", "no rows", dagcbor.encode([])),
        ("page-table-block", "rows in one place", dagcbor.encode(2 * dagcbor.decode(block))),  # type: ignore[operator]
        ("directory-block", "a key twice", directory[:4] * 2),
        ("directory-block", "no whole number of keys", directory[:-1]),
        ("segment", "a flipped bit in an envelope", flipped(car, -1)),
        ("segment", "the page is missing", car[: -len(page) - 38]),
        ("segment", "bytes after the last section", car + b"\0"),
        ("segment", "another set's", _of_another_set(files)),
        ("entry", "an unknown version", changed(entry, version=2)),
        ("entry", "a roll-up in a set without levels", changed(entry, rollups=[None])),
        ("entry", "a link where a byte string must be", inner(entry, _link_segment)),
        ("entry", "count 0 and bytes", changed(entry, count=0)),
        ("entry", "sent times in the wrong order", changed(entry, sent_min=2, sent_max=1)),
    ]


def rollups(files: Files) -> list[Row]:
    """Entries with roll-ups, and a roll-up's root."""
    second, fourth, root = (files[n] for n in ("levels-entry-2", "levels-entry-4", "rollup-root"))
    value: Any = dagcbor.decode(fourth)
    hour, day = value["rollups"]
    return [
        ("levels-entry", "a roll-up less than comes due", changed(fourth, rollups=[hour])),
        ("levels-entry", "a roll-up more than comes due", changed(second, rollups=[hour, day])),
        ("levels-entry", "an index that is none", changed(fourth, rollups=[hour, None])),
        ("levels-entry", "a roll-up's CID is a link", changed(second, rollups=[Link(hour)])),
        ("levels-entry", "the CID of a raw block", changed(second, rollups=[b"\1\x55" + hour[2:]])),
        ("levels-entry", "nine roll-ups", changed(second, rollups=[hour] * 9)),
        ("rollup-root", "another level", changed(root, level=2)),
        ("rollup-root", "other windows", changed(root, first_window=2)),
        ("rollup-root", "fewer windows", changed(root, windows=1)),
        ("rollup-root", "another set", changed(root, set=bytes(32))),
        ("rollup-root", "a window in a row that it does not cover", inner(root, _row_of_window_2)),
    ]


def _row_of_window_2(value: Any) -> None:
    value["pages"][0][1] = 2


def indexes(files: Files) -> list[Row]:
    root, table = files["index-root"], files["index-table"]

    def child(at: int, new: Any) -> bytes:
        def change(value: Any) -> None:
            value["children"][0][at] = new

        return inner(root, change)

    def name(at: int, new: Any) -> bytes:
        def change(value: Any) -> None:
            value["blocks"][0][at] = new

        return inner(root, change)

    value: Any = dagcbor.decode(root)
    children, blocks = value["children"], value["blocks"]
    other: Any = dagcbor.decode(table)
    other[0][0] -= 1
    named: list[Any] = [[0, 1, 70_000, 0, blocks[0][2]], [1, 1, 100, 17_000, blocks[0][2]]]
    return [
        ("index-root", "an unknown version", changed(root, version=2)),
        ("index-root", "another kind", changed(root, kind="segment")),
        ("index-root", "level 0", changed(root, level=0)),
        ("index-root", "one window", changed(root, windows=1)),
        ("index-root", "no children", changed(root, children=[])),
        ("index-root", "children that do not share its windows", changed(root, windows=5)),
        ("index-root", "65 children", changed(root, children=children[:1] * 65, windows=65)),
        ("index-root", "both blocks and tables", changed(root, tables=[])),
        ("index-root", "no blocks, and envelopes", changed(root, blocks=[])),
        ("index-root", "blocks, and no child", changed(root, children=[None, None])),
        ("index-root", "a child without its last number", inner(root, _short_child)),
        ("index-root", "a child's CID is a link", child(0, Link(children[0][0]))),
        ("index-root", "a child's CID of a raw block", child(0, b"\1\x55" + children[0][0][2:])),
        ("index-root", "envelopes without bytes", child(2, 0)),
        ("index-root", "sent times in the wrong order", child(4, 0)),
        ("index-root", "a depth of 17", child(5, 17)),
        ("index-root", "a block of more than 16 KiB", name(1, 16_385)),
        ("index-root", "a block of no bytes", name(1, 0)),
        ("index-root", "a link to a raw block", name(2, Link(b"\1\x55" + blocks[0][2].cid[2:]))),
        ("index-root", "blocks out of order", changed(root, blocks=[*blocks, *other])),
        ("index-root", "tables that are not full", changed(root, blocks=..., tables=named)),
        ("index-table", "no blocks", dagcbor.encode([])),
        ("index-table", "out of order", dagcbor.encode([*blocks, *other])),
        *index_blocks(files["index-block"]),
    ]


def _short_child(value: Any) -> None:
    value["children"][0].pop()


def index_blocks(block: bytes) -> list[Row]:
    value: Any = dagcbor.decode(block)
    keys, runs = value
    first, second = runs
    # A key and its mask have five bytes; of a row bytes 4-5 are the window, 6 the part, 7-10 the
    # offset, 11-14 the length, 15-16 the records.
    rows: list[tuple[str, Any]] = [
        ("no runs", [keys]),
        ("a run less than children", [keys, runs[:1]]),
        ("keys that are cut off", [keys[:-1], runs]),
        ("no keys", [b"", runs]),
        ("a key twice", [keys[:5] + keys, runs]),
        ("keys out of order", [keys[5:10] + keys[:5] + keys[10:], runs]),
        ("a mask without a child", [keys[:4] + b"\0" + keys[5:], runs]),
        ("a mask of a child that there is not", [keys[:4] + b"\4" + keys[5:], runs]),
        ("a row that is cut off", [keys, [first[:-1], second]]),
        ("a run that is a list", [keys, [[], second]]),
        ("a window outside", [keys, [_row(first, 5, 4), second]]),
        ("a page of no bytes", [keys, [_row(first, 14, 0), second]]),
        ("a page of more than 1 MiB", [keys, [_row(first, 11, 1), second]]),
        ("a page of no records", [keys, [_row(first, 16, 0), second]]),
        ("a page too short for its records", [keys, [_row(first, 15, 1), second]]),
        ("a large page of two records", [keys, [_row(_row(first, 12, 2), 16, 2), second]]),
        ("two rows in one place", [keys, [first * 2, second]]),
        ("rows out of order", [keys, [first, second[49:] + second[:49]]]),
        ("a row whose place does not follow", [keys, [first, _row(second, 49 + 10, 0)]]),
    ]
    return [("index-block", why, dagcbor.encode(value)) for why, value in rows]


def _row(run: bytes, at: int, new: int) -> bytes:
    out = bytearray(run)
    assert out[at] != new
    out[at] = new
    return bytes(out)


def _link_segment(value: Any) -> None:
    value["segment"] = Link(value["segment"])


def _of_another_set(files: Files) -> bytes:
    """The worked segment's own root under another set id, with its hashes right."""
    from restante.formats import car, cid

    root = changed(files["root"], set=bytes(32))
    page = files["page"]
    name = cid.cid_of(cid.DAG_CBOR, root)
    return car.write(name, [(name, root), (cid.cid_of(cid.RAW, page), page)])


def notes(files: Files) -> list[Row]:
    note, text, policy = files["checkpoint"], files["checkpoint-text"], files["policy"]
    root = text.split(b"\n")[2].decode()
    lines = note.decode().splitlines(keepends=True)
    third = lines[6].split(" ")
    return [
        ("checkpoint-text", "an extension line", text + b"more\n"),
        ("checkpoint-text", "a size with a leading zero", replaced(text, "\n2\n", "\n02\n")),
        ("checkpoint-text", "no line feed at the end", text[:-1]),
        (
            "checkpoint-text",
            "a root that is no canonical base64",
            replaced(text, root, _stray(root)),
        ),
        ("checkpoint", "no empty line before the signatures", replaced(note, "\n\n", "\n")),
        ("checkpoint", "a carriage return", replaced(note, "\n", "\r\n")),
        ("checkpoint", "another size than was signed", replaced(note, "\n2\n", "\n3\n")),
        ("checkpoint", "only two of three cosignatures", "".join(lines[:-1]).encode()),
        (
            "checkpoint",
            "one validator's line three times",
            "".join([*lines[:5], *lines[5:6] * 3]).encode(),
        ),
        (
            "checkpoint",
            "a bad signature of a known key",
            replaced(note, third[2][20:28], "AAAAAAAA"),
        ),
        ("checkpoint", "the log's own line is missing", "".join([*lines[:4], *lines[5:]]).encode()),
        ("policy", "no quorum", replaced(policy, "quorum validators\n", "")),
        (
            "policy",
            "a group that wants more than it has",
            replaced(policy, "validators 3", "validators 5"),
        ),
        (
            "policy",
            "a quorum that is not defined",
            replaced(policy, "quorum validators", "quorum all"),
        ),
        ("policy", "no line feed at the end", policy[:-1]),
        ("policy", "a line that nobody knows", policy + b"trust everybody\n"),
        ("policy", "a set id of 65 digits", replaced(policy, "#restante set ", "#restante set 0")),
        ("contact", "another validator's name", replaced(files["contact"], "\nv0\n", "\nv1\n")),
        (
            "contact",
            "another sequence than was signed",
            replaced(files["contact"], "\n3\n", "\n4\n"),
        ),
        ("watch", "another range than was signed", replaced(files["watch"], "\n0 1\n", "\n0 2\n")),
        ("watch", "a range outside", replaced(files["watch"], "\n0 1\n", "\n0 3\n")),
    ]


def _stray(base64: str) -> str:
    """The same bytes in base64 with a bit set that belongs to none of them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(base64.rstrip("=")) - 1
    return base64[:at] + alphabet[alphabet.index(base64[at]) + 1] + base64[at + 1 :]


def messages(files: Files) -> list[Row]:
    proposal, certificate, pool = (files[n] for n in ("proposal", "certificate", "pool-page"))

    def body(**fields: Any) -> bytes:
        return inner(proposal, lambda value: value["body"].update(fields))

    value: Any = dagcbor.decode(proposal)
    ids = value["body"]["ids"]
    accepts: Any = dagcbor.decode(certificate)
    accepts = accepts["accepts"]
    return [
        ("proposal", "another kind", changed(proposal, kind="certificate")),
        ("proposal", "another set", changed(proposal, set=bytes(32))),
        ("proposal", "another window than was signed", body(window=2)),
        ("proposal", "ids out of order", body(ids=ids[32:64] + ids[:32] + ids[64:])),
        ("proposal", "an id too few", body(ids=ids[:64])),
        ("proposal", "another's key", changed(proposal, key=bytes(32))),
        ("proposal", "an unknown field", changed(proposal, time=0)),
        ("certificate", "an accept too few", changed(certificate, accepts=accepts[:2])),
        (
            "certificate",
            "an accept twice",
            changed(certificate, accepts=[accepts[0], *accepts[:2]]),
        ),
        ("certificate", "accepts out of order", changed(certificate, accepts=accepts[::-1])),
        ("certificate", "another base than was signed", changed(certificate, base_size=0)),
        ("answer", "an unknown answer", changed(files["answer-resend"], answer="perhaps")),
        ("answer", "a field of another answer", changed(files["answer-resend"], ids=b"")),
        ("answer", "missing, but no id", changed(files["answer-missing"], ids=b"")),
        ("pool-page", "next does not pass the ids", changed(pool, next=2)),
        ("pool-page", "an id twice", changed(pool, ids=ids[:32] * 2)),
        ("bodies", "truncated", files["bodies"][:-1]),
        ("bodies", "an empty envelope", b"\0"),
        (
            "cosignatures",
            "an item of three",
            inner(files["cosignatures"], lambda v: v["items"][0].pop()),
        ),
    ]


def envelopes(files: Files) -> list[Row]:
    """R0 with the set of the page: `why` begins with the code."""
    good = files["envelope-1"]
    body = good[1:]
    assert good[0] == 0xC0 + len(body) < 0xF7
    # Fields: expiry in 5 bytes, TTL in 1, topic in 5, the data, the nonce.
    ttl, topic = good[6:7], good[7:12]
    rest = good[12:]
    expiry = good[1:6]

    def made(*fields: bytes) -> bytes:
        payload = b"".join(fields)
        return bytes([0xC0 + len(payload)]) + payload

    assert made(expiry, ttl, topic, rest) == good
    return [
        ("envelope", "rlp-trailing", good + b"\0"),
        ("envelope", "rlp-truncated", good[:-1]),
        ("envelope", "rlp-not-list", bytes([0x80 + len(body)]) + body),
        (
            "envelope",
            "rlp-noncanonical: a length of its own below 56",
            b"\xf8" + bytes([len(body)]) + body,
        ),
        (
            "envelope",
            "rlp-noncanonical: a byte below 0x80 behind a header",
            made(expiry, b"\x81" + ttl, topic, rest),
        ),
        ("envelope", "rlp-items: six", made(expiry, ttl, topic, rest, b"\x01")),
        ("envelope", "field-is-list", made(b"\xc4" + expiry[1:], ttl, topic, rest)),
        ("envelope", "data-is-list", made(expiry, ttl, topic, b"\xc0", good[-2:])),
        ("envelope", "topic-length", made(expiry, ttl, b"\x83" + topic[1:4], rest)),
        ("envelope", "integer-leading-zero", made(b"\x85\0" + expiry[1:], ttl, topic, rest)),
        ("envelope", "integer-overflow", made(b"\x85\1" + expiry[1:], ttl, topic, rest)),
        ("envelope", "ttl-zero", made(expiry, b"\x80", topic, rest)),
        ("envelope", "ttl-over-cap", made(expiry, b"\x82\x01\x2d", topic, rest)),
        ("envelope", "expiry-below-ttl", made(b"\x31", ttl, topic, rest)),
        ("envelope", "low-pow", made(expiry, b"\x82\x01\x2c", topic, rest)),
        ("envelope", "too-early: in window 20", good),
    ]
