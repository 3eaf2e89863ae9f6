"""What a gateway's operator withholds: a file of CIDs, read anew when it changes.

    # a comment
    bafkrei…            one CID a line, as it stands in a URL
    /ipfs/bafyrei…      or as denylists of IPFS write it

A listed CID withholds itself under every codec (the same bytes), and the segment that it is the
root of, or that holds it: all its parts at their paths, and its blocks by CID. What is withheld is
not kept either. A roll-up is another segment: its CID is listed beside its children's.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from restante import limits
from restante.errors import ConfigError, InvalidEncoding
from restante.formats import cid as cids
from restante.formats.paths import parse_segment_path
from restante.node.wire.http import RequestRefused

log = logging.getLogger("restante.gateway")

Place = tuple[int, int]
"""(level, number) of a segment."""


def parse(data: bytes) -> frozenset[bytes]:
    """The digests of a list's CIDs. Raises InvalidEncoding, which names the line."""
    found = set()
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InvalidEncoding("not UTF-8") from None
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().removeprefix("/ipfs/")
        if not text:
            continue
        try:
            found.add(cids.digest(cids.from_text(text)))
        except InvalidEncoding as error:
            raise InvalidEncoding(f"line {number}: {error}") from None
        if len(found) > limits.DENYLIST_CIDS:
            raise InvalidEncoding(f"more than {limits.DENYLIST_CIDS} CIDs")
    return frozenset(found)


class Denylist:
    """The list as it stands, and which known segments it withholds. Any thread may call it."""

    def __init__(self, path: Path | None, find: Callable[[bytes], Iterable[Place]]) -> None:
        """`find`: the known segments that hold a block of this digest.

        Raises ConfigError `denylist`: a gateway that cannot read its list does not start.
        """
        self._path = path
        self._find = find
        self._digests: frozenset[bytes] = frozenset()
        self._segments: set[Place] = set()
        self._lock = Lock()
        self._seen: tuple[int, ...] | None = None
        self._look_s = 0.0
        self.error = ""
        """Why a newer list was not taken; the one before it still holds."""
        if path is not None:
            self._seen = self._stamp()
            try:
                self._take()
            except InvalidEncoding as error:
                raise ConfigError(
                    f"gateway.denylist: {path}: {error}",
                    code="denylist",
                    hint="one CID a line, as it stands in a URL; # begins a comment",
                ) from error

    @property
    def counts(self) -> dict[str, int]:
        """How many CIDs are listed, and how many known segments that withholds."""
        return {"cids": len(self._digests), "segments": len(self._segments)}

    def changed(self) -> bool:
        """Whether the file is another one since `reload`; it is looked at once a second."""
        now_s = time.monotonic()
        if self._path is None or now_s < self._look_s:
            return False
        self._look_s = now_s + limits.DENYLIST_LOOK_S
        return self._stamp() != self._seen

    def reload(self) -> None:
        """Take the newer list, or keep the old one and say why. May take a second: in a thread."""
        self._seen = self._stamp()
        try:
            self._take()
        except InvalidEncoding as error:
            self.error = f"{self._path} is not read: {error}"
            log.error("%s; the list before it still holds", self.error)
        else:
            self.error = ""
            log.info("%d CIDs are withheld", len(self._digests))

    def note(self, place: Place, digests: Iterable[bytes]) -> bool:
        """A segment with these blocks came: whether it is withheld."""
        with self._lock:
            if not self._digests.isdisjoint(digests):
                self._segments.add(place)
            return place in self._segments

    def refuse_path(self, path: str) -> None:
        """Raises RequestRefused `withheld` for a file of a segment that is known to be withheld."""
        if self._segments and self.withholds(path):
            raise _withheld(path)

    def refuse_block(self, cid: bytes, places: Iterable[Place] = ()) -> None:
        """Raises RequestRefused `withheld` for a listed block, or one of such segments alone."""
        known = set(places)
        if cids.digest(cid) in self._digests or (known and known <= self._segments):
            raise _withheld(cids.to_text(cid))

    def withholds(self, path: str) -> bool:
        """Whether a file of the cache is of what is withheld."""
        if path.startswith("segment/"):
            return parse_segment_path(path)[:2] in self._segments
        kind, _, text = path.partition("/")
        return kind == "blocks" and cids.digest(cids.from_text(text)) in self._digests

    def _stamp(self) -> tuple[int, ...] | None:
        assert self._path is not None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _take(self) -> None:
        assert self._path is not None
        try:
            with self._path.open("rb") as file:
                data = file.read(limits.DENYLIST_BYTES + 1)
        except OSError as error:
            raise InvalidEncoding(error.strerror or str(error)) from None
        if len(data) > limits.DENYLIST_BYTES:
            raise InvalidEncoding(f"more than {limits.DENYLIST_BYTES} bytes")
        digests = parse(data)
        # A segment that is indexed meanwhile is noted under the new list, or found here.
        with self._lock:
            self._digests = digests
            self._segments = {place for digest in digests for place in self._find(digest)}


def _withheld(what: str) -> RequestRefused:
    return RequestRefused(410, "withheld", f"{what} is withheld by the operator of this gateway")
