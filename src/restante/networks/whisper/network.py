"""Whisper v6 as a network: this node among its peers.

Envelopes come in groups by `arrivals`, reception says by `judged` what is durable, and only that is
relayed, once to each peer that wants it, in ticks as geth has them. Peers that are configured are
dialled for ever; others may come where a listener is asked for.

A judged packet's sender is cut off for what geth would cut off for, with one exception: what only
clocks can be blamed for ends a peer only where the *other* peers show that our clock is right
(skew.py). Otherwise a machine whose clock is off would lose all of its honest peers; so it keeps
them, relays nothing of that, counts it, and tells its operator.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any

from restante import limits
from restante.errors import Unavailable
from restante.formats import whisper
from restante.networks.keccak import keccak256
from restante.networks.rlpx.link import Enode, Identity, Listening, Reason, listen
from restante.networks.whisper import bloom, messages, skew
from restante.networks.whisper.network_dial import Dialling
from restante.networks.whisper.network_queue import Came, Queue
from restante.networks.whisper.network_talk import MailService, Talk
from restante.networks.whisper.peer import NEVER
from restante.networks.whisper.peers import Peer
from restante.networks.whisper.relay import Live
from restante.networks.whisper.skew import Skew
from restante.ports import Arrival, Clock
from restante.rules.intake import Verdict

log = logging.getLogger("restante.whisper")

# How often the clock is compared with the peers'.
_CLOCK_LOOK_S = 5.0


class WhisperNetwork:
    """A `Network` of Whisper peers."""

    name = "whisper"

    def __init__(
        self,
        key: bytes,
        peers: Sequence[Enode],
        clock: Clock,
        *,
        floor_millionths: int,
        client: str,
        listen_at: tuple[str, int] | None = None,
        advertised: str = "",
        max_peers: int = limits.SHH_PEERS,
        mail: MailService | None = None,
        filter_: int | None = None,
    ) -> None:
        """key: this node's private key, 32 bytes; peers: dialled for ever; floor_millionths: the
        least work taken, as in the descriptor; client: what peers are told of this program;
        listen_at: host and port (0: any free one) where others come, and max_peers of them;
        advertised: the host that the enode names, if another than that;
        filter_: a bloom filter makes a light listener, which relays nothing but its own."""
        self._clock = clock
        self._status = messages.Status(
            pow=floor_millionths / 1_000_000,
            bloom=bloom.FULL if filter_ is None else filter_,
            light=filter_ is not None,
            confirmations=True,
        )
        self._talk = Talk(clock, keccak256, self._status, mail, max_peers)
        self._relay = self._talk.relay
        self._queue: Queue = self._talk.queue
        self._dialling = Dialling(peers, self._talk.peers, self._talk, clock)
        self._key = key
        self._client = client
        self._listen_at = listen_at
        self._advertised = advertised
        self._listening: Listening | None = None
        self._given: list[Came] = []
        self._wake = asyncio.Event()
        self._opening = asyncio.Lock()
        self._skew = Skew(None, 0, 0, 0)
        self._work: asyncio.Task[None] | None = None
        self._failure: ExceptionGroup[Exception] | None = None
        """What ended the network, which nobody asked to end."""

    # --- the port -------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a peer is past its Status."""
        return not self._talk.closing and any(True for _ in self._talk.peers)

    async def open(self) -> None:
        """Listen, dial and relay from now on; `arrivals` does it where nobody did. Raises
        Unavailable (`listen`)."""
        async with self._opening:
            if self._work is None and not self._talk.closing:
                await self._open()

    async def _open(self) -> None:
        identity = Identity(self._key, self._client, _CAPABILITY, 0)
        if self._listen_at is not None:
            admission = self._talk.admission
            self._listening = await listen(
                *self._listen_at, identity, self._talk, admission=admission
            )
            identity = Identity(self._key, self._client, _CAPABILITY, self._listening.port)
        self._work = asyncio.create_task(self._run(identity))

    async def arrivals(self) -> AsyncIterator[Sequence[Arrival]]:
        """See ports.Network. A group that `judged` was not called for counts as not judged.
        Raises what the network died of: who observes must not go on as if it did."""
        await self.open()
        while True:
            self._talk.unjudged(self._given)
            self._given = []
            arrivals, given = await self._queue.take()
            if not arrivals:
                break
            self._given = given
            self._talk.drained()
            yield arrivals
            # Whoever is behind has a group at once, again and again: let others have a turn.
            await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        given, self._given = self._given, []
        self._talk.judged(given, verdicts)

    def send(self, raw: bytes) -> int:
        """Queue an envelope for each peer that takes it (its PoW, its filter, 1 MiB), and relay it
        to those that come while it lives. 0 for what is none, or has expired, and where no peer is.
        """
        if self._talk.closing:
            raise Unavailable("the Whisper network is closed", code="no-peer")
        id_ = sha256(raw).digest()
        live = self._relay.known.get(id_)
        if live is None or live.waits:
            live = live or Live(id_, raw)
            if not self._relay.adopt(live):
                return 0
        self._wake.set()
        clock_s = self._peers_clock_s()
        return sum(
            peer.state.stance(live, *clock_s) != NEVER or bool(live.knows & peer.state.bit)
            for peer in self._talk.peers
        )

    def resume(self, raws: Sequence[bytes]) -> None:
        """See ports.Network: what peers have brought meanwhile is theirs."""
        for raw in raws:
            id_ = sha256(raw).digest()
            if id_ not in self._relay.known and not self._relay.is_faded(id_):
                self._relay.adopt(Live(id_, raw))
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """What an operator asks first, and JSON can say."""
        peers = self._talk.peers
        here = list(peers)
        return {
            "enode": self.enode,
            "peers": len(here),
            "outbound": sum(peer.outbound for peer in here),
            "pow": self._status.pow,
            "light": self._status.light,
            "counts": dict(sorted(self._talk.counts.items())),
            "left": dict(sorted(peers.left.items())),
            "turned_away": dict(sorted(peers.turned_away.items())),
            "clock": self._judge_clock()._asdict(),
            "relay": {"envelopes": self._relay.living, "bytes": self._relay.bytes},
            "queue": {"envelopes": len(self._queue), "bytes": self._queue.bytes},
            "static": [static.row() for static in self._dialling.static],
        }

    def reasons(self) -> list[tuple[str, str]]:
        """What is not well: `network-stopped`, `no-peer`, `network-clock`."""
        if self._failure is not None:
            return [
                ("network-stopped", "the Whisper network stopped, the log says why: start anew")
            ]
        found = []
        if not self.connected:
            found.append(
                ("no-peer", "no Whisper peer (see `restante peers`): nothing is observed, or sent")
            )
        skew = self._judge_clock()
        if skew.seems_off:
            found.append(("network-clock", in_words(skew)))
        return found

    def peers(self) -> list[dict[str, Any]]:
        """A row for each peer that is here (`left` is None), then for those that left lately."""
        return self._talk.peers.rows()

    async def close(self) -> None:
        """Leave all peers; `arrivals` end. Nothing of this is left in the loop afterwards."""
        self._talk.closing = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._leave()

    async def _leave(self) -> None:
        self._talk.closing = True
        self._queue.close()
        links = [peer.link for peer in self._talk.peers.all()]
        for peer in self._talk.peers.all():
            peer.end("quitting", reason=Reason.QUITTING)
        if self._listening is not None:
            await self._listening.close()
        # Sockets close after limits.RLPX_CLOSE_S at the latest.
        while not all(link.closed for link in links):  # noqa: ASYNC110 no event tells it
            await asyncio.sleep(0.005)

    @property
    def enode(self) -> str | None:
        """Where others reach this node; None where it does not listen."""
        if self._listening is None or self._listen_at is None:
            return None
        identity = Identity(self._key, self._client, _CAPABILITY)
        host = self._advertised or self._listen_at[0]
        return str(Enode(identity.node_id, host, self._listening.port))

    # --- what goes on ---------------------------------------------------------------------------

    async def _run(self, identity: Identity) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._dialling.run(identity, self._talk.admission))
                tasks.create_task(self._tick())
                tasks.create_task(self._watch_clock())
        except* Exception as group:
            # Unreachable but for our own mistakes. Whoever takes `arrivals` is told by it, and a
            # node ends; peers shall not feed one that listens no more.
            self._failure = group
            log.exception("the Whisper network stopped")
            await self._leave()

    async def _tick(self) -> None:
        """Relay what is new, as often as geth does, or sooner where there is more than that."""
        pause_s = limits.SHH_TICK_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self._relay.expire(self._clock.now_ms() // 1000)
            more = await self._serve_all()
            pause_s = limits.SHH_TICK_BUSY_S if more else limits.SHH_TICK_S

    async def _serve_all(self) -> bool:
        """Serve peers in turn, with a turn for everybody else after each; those that one tick does
        not reach are the first of the next. Whether there is more for anybody."""
        looks, more = limits.SHH_TICK_LOOKS_ALL, False
        for peer in sorted(self._talk.peers, key=lambda each: each.served_s):
            if looks <= 0:
                return True
            if not peer.gone:
                peer.served_s = monotonic()
                looks -= self._serve(peer, min(looks, limits.SHH_TICK_LOOKS))
                more = more or peer.state.behind(self._relay)
            await asyncio.sleep(0)
        return more

    def _serve(self, peer: Peer, most: int) -> int:
        """Give a peer what there is for it, within one tick's bounds; how many were looked at."""
        state, looks = peer.state, most
        before = state.bytes_out
        while looks > 0 and state.bytes_out - before < limits.SHH_TICK_BYTES:
            if peer.backlog_bytes > limits.SHH_BACKLOG_BYTES:
                break
            raws, looked = state.packet(self._relay, self._peers_clock_s(), looks, monotonic())
            looks -= looked
            if not raws:
                break
            peer.send(messages.ENVELOPES, whisper.assemble_packet(raws))
        return most - looks

    async def _watch_clock(self) -> None:
        """Tell the operator when our clock begins to seem off, and when it does no more."""
        while True:
            await asyncio.sleep(_CLOCK_LOOK_S)
            before, found = self._skew, self._judge_clock()
            self._skew = found
            if found.seems_off and not before.seems_off:
                log.warning("%s", in_words(found))
            elif before.seems_off and not found.seems_off:
                log.info("this machine's clock agrees with its Whisper peers again")

    def _peers_clock_s(self) -> tuple[int, int]:
        """What peers' clocks read, at least and at most. Where ours is ahead, what is sent here is
        from the future there, and must wait; where it is behind, what lives here has expired there:
        geth cuts off for both. It stops what we send, so it takes more than to tell the operator.
        """
        now_s = self._clock.now_ms() // 1000
        ahead_s = round(self._skew.off_s or 0.0) if self._skew.agreed else 0
        return now_s - max(0, ahead_s), now_s - min(0, ahead_s)

    def _judge_clock(self) -> Skew:
        return skew.judge([peer.witness for peer in self._talk.peers], monotonic())


_CAPABILITY = (messages.NAME, messages.VERSION, messages.CODES)


def in_words(found: Skew) -> str:
    """What an operator is told of the clock."""
    if found.off_s is None:
        return f"{found.complaints} Whisper peers say that this machine's clock is off"
    way = "ahead of" if found.off_s > 0 else "behind"
    return (
        f"this machine's clock seems to be about {abs(found.off_s):.0f} s {way} its Whisper "
        f"peers' (from {found.ages} envelopes of {found.peers} peers): set it, or what is sent "
        "here is refused there, and the other way round"
    )
