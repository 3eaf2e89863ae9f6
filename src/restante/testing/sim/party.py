"""What drives the proposing machine, for validators (R8) and outsiders alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from restante.formats.message import Answer
from restante.rules import actions as act
from restante.rules.actions import Action
from restante.rules.propose import Proposing
from restante.testing.sim.links import Reply

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation


class Crash(Exception):
    """The process is dead here."""


class ProposingParty(ABC):
    """A party that may have proposals under way. Its drafts stand until their base is passed."""

    def __init__(self, sim: "Simulation", name: str) -> None:
        self.sim = sim
        self.name = name
        self.up = False
        self.life = 0
        self.proposings: list[Proposing] = []
        self._tick_at: int | None = None

    # --- what a subclass is -------------------------------------------------------------------

    def now_ms(self) -> int:
        """This party's own clock."""
        return self.sim.world.now_ms

    @abstractmethod
    def perform(self, actions: Iterable[Action], proposing: Proposing | None = None) -> None: ...

    @abstractmethod
    def next_ms(self) -> int | None: ...

    @abstractmethod
    def tick(self) -> None: ...

    # --- running ------------------------------------------------------------------------------

    def run(
        self, handler: Callable[[int], list[Action]], proposing: Proposing | None = None
    ) -> None:
        """One handler, its actions in order, and the next tick."""
        if not self.up:
            return
        try:
            self.perform(handler(self.now_ms()), proposing)
        except Crash:
            self.crash()
            return
        self.schedule()

    @abstractmethod
    def crash(self) -> None: ...

    def schedule(self) -> None:
        """Make sure that `tick` comes when a machine wants it."""
        due = self.next_ms()
        if due is None:
            return
        # The node's clock may differ from the world's; a tick that comes early asks again.
        at = self.sim.world.now_ms + max(1, due - self.now_ms())
        if self._tick_at is None or at < self._tick_at:
            self._tick_at = at
            self.sim.world.at(at, self._ticked, at, self.life)

    def _ticked(self, at: int, life: int) -> None:
        if self._tick_at != at or self.life != life or not self.up:
            return
        self._tick_at = None
        self.tick()

    def tick_proposings(self) -> None:
        for proposing in list(self.proposings):
            due = proposing.next_ms()
            if due is not None and due <= self.now_ms():
                self.run(proposing.tick, proposing)

    def proposings_next_ms(self) -> list[int]:
        if not self.proposings:
            return []
        return [at for p in self.proposings if not p.over and (at := p.next_ms()) is not None]

    # --- messages -----------------------------------------------------------------------------

    def send_proposal(self, action: act.SendProposal, proposing: Proposing) -> None:
        peer, p = action.peer, action.proposal
        self.sim.history.note(
            "proposes", self.name, p.window, p.base_size, p.cid, p.count, "to", peer
        )
        self._ask_verdict(peer, "proposal", (p,), p.cid, proposing)

    def push_bodies(self, action: act.PushBodies, proposing: Proposing) -> None:
        raws = [self.body(id_) for id_ in action.ids]
        key = self.sim.keys(self.name).public_key
        args = (key, action.cid, [raw for raw in raws if raw is not None])
        self._ask_verdict(action.peer, "push", args, action.cid, proposing)

    def _ask_verdict(
        self, peer: str, op: str, args: tuple[Any, ...], cid: bytes, proposing: Proposing
    ) -> None:
        def replied(answer: Answer) -> None:
            if proposing in self.proposings:
                self.sim.history.note("hears", self.name, peer, answer.kind, *answer.ids[:3])
                self.run(lambda now: proposing.answered(peer, cid, answer, now), proposing)

        def failed() -> None:
            if proposing in self.proposings:
                proposing.failed(peer, self.now_ms())
                self.schedule()

        self.sim.links.call(self, peer, op, args, replied, failed)

    def fetch_claimed(self, action: act.FetchBodies, proposing: Proposing) -> None:
        peer, ids = action.peer, action.ids

        def got(raws: list[bytes]) -> None:
            if proposing in self.proposings:
                self.run(lambda now: proposing.fetched(peer, ids, raws, now), proposing)

        self.sim.links.call(self, peer, "bodies", (ids,), got, lambda: got([]))

    def spread_certificate(self, data: bytes) -> None:
        for name in self.sim.d_names:
            self.sim.links.call(self, name, "certificate", (data,), lambda _: None, lambda: None)

    @abstractmethod
    def body(self, id_: bytes) -> bytes | None: ...

    @abstractmethod
    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None: ...
