"""Which ranges of a CAR a reader asks for."""

import dataclasses

import pytest

from fuzz.samples import SET_ID
from restante import limits
from restante.formats import car, cid
from restante.formats.layout import (
    PREFIX_BYTES,
    Layout,
    directory_blocks_for,
    layout_of,
    page_blocks_for,
)
from restante.formats.page import PageRow
from restante.formats.root import DirectoryBlock, PageBlock, SegmentRoot
from restante.formats.segment import build

RAW_CID = cid.cid_of(cid.RAW, b"")
SECTION = car.section_bytes(1000)
EMPTY = build(SET_ID, [], 0, bucket_bits=6).root


def with_blocks(**blocks: object) -> SegmentRoot:
    return dataclasses.replace(EMPTY, **blocks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "indices"),
    [
        (0, 9, []),
        (0, 10, [0]),
        (15, 15, [0]),
        # The last page of block 0 may hold key 20 too: rows name first keys only.
        (20, 20, [0, 1, 2]),
        (21, 29, [2]),
        (30, 30, [2, 3]),
        (31, 2**32 - 1, [3]),
        (0, 2**32 - 1, [0, 1, 2, 3]),
    ],
)
def test_page_blocks_that_may_hold_a_key(low: int, high: int, indices: list[int]) -> None:
    blocks = tuple(PageBlock(key, 1024, 1000, RAW_CID) for key in (10, 20, 20, 30))
    root = with_blocks(pages=None, page_blocks=blocks)
    assert page_blocks_for(root, low, high) == [(index, blocks[index]) for index in indices]
    assert page_blocks_for(EMPTY, low, high) == []


@pytest.mark.parametrize(
    ("low", "high", "indices"),
    [
        (0, 9, []),
        (10, 10, [0]),
        (19, 19, [0]),
        (20, 20, [1]),
        (19, 20, [0, 1]),
        (30, 30, [2]),
        (31, 2**32 - 1, [2]),
        (0, 2**32 - 1, [0, 1, 2]),
    ],
)
def test_directory_blocks_that_may_name_a_key(low: int, high: int, indices: list[int]) -> None:
    blocks = tuple(DirectoryBlock(key, 16_384, RAW_CID) for key in (10, 20, 30))
    root = with_blocks(directory=None, directory_blocks=blocks)
    assert directory_blocks_for(root, low, high) == [(index, blocks[index]) for index in indices]
    assert directory_blocks_for(EMPTY, low, high) == []


def row(part: int, index: int) -> PageRow:
    return PageRow(index, 0, part, index * SECTION, 1000, 1, RAW_CID)


LAYOUT: Layout = layout_of(EMPTY, cid.cid_of(cid.DAG_CBOR, EMPTY.encode()), len(EMPTY.encode()))


def test_neighbours_share_a_range_and_others_do_not() -> None:
    rows = [row(0, 0), row(0, 1), row(0, 3), row(1, 4), row(1, 5)]
    found = LAYOUT.page_ranges(rows)
    assert [piece.rows for piece in found] == [tuple(rows[:2]), (rows[2],), tuple(rows[3:])]
    assert [piece.length for piece in found] == [SECTION + 1000, 1000, SECTION + 1000]
    overhead = car.section_overhead(1000)
    assert found[0].offset == LAYOUT.pages_start + overhead
    assert found[2].offset == car.HEADER_BYTES + 4 * SECTION + overhead


def test_a_range_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_RANGE_MAX_BYTES", 2 * SECTION)
    found = LAYOUT.page_ranges([row(0, index) for index in range(5)])
    assert [len(piece.rows) for piece in found] == [2, 2, 1]
    assert LAYOUT.page_ranges([]) == []


def test_the_prefix_holds_any_root() -> None:
    assert car.HEADER_BYTES + car.section_bytes(limits.SEGMENT_ROOT_MAX_BYTES) <= PREFIX_BYTES
