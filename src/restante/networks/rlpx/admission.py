"""Who may connect: a room for peers, a doorway for others, and patience for each address.

A connection is free to open, so it costs a listener only a place that others can take. In the
doorway stand inbound connections that are no peers yet, or no more until their last words have
arrived. Where it is full, the oldest of the address that holds most gives way: so one address
cannot keep the others out. An address that connects again and again, or whose peer broke
the protocol, waits. Loopback and private networks are exempt from that, as geth has it: a whole
house may be behind such an address.

No sockets and no clock: the link asks, and acts on the answer.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from restante import limits


class Guest(Protocol):
    """A connection as admission sees it."""

    @property
    def source(self) -> str: ...

    def give_way(self, why: str) -> None:
        """Close, since the place is needed (`why` is a code)."""
        ...


@dataclass(slots=True)
class _Account:
    """What an address may still do: connections left, as of when, and until when it is barred."""

    left: float
    at_s: float
    barred_until_s: float = 0.0


class Admission:
    """The connections of one node, in and out."""

    def __init__(
        self,
        *,
        inbound: int = limits.RLPX_INBOUND,
        inbound_per_address: int = limits.RLPX_INBOUND_PER_ADDRESS,
        handshakes: int = limits.RLPX_HANDSHAKES,
        handshakes_per_address: int = limits.RLPX_HANDSHAKES_PER_ADDRESS,
        exempt_private: bool = True,
    ) -> None:
        self._inbound_max = inbound
        self._inbound_per_address = inbound_per_address
        self._handshakes_max = handshakes
        self._handshakes_per_address = handshakes_per_address
        self._exempt_private = exempt_private
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        # In order of arrival.
        self._doorway: dict[Guest, None] = {}
        self._peers: dict[bytes, Guest] = {}
        self._inbound: set[Guest] = set()
        self._unfinished: dict[Guest, int] = {}
        self._unfinished_bytes = 0

    @property
    def doorway(self) -> int:
        """Inbound connections that are not peers, yet or any more."""
        return len(self._doorway)

    @property
    def inbound(self) -> int:
        """Inbound peers."""
        return len(self._inbound)

    def enter(self, guest: Guest, now_s: float) -> str | None:
        """An inbound connection begins: None, or the code of why it may not. Another may have to
        give way to it."""
        source = guest.source
        exempt = self._exempt(source)
        if not exempt:
            refusal = self._charge(source, now_s)
            if refusal is not None:
                return refusal
        among = sum(each.source == source for each in self._doorway)
        if not exempt and among >= self._handshakes_per_address:
            return "too-many-of-address"
        self._stand(guest)
        return None

    def greet(self, guest: Guest, node_id: bytes, *, inbound: bool) -> str | None:
        """A connection has said hello: None when it is a peer now, or why not: `already-connected`,
        `too-many-peers`; then it stays in the doorway until it has left."""
        if node_id in self._peers:
            return "already-connected"
        if inbound:
            if len(self._inbound) >= self._inbound_max:
                return "too-many-peers"
            among = sum(each.source == guest.source for each in self._inbound)
            if among >= self._inbound_per_address and not self._exempt(guest.source):
                return "too-many-peers"
            self._inbound.add(guest)
        self._peers[node_id] = guest
        self._doorway.pop(guest, None)
        return None

    def part(self, guest: Guest, node_id: bytes) -> None:
        """It is a peer no more, though its socket may be open a little longer."""
        self.hold(guest, 0)
        if self._peers.get(node_id) is guest:
            del self._peers[node_id]
        if guest in self._inbound:
            self._inbound.discard(guest)
            self._stand(guest)

    def leave(self, guest: Guest) -> None:
        """Its socket is closed. Follows `part`."""
        self._doorway.pop(guest, None)

    def bar(self, source: str, now_s: float) -> None:
        """A peer at this address broke the protocol: it is not heard for a while."""
        if not self._exempt(source):
            self._account(source, now_s).barred_until_s = now_s + limits.RLPX_BARRED_S

    def hold(self, guest: Guest, unfinished_bytes: int) -> None:
        """So much is held of a message of this peer that is not whole. Where all of that is too
        much, whoever holds most gives way."""
        count = unfinished_bytes if unfinished_bytes > limits.RLPX_UNFINISHED_FREE_BYTES else 0
        self._unfinished_bytes += count - self._unfinished.pop(guest, 0)
        if count:
            self._unfinished[guest] = count
        while self._unfinished_bytes > limits.RLPX_UNFINISHED_BYTES:
            victim = max(self._unfinished, key=lambda each: self._unfinished[each])
            self._unfinished_bytes -= self._unfinished.pop(victim)
            victim.give_way("unfinished-too-large")

    def _stand(self, guest: Guest) -> None:
        """Give a place in the doorway, perhaps another's."""
        if len(self._doorway) >= self._handshakes_max:
            held = Counter(each.source for each in self._doorway)
            most = max(held.values())
            victim = next(each for each in self._doorway if held[each.source] == most)
            del self._doorway[victim]
            victim.give_way("crowded-out")
        self._doorway[guest] = None

    def _exempt(self, source: str) -> bool:
        if not self._exempt_private:
            return False
        try:
            return ip_address(source).is_private
        except ValueError:
            return False

    def _charge(self, source: str, now_s: float) -> str | None:
        account = self._account(source, now_s)
        if now_s < account.barred_until_s:
            return "barred"
        if account.left < 1.0:
            return "too-often"
        account.left -= 1.0
        return None

    def _account(self, source: str, now_s: float) -> _Account:
        account = self._accounts.get(source)
        if account is None:
            account = self._accounts[source] = _Account(limits.RLPX_ACCEPT_BURST, now_s)
            if len(self._accounts) > limits.RLPX_ADDRESSES:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(source)
        account.left += (now_s - account.at_s) * limits.RLPX_ACCEPT_PER_S
        account.left = min(account.left, limits.RLPX_ACCEPT_BURST)
        account.at_s = now_s
        return account
