"""What a client remembers: for each set, the checkpoint it last accepted, and evidence.

Memory is what a split view is caught by, and what keeps a client from being led back in time. It is
never dropped in silence: a memory that cannot be read is an error.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from restante import limits
from restante.durable import write_file
from restante.errors import Invalid, StateError
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.rules.verify import check_note

VARIABLE = "RESTANTE_PATH"


class Memory(Protocol):
    """What is kept between calls."""

    def checkpoint(self, policy: Policy) -> tuple[VerifiedCheckpoint, bytes] | None:
        """The checkpoint last accepted for the policy's set, and its note. Raises StateError."""
        ...

    def accept(self, policy: Policy, checkpoint: VerifiedCheckpoint, note: bytes) -> None:
        """Remember an accepted checkpoint, unless a newer one is remembered. Raises StateError."""
        ...

    def descriptor(self, set_id: bytes) -> bytes | None:
        """The set's descriptor, if it is kept; verify it again."""
        ...

    def keep_descriptor(self, set_id: bytes, data: bytes) -> None:
        """Keep a descriptor whose hash was checked. Raises StateError."""
        ...

    def keep_evidence(self, set_id: bytes, evidence: "Evidence") -> str:
        """Save evidence; where it is, for a person. Raises StateError."""
        ...


class Evidence:
    """Two notes that contradict each other, and the tiles by which one tried to prove otherwise."""

    def __init__(self, reason: str, notes: tuple[bytes, ...], files: dict[str, bytes]) -> None:
        self.reason = reason
        self.notes = notes
        self.files = files

    def encode(self, set_id: bytes) -> bytes:
        """A JSON file, from which anybody can check it again."""
        value = {
            "version": 1,
            "kind": "split-view",
            "set": set_id.hex(),
            "reason": self.reason,
            "notes": [note.decode("utf-8") for note in self.notes],
            "files": {path: data.hex() for path, data in sorted(self.files.items())},
        }
        return json.dumps(value, indent=1).encode() + b"\n"


def default_directory() -> Path:
    """`RESTANTE_PATH`, or the user's state directory."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("restante"))


class FolderMemory:
    """Memory in a directory, one folder for each set; several processes may share it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_directory()

    def _of(self, set_id: bytes) -> Path:
        return self.root / "sets" / set_id.hex()

    def checkpoint(self, policy: Policy) -> tuple[VerifiedCheckpoint, bytes] | None:
        """See `Memory`."""
        path = self._of(policy.set_id or b"") / "checkpoint"
        data = self._read(path, limits.NOTE_MAX_BYTES)
        if data is None:
            return None
        try:
            return check_note(policy, data), data
        except Invalid as error:
            raise StateError(
                f"{path} does not hold a checkpoint that the policy accepts: {error}",
                code="memory",
                hint="look at the file; without it this client forgets what it accepted before",
            ) from error

    def accept(self, policy: Policy, checkpoint: VerifiedCheckpoint, note: bytes) -> None:
        """See `Memory`."""
        known = self.checkpoint(policy)
        if known is None or known[0].size < checkpoint.size:
            self._write(self._of(policy.set_id or b"") / "checkpoint", note)

    def descriptor(self, set_id: bytes) -> bytes | None:
        """See `Memory`."""
        data = self._read(self._of(set_id) / "descriptor", limits.DESCRIPTOR_MAX_BYTES)
        return data if data is not None and sha256(data).digest() == set_id else None

    def keep_descriptor(self, set_id: bytes, data: bytes) -> None:
        """See `Memory`."""
        self._write(self._of(set_id) / "descriptor", data)

    def keep_evidence(self, set_id: bytes, evidence: Evidence) -> str:
        """See `Memory`."""
        data = evidence.encode(set_id)
        path = self._of(set_id) / f"evidence-{sha256(data).hexdigest()[:16]}.json"
        self._write(path, data)
        return str(path)

    @staticmethod
    def _read(path: Path, max_bytes: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        try:
            write_file(path, data)
        except OSError as error:
            raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"{path}: {error.strerror or error}",
        code="memory",
        hint=f"set {VARIABLE} to a directory that can be written",
    )


class ProcessMemory:
    """Memory for as long as the process lives."""

    def __init__(self) -> None:
        self._checkpoints: dict[bytes, tuple[VerifiedCheckpoint, bytes]] = {}
        self._descriptors: dict[bytes, bytes] = {}
        self.evidence: list[Evidence] = []

    def checkpoint(self, policy: Policy) -> tuple[VerifiedCheckpoint, bytes] | None:
        """See `Memory`."""
        return self._checkpoints.get(policy.set_id or b"")

    def accept(self, policy: Policy, checkpoint: VerifiedCheckpoint, note: bytes) -> None:
        """See `Memory`."""
        known = self.checkpoint(policy)
        if known is None or known[0].size < checkpoint.size:
            self._checkpoints[policy.set_id or b""] = (checkpoint, note)

    def descriptor(self, set_id: bytes) -> bytes | None:
        """See `Memory`."""
        return self._descriptors.get(set_id)

    def keep_descriptor(self, set_id: bytes, data: bytes) -> None:
        """See `Memory`."""
        self._descriptors[set_id] = data

    def keep_evidence(self, set_id: bytes, evidence: Evidence) -> str:
        """See `Memory`."""
        self.evidence.append(evidence)
        return f"evidence {len(self.evidence)} of this process"
