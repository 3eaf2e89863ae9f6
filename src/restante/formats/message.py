"""What proposers and validators say to one another: proposals, answers, accepts, certificates.

All are strict DAG-CBOR. A signed message is a map with the signer's public key; the signature is
over `restante/v1/<kind>` LF and the encoded map without the signature, so that no message can be
taken for one of another kind or another set. An accept is signed over raw bytes of fixed length:
the same statement stands in answers and in certificates.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import cid as cids
from restante.formats import dagcbor
from restante.formats.answer import Answer
from restante.formats.dagcbor import Fields, Value
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import (
    BodiesRequest,
    CosignatureReport,
    PoolPage,
    ReportItem,
    encode_bodies,
    join_ids,
    parse_bodies,
    split_ids,
    unknown_set,
)
from restante.formats.keys import MESSAGE_DOMAIN, SigningKey
from restante.formats.note import (
    KEY_ID_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    ed25519_verifies,
)
from restante.formats.tree import HASH_BYTES

__all__ = [
    "Answer",
    "BodiesRequest",
    "Certificate",
    "CosignatureReport",
    "PoolPage",
    "Proposal",
    "ReportItem",
    "accept_statement",
    "encode_bodies",
    "parse_bodies",
]

VERSION = 1


def accept_statement(
    set_id: bytes, window: int, base_size: int, base_root: bytes, cid: bytes
) -> bytes:
    """What a validator signs to accept a batch on a base (R2)."""
    return (
        MESSAGE_DOMAIN
        + b"accept\n"
        + set_id
        + window.to_bytes(8, "big")
        + base_size.to_bytes(8, "big")
        + base_root
        + cid
    )


def _segment_cid(fields: Fields, key: str) -> bytes:
    cid = cids.require(fields.bytes_(key, size=cids.CID_BYTES))
    if cids.codec(cid) != cids.DAG_CBOR:
        raise InvalidEncoding(f"{fields.what}: {key} does not name a segment")
    return cid


@dataclass(frozen=True, slots=True)
class Proposal:
    """A batch that a proposer asks every validator to accept (steps 2 to 4)."""

    set_id: bytes
    key: bytes
    """The proposer's public key, 32 bytes."""
    window: int
    base_size: int
    base_root: bytes
    cid: bytes
    """The segment's root CID, 36 bytes."""
    count: int
    """Envelopes in the batch."""
    size_bytes: int
    """Sum of their lengths."""
    ids: tuple[bytes, ...] = ()
    """All ids, strictly ascending; empty where `against` is given."""
    against: bytes | None = None
    """CID of an earlier proposal of the same key, window and base, from which this one differs."""
    add: tuple[bytes, ...] = ()
    """Ids that `against` lacks, strictly ascending."""
    drop: tuple[bytes, ...] = ()
    """Ids that `against` has too many, strictly ascending."""
    signature: bytes = b""

    KIND: ClassVar[str] = "proposal"

    @classmethod
    def make(
        cls,
        key: SigningKey,
        *,
        set_id: bytes,
        window: int,
        base_size: int,
        base_root: bytes,
        cid: bytes,
        count: int,
        size_bytes: int,
        ids: tuple[bytes, ...] = (),
        against: bytes | None = None,
        add: tuple[bytes, ...] = (),
        drop: tuple[bytes, ...] = (),
    ) -> "Proposal":
        """A signed proposal; ids need not be sorted."""
        unsigned = cls(
            set_id,
            key.public_key,
            window,
            base_size,
            base_root,
            cid,
            count,
            size_bytes,
            tuple(sorted(ids)),
            against,
            tuple(sorted(add)),
            tuple(sorted(drop)),
        )
        return replace(unsigned, signature=key.sign(unsigned.signed_bytes()))

    def _map(self) -> dict[str, Value]:
        body: dict[str, Value] = {
            "window": self.window,
            "base_size": self.base_size,
            "base_root": self.base_root,
            "cid": self.cid,
            "count": self.count,
            "bytes": self.size_bytes,
        }
        if self.against is None:
            body["ids"] = join_ids(self.ids)
        else:
            body |= {
                "against": self.against,
                "add": join_ids(self.add),
                "drop": join_ids(self.drop),
            }
        return {
            "version": VERSION,
            "kind": self.KIND,
            "set": self.set_id,
            "key": self.key,
            "body": body,
        }

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return MESSAGE_DOMAIN + self.KIND.encode() + b"\n" + dagcbor.encode(self._map())

    def encode(self) -> bytes:
        """The signed message."""
        return dagcbor.encode({**self._map(), "signature": self.signature})

    @classmethod
    def parse(
        cls, data: bytes, set_id: bytes, max_ids: int = limits.DESCRIPTOR_BATCH_ENVELOPES
    ) -> "Proposal":
        """The proposal of its bytes; its signature is not checked yet.

        `max_ids` is the descriptor's batch_max_envelopes. Raises InvalidEncoding (`unknown-set`).
        """
        # A difference names at most a whole list to drop and a whole list to add.
        max_bytes = 2 * HASH_BYTES * max_ids + limits.MESSAGE_OVERHEAD_BYTES
        fields = Fields.decode(data, "proposal", max_bytes=max_bytes)
        fields.version(VERSION)
        fields.literal("kind", cls.KIND)
        unknown_set(fields, set_id)
        key = fields.bytes_("key", size=PUBLIC_KEY_BYTES)
        signature = fields.bytes_("signature", size=SIGNATURE_BYTES)
        body = fields.map_("body")
        fields.done()
        count = body.uint("count", max_ids)
        ids: tuple[bytes, ...] = ()
        add: tuple[bytes, ...] = ()
        drop: tuple[bytes, ...] = ()
        against = None
        if body.has("against"):
            against = _segment_cid(body, "against")
            add = split_ids(body, "add", max_ids, ascending=True)
            drop = split_ids(body, "drop", max_ids, ascending=True)
            if not set(add).isdisjoint(drop) or len(add) > count:
                raise InvalidEncoding("proposal: the difference contradicts itself")
        else:
            ids = split_ids(body, "ids", max_ids, ascending=True)
            if len(ids) != count:
                raise InvalidEncoding("proposal: count is not that of the ids")
        proposal = cls(
            set_id,
            key,
            body.uint("window", limits.TREE_SIZE_MAX),
            body.uint("base_size", limits.TREE_SIZE_MAX),
            body.bytes_("base_root", size=HASH_BYTES),
            _segment_cid(body, "cid"),
            count,
            body.uint("bytes", limits.DESCRIPTOR_BATCH_BYTES),
            ids,
            against,
            add,
            drop,
            signature,
        )
        body.done()
        return proposal

    def verify(self, set_id: bytes) -> None:
        """Check the signature. Raises VerificationFailed, code `signature`."""
        if set_id != self.set_id or not ed25519_verifies(
            self.key, self.signature, self.signed_bytes()
        ):
            raise VerificationFailed("the proposal is not signed by its key", code="signature")


@dataclass(frozen=True, slots=True)
class Certificate:
    """n − f accepts of one batch on one base (step 5): what the engine orders."""

    set_id: bytes
    window: int
    base_size: int
    base_root: bytes
    cid: bytes
    accepts: tuple[tuple[bytes, bytes], ...]
    """(cosigner key id, signature), strictly ascending by key id."""

    KIND: ClassVar[str] = "certificate"

    def encode(self) -> bytes:
        """Its bytes."""
        return dagcbor.encode(
            {
                "version": VERSION,
                "kind": self.KIND,
                "set": self.set_id,
                "window": self.window,
                "base_size": self.base_size,
                "base_root": self.base_root,
                "cid": self.cid,
                "accepts": [[key_id, signature] for key_id, signature in self.accepts],
            }
        )

    @classmethod
    def parse(cls, data: bytes, set_id: bytes) -> "Certificate":
        """The certificate of its bytes, no signature checked. Raises InvalidEncoding."""
        fields = Fields.decode(data, "certificate", max_bytes=limits.MESSAGE_OVERHEAD_BYTES)
        fields.version(VERSION)
        fields.literal("kind", cls.KIND)
        unknown_set(fields, set_id)
        accepts = fields.list_("accepts", limits.DESCRIPTOR_VALIDATORS)
        certificate = cls(
            set_id,
            fields.uint("window", limits.TREE_SIZE_MAX),
            fields.uint("base_size", limits.TREE_SIZE_MAX),
            fields.bytes_("base_root", size=HASH_BYTES),
            _segment_cid(fields, "cid"),
            tuple(_accept(item) for item in accepts),
        )
        fields.done()
        key_ids = [key_id for key_id, _ in certificate.accepts]
        if any(one >= other for one, other in pairwise(key_ids)):
            raise InvalidEncoding("certificate: accepts are not strictly ascending")
        return certificate

    def verify(self, descriptor: Descriptor) -> None:
        """Check that exactly n − f distinct validators accepted this batch on this base.

        Raises VerificationFailed: `unknown-set`, `quorum`, `signature`.
        """
        if self.set_id != descriptor.set_id:
            raise VerificationFailed("the certificate is of another set", code="unknown-set")
        key_ids = [key_id for key_id, _ in self.accepts]
        if len(set(key_ids)) != len(key_ids) or len(key_ids) != descriptor.k:
            raise VerificationFailed("not n − f distinct accepts", code="quorum")
        statement = accept_statement(
            self.set_id, self.window, self.base_size, self.base_root, self.cid
        )
        for key_id, signature in self.accepts:
            validator = descriptor.validator_by_id(key_id)
            if validator is None:
                raise VerificationFailed("an accept is by no validator", code="quorum")
            validator.verify(statement, signature)


def _accept(item: Value) -> tuple[bytes, bytes]:
    if (
        not isinstance(item, list)
        or len(item) != 2
        or not isinstance(key_id := item[0], bytes)
        or not isinstance(signature := item[1], bytes)
        or (len(key_id), len(signature)) != (KEY_ID_BYTES, SIGNATURE_BYTES)
    ):
        raise InvalidEncoding("certificate: not an accept")
    return key_id, signature
