"""One answer on its way to a peer: mail at the peer's pace, and then how it ended."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from restante import limits
from restante.networks.keccak import keccak256
from restante.networks.whisper import mail
from restante.networks.whisper.mail import MailCursor
from restante.networks.whisper.mail_request import MailRequest
from restante.networks.whisper.messages import MAIL, REQUEST_COMPLETE
from restante.networks.whisper.network_talk import MailPeer
from restante.rules.query import Found, Place


class PeerLost(Exception):
    """Nobody takes the mail any more; `code` is the counter's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Delivery:
    """`give` envelopes, then `complete`."""

    def __init__(
        self, peer: MailPeer, request: MailRequest, size: int, others_wait: Callable[[], bool]
    ) -> None:
        """size: of the tree that the whole answer is of; others_wait: whether requests do."""
        self._peer = peer
        self._request = request
        self._size = size
        self._others_wait = others_wait
        self._waited_s = 0.0
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._last: Found | None = None
        self.count = 0
        """Envelopes given."""

    @property
    def is_full(self) -> bool:
        """Whether the page has all that it may."""
        return self._request.limit is not None and self.count >= self._request.limit

    async def give(self, run: Sequence[Found]) -> bool:
        """Send envelopes, each as soon as the peer has room for it; whether all of them found room
        in the page. Raises PeerLost."""
        for found in run:
            if self.is_full:
                return False
            self._send(found)
            if self._peer.backlog_bytes > limits.MAIL_BACKLOG_BYTES:
                if not await self._room():
                    return False
            elif self.count % limits.MAIL_AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._peer.gone:
                raise PeerLost("peer-gone")
        return True

    def _send(self, found: Found) -> None:
        if not self._request.batch:
            self._peer.send(MAIL, found.raw)
        else:
            if self._batch and self._batch_bytes + len(found.raw) > limits.MAIL_BATCH_BYTES:
                self._flush()
            self._batch.append(found.raw)
            self._batch_bytes += len(found.raw)
        self.count += 1
        self._last = found

    def complete(self, *, more: bool) -> None:
        """Say that the answer is over, and where it goes on if there is more."""
        self._flush()
        last, after = self._last, b""
        if more and last is not None:
            place = Place(last.sent_s, last.id)
            after = MailCursor.behind(self._size - 1, place).encode()
        elif more and self._request.cursor is not None:
            after = self._request.cursor.encode()
        hashed = mail.NO_HASH if last is None else keccak256(last.raw)
        self._peer.send(REQUEST_COMPLETE, mail.completed(self._request.request_id, hashed, after))

    def _flush(self) -> None:
        if self._batch:
            self._peer.send(MAIL, mail.packet(self._batch))
            self._batch, self._batch_bytes = [], 0

    async def _room(self) -> bool:
        """Wait until half of what may wait is written out. False: the page ends here, for the sake
        of others. A peer that takes next to nothing is lost."""
        began_s = since_s = monotonic()
        mark = self._peer.backlog_bytes
        while (now := self._peer.backlog_bytes) > limits.MAIL_BACKLOG_BYTES // 2:
            if self._peer.gone:
                raise PeerLost("peer-gone")
            now_s = monotonic()
            if now <= mark - limits.MAIL_STALL_BYTES:
                mark, since_s = now, now_s
            elif now_s - since_s > limits.MAIL_STALL_S:
                raise PeerLost("peer-never-reads")
            if self._is_impatient(self._waited_s + now_s - began_s):
                return False
            await asyncio.sleep(limits.MAIL_POLL_S)
        self._waited_s += monotonic() - began_s
        return True

    def _is_impatient(self, waited_s: float) -> bool:
        """Whether a slow reader has had its share: where there is a cursor to go on from."""
        return (
            waited_s > limits.MAIL_PATIENCE_S
            and self._request.limit is not None
            and self._others_wait()
        )
