"""Links on asyncio: sockets, time-outs and flow control around a `Session`.

Reading: all whole messages of one read are handed over at once, since a peer that sends one
envelope a packet must not cost a callback each. Writing: what is sent within one turn of the loop
leaves in one piece. A link ends once; `Handler.lost` is called once, in a turn of its own, after
everything that came before.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol, cast

from restante import limits
from restante.errors import Unavailable
from restante.networks.rlpx.admission import Admission
from restante.networks.rlpx.enode import Enode
from restante.networks.rlpx.reasons import Left, Reason
from restante.networks.rlpx.session import Identity, Session
from restante.networks.source import source_of

__all__ = [
    "Admission",
    "Enode",
    "Handler",
    "Identity",
    "Left",
    "Link",
    "Listening",
    "Reason",
    "Times",
    "dial",
    "listen",
]

# Ends for which a peer's address is barred: nobody who speaks the protocol brings them about.
_BREACHES = frozenset(
    ("handshake", "bad-mac", "frame-size", "code", "snappy", "message-size", "hello", "flood")
)
_REFUSALS = {
    "already-connected": Reason.ALREADY_CONNECTED,
    "too-many-peers": Reason.TOO_MANY_PEERS,
}


@dataclass(frozen=True, slots=True)
class Times:
    """How long is waited, in seconds; other values than these are for tests."""

    connect_s: float = limits.RLPX_CONNECT_S
    handshake_s: float = limits.RLPX_HANDSHAKE_S
    ping_s: float = limits.RLPX_PING_S
    silent_s: float = limits.RLPX_SILENT_S
    stall_s: float = limits.RLPX_STALL_S
    close_s: float = limits.RLPX_CLOSE_S


DEFAULT_TIMES = Times()

_HINTS = {
    "peer-unreachable": "is the peer up, and does a firewall let us reach this port?",
    "peer-refused": "does the enode's key belong to the node at this address? a full peer may have"
    " room later",
    "peer-handshake": "does the node at this address speak RLPx, and what we speak over it?",
}


class Handler(Protocol):
    """Who uses a link. None of these may raise, and none waits."""

    def ready(self, link: "Link") -> None:
        """Hello is done and the capability shared; comes before any message."""
        ...

    def messages(self, link: "Link", came: list[tuple[int, bytes]]) -> None:
        """As many (code, payload) as one read brought, in order; codes without the offset."""
        ...

    def lost(self, link: "Link", why: Left) -> None:
        """The link has ended. Also called for one that was never ready."""
        ...


class Link(asyncio.Protocol):
    """A connection with one peer.

    remote_id: 64 bytes, empty until an inbound peer has said who it is; remote_client: what it
    calls itself, printable; address: (host, port) of its end; outbound: we dialled.
    """

    def __init__(
        self,
        session: Session,
        handler: Handler,
        admission: Admission,
        times: Times = DEFAULT_TIMES,
        among: "set[Link] | None" = None,
    ) -> None:
        """`among`: where the link stands as long as it has a socket."""
        self.outbound = session.outbound
        self.address: tuple[str, int] = ("", 0)
        self.source = ""
        self.opened: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        """Done when the link is ready, cancelled when it has ended before."""
        self.why: Left | None = None
        """Why the link has ended; None while it has not."""
        self._session = session
        self._handler = handler
        self._admission = admission
        self._times = times
        self._among = set() if among is None else among
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._written_bytes = 0
        self._taken_bytes = 0
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._paused = False
        self._heard_s = 0.0
        self._ping_at_s = 0.0

    @property
    def remote_id(self) -> bytes:
        return self._session.remote_id

    @property
    def remote_client(self) -> str:
        return self._session.remote_client

    @property
    def gone(self) -> bool:
        """Whether the link has ended: what is sent goes nowhere."""
        return self.why is not None

    @property
    def closed(self) -> bool:
        """Whether it is gone and its socket is closed, too: who ends its loop waits for this."""
        return self.why is not None and self._transport is None

    @property
    def backlog_bytes(self) -> int:
        """What was sent and has not left this process. Who sends more while this is above
        limits.RLPX_BACKLOG_BYTES loses the peer, so whoever has much to send watches it."""
        if self._transport is None:
            return self._queued_bytes
        return self._queued_bytes + self._transport.get_write_buffer_size()

    def send(self, code: int, payload: bytes) -> None:
        """Queue a message; to a link that is gone or not ready, nothing. ValueError for a code that
        the capability has not, and for more than 16 MiB."""
        if self.why is None and self._session.ready:
            self._session.send(code, payload)
            self._write()

    def pause(self) -> None:
        """Read no more until `resume`; meanwhile the peer's silence is not held against it."""
        if not self._paused and self.why is None and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._heard_s = self._loop.time()
            if self.why is None and self._transport is not None:
                self._transport.resume_reading()

    def close(self, reason: Reason = Reason.REQUESTED) -> None:
        """Say why, then end. Harmless once more."""
        self._session.leave(reason)
        self._settle()

    def give_way(self, why: str) -> None:
        """End at once, since others need the room (`why` is the code)."""
        reason = Reason.TOO_MANY_PEERS
        self._session.leave(reason, Left(why, "others need what the link holds", True, reason))
        self._settle()
        self._abort()

    # --- what asyncio calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._among.add(self)
        host, port = self._transport.get_extra_info("peername", ("", 0))[:2]
        self.address, self.source = (str(host), int(port)), source_of(str(host))
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timer = self._loop.call_later(self._times.handshake_s, self._late)
        if not self.outbound:
            refusal = self._admission.enter(self, self._loop.time())
            if refusal is not None:
                self._end(Left(refusal, "no place for another connection", ours=True))
                self._abort()
                return
        self._write()

    def data_received(self, data: bytes) -> None:
        if self.why is not None:
            return
        session = self._session
        was_ready, frames = session.ready, session.frames
        came = session.receive(data)
        if session.frames != frames:
            self._heard_s = self._loop.time()
        self._admission.hold(self, session.unfinished_bytes)
        if session.ready and not was_ready and self.why is None:
            self._open()
        if came and self.why is None:
            self._handler.messages(self, came)
        self._settle()

    def eof_received(self) -> bool:
        self._end(Left("lost", "the peer closed the connection", ours=False))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Left("lost", str(exc) if exc else "the connection was closed", ours=False))
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._queue.clear()
        self._among.discard(self)
        self._admission.leave(self)
        self._transport = None

    def pause_writing(self) -> None:
        if self._stall is None and self.why is None:
            self._taken_bytes = self._written_bytes - self.backlog_bytes
            self._stall = self._loop.call_later(self._times.stall_s, self._stalled)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # --- beginning --------------------------------------------------------------------------

    def _open(self) -> None:
        """Hello has come: a peer, unless there is one like it already, or no room."""
        now_s = self._loop.time()
        refusal = self._admission.greet(self, self.remote_id, inbound=not self.outbound)
        if refusal is not None:
            self._session.leave(_REFUSALS[refusal])
            return
        self._heard_s, self._ping_at_s = now_s, now_s + self._times.ping_s
        self._watch()
        self._handler.ready(self)
        if not self.opened.done():
            self.opened.set_result(self)

    def _late(self) -> None:
        """The handshake's time is over; single bytes have not prolonged it."""
        left = Left("handshake-timeout", "no hello came in time", True, Reason.READ_TIMEOUT)
        self._session.leave(Reason.READ_TIMEOUT, left)
        self._settle()

    # --- being there ------------------------------------------------------------------------

    def _watch(self) -> None:
        """Be called when the next ping is due, or the peer has been silent for too long."""
        if self._timer is not None:
            self._timer.cancel()
        due_s = min(self._ping_at_s, self._heard_s + self._times.silent_s)
        self._timer = self._loop.call_at(max(due_s, self._loop.time() + 0.001), self._beat)

    def _beat(self) -> None:
        if self.why is not None:
            return
        now_s = self._loop.time()
        if self._paused:
            self._heard_s = now_s
        if now_s >= self._heard_s + self._times.silent_s:
            left = Left("silent", "no whole message for too long", True, Reason.READ_TIMEOUT)
            self._session.leave(Reason.READ_TIMEOUT, left)
            self._settle()
            return
        if now_s >= self._ping_at_s:
            self._ping_at_s = now_s + self._times.ping_s
            self._session.ping()
            self._write()
        self._watch()

    def _stalled(self) -> None:
        """Whoever has taken next to nothing since the timer began does not read."""
        self._stall = None
        taken = self._written_bytes - self.backlog_bytes
        if taken - self._taken_bytes >= limits.RLPX_STALL_BYTES:
            self.pause_writing()
            return
        self._end(Left("never-reads", "the peer takes nothing that is sent", ours=True))
        self._abort()

    # --- writing ----------------------------------------------------------------------------

    def _write(self) -> None:
        """Queue what the session has to say, for the end of this turn."""
        out = self._session.outgoing()
        if not out or self._transport is None or self.why is not None:
            return
        if self.backlog_bytes > limits.RLPX_BACKLOG_BYTES:
            self._end(Left("never-reads", "too much waits for the peer to read it", ours=True))
            self._abort()
            return
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue.append(out)
        self._queued_bytes += len(out)
        self._written_bytes += len(out)

    def _flush(self) -> None:
        if self._queue and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._queue))
        self._queue.clear()
        self._queued_bytes = 0

    # --- ending -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Write what there is, and end if the session has."""
        self._write()
        if self._session.left is not None and self.why is None:
            self._end(self._session.left)
            self._part()

    def _end(self, left: Left) -> None:
        """From here on the link is gone, whatever becomes of the socket."""
        if self.why is not None:
            return
        self.why = left
        now_s = self._loop.time()
        if left.ours and left.code in _BREACHES and not self.outbound:
            self._admission.bar(self.source, now_s)
        self._admission.part(self, self.remote_id)
        if not self.opened.done():
            self.opened.cancel()
        self._loop.call_soon(self._handler.lost, self, left)

    def _part(self) -> None:
        """Let the last words arrive: a socket that is closed with bytes unread resets the
        connection, and the peer never learns why. So only our half is closed, what still comes is
        dropped, and the rest follows when the peer closes, or soon."""
        if self._transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._times.close_s, self._abort)
        self._flush()
        left = self._session.left
        if self._transport.is_closing() or left is None or not left.ours or left.reason is None:
            self._transport.close()
            return
        if self._paused:
            self._transport.resume_reading()
        self._transport.write_eof()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Listening:
    """A listener. port: where it is, also when 0 was asked for; links: what came by here and has a
    socket."""

    def __init__(self, server: asyncio.Server, links: set[Link]) -> None:
        self._server = server
        self.links = links
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections, and end those that came by here (`quitting`)."""
        self._server.close()
        for link in list(self.links):
            link.close(Reason.QUITTING)
        await asyncio.sleep(0)


async def dial(
    enode: Enode,
    identity: Identity,
    handler: Handler,
    *,
    admission: Admission | None = None,
    times: Times = DEFAULT_TIMES,
) -> Link:
    """A link to this peer, ready. Share one `admission` among all links of a node, so that no peer
    is connected twice. Raises Unavailable: `peer-unreachable` (no connection), `peer-refused` (it
    left, perhaps with a reason), `peer-handshake` (it is silent, does not speak as it should, or is
    not who it should be)."""
    loop = asyncio.get_running_loop()
    room = admission or Admission()
    try:
        async with asyncio.timeout(times.connect_s):
            _, link = await loop.create_connection(
                lambda: Link(Session(identity, enode.node_id), handler, room, times),
                enode.host,
                enode.port,
            )
    except (OSError, TimeoutError, UnicodeError) as error:
        # UnicodeError: a host that Python takes for no name, which is none of OSError.
        why = str(error) or "no answer in time"
        raise _unavailable(enode, why, "peer-unreachable") from None
    try:
        await asyncio.wait((link.opened,))
    except asyncio.CancelledError:
        link.close(Reason.QUITTING)
        raise
    if link.why is not None:
        code = "peer-handshake" if link.why.ours else "peer-refused"
        raise _unavailable(enode, link.why.detail, code)
    return link


async def listen(
    host: str,
    port: int,
    identity: Identity,
    handler: Handler,
    *,
    admission: Admission | None = None,
    times: Times = DEFAULT_TIMES,
) -> Listening:
    """Take connections at this address; port 0 finds a free one. Raises Unavailable (code
    `listen`)."""
    loop = asyncio.get_running_loop()
    room = admission or Admission()
    links: set[Link] = set()

    try:
        server = await loop.create_server(
            lambda: Link(Session(identity), handler, room, times, links), host, port
        )
    except OSError as error:
        why = f"{host}:{port} cannot be listened at: {error.strerror or error}"
        raise Unavailable(why, code="listen") from None
    return Listening(server, links)


def _unavailable(enode: Enode, why: str, code: str) -> Unavailable:
    return Unavailable(f"{enode.host}:{enode.port}: {why}", code=code, hint=_HINTS[code])
