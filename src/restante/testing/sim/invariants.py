"""I1 to I6 and I8 of the design, and what roll-ups must be: each a function over the history.

Each yields what is wrong. They are asked after every event; those that can only change with a
commit, a cosignature or a certificate look at what came since they last did.
"""

from collections.abc import Callable, Iterator

from restante.testing.sim import reckoning
from restante.testing.sim.history import Batch, Commit, History
from restante.testing.sim.workload import Made, full


class Violation(AssertionError):
    """Invariants do not hold; one event may break more than one."""

    def __init__(self, found: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {detail}" for name, detail in found.items()))
        self.invariants = tuple(found)


def _left_out(h: History, chain: tuple[Batch, ...]) -> Iterator[Made]:
    """Valid envelopes of the last window that neither it nor an earlier batch holds, and that a
    full batch may not leave out."""
    batch = chain[-1]
    members = [h.made[id_] for id_ in batch.ids if id_ in h.made]
    is_full = full(members, h.d)
    worst = max((m.order for m in members), default=(0, b""))
    for made in h.made.values():
        if not made.valid_in(batch.window, h.d) or any(made.id in b.ids for b in chain):
            continue
        if not (is_full and made.order > worst):
            yield made


def i1(h: History, commit: Commit) -> Iterator[str]:
    """An envelope valid in w and held by f + 1 honest validators at their cut-off is in that
    window's batch or an earlier one, or the batch is full of better ones."""
    window = commit.chain[-1].window
    for made in _left_out(h, commit.chain):
        holders = h.holders(made.id, window)
        if len(holders) > h.d.f:
            yield f"window {window} of {commit.node} lacks {made.id.hex()[-8:]}, held by {holders}"


def i2(h: History, commit: Commit) -> Iterator[str]:
    """Nothing invalid, and nothing twice, is ever in a batch."""
    *earlier, batch = commit.chain
    for id_ in batch.ids:
        made = h.made.get(id_)
        if made is None or not made.valid_in(batch.window, h.d):
            why = "unknown" if made is None else made.defect or "outside the window"
            yield f"window {batch.window} of {commit.node} holds {id_.hex()[-8:]}: {why}"
        if any(id_ in b.ids for b in earlier):
            yield f"window {batch.window} of {commit.node} holds {id_.hex()[-8:]} again"


def i3(h: History, tree: tuple[int, bytes]) -> Iterator[str]:
    """No two checkpoints that satisfy a policy conflict, whatever the engine does."""
    if h.cosigners(*tree) < h.d.k:
        return
    size, _ = tree
    prefix = h.trees[tree]
    for (other_size, other_root), other_prefix in h.trees.items():
        least = min(size, other_size)
        if (
            prefix[least - 1] != other_prefix[least - 1]
            and h.cosigners(other_size, other_root) >= h.d.k
        ):
            yield f"trees of sizes {size} and {other_size} conflict, both with k cosignatures"


def i4(h: History, commit: Commit) -> Iterator[str]:
    """A late envelope held by one honest validator is, once R7 took it to the others, in the
    batch of the next window, or an earlier one.

    R7 takes it there within the window after the cut-off, if that passes undisturbed: what one
    honest validator held at the cut-off of w − 1 is in w.
    """
    window = commit.chain[-1].window
    if window == 0 or not h.quiet(h.d.end_ms(window - 1) - 2_000, h.d.end_ms(window)):
        return
    for made in _left_out(h, commit.chain):
        holders = h.holders(made.id, window - 1)
        if holders:
            yield (
                f"window {window} of {commit.node} lacks {made.id.hex()[-8:]}, which {holders} "
                f"held at the cut-off of window {window - 1}"
            )


def i8(h: History, commit: Commit) -> Iterator[str]:
    """The same batches give the same bytes on every machine: one history, one entry, one root."""
    batch = commit.chain[-1]
    log = tuple(b.cid for b in commit.chain)
    node, other = h.logs.setdefault(log, (commit.node, batch))
    if (other.root, other.entry) != (batch.root, batch.entry):
        yield f"window {batch.window} has one entry at {commit.node} and another one at {node}"


def due(h: History, commit: Commit) -> Iterator[str]:
    """Every entry names a roll-up, or none, of every span that comes due there, and no other; none
    only of one that is over the limit: a late one delays its window, and nobody skips it."""
    batch = commit.chain[-1]
    expected = reckoning.due(h.d, batch.window)
    if len(batch.rollups) != len(expected):
        yield f"window {batch.window} of {commit.node} names {len(batch.rollups)} roll-ups"
        return
    for of, cid in zip(expected, batch.rollups, strict=True):
        if (cid is None) != reckoning.is_none(of, commit.chain, h.made, h.d):
            what = "has none" if cid is None else "has one over the limit"
            yield f"window {batch.window} of {commit.node}: level {of.level} {what}"


def conserved(h: History, commit: Commit) -> Iterator[str]:
    """A roll-up has the records of its windows' batches, each once, in the one order, and not a
    byte else; an index says where they stand."""
    batch = commit.chain[-1]
    for of, cid in zip(reckoning.due(h.d, batch.window), batch.rollups, strict=False):
        spanned = tuple(b.cid for b in commit.chain[of.first : of.first + of.windows])
        if (of, spanned) not in h.reckoned:
            h.reckoned[of, spanned] = reckoning.cid_of(h.d, of, commit.chain, h.made)
        if cid is not None and cid != h.reckoned[of, spanned]:
            yield (
                f"window {batch.window} of {commit.node} names a roll-up of level {of.level} that "
                f"does not follow from windows {of.first} to {of.first + of.windows - 1}"
            )


PER_COMMIT: dict[str, Callable[[History, Commit], Iterator[str]]] = {
    "I1": i1,
    "I2": i2,
    "I4": i4,
    "I8": i8,
    "due": due,
    "conserved": conserved,
}


class Checker:
    """Asks the invariants what came since it last asked."""

    def __init__(self, history: History, checks: frozenset[str]) -> None:
        self._h = history
        self._checks = checks
        self._commits = self._certified = 0
        self.asked = 0

    def check(self) -> None:
        """Raises Violation."""
        h = self._h
        self.asked += 1
        if h.lost or h.unproved:
            self._require({"I6": iter(h.lost), "passed": iter(h.unproved)})
        while self._certified < len(h.certified):
            window, cid, lacking = h.certified[self._certified]
            self._certified += 1
            if lacking is not None:
                detail = f"batch {cid.hex()[-8:]} of window {window}: {lacking}"
                self._require({"holder": iter([detail])})
        if not h.dirty:
            return
        h.dirty = False
        while self._commits < len(h.commits):
            commit = h.commits[self._commits]
            self._commits += 1
            self._require({name: check(h, commit) for name, check in PER_COMMIT.items()})
        for tree in h.new_trees:
            self._require({"I3": i3(h, tree)})
        h.new_trees.clear()

    def _require(self, asked: dict[str, Iterator[str]]) -> None:
        """Raises Violation with the first thing that each of them finds."""
        details = {n: next(found, None) for n, found in asked.items() if n in self._checks}
        broken = {name: detail for name, detail in details.items() if detail is not None}
        if broken:
            raise Violation(broken)
