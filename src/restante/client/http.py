"""An archive over HTTP, read from servers that may do anything: lie, drip, stall, never end.

Time-outs alone do not end a server that sends a byte every few seconds, in its headers for
example: here every wait on the network ends at the request's own deadline, which moves on only as
fast as the slowest rate that is still worth waiting for.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakSet

import httpcore2
import httpx2

from restante import limits
from restante.client.http_rules import Exchange, base_url, proxy_kind
from restante.formats import cid as cids
from restante.formats.paths import check_path


class _Deadline(threading.local):
    """When the calling thread's request must be done, on the monotonic clock."""

    at_s: float = 0.0

    def left_s(self) -> float:
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the deadline has passed")
        return left


class _Stream(httpcore2.NetworkStream):
    """A connection whose every operation ends at the deadline."""

    def __init__(self, inner: httpcore2.NetworkStream, backend: "_Backend") -> None:
        self._inner = inner
        self._backend = backend
        backend.streams.add(self)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._backend.deadline.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._backend.deadline.left_s())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left_s = self._backend.deadline.left_s()
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left_s), self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    """Connections under the deadline of the thread that uses them."""

    def __init__(self) -> None:
        self.deadline = _Deadline()
        self.streams: WeakSet[_Stream] = WeakSet()
        self.closed = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        if self.closed:
            raise httpcore2.ConnectError("the source was closed")
        left_s = min(limits.SOURCE_CONNECT_S, self.deadline.left_s())
        inner = super().connect_tcp(host, port, left_s, local_address, socket_options)
        return _Stream(inner, self)

    def break_off(self) -> None:
        """Wake every thread that waits on a connection, and open no more of them."""
        self.closed = True
        for stream in list(self.streams):
            with contextlib.suppress(OSError, AttributeError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class HttpSource:
    """An archive's files below a base URL.

    `grace_s` is how long an answer may take to begin; its body must then come at
    `min_bytes_per_s`. Redirects are not followed, environment proxies not used. Raises ConfigError
    `source` for what is no base URL, `proxy` for a proxy that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        proxy: str | None = None,
        grace_s: float = limits.SOURCE_GRACE_S,
        min_bytes_per_s: int = limits.SOURCE_MIN_BYTES_PER_S,
    ) -> None:
        self.name = url
        self._base = base_url(url)
        self._grace_s = grace_s
        self._rate = min_bytes_per_s
        self._backend = _Backend()
        self._pool = _pool(proxy, self._backend, self._base.scheme)

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """See `Source`."""
        return self._get(check_path(path), offset, length, max_bytes)

    def block(self, cid: bytes) -> bytes:
        """The block of a CID from a gateway (`/ipfs/<cid>?format=raw`), its hash checked.

        Raises as `get`, and VerificationFailed `block-hash`.
        """
        path = f"ipfs/{cids.to_text(cid)}?format=raw"
        data = self._get(path, 0, None, limits.BLOCK_MAX_BYTES)
        cids.check(cid, data)
        return data

    def _get(self, path: str, offset: int, length: int | None, max_bytes: int) -> bytes:
        url = str(self._base) + path
        for attempt in range(2):
            exchange = Exchange(self.name, path, offset, length, max_bytes)
            started_s = time.monotonic()
            self._backend.deadline.at_s = started_s + self._grace_s
            with (
                self._errors(exchange, last=attempt == 1),
                self._pool.stream(
                    "GET",
                    url,
                    headers=[(name, value) for name, value in exchange.headers()],
                    extensions={"timeout": {"pool": self._grace_s}},
                ) as response,
            ):
                return self._body(response, exchange, started_s)
        raise AssertionError("the second attempt returns or raises")

    @contextlib.contextmanager
    def _errors(self, exchange: Exchange, *, last: bool) -> Iterator[None]:
        """Name what the network did; a kept connection that was closed meanwhile is tried again."""
        try:
            yield
        except httpcore2.TimeoutException as error:
            raise exchange.failed("source-timeout", "too slow, or silent") from error
        except httpcore2.ProtocolError as error:
            if "without sending a response" in str(error) and not last:
                return
            # h11 says so where a body ends before its announced length.
            ended = "without sending complete" in str(error) or "before message" in str(error)
            code = "source-truncated" if ended else "source-protocol"
            raise exchange.failed(code, str(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProxyError, UnicodeError) as error:
            if isinstance(error, (httpcore2.ReadError, httpcore2.WriteError)) and not last:
                return
            raise exchange.failed("source-unreachable", str(error)) from error

    def _body(self, response: httpcore2.Response, exchange: Exchange, started_s: float) -> bytes:
        """The body as far as it is wanted. Read to its end, the connection can be used again."""
        headers = {name.decode("latin-1").lower(): value for name, value in response.headers}
        exchange.begin(response.status, {n: v.decode("latin-1") for n, v in headers.items()})
        received = 0
        for chunk in response.iter_stream():
            received += len(chunk)
            # Each chunk moves the deadline on by what it is worth.
            self._backend.deadline.at_s = started_s + self._grace_s + received / self._rate
            if exchange.take(chunk):
                break
        return exchange.done()

    def close(self) -> None:
        """See `Source`."""
        self._backend.break_off()
        self._pool.close()


def _pool(proxy: str | None, backend: _Backend, scheme: str) -> httpcore2.ConnectionPool:
    # Loading the machine's certificates takes long: only where they are needed.
    context = httpx2.create_ssl_context() if scheme == "https" else None
    if proxy is None:
        return httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=limits.CLIENT_WORKERS,
            max_keepalive_connections=limits.CLIENT_WORKERS,
            keepalive_expiry=30.0,
            network_backend=backend,
        )
    if proxy_kind(proxy) == "socks":
        return httpcore2.SOCKSProxy(proxy, ssl_context=context, network_backend=backend)
    return httpcore2.HTTPProxy(proxy, ssl_context=context, network_backend=backend)
