"""How far this node's clock may be from its peers'.

An answer names the peer's time; the request's round trip bounds the offset to an interval. Only
when the *whole* interval to the median of the peers lies outside N/30 is the clock not trusted: a
slow network proves nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offset:
    """The peer's time less ours, in ms: somewhere between the two."""

    least_ms: int
    greatest_ms: int

    @classmethod
    def measured(cls, sent_ms: int, received_ms: int, peer_ms: int) -> "Offset":
        """From our times of sending and receiving, and the time that the peer named between."""
        return cls(peer_ms - received_ms, peer_ms - sent_ms)


class Offsets:
    """The newest offset of each peer."""

    def __init__(self, window_s: int) -> None:
        self._bound_ms = window_s * 1000 // 30
        self._newest: dict[str, Offset] = {}

    def note(self, peer: str, offset: Offset) -> None:
        """Take a peer's newest measurement."""
        self._newest[peer] = offset

    def forget(self, peer: str) -> None:
        """A peer that does not answer says nothing of the time."""
        self._newest.pop(peer, None)

    def median(self) -> Offset | None:
        """Bounds of the median of the peers' offsets and our own, 0; None without peers.

        We count ourselves, and of two middle ones the nearer to us counts: one liar among two
        peers that answer must not silence us.
        """
        if not self._newest:
            return None
        offsets = [Offset(0, 0), *self._newest.values()]
        return Offset(
            _middle([offset.least_ms for offset in offsets]),
            _middle([offset.greatest_ms for offset in offsets]),
        )

    @property
    def trusted(self) -> bool:
        """Whether our clock can be right within N/30."""
        median = self.median()
        if median is None:
            return True
        return median.least_ms <= self._bound_ms and median.greatest_ms >= -self._bound_ms


def _middle(values_ms: list[int]) -> int:
    ordered = sorted(values_ms)
    half = len(ordered) // 2
    return min(ordered[(len(ordered) - 1) // 2], ordered[half], key=abs)
