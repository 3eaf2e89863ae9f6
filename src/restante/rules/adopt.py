"""R6, below every peer's floor: what a validator that was away too long takes over, and when.

Nobody has the batch of its next window any more, so that it can neither check nor decide it. It
takes the newest tree that k cosigned as its own, once that is proved to continue all that it holds
and signed itself, and goes on from there. What lies below the floor is lost to its archive, and
to no proof: the tree's hashes stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from restante.errors import StateError, VerificationFailed
from restante.formats.descriptor import Descriptor
from restante.formats.level import children, is_index, span
from restante.formats.policy import VerifiedCheckpoint
from restante.formats.tiles import LogReader
from restante.rules.cosign import Signed, SplitTree


@dataclass(frozen=True, slots=True)
class Adoption:
    """A tree that k cosigned, taken over without its older windows. Durable before it counts."""

    size: int
    root: bytes
    floor: int
    """The lowest window whose entry and batch were to be had."""
    lost_from: int
    """The window that was next: [lost_from, floor) is in no archive of this validator."""
    note: bytes = b""
    """The checkpoint, with the k lines that permit it."""


class AdoptionRefused(StateError):
    """A tree may not be adopted, whoever signed it."""

    code = "adoption-refused"
    hint = "nothing was adopted and nothing is signed; `restante fsck` says what this node holds"


def floor_for(
    d: Descriptor, window: int, size: int, floors: Mapping[str, int], *, lost: bool = True
) -> int | None:
    """From which window on a tree of `size` is adopted by who has `window` next; None if not.

    `floors` are the peers' answers: the lowest window that each still has. As for the start rule
    n − f − 1 peers must have answered, and all of them must have given `window` up: a single one
    that has it decides otherwise (who asks has made sure that it really does). Of their floors
    the (f + 1)-th lowest counts, since at least one honest peer has everything from there on.
    `lost` False skips the question whether `window` is to be had: the own tree is lost already.
    """
    answers = sorted(floors.values())
    if not are_enough(d, len(answers)) or (lost and answers[0] <= window):
        return None
    floor = answers[d.f]
    return floor if floor <= first_needed(d, d.first_window + size) else None


def are_enough(d: Descriptor, peers: int) -> bool:
    """Whether so many peers' word permits an adoption, if they agree."""
    return d.n > 1 and peers >= d.n - d.f - 1


def first_needed(d: Descriptor, window: int) -> int:
    """The lowest window that must be kept by who goes on at `window`: K of them for *new*, and
    what the roll-ups are made of that no entry before it names."""
    lowest = window - d.recent_windows
    for level in range(1, len(d.levels) + 1):
        # The first span whose entry is still to come: its last window + lag ≥ `window`.
        first = max(0, window - d.rollup_lag) // d.levels[level - 1].windows
        pending = span(d, level, first)
        # An index is made of what the log names, which is there while one of its windows is.
        lowest = min(
            lowest,
            children(d, pending)[0].stop - 1 if is_index(d, level) else pending.first,
        )
    return max(d.first_window, lowest)


def adopt(
    checkpoint: VerifiedCheckpoint,
    note: bytes,
    log: LogReader,
    held: Signed,
    signed: Signed | None,
    floor: int,
    lost_from: int,
) -> Adoption:
    """The adoption of a tree that k cosigned, whose hashes `log` has: proved to continue `held`,
    the own log, and `signed`, the newest tree that this key cosigned.

    Raises SplitTree where it contradicts one of them; VerificationFailed, Unavailable where the
    hashes are not to be had here: ask another peer.
    """
    if (log.size, log.tiles.root) != (checkpoint.size, checkpoint.root):
        raise ValueError("the hashes of another tree")
    for own, what in ((signed, "cosigned"), (held, "decided")):
        if own is None:
            continue
        if own.size > checkpoint.size:
            raise AdoptionRefused(f"k cosigned size {checkpoint.size}, {own.size} is {what} here")
        try:
            log.check_consistent(own.size, own.root)
        except VerificationFailed as error:
            if error.code != "consistency":
                raise
            raise SplitTree(
                f"what k cosigned at size {checkpoint.size} does not continue the tree of size "
                f"{own.size} that was {what} here"
            ) from error
    return Adoption(checkpoint.size, checkpoint.root, floor, lost_from, note)
