"""A peer for tests: a real link, and hands to say whatever a test wants over it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from restante.formats import whisper
from restante.networks.keccak import keccak256
from restante.networks.rlpx.link import Enode, Identity, Left, Link, Reason, dial
from restante.networks.whisper import messages, mine
from restante.networks.whisper.messages import Status
from restante.networks.whisper.network import WhisperNetwork
from restante.node.clock import WallClock
from restante.rules import valid
from restante.rules.intake import REPEAT, Verdict
from restante.rules.valid import DefaultParameters, EnvelopeRefused

CAPABILITY = (messages.NAME, messages.VERSION, messages.CODES)
FLOOR = 1_000  # 0.001, as wnode in tests
PARAMS = DefaultParameters(pow_floor_millionths=FLOOR)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


class RawPeer:
    """The handler of one link, which it made itself."""

    def __init__(self) -> None:
        self.came: list[tuple[int, bytes]] = []
        self.left: Left | None = None
        self.link: Link | None = None
        self._changed = asyncio.Event()

    # --- Handler --------------------------------------------------------------------------------

    def ready(self, link: Link) -> None:
        self.link = link

    def messages(self, link: Link, came: list[tuple[int, bytes]]) -> None:
        self.came += came
        self._changed.set()

    def lost(self, link: Link, why: Left) -> None:
        self.left = why
        self._changed.set()

    # --- hands ----------------------------------------------------------------------------------

    async def dial(self, network: WhisperNetwork, number: int, status: Status | None) -> None:
        """Connect to a network that listens, with the key of this number; say `status`."""
        assert network.enode is not None
        identity = Identity(key(number), f"raw/{number}", CAPABILITY)
        self.link = await dial(Enode.parse(network.enode), identity, self)
        if status is not None:
            self.send(messages.STATUS, status.encode())
            await self.until(lambda: bool(self.of(messages.STATUS)))

    def send(self, code: int, payload: bytes) -> None:
        assert self.link is not None
        self.link.send(code, payload)

    def give(self, *raws: bytes) -> None:
        """Send envelopes as one packet."""
        self.send(messages.ENVELOPES, whisper.assemble_packet(list(raws)))

    def of(self, code: int) -> list[bytes]:
        """The payloads of this code that came."""
        return [payload for each, payload in self.came if each == code]

    @property
    def envelopes(self) -> list[bytes]:
        return [
            raw for packet in self.of(messages.ENVELOPES) for raw in whisper.parse_packet(packet)
        ]

    async def until(self, done, timeout_s: float = 5.0) -> None:  # type: ignore[no-untyped-def]
        async with asyncio.timeout(timeout_s):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def until_left(self, timeout_s: float = 5.0) -> Left:
        await self.until(lambda: self.left is not None, timeout_s)
        assert self.left is not None
        return self.left

    async def close(self) -> None:
        if self.link is not None:
            self.link.close(Reason.REQUESTED)
            await until(lambda: self.link is None or self.link.closed)


class Judge:
    """Reception as a node has it, without its disk: judges what a network brings."""

    def __init__(self, network: WhisperNetwork, params: DefaultParameters = PARAMS) -> None:
        self.network = network
        self.pool: dict[bytes, bytes] = {}
        self.codes: list[str] = []
        self._params = params
        self.may_judge = asyncio.Event()
        """Clear it to keep the next group waiting, and all behind it."""
        self.may_judge.set()
        self.task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Leave the network, and see that nothing went wrong."""
        await self.network.close()
        await self.task

    async def _run(self) -> None:
        async for group in self.network.arrivals():
            await self.may_judge.wait()
            verdicts = [self._judge(arrival.arrival_ms, arrival.raw) for arrival in group]
            self.codes += [verdict.code for verdict in verdicts]
            self.network.judged(verdicts)

    def _judge(self, arrival_ms: int, raw: bytes) -> Verdict:
        id_ = sha256(raw).digest()
        if id_ in self.pool:
            return REPEAT
        try:
            facts = valid.receive(raw, arrival_ms, self._params, keccak256, id_)
        except EnvelopeRefused as refusal:
            return Verdict(refusal.code, refusal.severity)
        self.pool[id_] = raw
        return Verdict("accepted", "", facts)


async def until(done, timeout_s: float = 5.0) -> None:  # type: ignore[no-untyped-def]
    """Wait for what no event tells."""
    async with asyncio.timeout(timeout_s):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def envelope(  # what an author makes
    text: bytes = b"x",
    *,
    now_s: float | None = None,
    ttl_s: int = 50,
    topic: bytes = b"abcd",
    floor: int = FLOOR,
    expiry_s: int | None = None,
) -> bytes:
    """A valid one, unless told otherwise."""
    sent_s = int(time.time() if now_s is None else now_s)
    expiry = sent_s + ttl_s if expiry_s is None else expiry_s
    nonce = mine.mine(expiry, ttl_s, topic, text, floor)
    return whisper.assemble(expiry, ttl_s, topic, text, nonce)


def envelopes(count: int, **options) -> list[bytes]:  # type: ignore[no-untyped-def]
    return [envelope(b"envelope %d" % index, **options) for index in range(count)]


async def listening(number: int, *peers: Enode, **options) -> WhisperNetwork:  # type: ignore[no-untyped-def]
    """A network with the key of this number, open on a free port of loopback."""
    network = dialling(number, *peers, listen_at=("127.0.0.1", 0), **options)
    await network.open()
    return network


def dialling(number: int, *peers: Enode, **options) -> WhisperNetwork:  # type: ignore[no-untyped-def]
    """A network with the key of this number that nobody can reach, unless told otherwise."""
    options.setdefault("floor_millionths", FLOOR)
    clock = options.pop("clock", None) or WallClock()
    return WhisperNetwork(key(number), peers, clock, client=f"restante/{number}", **options)


def enode(network: WhisperNetwork) -> Enode:
    assert network.enode is not None
    return Enode.parse(network.enode)


@asynccontextmanager
async def closing(*each) -> AsyncIterator[None]:  # type: ignore[no-untyped-def]
    """Close networks, peers and judges at the end, in this order."""
    try:
        yield
    finally:
        for one in each:
            await one.close()
