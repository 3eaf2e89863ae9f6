"""From configuration to adapters: the one place that names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restante.durable import Hook, no_hook
from restante.engines.local import LocalEngine
from restante.errors import ConfigError
from restante.formats.descriptor import Descriptor
from restante.networks.trace import Source, TraceNetwork, sources
from restante.node.clock import ReplayClock, WallClock
from restante.node.config import Config
from restante.node.home import Home
from restante.ports import Clock, Engine, Network, Store
from restante.stores.folder import FolderStore

if TYPE_CHECKING:
    from restante.networks.whisper.network_talk import MailService


def open_clock(config: Config, home: Home) -> Clock:
    """`clock.source`. Raises ConfigError."""
    source = config.text("clock.source")
    if source == "wall":
        return WallClock()
    kind, _, path = source.partition(":")
    if kind == "replay" and path:
        return ReplayClock(home.path / path)
    raise _unknown("clock.source", source, "wall, or replay:FILE")


def open_engine(config: Config, home: Home, hook: Hook) -> Engine:
    """`engine.source`. Raises ConfigError, StateError."""
    source = config.text("engine.source")
    kind, _, path = source.partition(":")
    if kind == "local" and path:
        return LocalEngine.open(home.path / path, hook=hook)
    raise _unknown("engine.source", source, "local:FILE")


async def read_slot(config: Config, home: Home, number: int) -> bytes | None:
    """The entry in a slot of the engine; None when it has none. Raises ConfigError, StateError,
    Unavailable."""
    engine = open_engine(config, home, no_hook)
    try:
        found = await engine.entries(number - 1, 1)
        return found[0].entry if found and found[0].number == number else None
    finally:
        await engine.close()


def check_mail_network(source: str) -> None:
    """Whether a mail server can be reached over a `network.source`. Raises ConfigError."""
    if source != "whisper":
        raise ConfigError(
            "a mail server's clients come over Whisper",
            code="mail-network",
            hint='let network.source (--network) be "whisper", or leave the role out',
        )


def check_network(source: str, folder: Path) -> str:
    """A `network.source` as it is written on a command line, its files relative to `folder`: the
    same with whole paths. Raises ConfigError for an unknown one, or a trace that is not there."""
    if source in ("none", "whisper"):
        return source
    kind, _, names = source.partition(":")
    if kind != "trace" or not names:
        raise _unknown("network.source", source, "none, whisper, or trace:FILE[,FILE…]")
    paths = [(folder / name).absolute() for name in names.split(",")]
    _trace(Home(folder), [str(path) for path in paths])
    if any("," in str(path) for path in paths):
        raise ConfigError(f"a trace's folder has a comma in its name: {source}")
    return "trace:" + ",".join(str(path) for path in paths)


async def open_network(
    config: Config, clock: Clock, home: Home, d: Descriptor, mail: "MailService | None" = None
) -> Network | None:
    """`network.source`; None when only what is posted here is carried. Raises ConfigError,
    Unavailable where it cannot listen."""
    source = config.text("network.source")
    if source == "none":
        return None
    if source == "whisper":
        # It needs what is only installed for it.
        from restante.node.whisper import open_whisper

        return await open_whisper(config, home, clock, d, mail)
    kind, _, names = source.partition(":")
    if kind == "trace" and names:
        # What arrived before this node was there, it did not see.
        return TraceNetwork(_trace(home, names.split(",")), clock, since_ms=clock.now_ms())
    raise _unknown("network.source", source, "none, whisper, or trace:FILE[,FILE…]")


def _trace(home: Home, names: Sequence[str]) -> list[Source]:
    found: list[Source] = []
    for name in names:
        path = home.path / name
        observer = path.name.removesuffix(".gz").removesuffix(".jsonl")
        found += sources(path.parent, [observer])
    return found


def open_stores(config: Config, home: Home, hook: Hook) -> list[Store]:
    """`[stores]`. Raises ConfigError, StateError."""
    stores: list[Store] = []
    for name, source in config.table("stores").items():
        kind, _, path = source.partition(":")
        if kind != "folder" or not path:
            raise _unknown(f"stores.{name}", source, "folder:PATH")
        stores.append(FolderStore.open(name, home.path / path, hook=hook))
    return stores


def absolute(home: Home, path: str) -> Path:
    """A path of the configuration: relative ones are relative to the node's folder."""
    return home.path / path


def _unknown(name: str, value: str, known: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}", hint=f"known: {known}")
