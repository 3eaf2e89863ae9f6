"""Cursors, and whatever `inspect` is shown."""

from restante.cli.objects import describe
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import index_cut, tiles
from restante.formats.level import Level, Span, children
from restante.formats.segment import build
from restante.rules.committed import Committed
from restante.rules.query import Cursor, Place, Query, plan
from restante.rules.verify_index import TrustedIndex
from restante.rules.verify_indexed import IndexedSegment
from restante.rules.verify_segment import TrustedSegment
from restante.testing.archive_fixture import IndexedChild, envelope, make_set, member

MADE = make_set()
D = MADE.descriptor
RAWS = [envelope(b"abcd", D.start_s(0) + i, bytes([i]) * 20 * i) for i in range(4)]
SEGMENT = build(D.set_id, [member(D.set_id, 0, raw) for raw in RAWS], 0, bucket_bits=6)
PLAN = plan(Query((b"abcd",)), D, 9)


INDEXED = make_set(levels=(Level(2), Level(4, "index")))
HOURS = [
    build(
        INDEXED.set_id,
        [member(INDEXED.set_id, hour.first, raw) for raw in (RAWS if hour.first == 0 else [])],
        hour.first,
        hour.windows,
        hour.level,
        bucket_bits=6,
    )
    for hour in children(INDEXED.descriptor, Span(2, 0, 0, 4))
]
INDEX = index_cut.build(INDEXED.set_id, Span(2, 0, 0, 4), [IndexedChild(each) for each in HOURS])


def index(data: bytes) -> object:
    """An index, and what it leads to: of a mutation nothing but what is there."""
    of = Committed(Span(2, 0, 0, 4), INDEX.root_cid)
    read = TrustedIndex(INDEXED.descriptor, of, "exact", (b"abcd",), range(4))
    read.read_prefix(data[:150], 150)
    while needs := read.needs():
        for piece in needs:
            read.take(piece, data[piece.offset : piece.offset + piece.length])
    found = []
    for span, hour in zip(read.spans, HOURS, strict=True):
        child = read.child(span)
        assert child is not None
        segment = IndexedSegment(INDEXED.descriptor, child, "exact", (b"abcd",), range(4))
        for piece in segment.needs():
            segment.take(piece, hour.cars()[0][piece.offset : piece.offset + piece.length])
        found += [m.raw for m in segment.members()]
    assert found == RAWS
    return read


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
    "trusted index": (index, [INDEX.car()], (VerificationFailed,)),
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
