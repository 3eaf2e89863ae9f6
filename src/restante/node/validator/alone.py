"""A set of one after an absence: passed windows are decided in a row.

Nobody else can decide them, and none of them is waited for. A group of them shares one fsync of
the lock state. Until it is durable only engine entries leave the process, and they bring the same
decisions of quiet windows back; whoever answers somebody else in between ends the group first.
A group ends where a roll-up is asked for: what it is made of must be in the log.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from restante import limits
from restante.errors import Unavailable
from restante.rules.freeze import candidates

if TYPE_CHECKING:
    from restante.node.validator.driver import ValidatorNode
    from restante.node.validator.own_rounds import OwnRounds

log = logging.getLogger("restante.validator")


class Alone:
    """Catches up for n = 1."""

    def __init__(self, node: "ValidatorNode", rounds: "OwnRounds") -> None:
        self._node = node
        self._rounds = rounds

    def passed(self) -> bool:
        """Whether there are passed windows to decide."""
        node = self._node
        if node.d.n > 1 or node.machine.halted is not None:
            return False
        turn_ms = node.pace.grace_ms + node.pace.step_ms
        return node.clock.now_ms() > node.d.end_ms(node.machine.base.window + 1) + turn_ms

    async def catch_up(self) -> None:
        """Decide them, a group at a time."""
        node = self._node
        said = node.machine.base.window
        async with node.engine_turn:
            while self.passed():
                await node.rolling.settle()
                if node.machine.waits_for_rollups:
                    # It may take long: everything else goes on, and this again with the next tick.
                    return
                with node.state.group():
                    for _ in range(limits.COMMIT_GROUP_WINDOWS):
                        if not self.passed() or not await self._decide() or node.rolling.busy:
                            break
                done, node.grouped = node.grouped, []
                node.after(done)
                window = node.machine.base.window
                if window >= said + limits.COMMIT_GROUP_WINDOWS or not self.passed():
                    said = window
                    behind = node.d.window_of(node.clock.now_ms()) - window
                    log.info("caught up to window %d, %d to go", window, max(0, behind))

    async def _decide(self) -> bool:
        """Propose, accept, certify, order and commit one window; False if the engine is away."""
        node = self._node
        certificates: list[bytes] = []
        try:
            # An accept of envelopes is durable before it can count: which of the pool's a CID means
            # stands nowhere else. Passed windows are quiet, but for the first few.
            quiet = not candidates(node.machine.index, node.machine.base)
            if not await node.engine.entries(node.machine.engine_slot, 1):
                node.grouping = quiet
                self._rounds.make(lambda _, certificate: certificates.append(certificate)).begin()
                node.grouping = False
                if not certificates:
                    return False
                await node.engine.append(certificates[0])
            slots = await node.engine.entries(node.machine.engine_slot, limits.ENGINE_PAGE_ENTRIES)
            node.grouping = quiet
            node.carry(node.machine.engine(slots, node.clock.now_ms()))
        except Unavailable as error:
            node.engine_failed(error)
            await asyncio.sleep(limits.RETRY_FIRST_S)
            return False
        finally:
            node.grouping = False
        return True
