"""From configuration to adapters: the one place that names them."""

from collections.abc import Sequence
from pathlib import Path

from restante.durable import Hook
from restante.engines.local import LocalEngine
from restante.errors import ConfigError
from restante.networks.trace import Source, TraceNetwork, sources
from restante.node.clock import ReplayClock, WallClock
from restante.node.config import Config
from restante.node.home import Home
from restante.ports import Clock, Engine, Network, Store
from restante.stores.folder import FolderStore


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


def open_network(config: Config, clock: Clock, home: Home) -> Network | None:
    """`network.source`; None when only what is posted here is carried. Raises ConfigError."""
    source = config.text("network.source")
    if source == "none":
        return None
    kind, _, names = source.partition(":")
    if kind == "trace" and names:
        # What arrived before this node was there, it did not see.
        return TraceNetwork(_trace(home, names.split(",")), clock, since_ms=clock.now_ms())
    raise _unknown("network.source", source, "none, or trace:FILE[,FILE…]")


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
