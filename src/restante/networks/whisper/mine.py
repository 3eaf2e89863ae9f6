"""Finding a nonce: Whisper's proof of work.

The prefix is hashed once; each try copies that state and adds eight bytes. A search is a plain
loop that reports at intervals, so that a person sees progress, a deadline can end it, and Ctrl-C
is never lost.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from restante.errors import RestanteError
from restante.formats import whisper
from restante.networks import keccak

# About 10 ms of work: seldom enough to cost nothing, often enough to stop at once.
TRIES_PER_REPORT = 8192


class NotMined(RestanteError):
    """The search was cancelled or ran out of time before a nonce was found."""

    code = "not-mined"
    hint = "allow more time, a shorter TTL, or send less data: the work grows with both"


@dataclass(frozen=True, slots=True)
class Progress:
    """tries: hashes made so far; expected: hashes that the search takes on average;
    elapsed_ms: real time since it began."""

    tries: int
    expected: int
    elapsed_ms: int


def expected_hashes(expiry_s: int, ttl_s: int, topic: bytes, data: bytes, floor: int) -> int:
    """Hashes that mining takes on average for a floor in millionths. The spread is wide: one
    search in twenty takes three times as many."""
    prefix = whisper.work_prefix(expiry_s, ttl_s, topic, data)
    return 1 << whisper.zeros_for(len(prefix), ttl_s, floor)


def mine(
    expiry_s: int,
    ttl_s: int,
    topic: bytes,
    data: bytes,
    floor_millionths: int,
    *,
    progress: Callable[[Progress], bool | None] | None = None,
    timeout_s: float | None = None,
    first_nonce: int = 0,
) -> int:
    """The lowest nonce from `first_nonce` on whose proof of work reaches the floor.

    `progress` is called every few thousand tries; when it returns False the search ends. Blocks:
    call it in a thread from async code. Raises NotMined (cancelled, or `timeout_s` of real time
    passed) and InvalidEncoding for fields that no envelope can have.
    """
    prefix = whisper.work_prefix(expiry_s, ttl_s, topic, data)
    zeros = whisper.zeros_for(len(prefix), ttl_s, floor_millionths)
    # A digest with enough leading zeros is, as bytes, below this bound: no big integers needed.
    bound = ((1 << (256 - zeros)) - 1).to_bytes(32, "big")
    state = keccak.new(prefix)
    started = time.monotonic()
    nonce = first_nonce
    while True:
        for candidate in range(nonce, nonce + TRIES_PER_REPORT):
            attempt = state.copy()
            attempt.update(candidate.to_bytes(8, "big"))
            if attempt.digest() <= bound:
                return candidate
        nonce += TRIES_PER_REPORT
        elapsed = time.monotonic() - started
        report = Progress(nonce - first_nonce, 1 << zeros, int(elapsed * 1000))
        if progress is not None and progress(report) is False:
            raise NotMined(f"cancelled after {report.tries} hashes")
        if timeout_s is not None and elapsed >= timeout_s:
            raise NotMined(f"no nonce in {timeout_s} s ({report.tries} hashes)")
