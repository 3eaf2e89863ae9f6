"""R6: every size in order, at most once, only consistent with all that was signed before."""

from dataclasses import dataclass

from restante.errors import StateError, VerificationFailed
from restante.formats.checkpoint import Checkpoint, verify_cosignature
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1, VerifierKey
from restante.rules.actions import Cosign


@dataclass(frozen=True, slots=True)
class Signed:
    """A tree that this key cosigned."""

    size: int
    root: bytes


class LostKey(StateError):
    """Peers remember more than the lock state: it was lost or restored (R6)."""

    code = "lock-behind-peers"
    hint = (
        "this validator's lock/ is older than what it signed; it may never sign again. "
        "The set has to be succeeded, or go on without this validator"
    )


class SplitTree(StateError):
    """The log that was rebuilt contradicts a tree that this key cosigned."""

    code = "split-tree"
    hint = "the engine showed another history than before; nothing is signed any more"


class Cosigner:
    """Which trees may be cosigned now.

    Signing starts only after n − f − 1 peers have answered with the newest cosignature of this
    key that they know (nobody to ask at n = 1), and never behind it: that is what detects a lock
    state that came out of a backup.
    """

    def __init__(self, d: Descriptor, key: SigningKey, newest: Signed | None) -> None:
        self._d = d
        self._key = key
        self._newest = newest
        self._own = VerifierKey(key.name, COSIGNATURE_V1, key.public_key)
        self._unsigned: list[Signed] = []
        self._ahead: Signed | None = None
        """What k cosigned and the own log has not reached."""
        self._answered: set[str] = set()

    @property
    def newest(self) -> Signed | None:
        return self._newest

    @property
    def ready(self) -> bool:
        """Whether enough peers have answered for anything to be signed."""
        return len(self._answered) >= self._d.n - self._d.f - 1

    def remembered(self, peer: str, size: int, root: bytes, value: bytes | None) -> None:
        """Take a peer's answer: the newest cosignature of this key it knows, or None.

        A claim that this key did not sign proves nothing and does not count as an answer.
        Raises LostKey.
        """
        if value is not None:
            text = Checkpoint(self._d.origin, size, root).text()
            try:
                verify_cosignature(text, self._own, value)
            except VerificationFailed:
                return
            if self.contradicts(size, root):
                raise LostKey(f"{peer} holds our cosignature of size {size}, the lock does not")
        self._answered.add(peer)

    def contradicts(self, size: int, root: bytes) -> bool:
        """Whether a tree signed by this key is unknown to its lock state."""
        own = self._newest
        return own is None or size > own.size or (size == own.size and root != own.root)

    def grown(self, size: int, root: bytes) -> None:
        """The log reached (size, root). Raises SplitTree when the key signed another such tree."""
        if self._newest is not None and size <= self._newest.size:
            self._check_consistent(size, root, self._newest)
            return
        self._unsigned.append(Signed(size, root))
        if self._ahead is not None and size == self._ahead.size:
            tree, self._ahead = self._ahead, None
            self._pass_over(tree)

    @staticmethod
    def _check_consistent(size: int, root: bytes, newest: Signed) -> None:
        if size == newest.size and root != newest.root:
            raise SplitTree(f"size {size} was cosigned with another root")

    def cosigned_by_k(self, size: int, root: bytes) -> None:
        """Take a tree that k validators cosigned: smaller ones need no cosignature of this key.

        They are passed over once the own log has this root at this size, which proves that they
        are its prefixes; until the log has come so far nothing is signed. The tree itself is signed
        as ever. Raises SplitTree when the own log has another root there.
        """
        newest, known = self._newest, [tree.size for tree in self._unsigned]
        if newest is not None and size <= newest.size:
            self._check_consistent(size, root, newest)
        elif size in known:
            self._pass_over(Signed(size, root))
        elif size > max([*known, self._ahead.size if self._ahead else 0]):
            self._ahead = Signed(size, root)

    def _pass_over(self, tree: Signed) -> None:
        if tree not in self._unsigned:
            raise SplitTree(f"k validators cosigned another tree of size {tree.size}")
        del self._unsigned[: self._unsigned.index(tree)]

    def due(self, now_ms: int) -> list[Cosign]:
        """The cosignatures to make now, in order. Each is persisted before it leaves."""
        if not self.ready or self._ahead is not None:
            return []
        actions = []
        for tree in self._unsigned:
            text = Checkpoint(self._d.origin, tree.size, tree.root).text()
            time_s = now_ms // 1000
            value = self._key.cosignature(text, time_s).value
            actions.append(Cosign(tree.size, tree.root, text, time_s, value))
            self._newest = tree
        self._unsigned.clear()
        return actions
