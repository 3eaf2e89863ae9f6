"""Which roll-ups are made: a rule of the descriptor's parameters and the log's entries alone.

All validators come to the same answer, in whatever state their disks are: what is not made is
*none* everywhere, what is made stands in the entry of one fixed window, and that window waits for
whoever has not made it yet.
"""

from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, is_index


def is_made(d: Descriptor, of: Span, committed_bytes: int) -> bool:
    """Whether a span has a roll-up, by the sum of the `bytes` of its windows' entries.

    An index is always made; bodies only up to the set's limit, beyond which the span stays readable
    at the level below.
    """
    return is_index(d, of.level) or committed_bytes <= d.rollup_limit_bytes
