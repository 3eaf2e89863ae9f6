"""What an envelope must be: reception (what peers demand now) and R0 (what a batch may hold).

Reception goes by the clock, in geth's order, so that a node is never cut off for what it relays.
R0 is a pure function of the bytes, the window and committed parameters, so that all validators
agree for ever. Whatever reception takes at a time, R0 takes in the window of that time.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NamedTuple, Protocol, TypeAlias

from restante import limits
from restante.errors import InvalidEncoding, Refused
from restante.formats import whisper
from restante.formats.whisper import Keccak, Scanned

Severity: TypeAlias = Literal["disconnect", "drop"]

# geth's SyncAllowance: clocks may differ by so much. R0 has the same number.
FUTURE_ALLOWANCE_S = 10
# geth drops what has been expired for up to twice the allowance, and cuts off what is older.
EXPIRED_ALLOWANCE_S = 2 * FUTURE_ALLOWANCE_S
# Bytes around the data that geth counts against MaxMessageSize.
GETH_OVERHEAD_BYTES = 20

CODES: dict[str, str] = {
    "rlp-too-large": "more bytes than the parser reads at all",
    "rlp-not-list": "a byte string where the envelope's (or packet's) list must be",
    "rlp-items": "not exactly five fields (or too many envelopes in a packet)",
    "rlp-noncanonical": "a header or length that is not in its shortest form",
    "rlp-truncated": "an item is longer than what is left",
    "rlp-trailing": "bytes after the end of the list; a wnode ignores them behind a packet",
    "data-is-list": "the data field is a list",
    "field-is-list": "expiry, TTL, topic or nonce is a list",
    "topic-length": "the topic is not 4 bytes",
    "integer-leading-zero": "an integer starts with a zero byte",
    "integer-overflow": "expiry or TTL over 32 bits, or a nonce over 64",
    "future": "sent more than 10 s ahead of the clock",
    "expired": "expired up to 20 s ago: geth drops it in silence",
    "very-old": "expired more than 20 s ago: geth cuts the sender off",
    "oversized": "larger than the network's message limit or the set's envelope limit",
    "low-pow": "proof of work below the floor",
    "ttl-zero": "TTL 0, whose proof of work is infinite without any work",
    "ttl-over-cap": "TTL over the set's cap: its sent time could lie arbitrarily far back",
    "expiry-below-ttl": "expiry below TTL: the sent time wraps around 2^32",
    "too-early": "R0: sent before the window's start less the TTL cap and the slack",
    "too-late": "R0: sent more than 10 s after the window's end",
}
"""Every code that `receive`, `examine` and `check_window` refuse with, and what it means."""


class EnvelopeRefused(Refused):
    """A refusal by reception or R0.

    severity: what geth does with the peer that sent it, `disconnect` or (silent) `drop`; also
    `drop` for what geth would relay and only our own rules refuse.
    """

    severity: Severity

    def __init__(self, code: str, detail: str, severity: Severity = "drop") -> None:
        super().__init__(detail, code=code, hint=CODES[code])
        self.severity = severity


class Parameters(Protocol):
    """The part of a descriptor that decides which envelopes are valid."""

    @property
    def ttl_max_s(self) -> int: ...
    @property
    def slack_s(self) -> int: ...
    @property
    def pow_floor_millionths(self) -> int: ...
    @property
    def max_envelope_bytes(self) -> int: ...
    @property
    def window_s(self) -> int: ...
    @property
    def genesis_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DefaultParameters:
    """Parameters without a descriptor.

    ttl_max_s: longest TTL; slack_s: how late an envelope may be carried beyond it;
    pow_floor_millionths: 200,000 is 0.2; max_envelope_bytes: of the whole RLP;
    window_s: N; genesis_s: unix time at which window 0 starts, a multiple of N.
    """

    ttl_max_s: int = 300
    slack_s: int = 90
    pow_floor_millionths: int = 200_000
    max_envelope_bytes: int = limits.ENVELOPE_MAX_BYTES
    window_s: int = 30
    genesis_s: int = 0


DEFAULTS = DefaultParameters()


class Facts(NamedTuple):
    """What the rules know of a valid envelope.

    id: SHA-256 of the bytes; topic: its bytes; sent_s, expiry_s, ttl_s: seconds;
    rank: ⌊2^(zeros + 64) / (len(r) · TTL)⌋, the work by which a full batch keeps or leaves it,
    higher is better; size_bytes: of the whole envelope.
    """

    id: bytes
    topic: bytes
    sent_s: int
    expiry_s: int
    ttl_s: int
    rank: int
    size_bytes: int


def examine(raw: bytes, params: Parameters, keccak: Keccak) -> Facts:
    """The part of R0 that does not depend on the window. Raises EnvelopeRefused."""
    if len(raw) > params.max_envelope_bytes:
        raise _oversized(len(raw), params, "drop")
    found = _scan(raw)
    _check_own_rules(found, params)
    zeros = whisper.leading_zeros(keccak(found.work + found.raw_nonce))
    _check_work(zeros, found, found.ttl_s, params)
    return _facts(raw, found, zeros)


def receive(
    raw: bytes, now_ms: int, params: Parameters, keccak: Keccak, id_: bytes | None = None
) -> Facts:
    """Judge an arrival at `now_ms`: geth's checks in geth's order, in whole seconds, then the
    refusals of our own. Raises EnvelopeRefused. What passes also passes `examine`, and
    `check_window` in the window that holds `now_ms`.

    `id_` is its SHA-256, where that is known: most arrivals are looked up by it first.
    """
    found = _scan(raw)
    expiry_s, ttl_s, _, data_bytes, work, raw_nonce = found
    now_s = now_ms // 1000
    # geth counts in 32 bits: with expiry < TTL the sent time wraps, and is most often far ahead.
    birth = (expiry_s - ttl_s) & whisper.U32_MAX
    lifetime = ttl_s
    if birth > now_s:
        if birth - FUTURE_ALLOWANCE_S > now_s:
            raise EnvelopeRefused("future", f"sent {birth - now_s} s ahead", "disconnect")
        # What is slightly ahead must have worked for the seconds that it gains.
        lifetime += birth - now_s + 1
    if expiry_s < now_s:
        late = now_s - expiry_s
        if late > EXPIRED_ALLOWANCE_S:
            raise EnvelopeRefused("very-old", f"expired {late} s ago", "disconnect")
        raise EnvelopeRefused("expired", f"expired {late} s ago", "drop")
    if GETH_OVERHEAD_BYTES + data_bytes > limits.WHISPER_MAX_MESSAGE_BYTES:
        raise _oversized(len(raw), params, "disconnect")
    if len(raw) > params.max_envelope_bytes:
        raise _oversized(len(raw), params, "drop")
    zeros = whisper.leading_zeros(keccak(work + raw_nonce))
    _check_work(zeros, found, lifetime, params)
    _check_own_rules(found, params)
    return _facts(raw, found, zeros, id_)


def in_window(sent_s: int, window: int, params: Parameters) -> bool:
    """Whether R0 lets an envelope of this sent time into the batch of `window`."""
    start = params.genesis_s + window * params.window_s
    earliest = start - params.ttl_max_s - params.slack_s
    return earliest <= sent_s <= start + params.window_s + FUTURE_ALLOWANCE_S


def check_window(sent_s: int, window: int, params: Parameters) -> None:
    """As `in_window`, but raises EnvelopeRefused: `too-early` or `too-late`."""
    if in_window(sent_s, window, params):
        return
    start = params.genesis_s + window * params.window_s
    if sent_s < start:
        raise EnvelopeRefused("too-early", f"sent {start - sent_s} s before window {window}")
    late = sent_s - start - params.window_s
    raise EnvelopeRefused("too-late", f"sent {late} s after the end of window {window}")


def window_of(now_ms: int, params: Parameters) -> int:
    """The window that holds a time; negative before the genesis."""
    return (now_ms // 1000 - params.genesis_s) // params.window_s


def _scan(raw: bytes) -> Scanned:
    try:
        return whisper.scan(raw)
    except InvalidEncoding as error:
        raise EnvelopeRefused(error.code, str(error), "disconnect") from error


def _check_own_rules(found: Scanned, params: Parameters) -> None:
    """What geth lets through and a record for years must not."""
    if found.ttl_s == 0:
        raise EnvelopeRefused("ttl-zero", "TTL 0")
    if found.ttl_s > params.ttl_max_s:
        raise EnvelopeRefused("ttl-over-cap", f"TTL {found.ttl_s} s, at most {params.ttl_max_s}")
    if found.expiry_s < found.ttl_s:
        raise EnvelopeRefused(
            "expiry-below-ttl", f"expiry {found.expiry_s} is below TTL {found.ttl_s}"
        )


def _check_work(zeros: int, found: Scanned, lifetime_s: int, params: Parameters) -> None:
    floor = params.pow_floor_millionths
    if not whisper.has_work(zeros, len(found.work), lifetime_s, floor):
        needed = whisper.zeros_for(len(found.work), lifetime_s, floor)
        raise EnvelopeRefused(
            "low-pow", f"{zeros} leading zero bits, {needed} are needed", "disconnect"
        )


def _oversized(size_bytes: int, params: Parameters, severity: Severity) -> EnvelopeRefused:
    detail = f"{size_bytes} bytes, at most {params.max_envelope_bytes}"
    return EnvelopeRefused("oversized", detail, severity)


def _facts(raw: bytes, found: Scanned, zeros: int, id_: bytes | None = None) -> Facts:
    expiry_s, ttl_s, topic, _, work, _ = found
    rank = (1 << (zeros + 64)) // (len(work) * ttl_s)
    id_ = id_ or sha256(raw).digest()
    return Facts(id_, topic, expiry_s - ttl_s, expiry_s, ttl_s, rank, len(raw))
