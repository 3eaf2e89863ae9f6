"""HTTP for every role: an app that maps our errors to answers, and a server in our own loop.

An error answers JSON {"code", "message", "hint"}: codes are stable, messages are for people, and
no hint is empty.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante import limits
from restante.errors import (
    ConfigError,
    Conflict,
    InvalidEncoding,
    Refused,
    RestanteError,
    Unavailable,
    VerificationFailed,
)
from restante.node.wire.connections import Config, Connection, Connections
from restante.node.wire.hints import error_body
from restante.node.wire.peers import DAG_CBOR_TYPE, TIME_HEADER
from restante.node.wire.proxies import Forwarded, Proxies
from restante.ports import Clock

log = logging.getLogger("restante.http")


class RequestRefused(RestanteError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status


def status_of(error: RestanteError) -> int:
    """The HTTP status of an error."""
    match error:
        case RequestRefused():
            return error.status
        case Refused():
            return 422
        case VerificationFailed():
            return 403
        case InvalidEncoding():
            return 404 if error.code == "unknown-set" else 400
        case Conflict():
            return 409
        case Unavailable():
            return 404 if error.code in ("not-found", "pruned") else 503
    return 500


def error_response(status: int, code: str, message: str, hint: str = "") -> Response:
    """An error as JSON, with its code's hint where it has none of its own."""
    body = error_body(status, code, message, hint)
    # Without it caches keep a 404 or 410 by their own rules.
    headers = {"Cache-Control": "no-store"}
    if status in (429, 503):
        headers["Retry-After"] = "1"
    return Response(body, status, headers, "application/json")


def dag_cbor(data: bytes) -> Response:
    """A DAG-CBOR answer that nobody keeps."""
    return Response(data, 200, {"Cache-Control": "no-store"}, DAG_CBOR_TYPE)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be too large. Raises RequestRefused."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdecimal() and int(announced[:18]) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.BODY_DEADLINE_S):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
    except TimeoutError:
        raise RequestRefused(408, "body-timeout", "the body came too slowly") from None
    return b"".join(parts)


def _too_large(max_bytes: int) -> RequestRefused:
    return RequestRefused(413, "body-too-large", f"at most {max_bytes} bytes are read here")


def number(request: Request, name: str, default: int, greatest: int) -> int:
    """A whole number of the query. Raises RequestRefused."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= greatest):
        raise RequestRefused(400, "parameter", f"{name} is a number of at most {greatest}")
    return int(text)


def build_app(routes: Sequence[BaseRoute], clock: Clock) -> ASGIApp:
    """The routes, behind error answers and the time header."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RestanteError)
        status = status_of(error)
        if status == 500:
            log.error("%s: %s", request.url.path, error)
            # Paths and states of this machine are its operator's business.
            return error_response(500, error.code, "this node failed; its log says why")
        return error_response(status, error.code, str(error), error.hint)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        codes = {404: "not-found", 405: "method"}
        response = error_response(
            error.status_code, codes.get(error.status_code, "http"), str(error.detail)
        )
        response.headers.update(error.headers or {})
        return response

    async def gone(request: Request, error: Exception) -> Response:
        return error_response(400, "disconnected", "the client left")

    async def failed(request: Request, error: Exception) -> Response:
        # Starlette raises it again once this has been sent, so the log has it.
        return error_response(500, "internal", "this node failed; its log says why")

    app = Starlette(
        routes=routes,
        exception_handlers={
            RestanteError: refused,
            HTTPException: unknown,
            ClientDisconnect: gone,
            Exception: failed,
        },
    )
    return _TimeHeader(app, clock)


class _TimeHeader:
    """Every answer says what time it is here, so that peers notice a wrong clock."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                stamp = (TIME_HEADER.lower().encode(), str(self._clock.now_ms()).encode())
                message["headers"] = [*message.get("headers", ()), stamp]
            await send(message)

        await self._app(scope, receive, stamped if scope["type"] == "http" else send)


class _Server(uvicorn.Server):
    """A server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """One address: bound at once, so that its port is known, and that a busy one is told early.

    Nobody can connect before `listen`: who comes while the node still opens is refused at once,
    and need not wait for an answer that nobody gives.
    """

    def __init__(self, host: str, port: int, proxies: Proxies | None = None) -> None:
        """`proxies` are believed about who asks. Raises ConfigError `listen`."""
        self._proxies = proxies or Proxies()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named because asyncio sends small writes at once (TCP_NODELAY) only where
        # it is: otherwise a body waits 40 ms for the acknowledgement of its header.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise _cannot_listen(host, port, error) from error
        self.host = host
        self.port = int(self._socket.getsockname()[1])
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def listen(self) -> None:
        """Let connections come; again is nothing. Raises ConfigError `listen` where another
        process that had bound the port, too, was first."""
        try:
            self._socket.listen(limits.HTTP_CONNECTIONS)
        except OSError as error:
            raise _cannot_listen(self.host, self.port, error) from error

    async def serve(self, app: ASGIApp) -> None:
        """Serve until cancelled; requests under way may then finish. Raises as `listen`."""
        self.listen()
        config = Config(
            Forwarded(app, self._proxies),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.HTTP_KEEPALIVE_S,
            timeout_graceful_shutdown=limits.HTTP_GRACE_S,
        )
        config.connections = Connections(self._proxies)
        self._server = _Server(config)
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise

    def close(self) -> None:
        self._socket.close()


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen at {host}:{port}: {error.strerror}",
        code="listen",
        hint="another process has this port; choose another in restante.toml",
    )
