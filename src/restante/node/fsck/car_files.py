"""The CAR files of one segment, to the last byte."""

from collections.abc import Iterable
from pathlib import Path

from restante.durable import read_range
from restante.errors import Unavailable, VerificationFailed
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.level import Span
from restante.formats.paths import segment_path
from restante.node.segment_reader import Read, Section


def reading(directory: Path, of: Span) -> Read:
    """How a segment of an archive's folder is read. It raises Unavailable `not-found`."""

    def read(part: int, offset: int, length: int) -> bytes:
        path = segment_path(of.level, of.number, part)
        data = read_range(directory / path, offset, length)
        if data is None:
            raise Unavailable(f"there is no {path}", code="not-found")
        return data

    return read


def check_files(read: Read, cid: bytes, sections: Iterable[Section]) -> None:
    """That the files are these blocks in this order, each in its section, and nothing else.

    Raises InvalidEncoding, VerificationFailed, Unavailable.
    """
    part, end = -1, 0
    for section in sections:
        while section.part > part:
            if part >= 0:
                _require_end(read, part, end)
            part, end = part + 1, car.HEADER_BYTES
            if read(part, 0, end) != car.header(cid):
                raise VerificationFailed(f"part {part} has another header", code="block-hash")
        overhead = car.section_overhead(section.length)
        data = read(part, end, overhead + section.length)
        block = data[overhead:]
        if data != car.section(section.cid, block) or len(block) != section.length:
            raise VerificationFailed(f"part {part} is damaged at {end}", code="block-hash")
        cids.check(section.cid, block)
        end += len(data)
        if section.offset + section.length != end:
            raise VerificationFailed(f"part {part}: a block elsewhere", code="page-table")
    _require_end(read, part, end)
    try:
        read(part + 1, 0, 1)
    except Unavailable:
        return
    raise VerificationFailed(f"there is a part {part + 1} too many", code="segment-parts")


def _require_end(read: Read, part: int, end: int) -> None:
    if read(part, end, 1):
        raise VerificationFailed(f"bytes follow the last block of part {part}", code="block-hash")
