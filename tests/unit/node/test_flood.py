"""A flood of proposals, copycats included, from several addresses: windows are decided all the
same, at the latest by the validators' own proposals."""

import asyncio
import itertools
import random
from pathlib import Path

import httpx2

from local_set import LocalSet, id_of, opened
from restante import limits
from restante.formats.keys import SigningKey
from restante.formats.message import Answer, Proposal
from restante.rules.freeze import candidates
from restante.rules.judge import build_batch
from restante.rules.window import Pace

PACE = Pace(grace_ms=5_000, step_ms=10_000)
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]


class Flooder:
    """Hostile proposers at one address: new keys at will, copies, subsets, wrong CIDs."""

    def __init__(self, local: LocalSet, address: str, seed: int) -> None:
        self._local = local
        self._client = local.client(address)
        self._rng = random.Random(seed)
        self._keys = itertools.count(seed * 1_000_000 + 1)
        self.sent = 0
        self.told: dict[str, int] = {}

    async def run(self) -> None:
        while True:
            victim = self._rng.choice(list(self._local.parties))
            data = self._message(victim)
            try:
                response = await self._client.post(f"http://{victim}/proposals", content=data)
            except httpx2.TransportError:
                continue
            self.sent += 1
            code = str(response.status_code)
            if response.status_code == 200:
                answer = Answer.parse(response.content)
                code = answer.code or answer.kind
            self.told[code] = self.told.get(code, 0) + 1
            # As fast as a few hundred requests a second in all.
            await asyncio.sleep(0.01)

    def _message(self, victim: str) -> bytes:
        if self._rng.random() < 0.1:
            return self._rng.randbytes(200)
        machine = self._local.parties[victim].node.machine
        key = SigningKey("x", next(self._keys).to_bytes(32, "big"))
        rows = list(candidates(machine.index, machine.base).values())
        if self._rng.random() < 0.5:
            rows = [row for row in rows if self._rng.random() < 0.9]
        segment = build_batch(
            self._local.descriptor,
            machine.base.window,
            rows,
            self._local.parties[victim].state.body,
        )
        cid = segment.root_cid
        if self._rng.random() < 0.3:
            cid = cid[:-1] + bytes([cid[-1] ^ 1])
        return Proposal.make(
            key,
            set_id=self._local.descriptor.set_id,
            window=machine.base.window,
            base_size=machine.base.size,
            base_root=machine.base.root,
            cid=cid,
            count=segment.count,
            size_bytes=segment.bytes_,
            ids=tuple(row.id for row in rows),
        ).encode()


def test_windows_are_decided_within_grace_and_two_steps(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=PACE, speed=20, start_s=15)
        async with opened(local):
            flooders = [Flooder(local, a, seed) for seed, a in enumerate(ADDRESSES)]
            tasks = [asyncio.ensure_future(each.run()) for each in flooders]
            raws = [local.envelope(number) for number in range(60)]
            for number, party in enumerate(local.parties.values()):
                party.network.bring(*raws[number:])
            await local.decided(1, timeout_s=45)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            d = local.descriptor
            for party in local.parties.values():
                for record in party.node.journal.since(0)[:2]:
                    late_ms = record["decided_ms"] - d.end_ms(record["window"])
                    assert late_ms <= PACE.grace_ms + 2 * PACE.step_ms, record
            found = local.members("v1", 0) | local.members("v1", 1)
            assert found == {id_of(raw) for raw in raws}
            assert sum(each.sent for each in flooders) > 100
            told = {code for each in flooders for code in each.told}
            assert {"cid", "barred", "400"} <= told, told
            for party in local.parties.values():
                # However many they were: no more sets were built for them than the quota says.
                assert party.node.machine.judge.builds <= limits.OUTSIDER_BUILDS + 4

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_round_goes_on_where_validators_fail_or_are_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(2_000, 2_000))
        async with opened(local):
            local.router.down.add("v4")
            raw = local.envelope(1)
            local.parties["v1"].network.bring(raw)
            await local.decided(0, "v1", "v2", "v3")
            assert local.members("v2", 0) <= {id_of(raw)}
            local.router.down.clear()
            await local.decided(1)

    asyncio.run(asyncio.wait_for(scenario(), 60))
