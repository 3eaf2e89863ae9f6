"""What peers say, and what follows: the handler of all links, and the judge's word on envelopes.

No waiting here: everything happens within the turn in which a read, or a group of verdicts, came.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from time import monotonic
from typing import Protocol

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import whisper
from restante.formats.whisper import Keccak
from restante.networks.rlpx.link import Admission, Left, Link, Reason
from restante.networks.whisper import messages, skew
from restante.networks.whisper.messages import Response, Status
from restante.networks.whisper.network_queue import Came, Queue
from restante.networks.whisper.peer import PEER_BEHIND_S
from restante.networks.whisper.peers import Batch, Peer, Peers
from restante.networks.whisper.relay import EVERYBODY, Live, Relay
from restante.networks.whisper.skew import OUT_OF_TIME
from restante.ports import Arrival, Clock
from restante.rules.intake import Verdict

log = logging.getLogger("restante.whisper")

# What a message costs that brings nothing, and for how many bytes it costs one more (to decrypt and
# unpack them); a refused envelope; and a new demand, which makes us look through all that lives: in
# units of limits.SHH_USELESS_BURST.
_IDLE_MESSAGE = 10
_IDLE_BYTES = 1_000
_REFUSED = 10
_NEW_DEMAND = 500


class MailPeer(Protocol):
    """Who asks for mail, as the mail service sees it."""

    node_id: bytes
    address: str

    @property
    def backlog_bytes(self) -> int: ...
    @property
    def gone(self) -> bool: ...
    def send(self, code: int, payload: bytes) -> None: ...


class MailService(Protocol):
    """Answers old clients; neither call may raise or wait."""

    def request(self, peer: MailPeer, payload: bytes) -> None:
        """Code 126, as it came; answered later by 127 and 125."""
        ...

    def sync_request(self, peer: MailPeer, payload: bytes) -> None:
        """Code 123, as it came; refused by 124."""
        ...


class Talk:
    """The handler of every link of this node."""

    def __init__(
        self,
        clock: Clock,
        keccak: Keccak,
        status: Status,
        mail: MailService | None,
        max_peers: int,
    ) -> None:
        """`status`: what we say first; `max_peers`: of those that come."""
        self.relay = Relay(keccak)
        self.peers = Peers(self.relay)
        self.queue = Queue()
        self.admission = Admission(inbound=max_peers)
        self.counts: Counter[str] = Counter()
        """Of all peers: `accepted`, `repeat`, and refusals by code."""
        self.closing = False
        self._clock = clock
        self._keccak = keccak
        self._status = status
        self._hello = status.encode()
        self._mail = mail
        self._held: set[Peer] = set()
        """Those that are not read, as too much of them waits."""
        self._awaited: dict[bytes, list[Batch]] = {}
        """Packets that repeat what waits for its judge, by the id of that."""

    # --- links ----------------------------------------------------------------------------------

    def ready(self, link: Link) -> None:
        peer = self.peers.add(link, monotonic(), self._clock.now_ms())
        if self.closing:
            peer.end("quitting", reason=Reason.QUITTING)
            return
        peer.send(messages.STATUS, self._hello)
        asyncio.get_running_loop().call_later(limits.SHH_STATUS_S, self._greeted_by_now, peer)

    def _greeted_by_now(self, peer: Peer) -> None:
        if peer.state.status is None:
            self._expel(peer, "no-status", "it did not say what it wants in time")

    def _expel(self, peer: Peer, code: str, detail: str) -> None:
        """End a peer for what it did. Its address has to wait before it may connect again: who
        costs us a packet of nonsense a connection shall not connect at will."""
        if not peer.gone:
            self.admission.bar(peer.link.source, monotonic())
            peer.end(code, detail)

    def lost(self, link: Link, why: Left) -> None:
        peer = self.peers.remove(link, why, self._clock.now_ms())
        if peer is not None:
            self._held.discard(peer)
            self.queue.departed(peer)
            self._log(peer, f"left: {peer.why}")

    def _log(self, peer: Peer, what: str) -> None:
        """Of peers that we chose. Others come at will, so they shall not fill a log; `restante
        peers` shows them."""
        level = logging.INFO if peer.outbound else logging.DEBUG
        log.log(level, "peer %s at %s: %s", peer.node_id.hex()[:16], peer.address, what)

    def messages(self, link: Link, came: list[tuple[int, bytes]]) -> None:
        peer = self.peers.of(link)
        if peer is None:
            return
        state, now_ms = peer.state, self._clock.now_ms()
        for code, payload in came:
            if peer.gone:
                return
            state.packets_in += 1
            state.bytes_in += len(payload)
            try:
                if state.status is None:
                    self._greet(peer, code, payload)
                elif code == messages.ENVELOPES:
                    self._envelopes(peer, payload, now_ms)
                else:
                    self._other(peer, code, payload)
            except InvalidEncoding as error:
                state.refused[error.code] += 1
                self.counts[error.code] += 1
                self._expel(peer, error.code, str(error))

    # --- messages -------------------------------------------------------------------------------

    def _greet(self, peer: Peer, code: int, payload: bytes) -> None:
        if code != messages.STATUS:
            self._expel(peer, "no-status", f"its first message had code {code}")
            return
        status = Status.parse(payload)
        if status.light and self._status.light:
            peer.end("both-light", "neither would relay anything", Reason.USELESS_PEER)
            return
        peer.state.greeted(status)
        if self.queue.full:
            self._hold(peer)
        self._log(peer, peer.client)

    def _other(self, peer: Peer, code: int, payload: bytes) -> None:
        """Everything but envelopes, which is rare: each costs the peer some of its budget."""
        state = peer.state
        cost = _price(_IDLE_MESSAGE, payload)
        if code == messages.POW:
            state.demands(messages.parse_pow(payload), None)
            cost = _NEW_DEMAND
        elif code == messages.BLOOM:
            state.demands(None, messages.parse_bloom(payload))
            cost = _NEW_DEMAND
        elif code == messages.RATE_LIMITS:
            state.limited(messages.parse_rate_limits(payload))
        elif code == messages.BATCH_TAKEN:
            messages.parse_batch_taken(payload)
            state.told["taken"] += 1
        elif code == messages.RESPONSE:
            self._told(peer, messages.parse_response(payload))
        elif code in (messages.MAIL_REQUEST, messages.SYNC_REQUEST):
            self._asked(peer, code, payload)
        # Passed over, as by geth: another status, mail that nobody asked for, what is unknown.
        self._charge(peer, cost)

    def _told(self, peer: Peer, response: Response) -> None:
        told = peer.state.told
        told["out-of-time"] += response.out_of_time
        told["refused"] += response.other
        if response.out_of_time:
            peer.witness.complained(monotonic())

    def _asked(self, peer: Peer, code: int, payload: bytes) -> None:
        if self._mail is None:
            self.counts["no-mail-service"] += 1
        elif not peer.state.requests.spend(1, monotonic()):
            self.counts["too-many-requests"] += 1
            peer.state.refused["too-many-requests"] += 1
        elif code == messages.MAIL_REQUEST:
            self._mail.request(peer, payload)
        else:
            self._mail.sync_request(peer, payload)

    def _envelopes(self, peer: Peer, payload: bytes, now_ms: int) -> None:
        """The hot path: one pass, and for a repeat no more than its hash."""
        state, known = peer.state, self.relay.known
        recent, older = self.relay.faded
        raws = whisper.parse_packet(payload)
        bit = state.bit
        batch = Batch(peer, self._keccak(payload)) if state.confirms else None
        came: list[Came] = []
        useless = size = 0
        for raw in raws:
            id_ = sha256(raw).digest()
            live = known.get(id_)
            if live is not None:
                # geth gives an envelope once to each peer that did not give it.
                if live.gave & bit:
                    useless += _price(1, raw)
                live.gave |= bit
                live.knows |= bit
                if batch is not None and live.waits:
                    batch.open += 1
                    self._awaited.setdefault(id_, []).append(batch)
            elif id_ in recent or id_ in older:
                useless += _price(1, raw)
            else:
                live = known[id_] = Live(id_, raw, bit)
                came.append((Arrival(now_ms, raw), live, peer, batch))
                size += len(raw)
        repeats = len(raws) - len(came)
        state.got += len(raws)
        state.repeats += repeats
        self.counts["repeat"] += repeats
        if batch is not None:
            batch.open += len(came)
            if not batch.open:
                peer.answer(batch)
        if came and self.queue.put(peer, came, size):
            self._hold(peer)
        if useless or not raws:
            self._charge(peer, useless or _IDLE_MESSAGE)

    def _charge(self, peer: Peer, units: int) -> None:
        """Let a peer pay for what it made us do for nothing; who cannot is ended."""
        if not peer.unheard and not peer.state.useless.spend(units, monotonic()):
            peer.unheard = True
            self.counts["flood"] += 1
            self._expel(peer, "flood", "too much that is refused, known or empty")
            self._drop(peer, but_begun=False)

    # --- flow -----------------------------------------------------------------------------------

    def _hold(self, peer: Peer) -> None:
        """What it brought must be judged first; and where there is too much of all, everything."""
        for each in self.peers.all() if self.queue.full else (peer,):
            # Who has not said its Status yet must be read to do so; then it is held.
            if each not in self._held and each.state.status is not None:
                self._held.add(each)
                each.link.pause()

    def _drop(self, peer: Peer, *, but_begun: bool) -> None:
        """Give up what waits of a peer, but for what others brought, too: that is theirs now."""
        here = {each.state.bit: each for each in self.peers.all() if each is not peer}
        bits = sum(here)
        theirs: dict[Peer, list[Came]] = {}
        for arrival, live, _, _ in self.queue.drop(peer, but_begun=but_begun):
            if live.gave & bits:
                giver = next(each for bit, each in here.items() if live.gave & bit)
            elif live.gave & ~peer.state.bit:
                giver = peer  # whoever else brought it has left
            else:
                self._forget(live)
                continue
            theirs.setdefault(giver, []).append((arrival, live, giver, None))
        for giver, came in theirs.items():
            self.queue.put(giver, came, sum(len(arrival.raw) for arrival, _, _, _ in came))
            if giver.over.is_set():
                self.queue.departed(giver)
        self.drained()

    def drained(self) -> None:
        """Something was taken from the queue: there may be room."""
        if self._held:
            for peer in [each for each in self._held if self.queue.has_room(each)]:
                self._held.discard(peer)
                peer.link.resume()

    # --- verdicts -------------------------------------------------------------------------------

    def judged(self, given: Sequence[Came], verdicts: Sequence[Verdict]) -> None:
        """Relay what is durable; end who sent what geth would cut off for. Its packet is judged to
        the end, also by later groups; what else waits of it is not."""
        doomed: dict[Peer, str] = {}
        now_s = monotonic()
        ages: dict[Peer, int] = {}
        for came, (code, severity, facts) in zip(given, verdicts, strict=True):
            arrival, live, peer, batch = came
            if facts is not None:
                peer.state.new += 1
                seen = ages.get(peer, 0)
                if seen < limits.SKEW_AGES_A_GROUP:
                    ages[peer] = seen + 1
                    peer.witness.saw(arrival.arrival_ms / 1000 - facts.sent_s, True, now_s)
                self._own_only(live)
                self.relay.accept(live, facts)
            elif code == "repeat":
                peer.state.repeats += 1
                self._own_only(live)
                if not self.relay.adopt(live) or live.expiry_s * 1000 < arrival.arrival_ms:
                    # Reception looks no further than at its id.
                    self._charge(peer, _price(_REFUSED, arrival.raw))
            elif self._refused(came, code, severity == "disconnect", now_s):
                doomed[peer] = code
            if batch is not None:
                self._settle(batch, arrival.raw, code)
            if self._awaited:
                for waiting in self._awaited.pop(live.id, ()):
                    self._settle(waiting, arrival.raw, code)
        self.counts.update(verdict.code for verdict in verdicts)
        for peer, code in doomed.items():
            self._expel(peer, code, "geth cuts off whoever sends such an envelope")
            self._drop(peer, but_begun=True)

    def unjudged(self, given: Sequence[Came]) -> None:
        """Nobody will judge these: when they come again, they are new."""
        for _, live, _, _ in given:
            self._forget(live)

    def _forget(self, live: Live) -> None:
        self._awaited.pop(live.id, None)
        self.relay.forget(live)

    def _settle(self, batch: Batch, raw: bytes, code: str) -> None:
        """An envelope of a packet that wants an answer was judged."""
        if code in OUT_OF_TIME:
            batch.out_of_time.append(self._keccak(raw))
        batch.open -= 1
        if not batch.open:
            batch.peer.answer(batch)

    def _own_only(self, live: Live) -> None:
        """A light listener relays nothing but its own."""
        if self._status.light:
            live.knows = EVERYBODY

    def _refused(self, came: Came, code: str, cut_off: bool, now_s: float) -> bool:
        """Account for a refusal; whether the peer must go for it."""
        arrival, live, peer, _ = came
        self.relay.forget(live)
        peer.state.refused[code] += 1
        self._charge(peer, _price(_REFUSED, arrival.raw))
        if code not in OUT_OF_TIME and code != "low-pow":
            return cut_off
        age_s = _age_s(arrival)
        if code == "low-pow":
            # What is ahead of our clock must have worked for the seconds ahead: it may be low by
            # that alone, and clocks a little apart are nobody's fault.
            if age_s >= 0:
                return cut_off
            cut_off = cut_off and age_s < -PEER_BEHIND_S
        peer.witness.saw(age_s, False, now_s)
        others = [each.witness for each in self.peers if each is not peer]
        if cut_off and not skew.vouched(others, now_s):
            peer.spared += 1
            self.counts["spared"] += 1
            return False
        return cut_off


def _price(units: int, data: bytes) -> int:
    """What something that brings nothing costs whoever sent it: by its kind, and by its bytes."""
    return units + len(data) // _IDLE_BYTES


def _age_s(arrival: Arrival) -> float:
    """How long before its arrival an envelope was sent, as it says; it was read before."""
    found = whisper.scan(arrival.raw)
    return arrival.arrival_ms / 1000 - (found.expiry_s - found.ttl_s)
