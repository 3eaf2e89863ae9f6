"""R5: which engine entry decides a window. A pure function of the rules: nothing local counts."""

from dataclasses import dataclass
from hashlib import sha256

from restante.errors import Invalid
from restante.formats.descriptor import Descriptor
from restante.formats.message import Certificate
from restante.rules.base import Base


@dataclass(frozen=True, slots=True)
class Decided:
    """The engine entry that decides the base's window."""

    slot: int
    entry_hash: bytes
    cid: bytes
    certificate: bytes


def names_base(window: int, base_size: int, base_root: bytes, base: Base) -> bool:
    """Whether a statement is about this base: verdicts over two histories never add up."""
    return (window, base_size, base_root) == (base.window, base.size, base.root)


def on_base(certificate: Certificate, base: Base) -> bool:
    return names_base(certificate.window, certificate.base_size, certificate.base_root, base)


def decides(slot: int, data: bytes, base: Base, d: Descriptor) -> Decided | None:
    """The decision that an engine entry is on this base; None for junk, which is skipped."""
    try:
        certificate = Certificate.parse(data, d.set_id)
        if not on_base(certificate, base):
            return None
        certificate.verify(d)
    except Invalid:
        return None
    return Decided(slot, sha256(data).digest(), certificate.cid, data)
