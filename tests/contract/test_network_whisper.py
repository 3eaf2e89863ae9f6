"""Whisper passes the network contract, with a real peer at the other end of a real link."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from contract.network_contract import FIRST_MS, NetworkContract, Start, StepClock
from restante.networks.whisper.messages import Status
from restante.networks.whisper.network import WhisperNetwork
from restante.ports import Network
from shh_peer import FLOOR, RawPeer, key


class FedNetwork(WhisperNetwork):
    """A network with a peer that sends each envelope at its time, by the test's clock."""

    def __init__(self, raws: Sequence[bytes], clock: StepClock) -> None:
        super().__init__(
            key(1),
            [],
            clock,
            floor_millionths=FLOOR,
            client="restante/test",
            listen_at=("127.0.0.1", 0),
        )
        self._feeder = asyncio.ensure_future(self._feed(raws, clock))

    async def _feed(self, raws: Sequence[bytes], clock: StepClock) -> None:
        await self.open()
        peer = RawPeer()
        try:
            await peer.dial(self, 2, Status())
            for index, raw in enumerate(raws):
                await clock.sleep_until(FIRST_MS + 1000 * index)
                peer.give(raw)
            await peer.until_left(60)
        finally:
            await peer.close()

    async def close(self) -> None:
        self._feeder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._feeder
        await super().close()


@pytest.fixture
def start() -> Start:
    def begin(raws: Sequence[bytes], clock: StepClock) -> Network:
        return FedNetwork(raws, clock)

    return begin


class TestWhisperNetwork(NetworkContract):
    pass
