"""Step 7: what is re-checked before a decided batch enters the log, wherever it comes from."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from restante.errors import VerificationFailed
from restante.formats.page import Member, topic_key
from restante.formats.segment import Segment, SentOf, SetParameters, TopicOf, build
from restante.rules.base import Base
from restante.rules.judge import within_limits
from restante.rules.valid import Facts, in_window


def objection(segment: Segment, facts: Sequence[Facts | None], base: Base) -> str | None:
    """What R0, *new* or the limits have against a decided batch; None when nothing.

    `facts` are those of its envelopes, None for one that R0 refuses. Any objection means that
    more than f validators accepted what they must not: the certificate is evidence (b).
    """
    root = segment.root
    if (root.level, root.first_window, root.windows) != (0, base.window, 1):
        return "the segment is no batch of this window"
    if not within_limits(segment.count, segment.bytes_, base.descriptor):
        return "the batch is over the limits"
    for fact in facts:
        if fact is None:
            return "an envelope is invalid"
        if not in_window(fact.sent_s, base.window, base.descriptor):
            return f"envelope {fact.id.hex()} lies outside the window"
        if not base.is_new(fact.id):
            return f"envelope {fact.id.hex()} is in an earlier batch"
    return None


def rebuilt(
    d: SetParameters,
    window: int,
    records: Iterable[tuple[int, bytes]],
    topic_of: TopicOf,
    sent_of: SentOf,
) -> tuple[Segment, list[bytes]]:
    """A batch that everyone has released, from the (window, envelope) records of a roll-up (R6).

    Answers the batch and its envelopes in the order of records. The right records make the same
    batch again (R3); whether they were right is whether it has the CID that was decided, and that
    the caller compares. Raises VerificationFailed `rollup-records`, and what the readers raise.
    """
    members = [
        Member(topic_key(d.set_id, topic_of(raw)), window, sent_of(raw), sha256(raw).digest(), raw)
        for raw in of_window(records, window)
    ]
    try:
        segment = build(d.set_id, members, first_window=window, bucket_bits=d.bucket_bits)
    except ValueError as error:
        raise VerificationFailed(
            f"a roll-up's records of window {window}: {error}", code="rollup-records"
        ) from error
    return segment, [member.raw for member in sorted(members)]


def of_window(records: Iterable[tuple[int, bytes]], window: int) -> Iterator[bytes]:
    """The envelopes of one window."""
    return (raw for of, raw in records if of == window)
