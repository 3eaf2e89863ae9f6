"""Our side of the network in a thread: a `WhisperNetwork`, and reception by the real rules.

Nothing is made durable here; whole nodes are tested elsewhere.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.networks.keccak import keccak256
from restante.networks.rlpx.enode import Enode
from restante.networks.whisper import mine
from restante.networks.whisper.network import MailService, WhisperNetwork
from restante.node.clock import WallClock
from restante.rules.intake import Intake
from restante.rules.pool import PoolIndex

WAIT_S = 15.0
FLOOR_MILLIONTHS = 1_000


class Observer:
    """One node of ours, as far as the network sees it. Everything here may be called anywhere."""

    def __init__(
        self,
        *peers: str,
        floor_millionths: int = FLOOR_MILLIONTHS,
        mail: MailService | None = None,
        filter_: int | None = None,
    ) -> None:
        """`peers`: enodes that are dialled."""
        key = SigningKey("v1", bytes(range(32)))
        d = Descriptor(
            origin="interop.example/0011223344556677",
            genesis_s=1_500_000_000,
            f=0,
            validators=(key.vkey(),),
            pow_floor_millionths=floor_millionths,
        )
        self.raws: list[bytes] = []
        """What was accepted, in order; with when, unix seconds."""
        self.times_s: dict[bytes, float] = {}
        self._intake = Intake(d, keccak256, PoolIndex(d))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.network = WhisperNetwork(
            secrets.token_bytes(32),
            [Enode.parse(enode) for enode in peers],
            WallClock(),
            floor_millionths=floor_millionths,
            client="restante/interop",
            listen_at=("127.0.0.1", 0),
            mail=mail,
            filter_=filter_,
        )
        self._call(self._open)

    async def _open(self) -> None:
        await self.network.open()
        self._observing = asyncio.create_task(self._observe())

    async def _observe(self) -> None:
        async for group in self.network.arrivals():
            pooled = self._intake.observe(group)
            self.network.judged(self._intake.verdicts)
            for arrival_ms, raw in pooled:
                self.raws.append(raw)
                self.times_s[raw] = arrival_ms / 1000

    def _call(self, make: Callable[[], Any]) -> Any:
        """Do it in the loop's thread."""

        async def run() -> Any:
            made = make()
            return await made if asyncio.iscoroutine(made) else made

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_S)

    @property
    def enode(self) -> str:
        enode = self.network.enode
        assert enode is not None
        return enode

    @property
    def node_id(self) -> str:
        return self.enode[8:136]

    def send(self, raw: bytes) -> int:
        sent: int = self._call(lambda: self.network.send(raw))
        return sent

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call(self.network.status)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Of the peers that are here and past their Status."""
        return [row for row in self._call(self.network.peers) if not row["left"] and row["ready"]]

    def row(self, node_id: str) -> dict[str, Any]:
        """Of one peer."""
        return next(row for row in self.rows() if row["node_id"] == node_id)

    def left(self) -> list[tuple[str, str]]:
        """(client, reason) of the peers that left."""
        return [(r["client"], r["left"]) for r in self._call(self.network.peers) if r["left"]]

    def until(self, condition: Callable[[], Any], within_s: float = WAIT_S) -> None:
        """Wait, and fail with what this node says."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError((self.status(), self._call(self.network.peers)))
            time.sleep(0.01)

    def wait(self, *raws: bytes, within_s: float = WAIT_S) -> None:
        """Until these were accepted."""
        self.until(lambda: set(raws) <= set(self.raws), within_s)

    def wait_peers(self, count: int) -> None:
        """Until so many are past their Status."""
        self.until(lambda: len(self.rows()) >= count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self.network.close()
        await self._observing


def envelope(
    text: bytes,
    *,
    topic: bytes = b"\x01\x02\x03\x04",
    ttl_s: int = 30,
    floor_millionths: int = 2_000,
    data_bytes: int = 0,
    sent_s: int | None = None,
    below_millionths: int | None = None,
) -> bytes:
    """A valid envelope of now, whose data nobody can open.

    below_millionths: its work is less than this, too, so that a floor there refuses it.
    """
    data = text.ljust(max(data_bytes, 16), b".")
    expiry_s = (int(time.time()) if sent_s is None else sent_s) + ttl_s
    nonce = -1
    while True:
        nonce = mine.mine(expiry_s, ttl_s, topic, data, floor_millionths, first_nonce=nonce + 1)
        raw = whisper.assemble(expiry_s, ttl_s, topic, data, nonce)
        if below_millionths is None or pow_millionths(raw) < below_millionths:
            return raw


def pow_millionths(raw: bytes) -> float:
    """Its proof of work by geth's formula."""
    found = whisper.scan(raw)
    zeros = whisper.leading_zeros(keccak256(found.work + found.raw_nonce))
    return 1e6 * 2**zeros / len(found.work) / found.ttl_s


def among(raw: bytes, packets: Sequence[bytes]) -> bool:
    """Whether an envelope is in one of these packets."""
    return any(raw in packet for packet in packets)
