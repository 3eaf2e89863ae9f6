"""Hears proposals: validators' at once, outsiders' in turn.

Cheap checks come first: size, form, window, bars, repetition, signature; then the queue, and in it
base, freeze, due set and bodies, before anything is built.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import parse_bodies
from restante.formats.message import Answer, Proposal
from restante.formats.tree import HASH_BYTES
from restante.node.validator.driver import ValidatorNode
from restante.node.wire.http import RequestRefused
from restante.node.wire.quota import Queue, Waiting, WindowQuota

Work = tuple[Callable[[], Answer], "asyncio.Future[Answer]"]


class Reception:
    """The proposals that reach one validator."""

    def __init__(self, node: ValidatorNode) -> None:
        self._node = node
        self._d = node.d
        self._validators = {v.public_key for v in node.d.validators}
        self._queue: Queue[Work] = Queue()
        self._quota = WindowQuota(node.machine.base.window)
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Outsiders' requests in the queue."""
        return len(self._queue)

    async def run(self) -> None:
        """Serve the queue. Between two of its requests everything else has its turn."""
        while True:
            item = self._queue.get()
            if item is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            judge, answer = item.work
            if not answer.done():
                try:
                    answer.set_result(judge())
                except Exception as error:
                    answer.set_exception(error)
                    raise
            await asyncio.sleep(0)

    async def proposal(self, data: bytes, address: str) -> Answer:
        """Judge a proposal's bytes. Raises InvalidEncoding, VerificationFailed, RequestRefused."""
        d, node = self._d, self._node
        p = Proposal.parse(data, d.set_id, d.batch_max_envelopes)
        base_window = node.machine.base.window
        check_window(p.window, d, base_window, node.clock.now_ms())
        if p.window < base_window - 1:
            # Who lost this window's race a moment ago gets its conflict; this is a replay.
            raise RequestRefused(
                409, "decided", f"window {p.window} is decided", "follow the log to its end first"
            )
        if p.key in self._validators:
            p.verify(d.set_id)
            return node.judge(p)
        quota = self._current()
        digest = sha256(data).digest()
        early = quota.refusal(address, p.key) or quota.known(digest)
        if early is not None:
            return early
        p.verify(d.set_id)
        return await self._in_turn(
            address, p.key, len(data), lambda: self._judge(p, address, digest)
        )

    async def bodies(self, data: bytes, key: bytes, cid: bytes, address: str) -> Answer:
        """Take bodies that were pushed for a proposal. Raises as `proposal`."""
        node = self._node
        raws = parse_bodies(data, self._d.max_envelope_bytes, limits.BODIES_IDS)
        if key in self._validators:
            return node.push(key, cid, raws)
        early = self._current().refusal(address, key)
        if early is not None:
            return early
        digest = sha256(data + key + cid).digest()
        return await self._in_turn(
            address, key, len(data), lambda: self._push(key, cid, raws, address, digest)
        )

    def _judge(self, p: Proposal, address: str, digest: bytes) -> Answer:
        quota, judge = self._current(), self._node.machine.judge
        early = quota.refusal(address, p.key) or quota.known(digest)
        if early is not None:
            return early
        if not quota.may_build(address) and not (p.against is None and judge.knows_set(p.ids)):
            return Answer.refused("builds-spent", "outsiders' builds of this window are spent")
        before = judge.builds
        answer = self._node.judge(p)
        return quota.judged(address, p.key, digest, answer, judge.builds - before)

    def _push(
        self, key: bytes, cid: bytes, raws: list[bytes], address: str, digest: bytes
    ) -> Answer:
        quota, judge = self._current(), self._node.machine.judge
        early = quota.refusal(address, key)
        if early is not None:
            return early
        if not quota.may_build(address):
            return Answer.refused("builds-spent", "outsiders' builds of this window are spent")
        before = judge.builds
        answer = self._node.push(key, cid, raws)
        return quota.judged(address, key, digest, answer, judge.builds - before)

    def _current(self) -> WindowQuota:
        window = self._node.machine.base.window
        if self._quota.window != window:
            self._quota = WindowQuota(window)
        return self._quota

    async def _in_turn(
        self, address: str, key: bytes, size_bytes: int, judge: Callable[[], Answer]
    ) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        for dropped in self._queue.put(Waiting(address, key, size_bytes, (judge, answer))):
            _, given_up = dropped.work
            if not given_up.done():
                given_up.set_exception(
                    RequestRefused(
                        429, "queue-full", "too many proposals wait", "come back in a second"
                    )
                )
        self._wake.set()
        return await answer


def check_window(window: int, d: Descriptor, base_window: int, now_ms: int) -> None:
    """Refuse windows that no honest clock or log is near. Raises RequestRefused."""
    if window > d.window_of(now_ms) + 1:
        raise RequestRefused(
            422, "future-window", f"window {window} is in the future", "check the clock"
        )
    if window < base_window - d.recent_windows:
        raise RequestRefused(
            422, "ancient-window", f"window {window} was decided long ago", "read the log first"
        )


def parse_hex(text: str, size: int, what: str) -> bytes:
    """A parameter in hex. Raises InvalidEncoding."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or len(text) != 2 * size:
        raise InvalidEncoding(f"{what} is {size} bytes in hex")
    return value


def proposal_max_bytes(d: Descriptor) -> int:
    """The most that a proposal of this set can have."""
    return 2 * HASH_BYTES * d.batch_max_envelopes + limits.MESSAGE_OVERHEAD_BYTES
