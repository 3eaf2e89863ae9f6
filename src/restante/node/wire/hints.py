"""What an error's answer says beside its message: every one has a hint (docs/node.md)."""

import json

HINTS = {
    "bad-signature": "sign again with the key that the message names",
    "block-index": "ask for the segment's file instead",
    "body-timeout": "send the body without pauses, or over a faster connection",
    "body-too-large": "send less: split the request, or leave the envelope out",
    "busy": "come back in a second, and reuse connections",
    "certificate": "a certificate needs the accepts of n - f validators of this set",
    "cid": "ask for a CIDv1 with SHA2-256 of codec raw or dag-cbor, in base32",
    "disconnected": "keep the connection open until the answer has come",
    "encoding": "docs/formats.md says how these bytes must look",
    "format": "ask for ?format=raw or ?format=car",
    "head-timeout": "send the whole request head at once",
    "http": "send HTTP/1.1 as RFC 9112 says",
    "method": "docs/node.md lists the methods of every path",
    "pruned": "the log names it; a source that keeps more may have it, or what stands above it",
    "not-found": "docs/node.md lists the paths; the checkpoint says how much there is",
    "parameter": "docs/node.md lists the parameters and their bounds",
    "path": "docs/formats.md lists the paths of an archive",
    "pool-full": "the pool has room again after the next windows; try then",
    "query": "docs/node.md lists the parameters and their bounds",
    "range": "ask for bytes within the file; HEAD tells its length",
    "rate": "send more slowly, or to several validators",
    "signature": "sign again with the key that the message names",
    "source-unavailable": "its sources are away or have let it go; ask another node, or later",
    "stopping": "this node stops; ask another one",
    "too-many-blocks": "ask for the blocks one by one",
    "unknown-set": "GET /descriptor shows this set; its SHA-256 is the set id",
    "withheld": "another source may have it: ask a validator or a mirror",
    "verification": "fetch the object again; its hashes or signatures do not fit",
}
# For codes that stand for what was wrong with one envelope or object.
BY_STATUS = {
    400: "docs/formats.md says how these bytes must look",
    403: "its hashes or signatures do not fit: make it again",
    404: "docs/node.md lists the paths",
    405: "docs/node.md lists the methods of every path",
    410: "another source may have it",
    409: "read the newest checkpoint, then decide again",
    422: "the code says which rule refused it; docs/node.md lists them",
    429: "come back in a second",
    503: "come back in a second, or ask another node",
}


def hint_of(status: int, code: str) -> str:
    """What a person can do about an error; never empty."""
    return HINTS.get(code) or BY_STATUS.get(status) or "the log of this node says more"


def error_body(status: int, code: str, message: str, hint: str = "") -> bytes:
    """An error as JSON {"code", "message", "hint"}."""
    value = {"code": code, "message": message, "hint": hint or hint_of(status, code)}
    return json.dumps(value, ensure_ascii=False).encode()
