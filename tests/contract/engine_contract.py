"""What every engine must do. An adapter's test module subclasses `EngineContract` and gives a
fixture `make_engine`: calling it opens one more handle on the same engine, as another process
would.
"""

import asyncio
import random
from collections.abc import Callable

import pytest

from restante import limits
from restante.errors import Invalid
from restante.ports import Engine, Slot

MakeEngine = Callable[[], Engine]


async def read_all(engine: Engine, page: int = 50) -> list[Slot]:
    """Everything, as a validator reads it: page by page after the last slot."""
    slots: list[Slot] = []
    while found := await engine.entries(slots[-1].number if slots else 0, page):
        slots += found
    return slots


class EngineContract:
    """Inherited unchanged by each adapter's tests."""

    def test_an_empty_engine_has_no_entries(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engine = make_engine()
            assert list(await engine.entries(0, 10)) == []
            assert (await engine.health()).ok
            await engine.close()

        asyncio.run(run())

    def test_slots_ascend_and_hold_what_was_appended(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engine = make_engine()
            numbers = [await engine.append(b"entry %d" % i) for i in range(20)]
            assert numbers == sorted(set(numbers))
            assert numbers[0] >= 1
            expected = [Slot(n, b"entry %d" % i) for i, n in enumerate(numbers)]
            assert await read_all(engine, 7) == expected
            await engine.close()

        asyncio.run(run())

    def test_it_orders_and_does_not_judge(self, make_engine: MakeEngine) -> None:
        """Junk, stale and repeated entries that come first stay first; nothing is dropped (R5)."""

        async def run() -> None:
            engine = make_engine()
            rng = random.Random(1)
            junk = [rng.randbytes(rng.randrange(1, 2_000)) for _ in range(10)]
            entries = [*junk, b"stale", b"stale", b"\x00", b"certificate", b"stale", b"certificate"]
            for entry in entries:
                await engine.append(entry)
            assert [slot.entry for slot in await read_all(engine)] == entries
            await engine.close()

        asyncio.run(run())

    def test_size_limits(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engine = make_engine()
            await engine.append(bytes(limits.ENGINE_ENTRY_BYTES))
            for entry in (b"", bytes(limits.ENGINE_ENTRY_BYTES + 1)):
                with pytest.raises(Invalid) as caught:
                    await engine.append(entry)
                assert caught.value.code == "engine-entry-size"
            assert len(await read_all(engine)) == 1
            await engine.close()

        asyncio.run(run())

    def test_pages_are_bounded(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engine = make_engine()
            for i in range(30):
                await engine.append(bytes([i + 1]))
            slots = await read_all(engine)
            assert list(await engine.entries(0, 5)) == slots[:5]
            assert list(await engine.entries(slots[10].number, 3)) == slots[11:14]
            assert list(await engine.entries(slots[-1].number, 5)) == []
            assert list(await engine.entries(slots[-1].number + 1_000, 5)) == []
            assert list(await engine.entries(0, 0)) == []
            page = await engine.entries(0, 10**9)
            assert 0 < len(page) <= limits.ENGINE_PAGE_ENTRIES
            await engine.close()

        asyncio.run(run())

    def test_concurrent_appends_all_get_a_slot_of_their_own(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engines = [make_engine() for _ in range(3)]
            entries = [b"%d" % i for i in range(60)]
            numbers = await asyncio.gather(
                *(engines[i % 3].append(entry) for i, entry in enumerate(entries))
            )
            assert len(set(numbers)) == len(entries)
            views = [await read_all(engine) for engine in engines]
            assert views[0] == views[1] == views[2]
            assert {s.number: s.entry for s in views[0]} == dict(zip(numbers, entries, strict=True))
            for engine in engines:
                await engine.close()

        asyncio.run(run())

    def test_what_a_reader_saw_never_changes(self, make_engine: MakeEngine) -> None:
        """Nothing ever appears behind a slot that was read: a reader would never see it."""

        async def run() -> None:
            writers, reader = [make_engine(), make_engine()], make_engine()
            seen: list[Slot] = []

            async def write(engine: Engine, name: bytes) -> None:
                for i in range(20):
                    await engine.append(b"%s %d" % (name, i))

            tasks = [asyncio.create_task(write(w, b"%d" % i)) for i, w in enumerate(writers)]
            while len(seen) < 40:
                seen += await reader.entries(seen[-1].number if seen else 0, 3)
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            assert seen == await read_all(reader)
            for engine in (*writers, reader):
                await engine.close()

        asyncio.run(run())

    def test_restart_keeps_entries_and_slots(self, make_engine: MakeEngine) -> None:
        async def run() -> None:
            engine = make_engine()
            for i in range(5):
                await engine.append(b"%d" % i)
            before = await read_all(engine)
            await engine.close()
            engine = make_engine()
            assert await read_all(engine) == before
            assert await engine.append(b"next") > before[-1].number
            await engine.close()

        asyncio.run(run())
