"""Gathers the validators' cosignatures, remembers them for each other's starts, and publishes the
checkpoint once it satisfies k of n.

A checkpoint with fewer would make every client refuse the newest tree; the one before it stays in
its place until then.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from restante import limits
from restante.errors import Unavailable, VerificationFailed
from restante.formats.checkpoint import Checkpoint
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import CosignatureReport, ReportItem
from restante.formats.keys import SigningKey
from restante.formats.note import Note, Signature
from restante.node.durable.state import State
from restante.node.wire.peers import Peers

log = logging.getLogger("restante.cosignatures")


class Cosignatures:
    """The newest cosignature of every validator that was seen here."""

    def __init__(
        self, d: Descriptor, key: SigningKey, origin: SigningKey, state: State, peers: Peers
    ) -> None:
        self._d = d
        self._own_id = key.vkey().key_id
        self._name = key.name
        self._origin = origin
        self._state = state
        self._peers = peers
        self._newest: dict[bytes, ReportItem] = {
            item.key_id: ReportItem(*item) for item in state.lock.peer_cosignatures()
        }
        self._wake = asyncio.Event()
        self._published: tuple[int, int] = (0, 0)  # size, signatures
        self.split: list[str] = []
        """Validators that cosigned another tree of a size that we cosigned."""

    @property
    def published_size(self) -> int:
        """The size of the checkpoint that was published since the start; 0 before."""
        return self._published[0]

    def grown(self) -> None:
        """This validator cosigned a new tree."""
        self._publish()
        self._wake.set()

    def report(self) -> CosignatureReport:
        """The newest cosignature of every key, this validator's own among them."""
        items = dict(self._newest)
        own = self._own()
        if own is not None:
            items[self._own_id] = own
        return CosignatureReport(tuple(items[key_id] for key_id in sorted(items)))

    def take(self, report: CosignatureReport) -> None:
        """Keep what is newer than what is known, once its signature is verified."""
        news = []
        for item in report.items:
            known = self._newest.get(item.key_id)
            key = self._d.validator_by_id(item.key_id)
            if key is None or item.key_id == self._own_id:
                continue
            if known is not None and item.size <= known.size:
                continue
            try:
                item.verify(key, self._d.origin)
            except VerificationFailed:
                continue
            self._newest[item.key_id] = item
            news.append(item)
            self._compare(key.name, item)
        if news:
            with self._state.lock.transaction("peer-cosignature"):
                for item in news:
                    self._state.lock.put_peer_cosignature(*item)
            self._publish()

    async def run(self) -> None:
        """After each own cosignature read the peers', sooner while k are not together."""
        self._publish()
        while True:
            pause_s = limits.COSIGNATURE_FIRST_S
            for _ in range(limits.COSIGNATURE_ROUNDS):
                behind = self._behind()
                if not behind:
                    break
                await asyncio.sleep(pause_s)
                await self._read(self._behind())
                pause_s = min(2 * pause_s, limits.RETRY_MAX_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.COSIGNATURE_IDLE_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _read(self, names: Iterable[str]) -> None:
        for report in await asyncio.gather(*(self._ask(name) for name in names)):
            if report is not None:
                self.take(report)

    async def _ask(self, name: str) -> CosignatureReport | None:
        try:
            return await self._peers.cosignatures(name)
        except Unavailable:
            return None

    def _behind(self) -> list[str]:
        """Peers whose cosignature of our newest tree is not here yet."""
        own = self._own()
        if own is None:
            return []
        names = []
        for name in self._peers.names:
            key = self._d.validator(name)
            item = None if key is None else self._newest.get(key.key_id)
            if item is None or item.size < own.size:
                names.append(name)
        return names

    def _own(self) -> ReportItem | None:
        found = self._state.own_cosignature()
        if found is None:
            return None
        tree, value = found
        return ReportItem(self._own_id, tree.size, tree.root, value)

    def _publish(self) -> None:
        own = self._own()
        if own is None:
            return
        together = [own] + [
            item for item in self._newest.values() if (item.size, item.root) == (own.size, own.root)
        ]
        if len(together) < self._d.k or (own.size, len(together)) <= self._published:
            return
        # Between k and n lines nothing waits for the rest: only all of them are worth a new file.
        if own.size == self._published[0] and len(together) < self._d.n:
            return
        self._published = (own.size, len(together))
        self._state.publish_checkpoint(self._note(own, together))

    def _note(self, own: ReportItem, together: list[ReportItem]) -> bytes:
        text = Checkpoint(self._d.origin, own.size, own.root).text()
        values = {item.key_id: item.value for item in together}
        lines = tuple(
            Signature(key.name, key.key_id, values[key.key_id])
            for key in self._d.validators
            if key.key_id in values
        )
        return Note(text, (self._origin.note_signature(text), *lines)).encode()

    def _compare(self, name: str, item: ReportItem) -> None:
        """Notice a peer that cosigned another tree of a size that we cosigned: evidence (a)."""
        known = self._state.lock.cosignature(item.size)
        if known is not None and known.root != item.root and name not in self.split:
            self.split.append(name)
            log.error(
                "split view: %s cosigned %s at size %d, this validator %s",
                name,
                item.root.hex(),
                item.size,
                known.root.hex(),
            )
