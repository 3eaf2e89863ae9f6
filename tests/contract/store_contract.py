"""What every store must do. An adapter's test module subclasses `StoreContract` and gives a
fixture `make_store`: calling it opens one more handle on the same store."""

import asyncio
import random
from collections.abc import Callable

import pytest

from restante.errors import Conflict, InvalidEncoding, Unavailable
from restante.ports import Store

MakeStore = Callable[[], Store]

IMMUTABLE = (
    "descriptor",
    "policy",
    "tile/0/000",
    "tile/0/x001/067.p/5",
    "tile/entries/000.p/1",
    "certificate/x123/456",
    "segment/0/000.car",
    "segment/0/x001/000.2.car",
)
MUTABLE = ("checkpoint", "watch/alpha", "contact/node-1.example.org")
REFUSED = (
    "",
    "/",
    "/etc/passwd",
    "..",
    "../checkpoint",
    "watch/..",
    "watch/../checkpoint",
    "watch/.hidden",
    "watch/a/b",
    "watch/",
    "checkpoint/",
    "checkpoint\n",
    "./checkpoint",
    "tile//0/000",
    "tile/0/0",
    "tile/00/000",
    "tile/0/000.p/256",
    "tile/0/x000/001",
    "segment/0/000.0.car",
    "segment/0/000.car/x",
    "segment/0/000.CAR",
    "other",
    "watch/" + "a" * 300,
    "watch/ä",
    "watch/a\x00",
)


class StoreContract:
    """Inherited unchanged by each adapter's tests."""

    @pytest.mark.parametrize("path", IMMUTABLE + MUTABLE)
    def test_put_then_get(self, make_store: MakeStore, path: str) -> None:
        async def run() -> None:
            store = make_store()
            assert not await store.has(path)
            await store.put(path, b"bytes of the file")
            assert await store.has(path)
            assert await store.get(path) == b"bytes of the file"
            await store.close()
            again = make_store()
            assert await again.get(path) == b"bytes of the file"
            await again.close()

        asyncio.run(run())

    def test_ranges(self, make_store: MakeStore) -> None:
        async def run() -> None:
            store = make_store()
            data = random.Random(2).randbytes(3_000_000)
            path = "segment/0/001.car"
            await store.put(path, data)
            for offset, length in ((0, 10), (5, 1), (2_999_990, 100), (7, 0), (100, 1_000_000)):
                assert await store.get(path, offset, length) == data[offset : offset + length]
            assert await store.get(path, 2_500_000) == data[2_500_000:]
            assert await store.get(path, 3_000_000, 5) == b""
            assert await store.get(path, 4_000_000) == b""
            await store.close()

        asyncio.run(run())

    def test_an_immutable_file_never_changes(self, make_store: MakeStore) -> None:
        async def run() -> None:
            store = make_store()
            for path in IMMUTABLE:
                await store.put(path, b"first")
                await store.put(path, b"first")
                for other in (b"other", b"first and more", b""):
                    with pytest.raises(Conflict):
                        await store.put(path, other)
                assert await store.get(path) == b"first"
            await store.close()

        asyncio.run(run())

    def test_a_mutable_file_is_replaced_whole(self, make_store: MakeStore) -> None:
        async def run() -> None:
            store = make_store()
            for path in MUTABLE:
                for data in (b"a long first version", b"short", b""):
                    await store.put(path, data)
                    assert await store.get(path) == data
            await store.close()

        asyncio.run(run())

    def test_what_is_absent_is_named(self, make_store: MakeStore) -> None:
        async def run() -> None:
            store = make_store()
            await store.put("segment/0/x001/000.car", b"x")
            for path in ("checkpoint", "tile/0/000", "segment/0/x001/001.car"):
                with pytest.raises(Unavailable) as caught:
                    await store.get(path)
                assert caught.value.code == "not-found"
                assert not await store.has(path)
            await store.close()

        asyncio.run(run())

    def test_release(self, make_store: MakeStore) -> None:
        async def run() -> None:
            store = make_store()
            await store.put("segment/0/001.car", b"x")
            await store.put("segment/0/002.car", b"y")
            await store.release("segment/0/001.car")
            await store.release("segment/0/001.car")
            await store.release("certificate/000")
            assert await store.get("segment/0/002.car") == b"y"
            await store.put("segment/0/001.car", b"x")
            assert await store.get("segment/0/001.car") == b"x"
            await store.close()

        asyncio.run(run())

    @pytest.mark.parametrize("path", REFUSED)
    def test_only_archive_paths(self, make_store: MakeStore, path: str) -> None:
        async def run() -> None:
            store = make_store()
            for call in (store.put(path, b"x"), store.get(path), store.has(path)):
                with pytest.raises(InvalidEncoding) as caught:
                    await call
                assert caught.value.code == "path"
            with pytest.raises(InvalidEncoding):
                await store.release(path)
            await store.close()

        asyncio.run(run())

    def test_concurrent_puts(self, make_store: MakeStore) -> None:
        async def run() -> None:
            stores = [make_store(), make_store()]
            puts = [
                store.put(f"segment/0/{i:03}.car", b"%d" % i) for i in range(20) for store in stores
            ]
            await asyncio.gather(*puts)
            for i in range(20):
                assert await stores[0].get(f"segment/0/{i:03}.car") == b"%d" % i
            assert (await stores[0].health()).ok
            for store in stores:
                await store.close()

        asyncio.run(run())
