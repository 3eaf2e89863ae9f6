"""What was shown already, where envelopes come by two ways: live from peers, and by the index.

Each is shown once, by whichever way it comes first. An id is kept for as long as either way may
bring it again: the index in a window that is not sealed yet, the network while the envelope lives.
"""

from collections.abc import Iterable

from restante import limits
from restante.formats.descriptor import Descriptor


class Shown:
    """Ids of what was shown lately, with their sent times."""

    def __init__(self, d: Descriptor, known: Iterable[tuple[bytes, int]] = ()) -> None:
        """`known`: (id, sent time in unix seconds) of what was shown before, oldest first."""
        self._d = d
        self._sent_s = dict(known)

    def first(self, id_: bytes, sent_s: int) -> bool:
        """Whether it was not shown yet; it counts as shown from now on.

        Beyond WATCH_SHOWN_IDS the oldest are forgotten, and may be shown again.
        """
        if id_ in self._sent_s:
            return False
        self._sent_s[id_] = sent_s
        if len(self._sent_s) > limits.WATCH_SHOWN_IDS:
            del self._sent_s[next(iter(self._sent_s))]
        return True

    def caught(self, size: int) -> None:
        """Windows below `size` were read: forget what neither way can bring any more (R0)."""
        if size == 0:
            return
        final_s = self._d.final_before_s(size - 1)
        self._sent_s = {id_: sent for id_, sent in self._sent_s.items() if sent >= final_s}

    def items(self) -> Iterable[tuple[bytes, int]]:
        """(id, sent time) of all that are known, oldest first."""
        return self._sent_s.items()
