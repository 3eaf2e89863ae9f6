"""How much of a segment is asked for first: a small one whole, of a large one the root."""

import random

import pytest

from restante import limits
from restante.formats import car
from restante.formats.layout import PREFIX_BYTES
from restante.formats.level import Span
from restante.formats.segment import build
from restante.rules.committed import Committed
from restante.rules.first_bytes import first_bytes, root_section_end
from restante.testing.archive_fixture import envelope, make_set, member

D = make_set().descriptor


def batch(count, topics, data_bytes):
    rng = random.Random(count)
    raws = [
        envelope(rng.randrange(topics).to_bytes(4, "big"), D.start_s(0), rng.randbytes(data_bytes))
        for _ in range(count)
    ]
    members = [member(D.set_id, 0, raw) for raw in dict.fromkeys(raws)]
    return build(D.set_id, members, 0, bucket_bits=D.bucket_bits)


@pytest.mark.parametrize(
    ("count", "topics", "data_bytes"),
    [
        (0, 1, 0),
        (1, 1, 10),
        (30, 24, 2_000),
        (140, 100, 2_000),
        (300, 200, 2_000),
        (3_000, 1_500, 300),
        (3_000, 1, 300),
        (20_000, 20_000, 20),
        (5, 5, 900_000),
    ],
)
def test_it_is_enough(count, topics, data_bytes):
    segment = batch(count, topics, data_bytes)
    of = Committed.batch(segment.entry())
    parts = segment.cars()
    root = car.HEADER_BYTES + car.section_bytes(len(segment.blocks[0][1]))
    asked = first_bytes(of, D.bucket_bits)
    assert asked >= min(root, PREFIX_BYTES)
    if len(parts[0]) < PREFIX_BYTES * 3 // 4:
        assert len(parts[0]) <= asked <= PREFIX_BYTES
    elif asked < len(parts[0]) // 2:
        # Not much more than the root: what follows it is of other topics.
        assert asked <= max(2 * root, root + 32_768)
    else:
        assert asked <= PREFIX_BYTES
    whole = first_bytes(of, D.bucket_bits, whole=True)
    assert whole >= min(len(parts[0]), limits.PAGE_RANGE_MAX_BYTES)
    assert root_section_end(parts[0][:asked]) == root


def test_of_a_roll_up_nothing_is_known():
    of = Committed(Span(2, 0, 0, 120), bytes(36))
    assert first_bytes(of, 6) == first_bytes(of, 6, whole=True) == limits.ROLLUP_PREFIX_BYTES


def test_what_claims_to_be_longer_than_any_root():
    from restante.formats import varint

    head = batch(1, 1, 1).cars()[0][: car.HEADER_BYTES]
    for length in (1 << 20, 1 << 62):
        end = root_section_end(head + varint.encode(length))
        assert end <= car.HEADER_BYTES + limits.SEGMENT_ROOT_MAX_BYTES + 64
    for data in (b"", head, head + b"\xff" * 20):
        assert root_section_end(data) == 0
