"""A validator set in one process: real state on disk, real routes, no sockets, a clock that runs.

Each validator's peers reach its app through a router that can take anyone down.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from restante.engines.local import LocalEngine
from restante.formats import whisper
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.level import DAY_S
from restante.formats.note import ED25519
from restante.formats.policy import Policy
from restante.node.durable.state import State
from restante.node.home import Home
from restante.node.validator.driver import ValidatorNode
from restante.node.validator.role import Validating
from restante.node.wire.http import build_app
from restante.node.wire.peers import Peers
from restante.node.wire.routes_node import common_routes
from restante.ports import Arrival, Network, Store
from restante.rules.intake import Verdict
from restante.rules.window import Pace

GENESIS_S = 1_500_000_000


def keccak(data: bytes) -> bytes:
    """Any hash does where the floor of proof of work is 0."""
    return sha256(data).digest()


class SpeedClock:
    """Virtual time, at most `speed` times as fast as real time.

    It moves by small steps that the event loop makes, so that on a busy machine it slows down with
    everything that reads it: no test depends on how fast the machine is.
    """

    STEP_S = 0.002

    def __init__(self, start_ms: int, speed: float = 1.0) -> None:
        self._now_ms = float(start_ms)
        self._speed = speed
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Let time pass, in the running loop."""
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.STEP_S)
            self._now_ms += self.STEP_S * 1000 * self._speed

    def now_ms(self) -> int:
        return int(self._now_ms)

    async def sleep_until(self, when_ms: int) -> None:
        while (left_ms := when_ms - self.now_ms()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(0.02, left_ms / 1000 / self._speed))


class Skewed(SpeedClock):
    """A clock that is wrong by so much."""

    def __init__(self, right: SpeedClock, by_ms: int) -> None:
        super().__init__(0, right._speed)
        self._right = right
        self._by_ms = by_ms

    def start(self) -> None:
        self._right.start()

    def now_ms(self) -> int:
        return self._right.now_ms() + self._by_ms


class FakeNetwork:
    """Brings what the test puts in."""

    name = "fake"

    def __init__(self, clock: SpeedClock) -> None:
        self.connected = True
        self.sent: list[bytes] = []
        self.resumed: list[bytes] = []
        self.verdicts: list[Verdict] = []
        self._clock = clock
        self._queue: asyncio.Queue[list[Arrival]] = asyncio.Queue()

    def bring(self, *raws: bytes, arrival_ms: int | None = None) -> None:
        at_ms = self._clock.now_ms() if arrival_ms is None else arrival_ms
        self._queue.put_nowait([Arrival(at_ms, raw) for raw in raws])

    async def arrivals(self) -> AsyncIterator[Sequence[Arrival]]:
        while True:
            yield await self._queue.get()

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts += verdicts

    def send(self, raw: bytes) -> int:
        self.sent.append(raw)
        return 1

    def resume(self, raws: Sequence[bytes]) -> None:
        self.resumed += raws

    def status(self) -> dict[str, Any]:
        return {}

    def reasons(self) -> list[tuple[str, str]]:
        return []

    def peers(self) -> list[dict[str, Any]]:
        return []

    async def close(self) -> None:
        pass


class Router(httpx2.AsyncBaseTransport):
    """Requests by host name to apps; who is down cannot be reached."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.apps: dict[str, Any] = {}
        self.down: set[str] = set()
        self.requests: list[tuple[str, str, str]] = []
        self.before: Callable[[httpx2.Request], None] = lambda request: None

    def from_address(self, address: str) -> "Router":
        """The same apps, asked from another source address."""
        router = Router(address)
        router.apps, router.down = self.apps, self.down
        return router

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        self.before(request)
        self.requests.append((host, request.method, request.url.path))
        if host in self.down or host not in self.apps:
            raise httpx2.ConnectError("down", request=request)
        transport = httpx2.ASGITransport(self.apps[host], client=(self.address, 1))
        return await transport.handle_async_request(request)


@dataclass
class Party:
    """One validator of the set."""

    key: SigningKey
    home: Home
    state: State
    engine: LocalEngine
    node: ValidatorNode
    validating: Validating
    network: FakeNetwork
    task: "asyncio.Task[None] | None" = None

    @property
    def name(self) -> str:
        return self.key.name

    async def stop(self) -> None:
        """As a process that ends: tasks first, then what is on disk."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
        self.state.close()
        await self.engine.close()


@dataclass
class LocalSet:
    """n validators; `open` starts one."""

    root: Path
    descriptor: Descriptor
    keys: list[SigningKey]
    origin: SigningKey
    clock: SpeedClock
    pace: Pace
    router: Router = field(default_factory=Router)
    parties: dict[str, Party] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        d = self.descriptor
        return Policy.of_validators(self.origin.vkey(ED25519), d.validators, d.k, d.set_id)

    @classmethod
    def create(
        cls,
        root: Path,
        n: int,
        *,
        speed: float = 60.0,
        start_s: float = 0.0,
        pace: Pace = Pace(),  # noqa: B008 frozen
        parameters: Mapping[str, Any] | None = None,
    ) -> "LocalSet":
        """`start_s`: virtual time after genesis at which the clock starts."""
        keys = [SigningKey(f"v{i + 1}", bytes([i + 1]) * 32) for i in range(n)]
        origin = SigningKey("local.example/0011223344556677", bytes([99]) * 32)
        descriptor = Descriptor(
            origin=origin.name,
            genesis_s=GENESIS_S,
            f=(n - 1) // 3,
            validators=tuple(key.vkey() for key in keys),
            **{"pow_floor_millionths": 0, **(parameters or {})},
        )
        LocalEngine.create(root / "engine.db")._close()
        clock = SpeedClock(GENESIS_S * 1000 + int(start_s * 1000), speed)
        made = cls(root, descriptor, keys, origin, clock, pace)
        for key in keys:
            State.create(Home(root / key.name), descriptor, key, key.seed[:16], b"s" * 16)
        return made

    def client(self, address: str = "127.0.0.1") -> httpx2.AsyncClient:
        """A client of the routes, from a source address."""
        router = self.router if address == "127.0.0.1" else self.router.from_address(address)
        return httpx2.AsyncClient(transport=router)

    def open(
        self,
        name: str,
        *,
        clock: SpeedClock | None = None,
        run: bool = True,
        network: bool = True,
        stores: Sequence[Store] = (),
        pool_max_bytes: int = 2**32,
        retention_days: int = 0,
        children_kept_s: int = DAY_S,
        proposer: SigningKey | None = None,
    ) -> Party:
        """Open a validator's state and, if `run`, set it to work."""
        key = next(key for key in self.keys if key.name == name)
        own_clock = clock or self.clock
        own_clock.start()
        home = Home(self.root / name)
        names = [store.name for store in stores]
        state = State.open(home, self.descriptor, key.vkey(), names)
        engine = LocalEngine.open(self.root / "engine.db")
        urls = {v.name: f"http://{v.name}" for v in self.descriptor.validators if v.name != name}
        peers = Peers(self.descriptor, urls, self.client(), own_clock)
        node = ValidatorNode(
            self.descriptor,
            key,
            state,
            engine,
            own_clock,
            peers,
            keccak,
            self.pace,
            pool_max_bytes=pool_max_bytes,
            proposer=proposer,
        )
        fake = FakeNetwork(own_clock)
        used: Network | None = fake if network else None
        validating = Validating(
            node,
            key,
            self.origin,
            self.policy,
            state,
            used,
            list(stores),
            retention_days=retention_days,
            children_kept_s=children_kept_s,
        )
        try:
            validating.announce(f"http://{name}")
        except BaseException:
            state.close()
            engine._close()
            raise
        routes = common_routes(
            validating.status, validating.hand_in, self.descriptor.max_envelope_bytes
        )
        self.router.apps[name] = build_app(routes + validating.routes(), own_clock)
        party = Party(key, home, state, engine, node, validating, fake)
        self.parties[name] = party
        if run:
            party.task = asyncio.ensure_future(validating.run())
        return party

    async def close(self, name: str) -> None:
        """Stop one validator; it cannot be reached any more."""
        self.router.apps.pop(name, None)
        await self.parties.pop(name).stop()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 25.0) -> None:
        """Wait, and fail with what every node says; a node that failed raises at once."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for party in self.parties.values():
                if party.task is not None and party.task.done():
                    party.task.result()
            if time.monotonic() > deadline:
                raise AssertionError(
                    json.dumps({n: p.validating.status() for n, p in self.parties.items()})
                )
            await asyncio.sleep(0.01)

    async def decided(self, window: int, *names: str, timeout_s: float = 25.0) -> None:
        """Until these (all) validators have cosigned the window."""
        parties = [self.parties[n] for n in names or list(self.parties)]

        def done() -> bool:
            newest = [p.node.machine.cosigner.newest for p in parties]
            return all(each is not None and each.size > window for each in newest)

        await self.until(done, timeout_s)

    def envelope(self, number: int, *, sent_s: int | None = None, ttl_s: int = 50) -> bytes:
        """A valid envelope of now."""
        at_s = self.clock.now_ms() // 1000 if sent_s is None else sent_s
        data = sha256(b"%d" % number).digest()
        topic = sha256(b"topic %d" % (number % 7)).digest()[:4]
        return whisper.assemble(at_s + ttl_s, ttl_s, topic, data, number)

    def members(self, name: str, window: int) -> set[bytes]:
        """Ids of a committed batch."""
        from restante.formats.segment import read_cars

        contents = read_cars(
            self.parties[name].state.archive.segment(window),
            self.descriptor,
            lambda raw: whisper.parse(raw).topic,
            lambda raw: whisper.parse(raw).sent_s,
        )
        return {member.id for member in contents.members}


@asynccontextmanager
async def opened(local: LocalSet, **options: Any) -> AsyncIterator[LocalSet]:
    """All validators at work, stopped in the end."""
    async with AsyncExitStack() as stack:
        for key in local.keys:
            local.open(key.name, **options)

        async def stop_all() -> None:
            for name in list(local.parties):
                await local.close(name)

        stack.push_async_callback(stop_all)
        yield local


def id_of(raw: bytes) -> bytes:
    """An envelope's id."""
    return sha256(raw).digest()
