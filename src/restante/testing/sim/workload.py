"""Envelopes for a simulation, each with what is true of it by a reckoning of its own.

The oracle here shares no code with `restante.rules`: a rule that is switched off or wrong must not
mislead the invariants too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from restante.formats import whisper
from restante.formats.descriptor import Descriptor

POW_FLOOR_MILLIONTHS = 10
MAX_ENVELOPE_BYTES = 4_096
# Data so long that the floor asks for 4 zero bits, where an ordinary envelope needs none.
HEAVY_DATA_BYTES = 3_000
DEFECTS = ("ttl-zero", "ttl-over-cap", "low-pow", "trailing", "oversized", "wraps")


def cheap_keccak(data: bytes) -> bytes:
    """Stands in for Keccak-256: any hash does for the rules, and this one is fast."""
    return sha256(b"simulated keccak" + data).digest()


@dataclass(frozen=True, slots=True)
class Made:
    """An envelope and what the oracle knows of it; `defect` is None for a valid one."""

    id: bytes
    raw: bytes
    sent_s: int
    ttl_s: int
    topic: bytes
    rank: int
    defect: str | None

    def valid_in(self, window: int, d: Descriptor) -> bool:
        """R0, reckoned anew from the parameters that the set committed to."""
        if self.defect is not None:
            return False
        least = d.genesis_s + window * d.window_s - d.ttl_max_s - d.slack_s
        most = d.genesis_s + (window + 1) * d.window_s + 10
        return least <= self.sent_s <= most

    @property
    def order(self) -> tuple[int, bytes]:
        """Its place in a full batch: most work first, then lowest id."""
        return (-self.rank, self.id)


class Mint:
    """Makes envelopes, all different."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.made: dict[bytes, Made] = {}

    def make(
        self, sent_s: int, ttl_s: int = 60, defect: str | None = None, heavy: bool = False
    ) -> Made:
        """One envelope, small or heavy; with a defect that R0 refuses wherever it stands."""
        rng = self._rng
        expiry_s, data_bytes = sent_s + ttl_s, HEAVY_DATA_BYTES if heavy else rng.randrange(1, 24)
        match defect:
            case "ttl-zero":
                expiry_s, ttl_s = sent_s, 0
            case "ttl-over-cap":
                expiry_s, ttl_s = sent_s + 301, 301
            case "wraps":
                expiry_s = ttl_s - 1
            case "oversized":
                data_bytes = MAX_ENVELOPE_BYTES + 1
            case "low-pow":
                expiry_s, ttl_s, data_bytes = sent_s + 300, 300, HEAVY_DATA_BYTES
        topic = bytes((7, 7, 7, rng.randrange(4)))
        data = rng.randbytes(data_bytes)
        while True:
            nonce = rng.getrandbits(40)
            raw = whisper.assemble(expiry_s, ttl_s, topic, data, nonce)
            scanned = whisper.scan(raw)
            digest = cheap_keccak(scanned.work + scanned.raw_nonce)
            zeros = 256 - int.from_bytes(digest, "big").bit_length()
            if zeros < 4 if defect == "low-pow" else zeros >= 2 or not heavy:
                break
        rank = 2 ** (zeros + 64) // (len(scanned.work) * ttl_s) if ttl_s else 0
        if defect == "trailing":
            raw += b"\0"
        made = Made(sha256(raw).digest(), raw, sent_s, ttl_s, topic, rank, defect)
        self.made[made.id] = made
        return made

    def random_defect(self, sent_s: int) -> Made:
        """One that R0 refuses."""
        return self.make(sent_s, defect=self._rng.choice(DEFECTS))


def full(batch: Iterable[Made], d: Descriptor) -> bool:
    """Whether a batch is at its limit, reckoned anew."""
    members = list(batch)
    size_bytes = sum(len(m.raw) for m in members)
    return (
        len(members) >= d.batch_max_envelopes
        or size_bytes > d.batch_max_bytes - d.max_envelope_bytes
    )
