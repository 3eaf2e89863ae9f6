"""Those who break the rules: Byzantine validators, hostile proposers, and the adversary behind
them, who hears every accept and signs with every Byzantine key.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from restante.formats import message
from restante.formats.checkpoint import Checkpoint
from restante.formats.message import Answer, Certificate, PoolPage, Proposal
from restante.formats.page import Member, topic_key
from restante.formats.segment import build
from restante.formats.tree import Frontier, leaf_hash
from restante.testing.sim.adopting import Kept
from restante.testing.sim.disk import Archived, RolledUp
from restante.testing.sim.links import Reply
from restante.testing.sim.plan import GENESIS_S, key_of
from restante.testing.sim.workload import Made

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

Statement = tuple[int, int, bytes]  # window, base size, base root


class Adversary:
    """Knows every accept that was ever sent, and adds those of all Byzantine keys."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._accepts: dict[bytes, dict[bytes, bytes]] = {}
        self._cids: dict[int, list[bytes]] = {}
        self._bases: dict[int, set[Statement]] = {}
        self._made: dict[tuple[Statement, bytes], bytes] = {}

    def heard(self, window: int, size: int, root: bytes, cid: bytes, answer: Answer) -> None:
        """A validator's accept went over the network."""
        d = self._sim.d
        statement = message.accept_statement(d.set_id, window, size, root, cid)
        accepts = self._accepts.setdefault(statement, {})
        accepts[answer.key_id] = answer.signature
        for name in self._sim.plan.byzantine:
            key = key_of(name)
            if key.vkey().key_id not in accepts:
                accepts[key.vkey().key_id] = key.sign(statement)
        cids = self._cids.setdefault(window, [])
        if cid not in cids:
            cids.append(cid)
        self._bases.setdefault(window, set()).add((window, size, root))
        for base in sorted(self._bases[window]):
            self._assemble(base, cid)

    def _assemble(self, base: Statement, cid: bytes) -> None:
        d = self._sim.d
        accepts = self._accepts.get(message.accept_statement(d.set_id, *base, cid), {})
        if len(accepts) < d.k or (base, cid) in self._made:
            return
        chosen = tuple(sorted(accepts.items())[: d.k])
        certificate = Certificate(d.set_id, *base, cid, chosen)
        self._made[base, cid] = certificate.encode()
        self._sim.certified(base[0], cid)

    def certificates(self, window: int, size: int, root: bytes) -> tuple[list[bytes], list[bytes]]:
        """(CIDs, certificates) of all that is certified on a base, in the order it became so."""
        self._bases.setdefault(window, set()).add((window, size, root))
        for cid in self._cids.get(window, ()):
            self._assemble((window, size, root), cid)
        found = [
            (cid, made) for (base, cid), made in self._made.items() if base == (window, size, root)
        ]
        return [cid for cid, _ in found], [made for _, made in found]


class ByzantineValidator:
    """Accepts and cosigns everything, or says whatever its manner is.

    accept: everything, at once. silent: nothing. fresh: answers first, in each round with an
    envelope that nobody has. liar: misleads in every answer. mixed: any of them, by chance.
    conflict: claims a later base to every proposer. turning: lets each proposer
    wait in vain, and refuses its next proposal.
    """

    def __init__(self, sim: "Simulation", name: str, manner: str) -> None:
        self.sim, self.name, self.manner = sim, name, manner
        self.up, self.life = True, 0
        self._held: dict[bytes, bytes] = {}
        self._put_off: dict[tuple[bytes, int], bytes] = {}

    def observe(self, raws: list[bytes]) -> None:
        self._held.update((sha256(raw).digest(), raw) for raw in raws)

    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None:
        manner = self.manner
        if manner == "mixed":
            manner = self.sim.rng.choice(("accept", "accept", "silent", "fresh", "liar"))
        if manner == "silent":
            return
        match op, args:
            case "proposal", (Proposal() as p,):
                answer = self._verdict(manner, p)
                if answer is not None:
                    reply(answer)
            case "push", (_, _, raws):
                self.observe(raws)
            case "bodies", (ids,):
                raws = [self._held[id_] for id_ in ids if id_ in self._held]
                if manner == "liar":
                    raws = [self.sim.plan.mint.random_defect(GENESIS_S).raw]
                reply(raws)
            case "pool", (after,):
                reply(self._pool_page(manner, after))
            case "cosignature", _:
                reply((0, b"", None))
            case "batch", (window, cid):
                reply(self._batch(window, cid))
            case "rollup", (window,):
                reply(self._rollup(window))
            case "kept", ():
                reply(self._kept())
            case _:
                reply(True)

    def _kept(self) -> Kept:
        """Everything, it says; and a longer log, which it alone has signed."""
        d = self.sim.d
        honest = max((v.disk for v in self.sim.validators.values()), key=lambda disk: disk.size())
        entries, batches = honest.entries(), honest.batches()
        window = len(entries)
        segment = build(d.set_id, (), first_window=window, bucket_bits=d.bucket_bits)
        entries.append(segment.entry(()).encode())
        root = Frontier.EMPTY.extend(map(leaf_hash, entries)).root()
        text = Checkpoint(d.origin, len(entries), root).text()
        value = key_of(self.name).cosignature(text, d.genesis_s).value
        batches.append(Archived(window, segment.root_cid, segment, (), ()))
        return Kept(0, tuple(entries), tuple(batches), ((self.name, window + 1, root, value),))

    def _batch(self, window: int, cid: bytes) -> Archived | None:
        """It serves what hostile proposers made, and the one batch that anyone can make."""
        if cid in self.sim.hostile_batches:
            return self.sim.hostile_batches[cid]
        d = self.sim.d
        segment = build(d.set_id, (), first_window=window, bucket_bits=d.bucket_bits)
        return Archived(window, cid, segment, (), ()) if segment.root_cid == cid else None

    def _rollup(self, window: int) -> RolledUp | None:
        """What an honest one has, with other records of the window: too few, or one's again."""
        of = next(iter(self.sim.validators.values())).disk.covering(window)
        if of is None:
            return None
        mine = [record for record in of.records if record[0] == window]
        others = tuple(record for record in of.records if record[0] != window)
        if mine:
            return of._replace(records=(*others, *mine[1:], *self.sim.rng.choice(([], mine[1:]))))
        foreign = [(window, id_, raw) for _, id_, raw in others[:1]]
        return of._replace(records=(*others, *foreign))

    def _verdict(self, manner: str, p: Proposal) -> Answer | None:
        if manner == "fresh":
            made = self.sim.plan.mint.make(self.sim.sent_now_s())
            self._held[made.id] = made.raw
            self.sim.history.note("invents", self.name, made.id)
            return Answer.missing([made.id])
        if manner == "conflict":
            return Answer.conflict(p.window + 3, p.base_size + 3, bytes(32))
        if manner == "turning":
            first = self._put_off.setdefault((p.key, p.window), p.cid)
            return None if first == p.cid else Answer.refused("turned-away")
        if manner == "liar":
            nonsense = self.sim.rng.randbytes(32)
            some = p.ids[:1] or (nonsense,)
            return self.sim.rng.choice(
                [
                    Answer.missing([nonsense]),
                    Answer.need([nonsense]),
                    Answer.invalid(some, code="not-allowed"),
                    Answer.conflict(p.window + 3, p.base_size + 3, nonsense),
                    Answer.not_yet(60_000),
                    Answer.resend(),
                    Answer.accept(key_of(self.name).vkey().key_id, bytes(64)),
                    Answer.refused("banned"),
                ]
            )
        statement = message.accept_statement(
            self.sim.d.set_id, p.window, p.base_size, p.base_root, p.cid
        )
        key = key_of(self.name)
        return Answer.accept(key.vkey().key_id, key.sign(statement))

    def _pool_page(self, manner: str, after: int) -> PoolPage:
        window = self.sim.d.window_of(self.sim.world.now_ms) + 1
        ids: tuple[bytes, ...] = ()
        if manner == "liar":
            ids = tuple(self.sim.rng.randbytes(32) for _ in range(2))
        elif after == 0:
            ids = tuple(self._held)[:3]
        return PoolPage(b"byzantine pool..", 0, after, ids, after + len(ids), window, after)


class HostileProposer:
    """Knows every envelope ever made, and proposes what its manner is to everyone, once a window
    and base: omit, empty, worst (a full batch of the least work), invalid, repeat (what was in a
    batch before), foreign-cid, withhold (an envelope that it gives to nobody), copies.
    """

    def __init__(self, sim: "Simulation", name: str, manner: str) -> None:
        self.sim, self.name, self.manner = sim, name, manner
        self.up, self.life = True, 0
        self.key = key_of(name)
        self._chosen: dict[bytes, list[Made]] = {}
        self._accepts: dict[tuple[Statement, bytes], dict[bytes, bytes]] = {}

    def start(self) -> None:
        for window in range(self.sim.plan.windows):
            for wait_ms in (600, 3_500, 14_000):
                at = self.sim.d.end_ms(window) + wait_ms
                self.sim.world.at(at, self._attack, window)

    def observe(self, raws: list[bytes]) -> None:
        pass

    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None:
        pass

    def _attack(self, window: int) -> None:
        bases = {
            (m.base.window, m.base.size, m.base.root)
            for v in self.sim.validators.values()
            if (m := v.machine) is not None and m.base.window == window
        }
        for base in sorted(bases):
            for members in self._sets(window):
                self._propose(base, members)

    def _sets(self, window: int) -> list[list[Made]]:
        d, rng = self.sim.d, self.sim.rng
        made = self.sim.history.made.values()
        now_s = self.sim.sent_now_s()
        known = [m for m in made if m.valid_in(window, d) and m.sent_s <= now_s + 10]
        in_log = {id_ for v in self.sim.history.chains.values() for b in v for id_ in b.ids}
        new = sorted((m for m in known if m.id not in in_log), key=lambda m: m.order)
        every, new = new, new[: d.batch_max_envelopes]
        old = [m for m in known if m.id in in_log]
        broken = [m for m in made if not m.valid_in(window, d)]
        match self.manner:
            case "omit":
                return [new[1:] if new else []]
            case "worst":
                return [every[-d.batch_max_envelopes :]]
            case "withhold":
                return [[self.sim.plan.mint.make(now_s)]]
            case "empty":
                return [[]]
            case "invalid":
                broken = broken or [self.sim.plan.mint.random_defect(now_s)]
                return [[*new, rng.choice(broken)]]
            case "repeat":
                return [[*new, rng.choice(old)]] if old else [new]
            case "copies":
                return [new] * 5
            case _:
                return [new]

    def _propose(self, base: Statement, members: list[Made]) -> None:
        d = self.sim.d
        segment = build(
            d.set_id,
            {
                m.id: Member(topic_key(d.set_id, bytes(4)), base[0], m.sent_s, m.id, m.raw)
                if m.defect
                else self.sim.member(m, base[0])
                for m in members
            }.values(),
            first_window=base[0],
            bucket_bits=d.bucket_bits,
        )
        cid = segment.root_cid
        if self.manner == "foreign-cid":
            cid = cid[:4] + sha256(cid).digest()
        self._chosen[cid] = members
        raws = tuple(m.raw for m in members)
        archived = Archived(base[0], cid, segment, tuple(m.id for m in members), raws)
        self.sim.hostile_batches[cid] = archived
        p = Proposal.make(
            self.key,
            set_id=d.set_id,
            window=base[0],
            base_size=base[1],
            base_root=base[2],
            cid=cid,
            count=segment.count,
            size_bytes=segment.bytes_,
            ids=tuple({m.id for m in members}),
        )
        self.sim.history.note("attacks", self.name, base[0], self.manner, cid, segment.count)
        for name in self.sim.d_names:
            self._send(name, "proposal", (p,), base, cid)

    def _send(self, peer: str, op: str, args: tuple[Any, ...], base: Statement, cid: bytes) -> None:
        def replied(answer: Answer) -> None:
            self.sim.history.note("hears", self.name, peer, answer.kind, answer.code)
            if answer.kind == "accept":
                self._collect(base, cid, answer)
            if answer.kind == "need" and op == "proposal" and self.manner != "withhold":
                raws = [m.raw for m in self._chosen[cid] if m.id in answer.ids]
                self._send(peer, "push", (self.key.public_key, cid, raws), base, cid)

        self.sim.links.call(self, peer, op, args, replied, lambda: None)

    def _collect(self, base: Statement, cid: bytes, answer: Answer) -> None:
        """Certify what n − f fell for."""
        accepts = self._accepts.setdefault((base, cid), {})
        accepts[answer.key_id] = answer.signature
        if len(accepts) == self.sim.d.k:
            chosen = tuple(sorted(accepts.items()))
            data = Certificate(self.sim.d.set_id, *base, cid, chosen).encode()
            self.sim.history.note("certified", self.name, base[0], cid)
            self.sim.engine.submit(self.name, data)
