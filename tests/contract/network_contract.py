"""What every network source must do. An adapter's test module subclasses `NetworkContract` and
gives a fixture `start`: calling it with envelopes and a clock gives a connected network that
brings exactly these, in this order, the i-th one at `FIRST_MS + 1000 * i` of that clock.
"""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import shake_256

import pytest

from restante.errors import Unavailable
from restante.formats import rlp
from restante.ports import Arrival, Network

FIRST_MS = 1_800_000_000_000
Start = Callable[[Sequence[bytes], "StepClock"], Network]


class StepClock:
    """A clock that only the test moves."""

    def __init__(self, now_ms: int = FIRST_MS - 1000) -> None:
        self._now_ms = now_ms
        self._moved = asyncio.Event()

    def now_ms(self) -> int:
        return self._now_ms

    def move_to(self, now_ms: int) -> None:
        assert now_ms >= self._now_ms
        self._now_ms = now_ms
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep_until(self, when_ms: int) -> None:
        while self._now_ms < when_ms:
            await self._moved.wait()


def envelopes(count: int) -> list[bytes]:
    """Distinct items of RLP, so that a packet can hold them; whether they are envelopes is not the
    network's to judge."""
    return [rlp.encode(shake_256(b"%d" % index).digest(20 + index % 700)) for index in range(count)]


async def take(network: Network, count: int) -> list[Arrival]:
    """The next `count` arrivals at least; groups are never empty."""
    taken: list[Arrival] = []
    async with asyncio.timeout(10):
        async for group in network.arrivals():
            assert group
            taken += group
            if len(taken) >= count:
                break
    return taken


class NetworkContract:
    """Inherited unchanged by each adapter's tests."""

    def test_all_arrive_unaltered_in_order(self, start: Start) -> None:
        async def run() -> None:
            clock, raws = StepClock(), envelopes(700)
            network = start(raws, clock)
            clock.move_to(FIRST_MS + 1_000_000)
            taken = await take(network, len(raws))
            assert [arrival.raw for arrival in taken] == raws
            times = [arrival.arrival_ms for arrival in taken]
            assert times == sorted(times)
            assert all(time <= clock.now_ms() for time in times)
            await network.close()

        asyncio.run(run())

    def test_nothing_arrives_before_its_time(self, start: Start) -> None:
        async def run() -> None:
            clock, raws = StepClock(), envelopes(5)
            network = start(raws, clock)
            arrivals = network.arrivals()
            for index, raw in enumerate(raws):
                waiting = asyncio.ensure_future(anext(arrivals))
                await asyncio.sleep(0.01)
                assert not waiting.done()
                clock.move_to(FIRST_MS + 1000 * index)
                async with asyncio.timeout(10):
                    group = await waiting
                assert [arrival.raw for arrival in group] == [raw]
            await network.close()

        asyncio.run(run())

    def test_a_slow_consumer_loses_nothing(self, start: Start) -> None:
        async def run() -> None:
            clock, raws = StepClock(), envelopes(40)
            network = start(raws, clock)
            taken: list[bytes] = []
            async for group in network.arrivals():
                taken += [arrival.raw for arrival in group]
                clock.move_to(clock.now_ms() + 7000)
                await asyncio.sleep(0)
                if len(taken) == len(raws):
                    break
            assert taken == raws
            await network.close()

        async def timed() -> None:
            async with asyncio.timeout(10):
                await run()

        # The first row's time has come when the consumer starts.
        def late(raws: Sequence[bytes], clock: StepClock) -> Network:
            clock.move_to(FIRST_MS)
            return given(raws, clock)

        given, start = start, late
        asyncio.run(timed())

    def test_connected_until_closed(self, start: Start) -> None:
        async def run() -> None:
            clock = StepClock()
            network = start(envelopes(1), clock)
            clock.move_to(FIRST_MS)
            await take(network, 1)
            assert network.connected
            network.send(b"to the peers")
            await network.close()
            assert not network.connected
            with pytest.raises(Unavailable):
                network.send(b"to nobody")
            await network.close()

        asyncio.run(run())

    def test_closing_ends_the_arrivals(self, start: Start) -> None:
        async def run() -> None:
            network = start(envelopes(3), StepClock())

            async def consume() -> int:
                return sum([len(group) async for group in network.arrivals()])

            consumer = asyncio.ensure_future(consume())
            await asyncio.sleep(0.01)
            await network.close()
            async with asyncio.timeout(10):
                assert await consumer == 0

        asyncio.run(run())

    def test_a_cancelled_consumer_leaves_nothing_behind(self, start: Start) -> None:
        async def run() -> None:
            network = start(envelopes(3), StepClock())
            consumer = asyncio.ensure_future(take(network, 1))
            await asyncio.sleep(0.01)
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            await network.close()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(run())

    def test_it_has_a_name(self, start: Start) -> None:
        async def run() -> None:
            network = start([], StepClock())
            assert network.name.isidentifier()
            await network.close()

        asyncio.run(run())
