"""Keys under a passphrase: age files that other tools open, and no wrong word or byte."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from restante import durable, limits
from restante.cli.passphrase import passphrase, unlock
from restante.cli.root import root
from restante.errors import ConfigError, InvalidEncoding
from restante.formats.keys import SigningKey
from restante.formats.note import COSIGNATURE_V1
from restante.node import age, setup
from restante.node.home import Home, change_passphrase, is_sealed, read_key, write_key

KEY = SigningKey("v1", bytes(range(32)))
# Made by `age --passphrase --armor` v1.3.2 of a line in the form of a key; N = 2^18.
FOREIGN = b"""-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBDalpUZWJ6dXh5MmlCK1lt
NUt5MzZRIDE4ClAramxtN2Fpd2xzYTRwTEp1dmVIa1VMNzVYWXRYcjZWL2JtVnNa
QU1iRlEKLS0tIHZWYk0vQWQ3TmVIeWNnTjZzM1kraTlTSXQ0S1h4b1l4bnRJQzNp
RDVvL3MKBFrpuhtzDT0Ey26Iz8VAkEuIUnwy88hGeAKs1one3PbUvcxIWoy0CiXq
FKgaDG5PiByYuMt4X5VsUYs4fA==
-----END AGE ENCRYPTED FILE-----
"""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_SCRYPT_LOG_N", 4)
    for name in ("RESTANTE_PASSPHRASE", "RESTANTE_NEW_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)


def test_what_age_made_opens() -> None:
    assert age.unseal(FOREIGN, "correct horse") == b"PRIVATE+KEY+v1+deadbeef+AAAA\n"


def test_what_is_sealed_opens_with_its_passphrase_alone() -> None:
    data = age.seal(b"secret", "word ü")
    assert age.is_sealed(data)
    assert b"secret" not in data
    assert all(len(line) <= 64 for line in data.splitlines())
    assert age.unseal(data, "word ü") == b"secret"
    assert age.seal(b"secret", "word ü") != data, "another file key, salt and nonce"
    for wrong in ("word u", "word ü ", ""):
        with pytest.raises(ConfigError) as raised:
            age.unseal(data, wrong)
        assert raised.value.code == "passphrase"
    with pytest.raises(ConfigError):
        age.seal(b"secret", "")


def test_no_changed_byte_opens() -> None:
    data = age.seal(b"secret", "word")
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = age.unseal(altered, "word")
        except (InvalidEncoding, ConfigError):
            continue
        # Padding and the last line's end carry nothing.
        assert found == b"secret"
        assert data[place : place + 1] in b"=\n"
    for cut in range(0, len(data) - 1, 7):
        with pytest.raises(InvalidEncoding):
            age.unseal(data[:cut], "word")


def test_a_work_factor_that_eats_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = age.seal(b"secret", "word")
    monkeypatch.setattr(limits, "KEY_SCRYPT_LOG_N_MAX", 3)
    with pytest.raises(InvalidEncoding, match="memory"):
        age.unseal(data, "word")


def test_a_sealed_key_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    write_key(path, KEY, COSIGNATURE_V1, "word")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_sealed(path)
    assert read_key(path, "word") == KEY
    with pytest.raises(ConfigError) as raised:
        read_key(path)
    assert raised.value.code == "key-locked"
    for way in ("--passphrase-file", "RESTANTE_PASSPHRASE", "node.passphrase_file"):
        assert way in raised.value.hint
    with pytest.raises(ConfigError) as raised:
        read_key(path, "another")
    assert raised.value.code == "passphrase"
    assert "another" not in raised.value.diagnostics().replace("another one", "")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ConfigError) as raised:
        read_key(path, "word")
    assert raised.value.code == "key-format"


def test_a_key_that_never_stood_in_clear_needs_no_passphrase_to_be_told(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    write_key(path, KEY, COSIGNATURE_V1)
    assert not is_sealed(path)
    assert read_key(path, "not asked for") == KEY


def test_a_passphrase_changes_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "validator.key"
    write_key(path, KEY, COSIGNATURE_V1)
    change_passphrase(path, None, "one")
    change_passphrase(path, "one", "two")
    assert read_key(path, "two") == KEY
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        change_passphrase(path, "one", "three")
    assert path.read_bytes() == before

    def no_room(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_all", no_room)
        with pytest.raises(OSError, match="No space"):
            change_passphrase(path, "two", "three")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["validator.key"]
    change_passphrase(path, "two", None)
    assert not is_sealed(path)
    assert read_key(path) == KEY


def test_what_is_no_key_is_not_sealed(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    path.write_text("secret-material")
    path.chmod(0o600)
    with pytest.raises(ConfigError) as raised:
        change_passphrase(path, None, "word")
    assert raised.value.code == "key-format"
    assert path.read_text() == "secret-material"


def test_a_node_is_made_with_sealed_keys(tmp_path: Path) -> None:
    home = Home(tmp_path / "node")
    setup.create_node(home, "solo", {}, passphrase="word")
    assert all(is_sealed(path) for path in home.key_files())
    assert home.key_files(["gateway"]) == []
    assert home.key_files(["proposer"]) == [home.proposer_key]


def test_the_file_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = tmp_path / "validator.key", tmp_path / "word"
    write_key(path, KEY, COSIGNATURE_V1, "word")
    file.write_text("word\nsecond line\n")
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "from the environment")
    assert unlock([path], file) == "word"
    assert unlock([path], None) == "from the environment"
    monkeypatch.delenv("RESTANTE_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **more: "typed" if more["hide_input"] else "")
    assert unlock([path], None) == "typed"
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError) as raised:
        unlock([path], None)
    assert raised.value.code == "key-locked"
    change_passphrase(path, "word", None)
    assert unlock([path], None) is None, "nobody is asked for what is not needed"
    for wrong in (b"", b"\n", b"\xff\n"):
        file.write_bytes(wrong)
        change_passphrase(path, None, "word")
        with pytest.raises(ConfigError) as raised:
            unlock([path], file)
        assert raised.value.code == "passphrase"
        change_passphrase(path, "word", None)


def test_the_command_seals_changes_and_unseals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "node")
    setup.create_node(home, "solo", {})
    before = [read_key(path) for path in home.key_files()]

    def run(*arguments: object) -> int:
        done = CliRunner().invoke(passphrase, [str(each) for each in arguments])
        return done.exit_code

    assert run(home.path) == 2, "nobody to ask"
    monkeypatch.setenv("RESTANTE_NEW_PASSPHRASE", "one")
    assert run(home.path) == 0
    assert [read_key(path, "one") for path in home.key_files()] == before
    assert run(home.path) == 2, "the old one is needed"
    (tmp_path / "old").write_text("one")
    (tmp_path / "new").write_text("two")
    files = ("--passphrase-file", tmp_path / "old", "--new-passphrase-file", tmp_path / "new")
    assert run(*files, home.validator_key) == 0
    assert read_key(home.validator_key, "two") == before[0]
    assert read_key(home.proposer_key, "one") == before[2]
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "two")
    assert run("--remove", home.validator_key) == 0
    assert read_key(home.validator_key) == before[0]
    assert run(tmp_path / "none") == 2


def test_a_sealed_validator_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "word")
    runner = CliRunner()
    made = runner.invoke(root, ["set", "key", "--seal", "v1", str(tmp_path / "v1")])
    assert made.exit_code == 0, made.output
    create = ["set", "create", str(tmp_path / "set"), "--name", "x", "--validator"]
    assert runner.invoke(root, [*create, made.stdout.strip()]).exit_code == 0
    join = ["set", "join", str(tmp_path / "v1"), "--set", str(tmp_path / "set")]
    monkeypatch.delenv("RESTANTE_PASSPHRASE")
    assert runner.invoke(root, join).exit_code == 2
    assert not (tmp_path / "v1" / "lock").exists()
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "word")
    joined = runner.invoke(root, join)
    assert joined.exit_code == 0, joined.output
    assert is_sealed(Home(tmp_path / "v1").validator_key)
