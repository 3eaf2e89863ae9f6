"""What validators read from one another: pages of a pool, bodies, newest cosignatures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor, varint
from restante.formats.checkpoint import Checkpoint, verify_cosignature
from restante.formats.dagcbor import Fields, Value
from restante.formats.note import COSIGNATURE_BYTES, KEY_ID_BYTES, VerifierKey
from restante.formats.tree import EMPTY_ROOT, HASH_BYTES

VERSION = 1
POOL_ID_BYTES = 16


def join_ids(ids: Iterable[bytes]) -> bytes:
    """Ids as one byte string."""
    return b"".join(ids)


def split_ids(
    fields: Fields, key: str, max_ids: int, *, ascending: bool = False
) -> tuple[bytes, ...]:
    """The 32-byte ids of a byte-string field: distinct, or strictly ascending where asked."""
    data = fields.bytes_(key, max=HASH_BYTES * max_ids)
    if len(data) % HASH_BYTES:
        raise InvalidEncoding(f"{fields.what}: {key} are not ids of 32 bytes")
    ids = tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))
    if ascending:
        if any(one >= other for one, other in pairwise(ids)):
            raise InvalidEncoding(f"{fields.what}: {key} are not strictly ascending")
    elif len(set(ids)) != len(ids):
        raise InvalidEncoding(f"{fields.what}: {key} name an id twice")
    return ids


def unknown_set(fields: Fields, set_id: bytes) -> None:
    """Refuse another validator set's message. Raises InvalidEncoding, code `unknown-set`."""
    if fields.bytes_("set", size=HASH_BYTES) != set_id:
        raise InvalidEncoding(f"{fields.what}: of another validator set", code="unknown-set")


@dataclass(frozen=True, slots=True)
class PoolPage:
    """Part of a pool, in order of arrival: the answer to `GET /pool?after=…`."""

    pool: bytes
    """The pool's own id, 16 bytes: positions mean nothing in another pool."""
    floor: int
    """The lowest position still held."""
    after: int
    """The position that was asked for."""
    ids: tuple[bytes, ...]
    """Ids from `after` on, as they arrived."""
    next: int
    """The position to ask for next."""
    frozen_window: int | None
    """The newest frozen window, if any."""
    frozen_position: int
    """The pool's position at that freeze; 0 if there is none."""

    def encode(self) -> bytes:
        """Its bytes."""
        return dagcbor.encode(
            {
                "version": VERSION,
                "pool": self.pool,
                "floor": self.floor,
                "after": self.after,
                "ids": join_ids(self.ids),
                "next": self.next,
                "frozen_window": self.frozen_window,
                "frozen_position": self.frozen_position,
            }
        )

    @classmethod
    def parse(cls, data: bytes, max_ids: int = limits.POOL_PAGE_IDS) -> "PoolPage":
        """The page of its bytes. Raises InvalidEncoding."""
        max_bytes = HASH_BYTES * max_ids + limits.MESSAGE_OVERHEAD_BYTES
        fields = Fields.decode(data, "pool page", max_bytes=max_bytes)
        fields.version(VERSION)
        page = cls(
            fields.bytes_("pool", size=POOL_ID_BYTES),
            fields.uint("floor"),
            fields.uint("after"),
            split_ids(fields, "ids", max_ids),
            fields.uint("next"),
            fields.optional_uint("frozen_window", limits.TREE_SIZE_MAX),
            fields.uint("frozen_position"),
        )
        fields.done()
        # A page that names ids must move the cursor by as many positions, or reading never ends.
        if page.next - page.after < len(page.ids):
            raise InvalidEncoding("pool page: next does not pass its ids")
        if page.frozen_window is None and page.frozen_position:
            raise InvalidEncoding("pool page: a position of no freeze")
        return page


@dataclass(frozen=True, slots=True)
class BodiesRequest:
    """Which envelopes are asked for: the body of `POST /bodies`."""

    ids: tuple[bytes, ...]
    """Distinct; bodies come in this order, and those that are not held are left out."""

    def encode(self) -> bytes:
        """Its bytes."""
        return dagcbor.encode({"version": VERSION, "ids": join_ids(self.ids)})

    @classmethod
    def parse(cls, data: bytes, max_ids: int = limits.BODIES_IDS) -> "BodiesRequest":
        """The request of its bytes. Raises InvalidEncoding."""
        max_bytes = HASH_BYTES * max_ids + limits.MESSAGE_OVERHEAD_BYTES
        fields = Fields.decode(data, "bodies request", max_bytes=max_bytes)
        fields.version(VERSION)
        request = cls(split_ids(fields, "ids", max_ids))
        fields.done()
        return request


def encode_bodies(raws: Iterable[bytes]) -> bytes:
    """Envelopes, each behind its length as a varint."""
    return b"".join(part for raw in raws for part in (varint.encode(len(raw)), raw))


def parse_bodies(
    data: bytes,
    max_envelope_bytes: int = limits.ENVELOPE_MAX_BYTES,
    max_envelopes: int = limits.BODIES_IDS,
) -> list[bytes]:
    """The envelopes of a stream of bodies. Raises InvalidEncoding."""
    raws: list[bytes] = []
    at = 0
    while at < len(data):
        length, at = varint.decode(data, at)
        if not 0 < length <= max_envelope_bytes or at + length > len(data):
            raise InvalidEncoding("bodies: an envelope is empty, too large or truncated")
        if len(raws) == max_envelopes:
            raise InvalidEncoding("bodies: too many envelopes")
        raws.append(data[at : at + length])
        at += length
    return raws


class ReportItem(NamedTuple):
    """The newest cosignature of one key that a validator knows."""

    key_id: bytes
    """Cosigner key id, 4 bytes."""
    size: int
    root: bytes
    value: bytes
    """Time and Ed25519 signature, 72 bytes."""

    def verify(self, key: VerifierKey, origin: str) -> int:
        """The time (Unix seconds) at which `key` cosigned this tree of the log `origin`.

        Raises VerificationFailed (`bad-signature`).
        """
        return verify_cosignature(Checkpoint(origin, self.size, self.root).text(), key, self.value)


@dataclass(frozen=True, slots=True)
class CosignatureReport:
    """The newest cosignatures that a validator knows, by key: the answer to `GET /cosignatures`.

    A validator that starts asks its peers for its own: it never signs behind what they remember.
    """

    items: tuple[ReportItem, ...]
    """Strictly ascending by key id."""

    def of_key(self, key_id: bytes) -> ReportItem | None:
        """The item of a key; nothing is verified by finding it."""
        return next((item for item in self.items if item.key_id == key_id), None)

    def encode(self) -> bytes:
        """Its bytes."""
        return dagcbor.encode(
            {
                "version": VERSION,
                "kind": "cosignatures",
                "items": [list(item) for item in self.items],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "CosignatureReport":
        """The report of its bytes. Raises InvalidEncoding."""
        max_bytes = 256 * limits.REPORT_ITEMS
        fields = Fields.decode(data, "cosignatures", max_bytes=max_bytes)
        fields.version(VERSION)
        fields.literal("kind", "cosignatures")
        items = tuple(_report_item(item) for item in fields.list_("items", limits.REPORT_ITEMS))
        fields.done()
        if any(one.key_id >= other.key_id for one, other in pairwise(items)):
            raise InvalidEncoding("cosignatures: keys are not strictly ascending")
        return cls(items)


def _report_item(value: Value) -> ReportItem:
    match value:
        case [bytes() as key_id, int() as size, bytes() as root, bytes() as signature] if (
            dagcbor.is_int(size)
            and 0 <= size <= limits.TREE_SIZE_MAX
            and (size > 0 or root == EMPTY_ROOT)
            and _sizes(key_id, root, signature) == (KEY_ID_BYTES, HASH_BYTES, COSIGNATURE_BYTES)
        ):
            return ReportItem(key_id, size, root, signature)
    raise InvalidEncoding("cosignatures: not an item")


def _sizes(*parts: Sequence[int]) -> tuple[int, ...]:
    return tuple(len(part) for part in parts)
