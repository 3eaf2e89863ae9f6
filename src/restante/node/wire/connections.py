"""Connections that cost a server nothing but their number, and when they are closed.

A connection is free to open, so it holds its place only while it is useful. One that does not send
a whole request head in time is closed; so is one that does not read its answer. Where there are too
many, of one source or in all, the least useful one gives way to the new one: first those that owe a
request head, then idle ones, then those that owe the rest of a body, then those that have not read
for longest. Those being answered stay. So hundreds of half-open connections cannot keep a peer out,
not even from the peer's own address.
"""

import asyncio
import http
import logging
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from restante import limits
from restante.networks.source import source_of
from restante.node.wire.hints import error_body
from restante.node.wire.proxies import Proxies


class Seldom(logging.Filter):
    """Lets each message through once in HTTP_LOG_S: whoever connects may not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        now_s = time.monotonic()
        # By format string, so there are as many as the code has.
        if now_s < self._next_s.get(str(record.msg), 0.0):
            return False
        self._next_s[str(record.msg)] = now_s + limits.HTTP_LOG_S
        return True


log = logging.getLogger("restante.http.connections")
log.addFilter(Seldom())


class Connections:
    """The open connections of one listener."""

    def __init__(self, proxies: Proxies | None = None) -> None:
        """Trusted proxies' connections are their clients': they have a share of their own."""
        self.proxies = proxies or Proxies()
        self._held: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, new: "Connection") -> bool:
        """Hold a connection, perhaps in another's place; false where all others are busy."""
        most = limits.HTTP_CONNECTIONS_PER_SOURCE
        among = [each for each in self._held if each.source == new.source]
        if new.proxied:
            most = limits.HTTP_CONNECTIONS_PROXIED
            among = [each for each in self._held if each.proxied]
        if len(among) < most:
            among = list(self._held)
            if len(among) < limits.HTTP_CONNECTIONS:
                self._held[new] = None
                return True
        victims = [each for each in among if each.rank is not None]
        if not victims:
            return False
        victim = min(victims, key=lambda each: (each.rank, each.since_s))
        log.warning("too many connections: one of %s gives way", victim.source)
        self.drop(victim)
        victim.transport.abort()
        self._held[new] = None
        return True

    def drop(self, connection: "Connection") -> None:
        self._held.pop(connection, None)


class Config(uvicorn.Config):
    """A server's configuration, with the connections that its protocols share."""

    connections: Connections


class Connection(H11Protocol):
    """One connection, with its deadlines."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, Config)
        self.logger = log
        self.source = ""
        self.proxied = False
        # Since when it is as `rank` says.
        self.since_s = self.loop.time()
        self._all = config.connections
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    @property
    def rank(self) -> int | None:
        """The lowest gives way first; None while it is being answered."""
        if self._head is not None:
            return 0
        if self._stall is not None:
            return 3
        if self._waits():
            return 1
        return 2 if self.cycle.more_body else None

    # --- what asyncio and uvicorn call ------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        self.source = source_of(host)
        self.proxied = self._all.proxies.trusts(host)
        if self._all.admit(self):
            self._watch()
            return
        log.warning("too many connections, all busy: %s is turned away", self.source)
        self._turn_away(503, "busy", "too many connections")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stall is None:
            self.since_s = self.loop.time()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self.since_s = self.loop.time()
            self._stall = self.loop.call_later(limits.HTTP_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.drop(self)
        for timer in (self._head, self._stall, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._turn_away(400, "http", msg)

    # --- deadlines --------------------------------------------------------------------------

    def _request(self) -> RequestResponseCycle | None:
        """The newest request; None before the first, which uvicorn's types do not say."""
        return self.cycle

    def _waits(self) -> bool:
        request = self._request()
        return request is None or request.response_complete

    def _watch(self) -> None:
        """Time a request head, from the connection's beginning or the head's first byte.

        Later bytes do not begin it anew. Idle connections have uvicorn's keep-alive time instead.
        """
        owes = self._waits() and not (
            self._request() is not None
            and self.conn.their_state is h11.IDLE
            and not self.conn.trailing_data[0]
        )
        if owes and self._head is None and not self.transport.is_closing():
            self.since_s = self.loop.time()
            self._head = self.loop.call_later(limits.HTTP_HEAD_S, self._late)
        elif not owes and self._head is not None:
            self._head.cancel()
            self._head = None
            self.since_s = self.loop.time()

    def _late(self) -> None:
        log.warning("no request head from %s in time", self.source)
        self._turn_away(408, "head-timeout", "no whole request head came in time")

    def _turn_away(self, status: int, code: str, message: str) -> None:
        """Answer, unless an answer has begun already, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body(status, code, message)
            head = (
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
