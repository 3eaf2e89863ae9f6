"""What everybody may read: the archive's files at their paths, and blocks by CID.

The same routes stand before a validator's archive and before a gateway's cache.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from restante import limits
from restante.errors import InvalidEncoding, Unavailable
from restante.formats import car, dagcbor
from restante.formats import cid as cids
from restante.formats.dagcbor import Link, Value
from restante.formats.paths import check_path, is_mutable
from restante.node.durable.archive import Archive
from restante.node.wire.http import RequestRefused
from restante.node.wire.peers import DAG_CBOR_TYPE

IMMUTABLE = "public, max-age=29030400, immutable"
# A checkpoint is a window old at most anyway; watch notes and contacts change as seldom.
NEWEST = "public, max-age=1"
RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
# The identity CID of nothing, which trustless gateways are probed with.
PROBE = "bafkqaaa"


class Reader(Protocol):
    """Where the files and blocks come from."""

    async def length(self, path: str) -> int:
        """Bytes of a file. Raises InvalidEncoding `path`, Unavailable `not-found`."""
        ...

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of a file; fewer at its end. Raises as `length`."""
        ...

    async def block(self, cid: bytes) -> bytes:
        """A block by its CID, hashed. Raises Unavailable `not-found`."""
        ...


class ArchiveReader:
    """A validator's own archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def length(self, path: str) -> int:
        try:
            return (self._archive.directory / check_path(path)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise Unavailable(f"no {path} here", code="not-found") from None

    async def read(self, path: str, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(self._archive.read, path, offset, length)

    async def block(self, cid: bytes) -> bytes:
        data = await asyncio.to_thread(self._archive.block, cid)
        if data is None:
            raise Unavailable(f"no block {cids.to_text(cid)} here", code="not-found")
        return data


def media_type(path: str) -> str:
    """The content type of an archive's file."""
    if path == "descriptor":
        return DAG_CBOR_TYPE
    if path.startswith("segment/"):
        return f"{CAR_TYPE}; version=1"
    if path.startswith(("tile/", "certificate/")):
        return "application/octet-stream"
    return "text/plain; charset=utf-8"


def archive_routes(reader: Reader, set_id: bytes) -> list[BaseRoute]:
    """The read routes; the last takes every path that no earlier route took."""

    async def block(request: Request) -> Response:
        return await _block(request, reader)

    async def file(request: Request) -> Response:
        return await _file(request, reader, set_id)

    return [
        Route("/ipfs/{cid}", block, methods=["GET"]),
        Route("/ipfs/{cid}/{rest:path}", block, methods=["GET"]),
        Route("/{path:path}", file, methods=["GET"]),
    ]


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a file is sent."""

    status: int
    offset: int
    length: int


async def _file(request: Request, reader: Reader, set_id: bytes) -> Response:
    path = request.path_params["path"]
    try:
        check_path(path)
    except InvalidEncoding:
        raise RequestRefused(404, "not-found", "no path of an archive") from None
    size = await reader.length(path)
    headers = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
    if is_mutable(path):
        data = await reader.read(path, 0, limits.NAMED_FILE_BYTES)
        headers |= {"Cache-Control": NEWEST, "ETag": _tag(data)}
        if _unchanged(request, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(data, 200, headers, media_type(path))
    headers |= {
        "Cache-Control": IMMUTABLE,
        "ETag": _tag(set_id + path.encode()),
        "Accept-Ranges": "bytes",
    }
    if _unchanged(request, headers["ETag"]):
        return Response(None, 304, headers)
    part = _range(request.headers.get("range"), size)
    if part.status == 206:
        last = part.offset + part.length - 1
        headers["Content-Range"] = f"bytes {part.offset}-{last}/{size}"
    headers["Content-Length"] = str(part.length)
    if request.method == "HEAD":
        return Response(None, part.status, headers, media_type(path))
    if part.length <= limits.HTTP_PIECE_BYTES:
        data = await reader.read(path, part.offset, part.length)
        return Response(data, part.status, headers, media_type(path))
    return StreamingResponse(_pieces(reader, path, part), part.status, headers, media_type(path))


async def _pieces(reader: Reader, path: str, part: _Part) -> AsyncIterator[bytes]:
    sent = 0
    while sent < part.length:
        data = await reader.read(
            path, part.offset + sent, min(limits.HTTP_PIECE_BYTES, part.length - sent)
        )
        if not data:
            # It was released meanwhile: the connection breaks off, and the reader notices.
            raise Unavailable(f"{path} is gone", code="not-found")
        sent += len(data)
        yield data


def _range(header: str | None, size: int) -> _Part:
    """One range of bytes (RFC 9110 §14); what is no such header is passed over."""
    whole = _Part(200, 0, size)
    if header is None or not header.startswith("bytes=") or "," in header:
        return whole
    first, dash, last = header.removeprefix("bytes=").strip().partition("-")
    if not dash or not all(_digits(text) for text in (first, last) if text) or not first + last:
        return whole
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
        length = stop - start
    if length <= 0:
        raise RequestRefused(416, "range", f"the file has {size} bytes")
    return _Part(206, start, length)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _tag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:32]}"'


def _unchanged(request: Request, tag: str) -> bool:
    asked = request.headers.get("if-none-match", "")
    return any(each.strip().removeprefix("W/") == tag for each in asked.split(","))


# --- blocks -----------------------------------------------------------------------------------


async def _block(request: Request, reader: Reader) -> Response:
    text = request.path_params["cid"]
    form = _form(request)
    if request.path_params.get("rest"):
        raise RequestRefused(
            400, "path", "no paths below a CID are resolved here", "ask for the block itself"
        )
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": IMMUTABLE,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{text}",
    }
    if text == PROBE and form == "raw":
        return Response(b"", 200, headers | {"ETag": f'"{PROBE}.raw"'}, RAW_TYPE)
    try:
        cid = cids.from_text(text)
    except InvalidEncoding as error:
        raise RequestRefused(400, "cid", f"not a CID of ours: {error}") from None
    if form == "raw":
        return await _raw(request, reader, cid, headers)
    root = await reader.block(cid)
    scope = request.query_params.get("dag-scope", "all")
    if scope not in ("all", "block", "entity"):
        raise RequestRefused(400, "parameter", "dag-scope is all, block or entity")
    headers |= {
        "ETag": f'W/"{text}.car.{scope}"',
        "Accept-Ranges": "none",
        "Content-Disposition": f'attachment; filename="{text}.car"',
    }
    if _unchanged(request, f'"{text}.car.{scope}"'):
        return Response(None, 304, headers)
    kind = f"{CAR_TYPE}; version=1; order=dfs; dups=n"
    if request.method == "HEAD":
        return Response(None, 200, headers, kind)
    return StreamingResponse(_car(reader, cid, root, scope == "all"), 200, headers, kind)


async def _raw(request: Request, reader: Reader, cid: bytes, headers: dict[str, str]) -> Response:
    text = request.path_params["cid"]
    headers |= {
        "ETag": f'"{text}.raw"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{text}.bin"',
    }
    data = await reader.block(cid)
    if _unchanged(request, headers["ETag"]):
        return Response(None, 304, headers)
    part = _range(request.headers.get("range"), len(data))
    if part.status == 206:
        last = part.offset + part.length - 1
        headers["Content-Range"] = f"bytes {part.offset}-{last}/{len(data)}"
        data = data[part.offset : part.offset + part.length]
    return Response(data, part.status, headers, RAW_TYPE)


def _form(request: Request) -> str:
    """`raw` or `car`: what the query says, or else the Accept header. Raises RequestRefused."""
    asked = request.query_params.get("format")
    if asked is None:
        accept = request.headers.get("accept", "")
        asked = "raw" if RAW_TYPE in accept else "car" if CAR_TYPE in accept else ""
    if asked not in ("raw", "car"):
        raise RequestRefused(
            406,
            "format",
            "only verifiable answers are served",
            "ask for ?format=raw or ?format=car",
        )
    return asked


async def _car(reader: Reader, cid: bytes, root: bytes, whole: bool) -> AsyncIterator[bytes]:
    """A CAR of a block and, if `whole`, all blocks below it, depth first, each once."""
    yield car.header(cid)
    yield car.section(cid, root)
    if not whole:
        return
    seen = {cid}
    stack = list(reversed(_links(cid, root)))
    while stack:
        link = stack.pop()
        if link in seen:
            continue
        seen.add(link)
        if len(seen) > limits.IPFS_CAR_BLOCKS:
            raise Unavailable("more blocks than a segment has", code="too-many-blocks")
        # A missing one breaks the answer off: a reader never takes it for complete.
        block = await reader.block(link)
        yield car.section(link, block)
        stack += reversed(_links(link, block))


def _links(cid: bytes, block: bytes) -> list[bytes]:
    if cids.codec(cid) != cids.DAG_CBOR:
        return []
    found: list[bytes] = []

    def walk(value: Value) -> None:
        if isinstance(value, Link):
            found.append(value.cid)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)

    walk(dagcbor.decode(block))
    return found
