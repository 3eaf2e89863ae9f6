"""The proof file: that an envelope is in the log, for anyone who has the policy.

It is a c2sp.org/tlog-proof (text of 2026-06): index, inclusion hashes, checkpoint; other tools read
it as one. Its `extra` line carries what leads from the log entry down to the envelope: descriptor,
entry, segment root, page-table block where there is one, page, id. `rules.proof` verifies it.
"""

import re
from dataclasses import dataclass

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor
from restante.formats.dagcbor import Fields
from restante.formats.note import decode_base64, encode_base64

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
_INDEX = re.compile("index (0|[1-9][0-9]{0,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The parts of a proof file, none of them verified."""

    index: int
    """Of the entry in the log."""
    hashes: tuple[bytes, ...]
    """Inclusion proof, from the leaf's sibling up (RFC 6962 §2.1.1)."""
    checkpoint: bytes
    """The note."""
    descriptor: bytes
    entry: bytes
    """The leaf's bytes. It names the root, as its `segment` or as one of its `rollups`."""
    root: bytes
    """The segment's root block."""
    page_block: bytes | None
    """The page-table block that has the page's row; None if the root has it."""
    page: bytes
    id: bytes
    """SHA-256 of the envelope that is proved, 32 bytes."""

    def encode(self) -> bytes:
        """The file."""
        extra = dagcbor.encode(
            {
                "version": 1,
                "kind": "proof",
                "descriptor": self.descriptor,
                "entry": self.entry,
                "root": self.root,
                "page_block": self.page_block,
                "page": self.page,
                "id": self.id,
            }
        )
        lines = [HEADER, f"extra {encode_base64(extra)}", f"index {self.index}"]
        lines += [encode_base64(digest) for digest in self.hashes]
        return "\n".join([*lines, "", ""]).encode("ascii") + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "ProofFile":
        """The parts of a file, which has one spelling. Raises InvalidEncoding."""
        if len(data) > limits.PROOF_MAX_BYTES:
            raise InvalidEncoding(f"a proof file of {len(data)} bytes")
        head, separator, checkpoint = data.partition(b"\n\n")
        if not separator or not head.isascii():
            raise InvalidEncoding("a proof file has no checkpoint after an empty line")
        match head.decode("ascii").split("\n"):
            case [first, extra, index, *hashes] if first == HEADER:
                pass
            case _:
                raise InvalidEncoding("not a proof file: its first line is not tlog-proof@v1")
        if not extra.startswith("extra "):
            raise InvalidEncoding("a proof file without extra data: a proof of another kind")
        found = _INDEX.fullmatch(index)
        if found is None or len(hashes) > limits.PROOF_HASHES:
            raise InvalidEncoding("a proof file has no index, or too many hashes")
        digests = tuple(map(decode_base64, hashes))
        if any(len(digest) != 32 for digest in digests):
            raise InvalidEncoding("a proof file's hash has not 32 bytes")
        fields = Fields.decode(
            decode_base64(extra.removeprefix("extra ")), "proof", max_bytes=limits.PROOF_MAX_BYTES
        )
        fields.version()
        fields.literal("kind", "proof")
        proof = cls(
            index=int(found[1]),
            hashes=digests,
            checkpoint=checkpoint,
            descriptor=fields.bytes_("descriptor", max=limits.DESCRIPTOR_MAX_BYTES),
            entry=fields.bytes_("entry", max=limits.ENTRY_MAX_BYTES),
            root=fields.bytes_("root", max=limits.SEGMENT_ROOT_MAX_BYTES),
            page_block=fields.optional_bytes("page_block", max=limits.BLOCK_MAX_BYTES),
            page=fields.bytes_("page", max=limits.BLOCK_MAX_BYTES),
            id=fields.bytes_("id", size=32),
        )
        fields.done()
        return proof
