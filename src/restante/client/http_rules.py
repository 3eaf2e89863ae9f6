"""What may be asked of a web server that has an archive, and what its answers mean.

The same for blocking and asynchronous sources, whatever else they do about servers that may do
anything.
"""

import json
from collections.abc import Mapping

import httpx2

from restante import limits
from restante.client.failures import SourceFailed, SourceOverflow
from restante.errors import ConfigError


class Exchange:
    """One request to one server, and what came of it."""

    def __init__(
        self, server: str, path: str, offset: int, length: int | None, max_bytes: int
    ) -> None:
        """`server` is the source's name."""
        self._server = server
        self._path = path
        self._offset = offset
        self._length = None if length is None else min(length, max_bytes)
        self._most = max_bytes if self._length is None else self._length
        self._skip = 0
        self._strict = True
        self._status = 0
        self._body = bytearray()

    @property
    def _ranged(self) -> bool:
        return self._offset > 0 or self._length is not None

    def headers(self) -> list[tuple[str, str]]:
        """The request's."""
        headers = [("Accept-Encoding", "identity")]
        if self._length is not None:
            headers.append(("Range", f"bytes={self._offset}-{self._offset + self._length - 1}"))
        elif self._offset:
            headers.append(("Range", f"bytes={self._offset}-"))
        return headers

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take an answer's head; its names are in lower case. Raises SourceFailed."""
        if headers.get("content-encoding", "identity") != "identity":
            raise self.failed("source-protocol", "an encoding that nobody asked for")
        self._status = status
        if status in (404, 410):
            self._most, self._strict = limits.SOURCE_ERROR_BYTES, False
        elif status == 416 and self._ranged:
            self._most, self._strict = 0, False
        elif status == 206 and self._ranged:
            self._check_range(headers.get("content-range", ""))
        elif status != 200:
            raise self.failed("source-status", f"status {status}")
        elif self._ranged:
            # The whole file although a part was asked for: read on until the part is there.
            self._skip, self._strict = self._offset, False
            if self._skip + self._most > limits.CAR_MAX_BYTES:
                raise SourceOverflow(
                    f"{self._server}, {self._path}: the whole file instead of a range of it"
                )

    def take(self, chunk: bytes) -> bool:
        """Take some of the body; whether that is enough of it. Raises SourceOverflow."""
        self._body += chunk
        if self._strict and len(self._body) > self._most:
            raise SourceOverflow(f"{self._server}, {self._path}: more than {self._most} bytes")
        return not self._strict and len(self._body) >= self._skip + self._most

    def done(self) -> bytes:
        """What was asked for, as far as the server has it. Raises SourceFailed."""
        if self._status in (404, 410):
            withheld = self._status == 410 and _code(bytes(self._body)) == "withheld"
            if withheld:
                raise self.failed("withheld", "withheld by source")
            raise self.failed("not-found", f"status {self._status}")
        return bytes(self._body[self._skip : self._skip + self._most])

    def failed(self, code: str, why: str) -> SourceFailed:
        """The error for this request."""
        return SourceFailed(f"{self._server}, {self._path}: {why}", code=code)

    def _check_range(self, header: str) -> None:
        """That a 206 answer begins where it was asked to, and is no longer than that."""
        try:
            unit, _, rest = header.partition(" ")
            first, last = (int(number) for number in rest.partition("/")[0].split("-"))
        except ValueError:
            unit, first, last = "", -1, -1
        longest = last if self._length is None else self._offset + self._length - 1
        if unit != "bytes" or first != self._offset or not first <= last <= longest:
            raise self.failed("source-truncated", "another range than was asked for")


def _code(body: bytes) -> object:
    """The code of an error's JSON body, if it is one."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value.get("code") if isinstance(value, dict) else None


def base_url(url: str) -> httpx2.URL:
    """The base of an archive's files, ending in a slash. Raises ConfigError `source`."""
    try:
        base = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"not a URL: {url[:200]}", code="source") from error
    bare = base.host and not (base.query or base.fragment) and (base.port or 0) < 1 << 16
    if base.scheme not in ("http", "https") or not bare:
        raise ConfigError(f"not the base URL of an archive: {url[:200]}", code="source")
    path = base.path if base.path.endswith("/") else base.path + "/"
    return base.copy_with(path=path)


def proxy_kind(proxy: str) -> str:
    """`socks` or `http`. Raises ConfigError `proxy`."""
    kind = proxy.partition("://")[0]
    if kind in ("socks5", "socks5h"):
        return "socks"
    if kind in ("http", "https"):
        return "http"
    raise ConfigError(f"not a proxy: {proxy[:200]}", code="proxy")
