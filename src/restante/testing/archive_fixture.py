"""A small archive, really signed, from a list of envelopes: what client and gateway are tested on.

Everything follows from the arguments: same seed, same keys, same bytes. The envelopes carry no
proof of work, which a client leaves to the validators.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from restante.formats import tiles, tree, whisper
from restante.formats.checkpoint import Checkpoint
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, Note
from restante.formats.page import Member, topic_key
from restante.formats.paths import segment_path
from restante.formats.policy import Policy
from restante.formats.segment import Segment, build

GENESIS_S = 1_795_365_000
COSIGNED_S = GENESIS_S + 86_400


@dataclass(frozen=True, slots=True)
class MadeSet:
    """A validator set with all its secrets."""

    validators: tuple[SigningKey, ...]
    """Sorted by name."""
    log_key: SigningKey
    """The origin's."""
    descriptor: Descriptor

    @property
    def set_id(self) -> bytes:
        """SHA-256 of the descriptor."""
        return self.descriptor.set_id

    def policy(self, contacts: Iterable[tuple[str, str]] = ()) -> Policy:
        """The policy file's: n − f of the validators."""
        d = self.descriptor
        return Policy.of_validators(
            self.log_key.vkey(ED25519), d.validators, d.k, d.set_id, contacts
        )

    def checkpoint(self, size: int, root: bytes, signers: int | None = None) -> bytes:
        """A note of this tree, cosigned by the first `signers` validators (n − f by default)."""
        text = Checkpoint(self.descriptor.origin, size, root).text()
        count = self.descriptor.k if signers is None else signers
        lines = [key.cosignature(text, COSIGNED_S + size) for key in self.validators[:count]]
        return Note(text, (self.log_key.note_signature(text), *lines)).encode()


def make_set(seed: int = 0, n: int = 4, f: int = 1, **parameters: Any) -> MadeSet:
    """A set whose keys follow from the seed; `parameters` are the descriptor's."""

    def key(name: str) -> SigningKey:
        return SigningKey(name, sha256(f"{seed} {name}".encode()).digest())

    validators = tuple(key(f"v{number:02d}") for number in range(1, n + 1))
    log_key = key(f"restante.test/{sha256(str(seed).encode()).hexdigest()[:16]}")
    settings = {"genesis_s": GENESIS_S, **parameters}
    descriptor = Descriptor(
        origin=log_key.name, f=f, validators=tuple(each.vkey() for each in validators), **settings
    )
    return MadeSet(validators, log_key, descriptor)


def envelope(topic: bytes, sent_s: int, data: bytes = b"", *, ttl_s: int = 50) -> bytes:
    """An envelope without work; another `data` makes another envelope."""
    return whisper.assemble(sent_s + ttl_s, ttl_s, topic, data, 0)


def member(set_id: bytes, window: int, raw: bytes) -> Member:
    """An envelope as a segment's member."""
    parsed = whisper.parse(raw)
    key = topic_key(set_id, parsed.topic)
    return Member(key, window, parsed.sent_s, sha256(raw).digest(), raw)


class MadeArchive:
    """An archive's folder that grows window by window."""

    def __init__(self, root: Path, made: MadeSet) -> None:
        self.root = root
        self.made = made
        self.size = 0
        self.tree_root = tree.EMPTY_ROOT
        self.note = b""
        self.envelopes: list[tuple[int, bytes]] = []
        """(window, raw) of all that was appended."""
        self._entries: list[bytes] = []
        self.write("descriptor", made.descriptor.encode())
        self.write("policy", made.policy().encode())

    def write(self, path: str, data: bytes) -> None:
        """Put a file, whatever stands there."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def read(self, path: str) -> bytes:
        """The file at a path."""
        return (self.root / path).read_bytes()

    def segment(self, window: int, raws: Iterable[bytes]) -> Segment:
        """The segment of these envelopes, not yet appended."""
        d = self.made.descriptor
        members = [member(d.set_id, window, raw) for raw in raws]
        return build(d.set_id, members, window, bucket_bits=d.bucket_bits)

    def append(self, raws: Sequence[bytes], segment: Segment | None = None) -> None:
        """Add the next window with these envelopes; the checkpoint stays behind until `cosign`.

        With `segment`, that one is committed, whatever it says.
        """
        window = self.size
        segment = segment or self.segment(window, raws)
        for part, data in enumerate(segment.cars()):
            self.write(segment_path(0, window, part), data)
        self.envelopes += [(window, raw) for raw in raws]
        self._append_entry(segment.entry().encode())

    def _append_entry(self, entry: bytes) -> None:
        self._entries.append(entry)
        files, self.tree_root = tiles.grow(self.size, [tree.leaf_hash(entry)], self.read)
        self.size += 1
        for path, data in files.items():
            self.write(path, data)
        for n, width in tiles.bundles_for_growth(self.size - 1, self.size):
            bundle = self._entries[n * tiles.WIDTH : n * tiles.WIDTH + width]
            self.write(tiles.entries_path(n, width), tiles.encode_bundle(bundle))

    def cosign(self, signers: int | None = None) -> bytes:
        """Publish a checkpoint of the present size; its note."""
        self.note = self.made.checkpoint(self.size, self.tree_root, signers)
        self.write("checkpoint", self.note)
        return self.note

    def watch(
        self, name: str, unwatched: Sequence[tuple[int, int]] = (), *, floor: int = 0
    ) -> None:
        """Publish a validator's watch note of the present size."""
        key = next(each for each in self.made.validators if each.name == name)
        note = WatchNote(self.made.set_id, floor, self.size, tuple(unwatched))
        self.write(f"watch/{name}", note.sign(key))


def make_archive(
    root: Path,
    envelopes: Mapping[int, Sequence[bytes]],
    windows: int,
    *,
    made: MadeSet | None = None,
) -> MadeArchive:
    """An archive of `windows` windows with these envelopes by window, cosigned and watched."""
    archive = MadeArchive(root, made or make_set())
    for window in range(windows):
        archive.append(envelopes.get(window, ()))
    archive.cosign()
    for key in archive.made.validators:
        archive.watch(key.name)
    return archive
