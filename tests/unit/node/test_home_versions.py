"""Files that a newer program wrote are refused by name, with what to do, and stay as they are."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from restante.engines.local import LocalEngine
from restante.errors import StateError
from restante.formats import dagcbor
from restante.node.durable.blocks import BlockIndex
from restante.node.durable.lock import Lock
from restante.node.durable.outbox import Outbox
from restante.node.durable.pool import Pool, read_identity

SET, KEY = b"s" * 32, b"k" * 4


def sql(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def contents(path: Path) -> dict[str, object]:
    """The schema's statements and all rows, whatever the file's bytes are."""
    db = sqlite3.connect(path)
    dump = {"version": db.execute("PRAGMA user_version").fetchone()[0], "dump": list(db.iterdump())}
    db.close()
    return dump


def lock(path: Path) -> None:
    Lock.open(path.parent, SET, KEY).close()


def outbox(path: Path) -> None:
    Outbox(path, None, []).close()  # type: ignore[arg-type]


def blocks(path: Path) -> None:
    BlockIndex(path).close()


def engine(path: Path) -> None:
    LocalEngine.open(path)._close()


NEWER = "PRAGMA user_version = 99"


@pytest.mark.parametrize(
    ("make", "open_", "name", "statement", "code"),
    [
        (
            lambda p: Lock.create(p.parent, SET, KEY).close(),
            lock,
            "lock.db",
            "UPDATE meta SET value = 99 WHERE name = 'version'",
            "lock-version",
        ),
        (blocks, blocks, "blocks.db", NEWER, "block-index"),
        (outbox, outbox, "outbox.db", NEWER, "outbox"),
        (lambda p: LocalEngine.create(p)._close(), engine, "engine.db", NEWER, "engine-format"),
    ],
)
def test_a_newer_database_is_refused_and_left_alone(
    tmp_path: Path,
    make: Callable[[Path], None],
    open_: Callable[[Path], None],
    name: str,
    statement: str,
    code: str,
) -> None:
    path = tmp_path / "node" / name
    path.parent.mkdir()
    make(path)
    open_(path)
    sql(path, statement)
    before = contents(path)
    with pytest.raises(StateError) as raised:
        open_(path)
    assert raised.value.code == code
    assert raised.value.hint
    assert contents(path) == before


def test_a_newer_pool_is_refused_and_left_alone(tmp_path: Path) -> None:
    Pool.create(tmp_path, b"p" * 16, b"s" * 16).close()
    value = dagcbor.decode((tmp_path / "pool").read_bytes())
    assert isinstance(value, dict)
    newer = dagcbor.encode({**value, "version": 2})
    (tmp_path / "pool").write_bytes(newer)
    with pytest.raises(StateError, match="version") as raised:
        Pool.open(tmp_path)
    assert raised.value.code.startswith("pool-")
    with pytest.raises(StateError):
        read_identity(tmp_path)
    assert (tmp_path / "pool").read_bytes() == newer
