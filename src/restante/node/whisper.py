"""A node on the Whisper network: where it listens, whom it dials, and who it is there."""

import secrets

from restante import __version__
from restante.durable import write_file
from restante.errors import ConfigError, Unavailable
from restante.formats.descriptor import Descriptor
from restante.networks.rlpx.enode import Enode
from restante.networks.whisper.network import WhisperNetwork
from restante.networks.whisper.network_talk import MailService
from restante.node.config import Config
from restante.node.home import KEY_MODE, Home, read_secret
from restante.ports import Clock

_KEY_BYTES = 32
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - told apart, not listened at


async def open_whisper(
    config: Config, home: Home, clock: Clock, d: Descriptor, mail: MailService | None
) -> WhisperNetwork:
    """`[whisper]`, at work; `mail` answers old clients' requests. Raises ConfigError, with code
    `listen` where it cannot listen."""
    host = config.text("whisper.host")
    network = WhisperNetwork(
        node_key(home),
        [Enode.parse(text) for text in config.list_("whisper.peers")],
        clock,
        floor_millionths=d.pow_floor_millionths,
        client=f"restante/{__version__}",
        listen_at=(host, config.int_("whisper.port")),
        # Nobody can dial "any address"; this machine at least can dial itself.
        advertised=config.text("whisper.advertise")
        or ("127.0.0.1" if host in _ANY_ADDRESS else ""),
        max_peers=config.int_("whisper.max_peers"),
        mail=mail,
    )
    try:
        await network.open()
    except Unavailable as error:
        raise ConfigError(
            str(error),
            code=error.code,
            hint="another process has this port, or the address is none of this machine's: choose "
            "whisper.port and whisper.host in restante.toml",
        ) from error
    return network


def node_key(home: Home) -> bytes:
    """The private key, 32 bytes, by which peers know this node; made at the first call.

    64 hex digits, as geth's tools read them. Nothing of ours is signed with it: a lost one costs a
    new enode. Raises ConfigError `key-format`, and as `read_secret`.
    """
    path = home.whisper_key
    if not path.exists():
        key = secrets.token_bytes(_KEY_BYTES)
        write_file(path, key.hex().encode(), mode=KEY_MODE)
    try:
        key = bytes.fromhex(read_secret(path).decode().strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path} holds no key", code="key-format", hint="64 hex digits")
    return key
