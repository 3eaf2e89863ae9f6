"""The local engine passes the engine contract, and what only it promises."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.engine_contract import EngineContract, read_all
from restante.engines.local import LocalEngine
from restante.errors import StateError

APPENDER = """
import asyncio, sys
from pathlib import Path
from restante.engines.local import LocalEngine
async def run():
    engine = LocalEngine.open(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(int(sys.argv[3])):
        print(await engine.append(f"{sys.argv[2]} {i}".encode()), flush=True)
    await engine.close()
asyncio.run(run())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    asyncio.run(LocalEngine.create(tmp_path / "engine" / "engine.db").close())
    return tmp_path / "engine" / "engine.db"


@pytest.fixture
def make_engine(path: Path) -> Callable[[], LocalEngine]:
    return lambda: LocalEngine.open(path)


class TestLocalEngine(EngineContract):
    pass


def test_processes_append_at_once(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path), str(name), "15"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n")[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    answered = {
        int(number): b"%d %d" % (name, i)
        for name, output in enumerate(outputs)
        for i, number in enumerate(output.split())
    }
    engine = LocalEngine.open(path)
    slots = asyncio.run(read_all(engine))
    asyncio.run(engine.close())
    assert {slot.number: slot.entry for slot in slots} == answered
    assert len(answered) == 45


def test_create_and_open_are_different(path: Path) -> None:
    with pytest.raises(StateError) as caught:
        LocalEngine.create(path)
    assert caught.value.code == "engine-exists"
    with pytest.raises(StateError) as caught:
        LocalEngine.open(path.with_name("other.db"))
    assert caught.value.code == "engine-missing"
    assert not path.with_name("other.db").exists()


def test_another_file_is_no_engine(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database at all" * 100)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE slots(number INTEGER PRIMARY KEY, entry BLOB)")
    db.close()
    for path in (text, other):
        with pytest.raises(StateError) as caught:
            LocalEngine.open(path)
        assert caught.value.code == "engine-format"


def test_the_table_itself_refuses_what_append_refuses(path: Path) -> None:
    """Another program on the machine cannot make readers load what no append would take."""
    db = sqlite3.connect(path)
    for entry in ("text", b"", bytes(16 * 1024 + 1), None):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO slots(entry) VALUES(?)", (entry,))
    db.close()
