"""Follows a set's log from outside: checkpoints that k of n signed, and what they add.

New entries are believed because their hashes, appended to the tree that is known, give the
checkpoint's root. Where it starts, the tiles of the right edge give the tree instead.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence

from restante import limits
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats import entry as entries
from restante.formats import tiles, tree
from restante.formats.descriptor import Descriptor
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.node.waiting import retries
from restante.node.wire.peers import Peers
from restante.rules.base import Base

log = logging.getLogger("restante.follower")

_TILE_BYTES = tiles.WIDTH * tree.HASH_BYTES
_BUNDLE_BYTES = tiles.WIDTH * (2 + limits.ENTRY_MAX_BYTES)


class Follower:
    """One outsider's view of the log."""

    def __init__(
        self,
        d: Descriptor,
        policy: Policy,
        peers: Peers,
        known_batch: Callable[[bytes], Sequence[bytes] | None],
    ) -> None:
        """`known_batch`: the ids of a batch by its CID, where they are known already."""
        self._d = d
        self._policy = policy
        self._peers = peers
        self._known_batch = known_batch
        self._turn = itertools.cycle(peers.names)

    async def start(self) -> Base:
        """The base at the newest checkpoint, or the empty one of a log that has none yet."""
        async for _ in retries():
            name = next(self._turn)
            try:
                checkpoint = await self._checkpoint(name)
                return await self._base_at(name, checkpoint)
            except Unavailable as error:
                if error.code == "not-found" and await self._none_has_any():
                    return Base(self._d)
            except Invalid as error:
                log.warning("%s: %s", name, error)
        raise AssertionError("retries never end")

    async def advance(self, base: Base) -> bool:
        """Ask the next validator; bring `base` to its checkpoint if that is newer.

        Raises Unavailable, Invalid: ask again, and the one after it will answer.
        """
        name = next(self._turn)
        try:
            checkpoint = await self._checkpoint(name)
        except Unavailable as error:
            if error.code == "not-found":
                return False
            raise
        if checkpoint.size <= base.size:
            return False
        new = await self._entries(name, base.size, checkpoint.size)
        hashes = [tree.leaf_hash(entry) for entry in new]
        if base.frontier.extend(hashes).root() != checkpoint.root:
            raise VerificationFailed(
                f"{name}: its entries do not lead to checkpoint {checkpoint.size}", code="entry"
            )
        for entry in new:
            base.advance(entry, await self._ids(entry, name))
        return True

    async def _none_has_any(self) -> bool:
        """Whether n − f validators say that there is no checkpoint: the log has just begun."""
        without = 0
        for name in self._peers.names:
            try:
                await self._peers.file(name, "checkpoint", limits.NOTE_MAX_BYTES)
            except Unavailable as error:
                without += error.code == "not-found"
        return without >= self._d.k

    async def _checkpoint(self, name: str) -> VerifiedCheckpoint:
        note = await self._peers.file(name, "checkpoint", limits.NOTE_MAX_BYTES)
        return self._policy.verify_checkpoint(note)

    async def _entries(self, name: str, old: int, new: int) -> list[bytes]:
        """Entries [old, new), unverified. Raises Unavailable, InvalidEncoding."""
        found: list[bytes] = []
        for n, width in tiles.bundles_for_growth(old, new):
            data = await self._peers.file(name, tiles.entries_path(n, width), _BUNDLE_BYTES)
            bundle = tiles.decode_bundle(data, width)
            found += bundle[max(0, old - n * tiles.WIDTH) :]
        return found

    async def _ids(self, entry: bytes, name: str) -> Sequence[bytes]:
        """The ids of a batch whose entry is verified: known here, or read from a validator."""
        parsed = entries.parse(entry)
        if parsed.count == 0:
            return ()
        known = self._known_batch(parsed.segment)
        if known is not None:
            return known
        order = itertools.cycle([name, *(n for n in self._peers.names if n != name)])
        async for _ in retries():
            try:
                contents = await self._peers.segment(next(order), parsed.window, parsed.segment)
            except Unavailable as error:
                log.warning("segment of window %d: %s", parsed.window, error)
                continue
            return [member.id for member in contents.members]
        raise AssertionError("retries never end")

    async def _base_at(self, name: str, checkpoint: VerifiedCheckpoint) -> Base:
        """A base from the tiles under a checkpoint. Raises Unavailable, VerificationFailed."""
        size = checkpoint.size
        first = max(0, size - self._d.recent_windows)
        wanted = {tile.path: _TILE_BYTES for tile in tiles.tiles_to_verify(first, size, size)}
        for n in range(first // tiles.WIDTH, (size - 1) // tiles.WIDTH + 1):
            width = tiles.tile_of(0, n, size).width
            wanted[tiles.entries_path(n, width)] = _BUNDLE_BYTES
        bodies = await asyncio.gather(
            *(self._peers.file(name, path, most) for path, most in wanted.items())
        )
        files = dict(zip(wanted, bodies, strict=True))

        def get(path: str) -> bytes:
            if path not in files:
                raise Unavailable(f"{name} gave no {path}", code="not-found")
            return files[path]

        reader = tiles.LogReader(get, size, checkpoint.root)
        base = Base(self._d, tree.frontier_at(size, reader.tiles.hash_at))
        for index in range(first, size):
            ids = await self._ids(reader.entry(index), name)
            base.remember(self._d.first_window + index, ids)
        return base
