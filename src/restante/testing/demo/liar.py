"""A lying gateway: it serves what an honest one serves, but for one lie.

`flip`: a bit of the last byte of every segment is turned over (the last byte of a CAR is page).
`stale`: the oldest checkpoint it ever saw is served as the newest.

    python -m restante.testing.demo.liar UPSTREAM-URL PORT LIE-FILE

LIE-FILE holds the name of the lie and is read at every request, so that a running liar can change.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

LIES = ("flip", "stale")
_FORWARDED = ("content-type", "content-range", "accept-ranges", "cache-control", "etag")


class Liar:
    """Forwards every read upstream and lies about one kind of file."""

    def __init__(self, upstream: str, lie_file: Path) -> None:
        self._client = httpx2.AsyncClient(base_url=upstream, timeout=10.0)
        self._lie_file = lie_file
        self._oldest: bytes | None = None

    async def remember(self) -> None:
        """Keep the first checkpoint that there is, for later."""
        while self._oldest is None:
            with contextlib.suppress(httpx2.HTTPError):
                answer = await self._client.get("/checkpoint")
                if answer.is_success:
                    self._oldest = answer.content
            await asyncio.sleep(0.2)

    async def serve(self, request: Request) -> Response:
        headers = {"Range": request.headers["range"]} if "range" in request.headers else {}
        path = request.url.path
        answer = await self._client.get(path, params=request.query_params, headers=headers)
        body = answer.content
        lie = self._lie_file.read_text().strip()
        if path == "/checkpoint" and lie == "stale":
            body = self._oldest or body
        if lie == "flip" and path.startswith("/segment/") and body and answer.is_success:
            body = body[:-1] + bytes([body[-1] ^ 1])
        kept = {name: answer.headers[name] for name in _FORWARDED if name in answer.headers}
        return Response(body, status_code=answer.status_code, headers=kept)


def main(upstream: str, port: int, lie_file: Path) -> None:
    """Serve until ended."""
    liar = Liar(upstream, lie_file)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        remembering = asyncio.create_task(liar.remember())
        yield
        remembering.cancel()

    route = Route("/{path:path}", liar.serve, methods=["GET", "HEAD"])
    app = Starlette(routes=[route], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
