"""The proposals that a validator makes itself, in its turn (R8), and those of a proposer role that
shares its pool and its log (step 2)."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from restante import limits
from restante.errors import Unavailable
from restante.formats.keys import SigningKey
from restante.node.validator.proposing import Round, Surroundings
from restante.node.waiting import retries, until
from restante.rules import window
from restante.rules.propose import Proposing

if TYPE_CHECKING:
    from restante.node.validator.driver import ValidatorNode


class OwnRounds:
    """At most one round for each key, for the window to decide."""

    def __init__(self, node: "ValidatorNode", key: SigningKey) -> None:
        self._node = node
        self._key = key
        self._running: dict[bytes, Round] = {}
        self._moved = asyncio.Event()

    def propose(self, number: int, key: SigningKey) -> None:
        """Begin a round, unless one by this key is at work."""
        node = self._node
        before = self._running.get(key.public_key)
        at_work = before is not None and not before.over and before.busy
        if number != node.machine.base.window or at_work:
            return
        if before is not None:
            before.stop()
        round_ = self.make(self._certified, key)
        self._running[key.public_key] = round_
        node.spawn(round_.run())

    def make(self, certified: Callable[[int, bytes], None], key: SigningKey | None = None) -> Round:
        """A round by a key, by default the validator's own; `certified` takes the certificate."""
        node, machine = self._node, self._node.machine
        signer = key or self._key
        proposing = Proposing(
            node.d,
            signer,
            machine.base,
            machine.index,
            machine.intake,
            node.state.body,
            machine.settled,
            machine.judge,
        )
        around = Surroundings(
            peers=node.peers,
            clock=node.clock,
            base=machine.base,
            key=signer.public_key,
            persist=node.persist,
            body=node.body_of,
            certified=certified,
            spawn=node.spawn,
            seat=node,
        )
        return Round(proposing, around)

    def moved(self) -> None:
        """A window was decided: no round on the old base goes on."""
        for round_ in self._running.values():
            round_.stop()
        self._running = {}
        self._moved.set()

    async def after_grace(self, proposer: SigningKey) -> None:
        """Propose each window once its grace is over, as outsiders do."""
        node = self._node
        proposed = -1
        while True:
            number = node.machine.base.window
            due_ms = window.outsider_due_ms(node.d, node.pace, number, node.machine.reached_ms)
            if number == proposed:
                await self._moved.wait()
                self._moved.clear()
                continue
            await until(node.clock, due_ms, self._moved)
            if number == node.machine.base.window and node.clock.now_ms() >= due_ms:
                proposed = number
                self.propose(number, proposer)

    def _certified(self, number: int, certificate: bytes) -> None:
        self._node.certificate(certificate)
        for name in self._node.peers.names:
            self._node.spawn(self._hand_over(name, number, certificate))

    async def _hand_over(self, name: str, number: int, certificate: bytes) -> None:
        async for attempt in retries():
            if attempt == limits.CERTIFICATE_ATTEMPTS or self._node.machine.base.window > number:
                return
            try:
                await self._node.peers.certificate(name, certificate)
                return
            except Unavailable as error:
                if error.code == "peer-refused":
                    return  # it is decided there
