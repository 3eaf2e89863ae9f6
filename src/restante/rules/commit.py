"""Step 7: what is re-checked before a decided batch enters the log, and the entry it becomes."""

from collections.abc import Sequence

from restante.formats.segment import Segment
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
