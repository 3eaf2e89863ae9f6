"""The descriptor of a validator set: everything that a committed byte depends on, and nothing else.

Its SHA-256 is the set id. Grace, step, retention and URLs are each operator's own and not here.
"""

import re
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor
from restante.formats import level as rollups
from restante.formats.dagcbor import Fields
from restante.formats.level import Level
from restante.formats.note import COSIGNATURE_V1, VerifierKey, check_name

VERSION = 1
SENT_AHEAD_S = 10
"""How far an author's clock may run ahead of a window's end (R0)."""

# A validator's name is also a file's (`watch/<name>`) and a policy line's word.
_VALIDATOR = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_NETWORK = re.compile("[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
RESERVED_NAMES = frozenset({"validators", "none"})
"""Words that the set's policy file gives another meaning."""

# field → (least, greatest), both allowed; the reasons stand in `limits`.
_BOUNDS = {
    "genesis_s": (0, limits.DESCRIPTOR_TIME_MAX_S),
    "window_s": (1, limits.DESCRIPTOR_WINDOW_MAX_S),
    "f": (0, (limits.DESCRIPTOR_VALIDATORS - 1) // 3),
    "ttl_max_s": (1, limits.DESCRIPTOR_TTL_MAX_S),
    "slack_s": (1, limits.DESCRIPTOR_TTL_MAX_S),
    "pow_floor_millionths": (0, limits.DESCRIPTOR_POW_FLOOR_MAX),
    "max_envelope_bytes": (1, limits.ENVELOPE_MAX_BYTES),
    "batch_max_envelopes": (1, limits.DESCRIPTOR_BATCH_ENVELOPES),
    "batch_max_bytes": (1, limits.DESCRIPTOR_BATCH_BYTES),
    "bucket_bits": (0, limits.DESCRIPTOR_BUCKET_BITS),
    "rollup_lag": (1, limits.DESCRIPTOR_ROLLUP_LAG),
    "rollup_limit_bytes": (1, 1 << 50),
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One validator set and its parameters, with defaults for a network like Whisper."""

    origin: str
    """The log's name; ends in random bytes, so that no two sets share it."""
    genesis_s: int
    """Unix time of window 0, a multiple of `window_s`."""
    f: int
    """Faulty validators that are tolerated; n >= 3f + 1."""
    validators: tuple[VerifierKey, ...]
    """Cosigner keys (type 0x04), sorted by name."""
    window_s: int = 30
    """N: a window's length."""
    network: str = "whisper-v6"
    """Which network's envelopes: what R0's parameters mean."""
    ttl_max_s: int = 300
    """Largest TTL in a batch."""
    slack_s: int = 90
    """How late an envelope may come after its TTL's end; pays for late arrival and R7."""
    pow_floor_millionths: int = 200_000
    """Least proof of work, times 10^6."""
    max_envelope_bytes: int = limits.ENVELOPE_MAX_BYTES
    """Largest envelope."""
    batch_max_envelopes: int = 50_000
    """Envelopes in a full batch."""
    batch_max_bytes: int = 64 * 1024 * 1024
    """Sum of the lengths of a batch's envelopes."""
    bucket_bits: int = 6
    """Topic buckets of a segment: at most 2^bucket_bits."""
    levels: tuple[Level, ...] = ()
    """Roll-ups, from the lowest level up; `level.STANDARD` is what new sets get."""
    rollup_lag: int = 10
    """Windows from a range's end to the entry that names its roll-up."""
    rollup_limit_bytes: int = 4 * 1024**3
    """Committed bytes above which a range has no roll-up."""
    set_id: bytes = field(init=False)
    """SHA-256 of the encoded descriptor, 32 bytes."""
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        encoded = dagcbor.encode(self._map())
        object.__setattr__(self, "_encoded", encoded)
        object.__setattr__(self, "set_id", sha256(encoded).digest())

    def _check(self) -> None:
        check_name(self.origin)
        if not _NETWORK.fullmatch(self.network):
            raise InvalidEncoding("descriptor: not a network's name")
        for name, (least, greatest) in _BOUNDS.items():
            if not least <= getattr(self, name) <= greatest:
                raise InvalidEncoding(f"descriptor: {name} is not in {least}…{greatest}")
        if self.genesis_s % self.window_s:
            raise InvalidEncoding("descriptor: genesis is not a multiple of the window")
        if self.slack_s < 2 * self.window_s + 2 * SENT_AHEAD_S:
            raise InvalidEncoding("descriptor: slack is below 2 windows + 20 s")
        if self.batch_max_bytes < self.max_envelope_bytes:
            raise InvalidEncoding("descriptor: a batch cannot hold the largest envelope")
        rollups.check(
            self.levels,
            batch_max_envelopes=self.batch_max_envelopes,
            rollup_limit_bytes=self.rollup_limit_bytes,
        )
        self._check_validators()

    def _check_validators(self) -> None:
        names = [key.name for key in self.validators]
        if not 3 * self.f + 1 <= self.n <= limits.DESCRIPTOR_VALIDATORS:
            raise InvalidEncoding(f"descriptor: {self.n} validators do not tolerate {self.f}")
        if any(key.kind != COSIGNATURE_V1 for key in self.validators):
            raise InvalidEncoding("descriptor: a validator's key is no cosigner's (0x04)")
        if any(not _VALIDATOR.fullmatch(name) or name in RESERVED_NAMES for name in names):
            raise InvalidEncoding("descriptor: not a validator's name")
        if any(one >= other for one, other in pairwise(names)):
            raise InvalidEncoding("descriptor: validators are not sorted by name, or not distinct")
        # One key under two names would count twice towards n − f.
        if len({key.public_key for key in self.validators}) != self.n:
            raise InvalidEncoding("descriptor: two validators share a key")
        # Certificates and cosignatures name a validator by its key id alone.
        if len({key.key_id for key in self.validators}) != self.n:
            raise InvalidEncoding("descriptor: two validators share a key id")

    def _map(self) -> dict[str, dagcbor.Value]:
        return {
            "version": VERSION,
            "origin": self.origin,
            "genesis_s": self.genesis_s,
            "window_s": self.window_s,
            "f": self.f,
            "validators": [key.text() for key in self.validators],
            "network": self.network,
            "ttl_max_s": self.ttl_max_s,
            "slack_s": self.slack_s,
            "pow_floor_millionths": self.pow_floor_millionths,
            "max_envelope_bytes": self.max_envelope_bytes,
            "batch_max_envelopes": self.batch_max_envelopes,
            "batch_max_bytes": self.batch_max_bytes,
            "bucket_bits": self.bucket_bits,
            "levels": rollups.encode(self.levels),
            "rollup_lag": self.rollup_lag,
            "rollup_limit_bytes": self.rollup_limit_bytes,
            "start": None,
        }

    def encode(self) -> bytes:
        """Its DAG-CBOR bytes, whose SHA-256 is `set_id`."""
        return self._encoded

    @classmethod
    def parse(cls, data: bytes) -> "Descriptor":
        """The descriptor of its bytes. Raises InvalidEncoding."""
        fields = Fields.decode(data, "descriptor", max_bytes=limits.DESCRIPTOR_MAX_BYTES)
        fields.version(VERSION)
        numbers = {name: fields.uint(name) for name in _BOUNDS}
        vkeys = fields.list_("validators", limits.DESCRIPTOR_VALIDATORS)
        origin = fields.text("origin", limits.NOTE_NAME_MAX_BYTES)
        network = fields.text("network", 32)
        levels = rollups.read(fields.value("levels"))
        if fields.value("start") is not None:
            raise InvalidEncoding("descriptor: this version knows no succession of sets")
        fields.done()
        validators = tuple(VerifierKey.parse(v) for v in vkeys if isinstance(v, str))
        if len(validators) != len(vkeys):
            raise InvalidEncoding("descriptor: a validator is not a vkey")
        descriptor = cls(
            origin=origin, network=network, validators=validators, levels=levels, **numbers
        )
        if descriptor.encode() != data:  # its hash is its name: one descriptor, one encoding
            raise InvalidEncoding("descriptor: not its own encoding")
        return descriptor

    # --- the set ----------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Validators."""
        return len(self.validators)

    @property
    def k(self) -> int:
        """Validators that must agree: n − f."""
        return self.n - self.f

    def validator(self, name: str) -> VerifierKey | None:
        """The validator of a name."""
        return next((key for key in self.validators if key.name == name), None)

    def validator_by_id(self, key_id: bytes) -> VerifierKey | None:
        """The validator of a cosigner key id."""
        return next((key for key in self.validators if key.key_id == key_id), None)

    # --- time -------------------------------------------------------------------------------

    @property
    def first_window(self) -> int:
        """The window of entry 0."""
        return 0

    @property
    def recent_windows(self) -> int:
        """K: only batches of the K windows before w can hold what is valid in w (R0)."""
        return (self.ttl_max_s + self.slack_s + SENT_AHEAD_S) // self.window_s + 1

    def start_s(self, window: int) -> int:
        """Unix time at which a window begins."""
        return self.genesis_s + window * self.window_s

    def end_s(self, window: int) -> int:
        """Unix time of a window's cut-off, which is the next one's start."""
        return self.start_s(window + 1)

    def start_ms(self, window: int) -> int:
        """`start_s` in milliseconds."""
        return self.start_s(window) * 1000

    def end_ms(self, window: int) -> int:
        """`end_s` in milliseconds."""
        return self.end_s(window) * 1000

    def window_of(self, now_ms: int) -> int:
        """The window that contains an instant; negative before genesis."""
        return (now_ms - self.genesis_s * 1000) // (self.window_s * 1000)

    def last_due(self, now_ms: int) -> int:
        """The newest window whose cut-off has passed; below `first_window` if there is none."""
        return self.window_of(now_ms) - 1

    def sent_bounds_s(self, window: int) -> tuple[int, int]:
        """(least, greatest) sent time that R0 allows in a window, both allowed."""
        return (
            self.start_s(window) - self.ttl_max_s - self.slack_s,
            self.end_s(window) + SENT_AHEAD_S,
        )

    def windows_for_sent(self, least_s: int, greatest_s: int) -> range:
        """The windows whose batches may hold sent times in [least_s, greatest_s]."""
        first = -((self.genesis_s + SENT_AHEAD_S - least_s) // self.window_s) - 1
        last = (greatest_s + self.ttl_max_s + self.slack_s - self.genesis_s) // self.window_s
        return range(max(first, self.first_window), max(last + 1, self.first_window))

    def final_before_s(self, window: int) -> int:
        """Once `window` is decided, no later batch holds a sent time below this (R0)."""
        return self.sent_bounds_s(window + 1)[0]
