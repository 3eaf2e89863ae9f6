"""What some bytes are: every object of the archive and of the protocol, recognised and laid open.

Nothing is trusted or verified by being shown, unless the description says so.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from restante import limits
from restante.errors import Invalid, InvalidEncoding
from restante.formats import car, dagcbor, entry, index, page, tiles, whisper
from restante.formats import cid as cids
from restante.formats.checkpoint import Checkpoint, cosignature_time_s
from restante.formats.dagcbor import Link, Value
from restante.formats.descriptor import Descriptor
from restante.formats.message import Certificate, PoolPage, Proposal
from restante.formats.note import COSIGNATURE_BYTES, Note
from restante.formats.policy import Policy
from restante.formats.root import parse_directory_block, parse_root
from restante.rules.query import Cursor

Description = dict[str, Any]

_LISTED = 64
"""Items of a list that are shown; the count is always told."""


def describe(data: bytes, policy: Policy | None = None, path: str = "") -> Description:
    """A description with `type`, for a person or as JSON; `path` helps where bytes are ambiguous.

    With a policy, checkpoints say who of it signed. Raises InvalidEncoding `unknown-object`.
    """
    for read in _readers(policy, path):
        try:
            return {**read(data), "length": len(data)}
        except (Invalid, UnicodeDecodeError):
            continue
    raise InvalidEncoding("no object that is known here", code="unknown-object")


def _readers(policy: Policy | None, path: str) -> list[Callable[[bytes], Description]]:
    def note(data: bytes) -> Description:
        return _note(data, policy)

    if path.startswith(("tile/entries/", "certificate/")):
        return [_bundle]
    if path.startswith("tile/"):
        return [_tile]
    return [
        _secret,
        note,
        _policy,
        _car,
        _dag_cbor,
        _envelope,
        _packet,
        _bundle,
        _cursor,
        _page,
        _directory,
        _tile,
        _hex,
    ]


def _secret(data: bytes) -> Description:
    if not data.startswith(b"PRIVATE+KEY+"):
        raise InvalidEncoding("no private key")
    name = data.decode("utf-8").removeprefix("PRIVATE+KEY+").split("+")[0]
    return {"type": "private key", "name": name, "secret": "not shown"}


# --- text -----------------------------------------------------------------------------------


def _note(data: bytes, policy: Policy | None) -> Description:
    note = Note.parse(data)
    first, *rest = note.text[:-1].split("\n")
    signatures = []
    for signature in note.signatures:
        line: Description = {"name": signature.name, "key_id": signature.key_id.hex()}
        if len(signature.value) == COSIGNATURE_BYTES:
            line["cosigned_s"] = cosignature_time_s(signature.value)
        if policy is not None:
            line["verified"] = _signed(policy, note, signature.name, signature.key_id.hex())
        signatures.append(line)
    if first in ("restante/contact/v1", "restante/watch/v1") and rest:
        kind = "contact note" if "contact" in first else "watch note"
        return {"type": kind, "set": rest[0], "lines": rest[1:], "signatures": signatures}
    try:
        tree = Checkpoint.parse_text(note.text)
    except InvalidEncoding:
        return {"type": "note", "lines": [first, *rest], "signatures": signatures}
    told: Description = {
        "type": "checkpoint",
        "origin": tree.origin,
        "size": tree.size,
        "root": tree.root.hex(),
        "signatures": signatures,
    }
    if policy is not None:
        told["satisfies_policy"] = _satisfies(policy, data)
    return told


def _signed(policy: Policy, note: Note, name: str, key_id: str) -> bool | None:
    """Whether a line verifies; None if the policy has no such key."""
    keys = [each.key for each in (*policy.logs, *policy.witnesses)]
    for key in keys:
        # A validator's notes are signed by the same key under another type.
        for kind in {key, key.of_kind(0x01)}:
            if (kind.name, kind.key_id.hex()) == (name, key_id):
                return any(
                    kind.verifies(note.text, signature.value)
                    for signature in note.signatures
                    if (signature.name, signature.key_id.hex()) == (name, key_id)
                )
    return None


def _satisfies(policy: Policy, data: bytes) -> bool | str:
    try:
        policy.verify_checkpoint(data)
    except Invalid as error:
        return f"no: {error} ({error.code})"
    return True


def _policy(data: bytes) -> Description:
    policy = Policy.parse(data)
    return {
        "type": "policy",
        "set": None if policy.set_id is None else policy.set_id.hex(),
        "logs": [each.key.text() for each in policy.logs],
        "witnesses": [f"{each.name} {each.key.text()}" for each in policy.witnesses],
        "groups": [f"{g.name}: {g.k} of {' '.join(g.members)}" for g in policy.groups],
        "quorum": policy.quorum,
        "contacts": [f"{name} {url}" for name, url in policy.contacts],
    }


def _cursor(data: bytes) -> Description:
    cursor = Cursor.parse(data.decode("ascii").strip())
    after = cursor.after
    return {
        "type": "cursor",
        "set": cursor.set_id.hex(),
        "query": cursor.query.hex(),
        "since": cursor.since,
        "size": cursor.size,
        "after": None if after is None else {"sent_s": after.sent_s, "id": after.id.hex()},
    }


def _hex(data: bytes) -> Description:
    """Hex of any of the binary objects."""
    if len(data) > 2 * limits.CAR_MAX_BYTES:
        raise InvalidEncoding("too long")
    text = data.decode("ascii").strip()
    try:
        inner = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise InvalidEncoding("no hex") from error
    if not inner:
        raise InvalidEncoding("empty")
    for read in (_car, _dag_cbor, _envelope, _packet, _bundle, _page):
        try:
            return read(inner)
        except Invalid:
            continue
    raise InvalidEncoding("hex of nothing that is known")


# --- DAG-CBOR -------------------------------------------------------------------------------


def _dag_cbor(data: bytes) -> Description:
    value = dagcbor.decode(data)
    if isinstance(value, list) and value:
        return {**_listed(data, value), "cid": _cid(cids.DAG_CBOR, data)}
    if not isinstance(value, dict) or value.get("version") != 1:
        raise InvalidEncoding("no object of ours")
    kind, checked = _kind_of(data, value)
    return {"type": kind, "cid": _cid(cids.DAG_CBOR, data), **checked, **_plain_map(value)}


def _listed(data: bytes, value: list[Value]) -> Description:
    """The blocks that are lists. Raises InvalidEncoding."""
    match value[0]:
        case bytes():
            runs = len(value[1]) if len(value) == 2 and isinstance(value[1], list) else 0
            return _index_block(index.parse_block(data, 0, limits.SEGMENT_MAX_WINDOWS, runs))
        case list() if len(value[0]) == 3:
            names = index.parse_table(data)
            shown = [f"{name.topic_key:08x} {cids.to_text(name.cid)}" for name in names[:_LISTED]]
            return {"type": "index table", "count": len(names), "blocks": shown}
    return {"type": "page-table block", **_rows(page.parse_page_block(data))}


def _index_block(contents: index.Contents) -> Description:
    """Windows are shown from the index's first, which the block does not know."""
    keys = list(contents.keys.items())
    return {
        "type": "index block",
        "count": len(keys),
        "topics": [
            {
                "topic_key": f"{key:08x}",
                "children": [i for i in range(len(contents.rows)) if mask >> i & 1],
            }
            for key, mask in keys[:_LISTED]
        ],
        "pages": {str(i): _rows(rows)["rows"] for i, rows in enumerate(contents.rows) if rows},
    }


def _kind_of(data: bytes, value: Mapping[str, Value]) -> tuple[str, Description]:
    """(type, what follows from it), once its own parser took it. Raises InvalidEncoding."""
    named = value.get("set")
    set_id = named if isinstance(named, bytes) else b""
    match value.get("kind"):
        case "segment":
            parse_root(data)
            return "segment root", {}
        case "index":
            root = index.parse_root(data)
            named = [None if c is None else cids.to_text(c.cid) for c in root.children]
            return "index root", {"child_cids": named}
        case "proposal":
            proposal = Proposal.parse(data, set_id)
            return "proposal", {"signed": _holds(lambda: proposal.verify(set_id))}
        case "certificate":
            Certificate.parse(data, set_id)
            return "certificate", {}
        case str() as other:
            return other, {}
    if "validators" in value:
        descriptor = Descriptor.parse(data)
        return "descriptor", {
            "set_id": descriptor.set_id.hex(),
            "n": descriptor.n,
            "k": descriptor.k,
            "roll_ups": [
                f"level {number}: {each.kind} of {each.windows} windows "
                f"({each.windows * descriptor.window_s} s)"
                for number, each in enumerate(descriptor.levels, 1)
            ],
        }
    if "segment" in value:
        parsed = entry.parse(data)
        rollups = [None if cid is None else cids.to_text(cid) for cid in parsed.rollups]
        told = {"segment_cid": cids.to_text(parsed.segment)}
        return "log entry", {**told, **({"rollup_cids": rollups} if rollups else {})}
    if "pool" in value:
        PoolPage.parse(data)
        return "pool page", {}
    return "map", {}


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except Invalid:
        return False
    return True


def _plain_map(value: Mapping[str, Value]) -> Description:
    return {key: _plain(item) for key, item in value.items() if key not in ("version", "kind")}


def _plain(value: Value) -> Any:
    """DAG-CBOR as JSON: bytes in hex, links as text, long lists cut."""
    match value:
        case Link():
            return cids.to_text(value.cid)
        case bytes():
            return value.hex() if len(value) <= 256 else f"{value[:64].hex()}… ({len(value)} bytes)"
        case list():
            shown = [_plain(item) for item in value[:_LISTED]]
            return shown if len(value) <= _LISTED else [*shown, f"… {len(value)} in all"]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value


def _rows(rows: tuple[page.PageRow, ...]) -> Description:
    return {
        "count": len(rows),
        "rows": [
            {**row._asdict(), "topic_key": f"{row.topic_key:08x}", "cid": cids.to_text(row.cid)}
            for row in rows[:_LISTED]
        ],
    }


# --- binary ---------------------------------------------------------------------------------


def _cid(codec: int, data: bytes) -> str:
    return cids.to_text(cids.cid_of(codec, data))


def _car(data: bytes) -> Description:
    root, blocks = car.read(data)
    told: Description = {
        "type": "CAR",
        "root": cids.to_text(root),
        "blocks": len(blocks),
        "block_lengths": [len(block) for _, block in blocks[:_LISTED]],
    }
    # Not `describe`: a CAR may hold a CAR that holds a CAR.
    if blocks and blocks[0][0] == root and cids.codec(root) == cids.DAG_CBOR:
        told["first"] = _dag_cbor(blocks[0][1])
    return told


def _envelope(data: bytes) -> Description:
    parsed = whisper.parse(data)
    return {
        "type": "envelope",
        "id": sha256(data).hexdigest(),
        "topic": parsed.topic.hex(),
        "sent_s": parsed.sent_s,
        "expiry_s": parsed.expiry_s,
        "ttl_s": parsed.ttl_s,
        "nonce": parsed.nonce,
        "data": _plain(parsed.data),
    }


def _packet(data: bytes) -> Description:
    raws = whisper.parse_packet(data)
    if not raws:
        raise InvalidEncoding("empty")
    shown = [_envelope(raw) for raw in raws[:_LISTED]]
    return {"type": "packet", "count": len(raws), "envelopes": shown}


def _bundle(data: bytes) -> Description:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        items.append(data[at + 2 : end])
        at = end
    if at != len(data) or not 0 < len(items) <= tiles.WIDTH:
        raise InvalidEncoding("no bundle")
    shown = [_dag_cbor(item) for item in items]
    return {"type": f"bundle, {shown[0]['type']}", "count": len(items), "items": shown}


def _page(data: bytes) -> Description:
    records = page.parse(data, 0, limits.SEGMENT_MAX_WINDOWS)
    shown = [{"window_in_segment": window, **_envelope(raw)} for window, raw in records]
    return {
        "type": "page",
        "cid": _cid(cids.RAW, data),
        "count": len(records),
        "records": shown[:_LISTED],
    }


def _directory(data: bytes) -> Description:
    keys = parse_directory_block(data)
    if len(keys) < 2:  # any four bytes would be one
        raise InvalidEncoding("no directory")
    shown = [f"{key:08x}" for key in keys[:_LISTED]]
    return {
        "type": "directory block",
        "cid": _cid(cids.RAW, data),
        "count": len(keys),
        "topic_keys": shown,
    }


def _tile(data: bytes) -> Description:
    if not data or len(data) % 32 or len(data) > 32 * tiles.WIDTH:
        raise InvalidEncoding("no tile")
    hashes = [data[i : i + 32].hex() for i in range(0, len(data), 32)]
    return {"type": "tile", "count": len(hashes), "hashes": hashes}
