"""The folder store passes the store contract, and what only it promises."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.store_contract import StoreContract
from restante.errors import StateError, Unavailable
from restante.stores.folder import FolderStore


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], FolderStore]:
    return lambda: FolderStore.create("disk", tmp_path / "store")


class TestFolderStore(StoreContract):
    pass


def test_a_missing_disk_is_no_empty_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with pytest.raises(StateError) as caught:
        FolderStore.open("disk", root)
    assert caught.value.code == "store-missing"
    store = FolderStore.create("disk", root)
    shutil.rmtree(root)
    with pytest.raises(Unavailable):
        asyncio.run(store.put("checkpoint", b"x"))
    assert not root.exists()
    assert not asyncio.run(store.health()).ok


def test_a_full_disk_is_unavailable_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore.create("disk", tmp_path / "store")

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restante.durable.write_all", full)
    with pytest.raises(Unavailable) as caught:
        asyncio.run(store.put("checkpoint", b"x"))
    assert caught.value.code == "store-unavailable"
    assert list((tmp_path / "store").iterdir()) == []
