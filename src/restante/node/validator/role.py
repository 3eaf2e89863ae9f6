"""The validator role: a node, what is around it, and the routes that show it."""

import asyncio
import logging
import threading
from typing import Any

from starlette.routing import BaseRoute

from restante import limits
from restante.formats import cid as cids
from restante.formats.contact import ContactNote
from restante.formats.keys import SigningKey
from restante.formats.level import DAY_S
from restante.formats.policy import Policy
from restante.node.durable.adopting import described as adopted_in_words
from restante.node.durable.elsewhere import Batch, Elsewhere
from restante.node.durable.refill import Refill, described, make_refill
from restante.node.durable.state import State
from restante.node.validator.cosignatures import Cosignatures
from restante.node.validator.driver import ValidatorNode
from restante.node.validator.watch import Watch
from restante.node.waiting import Stopped, in_thread, retries
from restante.node.wire.reception import Reception
from restante.node.wire.routes_archive import ArchiveReader, archive_routes
from restante.node.wire.routes_network import HandedIn, network_part, network_reasons
from restante.node.wire.routes_node import NodeRoutes
from restante.ports import Network, Store
from restante.rules import actions as act

log = logging.getLogger("restante")


class Validating:
    """A validator at work, with all its loops."""

    def __init__(
        self,
        node: ValidatorNode,
        key: SigningKey,
        origin: SigningKey,
        policy: Policy,
        state: State,
        network: Network | None,
        stores: list[Store],
        refill: Refill | None = None,
        *,
        retention_days: int,
        children_kept_s: int = DAY_S,
    ) -> None:
        """`retention_days` 0 keeps everything; `children_kept_s`: how long the segments that a
        roll-up was made of stay after the window whose entry names it."""
        self._retained = retention_days * DAY_S // node.d.window_s
        self._children_kept = -(-children_kept_s // node.d.window_s)
        self.node = node
        self.state = state
        self._key = key
        self._policy = policy
        self._network = network
        self._stores = stores
        self._elsewhere = Elsewhere(node.d, policy, state, node.peers, stores, "away")
        self._refill = refill or make_refill(node.d, policy, state, node.peers, stores)
        self.cosignatures = Cosignatures(node.d, key, origin, state, node.peers)
        self.reception = Reception(node)
        self.watch = Watch(node.d, key, state, node.clock, self._connected)
        self._release_every = min([limits.RETENTION_EVERY, *(n for n, _ in node.d.levels)])
        node.committed = self._committed
        node.cosigned = self._cosigned
        node.fetch = self._fetch
        node.rolling.mend = self._refill.put_back
        self._grown = asyncio.Event()
        self._stop = threading.Event()

    def _connected(self) -> bool:
        if self.node.pool_full:
            return False
        # Without a network what is posted here is all there is, and none of it is missed.
        return self._network is None or self._network.connected

    def announce(self, url: str) -> None:
        """Publish who this is: descriptor, policy, contact."""
        d, state = self.node.d, self.state
        state.publish_named("descriptor", d.encode())
        state.publish_named("policy", self._policy.encode())
        sequence = max(0, self.node.clock.now_ms() // 1000)
        contact = ContactNote(d.set_id, sequence, self._key.name, (("url", url),))
        state.publish_named(f"contact/{self._key.name}", contact.sign(self._key))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.node.run(self._network))
            tasks.create_task(self.reception.run())
            tasks.create_task(self.cosignatures.run())
            tasks.create_task(self.watch.run())
            tasks.create_task(self._tidy())
            tasks.create_task(self._pass_over())
            for store in self._stores:
                tasks.create_task(self.state.outbox.drain(store))

    async def _tidy(self) -> None:
        """Put back what the archive has lost and must still have, index what is not indexed; from
        then on give up what is past its time."""
        archive = self.state.archive
        await in_thread(lambda: archive.index_missing(go_on=self._go_on), self._stop)
        await self._refill.run(self._release)
        while True:
            await self._grown.wait()
            self._grown.clear()
            await self._release()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    async def _release(self) -> None:
        floor = self.state.archive.stop - self._retained if self._retained else 0
        await self.state.release(floor, self._children_kept)

    async def _fetch(self, window: int, cid: bytes) -> Batch:
        return await self._elsewhere.batch(window, cid, peers_first=True)

    async def _pass_over(self) -> None:
        """Whoever was away learns which tree k have cosigned meanwhile, so as to pass over the
        smaller ones (R6)."""
        node = self.node
        async for attempt in retries():
            behind = node.d.last_due(node.clock.now_ms()) - node.machine.base.window
            if not node.peers.names or behind < limits.AWAY_WINDOWS or attempt == limits.AWAY_ASKS:
                return
            checkpoint = await self._elsewhere.checkpoint()
            if checkpoint is not None:
                size, root = checkpoint.size, checkpoint.root
                log.info("away for %d windows; k cosigned the tree of size %d", behind, size)
                node.carry(node.machine.cosigned_by_k(size, root, node.clock.now_ms()))
                return

    def hand_in(self, raw: bytes) -> HandedIn:
        """Pool an envelope durably, and send it on to the network. Raises as the node."""
        return HandedIn.of(self.node.hand_in(raw), self._network, raw)

    def routes(self) -> list[BaseRoute]:
        """Everything that this validator answers."""
        routes = NodeRoutes(self.node, self.reception, self.cosignatures).routes()
        return routes + archive_routes(ArchiveReader(self.state.archive), self.node.d.set_id)

    # --- events -----------------------------------------------------------------------------

    def _committed(self, commit: act.Commit) -> None:
        segment = commit.segment
        log.info(
            "window %d: %d envelopes, %d bytes, %s",
            commit.window,
            segment.count,
            segment.bytes_,
            cids.to_text(segment.root_cid),
            extra={
                "fields": {
                    "window": commit.window,
                    "count": segment.count,
                    "bytes": segment.bytes_,
                    "cid": cids.to_text(segment.root_cid),
                }
            },
        )

        if commit.window % limits.RETENTION_EVERY == 0:
            # The newest freeze stays: it says how far windows were frozen.
            self.state.lock.prune(commit.window)
        if commit.window % self._release_every == 0:
            self._grown.set()
        behind = self.node.d.last_due(self.node.clock.now_ms()) - commit.window
        far = self.node.d.n > 1 and behind > limits.AWAY_WINDOWS
        if far and commit.window % limits.COMMIT_GROUP_WINDOWS == 0:
            log.info("caught up to window %d, %d to go", commit.window, behind)

    def _cosigned(self, cosign: act.Cosign) -> None:
        self.cosignatures.grown()
        self.watch.publish(cosign.size)

    # --- status -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What an operator asks first; `reasons` is empty when all is well."""
        node, machine = self.node, self.node.machine
        now_ms = node.clock.now_ms()
        lag_ms = max(0, now_ms - node.d.end_ms(machine.base.window))
        newest = machine.cosigner.newest
        median = node.peers.offsets.median()
        return {
            "name": node.name,
            "window": node.d.window_of(now_ms),
            "decided": machine.base.window - 1,
            "frozen": machine.last_frozen,
            "lag_ms": lag_ms,
            "behind_ms": node.behind_ms,
            "size": machine.base.size,
            "root": machine.base.root.hex(),
            "cosigned": 0 if newest is None else newest.size,
            "adopted": self._adopted(),
            "published": self.cosignatures.published_size,
            "signing": machine.cosigner.ready and machine.halted is None,
            "pool": {
                "envelopes": len(machine.index),
                "bytes": self.state.pool.size_bytes,
                "floor": machine.index.floor,
                "size": machine.index.size,
            },
            "reception": dict(machine.intake.outcomes),
            "outsiders_waiting": self.reception.waiting,
            "engine": {"slot": machine.engine_slot, "ok": node.engine_error is None},
            "stores": {store.name: self._store(store) for store in self._stores},
            "connected": self._connected(),
            **network_part(self._network),
            "clock": {
                "trusted": machine.clock_trusted,
                "median_offset_ms": None
                if median is None
                else [median.least_ms, median.greatest_ms],
            },
            "reasons": self._reasons(lag_ms),
        }

    def _adopted(self) -> dict[str, Any] | None:
        """What was taken over from k after too long an absence (R6), and what that cost."""
        adopted = self.state.lock.adopted()
        if adopted is None:
            return None
        return {
            "size": adopted.size,
            "floor": adopted.floor,
            "lost": [adopted.lost_from, adopted.floor],
            "message": adopted_in_words(adopted),
        }

    def _late_rollups(self) -> list[tuple[str, str]]:
        waiting, trouble = self.node.machine.waits_for_rollups, self.node.rolling.trouble
        if trouble is not None:
            (span, error) = trouble
            windows = f"{span.first} to {span.stop - 1}"
            return [("rollup-late", f"the roll-up of windows {windows} cannot be made: {error}")]
        if waiting:
            names = " and ".join(f"{span.first} to {span.stop - 1}" for span in waiting)
            return [("rollup-late", f"a window waits for the roll-up of windows {names}")]
        return []

    def _store(self, store: Store) -> dict[str, Any]:
        error = self.state.outbox.last_error(store.name)
        return {
            "pending": self.state.outbox.pending(store.name),
            "error": None if error is None else {"code": error.code, "message": str(error)},
        }

    def _reasons(self, lag_ms: int) -> list[dict[str, str]]:
        node, machine = self.node, self.node.machine
        reasons: list[tuple[str, str]] = []
        if machine.halted is not None:
            reasons.append((machine.halted.code, machine.halted.detail))
        if not machine.cosigner.ready:
            reasons.append(("starting", "peers have not said yet what this key signed last"))
        if lag_ms > node.pace.grace_ms + 3 * node.pace.step_ms:
            seconds = lag_ms // 1000
            reasons.append(
                ("lag", f"window {machine.base.window} is undecided {seconds} s after its end")
            )
        if not machine.clock_trusted:
            reasons.append(("clock", "this clock is off by more than N/30 from the peers' median"))
        if node.engine_error is not None:
            reasons.append((node.engine_error.code, str(node.engine_error)))
        if node.pool_full:
            reasons.append(("pool-full", "the pool is at its limit: the network is not read"))
        for store in self._stores:
            error = self.state.outbox.last_error(store.name)
            if error is not None:
                reasons.append((error.code, str(error)))
        if self._refill.missing:
            lost = described(self._refill.missing)
            reasons.append(("segments-missing", f"the archive lacks {lost}"))
        reasons += self._late_rollups()
        if node.batch_error is not None:
            message = str(node.batch_error)
            if lag_ms > node.d.recent_windows * node.d.window_s * 1000:
                message += "; if no peer keeps it any more, start this validator again: it adopts"
            reasons.append(("batch-missing", message))
        reasons += [
            ("split-view", f"{name} cosigned another tree") for name in self.cosignatures.split
        ]
        reasons += network_reasons(self._network)
        return [{"code": code, "message": message} for code, message in reasons]
