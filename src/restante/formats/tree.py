"""The Merkle tree of a log: RFC 6962 §2.1 hashing, proofs of RFC 9162 §2.1.3-§2.1.4, SHA-256.

A *perfect subtree* at (level, index) covers the leaves [index << level, (index + 1) << level).
Proofs are made from a function `hash_at(level, index)` that gives the hashes of perfect subtrees.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from restante.errors import VerificationFailed

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves."""

HashAt = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is needed of a tree to append to it: one root per set bit of its size."""

    size: int
    """Leaves."""
    nodes: tuple[bytes, ...]
    """Roots of the perfect subtrees that cover [0, size), the largest (leftmost) first."""

    EMPTY: ClassVar["Frontier"]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise ValueError("a frontier has one node per set bit of its size")

    def append(self, leaf: bytes) -> "Frontier":
        """The tree with one more leaf, given by its leaf hash."""
        nodes = list(self.nodes)
        size = self.size
        while size & 1:
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
        return Frontier(self.size + 1, (*nodes, leaf))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The tree with these leaf hashes appended in order."""
        frontier = self
        for leaf in leaves:
            frontier = frontier.append(leaf)
        return frontier

    def root(self) -> bytes:
        """The root hash (RFC 6962 §2.1): smaller subtrees hang to the right of larger ones."""
        if not self.nodes:
            return EMPTY_ROOT
        digest = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            digest = node_hash(node, digest)
        return digest


Frontier.EMPTY = Frontier(0, ())


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    return Frontier.EMPTY.extend(leaf_hashes).root()


def perfect_subtrees(size: int) -> list[tuple[int, int]]:
    """(level, index) of the perfect subtrees that cover [0, size), the largest first."""
    return [
        (level, (size >> level) - 1)
        for level in reversed(range(size.bit_length()))
        if size >> level & 1
    ]


def frontier_at(size: int, hash_at: HashAt) -> Frontier:
    """The frontier of the first `size` leaves."""
    return Frontier(size, tuple(hash_at(*subtree) for subtree in perfect_subtrees(size)))


def _split(width: int) -> int:
    """The largest power of two below `width` >= 2."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_root(start: int, end: int, hash_at: HashAt) -> bytes:
    """The root over leaves [start, end), a range that RFC 6962's recursion reaches."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return hash_at(level, start >> level)
    middle = start + _split(width)
    return node_hash(_range_root(start, middle, hash_at), _range_root(middle, end, hash_at))


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size`, from the leaf up (RFC 6962 §2.1.1).

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, hash_at))
            end = middle
        else:
            path.append(_range_root(start, middle, hash_at))
            start = middle
    path.reverse()
    return path


def consistency_proof(old: int, size: int, hash_at: HashAt) -> list[bytes]:
    """The proof that the tree of `old` leaves is a prefix of that of `size` (RFC 6962 §2.1.2).

    Empty where nothing needs proof: old = 0 or old = size. ValueError unless 0 <= old <= size.
    """
    if not 0 <= old <= size:
        raise ValueError("no such older tree")
    if old in (0, size):
        return []
    start, end, proof, whole = 0, size, [], True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, hash_at))
            end = middle
        else:
            proof.append(_range_root(start, middle, hash_at))
            start, whole = middle, False
    if not whole:  # else this subtree is the old tree itself, whose root the verifier has
        proof.append(_range_root(start, end, hash_at))
    proof.reverse()
    return proof


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check an audit path (RFC 9162 §2.1.3.2). `leaf` is a leaf hash.

    Raises VerificationFailed, code `inclusion`.
    """
    if not 0 <= index < size:
        raise VerificationFailed("the leaf is not in the tree", code="inclusion")
    node, last, digest = index, size - 1, leaf
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            raise VerificationFailed("an inclusion proof has the wrong length", code="inclusion")
        if node & 1 or node == last:
            digest = node_hash(sibling, digest)
            while node & 1 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or digest != root:
        raise VerificationFailed("the leaf is not under the root", code="inclusion")


def verify_consistency(
    old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that (old, old_root) is a prefix of (size, root) (RFC 9162 §2.1.4.2).

    Raises VerificationFailed, code `consistency`.
    """
    if not 0 <= old <= size:
        raise VerificationFailed("the older tree is the larger one", code="consistency")
    if old in (0, size):
        # The empty tree is a prefix of every tree, and a tree of itself: nothing to prove.
        if proof or old_root != (EMPTY_ROOT if old == 0 else root):
            raise VerificationFailed("two trees of one size differ", code="consistency")
        if size == 0 and root != EMPTY_ROOT:
            raise VerificationFailed("the empty tree has one root", code="consistency")
        return
    if any(len(node) != HASH_BYTES for node in proof):
        raise VerificationFailed("a proof's node is no hash", code="consistency")
    # A perfect old tree is its own first node; the proof leaves it out.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path or not proof:
        raise VerificationFailed("a consistency proof is empty", code="consistency")
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise VerificationFailed("a consistency proof is too long", code="consistency")
        if node & 1 or node == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while node & 1 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or older != old_root or newer != root:
        raise VerificationFailed("the trees are not consistent", code="consistency")
