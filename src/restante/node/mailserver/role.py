"""The mail server role: requests of old clients in, verified mail out.

It holds no key that anybody trusts. What it hands out was verified as every client verifies it;
what it can do to its clients is to withhold, to be slow, and to see what they ask for.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any

from restante import limits
from restante.errors import ConfigError, InvalidEncoding, RestanteError, Unavailable
from restante.networks.source import source_of
from restante.networks.whisper import mail
from restante.networks.whisper.mail_request import (
    MailKeys,
    MailRefused,
    open_request,
)
from restante.networks.whisper.messages import REQUEST_COMPLETE, SYNC_RESPONSE
from restante.networks.whisper.network_talk import MailPeer
from restante.node.mailserver.delivery import Delivery, PeerLost
from restante.node.mailserver.history import history
from restante.node.mailserver.index import Index, IndexPlace
from restante.node.mailserver.waiting import Job, WaitingRequests
from restante.node.wire.quota import Rate
from restante.ports import Clock

log = logging.getLogger("restante.mailserver")

_TOO_SOON = "rate limit exceeded"
_UNAVAILABLE = "history is not available now"
_NO_SYNC = "this mail server does not sync; its history is a public index"


class MailServer:
    """A `networks.whisper.network_talk.MailService`; `run` it beside the network."""

    def __init__(
        self, place: IndexPlace, clock: Clock, keys: MailKeys, *, rate_limit_s: float = 0.0
    ) -> None:
        """`rate_limit_s` is between two requests of one peer; 0 for any number. Raises ConfigError
        `source`, `mail-key`."""
        if keys.password_key is None and keys.private_key is None:
            raise ConfigError(
                "no key for requests", code="mail-key", hint="give a password or a private key"
            )
        self._clock = clock
        self._keys = keys
        self._rate_limit_s = rate_limit_s
        self.index = Index(place, clock)
        self._waiting = WaitingRequests()
        self._more = asyncio.Event()
        self._rate = Rate(
            limits.MAIL_REQUESTS_PER_S, limits.MAIL_REQUESTS_BURST, limits.MAIL_ADDRESSES
        )
        self._served_s: OrderedDict[bytes, float] = OrderedDict()
        self.counts: Counter[str] = Counter()
        """Requests by what became of them, and envelopes given."""

    # --- MailService --------------------------------------------------------------------------

    def request(self, peer: MailPeer, payload: bytes) -> None:
        """Take a request (code 126), to be answered in its turn; or say at once why not."""
        self.counts["requests"] += 1
        source = source_of(peer.address.rpartition(":")[0].strip("[]") or peer.address)
        if not self._rate.take(source, monotonic()):
            self.counts["too-many-of-address"] += 1
            return
        try:
            request = open_request(payload, self._keys, self._clock.now_ms() // 1000)
        except MailRefused as error:
            self._refuse(peer, error.request_id, str(error), error.code)
            return
        except InvalidEncoding as error:
            # Nobody can be told: there is no request to name.
            log.debug("no request: %s", error)
            self.counts["malformed"] += 1
            return
        if self._is_too_soon(peer.node_id):
            self._refuse(peer, request.request_id, _TOO_SOON, "too-soon")
        elif not self._waiting.put(Job(peer, source, request)):
            self._refuse(peer, request.request_id, _TOO_SOON, "queue-full")
        self._more.set()

    def sync_request(self, peer: MailPeer, payload: bytes) -> None:
        """Refuse another mail server (code 123), whatever it wants."""
        self.counts["sync-refused"] += 1
        peer.send(SYNC_RESPONSE, mail.sync_refused(_NO_SYNC))

    def _refuse(self, peer: MailPeer, request_id: bytes, text: str, code: str) -> None:
        self.counts[code] += 1
        if not peer.gone:
            peer.send(REQUEST_COMPLETE, mail.failed(request_id, text))

    def _is_too_soon(self, node_id: bytes) -> bool:
        """Whether a peer's last request that was taken is not long enough ago."""
        if not self._rate_limit_s:
            return False
        now_s = monotonic()
        last_s = self._served_s.get(node_id)
        if last_s is not None and now_s - last_s < self._rate_limit_s:
            return True
        self._served_s[node_id] = now_s
        self._served_s.move_to_end(node_id)
        if len(self._served_s) > limits.MAIL_ADDRESSES:
            self._served_s.popitem(last=False)
        return False

    # --- at work ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the index and answer requests, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.index.follow())
            while True:
                self._more.clear()
                while (job := self._waiting.take()) is not None:
                    group.create_task(self._answer(job))
                # Nothing tells when a peer has read what it was sent.
                with suppress(TimeoutError):
                    async with asyncio.timeout(limits.MAIL_LOOK_S if self._waiting else None):
                        await self._more.wait()

    async def aclose(self) -> None:
        """Give up the sources, after `run`."""
        await self.index.aclose()

    async def _answer(self, job: Job) -> None:
        peer, request_id = job.peer, job.request.request_id
        try:
            self.counts[await self._serve(job)] += 1
        except PeerLost as error:
            self.counts[error.code] += 1
        except RestanteError as error:
            log.warning("a request cannot be answered: %s", error)
            self._refuse(peer, request_id, f"{_UNAVAILABLE} ({error.code})", error.code)
        except Exception:
            # One request must not end the others.
            log.exception("a request failed")
            self._refuse(peer, request_id, _UNAVAILABLE, "failed")
        finally:
            self._waiting.done(job)
            self._more.set()

    async def _serve(self, job: Job) -> str:
        """Answer one request; what it is counted as."""
        peer, request = job.peer, job.request
        if peer.gone:
            raise PeerLost("peer-gone")
        trusted, wanted = self.index.trusted, self.index.wanted(request)
        delivery = Delivery(peer, request, wanted.size, lambda: bool(self._waiting))
        runs = history(trusted, wanted, self.index.book)
        outcome = "answered"
        try:
            allowed_s = limits.MAIL_UNPAGED_S if request.limit is None else limits.MAIL_PAGE_S
            async with asyncio.timeout(allowed_s), aclosing(runs):
                async for run in runs:
                    if not await delivery.give(run):
                        outcome = "answered-page"
                        break
        except TimeoutError:
            if not delivery.count:
                # Without a place to go on from, "complete" would be a lie.
                raise Unavailable("it took too long", code="mail-timeout") from None
            outcome = "answered-part"
        finally:
            self.counts["envelopes"] += delivery.count
        delivery.complete(more=outcome != "answered")
        return outcome

    def status(self) -> dict[str, Any]:
        """What an operator asks first; `reasons` is empty when all is well."""
        error = self.index.error
        reasons = [] if error is None else [{"code": error.code, "message": str(error)}]
        return {
            **self.index.status(),
            "waiting": len(self._waiting),
            "running": self._waiting.running,
            "counts": dict(sorted(self.counts.items())),
            "reasons": reasons,
        }
