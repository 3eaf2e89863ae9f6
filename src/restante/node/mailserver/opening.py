"""From configuration to a mail server."""

from collections.abc import Sequence
from pathlib import Path

from restante import limits
from restante.client import Source
from restante.client.sources import parse_source
from restante.errors import ConfigError
from restante.formats.descriptor import Descriptor
from restante.networks.whisper import crypt
from restante.networks.whisper.mail_request import DEFAULT_PASSWORD, MailKeys
from restante.node.adapters import check_mail_network
from restante.node.config import Config
from restante.node.home import Home, read_secret
from restante.node.mailserver.index import IndexPlace
from restante.node.mailserver.role import MailServer
from restante.ports import Clock


def open_mail_server(
    config: Config, home: Home, clock: Clock, d: Descriptor, beside: Sequence[Source]
) -> MailServer:
    """`[mailserver]`, to be given to the network and to be run; `beside` are the sources where none
    are named. Raises ConfigError."""
    check_mail_network(config.text("network.source"))
    named = config.list_("mailserver.sources")
    sources = [parse_source(each if "://" in each else str(home.path / each)) for each in named]
    place = IndexPlace(d, home.read_policy(d), sources or beside, home.cache / "mailserver")
    rate_limit_s = config.int_("mailserver.rate_limit_s")
    return MailServer(place, clock, _keys(config, home), rate_limit_s=rate_limit_s)


def _keys(config: Config, home: Home) -> MailKeys:
    """A password always, and a private key where one is named."""
    password_file = config.text("mailserver.password_file")
    key_file = config.text("mailserver.key_file")
    password = _password(home.path / password_file) if password_file else DEFAULT_PASSWORD
    private = _private_key(home.path / key_file) if key_file else None
    return MailKeys(crypt.password_key(password), private)


def _password(path: Path) -> str:
    """The first line of a file, which is no secret worth keeping. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            line = file.read(limits.KEY_FILE_BYTES).partition(b"\n")[0]
        password = line.removesuffix(b"\r").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no password in {path}: {error}", code="mail-password") from error
    if not password:
        raise ConfigError(f"no password in {path}", code="mail-password", hint="its first line")
    return password


def _private_key(path: Path) -> bytes:
    """64 hex digits. Raises ConfigError `mail-key`, and as `read_secret`."""
    text = read_secret(path)
    try:
        key = bytes.fromhex(text.decode().strip())
        crypt.public_key(key)
    except (ValueError, ConfigError):
        # What is there may be most of a key: it is not shown.
        raise ConfigError(
            f"{path} holds no key", code="mail-key", hint="64 hex digits, no others"
        ) from None
    return key
