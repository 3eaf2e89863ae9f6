"""Sources for asyncio: an archive over HTTP, and whatever blocks, in a thread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import httpx2

from restante import limits
from restante.client.failures import SourceFailed
from restante.client.http_rules import Exchange, base_url, proxy_kind
from restante.client.sources import Source, parse_source
from restante.formats.paths import check_path
from restante.formats.policy import Policy


class AsyncSource(Protocol):
    """The files of one archive, by path."""

    @property
    def name(self) -> str:
        """What the user calls it: a URL or a folder."""
        ...

    async def fetch(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """As `sources.Source.get`."""
        ...

    async def aclose(self) -> None:
        """Give up what is open."""
        ...


class AsyncHttpSource:
    """An archive's files below a base URL; see `http.HttpSource`, of which this is the twin."""

    def __init__(
        self,
        url: str,
        *,
        proxy: str | None = None,
        grace_s: float = limits.SOURCE_GRACE_S,
        min_bytes_per_s: int = limits.SOURCE_MIN_BYTES_PER_S,
    ) -> None:
        """Raises ConfigError `source`, `proxy`."""
        self.name = url
        self._base = base_url(url)
        self._grace_s = grace_s
        self._rate = min_bytes_per_s
        # The clock of a request begins when it may use a connection, as those of threads do.
        self._turn = asyncio.Semaphore(limits.CLIENT_WORKERS)
        if proxy is not None:
            proxy_kind(proxy)
        self._client = httpx2.AsyncClient(
            # Loading the machine's certificates takes long: only where they are needed.
            verify=httpx2.create_ssl_context() if self._base.scheme == "https" else False,
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=limits.SOURCE_CONNECT_S),
            limits=httpx2.Limits(
                max_connections=limits.CLIENT_WORKERS,
                max_keepalive_connections=limits.CLIENT_WORKERS,
                keepalive_expiry=30.0,
            ),
        )

    async def fetch(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """See `AsyncSource`."""
        url = str(self._base) + check_path(path)
        async with self._turn:
            if self._client.is_closed:
                raise SourceFailed(f"{self.name} was closed", code="source-unreachable")
            for attempt in range(2):
                exchange = Exchange(self.name, path, offset, length, max_bytes)
                async with self._errors(exchange, last=attempt == 1):
                    return await self._exchange(url, exchange)
        raise AssertionError("the second attempt returns or raises")

    async def _exchange(self, url: str, exchange: Exchange) -> bytes:
        received = 0
        async with asyncio.timeout(self._grace_s) as deadline:
            begun_s = deadline.when() or 0.0
            async with self._client.stream("GET", url, headers=exchange.headers()) as response:
                exchange.begin(response.status_code, response.headers)
                async for chunk in response.aiter_raw():
                    received += len(chunk)
                    # Each chunk moves the deadline on by what it is worth.
                    deadline.reschedule(begun_s + received / self._rate)
                    if exchange.take(chunk):
                        break
        return exchange.done()

    @contextlib.asynccontextmanager
    async def _errors(self, exchange: Exchange, *, last: bool) -> AsyncIterator[None]:
        """Name what the network did; a kept connection that was closed meanwhile is tried again."""
        try:
            yield
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise exchange.failed("source-timeout", "too slow, or silent") from error
        except httpx2.ProtocolError as error:
            if "without sending a response" in str(error) and not last:
                return
            ended = "without sending complete" in str(error) or "before message" in str(error)
            code = "source-truncated" if ended else "source-protocol"
            raise exchange.failed(code, str(error)) from error
        except (httpx2.NetworkError, httpx2.ProxyError, UnicodeError) as error:
            if isinstance(error, (httpx2.ReadError, httpx2.WriteError)) and not last:
                return
            raise exchange.failed("source-unreachable", str(error)) from error

    async def aclose(self) -> None:
        """See `AsyncSource`."""
        await self._client.aclose()


class InThread:
    """A blocking source, of which each request is carried out in a thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name

    async def fetch(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """See `AsyncSource`."""
        return await asyncio.to_thread(
            self._source.get, path, offset=offset, length=length, max_bytes=max_bytes
        )

    async def aclose(self) -> None:
        """See `AsyncSource`."""
        self._source.close()


def parse_async_source(
    text: str, *, proxy: str | None = None, grace_s: float = limits.SOURCE_GRACE_S
) -> AsyncSource:
    """The source of `http(s)://…`, `file:…` or a directory's path; see `sources.parse_source`.
    Raises ConfigError `source`."""
    if text.startswith(("http://", "https://")):
        return AsyncHttpSource(text, proxy=proxy, grace_s=grace_s)
    return InThread(parse_source(text))


def async_sources_of(
    policy: Policy, *, proxy: str | None = None, grace_s: float = limits.SOURCE_GRACE_S
) -> list[AsyncSource]:
    """The sources that the policy file's contact lines name, in their order."""
    urls = dict.fromkeys(url for _, url in policy.contacts)
    return [parse_async_source(url, proxy=proxy, grace_s=grace_s) for url in urls]
