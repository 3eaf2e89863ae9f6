"""The gateway role: a verifying pull-through cache. It has no key, and nobody need trust it.

One request for an object goes to the sources however many ask for it at once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from starlette.routing import BaseRoute

from restante import limits
from restante.errors import ConfigError, RestanteError, Unavailable
from restante.formats import cid as cids
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span
from restante.formats.paths import check_path, is_mutable, parse_segment_path, segment_path
from restante.node.durable.blocks import BlockIndex, BlockRow, block_rows
from restante.node.gateway.cache import Cache
from restante.node.gateway.denylist import Denylist
from restante.node.gateway.rollup_files import RollupFiles
from restante.node.gateway.upstream import Upstream
from restante.node.wire.http import RequestRefused
from restante.node.wire.routes_archive import archive_routes
from restante.ports import Clock

T = TypeVar("T")


class Gateway:
    """A `Reader` over a cache and its upstream."""

    def __init__(
        self,
        d: Descriptor,
        upstream: Upstream,
        directory: Path,
        max_bytes: int,
        clock: Clock,
        denylist: Path | None = None,
    ) -> None:
        """Raises ConfigError `denylist`."""
        self._d = d
        self._upstream = upstream
        self._clock = clock
        self._cache = Cache(directory / "files", max_bytes)
        self._blocks = BlockIndex(directory / "blocks.db")
        try:
            self._denylist = Denylist(denylist, self._segments_of)
        except ConfigError:
            self._blocks.close()
            raise
        self._cache.remove(self._withholds)
        self._rollups = RollupFiles(d, upstream, self._cache, self._found)
        self._under_way: dict[str, asyncio.Future[Any]] = {}
        self._absent: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._notes: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def close(self) -> None:
        self._upstream.close()
        self._blocks.close()

    def routes(self) -> list[BaseRoute]:
        return archive_routes(self, self._d.set_id)

    # --- Reader -----------------------------------------------------------------------------

    async def length(self, path: str) -> int:
        if is_mutable(check_path(path)):
            return len(await self._note(path))
        await self._look()
        if self._rollups.serves(path):
            self._denylist.refuse_path(path)
            return await self._once(path, lambda: self._rollups.length(path))
        return await self._have(path)

    async def read(self, path: str, offset: int, length: int) -> bytes:
        if is_mutable(check_path(path)):
            return (await self._note(path))[offset : offset + length]
        if self._rollups.serves(path):
            self._denylist.refuse_path(path)
            key = f"{path} {offset} {length}"
            return await self._once(key, lambda: self._rollups.read(path, offset, length))
        await self._have(path)
        data = await asyncio.to_thread(self._cache.read, path, offset, length)
        if data is None:
            raise Unavailable(f"{path} has just gone", code="source-unavailable")
        return data

    async def block(self, cid: bytes) -> bytes:
        await self._look()
        data = await asyncio.to_thread(self._cached_block, cid)
        if data is not None:
            return data
        path = f"blocks/{cids.to_text(cid)}"

        def fetch() -> None:
            self._cache.put(path, self._upstream.block(cid))

        await self._once(path, fetch)
        data = await asyncio.to_thread(self._cache.read, path)
        if data is None:
            raise Unavailable(f"{path} has just gone", code="source-unavailable")
        return data

    # --- what is fetched --------------------------------------------------------------------

    async def _have(self, path: str) -> int:
        """Have an immutable file in the cache; its length."""
        self._denylist.refuse_path(path)
        size = self._cache.length(path)
        if size is None:
            await self._once(path, lambda: self._fetch(path))
            self._denylist.refuse_path(path)
            size = self._cache.length(path)
        if size is None:
            raise Unavailable(f"{path} has just gone", code="source-unavailable")
        return size

    def _fetch(self, path: str) -> None:
        files = self._upstream.file(path)
        if path.startswith("segment/"):
            level, window, _ = parse_segment_path(path)
            rows = list(block_rows([BytesIO(data) for data in files.values()]))
            self._blocks.add(level, window, rows)
            if self._denylist.note((level, window), {digest for digest, *_ in rows}):
                return
        for each, data in files.items():
            self._cache.put(each, data)

    def _found(self, of: Span, rows: list[BlockRow]) -> None:
        """A roll-up's tables came: know its blocks. Raises RequestRefused `withheld`."""
        if of.number not in self._blocks.indexed(of.level):
            self._blocks.add(of.level, of.number, rows)
        self._denylist.note((of.level, of.number), {digest for digest, *_ in rows})
        self._denylist.refuse_path(segment_path(of.level, of.number))

    def _cached_block(self, cid: bytes) -> bytes | None:
        places = self._blocks.find(cid)
        self._denylist.refuse_block(cid, (place[:2] for place in places))
        for place in places:
            path = segment_path(*place[:3])
            data = self._cache.read(path, place.offset, place.length)
            if data is not None and cids.cid_of(cids.codec(cid), data) == cid:
                return data
        return self._cache.read(f"blocks/{cids.to_text(cid)}")

    async def _look(self) -> None:
        """Take a newer denylist, and give up what it withholds."""
        if self._denylist.changed():
            await asyncio.to_thread(self._denylist.reload)
            await asyncio.to_thread(self._cache.remove, self._withholds)

    def _withholds(self, path: str) -> bool:
        """Whether a file of the cache is of what is withheld, also a block of a roll-up."""
        kind, _, text = path.partition("/")
        if kind == "blocks":
            cid = cids.from_text(text)
            try:
                self._denylist.refuse_block(cid, (place[:2] for place in self._blocks.find(cid)))
            except RequestRefused:
                return True
        return self._denylist.withholds(path)

    def _segments_of(self, digest: bytes) -> list[tuple[int, int]]:
        found = self._blocks.find(cids.cid_from_digest(cids.RAW, digest))
        return [place[:2] for place in found]

    async def _note(self, path: str) -> bytes:
        """A mutable file, not older than GATEWAY_FRESH_S."""
        kept = self._notes.get(path)
        if kept is not None and time.monotonic() - kept[0] < limits.GATEWAY_FRESH_S:
            return kept[1]

        def fetch() -> None:
            newest = path == "checkpoint"
            data = self._upstream.checkpoint() if newest else self._upstream.named(path)
            self._notes[path] = time.monotonic(), data

        await self._once(path, fetch)
        return self._notes[path][1]

    async def _once(self, path: str, fetch: Callable[[], T]) -> T:
        """Fetch, unless somebody does already; then share what comes of it."""
        until_s, code = self._absent.get(path, (0.0, ""))
        if until_s > time.monotonic():
            raise Unavailable(f"no source had {path} a moment ago", code=code)
        running = self._under_way.get(path)
        if running is None:
            running = asyncio.ensure_future(asyncio.to_thread(fetch))
            self._under_way[path] = running
            running.add_done_callback(lambda _: self._under_way.pop(path, None))
        try:
            found: T = await asyncio.shield(running)
        except Unavailable as error:
            if error.code in ("not-found", "pruned"):
                until_s = time.monotonic() + limits.GATEWAY_ABSENT_S
                self._absent[path] = until_s, error.code
                if len(self._absent) > limits.GATEWAY_ABSENT:
                    self._absent.popitem(last=False)
            raise
        return found

    async def ready(self) -> list[dict[str, str]]:
        """Why no client can begin here: no checkpoint that the policy accepts.

        How old it is says nothing: where the set stands still, its history is served all the same.
        """
        try:
            await self._note("checkpoint")
        except RestanteError as error:
            return [{"code": error.code, "message": str(error)}]
        return []

    # --- status -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What an operator asks first; `reasons` is empty when all is well."""
        now_ms = self._clock.now_ms()
        size = self._upstream.size
        liars = [c for c in self._upstream.complaints.values() if c.lied]
        reasons = [{"code": c.code, "message": f"{c.source} lied: {c.detail}"} for c in liars]
        if self._denylist.error:
            reasons.append({"code": "denylist", "message": self._denylist.error})
        return {
            "window": self._d.window_of(now_ms),
            "size": size,
            "sources": self._upstream.sources,
            "requests": self._upstream.requests,
            "cache_bytes": self._cache.size_bytes,
            "withheld": self._denylist.counts,
            "complaints": [
                {"source": c.source, "code": c.code, "path": c.path, "lied": c.lied}
                for c in self._upstream.complaints.values()
            ],
            "reasons": reasons,
        }
