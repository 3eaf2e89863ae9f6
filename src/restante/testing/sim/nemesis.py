"""Carries out the faults of a plan."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation
    from restante.testing.sim.validator_node import ValidatorNode


class Nemesis:
    """Faults by name: see `Plan.faults`."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._snapshots: dict[str, Any] = {}

    def schedule(self) -> None:
        sim = self._sim
        for at_ms, kind, args in sim.plan.faults:
            sim.world.at(sim.genesis_ms + at_ms, self.strike, kind, args)
        sim.world.at(sim.genesis_ms + sim.plan.heal_ms, sim.heal)

    def strike(self, kind: str, args: tuple[Any, ...]) -> None:
        sim = self._sim
        if sim.healed and kind not in ("lose-log", "restore", "backup"):
            return
        sim.history.note("fault", "-", kind, *args)
        match kind, args:
            case "cut", (one_side, until_ms):
                self._cut(set(one_side), until_ms)
            case "skew", (name, skew_ms):
                self._skew(sim.validators[name], skew_ms)
            case "crash", (name, steps, down_ms):
                node = sim.validators[name]
                node.down_ms = down_ms
                if steps:
                    node.crash_in = steps
                else:
                    node.crash()
            case "lose-log", (name,):
                self.lose_log(name)
            case "backup", (name,):
                self._snapshots[name] = sim.validators[name].disk.snapshot()
            case "restore", (name,):
                self.restore(name)
            case _:
                raise ValueError(f"no fault {kind}")

    def _cut(self, one_side: set[str], until_ms: int) -> None:
        sim = self._sim
        links = {
            pair
            for a in sim.parties
            for b in sim.parties
            if (a in one_side) != (b in one_side)
            for pair in ((a, b), (b, a))
        }
        sim.links.cut |= links
        end_ms = sim.genesis_ms + until_ms
        sim.history.disturbances.append((sim.world.now_ms - 5_000, end_ms + 8_000))
        sim.world.at(end_ms, sim.links.cut.difference_update, links)

    def _skew(self, node: "ValidatorNode", skew_ms: int) -> None:
        sim = self._sim
        node.skew_ms = skew_ms
        if abs(skew_ms) > 1_000:
            sim.history.disturbances.append((sim.world.now_ms - 60_000, sim.genesis_ms + 10**9))
        sim.measure_clocks()

    def _stop(self, node: "ValidatorNode") -> None:
        node.down_ms = 1_500
        if node.up:
            node.crash()
        else:
            node.sim.world.at(node.sim.world.now_ms + node.down_ms, node.start)

    def lose_log(self, name: str) -> None:
        """The archive and the decisions are gone; the validator rebuilds its log."""
        node = self._sim.validators[name]
        self._stop(node)
        node.disk.lose_log()
        node.halted = None
        self._sim.history.chains[name] = ()

    def restore(self, name: str) -> None:
        """lock/ and archive/ come back from a backup, against the rule."""
        node = self._sim.validators[name]
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            return
        self._stop(node)
        node.disk.restore(snapshot)
        self._sim.history.chains[name] = self._sim.history.chains[name][
            : len(node.disk.decisions())
        ]
