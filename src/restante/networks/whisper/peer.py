"""One peer: what it wants, what it has, what it brought and what it cost. Pure.

Nothing is ever given to a peer for which geth would cut us off: work below *its* floor, a topic
outside its filter, a sent time in its future, what has expired, TTL 0, packets of 1 MiB.
"""

from collections import Counter
from typing import Any

from restante import limits
from restante.formats import rlp
from restante.networks.whisper import bloom
from restante.networks.whisper.messages import Status
from restante.networks.whisper.relay import Live, Relay

# How far a peer's clock may be behind ours before an envelope that is exactly worked is too low in
# PoW there: geth lets what it takes for the future work for the seconds ahead, and cuts off else.
# Clocks that are kept by anybody differ by less.
PEER_BEHIND_S = 2
# What a list's header adds to a packet of envelopes.
_PACKET_HEADER = len(rlp.list_header(limits.WHISPER_MAX_MESSAGE_BYTES))

GIVE, LATER, NEVER = range(3)


class Budget:
    """What a peer may make us do for nothing: a bucket of units that fills with real time."""

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._then_s = now_s

    def spend(self, units: int, now_s: float) -> bool:
        """Take so many, if they are there. `now_s`: monotonic seconds."""
        filled = self._left + (now_s - self._then_s) * self._per_s
        self._then_s = now_s
        self._left = min(float(self._burst), filled)
        if self._left < units:
            return False
        self._left -= units
        return True


class PeerState:
    """A peer since its link began."""

    def __init__(self, slot: int, relay: Relay, now_s: float) -> None:
        """`slot`: its bit in what envelopes know; `now_s`: monotonic seconds."""
        self.slot = slot
        self.bit = 1 << slot
        self.status: Status | None = None
        """None until it came: nothing is given before."""
        self.confirms = False
        """Whether it wants to be told what became of each packet."""
        self.pow = 0.0
        self.bloom = bloom.FULL
        self.useless = Budget(limits.SHH_USELESS_PER_S, limits.SHH_USELESS_BURST, now_s)
        self.requests = Budget(limits.SHH_REQUESTS_PER_S, limits.SHH_REQUESTS_BURST, now_s)
        self.cursor = relay.start
        self._rewind = False
        self._rewinds = Budget(limits.SHH_REWIND_LOOKS_PER_S, limits.SHH_REWIND_LOOKS, now_s)
        self.held: list[Live] = []
        self.got = self.new = self.repeats = self.sent = 0
        self.packets_in = self.packets_out = self.bytes_in = self.bytes_out = 0
        self.refused: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        """What it said of our packets: `taken`, `out-of-time`, `refused`."""
        self._packets_per_s = 0.0
        self._next_packet_s = now_s

    # --- what it wants ------------------------------------------------------------------------

    def greeted(self, status: Status) -> None:
        """Take its Status."""
        self.status = status
        self.pow = status.pow
        self.bloom = status.bloom
        self.confirms = status.confirmations
        self.limited(status.rates)

    def limited(self, rates: tuple[int, int, int]) -> None:
        """Keep to the packets per second that it takes of one address or node; 0: any number."""
        of_us = [rate for rate in rates[:2] if rate]
        self._packets_per_s = float(min(of_us)) if of_us else 0.0

    def demands(self, pow_: float | None, bloom_: int | None) -> None:
        """Take a new floor or filter, at once (geth gives ten seconds); what it did not want
        before and now may want, it is offered again, as often as its budget pays for."""
        wider = False
        if pow_ is not None:
            wider = pow_ < self.pow
            self.pow = pow_
        if bloom_ is not None:
            wider = wider or bool(bloom_ & ~self.bloom)
            self.bloom = bloom_
        self._rewind = self._rewind or wider

    def stance(self, live: Live, earliest_s: int, latest_s: int) -> int:
        """GIVE, LATER or NEVER: whether this peer is given an envelope when its clock reads
        something between the two."""
        if live.knows & self.bit or not live.raw or live.expiry_s <= latest_s:
            return NEVER
        if self.bloom != bloom.FULL and live.sample & ~self.bloom:
            return NEVER
        if live.effort / live.ttl_s < self.pow:
            return NEVER
        # geth also wants 20 + the data's bytes within the limit, which are fewer.
        if len(live.raw) + _PACKET_HEADER >= limits.WHISPER_MAX_MESSAGE_BYTES:
            return NEVER
        if live.sent_s > earliest_s or live.pow(earliest_s - PEER_BEHIND_S) < self.pow:
            return LATER
        return GIVE

    # --- what it is given ---------------------------------------------------------------------

    def packet(
        self, relay: Relay, clock_s: tuple[int, int], looks: int, now_s: float
    ) -> tuple[list[bytes], int]:
        """Envelopes for one packet, which count as given, and how many were looked at: `looks` at
        most. Empty when there is nothing (yet), or the peer takes no more packets for now.

        clock_s: what its clock reads, at least and at most; now_s: monotonic.
        """
        if self.status is None or now_s < self._next_packet_s:
            return [], 0
        if self._rewind and self._rewinds.spend(max(0, self.cursor - relay.start), now_s):
            self._rewind = False
            self.cursor = relay.start
            self.held.clear()  # they stand in the log
        raws: list[bytes] = []
        room = limits.SHH_PACKET_BYTES
        held = self.held[: (looks + 1) // 2]
        rest = self.held[len(held) :]
        self.held = []
        looked = 0
        while looked < len(held) and room > 0:
            room -= self._consider(held[looked], clock_s, raws)
            looked += 1
        # Where there was room, those that still have to wait go behind what was not looked at.
        rest = held[looked:] + rest
        self.held = rest + self.held if room > 0 else self.held + rest
        cursor = max(self.cursor, relay.start)
        while looked < looks and room > 0 and cursor < relay.stop:
            room -= self._consider(relay.log[cursor - relay.start], clock_s, raws)
            cursor += 1
            looked += 1
        self.cursor = cursor
        del self.held[: -limits.SHH_HELD]
        if raws:
            self.sent += len(raws)
            self.packets_out += 1
            if self._packets_per_s:
                self._next_packet_s = now_s + 1 / self._packets_per_s
        return raws, looked

    def behind(self, relay: Relay) -> bool:
        """Whether there is more in the log for it than it was offered."""
        return self.status is not None and self.cursor < relay.stop

    def _consider(self, live: Live, clock_s: tuple[int, int], raws: list[bytes]) -> int:
        """Put an envelope into the packet if it is due; answers the bytes that it takes there.

        An envelope goes in whole where there was any room, unless it brings the packet to 1 MiB.
        """
        stance = self.stance(live, *clock_s)
        if stance == LATER:
            self.held.append(live)
        if stance != GIVE:
            return 0
        size = len(live.raw)
        if raws and size > limits.SHH_PACKET_BYTES:
            self.held.append(live)  # large ones travel alone, with the next packet
            return limits.SHH_PACKET_BYTES
        live.knows |= self.bit
        raws.append(live.raw)
        self.bytes_out += size
        return size

    # --- what an operator sees ----------------------------------------------------------------

    def row(self) -> dict[str, Any]:
        """Its part of `peers`: see WhisperNetwork.peers."""
        return {
            "pow": self.pow,
            "full": self.bloom == bloom.FULL,
            "bloom_bits": self.bloom.bit_count(),
            "light": self.status is not None and self.status.light,
            "confirmations": self.status is not None and self.status.confirmations,
            "packets_per_s": self._packets_per_s,
            "got": self.got,
            "new": self.new,
            "repeats": self.repeats,
            "refused": dict(self.refused),
            "sent": self.sent,
            "told": dict(self.told),
            "packets_in": self.packets_in,
            "packets_out": self.packets_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
