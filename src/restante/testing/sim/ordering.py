"""Engines: an honest one that delivers one order late and with junk in it, and a hostile one that
shows every validator what it likes, as long as it is certified."""

from random import Random
from typing import TYPE_CHECKING

from restante.formats.message import Certificate

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

PAGE = 4


class HonestEngine:
    """One sequence for all. Entries may be lost on the way in; junk may stand before them."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._rng: Random = sim.rng
        self.log: list[bytes] = []

    def submit(self, node: str, data: bytes) -> None:
        """A validator appends an entry."""
        plan = self._sim.plan
        healed = self._sim.healed
        if not healed and self._rng.random() < plan.engine_loss:
            return
        delay = self._rng.randint(1, plan.engine_delay_ms)
        self._sim.world.at(self._sim.world.now_ms + delay, self._order, data)

    def _order(self, data: bytes) -> None:
        while self._rng.random() < self._sim.plan.junk and len(self.log) < 200:
            self.log.append(self._junk(data))
        self.log.append(data)
        for node in self._sim.validators.values():
            node.poll_soon()

    def _junk(self, data: bytes) -> bytes:
        rng = self._rng
        kind = rng.randrange(5)
        if kind == 0:
            return rng.randbytes(rng.randrange(40))
        if kind == 1 and self.log:
            return rng.choice(self.log)
        return forged(data, self._sim, rng)

    def entries(self, node: str, after: int) -> list[tuple[int, bytes]]:
        """Up to a page of (slot, entry), slots from 1."""
        if not self._sim.healed and self._stalled():
            return []
        return list(enumerate(self.log[after : after + PAGE], start=after + 1))

    def _stalled(self) -> bool:
        now = self._sim.since_genesis_ms
        return any(start <= now < end for start, end in self._sim.plan.engine_stalls)


def forged(data: bytes, sim: "Simulation", rng: Random) -> bytes:
    """A certificate for the same window that does not verify, or is about another base."""
    honest = Certificate.parse(data, sim.d.set_id)
    kind = rng.randrange(4)
    accepts = honest.accepts
    root, cid, size = honest.base_root, honest.cid, honest.base_size
    if kind == 0:
        accepts = accepts[:-1]
    elif kind == 1:
        cid = sim.empty_batch_cid(honest.window)
    elif kind == 2:
        root = rng.randbytes(32)
    else:
        accepts = tuple((key_id, bytes(64)) for key_id, _ in accepts)
    return Certificate(honest.set_id, honest.window, size, root, cid, accepts).encode()


class HostileEngine(HonestEngine):
    """Each validator has a view of its own, made of any certified decisions on its base.

    It can invent entries (`forging`), and nothing that n − f did not accept: what it shows was
    assembled by the adversary, who hears every accept.
    """

    def __init__(self, sim: "Simulation", *, forging: bool) -> None:
        super().__init__(sim)
        self._forging = forging
        self.views: dict[str, list[bytes]] = {}

    def _order(self, data: bytes) -> None:
        for node in self._sim.validators.values():
            node.poll_soon()

    def entries(self, node: str, after: int) -> list[tuple[int, bytes]]:
        view = self.views.setdefault(node, [])
        if after == 0 and view:  # the log was lost: nothing ties the engine to its word
            view.clear()
        machine = self._sim.validators[node].machine
        if machine is not None and after >= len(view):
            shown = self._choose(node, machine.base.window, machine.base.size, machine.base.root)
            if shown is not None:
                view += shown
        return list(enumerate(view[after : after + PAGE], start=after + 1))

    def _choose(self, node: str, window: int, size: int, root: bytes) -> list[bytes] | None:
        rng = self._rng
        cids, certified = self._sim.adversary.certificates(window, size, root)
        if not certified:
            return None
        shown: list[bytes] = []
        if self._sim.plan.show is not None:
            batches = [self._sim.history.batches[cid] for cid in cids]
            wanted = self._sim.plan.show(self._sim, node, window, batches)
            if wanted is None:
                self._sim.world.at(
                    self._sim.world.now_ms + 500, self._sim.validators[node].poll_soon
                )
                return None
            return [certified[wanted]]
        if self._forging:
            shown.append(forged(certified[0], self._sim, rng))
        wait = not self._sim.healed and len(certified) == 1 and rng.random() < 0.5
        if wait:
            self._sim.validators[node].poll_soon()
            return shown or None
        return [*shown, rng.choice(certified)]
