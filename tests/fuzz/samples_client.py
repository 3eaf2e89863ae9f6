"""Cursors, and whatever `inspect` is shown."""

from restante.cli.objects import describe
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import tiles
from restante.formats.segment import build
from restante.rules.committed import Committed
from restante.rules.query import Cursor, Place, Query, plan
from restante.rules.verify_segment import TrustedSegment
from restante.testing.archive_fixture import envelope, make_set, member

MADE = make_set()
D = MADE.descriptor
RAWS = [envelope(b"abcd", D.start_s(0) + i, bytes([i]) * 20 * i) for i in range(4)]
SEGMENT = build(D.set_id, [member(D.set_id, 0, raw) for raw in RAWS], 0, bucket_bits=6)
PLAN = plan(Query((b"abcd",)), D, 9)


def cursor(data: bytes) -> object:
    return Cursor.parse(data.decode("latin-1"))


def prefix(data: bytes) -> object:
    segment = TrustedSegment(D, Committed.batch(SEGMENT.entry()), "all", ())
    segment.read_prefix(data)
    # A mutation behind the root is found page by page; what is returned is only what was there.
    while needs := segment.needs():
        for piece in needs:
            segment.take(piece, data[piece.offset : piece.offset + piece.length])
    assert [m.raw for m in segment.members()] == RAWS
    return segment


PARSERS = {
    "cursor": (
        cursor,
        [PLAN.cursor(None).encode(), PLAN.cursor(Place(D.genesis_s, bytes(32))).encode()],
        (InvalidEncoding,),
    ),
    "trusted segment": (prefix, SEGMENT.cars(), (VerificationFailed,)),
    "inspect": (
        describe,
        [
            D.encode(),
            MADE.policy().encode(),
            MADE.checkpoint(3, bytes(32)),
            SEGMENT.cars()[0],
            SEGMENT.entry().encode(),
            tiles.encode_bundle([SEGMENT.entry().encode()] * 2),
            RAWS[1],
            PLAN.cursor(None).encode(),
        ],
        (InvalidEncoding,),
    ),
}
