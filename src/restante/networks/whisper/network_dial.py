"""Static peers: dialled, and dialled again for ever, with a pause that grows and is drawn by lot.

A host that is back is found again soon, one that is gone costs little, and the peers of a host that
returns do not all come at the same moment.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from restante import limits
from restante.errors import Unavailable
from restante.networks.rlpx.link import Admission, Enode, Handler, Identity, dial
from restante.networks.whisper.peers import Peers


class Static:
    """One static peer, and how dialling it goes."""

    def __init__(self, enode: Enode) -> None:
        self.enode = enode
        self.attempts = 0
        self.error = ""
        """Why there is no link; empty while there is."""

    def row(self) -> dict[str, Any]:
        return {"enode": str(self.enode), "attempts": self.attempts, "error": self.error}


class Dialling:
    """All of them, each in a task of its own."""

    def __init__(self, enodes: Sequence[Enode], peers: Peers, handler: Handler) -> None:
        self.static = [Static(enode) for enode in enodes]
        self._peers = peers
        self._handler = handler
        self._random = random.Random()  # noqa: S311 for lots, not secrets

    async def run(self, identity: Identity, admission: Admission) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for static in self.static:
                tasks.create_task(self._keep(static, identity, admission))

    async def _keep(self, static: Static, identity: Identity, admission: Admission) -> None:
        pause_s = limits.SHH_REDIAL_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            await self._hold(static, identity, admission)
            if loop.time() - started_s >= limits.SHH_LINK_GOOD_S:
                pause_s = limits.SHH_REDIAL_FIRST_S
            await asyncio.sleep(pause_s * self._random.uniform(1.0, 1.5))
            pause_s = min(2 * pause_s, limits.SHH_REDIAL_MAX_S)

    async def _hold(self, static: Static, identity: Identity, admission: Admission) -> None:
        """Have a link with it, whoever dialled, until it is over, or cannot be made."""
        peer = self._peers.with_id(static.enode.node_id)
        if peer is None:
            static.attempts += 1
            try:
                link = await dial(static.enode, identity, self._handler, admission=admission)
            except Unavailable as error:
                static.error = str(error)
                return
            peer = self._peers.of(link)
        if peer is not None:
            static.error = ""
            await peer.over.wait()
            static.error = peer.why
