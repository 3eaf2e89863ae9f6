"""What a validator answers to others: of its machine what is due, of its disk what is durable."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from restante.errors import Invalid
from restante.formats.message import Answer, PoolPage, Proposal
from restante.rules.actions import Action
from restante.rules.validator import Validator
from restante.testing.sim.disk import Disk, Journal, PeerCosignature, RolledUp
from restante.testing.sim.links import Reply
from restante.testing.sim.party import Crash, ProposingParty

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation


class ServingParty(ProposingParty):
    """The serving half of a validator process."""

    def __init__(self, sim: "Simulation", name: str) -> None:
        super().__init__(sim, name)
        self.disk = Disk(name.encode().ljust(16, b"."))
        self.machine: Validator | None = None
        self._known: dict[tuple[bytes, bytes], Proposal] = {}
        self._reply: Reply | None = None

    @abstractmethod
    def kept(self) -> Any: ...

    @abstractmethod
    def _durably(self, journal: Journal[Any], *records: Any) -> None: ...

    def serve(self, op: str, source: str, args: tuple[Any, ...], reply: Reply) -> None:
        machine = self.machine
        if machine is None:  # it listens once it knows where it is
            return
        match op, args:
            case "proposal", (Proposal() as p,):
                try:
                    self.sim.verify(p)
                except Invalid as error:
                    reply(Answer.refused(error.code))
                    return
                self._known[(p.key, p.cid)] = p
                self._judge(reply, lambda now: machine.proposal(p, now))
            case "push", (key, cid, raws):
                pushed = self._known.get((key, cid))
                if pushed is None:
                    reply(Answer.resend())
                else:
                    known = pushed
                    self._judge(reply, lambda now: machine.pushed(known, raws, now))
            case "certificate", (data,):
                try:
                    self.run(lambda now: machine.certificate(data, now))
                except Invalid as error:
                    self.sim.history.note("refuses", self.name, error.code)
                reply(True)
            case "pool", (after,):
                reply(self._pool_page(machine, after))
            case "bodies", (ids,):
                reply([raw for id_ in ids if (raw := self.body(id_)) is not None])
            case "batch", (window, cid):
                reply(self.disk.batch(window, cid))
            case "rollup", (window,):
                reply(self.disk.covering(window))
            case "cosignature", (of,):
                reply(self._newest_of(of))
            case "read-cosignature", (of, size, root, value):
                if self._newest_of(of)[0] < size:
                    record = PeerCosignature(of, size, root, value)
                    try:
                        self._durably(self.disk.lock, record)
                    except Crash:
                        self.crash()
                        return
                    self._heed(size, root)
                reply(True)
            case "log", (size,):
                decisions = self.disk.decisions()[size : size + 4]
                reply([(x.entry, self.disk.ids(x)) for x in decisions])
            case "kept", ():
                reply(self.kept())

    def _heed(self, size: int, root: bytes) -> None:
        """Who is behind a tree that k cosigned need not sign all before it (R6). Byzantine keys
        lend a hand wherever they are wanted."""
        machine = self.machine
        if machine is None or size < machine.base.size + 2:
            return
        signers = {
            record.peer
            for record in self.disk.lock.records
            if isinstance(record, PeerCosignature) and (record.size, record.root) == (size, root)
        }
        if len(signers | set(self.sim.byzantine)) >= self.sim.d.k:
            told = self.sim.history.told
            told[self.name] = max(size, told.get(self.name, 0))
            self.run(lambda now: machine.cosigned_by_k(size, root, now))

    def _judge(self, reply: Reply, handler: Callable[[int], list[Action]]) -> None:
        self._reply = reply
        self.run(handler)
        self._reply = None

    def _pool_page(self, machine: Validator, after: int) -> PoolPage:
        index = machine.index
        start = min(max(after, index.floor), index.size)
        rows = list(index.rows(start, start + self.sim.plan.pool_page_ids))
        window = machine.last_frozen if machine.last_frozen in machine.freezes else None
        return PoolPage(
            self.disk.pool_id,
            index.floor,
            after,
            tuple(row.id for row in rows),
            start + len(rows),
            window,
            machine.freezes[window] if window is not None else 0,
        )

    def body(self, id_: bytes) -> bytes | None:
        """A durable body, of the pool or of a batch."""
        assert self.machine is not None
        row = self.machine.index.get(id_)
        if row is not None and row.position < self.disk.pool.synced:
            return self.disk.body(row.position)
        for record in self.disk.archive.records:
            if isinstance(record, RolledUp):
                members = [(member, raw) for _, member, raw in record.records]
            else:
                members = list(zip(record.ids, record.raws, strict=True))
            for member, raw in members:
                if member == id_:
                    return raw
        return None

    def _newest_of(self, name: str) -> tuple[int, bytes, bytes | None]:
        for record in reversed(self.disk.lock.records):
            if isinstance(record, PeerCosignature) and record.peer == name:
                return record.size, record.root, record.value
        return 0, b"", None
