"""One run: parties, faults and invariants on virtual time."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from random import Random
from statistics import median

from restante.formats import message, whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Proposal
from restante.formats.page import Member, topic_key
from restante.formats.segment import build
from restante.formats.tree import Frontier, leaf_hash
from restante.rules import actions as act
from restante.testing.sim.disk import Adopted, Archived, Decision
from restante.testing.sim.history import Batch, History
from restante.testing.sim.hostile import Adversary, ByzantineValidator, HostileProposer
from restante.testing.sim.invariants import Checker, Violation
from restante.testing.sim.links import Links, Quality, World
from restante.testing.sim.nemesis import Nemesis
from restante.testing.sim.ordering import HonestEngine, HostileEngine
from restante.testing.sim.outsider import Outsider
from restante.testing.sim.plan import Plan, key_of
from restante.testing.sim.validator_node import ValidatorNode
from restante.testing.sim.workload import Made

# After faults end a window may wait for every validator's turn, and a Byzantine one's as well,
# and for a certificate's submission: turns are a step (10 s) apart.
WINDOW_BOUND_MS = 120_000
SETTLE_MS = 60_000


@lru_cache(maxsize=4_096)
def empty_cid(d: Descriptor, window: int) -> bytes:
    return build(d.set_id, (), first_window=window, bucket_bits=d.bucket_bits).root_cid


class Simulation:
    """Everything of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng, self.d = plan, plan.rng, plan.d
        self.d_names = plan.names
        self.genesis_ms = self.d.genesis_s * 1000
        self.world = World(self.genesis_ms - 8_000)
        self.links = Links(self.world, Random(plan.rng.getrandbits(64)), plan.quality)
        self.history = History(self.d, plan.mint.made)
        self.checker = Checker(self.history, plan.checks)
        self.adversary = Adversary(self)
        self.engine = (
            HonestEngine(self)
            if plan.engine == "honest"
            else HostileEngine(self, forging=plan.engine == "forging")
        )
        self.validators = {v: ValidatorNode(self, v) for v in plan.honest}
        self.byzantine = {v: ByzantineValidator(self, v, m) for v, m in plan.byzantine.items()}
        self.outsiders: dict[str, Outsider | HostileProposer] = {
            p: Outsider(self, p) if m == "honest" else HostileProposer(self, p, m)
            for p, m in plan.proposers.items()
        }
        self.parties = {**self.validators, **self.byzantine, **self.outsiders}
        self.links.parties.update(self.parties)
        if plan.adversary is not None:
            rule = plan.adversary
            self.links.adversary = lambda source, target, op: rule(self, source, target, op)
        self.hostile_batches: dict[bytes, Archived] = {}
        self._verified: dict[int, Proposal] = {}
        self.healed = False
        self.over = False
        self._second = self._busy = 0
        self.nemesis = Nemesis(self)
        self._set_up_history()

    def _set_up_history(self) -> None:
        h = self.history
        h.honest = set(self.validators) - self.plan.ruined
        h.byzantine = set(self.byzantine)
        for name in self.validators:
            h.pooled[name], h.frozen[name], h.cosigned[name] = {}, {}, {}
            h.chains[name] = ()
        for hook in self.plan.hooks:
            h.listeners.append(
                lambda verb, node, details, hook=hook: hook(self, verb, node, details)  # type: ignore[misc]
            )

    # --- running ------------------------------------------------------------------------------

    @property
    def since_genesis_ms(self) -> int:
        return self.world.now_ms - self.genesis_ms

    def sent_now_s(self) -> int:
        return self.world.now_ms // 1000

    def run(self) -> None:
        """Carry out the plan. Raises Violation."""
        world, history, checker = self.world, self.history, self.checker
        for node in (*self.validators.values(), *self.outsiders.values()):
            world.at(world.now_ms + self.rng.randint(0, 500), node.start)
        for at_ms, party, made in self.plan.arrivals:
            if party in self.parties:
                world.at(self.genesis_ms + at_ms, self._arrive, party, made)
        self.nemesis.schedule()
        last_end = self.d.end_ms(self.plan.windows - 1)
        deadline = max(last_end, self.genesis_ms + self.plan.heal_ms)
        bound_ms = self.plan.bound_ms
        deadline += bound_ms or SETTLE_MS + self.plan.windows * WINDOW_BOUND_MS
        while world.events < self.plan.events_max and world.now_ms < deadline:
            if not world.step():
                break
            history.now_ms = world.now_ms
            checker.check()
            self._require_calm()
            if self.healed and world.events % 8 == 0 and self._complete():
                self.over = True
                return
        self._require_live()

    def _require_calm(self) -> None:
        """No machine asks for a tick that it then does nothing with: that is a busy loop."""
        second = self.world.now_ms // 1000
        if second != self._second:
            self._second, self._busy = second, 0
        self._busy += 1
        if self._busy > 300 + 100 * self.plan.n and "busy" in self.plan.checks:
            raise Violation({"busy": f"{self._busy} events within a second"})

    def _arrive(self, party: str, made: Made) -> None:
        self.history.note("arrives", party, made.id, made.defect or "")
        self.parties[party].observe([made.raw])

    def live(self) -> list[ValidatorNode]:
        """Honest validators that are up, not halted, and have the right time."""
        return [
            v
            for v in self.validators.values()
            if v.machine is not None and not v.halted and v.machine.clock_trusted
        ]

    def _complete(self) -> bool:
        """Whether every live validator has decided every window, and k keys cosigned each."""
        if any(v.machine is None and not v.halted for v in self.validators.values()):
            return False
        return all(
            len(self.history.chains[v.name]) >= self.plan.windows for v in self.live()
        ) and all(self._cosigned(size) for size in range(1, self.plan.windows + 1))

    def _cosigned(self, size: int) -> bool:
        """Whether enough of the live honest cosigned some tree of this size: Byzantine keys may
        keep silent."""
        h = self.history
        honest = sum(
            1
            for name, trees in h.cosigned.items()
            if trees.get(size) or size in h.passed.get(name, ())
        )
        return honest >= min(self.d.k, len(self.live()))

    def _require_live(self) -> None:
        """I5: every window is decided and cosigned, once faults have ended."""
        if "I5" not in self.plan.checks or len(self.live()) < self.d.k:
            return
        if not self._complete():
            state = {v.name: len(self.history.chains[v.name]) for v in self.live()}
            raise Violation({"I5": f"of {self.plan.windows} windows are decided: {state}"})

    # --- what nodes ask -----------------------------------------------------------------------

    def keys(self, name: str) -> SigningKey:
        return key_of(name)

    def verify(self, p: Proposal) -> None:
        """Check a proposal's signature; the same object is not checked twice."""
        if id(p) not in self._verified:
            p.verify(self.d.set_id)
            self._verified[id(p)] = p

    def peers_of(self, name: str) -> list[str]:
        return [v for v in self.d_names if v != name]

    def ids_of(self, raws: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(sha256(raw).digest() for raw in raws)

    def member(self, made: Made, window: int) -> Member:
        """An envelope as the segments of this set hold it."""
        key = topic_key(self.d.set_id, whisper.scan(made.raw).topic)
        return Member(key, window, made.sent_s, made.id, made.raw)

    def empty_batch_cid(self, window: int) -> bytes:
        return empty_cid(self.d, window)

    def synced_pool(self, node: ValidatorNode) -> None:
        """Note what is durable in a pool now, and was not before."""
        known = self.history.pooled[node.name]
        for position in range(len(known), node.disk.pool.synced):
            arrival_ms, raw = node.disk.pool.records[position]
            self.history.pool(node.name, sha256(raw).digest(), position, arrival_ms)

    def measure_clocks(self) -> None:
        """What each validator learns of its clock: out by more than N/30 of its peers' median?"""
        up = [v for v in self.validators.values() if v.machine is not None]
        for node in up:
            others = [v.skew_ms for v in up if v is not node]
            off = abs(node.skew_ms - median(others)) if others else 0
            assert node.machine is not None
            node.machine.clock_trusted = off <= self.d.window_s * 1000 // 30
            node.schedule()

    def disturbed(self, node: ValidatorNode, *, down: bool) -> None:
        """A validator is away: until when is known when it is back and has asked its peers."""
        if down:
            self.history.disturbances.append(
                (self.world.now_ms - 3_000, self.world.now_ms + node.down_ms + 12_000)
            )

    # --- I6 and the holder of every body --------------------------------------------------------

    def accept_leaves(self, node: ValidatorNode, answer: Answer, accept: act.Accept | None) -> None:
        """A verdict goes out: it must be durable, and so must every body of the batch (R2)."""
        h = self.history
        if accept is None or answer.signature != node.key.sign(
            message.accept_statement(
                self.d.set_id, accept.window, accept.base_size, accept.base_root, accept.cid
            )
        ):
            h.lost.append(f"{node.name} sends an accept that it has not written down")
            return
        h.accept(node.name, accept.window, accept.base_size, accept.base_root, accept.cid)
        self.adversary.heard(accept.window, accept.base_size, accept.base_root, accept.cid, answer)

    def require_durable(self, node: ValidatorNode, cosign: act.Cosign) -> None:
        if cosign not in node.disk.lock.records[: node.disk.lock.synced]:
            self.history.lost.append(f"{node.name} publishes a cosignature it has not written down")

    def require_reached(self, node: ValidatorNode, cosign: act.Cosign) -> None:
        """What is cosigned is the tree of what the lock durably decided or adopted."""
        reached = 0
        for record in node.disk.lock.records[: node.disk.lock.synced]:
            if isinstance(record, Adopted):
                reached = record.made.size
            elif isinstance(record, Decision) and record.window == reached:
                reached += 1
        if cosign.size > reached:
            self.history.lost.append(
                f"{node.name} cosigns size {cosign.size}, and has written down {reached} windows"
            )

    def check_restored(self, node: ValidatorNode) -> None:
        """I6: what a restarted validator knows is what it had let out before."""
        h, m, name = self.history, node.machine, node.name
        assert m is not None
        if name in self.plan.ruined:
            return
        self._note_durable(node)
        for id_, (position, _) in h.pooled[name].items():
            if position >= node.disk.pool_floor and id_ not in m.index:
                h.lost.append(f"{name} lost the pooled envelope {id_.hex()[-8:]}")
        for window, position in h.frozen[name].items():
            if node.disk.freezes().get(window) != position:
                h.lost.append(f"{name} lost its freeze of window {window}")
        if m.base.size != len(h.chains[name]) or (
            h.chains[name] and m.base.root != h.chains[name][-1].root
        ):
            h.lost.append(f"{name} lost a commit")
        signed = {(c.size, c.root, c.value) for c in node.disk.cosignatures()}
        for size, trees in h.cosigned[name].items():
            if any((size, root, value) not in signed for root, value in trees):
                h.lost.append(f"{name} lost its cosignature of size {size}")
        accepts = {(a.window, a.base_size, a.base_root, a.cid) for a in node.disk.accepts()}
        if any(a[0] == name and a[1:] not in accepts for a in h.accepted):
            h.lost.append(f"{name} lost an accept")
        for decision in node.disk.decisions() if self.d.levels else ():
            node.require_installed(decision.entry)

    def _note_durable(self, node: ValidatorNode) -> None:
        """What was on disk when the crash came, though nobody had heard of it yet."""
        h, name = self.history, node.name
        for window, position in node.disk.freezes().items():
            if window not in h.frozen[name]:
                h.freeze(name, window, position)
        adopted = node.disk.adopted()
        if adopted is not None:
            h.adopt(name, adopted.made.size, adopted.made.root)
        before = () if adopted is None else adopted.entries
        frontier = Frontier.EMPTY.extend(map(leaf_hash, before))
        for size, decision in enumerate(node.disk.followed(), start=len(before) + 1):
            frontier = frontier.append(leaf_hash(decision.entry))
            archived = node.disk.batch(decision.window, decision.cid)
            if size > len(h.chains[name]) and archived is not None:
                ids = frozenset(archived.ids)
                root, entry = frontier.root(), decision.entry
                h.commit(name, Batch(decision.window, decision.cid, ids, root, entry))
        for cosign in node.disk.cosignatures():
            if cosign.size not in h.cosigned[name]:
                h.cosign(name, cosign.size, cosign.root, cosign.value)

    def certified(self, window: int, cid: bytes) -> None:
        """n − f accepts exist: an honest validator must hold every body of the batch."""
        h = self.history
        ids = h.batches.get(cid, frozenset())
        lacking: str | None = "no honest validator holds all of its bodies"
        for node in self.validators.values():
            archived = node.disk.batch(window, cid)
            if archived is not None:
                lacking = None
            elif all(id_ in h.pooled[node.name] for id_ in ids):
                rebuilt = build(
                    self.d.set_id,
                    [self.member(h.made[id_], window) for id_ in ids if id_ in h.made],
                    first_window=window,
                    bucket_bits=self.d.bucket_bits,
                )
                lacking = None if rebuilt.root_cid == cid else "its bytes are not its envelopes'"
            if lacking is None:
                break
        h.certified.append((window, cid, lacking))
        h.note("certifiable", "-", window, cid, len(ids))

    def heal(self) -> None:
        """Faults end: links are good, everyone is up, clocks are right."""
        self.healed = True
        self.links.quality = Quality()
        self.plan.rollup_slow.clear()
        self.links.cut.clear()
        for node in self.validators.values():
            node.crash_in = None
            node.stays_down = False
            node.skew_ms = max(-400, min(400, node.skew_ms))
            if not node.up:
                node.start()
            node.poll_soon()
        self.measure_clocks()
        self.history.note("heals", "-")
