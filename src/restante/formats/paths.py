"""Which paths an archive has: every file is immutable, except the few that say what is newest.

    checkpoint  descriptor  policy  watch/<name>  contact/<name>
    tile/<level>/<n>[.p/<width>]  tile/entries/<n>[.p/<width>]  certificate/<n>[.p/<width>]
    segment/<level>/<n>.car  segment/<level>/<n>.<part>.car

Numbers are grouped as c2sp.org/tlog-tiles groups them. Nothing else is a path: a store and a
server refuse it before they touch the disk.
"""

import re

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import tiles

FIXED = ("checkpoint", "descriptor", "policy")
MUTABLE = ("checkpoint", "watch/", "contact/")

# A name begins with a letter, digit or underscore: never hidden, never a parent directory.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SEGMENT = re.compile(
    r"segment/(?P<level>0|[1-9][0-9]?)/(?P<n>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.(?P<part>[1-9][0-9]{0,3}))?\.car",
    re.ASCII,
)


def is_name(text: str) -> bool:
    """Whether a validator's name can stand in a path."""
    return _NAME.fullmatch(text) is not None


def segment_path(level: int, n: int, part: int = 0) -> str:
    """`segment/<level>/<n>[.<part>].car`."""
    suffix = f".{part}" if part else ""
    return f"segment/{level}/{tiles.number(n)}{suffix}.car"


def parse_segment_path(path: str) -> tuple[int, int, int]:
    """(level, n, part) of a segment's path. Raises InvalidEncoding."""
    match = _SEGMENT.fullmatch(path)
    if match is None:
        raise InvalidEncoding("not a segment's path", code="path")
    return int(match["level"]), tiles.parse_number(match["n"]), int(match["part"] or 0)


def is_mutable(path: str) -> bool:
    """Whether the file at a path may be replaced by a newer one."""
    return path.startswith(MUTABLE)


def check_path(path: str) -> str:
    """The same path, if an archive can have it. Raises InvalidEncoding, code `path`."""
    if len(path) <= limits.ARCHIVE_PATH_CHARACTERS and _known(path):
        return path
    raise InvalidEncoding(f"{path[:80]!r} is no path of an archive", code="path")


def _known(path: str) -> bool:
    if path in FIXED:
        return True
    kind, _, rest = path.partition("/")
    if kind in ("watch", "contact"):
        return is_name(rest)
    try:
        if path.startswith("tile/entries/"):
            tiles.parse_entries_path(path)
        elif kind == "tile":
            tiles.parse_tile_path(path)
        elif kind == "certificate":
            tiles.parse_certificate_path(path)
        else:
            parse_segment_path(path)
    except InvalidEncoding:
        return False
    return True
