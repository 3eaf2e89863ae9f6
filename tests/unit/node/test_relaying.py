"""What a node's network is given to relay after a start."""

from pathlib import Path

import pytest

from local_set import FakeNetwork, LocalSet, opened
from restante import limits
from restante.node.relaying import relay_again
from unit.node.test_validators import go

LIVES_S = 300 + 10  # the set's longest TTL, and how far a sent time may be ahead


def test_a_validator_that_starts_again_has_what_lives_relayed(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1)
        raws = [local.envelope(number) for number in range(3)]
        async with opened(local):
            party = local.parties["v1"]
            assert party.network.resumed == []
            party.network.bring(*raws[:2])
            party.validating.hand_in(raws[2])
            await local.until(lambda: party.state.pool.size == 3)
        async with opened(local):
            network = local.parties["v1"].network
            await local.until(lambda: len(network.resumed) == 3)
            assert sorted(network.resumed) == sorted(raws)

    go(scenario())


@pytest.mark.parametrize("group", [1, 2, 1_024])
def test_it_is_what_may_still_live_and_the_newest_of_that(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHH_GROUP_ENVELOPES", group)

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1)
        async with opened(local):
            party = local.parties["v1"]
            state, index = party.state, party.node.machine.index
            raws = [local.envelope(number) for number in range(5)]
            first_ms = local.clock.now_ms()
            for number, raw in enumerate(raws):
                party.network.bring(raw, arrival_ms=first_ms + number)
            await local.until(lambda: state.pool.size == 5)
            now_ms = local.clock.now_ms()

            async def resumed(at_ms: int) -> list[bytes]:
                network = FakeNetwork(local.clock)
                await relay_again(network, state.pool, index, local.descriptor, at_ms)
                return network.resumed

            assert await resumed(now_ms) == raws
            assert await resumed(index.newest_arrival_ms + LIVES_S * 1000) == raws[-1:]
            assert await resumed(index.newest_arrival_ms + LIVES_S * 1000 + 1) == []
            with monkeypatch.context() as fewer:
                fewer.setattr(limits, "SHH_LIVE_ENVELOPES", 3)
                assert await resumed(now_ms) == raws[2:]
            two_bytes = sum(map(len, raws[3:]))
            monkeypatch.setattr(limits, "SHH_LIVE_BYTES", two_bytes)
            assert await resumed(now_ms) == raws[3:]
            monkeypatch.setattr(limits, "SHH_LIVE_BYTES", two_bytes - 1)
            assert await resumed(now_ms) == raws[4:]

    go(scenario())
