"""What is on its way: envelopes that live, in the order in which they were accepted, and who has
them. Pure; the pool is elsewhere, and nothing here decides what is kept for good.

Every id is in at most one place: *known* (it waits for its judge, or lives), or *faded* (judged,
and no more relayed). So a repeat costs one SHA-256 and a look-up, whenever it comes.

A peer walks along the log from its own place, so that a tick costs what is new, not what lives.
"""

from math import ldexp

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import whisper
from restante.formats.whisper import Keccak
from restante.networks.whisper import bloom
from restante.rules.valid import Facts

EVERYBODY = -1
"""Every bit: what is for nobody else."""


class Live:
    """An envelope on its way.

    id: SHA-256; raw: its bytes, empty once it is gone; gave, knows: bit masks of the peers that
    sent it to us, and that have it; waits: not judged yet. Of an accepted one: topic, sent_s,
    expiry_s, ttl_s, and what `effort` is made of when it is first asked for.
    """

    __slots__ = (
        "_effort", "_rank", "expiry_s", "gave", "id", "knows", "raw", "sent_s", "topic", "ttl_s",
        "waits",
    )  # fmt: skip

    def __init__(self, id_: bytes, raw: bytes, giver: int = 0) -> None:
        self.id = id_
        self.raw = raw
        self.gave = giver
        self.knows = giver
        self.waits = True
        self.topic = b""
        self.sent_s = self.expiry_s = self.ttl_s = 0
        self._rank = 0
        self._effort = -1.0

    @property
    def effort(self) -> float:
        """2^zeros / len(r): by the TTL it is the PoW as geth has it."""
        if self._effort < 0:
            # rank = ⌊2^(zeros + 64) / n⌋: the power of two is found again exactly, as n < 2^64.
            work_bytes = _work_bytes(self.raw)
            n = work_bytes * self.ttl_s
            zeros = (self._rank * n + n - 1).bit_length() - 65
            self._effort = ldexp(1.0, zeros) / work_bytes
        return self._effort

    def worked(self, zeros: int, work_bytes: int) -> None:
        """Set the effort of one whose hash is at hand."""
        self._effort = ldexp(1.0, zeros) / work_bytes

    def ranked(self, rank: int) -> None:
        """Set the effort of one whose rank is (rules.valid.Facts)."""
        self._rank = rank

    def pow(self, now_s: int) -> float:
        """As a geth whose clock reads `now_s` has it (TTL is not 0)."""
        ahead = self.sent_s - now_s
        return self.effort / (self.ttl_s + (ahead + 1 if ahead > 0 else 0))

    @property
    def sample(self) -> int:
        """Its bloom bits."""
        return bloom.sample(self.topic)


class Relay:
    """All envelopes that are known, and the log of those that live."""

    def __init__(self, keccak: Keccak) -> None:
        self._keccak = keccak
        self.known: dict[bytes, Live] = {}
        """By id; whoever brings something looks here first, then asks `is_faded`."""
        self.log: list[Live] = []
        """Accepted ones in order, from position `start` on; those that are gone are empty."""
        self.start = 0
        self.living = 0
        self.bytes = 0
        self._due: dict[int, list[Live]] = {}
        self._dated = 0
        self.faded: tuple[set[bytes], set[bytes]] = set(), set()
        """Ids that were judged and are no more relayed: the newer, and the older ones."""
        self._slots = Slots()

    @property
    def stop(self) -> int:
        """The position of the next one that is accepted."""
        return self.start + len(self.log)

    # --- the life of an envelope --------------------------------------------------------------

    def is_faded(self, id_: bytes) -> bool:
        recent, older = self.faded
        return id_ in recent or id_ in older

    def accept(self, live: Live, facts: Facts) -> None:
        """Let an envelope live that reception accepted."""
        if not live.waits:
            return  # it was handed in here meanwhile
        live.ranked(facts.rank)
        self._begin(live, facts.topic, facts.expiry_s, facts.ttl_s)

    def adopt(self, live: Live) -> bool:
        """Let an envelope live whose facts are not at hand: it is our own, or was in the pool
        before it came. False if it is none, or one that must never be sent: TTL 0, or a sent time
        that wraps around."""
        if not live.waits:
            return True  # it was handed in here meanwhile
        try:
            found = whisper.scan(live.raw)
        except InvalidEncoding:
            found = None
        if found is None or found.ttl_s == 0 or found.expiry_s < found.ttl_s:
            self.forget(live)
            return False
        zeros = whisper.leading_zeros(self._keccak(found.work + found.raw_nonce))
        live.worked(zeros, len(found.work))
        self._begin(live, found.topic, found.expiry_s, found.ttl_s)
        return True

    def forget(self, live: Live) -> None:
        """It was refused, or nobody judged it: when it comes again, it is new. But what was handed
        in here meanwhile lives."""
        if live.waits:
            self.known.pop(live.id, None)

    def expire(self, now_s: int) -> None:
        """Let go what has expired, and what is over the limits, oldest first."""
        for expiry_s in [each for each in self._due if each < now_s]:
            expired = self._due.pop(expiry_s)
            self._dated -= len(expired)
            for live in expired:
                self._fade(live)
        gone = 0
        while gone < len(self.log) and (
            not self.log[gone].raw
            or len(self.log) - gone > limits.SHH_LIVE_ENVELOPES
            or self.bytes > limits.SHH_LIVE_BYTES
        ):
            self._fade(self.log[gone])
            gone += 1
        if gone:
            del self.log[:gone]
            self.start += gone
        if self._dated > 2 * limits.SHH_LIVE_ENVELOPES:
            self._date_anew()

    def _begin(self, live: Live, topic: bytes, expiry_s: int, ttl_s: int) -> None:
        live.waits = False
        live.topic = topic
        live.expiry_s = expiry_s
        live.ttl_s = ttl_s
        live.sent_s = expiry_s - ttl_s
        self.known[live.id] = live
        self.log.append(live)
        self.living += 1
        self.bytes += len(live.raw)
        self._due.setdefault(expiry_s, []).append(live)
        self._dated += 1

    def _date_anew(self) -> None:
        """Those that went before their time are still under their second: leave them out."""
        self._due.clear()
        for live in self.log:
            if live.raw:
                self._due.setdefault(live.expiry_s, []).append(live)
        self._dated = self.living

    def _fade(self, live: Live) -> None:
        if not live.raw:
            return
        self.living -= 1
        self.bytes -= len(live.raw)
        live.raw = b""
        self.known.pop(live.id, None)
        recent, older = self.faded
        if len(recent) >= limits.SHH_FADED_IDS:
            older, recent = recent, set()
            self.faded = recent, older
        recent.add(live.id)

    # --- peers' bits --------------------------------------------------------------------------

    def take_slot(self) -> int:
        """A bit (a number from 0) that stands for a peer from now on."""
        slot = self._slots.take()
        if slot is None:
            stale = self._slots.wash()
            for live in self.known.values():
                live.gave &= ~stale
                if live.knows != EVERYBODY:
                    live.knows &= ~stale
            slot = self._slots.take()
        assert slot is not None
        return slot

    def free_slot(self, slot: int) -> None:
        self._slots.free(slot)


class Slots:
    """Bits that stand for peers. One that was freed is still set in what its peer knew, so those
    are washed many at a time: who comes and goes costs no walk through all that lives."""

    _WASHED_AT_ONCE = 64

    def __init__(self) -> None:
        self._clean: list[int] = []
        self._used: list[int] = []
        self._count = 0

    def take(self) -> int | None:
        """A clean one; None where others must be washed first."""
        if self._clean:
            return self._clean.pop()
        if len(self._used) >= self._WASHED_AT_ONCE:
            return None
        self._count += 1
        return self._count - 1

    def free(self, slot: int) -> None:
        self._used.append(slot)

    def wash(self) -> int:
        """A mask of the used ones, which the caller clears everywhere: they are clean then."""
        self._clean, self._used = self._used, []
        return sum(1 << slot for slot in self._clean)


def _work_bytes(raw: bytes) -> int:
    """len(r) of an envelope that was found canonical: its first four fields in a list."""
    at = start = 1 if raw[0] < 0xF8 else raw[0] - 0xF6
    for _ in range(4):
        prefix = raw[at]
        if prefix < 0x80:
            at += 1
        elif prefix < 0xB8:
            at += prefix - 0x7F
        else:
            width = prefix - 0xB7
            at += 1 + width + int.from_bytes(raw[at + 1 : at + 1 + width], "big")
    size = at - start
    return size + (1 if size < 56 else 1 + (size.bit_length() + 7) // 8)
