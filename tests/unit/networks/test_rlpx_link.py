"""Links over loopback: traffic, reasons, time-outs, floods, and peers that mean no good."""

import asyncio
import resource
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any

import pytest

from restante import limits
from restante.errors import Unavailable
from restante.formats import rlp
from restante.networks.rlpx import link as rlpx
from restante.networks.rlpx.frames import Reader, Writer
from restante.networks.rlpx.handshake import Initiator
from restante.networks.rlpx.link import (
    Admission,
    Enode,
    Identity,
    Left,
    Link,
    Listening,
    Reason,
    Times,
)
from restante.networks.rlpx.session import Session

SHH = ("shh", 6, 128)
SERVER = Identity(b"\x02" * 32, "server/1", SHH)
PATIENCE_S = 10.0


class Recorder:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.came: list[tuple[int, bytes]] = []
        self.groups = 0
        self.left: list[Left] = []
        self.by_link: dict[Link, int] = {}

    def ready(self, link: Link) -> None:
        assert link not in self.links
        self.links.append(link)

    def messages(self, link: Link, came: list[tuple[int, bytes]]) -> None:
        assert link in self.links
        assert not link.gone
        self.came += came
        self.groups += 1

    def lost(self, link: Link, why: Left) -> None:
        assert link.why is why
        self.by_link[link] = self.by_link.get(link, 0) + 1
        assert self.by_link[link] == 1
        self.left.append(why)

    def codes(self) -> list[str]:
        return [why.code for why in self.left]


def someone() -> Identity:
    return Identity(secrets.token_bytes(32), "someone/1", SHH)


def open_sockets() -> list[asyncio.BaseTransport]:
    known = asyncio.get_running_loop()._transports.values()
    return [each for each in known if each._sock is not None]


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it on a loop of its own, and see that no socket is left when it is over."""

    async def whole(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(60):
            await test(*args, **kwargs)
        await until(lambda: not open_sockets())

    @wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        asyncio.run(whole(*args, **kwargs))

    return wrapped


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(
    times: Times = rlpx.DEFAULT_TIMES, admission: Admission | None = None
) -> AsyncIterator[tuple[Listening, Recorder]]:
    recorder = Recorder()
    room = admission or Admission()
    found = await rlpx.listen("127.0.0.1", 0, SERVER, recorder, times=times, admission=room)
    try:
        yield found, recorder
    finally:
        await found.close()
        await until(lambda: not found.links)
        assert room.doorway == room.inbound == 0


async def dial(
    found: Listening,
    recorder: Recorder,
    identity: Identity | None = None,
    times: Times = rlpx.DEFAULT_TIMES,
    admission: Admission | None = None,
) -> Link:
    enode = Enode(SERVER.node_id, "127.0.0.1", found.port)
    return await rlpx.dial(enode, identity or someone(), recorder, times=times, admission=admission)


async def refusal(found: Listening, here: Recorder, identity: Identity | None = None) -> str:
    """The code of why a dial failed. Empty where it did not: the other side judges after hello, so
    whoever is refused may have been ready for a moment."""
    try:
        await dial(found, here, identity)
    except Unavailable:
        await until(lambda: here.left)
        return here.left[-1].code
    return ""


async def knock(found: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", found.port)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the other side closes, or resets."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionError:
        return b""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def shake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes | None = None
) -> tuple[Writer, Reader]:
    """The handshake by hand, without hello."""
    initiator = Initiator(key or secrets.token_bytes(32), SERVER.node_id)
    writer.write(initiator.packet)
    head = await reader.readexactly(2)
    shared = initiator.finish(head + await reader.readexactly(int.from_bytes(head, "big")))
    return Writer(shared), Reader(shared)


# --- between friends ------------------------------------------------------------------------


@run
async def test_10_000_messages_in_each_direction() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        back = there.links[0]
        assert (link.remote_client, back.remote_client) == ("server/1", "someone/1")
        assert (link.outbound, back.outbound) == (True, False)
        assert link.address == ("127.0.0.1", found.port)
        assert link.remote_id == SERVER.node_id
        sent = [(at % 128, at.to_bytes(4, "big") * (1 + at % 300)) for at in range(10_000)]
        for at, (code, payload) in enumerate(sent):
            link.send(code, payload)
            back.send(code, payload)
            if at % 500 == 499:
                await until(lambda: link.backlog_bytes == back.backlog_bytes == 0)
        await until(lambda: len(there.came) == len(here.came) == 10_000)
        assert there.came == sent
        assert here.came == sent
        # Many came with one read.
        assert there.groups < 5_000
        link.close(Reason.QUITTING)
        await until(lambda: there.left and here.left)
    assert there.left == [Left("quitting", there.left[0].detail, ours=False, reason=8)]
    assert here.left == [Left("quitting", here.left[0].detail, ours=True, reason=8)]


@pytest.mark.parametrize("reason", Reason)
@run
async def test_reasons_arrive_from_both_ends(reason: Reason) -> None:
    async with listening() as (found, there):
        here = Recorder()
        for theirs in (False, True):
            link = await dial(found, here)
            await until(lambda: len(there.links) == 1)
            # What is under way in the other direction must not reset the connection.
            for _ in range(50):
                link.send(1, bytes(1_000))
                there.links[0].send(1, bytes(1_000))
            (there.links[0] if theirs else link).close(reason)
            await until(lambda: there.left and here.left)
            assert {here.left[0].reason, there.left[0].reason} == {reason}
            assert {here.left[0].code, there.left[0].code} == {reason.label}
            assert (here.left[0].ours, there.left[0].ours) == (not theirs, theirs)
            link.send(1, b"to nobody")
            link.close(Reason.SELF)
            for each in (here, there):
                each.links.clear()
                each.left.clear()


@run
async def test_a_reason_arrives_at_a_peer_that_is_busy_writing() -> None:
    """A socket closed with bytes unread would reset the connection under its hands."""
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link.pause()
        for _ in range(7):
            there.links[0].send(1, secrets.token_bytes(1_000_000))
        await asyncio.sleep(0.1)
        assert there.links[0].backlog_bytes
        link.close(Reason.SUBPROTOCOL_ERROR)
        await until(lambda: there.left)
        assert there.left[0].reason == Reason.SUBPROTOCOL_ERROR
        assert here.came == []


@run
async def test_what_is_unread_does_not_reset_the_connection() -> None:
    """On a network that loses packets, a reset would take the reason with it."""
    async with listening() as (found, there):
        reader, writer = await knock(found)
        me = someone()
        frames, _ = await shake(reader, writer, me.key)
        hello = rlp.encode([b"\x05", b"raw", [[b"shh", b"\x06"]], b"", me.node_id])
        writer.write(frames.frame(b"\x80" + hello))
        await until(lambda: there.links)
        there.links[0].pause()
        for _ in range(10):
            writer.write(bytes(100_000))
        await asyncio.sleep(0.1)
        there.links[0].close(Reason.QUITTING)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read()
        await close(writer)


@run
async def test_pause_holds_messages_back_and_silence_is_not_held_against_it() -> None:
    times = Times(ping_s=0.05, silent_s=0.2)
    async with listening(times) as (found, there):
        here = Recorder()
        link = await dial(found, here, times=Times(ping_s=0.05, silent_s=60))
        await until(lambda: there.links)
        there.links[0].pause()
        there.links[0].pause()
        for _ in range(10):
            link.send(1, b"x")
        await asyncio.sleep(0.5)
        assert there.came == []
        assert not there.links[0].gone
        there.links[0].resume()
        there.links[0].resume()
        await until(lambda: len(there.came) == 10)
        await asyncio.sleep(0.3)
        assert not there.links[0].gone


@run
async def test_pings_keep_a_quiet_link() -> None:
    times = Times(ping_s=0.05, silent_s=0.3)
    async with listening(times) as (found, there):
        here = Recorder()
        link = await dial(found, here, times=times)
        await asyncio.sleep(1.0)
        assert not link.gone
        assert there.left == []


# --- dialling -------------------------------------------------------------------------------


@run
async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        await rlpx.dial(Enode(SERVER.node_id, "127.0.0.1", port), someone(), Recorder())
    assert caught.value.code == "peer-unreachable"


@run
async def test_somebody_else_there() -> None:
    async with listening() as (found, there):
        here = Recorder()
        with pytest.raises(Unavailable) as caught:
            await rlpx.dial(Enode(someone().node_id, "127.0.0.1", found.port), someone(), here)
        assert caught.value.code == "peer-refused"
        await until(lambda: there.left and here.left)
        assert there.codes() == ["handshake"]
        assert here.codes() == ["lost"]
        assert here.links == there.links == []


@run
async def test_ourselves() -> None:
    async with listening() as (found, there):
        with pytest.raises(Unavailable, match="self"):
            await dial(found, Recorder(), SERVER)
        await until(lambda: there.left)
        assert there.codes() == ["self"]


@run
async def test_nothing_in_common() -> None:
    async with listening() as (found, there):
        eth = Identity(secrets.token_bytes(32), "eth", ("eth", 63, 17))
        with pytest.raises(Unavailable, match="useless-peer"):
            await dial(found, Recorder(), eth)
        await until(lambda: there.left)
        assert there.codes() == ["useless-peer"]


@run
async def test_a_server_that_accepts_and_says_nothing() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here = Recorder()
    enode = Enode(SERVER.node_id, "127.0.0.1", port)
    with pytest.raises(Unavailable) as caught:
        await rlpx.dial(enode, someone(), here, times=Times(handshake_s=0.1))
    assert caught.value.code == "peer-handshake"
    await until(lambda: here.left)
    assert here.codes() == ["handshake-timeout"]
    server.close()


@run
async def test_a_dial_that_is_cancelled_leaves_nothing() -> None:
    closed = asyncio.Event()

    class Hold(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            closed.set()

    server = await asyncio.get_running_loop().create_server(Hold, "127.0.0.1", 0)
    here = Recorder()
    enode = Enode(SERVER.node_id, "127.0.0.1", server.sockets[0].getsockname()[1])
    task = asyncio.create_task(rlpx.dial(enode, someone(), here))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE_S):
        await closed.wait()
    await until(lambda: here.left)
    server.close()


@run
async def test_a_port_that_is_taken() -> None:
    async with listening() as (found, _):
        with pytest.raises(Unavailable) as caught:
            await rlpx.listen("127.0.0.1", found.port, SERVER, Recorder())
        assert caught.value.code == "listen"


# --- who may stay ---------------------------------------------------------------------------


@run
async def test_the_same_peer_twice() -> None:
    async with listening() as (found, there):
        me = someone()
        link = await dial(found, Recorder(), me)
        here = Recorder()
        assert await refusal(found, here, me) in ("", "already-connected")
        await until(lambda: here.left and there.left)
        assert here.codes() == there.codes() == ["already-connected"]
        link.send(1, b"still there")
        await until(lambda: there.came)


@run
async def test_dialled_and_called_by_the_same_peer() -> None:
    """One admission for both directions: whoever comes second is refused."""
    room = Admission()
    async with listening(admission=room) as (found, there):
        other = Recorder()
        me = someone()
        back = await rlpx.listen("127.0.0.1", 0, me, other)
        link = await dial(found, Recorder(), me)
        await until(lambda: there.links)
        with pytest.raises(Unavailable, match="already-connected"):
            await rlpx.dial(
                Enode(me.node_id, "127.0.0.1", back.port), SERVER, Recorder(), admission=room
            )
        assert not link.gone
        await back.close()
        await until(lambda: not back.links)


@run
async def test_too_many_peers_are_told_so() -> None:
    async with listening(admission=Admission(inbound=3)) as (found, there):
        links = [await dial(found, Recorder()) for _ in range(3)]
        await until(lambda: len(there.links) == 3)
        here = Recorder()
        assert await refusal(found, here) in ("", "too-many-peers")
        await until(lambda: here.left)
        assert here.left[0].reason == Reason.TOO_MANY_PEERS
        # One leaves, one may come.
        links[0].close(Reason.REQUESTED)
        await until(lambda: len(there.left) == 2)
        link = await dial(found, Recorder())
        await until(lambda: len(there.links) == 4)
        assert not link.gone


@run
async def test_a_strangers_address_is_barred_once_it_broke_the_protocol() -> None:
    room = Admission(exempt_private=False)
    async with listening(admission=room) as (found, there):
        reader, writer = await knock(found)
        writer.write(b"\xff\xff")
        await ended(reader)
        await close(writer)
        assert there.codes() == ["handshake"]
        with pytest.raises(Unavailable):
            await dial(found, Recorder())
        await until(lambda: len(there.left) == 2)
        assert there.codes()[1] == "barred"


# --- who speaks badly, or not at all --------------------------------------------------------


@run
async def test_a_byte_now_and_then_does_not_prolong_the_handshake() -> None:
    async with listening(Times(handshake_s=0.4)) as (found, there):
        _, writer = await knock(found)
        packet = Initiator(secrets.token_bytes(32), SERVER.node_id).packet
        began = time.monotonic()
        for byte in packet:
            if there.left:
                break
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.02)
        assert 0.3 < time.monotonic() - began < 1.5
        assert there.codes() == ["handshake-timeout"]
        await close(writer)


@run
async def test_no_hello_after_the_handshake() -> None:
    async with listening(Times(handshake_s=0.3)) as (found, there):
        reader, writer = await knock(found)
        _, frames = await shake(reader, writer)
        came = frames.take(await ended(reader))
        assert came[0].startswith(b"\x80")
        # 0x0b, read time-out; not compressed, since nobody said what it takes.
        assert came[1] == b"\x01\xc1\x0b"
        assert there.codes() == ["handshake-timeout"]
        await close(writer)


@run
async def test_a_byte_now_and_then_of_a_large_message_is_silence() -> None:
    async with listening(Times(ping_s=60, silent_s=0.4)) as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link._session.send(1, secrets.token_bytes(100_000))
        began_s = time.monotonic()
        for byte in link._session.outgoing()[:200]:
            if there.left:
                break
            link._transport.write(bytes((byte,)))
            await asyncio.sleep(0.02)
        assert time.monotonic() - began_s < 3
        await until(lambda: there.left)
        assert there.codes() == ["silent"]
        await until(lambda: here.left)
        assert here.left[0].reason == Reason.READ_TIMEOUT


@run
async def test_a_peer_that_dies_is_noticed() -> None:
    async with listening(Times(ping_s=0.05, silent_s=0.3)) as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link._transport.pause_reading()
        await until(lambda: there.left)
        assert there.codes() == ["silent"]
        link._transport.abort()


@run
async def test_a_connection_that_is_cut() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link._transport.abort()
        await until(lambda: there.left and here.left)
        assert there.codes() == here.codes() == ["lost"]
        assert not there.left[0].ours


@run
async def test_a_peer_that_never_reads_is_dropped_after_a_while() -> None:
    async with listening(Times(stall_s=0.5)) as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link.pause()
        back = there.links[0]
        payload = secrets.token_bytes(500_000)
        while not back.gone and back.backlog_bytes < 2_000_000:
            back.send(1, payload)
            await asyncio.sleep(0)
        assert not back.gone
        await until(lambda: back.gone)
        await until(lambda: there.left)
        assert there.codes() == ["never-reads"]
        link._transport.abort()


@run
async def test_a_slow_reader_is_kept() -> None:
    """As long as it takes something, it may be behind for longer than the time-out."""
    async with listening(Times(stall_s=0.3)) as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        back = there.links[0]
        payload = secrets.token_bytes(200_000)
        for _ in range(12):
            while back.backlog_bytes < 6_000_000:
                back.send(1, payload)
            link.resume()
            await asyncio.sleep(0.02)
            link.pause()
            await asyncio.sleep(0.1)
        assert not back.gone
        link.resume()
        await until(lambda: back.backlog_bytes == 0)


@run
async def test_what_waits_for_one_peer_is_bounded() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        link.pause()
        back = there.links[0]
        payload = secrets.token_bytes(1_000_000)
        most = 0
        for _ in range(100):
            back.send(1, payload)
            most = max(most, back.backlog_bytes)
            await asyncio.sleep(0)
        assert back.gone
        assert most < limits.RLPX_BACKLOG_BYTES + 2_000_000
        await until(lambda: there.left)
        assert there.codes() == ["never-reads"]
        link._transport.abort()


@run
async def test_a_breach_does_not_take_what_came_before_and_says_why() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        good = await dial(found, Recorder())
        await until(lambda: len(there.links) == 2)
        link.send(1, b"good")
        await until(lambda: link.backlog_bytes == 0)
        link._transport.write(bytes(64))
        await until(lambda: there.left and here.left)
        assert there.came == [(1, b"good")]
        assert there.codes() == ["bad-mac"]
        assert here.left[0].reason == Reason.BREACH_OF_PROTOCOL
        good.send(2, b"others notice nothing")
        await until(lambda: len(there.came) == 2)


@pytest.mark.parametrize("code", [2, 3, 7])
@run
async def test_a_flood_of_frames_that_bring_nothing(code: int) -> None:
    async with listening() as (found, there):
        here, good = Recorder(), await dial(found, Recorder())
        link = await dial(found, here)
        await until(lambda: len(there.links) == 2)
        link._transport.pause_reading()
        for _ in range(limits.RLPX_BASE_FRAMES + 1):
            link._session._write(code, b"\xc0")
        link._transport.write(link._session.outgoing())
        await until(lambda: there.left)
        assert there.codes() == ["flood"]
        link._transport.resume_reading()
        await until(lambda: here.left)
        assert here.left[0].reason == Reason.BREACH_OF_PROTOCOL
        good.send(2, b"others notice nothing")
        await until(lambda: there.came == [(2, b"others notice nothing")])


@run
async def test_a_snappy_bomb_costs_nothing() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        # 16 MiB are claimed and a few bytes are there; what is claimed must not be allocated.
        bomb = link._session._writer.frame(b"\x11\x80\x80\x80\x08\x00a")
        link._transport.write(bomb)
        await until(lambda: there.left and here.left)
        assert there.codes() == ["snappy"]
        assert here.left[0].reason == Reason.BREACH_OF_PROTOCOL


@run
async def test_who_gives_way_as_it_says_hello_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RLPX_UNFINISHED_BYTES", 1_000)
    monkeypatch.setattr(limits, "RLPX_UNFINISHED_FREE_BYTES", 100)
    async with listening() as (found, there):
        reader, writer = await knock(found)
        session = Session(someone(), SERVER.node_id)
        writer.write(session.outgoing())
        while not session.ready:
            session.receive(await reader.read(10_000))
        session.send(1, secrets.token_bytes(10_000))
        writer.write(session.outgoing()[:-100])  # hello, and a message that is not whole
        await until(lambda: there.left)
        assert there.codes() == ["unfinished-too-large"]
        assert there.links == []
        await close(writer)


@run
async def test_messages_that_are_never_whole_are_bounded_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever holds most is dropped; the others' messages arrive."""
    monkeypatch.setattr(limits, "RLPX_UNFINISHED_BYTES", 3_000_000)
    async with listening() as (found, there):
        links = []
        for at in range(4):
            links.append(await dial(found, Recorder()))
            await until(lambda: len(there.links) == len(links))
            size = 900_000 + 100_000 * at
            links[-1]._session.send(1, secrets.token_bytes(size))
        ends = []
        for link in links:
            frame = link._session.outgoing()
            link._transport.write(frame[:-100_000])
            ends.append(frame[-100_000:])
        await until(lambda: there.left)
        assert there.codes() == ["unfinished-too-large"]
        for link, end in zip(links, ends, strict=True):
            if not link.gone:
                link._transport.write(end)
        await until(lambda: len(there.came) == 3)


# --- crowds ---------------------------------------------------------------------------------


async def crowd(found: Listening, count: int, first: bytes) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    found_sockets = []
    for at in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", found.port))
        if first:
            await loop.sock_sendall(connection, first)
        found_sockets.append(connection)
        if at % 50 == 49:
            await asyncio.sleep(0)
    return found_sockets


@run
async def test_hundreds_that_only_connect_hold_bounded_places() -> None:
    async with listening() as (found, there):
        held = await crowd(found, 400, b"")
        await until(lambda: len(there.left) >= 400 - limits.RLPX_HANDSHAKES)
        assert set(there.codes()) == {"crowded-out"}
        await until(lambda: len(found.links) == limits.RLPX_HANDSHAKES)
        # A peer still finds its way in, past all of them.
        link = await dial(found, Recorder())
        link.send(1, b"here")
        await until(lambda: there.came)
        for each in held:
            each.close()


@run
async def test_who_is_crowded_out_after_the_handshake_does_not_linger() -> None:
    async with listening(Times(close_s=60), Admission(handshakes=4)) as (found, there):
        held = []
        for _ in range(20):
            reader, writer = await knock(found)
            await shake(reader, writer)
            held.append(writer)
        await until(lambda: len(found.links) == 4)
        assert there.codes() == ["crowded-out"] * 16
        for each in held:
            await close(each)
        await until(lambda: not found.links)


@pytest.mark.slow
@run
async def test_thousands_of_connections_and_a_peer_that_notices_nothing() -> None:
    async with listening() as (found, there):
        here = Recorder()
        link = await dial(found, here)
        await until(lambda: there.links)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        packet = Initiator(secrets.token_bytes(32), SERVER.node_id).packet
        sent = 0
        for round_ in range(50):
            held = await crowd(found, 100, (b"", packet[:-1], b"\xff\xff", packet)[round_ % 4])
            link.send(1, round_.to_bytes(1, "big"))
            sent += 1
            for each in held:
                each.close()
        await until(lambda: len(there.came) == sent)
        await until(lambda: len(there.left) == 5_000)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 60_000, f"{grown} KiB more"
        assert not link.gone
        assert here.left == []


@run
async def test_closing_a_listener_ends_its_links() -> None:
    recorder = Recorder()
    found = await rlpx.listen("127.0.0.1", 0, SERVER, recorder)
    here = Recorder()
    for _ in range(3):
        await dial(found, here)
    reader, writer = await knock(found)
    await until(lambda: len(recorder.links) == 3)
    await found.close()
    await until(lambda: len(here.left) == 3 and len(recorder.left) == 4)
    assert {why.code for why in here.left} == {"quitting"}
    await ended(reader)
    await close(writer)
    with pytest.raises(Unavailable):
        await dial(found, here)
