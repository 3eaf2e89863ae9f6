"""Pages, whichever table names them: their envelopes read, and everything about them checked."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.page import Member, PageRow, bucket_of
from restante.formats.root import SegmentRoot
from restante.formats.segment import check_records
from restante.rules.verify import SetFault, failing_as

READERS: dict[str, Callable[[bytes], tuple[bytes, int]]] = {"whisper-v6": whisper.reading}
"""Network → what reads (topic, sent time in unix seconds) of an envelope, and refuses one that is
not canonical: InvalidEncoding."""
TOPICS: dict[str, Callable[[bytes], bytes]] = {"whisper-v6": whisper.topic_of}
"""Network → the topic of an envelope that its reader took."""


class PageReader:
    """Reads pages of one set's segments."""

    def __init__(self, d: Descriptor) -> None:
        self._d = d
        self._read = READERS[d.network]

    def members(
        self, root: SegmentRoot, row: PageRow, page: bytes, following: PageRow | None
    ) -> list[Member]:
        """The members of a page whose hash was checked; `following` is the table's next row.

        Raises SetFault `page-content`, `sent-bounds`.
        """
        with failing_as("page-content", SetFault):
            members = check_records(root, row, page, self._read, following=following)
        window, least, greatest = -1, 0, 0
        for member in members:
            if member.window != window:
                window = member.window
                least, greatest = self._d.sent_bounds_s(window)
            if not least <= member.sent_s <= greatest:
                raise SetFault("an envelope's sent time is outside its window", code="sent-bounds")
        return members


class Needed(NamedTuple):
    """What of a run of rows exact mode reads for one topic key."""

    rows: list[int]
    """Indices of the rows of pages that may hold what is asked for."""
    shown: bool
    """Whether a row that is passed over begins with the key, and so shows that it is there."""


def pages_of(rows: Sequence[PageRow], key: int, depth: int, windows: range) -> Needed:
    """Which pages may hold records of a topic key in some windows.

    The last page that begins before the key may hold it, and all that begin with it; no other
    bucket's. A busy topic fills pages of its own, whose windows follow from their rows.
    """
    firsts = [row.topic_key for row in rows]
    before = max(0, bisect_left(firsts, key) - 1)
    bucket = bucket_of(key, depth)
    found: list[int] = []
    shown = False
    for i in range(before, bisect_right(firsts, key)):
        row = rows[i]
        if bucket_of(row.topic_key, depth) != bucket:
            continue
        begins = row.topic_key == key
        ends = i + 1 < len(rows) and rows[i + 1].topic_key == key
        too_late = begins and row.window >= windows.stop
        too_early = ends and rows[i + 1].window < windows.start
        if too_late or too_early:
            shown = shown or begins
        else:
            found.append(i)
    return Needed(found, shown)
