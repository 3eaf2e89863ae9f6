"""Keys are for their owner alone, and nothing is ever replaced."""

import errno
import fcntl
import stat
from pathlib import Path

import pytest

from restante.errors import ConfigError, StateError
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1, ED25519
from restante.node import setup
from restante.node.home import Home, read_key, write_key

KEY = SigningKey("v1", bytes(range(32)))


def test_a_key_file_is_0600_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    write_key(path, KEY, COSIGNATURE_V1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == KEY
    with pytest.raises(StateError) as raised:
        write_key(path, KEY, COSIGNATURE_V1)
    assert raised.value.code == "key-exists"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    write_key(path, KEY, COSIGNATURE_V1)
    path.chmod(0o640)
    with pytest.raises(ConfigError) as raised:
        read_key(path)
    assert raised.value.code == "key-mode"
    assert "chmod 600" in raised.value.hint


def test_no_error_shows_what_stands_in_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    text = KEY.text(ED25519)
    for damaged in (text[:-3], text.replace("v1", "v2"), "secret-material", "\xff"):
        path.write_text(damaged, encoding="latin-1")
        path.chmod(0o600)
        with pytest.raises(ConfigError) as raised:
            read_key(path)
        assert raised.value.code == "key-format"
        assert raised.value.__cause__ is None
        assert "secret" not in raised.value.diagnostics()
        assert text[-20:] not in raised.value.diagnostics()


def test_missing_files_say_what_makes_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(ConfigError) as raised:
        home.read_descriptor()
    assert raised.value.code == "not-a-node"
    with pytest.raises(ConfigError) as raised:
        read_key(home.validator_key)
    assert raised.value.code == "key-missing"


def test_a_node_is_made_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "node")
    setup.create_node(home, "solo", {"listen.port": 1234})
    for key in (home.validator_key, home.proposer_key, home.origin_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    d = home.read_descriptor()
    policy = home.read_policy(d)
    assert (d.n, d.f, policy.contacts) == (1, 0, (("solo", "http://127.0.0.1:1234"),))
    before = {p: p.read_bytes() for p in home.path.rglob("*") if p.is_file()}
    with pytest.raises(StateError) as raised:
        setup.create_node(home, "solo", {})
    assert raised.value.code == "exists"
    assert before == {p: p.read_bytes() for p in home.path.rglob("*") if p.is_file()}


def test_two_sets_of_one_name_never_share_an_origin() -> None:
    keys = [setup.new_key(f"v{i}").vkey() for i in range(4)]
    one, _, _ = setup.new_set("same", keys, 1)
    other, _, _ = setup.new_set("same", keys, 1)
    assert one.origin != other.origin
    assert one.set_id != other.set_id


def test_a_validator_joins_once(tmp_path: Path) -> None:
    keys = [setup.new_key(f"v{i}") for i in range(4)]
    contacts = [(key.name, f"http://127.0.0.1:{i + 1}") for i, key in enumerate(keys)]
    d, policy, origin = setup.new_set("s", [k.vkey() for k in keys], 1, contacts=contacts)
    setup.write_set(tmp_path / "set", d, policy, origin)
    home = Home(tmp_path / "v0")
    write_key(home.validator_key, keys[0], COSIGNATURE_V1)
    setup.adopt(home, tmp_path / "set")
    setup.adopt(home, tmp_path / "set")
    assert setup.join(home).set_id == d.set_id
    assert home.lock.is_dir()
    assert 'v1 = "http://127.0.0.1:2"' in home.config.read_text()
    with pytest.raises(StateError) as raised:
        setup.join(home)
    assert raised.value.code == "exists"


def test_a_stranger_cannot_join(tmp_path: Path) -> None:
    keys = [setup.new_key(f"v{i}") for i in range(4)]
    d, policy, origin = setup.new_set("s", [k.vkey() for k in keys], 1)
    home = Home(tmp_path)
    setup.write_set(home.path, d, policy, origin)
    write_key(home.validator_key, setup.new_key("v0"), COSIGNATURE_V1)
    with pytest.raises(ConfigError) as raised:
        setup.join(home)
    assert raised.value.code == "key-foreign"
    assert not home.lock.exists()


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.held():
        with pytest.raises(StateError) as raised, home.held():
            pass
        assert raised.value.code == "node-busy"
    with home.held():
        pass
    with pytest.raises(ConfigError) as missing, Home(tmp_path / "none").held():
        pass
    assert missing.value.code == "not-a-node"


def test_only_what_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, code in ((tmp_path / "none", "not-a-node"), (file, "unreadable")):
        with pytest.raises(ConfigError) as raised, Home(path).held():
            pass
        assert raised.value.code == code
    with pytest.raises(ConfigError) as raised:
        read_key(file / "validator.key")
    assert raised.value.code == "unreadable"
    assert "Not a directory" in str(raised.value)

    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StateError) as failed, Home(tmp_path).held():
        pass
    assert failed.value.code == "system"
    assert "No locks available" in str(failed.value)
