"""Prove a node's durable state from its bytes: `lock/`, `pool/` and `archive/`.

Nothing is repaired and nothing is taken from memory of an earlier check. The node must be down:
its lock state is held while it runs. Everything is streamed, one segment at a time.
"""

import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from restante.durable import read_range
from restante.errors import Invalid, RestanteError, StateError
from restante.formats.checkpoint import Checkpoint, verify_cosignature
from restante.formats.descriptor import Descriptor
from restante.formats.entry import parse as parse_entry
from restante.formats.message import Certificate
from restante.formats.note import (
    COSIGNATURE_BYTES,
    Note,
    Signature,
    VerifierKey,
    verified_signatures,
)
from restante.node.durable import pool as pools
from restante.node.durable.lock import Decision, Lock
from restante.node.fsck.archive import ArchiveCheck
from restante.node.fsck.findings import Progress, Report, no_progress
from restante.rules.valid import Facts

LOCK, POOL, ARCHIVE, OUTBOX = "lock", "pool", "archive", "outbox.db"
_PAGE = 256
_PROGRESS_EVERY = 256


def fsck(
    directory: Path,
    descriptor: Descriptor,
    examine: Callable[[bytes], Facts],
    *,
    slot: Callable[[int], bytes | None] | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Check the folder of one node. `examine` is R0 without the window, bound to the descriptor;
    `slot` answers the entry in a slot of the engine (None: empty), or raises RestanteError.

    Raises StateError `lock-busy` while the node runs. Everything else is a finding.
    """
    report = Report()
    archive = ArchiveCheck(directory / ARCHIVE, descriptor, examine, report, progress)
    archive.run()
    frozen = _check_lock(directory, descriptor, archive, report, progress, slot)
    _check_pool(directory, report, frozen)
    _check_outbox(directory, report)
    _check_leftovers(directory, report)
    return report


# --- lock


def _check_lock(
    directory: Path,
    d: Descriptor,
    archive: ArchiveCheck,
    report: Report,
    progress: Progress,
    slot: Callable[[int], bytes | None] | None,
) -> int:
    """Check the lock state; the highest frozen position."""
    file = f"{LOCK}/lock.db"
    try:
        lock = Lock.open(directory / LOCK, d.set_id, None)
    except StateError as error:
        if error.code == "lock-busy":
            raise
        report.add("lock", file, str(error))
        return 0
    try:
        key = d.validator_by_id(lock.key_id)
        if key is None:
            report.add("lock", file, "its key is no validator of the set")
        _check_sizes(lock, archive, report, file)
        _check_adoptions(lock, d, archive, report, file)
        _check_decisions(lock, d, archive, report, progress)
        _check_cosignatures(lock, d, key, archive, report)
        if slot is not None:
            _check_engine(lock, slot, report)
        return max(lock.freezes().values(), default=0)
    except sqlite3.DatabaseError as error:
        report.add("lock", file, str(error))
        return 0
    finally:
        lock.close()


def _check_engine(lock: Lock, slot: Callable[[int], bytes | None], report: Report) -> None:
    """The engine still holds the last entry that was read of it, in its slot."""
    number, known = lock.engine_at()
    try:
        entry = slot(number) if number else b""
    except RestanteError as error:
        report.add("engine-missing", "restante.toml", str(error))
        return
    if number and (entry is None or sha256(entry).digest() != known):
        what = "is empty" if entry is None else "holds another entry"
        detail = f"slot {number}, read before, {what}"
        report.add("engine-differs", "restante.toml", detail)


def _check_sizes(lock: Lock, archive: ArchiveCheck, report: Report, file: str) -> None:
    if not archive.present:
        return
    if archive.size > lock.size():
        detail = f"{lock.size()} windows are decided, the archive has {archive.size}"
        report.add("lock-behind-archive", file, detail)
    elif archive.size < lock.size():
        detail = f"the archive has {archive.size} entries, {lock.size()} windows are decided"
        report.add("archive-behind", ARCHIVE, detail)


def _check_adoptions(
    lock: Lock, d: Descriptor, archive: ArchiveCheck, report: Report, file: str
) -> None:
    """What was adopted (R6) k validators cosigned, and it is the archive's tree."""
    for adoption in lock.adoptions():
        try:
            note = Note.parse(adoption.note)
            checkpoint = Checkpoint.parse_text(note.text)
            signers = len(verified_signatures(note, d.validators))
        except Invalid as error:
            report.add("adoption", file, f"size {adoption.size}: {error}")
            continue
        named = (checkpoint.origin, checkpoint.size, checkpoint.root)
        if named != (d.origin, adoption.size, adoption.root):
            report.add("adoption", file, f"size {adoption.size}: its note is of another tree")
        if signers < d.k:
            report.add("adoption", file, f"size {adoption.size}: {signers} of {d.k} signed it")
        if archive.roots.get(adoption.size, adoption.root) != adoption.root:
            report.add("adoption", file, f"size {adoption.size} has another root here")


def _decisions(lock: Lock, start: int) -> Iterator[Decision]:
    while group := lock.decisions(start, _PAGE):
        yield from group
        start = group[-1].window + 1


def _check_decisions(
    lock: Lock, d: Descriptor, archive: ArchiveCheck, report: Report, progress: Progress
) -> None:
    """Decisions are one run but for what was adopted, each with a good certificate, and the
    archive's entries are theirs."""
    file, total = f"{LOCK}/lock.db", lock.size()
    resumed = {lock.first_window + adoption.size for adoption in lock.adoptions()}
    expected: int | None = None
    for decision in _decisions(lock, 0):
        if expected not in (None, decision.window) and decision.window not in resumed:
            report.add("lock-gap", file, f"no decision of window {expected}")
        expected = decision.window + 1
        index = decision.window - lock.first_window
        base_root = archive.roots.get(index)
        for problem in _decision_problems(decision, d, index, base_root):
            report.add("decision", file, f"window {decision.window}: {problem}")
        archive.compare(index, decision)
        if index % _PROGRESS_EVERY == 0:
            progress("decisions", index, total)
    progress("decisions", total, total)


def _decision_problems(
    decision: Decision, d: Descriptor, index: int, base_root: bytes | None
) -> Iterator[str]:
    try:
        entry = parse_entry(decision.entry)
        certificate = Certificate.parse(decision.certificate, d.set_id)
        certificate.verify(d)
    except Invalid as error:
        yield str(error)
        return
    if (entry.window, entry.segment) != (decision.window, decision.cid):
        yield "its entry is of another batch"
    if (certificate.window, certificate.cid) != (decision.window, decision.cid):
        yield "its certificate is of another batch"
    if certificate.base_size != index:
        yield f"its certificate is on base {certificate.base_size}, not {index}"
    if base_root is not None and certificate.base_root != base_root:
        yield "its certificate is on a base with another root"


def _check_cosignatures(
    lock: Lock, d: Descriptor, key: VerifierKey | None, archive: ArchiveCheck, report: Report
) -> None:
    """What this key cosigned is one history, and that of the archive."""
    file = f"{LOCK}/lock.db"
    for size, root, line in lock.cosignatures():
        report.cosignatures += 1
        if size > lock.size():
            report.add("cosignature", file, f"size {size} is cosigned and not decided")
        known = archive.roots.get(size)
        if known is not None and known != root:
            report.add("cosignature", file, f"size {size} is cosigned with another root")
        if key is not None:
            try:
                text = Checkpoint(d.origin, size, root).text()
                verify_cosignature(text, key, _cosignature_value(line))
            except Invalid as error:
                report.add("cosignature", file, f"size {size}: {error}")


def _cosignature_value(line: bytes) -> bytes:
    """The 72 bytes, stored as they are or as the signature line that holds them."""
    if len(line) == COSIGNATURE_BYTES:
        return line
    return Signature.parse(line.decode("utf-8", "replace").rstrip("\n")).value


# --- pool


def _check_pool(directory: Path, report: Report, frozen: int) -> None:
    """Every record's checksum, the positions' run, and that all that was frozen is there."""
    folder = directory / POOL
    try:
        seed = crc32(pools.read_identity(folder).salt)
        files = pools.list_files(folder)
    except StateError as error:
        code = error.code if error.code == "pool-missing" else "pool-damaged"
        report.add(code, POOL, str(error))
        return
    position, newest_ms = files[0][0], 0
    for number, (first, path) in enumerate(files):
        name = f"{POOL}/{path.name}"
        if first != position:
            report.add("pool-damaged", name, f"it follows position {position}")
            position = first
        data = path.read_bytes()
        end = 0
        for start, record in pools.scan(data, seed, newest_ms):
            position += 1
            newest_ms = record.arrival_ms
            end = pools.record_end(start, record.raw)
            report.pool_records += 1
        if end < len(data):
            torn = number == len(files) - 1 and not pools.acknowledged_follows(data, end, seed)
            code = "pool-torn" if torn else "pool-damaged"
            report.add(code, name, f"no sound record at {end} of {len(data)} bytes")
    if position < frozen:
        report.add("pool-short", POOL, f"it ends at {position}, frozen is {frozen}")


# --- outbox and leftovers


def _check_outbox(directory: Path, report: Report) -> None:
    """Files that wait for a store, and are in the archive no more."""
    path = directory / OUTBOX
    if not path.exists():
        return
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = db.execute("SELECT DISTINCT path FROM pending WHERE NOT release").fetchall()
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        report.add("outbox-path", OUTBOX, str(error))
        return
    for (name,) in rows:
        if read_range(directory / ARCHIVE / str(name), 0, 0) is None:
            report.add("outbox-path", f"{ARCHIVE}/{name}", "it waits for a store and is gone")


def _check_leftovers(directory: Path, report: Report) -> None:
    for path in directory.rglob(".*.tmp"):
        report.add("leftover", str(path.relative_to(directory)), "a temporary file")
