"""Static peers: dialled, and dialled again for ever, with a pause that grows and is drawn by lot.

A host that is back is found again soon, one that is gone costs little, and the peers of a host that
returns do not all come at the same moment.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import Any

from restante import limits
from restante.errors import Unavailable
from restante.networks.rlpx.link import Admission, Enode, Handler, Identity, dial
from restante.networks.whisper.peers import Peers
from restante.ports import Clock

log = logging.getLogger("restante.whisper")


class Pauses:
    """The pauses between attempts at one peer. Pure."""

    def __init__(self, lot: Callable[[], float]) -> None:
        """`lot`: answers from 0 to 1, evenly."""
        self._lot = lot
        self._least_s = limits.SHH_REDIAL_FIRST_S

    def after(self, held_s: float) -> float:
        """Seconds until the next attempt, after one whose link held so long."""
        if held_s >= limits.SHH_LINK_GOOD_S:
            self._least_s = limits.SHH_REDIAL_FIRST_S
        pause_s = self._least_s * (1 + self._lot() / 2)
        self._least_s = min(2 * self._least_s, limits.SHH_REDIAL_MAX_S)
        return pause_s


class Static:
    """One static peer, and how dialling it goes."""

    def __init__(self, enode: Enode) -> None:
        self.enode = enode
        self.attempts = 0
        self.error = ""
        """Why there is no link; empty while there is, and before the first attempt has ended."""
        self.hint = ""
        self.next_s: int | None = None
        """Unix seconds: when it is dialled again; None while it is dialled, or here."""
        self._told = ""

    def failed(self, error: Unavailable) -> None:
        """Note why it is not reached; the first time, and when that changes, tell."""
        self.error, self.hint = str(error), error.hint
        if self.error != self._told:
            self._told = self.error
            name = self.enode.node_id.hex()[:16]
            log.info("peer %s is not reached, dialling on: %s (%s)", name, error, error.hint)

    def here(self) -> None:
        self.error = self.hint = self._told = ""

    def row(self) -> dict[str, Any]:
        return {
            "enode": str(self.enode),
            "attempts": self.attempts,
            "error": self.error,
            "hint": self.hint,
            "next_s": self.next_s,
        }


class Dialling:
    """All of them, each in a task of its own."""

    def __init__(
        self,
        enodes: Sequence[Enode],
        peers: Peers,
        handler: Handler,
        clock: Clock,
        *,
        lot: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock`: says to people when the next attempt is; `lot`: as in Pauses."""
        self.static = [Static(enode) for enode in enodes]
        self._peers = peers
        self._handler = handler
        self._clock = clock
        self._lot = lot
        self._sleep = sleep

    async def run(self, identity: Identity, admission: Admission) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for static in self.static:
                tasks.create_task(self._keep(static, identity, admission))

    async def _keep(self, static: Static, identity: Identity, admission: Admission) -> None:
        pauses = Pauses(self._lot)
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            await self._hold(static, identity, admission)
            pause_s = pauses.after(loop.time() - started_s)
            static.next_s = ceil(self._clock.now_ms() / 1000 + pause_s)
            await self._sleep(pause_s)
            static.next_s = None

    async def _hold(self, static: Static, identity: Identity, admission: Admission) -> None:
        """Have a link with it, whoever dialled, until it is over, or cannot be made."""
        peer = self._peers.with_id(static.enode.node_id)
        if peer is None:
            static.attempts += 1
            try:
                link = await dial(static.enode, identity, self._handler, admission=admission)
            except Unavailable as error:
                static.failed(error)
                return
            peer = self._peers.of(link)
        if peer is not None:
            static.here()
            await peer.over.wait()
            static.error = peer.why
