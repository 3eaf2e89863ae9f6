"""Whose turn it is in a window, and when (R8, step 5)."""

from dataclasses import dataclass
from hashlib import sha256

from restante.formats.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Pace:
    """The operator's own times; no byte depends on them."""

    grace_ms: int = 5_000
    step_ms: int = 10_000


DEFAULT_PACE = Pace()


def standings(d: Descriptor, window: int) -> dict[str, int]:
    """Validator name → its place in SHA-256(set id ‖ w ‖ key): a new order in every window."""
    order = sorted(
        d.validators,
        key=lambda v: sha256(d.set_id + window.to_bytes(8, "big") + v.public_key).digest(),
    )
    return {v.name: place for place, v in enumerate(order)}


def proposal_due_ms(d: Descriptor, pace: Pace, window: int, standing: int, reached_ms: int) -> int:
    """When the validator of this standing proposes `window` itself (R8).

    `reached_ms` is when it reached the window's base. A passed window, one whose turn is over
    when its base is reached, is not waited for: the standings go at once, a step apart.
    """
    first_turn = d.end_ms(window) + pace.grace_ms + pace.step_ms
    if reached_ms > first_turn:
        return reached_ms + standing * pace.step_ms
    return first_turn + standing * pace.step_ms


def outsider_due_ms(d: Descriptor, pace: Pace, window: int, reached_ms: int) -> int:
    """When a proposer that is no validator proposes `window` (step 2)."""
    return max(d.end_ms(window) + pace.grace_ms, reached_ms)
