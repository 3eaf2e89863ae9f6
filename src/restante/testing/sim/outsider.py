"""An honest proposer that is no validator: its own pool, and a log that it follows by reading."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from restante.rules import actions as act
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.intake import Intake
from restante.rules.pool import PoolIndex
from restante.rules.propose import Proposing
from restante.rules.window import DEFAULT_PACE, outsider_due_ms
from restante.testing.sim.links import Reply
from restante.testing.sim.party import ProposingParty
from restante.testing.sim.plan import key_of
from restante.testing.sim.workload import cheap_keccak

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

FOLLOW_MS = 2_000


class Outsider(ProposingParty):
    """Proposes each window once its base is known; it never crashes, and nobody needs it."""

    def __init__(self, sim: "Simulation", name: str) -> None:
        super().__init__(sim, name)
        self.key = key_of(name)
        self.base = Base(sim.d)
        self.index = PoolIndex(sim.d)
        self.intake = Intake(sim.d, cheap_keccak, self.index)
        self.raws: list[bytes] = []
        self.reached_ms = 0
        self.proposed = -1
        self._reading = False

    def start(self) -> None:
        self.up = True
        self.reached_ms = self.now_ms()
        self._follow()
        self.schedule()

    def crash(self) -> None:
        raise AssertionError("an outsider does not crash")

    def observe(self, raws: list[bytes]) -> None:
        self.run(lambda now: self._pool(self.intake.observe([(now, raw) for raw in raws])))

    def _pool(self, pooled: list[tuple[int, bytes]]) -> list[Action]:
        self.raws += [raw for _, raw in pooled]
        return []

    # --- following ----------------------------------------------------------------------------

    def _follow(self) -> None:
        if self.sim.over:
            return
        source = self.sim.rng.choice(self.sim.plan.honest)
        if not self._reading:
            self._reading = True
            self.sim.links.call(self, source, "log", (self.base.size,), self._grow, self._unread)
        self.sim.world.at(self.sim.world.now_ms + FOLLOW_MS, self._follow)

    def _unread(self) -> None:
        self._reading = False

    def _grow(self, entries: list[tuple[bytes, tuple[bytes, ...]]]) -> None:
        self._reading = False
        if not entries:
            return
        for entry, ids in entries:
            self.base.advance(entry, ids)
        self.proposings.clear()
        self.reached_ms = self.now_ms()
        self.schedule()

    # --- proposing ----------------------------------------------------------------------------

    def _due_ms(self) -> int | None:
        if self.proposed >= self.base.window or self.base.window >= self.sim.plan.windows:
            return None
        return outsider_due_ms(self.sim.d, DEFAULT_PACE, self.base.window, self.reached_ms)

    def next_ms(self) -> int | None:
        due = self._due_ms()
        times = self.proposings_next_ms() + ([due] if due is not None else [])
        return min(times, default=None)

    def tick(self) -> None:
        due = self._due_ms()
        if due is not None and self.now_ms() >= due:
            self.proposed = self.base.window
            proposing = Proposing(
                self.sim.d,
                self.key,
                self.base,
                self.index,
                self.intake,
                lambda row: self.raws[row.position],
            )
            self.proposings.append(proposing)
            self.run(lambda _: proposing.start(), proposing)
        self.tick_proposings()
        self.schedule()

    def perform(self, actions: Iterable[Action], proposing: Proposing | None = None) -> None:
        for action in actions:
            match action:
                case act.Append():
                    self.raws += [raw for _, raw in action.records]
                case act.SendProposal() if proposing is not None:
                    self.send_proposal(action, proposing)
                case act.PushBodies() if proposing is not None:
                    self.push_bodies(action, proposing)
                case act.FetchBodies() if proposing is not None:
                    self.fetch_claimed(action, proposing)
                case act.Certified():
                    amendments = proposing.amendments if proposing is not None else 0
                    self.sim.history.note("certified", self.name, action.window, amendments)
                    self.spread_certificate(action.certificate)
                case _:
                    raise AssertionError(f"no driver for {action}")

    def body(self, id_: bytes) -> bytes | None:
        row = self.index.get(id_)
        return self.raws[row.position] if row is not None else None

    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None:
        """An outsider is a client only."""
