"""A copy of what a node may lose: settings, the log and its segments, on request the keys.

    backup.json                          what this is
    restante.toml descriptor policy
    origin.key validator.key proposer.key   on request, as they stand: perhaps under a passphrase
    archive/                             the log up to `checkpoint`, and what was there besides
    memory/                              what the gateway accepted last, and evidence

Never in it: `lock/`, and what the lock state must agree with (`pool/`, the engine): an older copy
of these is not less, it is wrong. Nor what is made again: indexes, queues, caches.

The node may run meanwhile: an archive's files are immutable, and what a checkpoint covers is there
before it. The checkpoint is read first and written last, so that the copy is always whole.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restante import limits
from restante.durable import make_directories, read_range, remove_file, write_file
from restante.errors import ConfigError, Invalid, StateError, Unavailable
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.level import body_levels, windows_of
from restante.formats.paths import (
    FIXED,
    check_path,
    is_mutable,
    parse_segment_path,
    segment_path,
)
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.node.config import parse
from restante.node.durable.pool import read_identity
from restante.node.home import KEY_MODE, Home

NAME = "backup.json"
RESTORED = "restored.json"
LEFT_OUT = {
    "lock/": "what this key signed; from any copy but the newest it would contradict itself",
    "pool/": "its positions are promised to lock/ and to peers",
    "engine.db": "an older one is another history",
    "cache/, outbox.db, stores/": "made again, or a copy of the archive",
}
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    set: str
    """The set id in hex."""
    node: str
    """The pool's id in hex, which tells one node from another; "" without a pool."""
    roles: list[str]
    keys: list[str]
    """Names of the key files in it."""
    size: int = 0
    """Log entries that its checkpoint covers."""
    made_ms: int = 0
    """When it was complete, Unix ms; 0 before that."""

    def encode(self) -> bytes:
        value = {"version": _VERSION, "kind": "restante-backup", **asdict(self)}
        return json.dumps(value, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, path: Path) -> "Manifest | None":
        """Of a file, if it is there. Raises StateError `backup-format`, `backup-version`."""
        data = read_range(path, 0, limits.NAMED_FILE_BYTES)
        if data is None:
            return None
        try:
            value: dict[str, Any] = json.loads(data)
            if value.pop("kind") != "restante-backup":
                raise ValueError(path)
            version = value.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise StateError(f"{path} is not of a backup", code="backup-format") from None
        if version != _VERSION:
            raise StateError(
                f"{path} has version {version!r}, this program knows {_VERSION}",
                code="backup-version",
                hint="restore with the program that made it, then upgrade",
            )
        kinds = {"set": str, "node": str, "roles": list, "keys": list, "size": int, "made_ms": int}
        if value.keys() != kinds.keys() or any(type(value[k]) is not t for k, t in kinds.items()):
            raise StateError(f"{path} is not of a backup", code="backup-format")
        return cls(**value)


@dataclass(slots=True)
class Copied:
    """What a run did."""

    files: int = 0
    bytes_: int = 0
    kept: int = 0
    """Immutable files that were there already."""

    def add(self, data: bytes) -> None:
        self.files += 1
        self.bytes_ += len(data)


def make(home: Home, target: Path, *, keys: bool) -> tuple[Manifest, Copied]:
    """Back a node up into a folder, a new one or that of an earlier backup of the same node.

    Raises ConfigError `backup-target`, StateError `backup-other`, and as `Home`'s readings.
    """
    d = home.read_descriptor()
    policy = home.read_policy(d)
    found = home.key_files() if keys else []
    pool = home.pool / "pool"
    roles = parse(home.config).get("node.roles")
    manifest = Manifest(
        set=d.set_id.hex(),
        node=read_identity(home.pool).id.hex() if pool.exists() else "",
        roles=roles if isinstance(roles, list) else [],
        keys=[path.name for path in found],
    )
    _check_target(home, target, manifest)
    copied = Copied()
    make_directories(target)
    if Manifest.read(target / NAME) is None:
        write_file(target / NAME, manifest.encode())
    for path in (home.config, home.descriptor, home.policy):
        _put(path, target / path.name, copied)
    for path in found:
        _put(path, target / path.name, copied, KEY_MODE)
    for path in _files(_memory(home)):
        _put(path, target / "memory" / path.relative_to(_memory(home)), copied)
    size = _copy_archive(home.archive, target / "archive", policy, copied)
    _drop_merged(home.archive, target / "archive", d)
    kept = [path.name for path in Home(target).key_files()]
    made = Manifest(
        manifest.set, manifest.node, manifest.roles, kept, size, time.time_ns() // 10**6
    )
    write_file(target / NAME, made.encode())
    return made, copied


def restore(source: Path, home: Home) -> tuple[Manifest, Descriptor]:
    """Put a backup back into a folder that is not there yet.

    What comes back serves what was kept; a validator's key does not sign again. Raises StateError
    `exists`, `backup-…`, ConfigError.
    """
    manifest = Manifest.read(source / NAME)
    if manifest is None:
        raise ConfigError(
            f"{source} is no backup", code="backup-target", hint="`restante backup` makes one"
        )
    if not manifest.made_ms:
        raise StateError(f"{source} was never completed", code="backup-incomplete")
    if home.path.exists() and any(home.path.iterdir()):
        raise StateError(
            f"{home.path} is not empty",
            code="exists",
            hint="nothing is overwritten: restore into a new folder",
        )
    kept = Home(source)
    if kept.lock.exists():
        raise StateError(
            f"{kept.lock} is in this backup: somebody copied it by hand",
            code="backup-lock",
            hint="delete it there: a key that signs with an older lock state contradicts itself",
        )
    d = kept.read_descriptor()
    _check_tree(kept.archive, _checkpoint(kept.archive, kept.read_policy(d))[0])
    # First what says that this came from a backup: no key ever stands here without it.
    write_file(home.path / RESTORED, manifest.encode())
    copied = Copied()
    for path in (kept.config, kept.descriptor, kept.policy):
        _put(path, home.path / path.name, copied)
    for path in kept.key_files():
        _put(path, home.path / path.name, copied, KEY_MODE)
    for folder, place in ((kept.archive, home.archive), (source / "memory", _memory(home))):
        for path in _files(folder):
            _put(path, place / path.relative_to(folder), copied)
    return manifest, d


def refuse_restored(home: Home) -> None:
    """A validator whose folder came from a backup has no lock state, and its key is lost.

    Raises StateError `key-lost`.
    """
    marks = [path for path in (home.path / RESTORED, home.path / NAME) if path.exists()]
    if marks and not home.lock.exists():
        raise StateError(
            f"{home.path} came from a backup ({marks[0].name}), and lock/ is in none: its "
            "validator key is lost and never signs again",
            code="key-lost",
            hint=f"`restante up --role gateway {home.path}` serves what was restored; of four "
            "validators the other three go on, a set of one needs a successor "
            "(docs/operating.md)",
        )


def _check_target(home: Home, target: Path, manifest: Manifest) -> None:
    inner, outer = target.resolve(), home.path.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ConfigError(
            f"{target} and the node's folder hold each other",
            code="backup-target",
            hint="a backup belongs on another disk",
        )
    known = Manifest.read(target / NAME)
    if known is None and target.exists() and any(target.iterdir()):
        raise ConfigError(
            f"{target} is not empty and no backup",
            code="backup-target",
            hint="name a new folder, or that of an earlier backup",
        )
    if known is not None and (known.set, known.node) != (manifest.set, manifest.node):
        raise StateError(
            f"{target} is a backup of another node",
            code="backup-other",
            hint="every node has a folder of its own",
        )


# --- the archive ------------------------------------------------------------------------------


def _copy_archive(source: Path, target: Path, policy: Policy, copied: Copied) -> int:
    """Copy an archive; the size that its checkpoint covers. Raises StateError `backup-differs`."""
    if not source.is_dir():
        return 0
    older, _ = _checkpoint(target, policy)
    for _ in range(limits.BACKUP_TRIES):
        checkpoint, note = _checkpoint(source, policy)
        edge = [] if checkpoint is None else _edge(checkpoint.size)
        # Partial files go twenty windows after the checkpoint that needs them: these first.
        missing = [pair[0] for pair in edge if not _copy_edge(source, target, pair, copied)]
        if not missing:
            break
    else:
        raise StateError(
            f"{source} lacks {missing[0]}, which its checkpoint covers",
            code="backup-differs",
            hint="`restante fsck` says what to do about it; nothing was backed up",
        )
    for path in _files(source):
        _copy(source, target, path.relative_to(source).as_posix(), copied)
    if checkpoint is None:
        return 0
    _check_tree(target, checkpoint, older)
    write_file(target / "checkpoint", note)
    copied.add(note)
    kept = {path for path, _ in edge}
    for path in _files(target):
        name = path.relative_to(target).as_posix()
        if ".p/" in name and name not in kept:
            remove_file(path, sync=False)
    return checkpoint.size


def _drop_merged(source: Path, target: Path, d: Descriptor) -> None:
    """Let segments go that the node released and whose records stand in a roll-up of the copy."""
    for path in list(_files(target / "segment")):
        name = path.relative_to(target).as_posix()
        level, number, _ = parse_segment_path(name)
        first = number * windows_of(d, level)
        above = [each for each in body_levels(d) if each > level]
        merged = (segment_path(each, first // windows_of(d, each)) for each in above)
        if not (source / name).exists() and any((target / each).is_file() for each in merged):
            remove_file(path, sync=False)


def _edge(size: int) -> list[tuple[str, str]]:
    """The partial files of a tree, each with the full one that may have taken its place."""
    pairs: list[tuple[str, str]] = []
    for tile in tiles.right_edge(size):
        pairs.append((tile.path, tiles.tile_path(tile.level, tile.n)))
        if tile.level == 0:
            both = (tiles.entries_path, tiles.certificate_path)
            pairs += [(name(tile.n, tile.width), name(tile.n)) for name in both]
    return pairs


def _copy_edge(source: Path, target: Path, pair: tuple[str, str], copied: Copied) -> bool:
    return any(_copy(source, target, path, copied, edge=True) for path in pair)


def _copy(source: Path, target: Path, path: str, copied: Copied, *, edge: bool = False) -> bool:
    """Copy one file of an archive, unless it is there or of no use; whether the copy has it."""
    try:
        check_path(path)
    except Invalid:
        return False  # the archive's own indexes, and what a crash left
    if path == "checkpoint" or (".p/" in path and not edge):
        return False
    try:
        size = (source / path).stat().st_size
    except FileNotFoundError:
        return False
    there = target / path
    fixed = not is_mutable(path) and path not in FIXED
    if fixed and there.is_file() and there.stat().st_size == size:
        copied.kept += 1
        return True
    return _put(source / path, there, copied)


def _put(path: Path, target: Path, copied: Copied, mode: int = 0o644) -> bool:
    """Copy a file durably; False when it has just gone (released, superseded)."""
    data = read_range(path)
    if data is None:
        return False
    write_file(target, data, mode=mode)
    copied.add(data)
    return True


def _checkpoint(archive: Path, policy: Policy) -> tuple[VerifiedCheckpoint | None, bytes]:
    """An archive's checkpoint and its note; (None, b"") before the first one."""
    note = read_range(archive / "checkpoint", 0, limits.NOTE_MAX_BYTES)
    return (None, b"") if note is None else (policy.verify_checkpoint(note), note)


def _check_tree(
    archive: Path, checkpoint: VerifiedCheckpoint | None, older: VerifiedCheckpoint | None = None
) -> None:
    """That the tiles give the checkpoint's root, and continue an older one's tree.

    Raises StateError `backup-differs`.
    """
    if checkpoint is None or checkpoint.size == 0:
        return

    def get(path: str) -> bytes:
        data = read_range(archive / path)
        if data is None:
            raise Unavailable(f"{path} is missing", code="not-found")
        return data

    try:
        reader = tiles.LogReader(get, checkpoint.size, checkpoint.root)
        reader.tiles.check_edge()
        reader.entry(checkpoint.size - 1)
        if older is not None:
            reader.check_consistent(older.size, older.root)
    except (Invalid, Unavailable) as error:
        raise StateError(
            f"{archive} is not what its checkpoint covers, or does not continue what it held: "
            f"{error}",
            code="backup-differs",
            hint="keep both: `restante fsck` names damage in a node's folder; a shorter log than "
            "before means that the node is older than its backup",
        ) from error


def _memory(home: Home) -> Path:
    return home.cache / "memory"


def _files(directory: Path) -> Iterator[Path]:
    """All files below a folder, but for temporary ones."""
    for path in sorted(directory.rglob("*")):
        if not path.name.startswith(".") and path.is_file():
            yield path
