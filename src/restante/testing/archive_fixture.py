"""A small archive, really signed, from a list of envelopes: what client and gateway are tested on.

Everything follows from the arguments: same seed, same keys, same bytes. The envelopes carry no
proof of work, which a client leaves to the validators. Roll-ups are made of the descriptor's
levels, or whatever `MadeArchive.forged` says in their place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from restante.formats import index_cut, tiles, tree, whisper
from restante.formats.checkpoint import Checkpoint
from restante.formats.contact import WatchNote
from restante.formats.descriptor import Descriptor
from restante.formats.index_cut import Index
from restante.formats.keys import SigningKey
from restante.formats.layout import layout_of
from restante.formats.level import Span, children, due_at, is_index, span_of
from restante.formats.note import ED25519, Note
from restante.formats.page import Member, PageRow, topic_key
from restante.formats.paths import segment_path
from restante.formats.policy import Policy
from restante.formats.root import SegmentRoot, parse_directory_block
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


class IndexedChild:
    """A built segment, as an index is made of it."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.cid = segment.root_cid

    @property
    def root(self) -> SegmentRoot:
        return self._segment.root

    @property
    def pages_start(self) -> int:
        root_bytes = len(self._segment.blocks[0][1])
        return layout_of(self.root, self.cid, root_bytes).pages_start

    def rows(self) -> Iterable[PageRow]:
        return self._segment.rows

    def topic_keys(self) -> Iterable[int]:
        if self.root.directory is not None:
            return self.root.directory
        held = dict(self._segment.blocks)
        named = self.root.directory_blocks or ()
        return [key for each in named for key in parse_directory_block(held[each.cid])]


RollUp = Segment | Index | None


class MadeArchive:
    """An archive's folder that grows window by window."""

    def __init__(self, root: Path, made: MadeSet) -> None:
        self.root = root
        self.made = made
        self.size = 0
        self._root = tree.EMPTY_ROOT
        self._written = 0
        self.note = b""
        self.envelopes: list[tuple[int, bytes]] = []
        """(window, raw) of all that was appended."""
        self.rollups: dict[Span, RollUp] = {}
        """Every roll-up that came due; None for one that is none."""
        self.forged: dict[Span, Callable[[RollUp], RollUp]] = {}
        """What the set signs in place of the right roll-up of a span."""
        self._batches: dict[int, Segment] = {}
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
        self._batches[window] = segment
        self._write_cars(0, window, segment.cars())
        self.envelopes += [(window, raw) for raw in raws]
        rollups = tuple(self._due(span) for span in due_at(self.made.descriptor, window))
        self._append_entry(segment.entry(rollups).encode())

    def _write_cars(self, level: int, number: int, parts: Iterable[bytes]) -> None:
        for part, data in enumerate(parts):
            self.write(segment_path(level, number, part), data)

    def _due(self, span: Span) -> bytes | None:
        """The CID of a span's roll-up, which is made, or forged, and written."""
        made = self.rollup(span)
        if span in self.forged:
            made = self.forged[span](made)
        self.rollups[span] = made
        if made is None:
            return None
        parts = [made.car()] if isinstance(made, Index) else made.cars()
        self._write_cars(span.level, span.number, parts)
        return made.root_cid

    def rollup(self, span: Span) -> RollUp:
        """The right roll-up of a span whose windows were appended."""
        d = self.made.descriptor
        if is_index(d, span.level):
            below = [self._below(child) for child in children(d, span)]
            held = [None if each is None else IndexedChild(each) for each in below]
            return index_cut.build(d.set_id, span, held)
        windows = range(span.first, span.stop)
        if sum(self._batches[w].bytes_ for w in windows) > d.rollup_limit_bytes:
            return None
        members = [member(d.set_id, w, raw) for w, raw in self.envelopes if w in windows]
        return build(
            d.set_id, members, span.first, span.windows, span.level, bucket_bits=d.bucket_bits
        )

    def _below(self, span: Span) -> Segment | None:
        made = self.rollups[span] if span.level else self._batches[span.first]
        assert not isinstance(made, Index)
        return made

    def release(self, spans: Iterable[Span]) -> None:
        """Remove segments, as a publisher does with the children of a roll-up."""
        for span in spans:
            for file in self.root.glob(f"{segment_path(span.level, span.number)[:-4]}*.car"):
                file.unlink()

    def retain(self, floor: int) -> None:
        """Remove what lies wholly below a floor: entry bundles, and segments of every level."""
        for n in range(floor // tiles.WIDTH):
            (self.root / tiles.entries_path(n)).unlink(missing_ok=True)
        d = self.made.descriptor
        for level in range(len(d.levels) + 1):
            below = (span_of(d, level, w) for w in range(floor))
            self.release(dict.fromkeys(span for span in below if span.stop <= floor))

    def _append_entry(self, entry: bytes) -> None:
        self._entries.append(entry)
        self.size += 1

    @property
    def tree_root(self) -> bytes:
        """The root of the present size, whose tiles and bundles are written."""
        if self._written < self.size:
            new = [tree.leaf_hash(entry) for entry in self._entries[self._written :]]
            files, self._root = tiles.grow(self._written, new, self.read)
            for path, data in files.items():
                self.write(path, data)
            for n, width in tiles.bundles_for_growth(self._written, self.size):
                bundle = self._entries[n * tiles.WIDTH : n * tiles.WIDTH + width]
                self.write(tiles.entries_path(n, width), tiles.encode_bundle(bundle))
            self._written = self.size
        return self._root

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
