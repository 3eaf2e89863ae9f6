"""The peers that are here, and those that left lately."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from restante import limits
from restante.networks.rlpx.link import Left, Link, Reason
from restante.networks.whisper import messages
from restante.networks.whisper.peer import PeerState
from restante.networks.whisper.relay import Relay
from restante.networks.whisper.skew import Witness


class Batch:
    """A packet whose sender wants to be told what became of it (status-go's confirmations).

    It is told once every envelope of it is durable, or refused: `open` counts the others, also
    those that another peer brought first.
    """

    __slots__ = ("digest", "open", "out_of_time", "peer")

    def __init__(self, peer: "Peer", digest: bytes) -> None:
        self.peer = peer
        self.digest = digest
        self.open = 0
        self.out_of_time: list[bytes] = []


class Peer:
    """A peer's link and all that is known of it. What mail is answered through, too."""

    def __init__(self, link: Link, relay: Relay, now_s: float, since_ms: int) -> None:
        """`now_s`: monotonic; `since_ms`: by the clock."""
        self.link = link
        self.node_id = link.remote_id
        self.client = link.remote_client
        self.outbound = link.outbound
        self.address = _host_and_port(link.address)
        self.state = PeerState(relay.take_slot(), relay, now_s)
        self.witness = Witness(now_s)
        self.since_s = since_ms // 1000
        self.began_s = now_s
        self.served_s = now_s
        """When it was given what there was for it; monotonic, like `began_s`."""
        self.gone = False
        """Whether nothing more is heard of it, or said to it."""
        self.over = asyncio.Event()
        """Set when its link has ended."""
        self.unheard = False
        """Whether what it brought is judged no more, since it has spent its budget."""
        self.spared = 0
        """How often it was kept since the fault may be our clock's."""
        self.why = ""
        """Why it left, or is about to: a code, and perhaps a sentence behind a colon."""

    @property
    def backlog_bytes(self) -> int:
        return self.link.backlog_bytes

    def send(self, code: int, payload: bytes) -> None:
        if not self.gone:
            self.link.send(code, payload)

    def end(self, code: str, detail: str = "", reason: Reason = Reason.SUBPROTOCOL_ERROR) -> None:
        """Leave it; what is named first is the reason that people are shown."""
        if not self.gone:
            self.gone = True
            self.why = f"{code}: {detail}" if detail else code
            self.link.close(reason)

    def answer(self, batch: Batch) -> None:
        """Tell it what became of a packet."""
        response = messages.encode_response(batch.digest, batch.out_of_time)
        self.send(messages.RESPONSE, response)
        self.send(messages.BATCH_TAKEN, messages.encode_batch_taken(batch.digest))

    def left(self, why: Left) -> str:
        """Note that its link has ended; answers why, in words."""
        self.gone = True
        self.over.set()
        if not self.why:
            self.why = f"{why.code}: {why.detail}" if why.detail else why.code
        return self.why

    def row(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id.hex(),
            "enode": f"enode://{self.node_id.hex()}@{self.address}",
            "address": self.address,
            "client": self.client,
            "outbound": self.outbound,
            "since_s": self.since_s,
            "ready": self.state.status is not None,
            "left": self.why or None,
            "spared": self.spared,
            "backlog_bytes": 0 if self.over.is_set() else self.link.backlog_bytes,
            **self.state.row(),
        }


class Peers:
    """By link, and by node id: at most one of each."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._by_link: dict[Link, Peer] = {}
        self._departed: deque[dict[str, Any]] = deque(maxlen=limits.SHH_DEPARTED)
        self.left: Counter[str] = Counter()
        """How many left, by the code of the reason."""
        self.turned_away: Counter[str] = Counter()
        """The same of links that ended before they were peers: broken handshakes, no room."""

    def __iter__(self) -> Iterator[Peer]:
        """Those that are past their Status and not about to end."""
        return (p for p in list(self._by_link.values()) if p.state.status and not p.gone)

    def all(self) -> list[Peer]:
        """Those, too, whose Status has not come, or that are about to end."""
        return list(self._by_link.values())

    def of(self, link: Link) -> Peer | None:
        return self._by_link.get(link)

    def with_id(self, node_id: bytes) -> Peer | None:
        """The peer of that key that is not about to end."""
        return next(
            (p for p in self._by_link.values() if p.node_id == node_id and not p.gone), None
        )

    @property
    def inbound(self) -> int:
        return sum(not peer.outbound for peer in self._by_link.values())

    def add(self, link: Link, now_s: float, since_ms: int) -> Peer:
        peer = self._by_link[link] = Peer(link, self._relay, now_s, since_ms)
        return peer

    def remove(self, link: Link, why: Left, now_ms: int) -> Peer | None:
        """Its link has ended."""
        peer = self._by_link.pop(link, None)
        if peer is None:
            self.turned_away[why.code] += 1
            return None
        reason = peer.left(why)
        self.left[reason.partition(":")[0]] += 1
        self._relay.free_slot(peer.state.slot)
        self._departed.append(peer.row() | {"left_s": now_ms // 1000})
        return peer

    def rows(self) -> list[dict[str, Any]]:
        """Those that are here, then those that left, the newest first."""
        here = [peer.row() | {"left": None, "left_s": None} for peer in self._by_link.values()]
        return here + list(reversed(self._departed))


def _host_and_port(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
