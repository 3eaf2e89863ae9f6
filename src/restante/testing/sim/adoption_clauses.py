"""How the clauses of an adoption (R6) are switched off: as `clauses`."""

from typing import Any

from restante.formats.checkpoint import Checkpoint
from restante.formats.note import Note
from restante.formats.policy import VerifiedCheckpoint
from restante.formats.tiles import LogReader
from restante.rules import verify
from restante.testing.sim.adopting import AdoptingParty
from restante.testing.sim.clauses import Patch
from restante.testing.sim.disk import Adopted, Disk


def without_k() -> list[Patch]:
    def anyones(_: Any, data: bytes) -> VerifiedCheckpoint:
        tree = Checkpoint.parse_text(Note.parse(data).text)
        return VerifiedCheckpoint(tree.origin, tree.size, tree.root, ())

    return [(verify, "check_note", anyones)]


def inconsistent() -> list[Patch]:
    return [(LogReader, "check_consistent", lambda *_: None)]


def unwritten() -> list[Patch]:
    kept: dict[bytes, Adopted] = {}

    def in_memory(self: AdoptingParty, adopted: Adopted) -> None:
        kept[self.disk.pool_id] = adopted

    return [
        (AdoptingParty, "keep_adoption", in_memory),
        (Disk, "adopted", lambda self: kept.get(self.pool_id)),
    ]
