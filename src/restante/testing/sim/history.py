"""The omniscient record of a run: what every honest validator durably did and let out."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from restante.formats.descriptor import Descriptor
from restante.formats.entry import parse
from restante.testing.sim.workload import Made

TRACE_EVENTS = 40


class Batch(NamedTuple):
    """A committed batch in a validator's chain."""

    window: int
    cid: bytes
    ids: frozenset[bytes]
    root: bytes
    """Of the log that ends with it."""
    entry: bytes
    """Its log entry."""

    @property
    def rollups(self) -> tuple[bytes | None, ...]:
        """What the entry names."""
        return parse(self.entry).rollups


class Commit(NamedTuple):
    """A validator committed `chain[-1]`, its chain being what it followed so far."""

    node: str
    chain: tuple[Batch, ...]
    at_ms: int


class History:
    """Facts in order; invariants read those that came since they last looked."""

    def __init__(self, d: Descriptor, made: dict[bytes, Made]) -> None:
        self.d = d
        self.made = made
        self.now_ms = 0
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=TRACE_EVENTS)
        self.dirty = False
        self.listeners: list[Callable[[str, str, tuple[Any, ...]], None]] = []
        self.honest: set[str] = set()
        self.byzantine: set[str] = set()
        # node → id → (position, arrival_ms by its own clock), durable
        self.pooled: dict[str, dict[bytes, tuple[int, int]]] = {}
        self.frozen: dict[str, dict[int, int]] = {}
        self.chains: dict[str, tuple[Batch, ...]] = {}
        self.commits: list[Commit] = []
        # node → size → (root, value): cosignatures that left the node
        self.cosigned: dict[str, dict[int, set[tuple[bytes, bytes]]]] = {}
        # (size, root) → roots of all its prefixes
        self.trees: dict[tuple[int, bytes], tuple[bytes, ...]] = {}
        self.new_trees: list[tuple[int, bytes]] = []
        self.accepted: list[tuple[str, int, int, bytes, bytes]] = []
        self.batches: dict[bytes, frozenset[bytes]] = {}
        self.certified: list[tuple[int, bytes, str | None]] = []
        self.lost: list[str] = []  # I6, found where it happens
        # CIDs of a log's batches → who committed the last first, and how (I8)
        self.logs: dict[tuple[bytes, ...], tuple[str, Batch]] = {}
        # (span, CIDs of its batches) → the roll-up's, reckoned
        self.reckoned: dict[tuple[Any, tuple[bytes, ...]], bytes | None] = {}
        # node → the greatest size that it knows k to have cosigned, and the sizes it passed over
        self.told: dict[str, int] = {}
        self.passed: dict[str, set[int]] = {}
        self.adopted: dict[str, int] = {}  # node → size
        self.unproved: list[str] = []  # passed over without that, found where it happens
        # Times in which some honest validator was down, cut off or its clock wrong.
        self.disturbances: list[tuple[int, int]] = []
        self.ended: str | None = None

    def note(self, verb: str, node: str, *details: Any) -> None:
        """Add a line to the trace and tell the hooks."""
        self.trace.append((self.now_ms, node, verb, *details))
        for listen in self.listeners:
            listen(verb, node, details)

    # --- facts ------------------------------------------------------------------------------

    def pool(self, node: str, id_: bytes, position: int, arrival_ms: int) -> None:
        self.pooled[node][id_] = (position, arrival_ms)
        self.note("pooled", node, id_, position)

    def freeze(self, node: str, window: int, position: int) -> None:
        before = self.frozen[node].setdefault(window, position)
        if before != position:
            self.lost.append(f"{node} froze window {window} at {before}, then at {position}")
        self.note("froze", node, window, position)

    def commit(self, node: str, batch: Batch) -> None:
        chain = (*self.chains[node], batch)
        self.chains[node] = chain
        self.commits.append(Commit(node, chain, self.now_ms))
        self.trees.setdefault((len(chain), batch.root), tuple(b.root for b in chain))
        self.dirty = True
        self.note("committed", node, batch.window, batch.cid, len(batch.ids))

    def cosign(self, node: str, size: int, root: bytes, value: bytes) -> None:
        self._pass_over(node, size, root)
        self.cosigned[node].setdefault(size, set()).add((root, value))
        self.new_trees.append((size, root))
        self.dirty = True
        self.note("cosigned", node, size, root)

    def _pass_over(self, node: str, size: int, root: bytes) -> None:
        """Every size is cosigned in order; what is left out must be proved to be needless."""
        before = max(max(self.cosigned[node], default=0), self.adopted.get(node, 0))
        gap = range(before + 1, size)
        if gap and (self.told.get(node, 0) < size or self.cosigners(size, root) < self.d.k):
            self.unproved.append(f"{node} passes over the sizes {gap[0]} to {gap[-1]}")
        self.passed.setdefault(node, set()).update(gap)

    def adopt(self, node: str, size: int, root: bytes) -> None:
        """A tree was taken over: k must have cosigned it, and it continues what the node signed."""
        if self.adopted.get(node) == size:
            return
        last = max(self.cosigned[node], default=0)
        prefix = self.trees.get((size, root))
        if prefix is None or self.cosigners(size, root) < self.d.k:
            self.unproved.append(f"{node} adopts size {size}, which k did not cosign")
        elif any(
            prefix[signed - 1] != mine
            for signed, trees in self.cosigned[node].items()
            for mine, _ in trees
        ):
            self.unproved.append(f"{node} adopts size {size}, which is not what it cosigned before")
        else:
            self.adopted[node] = size
            self.passed.setdefault(node, set()).update(range(last + 1, size + 1))
            self.chains[node] = next(
                c.chain for c in self.commits if len(c.chain) == size and c.chain[-1].root == root
            )

    def accept(self, node: str, window: int, size: int, root: bytes, cid: bytes) -> None:
        self.accepted.append((node, window, size, root, cid))
        self.note("accepted", node, window, size, cid)

    # --- questions --------------------------------------------------------------------------

    def held_at_cut_off(self, node: str, id_: bytes, window: int) -> bool:
        """Whether an honest validator durably held an envelope at its cut-off of a window."""
        where = self.pooled[node].get(id_)
        if where is None:
            return False
        position = self.frozen[node].get(window)
        if position is not None:
            return where[0] < position
        return where[1] < self.d.end_ms(window)

    def holders(self, id_: bytes, window: int) -> list[str]:
        """The honest validators that held an envelope at their cut-off of a window."""
        return [v for v in self.honest if self.held_at_cut_off(v, id_, window)]

    def quiet(self, from_ms: int, to_ms: int) -> bool:
        """Whether nothing disturbed the reading of pools in [from, to]."""
        return not any(start < to_ms and end > from_ms for start, end in self.disturbances)

    def cosigners(self, size: int, root: bytes) -> int:
        """How many keys a client may find under a tree: all Byzantine ones sign everything."""
        honest = sum(
            1
            for trees in self.cosigned.values()
            if any(root == other for other, _ in trees.get(size, ()))
        )
        return honest + len(self.byzantine)

    def lines(self) -> list[str]:
        """The trace for a person."""
        return [
            f"{(at - self.d.genesis_s * 1000) / 1000:9.3f} {node:4} {verb} "
            + " ".join(x.hex()[-8:] if isinstance(x, bytes) else str(x) for x in details)
            for at, node, verb, *details in self.trace
        ]
