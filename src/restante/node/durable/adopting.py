"""A validator that was away longer than its peers keep history takes over what k cosigned (R6).

It happens at a start, before there is a machine that could sign. First the lock names the tree,
durably; then the archive grows to it, from proved hashes, with entries and certificates from the
floor on. Whatever ends the process between, the next start sees that the archive is behind, and
adopts again, by then perhaps a newer tree. Batches and roll-ups come back like lost ones; where the
peers give those up too before they are here, a newer tree is taken in its place.
"""

import logging
import random
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from time import monotonic

from restante import limits
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats import entry as entries
from restante.formats import tiles
from restante.formats.descriptor import Descriptor
from restante.formats.level import body_levels, span_of
from restante.formats.message import Certificate
from restante.formats.paths import segment_path
from restante.formats.policy import VerifiedCheckpoint
from restante.node.durable.elsewhere import Elsewhere, Holder, PeerHolder
from restante.node.durable.refill import Refill
from restante.node.durable.state import State
from restante.node.waiting import retries
from restante.ports import Clock
from restante.rules import adopt as rule
from restante.rules.adopt import Adoption
from restante.rules.cosign import Signed

log = logging.getLogger("restante")

_CERTIFICATES_BYTES = tiles.WIDTH * (2 + limits.MESSAGE_OVERHEAD_BYTES)


class Adopting:
    """Finds out whether to adopt, and does it."""

    def __init__(self, d: Descriptor, state: State, elsewhere: Elsewhere, clock: Clock) -> None:
        self._d = d
        self._state = state
        self._elsewhere = elsewhere
        self._clock = clock

    async def run(self, lost: bool = False) -> Adoption | None:
        """Return once the log can be followed from where it is: what was adopted, or None. `lost`:
        what counts for *new* was not to be had, so that what was just adopted is of no use.

        An adoption that was begun is carried through for as long as it takes. Whether one is
        needed is asked a few times only: peers that all begin at the same time would wait for each
        other. Raises StateError where k cosigned what contradicts this validator's own state.
        """
        begun = self._state.adopting
        if not begun and self._behind() < self._d.recent_windows:
            return None
        log.info(
            "behind by %d windows: peers are asked whether they still keep window %d, before this "
            "validator listens",
            self._behind(),
            self._next,
        )
        async for attempt in retries():
            if not self._elsewhere.peers or (attempt == limits.ADOPT_ASKS and not begun):
                return None
            found = await self._elsewhere.note(limits.ADOPT_ANSWER_S)
            if found is not None and found[0].size <= self._state.lock.size() and not begun:
                return None
            if found is None or found[0].size < self._state.lock.size():
                self._wait("no peer shows a newer tree that k cosigned")
                continue
            if await self._elsewhere.in_thread(partial(self._attempt, *found, lost)):
                return self._finish(found[1])
            begun = self._state.adopting
        raise AssertionError("retries never end")

    def _behind(self) -> int:
        """How many windows are over and not in the log."""
        return self._d.last_due(self._clock.now_ms()) - self._next

    @property
    def _next(self) -> int:
        return self._d.first_window + self._state.lock.size()

    def _wait(self, why: str) -> None:
        log.info("behind by %d windows: %s", self._behind(), why)

    def _finish(self, note: bytes) -> Adoption | None:
        adopted = self._state.lock.adopted()
        if adopted is None or adopted.note != note:
            return None
        self._state.bring_up()
        self._state.publish_checkpoint(note)
        log.warning("%s", described(adopted))
        return adopted

    # --- in a thread

    def _attempt(self, checkpoint: VerifiedCheckpoint, note: bytes, lost: bool) -> bool:
        """Whether it is settled: somebody has the next window, or the tree was adopted."""
        d, unfinished = self._d, self._unfinished(lost)
        lost_from = self._next if unfinished is None else unfinished.lost_from
        floors: dict[str, int] = {}
        claiming: list[PeerHolder] = []
        for holder in self._elsewhere.peers:
            try:
                floor = self._floor(holder, lost_from, checkpoint.size)
            except Unavailable as error:
                log.info("%s", error)
                continue
            if unfinished is None and floor <= lost_from:
                claiming.append(holder)
            else:
                floors[holder.name] = floor
        if claiming and not rule.are_enough(d, len(floors)):
            # Proving the claim would decide nothing yet: others may only be late to answer.
            self._wait(f"{claiming[0].name} says that it has window {lost_from}; too few answer")
            return False
        agreed = rule.floor_for(d, lost_from, checkpoint.size, floors, lost=unfinished is None)
        for holder in claiming:
            missing = self._lacks(holder, checkpoint, lost_from, agreed)
            if missing is None:
                return True
            log.warning("%s claims to have window %d, and has it not", holder.name, missing)
        if agreed is None:
            self._wait(f"{len(floors)} peers do not keep window {lost_from}: not yet to adopt")
            return False
        return any(
            self._take(holder, checkpoint, note, agreed, lost_from)
            for holder in self._elsewhere.peers
        )

    def _unfinished(self, lost: bool) -> Adoption | None:
        """What was adopted and never worked with: a newer tree may stand in its place."""
        state, adopted = self._state, self._state.lock.adopted()
        if adopted is None or adopted.size < state.lock.size():
            return None
        return adopted if state.adopting or lost else None

    def _floor(self, holder: Holder, window: int, size: int) -> int:
        """The lowest window from `window` on that a holder says it has, entry and batch, alone or
        in a roll-up. Raises Unavailable where it does not answer."""

        def has(*paths: str) -> bool:
            for path in paths:
                try:
                    self._elsewhere.ask(holder, path, 0, 1, limits.ADOPT_ANSWER_S)
                    return True
                except Unavailable as error:
                    if error.code != "not-found":
                        raise
            return False

        def has_batch(of: int) -> bool:
            spans = [span_of(d, level, of) for level in body_levels(d)]
            return has(*(segment_path(each.level, each.number) for each in spans))

        d, first = self._d, self._d.first_window
        # The newest bundle is not asked for: it may be a partial one, and is kept.
        bundles = range((window - first) // tiles.WIDTH, max(0, size - 1) // tiles.WIDTH)
        n = bundles.start + bisect_left(bundles, True, key=lambda n: has(tiles.entries_path(n)))
        start = max(window, first + n * tiles.WIDTH)
        windows = range(start, max(start, min(first + (n + 1) * tiles.WIDTH, first + size)))
        return start + bisect_left(windows, True, key=has_batch)

    def _lacks(
        self, holder: Holder, checkpoint: VerifiedCheckpoint, window: int, agreed: int | None
    ) -> int | None:
        """A window that a holder, which claims all from `window` on, has not in truth; None if it
        seems to have all. Below the floor that the others agreed on nobody else has any: one that
        it cannot know beforehand is tried, too, or a peer that kept the first alone would hold us
        back."""
        tried = [window]
        if agreed is not None and agreed > window + 1:
            tried.append(random.randrange(window + 1, agreed))  # noqa: S311
        return next((each for each in tried if not self._has(holder, each, checkpoint)), None)

    def _has(self, holder: Holder, window: int, checkpoint: VerifiedCheckpoint) -> bool:
        """Whether a holder has a window's batch in truth, as k signed it."""
        try:
            entry = self._log(holder, checkpoint).entry(window - self._d.first_window)
            cid = entries.parse(entry).segment
        except (Unavailable, Invalid, ValueError):
            return False
        return self._elsewhere.has_batch(holder, window, cid)

    def _log(self, holder: Holder, checkpoint: VerifiedCheckpoint) -> tiles.LogReader:
        return tiles.LogReader(self._reading(holder), checkpoint.size, checkpoint.root)

    def _reading(self, holder: Holder) -> Callable[[str], bytes]:
        return lambda path: self._elsewhere.ask(holder, path, 0, _CERTIFICATES_BYTES)

    def _take(
        self,
        holder: Holder,
        checkpoint: VerifiedCheckpoint,
        note: bytes,
        floor: int,
        lost_from: int,
    ) -> bool:
        """Adopt the tree as a holder's hashes prove it; whether all of it was to be had there."""
        state = self._state
        newest = state.lock.newest_cosignature()
        signed = None if newest is None else Signed(newest.size, newest.root)
        held = Signed(state.archive.size, state.archive.root())
        try:
            reader = self._log(holder, checkpoint)
            adoption = rule.adopt(checkpoint, note, reader, held, signed, floor, lost_from)
            if state.lock.adopted() != adoption:
                state.lock.adopt(adoption)
            state.archive.raise_floor(floor)
            told_s = monotonic() - limits.ADOPT_TOLD_EVERY_S
            while state.archive.size < checkpoint.size:
                if monotonic() >= told_s + limits.ADOPT_TOLD_EVERY_S:
                    told_s = monotonic()
                    log.info(
                        "adopting from %s: %d of %d windows of the log are here",
                        holder.name,
                        state.archive.size,
                        checkpoint.size,
                    )
                self._grow(holder, reader)
        except (Unavailable, Invalid) as error:
            log.warning("%s: %s", holder.name, error)
            return False
        return True

    def _grow(self, holder: Holder, reader: tiles.LogReader) -> None:
        """Grow the archive by what is left of a bundle. Raises Unavailable, Invalid."""
        archive, d = self._state.archive, self._d
        index = archive.size
        n = index // tiles.WIDTH
        leaves = reader.tiles.leaves(n)
        start = index - n * tiles.WIDTH
        if d.first_window + n * tiles.WIDTH + len(leaves) <= archive.floor:
            archive.append_leaves(leaves[start:])
            return
        kept = reader.bundle(n)
        for each in kept[start:]:
            entries.check_rollups(entries.parse(each), d)
        archive.put_certificates(index, self._certificates(holder, n, kept)[start:])
        archive.append_entries(index, kept[start:])

    def _certificates(self, holder: Holder, n: int, kept: list[bytes]) -> list[bytes]:
        """The certificates of a bundle's entries, each of the batch that was decided."""
        path, full = tiles.certificate_path(n, len(kept)), tiles.certificate_path(n)
        data, whole = tiles.read_cut(self._reading(holder), path, full)
        found = tiles.decode_bundle(data, tiles.WIDTH if whole else len(kept))[: len(kept)]
        for raw, leaf in zip(found, kept, strict=True):
            certificate = Certificate.parse(raw, self._d.set_id)
            certificate.verify(self._d)
            entry = entries.parse(leaf)
            if (certificate.window, certificate.cid) != (entry.window, entry.segment):
                raise VerificationFailed("a certificate of another batch", code="certificate")
        return found


def described(adopted: Adoption) -> str:
    """An adoption, for people."""
    return (
        f"no peer keeps what this validator missed: it took over the tree of size {adopted.size}, "
        f"which k validators cosigned. Windows {adopted.lost_from} to {adopted.floor - 1} are lost "
        f"here, and what it kept before them goes; its archive begins at window {adopted.floor}"
    )


async def caught_up(adopting: Adopting, refill: Refill) -> Adoption | None:
    """Return once there is all that a machine is built from: what was adopted for it, or None.

    Raises StateError as `Adopting.run` and `Refill.recent` do.
    """
    adopted = await adopting.run()
    while not await refill.recent():
        adopted = await adopting.run(lost=True) or adopted
    return adopted
