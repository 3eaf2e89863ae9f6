"""A mail server out of an operator's configuration: keys, sources, and what is refused."""

import pytest

from restante.client import FolderSource
from restante.errors import ConfigError
from restante.networks.whisper import crypt
from restante.networks.whisper.mail_request import DEFAULT_PASSWORD, MailKeys
from restante.node.clock import WallClock
from restante.node.config import load
from restante.node.home import Home
from restante.node.mailserver.opening import open_mail_server
from restante.testing.archive_fixture import make_set

MADE = make_set()
KEY = b"\x11" * 32


def open_(path, **values):
    home = Home(path)
    home.policy.write_bytes(MADE.policy().encode())
    (path / "beside").mkdir(exist_ok=True)
    given = {f"mailserver.{name}": value for name, value in values.items()}
    config = load(None, {}, {"network.source": "whisper", **given})
    beside = [FolderSource(path / "beside")]
    return open_mail_server(config, home, WallClock(), MADE.descriptor, beside)


def keys(path, **values):
    return open_(path, **values)._keys


def write(path, text, mode=0o600):
    path.write_bytes(text)
    path.chmod(mode)


def test_every_clients_password_unless_another_is_given(tmp_path):
    assert keys(tmp_path) == MailKeys(crypt.password_key(DEFAULT_PASSWORD))
    for text in (b"wwww", b"wwww\n", b"wwww\r\nmore"):
        write(tmp_path / "password", text, mode=0o644)
        assert keys(tmp_path, password_file="password").password_key == crypt.password_key("wwww")


def test_a_private_key_beside_the_password(tmp_path):
    write(tmp_path / "key", KEY.hex().encode() + b"\n")
    given = keys(tmp_path, key_file="key")
    assert given == MailKeys(crypt.password_key(DEFAULT_PASSWORD), KEY)
    assert KEY.hex() not in repr(given)


@pytest.mark.parametrize("text", [b"", b"\nwwww", b"\xff\xfe"])
def test_no_password(tmp_path, text):
    write(tmp_path / "password", text)
    with pytest.raises(ConfigError) as caught:
        open_(tmp_path, password_file="password")
    assert caught.value.code == "mail-password"


@pytest.mark.parametrize(
    "text", [b"", b"11" * 31, b"11" * 33, b"00" * 32, b"ff" * 32, b"zz" * 32, b"\xff"]
)
def test_no_private_key(tmp_path, text):
    write(tmp_path / "key", text)
    with pytest.raises(ConfigError) as caught:
        open_(tmp_path, key_file="key")
    assert caught.value.code == "mail-key"


def test_files_that_are_not_there_or_not_private(tmp_path):
    for values, code in (
        ({"password_file": "none"}, "mail-password"),
        ({"key_file": "none"}, "key-missing"),
    ):
        with pytest.raises(ConfigError) as caught:
            open_(tmp_path, **values)
        assert caught.value.code == code
    write(tmp_path / "key", KEY.hex().encode(), mode=0o644)
    with pytest.raises(ConfigError) as caught:
        open_(tmp_path, key_file="key")
    assert caught.value.code == "key-mode"


def test_sources_and_what_they_are_told(tmp_path):
    assert open_(tmp_path).status()["by_topic"] == "exact"
    (tmp_path / "archive").mkdir()
    assert open_(tmp_path, sources=["archive"]).status()["by_topic"] == "exact"
    named = ["archive", "https://archive.example"]
    assert open_(tmp_path, sources=named).status()["by_topic"] == "bucket"
    with pytest.raises(ConfigError) as caught:
        open_(tmp_path, sources=["nowhere"])
    assert caught.value.code == "source"


def test_it_needs_whisper(tmp_path):
    home = Home(tmp_path)
    with pytest.raises(ConfigError) as caught:
        open_mail_server(load(None, {}), home, WallClock(), MADE.descriptor, [])
    assert caught.value.code == "mail-network"
    assert caught.value.hint
