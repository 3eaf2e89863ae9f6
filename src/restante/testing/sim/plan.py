"""What one run is made of: a generator fills in a plan, the simulation carries it out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.testing.sim.links import Quality
from restante.testing.sim.workload import MAX_ENVELOPE_BYTES, POW_FLOOR_MILLIONTHS, Made, Mint

if TYPE_CHECKING:
    from restante.testing.sim.simulation import Simulation

GENESIS_S = 1_700_000_010
WINDOW_MS = 30_000


@lru_cache(maxsize=256)
def key_of(name: str) -> SigningKey:
    """The key of a party; always the same."""
    return SigningKey(name, sha256(b"simulation " + name.encode()).digest())


@lru_cache(maxsize=64)
def descriptor_of(n: int, f: int, parameters: tuple[tuple[str, Any], ...]) -> Descriptor:
    """A set of n validators v0, v1, …"""
    base: dict[str, Any] = {
        "pow_floor_millionths": POW_FLOOR_MILLIONTHS,
        "max_envelope_bytes": MAX_ENVELOPE_BYTES,
    }
    return Descriptor(
        origin="restante.test/simulation-00000000",
        genesis_s=GENESIS_S,
        f=f,
        validators=tuple(key_of(f"v{i}").vkey() for i in range(n)),
        **(base | dict(parameters)),
    )


class Arrival(NamedTuple):
    """An envelope reaches a party over the gossip network."""

    at_ms: int
    party: str
    made: Made


class Fault(NamedTuple):
    """Something happens to a party: crash, restart, lose-log, backup, restore, skew, cut, heal."""

    at_ms: int
    kind: str
    args: tuple[Any, ...]


# A hook sees every fact of the history as it comes: (simulation, verb, node name, details).
Hook = Callable[["Simulation", str, str, tuple[Any, ...]], None]

SAFETY = frozenset(
    {"I1", "I2", "I3", "I4", "I6", "I8", "due", "conserved", "passed", "holder", "busy"}
)


@dataclass
class Plan:
    """One run. Times are ms after genesis, negative before it."""

    rng: Random
    n: int
    f: int
    windows: int = 3
    parameters: dict[str, Any] = field(default_factory=dict)
    byzantine: dict[str, str] = field(default_factory=dict)
    """Validator → manner: see `hostile.ByzantineValidator`."""
    proposers: dict[str, str] = field(default_factory=lambda: {"p0": "honest"})
    """Outsider → manner: honest, or a hostile one (see `hostile`)."""
    arrivals: list[Arrival] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    adversary: Callable[["Simulation", str, str, str], int | None] | None = None
    """(simulation, source, target, op) → extra delay of a message, None to drop it."""
    quality: Quality = field(default_factory=Quality)
    """Of the links until `heal_ms`; perfect after it."""
    engine: str = "honest"
    """honest, split (shows everyone what it likes) or forging (invents entries too)."""
    show: Callable[["Simulation", str, int, list[frozenset[bytes]]], int | None] | None = None
    """What a split engine shows a validator of the batches certified on its base; None: nothing."""
    junk: float = 0.0
    """Chance that junk, stale or doubled entries come before an honest engine's next one."""
    engine_delay_ms: int = 300
    engine_loss: float = 0.0
    engine_stalls: list[tuple[int, int]] = field(default_factory=list)
    heal_ms: int = 0
    """When faults end: what I5 counts from."""
    bound_ms: int | None = None
    """How long after the last cut-off and `heal_ms` all must be decided; None: a general bound."""
    rollup_ms: tuple[int, int] = (20, 400)
    """How long a roll-up takes, from … to …"""
    rollup_slow: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The same of single validators, until `heal_ms`."""
    kept_windows: int | None = None
    """How long children of a roll-up are kept after its entry; None: longer than any run."""
    kept_batches: int | None = None
    """How many windows a validator keeps (retention); None: all. Without roll-ups only."""
    pool_page_ids: int = 3
    events_max: int = 60_000
    ruined: set[str] = field(default_factory=set)
    """Validators whose disk broke a promise (a restored lock): what they hold counts no more."""
    checks: frozenset[str] = SAFETY | {"I5"}

    def __post_init__(self) -> None:
        self.mint = Mint(self.rng)

    @property
    def d(self) -> Descriptor:
        return descriptor_of(self.n, self.f, tuple(sorted(self.parameters.items())))

    @property
    def names(self) -> list[str]:
        return [f"v{i}" for i in range(self.n)]

    @property
    def honest(self) -> list[str]:
        return [v for v in self.names if v not in self.byzantine]

    def rollup_time_ms(self, name: str, rng: Random) -> int:
        """How long one takes a validator this time."""
        return rng.randint(*self.rollup_slow.get(name, self.rollup_ms))

    def start_ms(self, window: int) -> int:
        return window * WINDOW_MS

    def envelope(
        self,
        at_ms: int,
        parties: list[str],
        ttl_s: int = 60,
        age_s: int = 0,
        spread_ms: int = 0,
        heavy: bool = False,
    ) -> Made:
        """A valid envelope that reaches these parties at a time, give or take `spread_ms`."""
        made = self.mint.make(GENESIS_S + at_ms // 1000 - age_s, ttl_s, heavy=heavy)
        self.deliver(made, at_ms, parties, spread_ms)
        return made

    def deliver(self, made: Made, at_ms: int, parties: list[str], spread_ms: int = 0) -> None:
        for party in parties:
            late = self.rng.randint(0, spread_ms) if spread_ms else 0
            self.arrivals.append(Arrival(at_ms + late, party, made))

    def fault(self, at_ms: int, kind: str, *args: Any) -> None:
        self.faults.append(Fault(at_ms, kind, args))


def quiet_plan(rng: Random, n: int, windows: int = 3, manner: str = "accept") -> Plan:
    """The last f validators are Byzantine; links are good, and different in every run."""
    f = (n - 1) // 3
    plan = Plan(rng, n, f, windows)
    plan.byzantine = dict.fromkeys(plan.names[n - f :], manner)
    plan.quality = Quality(median_ms=rng.choice((20, 60, 150)), sigma=rng.choice((0.2, 0.6)))
    return plan


def some_time(rng: Random, window: int, least_ms: int = 1_000, margin_ms: int = 2_000) -> int:
    """A time within a window, some way from its cut-off."""
    return window * WINDOW_MS + rng.randint(least_ms, WINDOW_MS - margin_ms)
