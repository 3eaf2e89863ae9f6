"""The composition root: configuration in, a running node out."""

import asyncio
import gc
import logging
import secrets
import signal
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from restante import limits
from restante.client.memory import FolderMemory
from restante.client.sources import FolderSource, Source, parse_source
from restante.durable import Hook, no_hook
from restante.errors import ConfigError, StateError
from restante.formats.descriptor import Descriptor
from restante.networks.keccak import keccak256
from restante.node import adapters
from restante.node.backup import refuse_restored
from restante.node.config import Config
from restante.node.durable.adopting import Adopting, caught_up
from restante.node.durable.elsewhere import Elsewhere
from restante.node.durable.pool import ID_BYTES, Pool
from restante.node.durable.refill import make_refill
from restante.node.durable.state import State
from restante.node.gateway.role import Gateway
from restante.node.gateway.upstream import Upstream
from restante.node.home import Home, read_key
from restante.node.metrics import Metrics
from restante.node.proposer.outsider import Outsider
from restante.node.validator.driver import ValidatorNode
from restante.node.validator.role import Validating
from restante.node.waiting import first_of
from restante.node.wire.http import Listener, build_app
from restante.node.wire.peers import Peers, open_client
from restante.node.wire.proxies import Proxies
from restante.node.wire.routes_network import network_part, network_reasons, peer_routes
from restante.node.wire.routes_node import common_routes
from restante.ports import Clock, Engine, Network, Store
from restante.rules.intake import judge
from restante.rules.window import Pace

if TYPE_CHECKING:
    from restante.node.mailserver.role import MailServer

log = logging.getLogger("restante")


async def run(
    home: Home,
    config: Config,
    *,
    hook: Hook = no_hook,
    listening: Callable[[dict[str, str]], None] = lambda urls: None,
    passphrase: str | None = None,
) -> None:
    """Run the configured roles until SIGINT or SIGTERM.

    `listening` is told the URL of each listener, by role; `passphrase` opens the keys that are
    sealed. Raises whatever ended a role.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(home.held())
        node = await Node.open(home, config, hook, stack, passphrase)
        listening(node.urls)
        # Each envelope is a few objects for as long as it lives: by Python's own threshold an
        # eighth of a node's time would go into looking through all that was opened above.
        gc.collect()
        gc.freeze()
        gc.set_threshold(limits.COLLECTED_AFTER_OBJECTS)
        try:
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(node.work())
                await stop.wait()
                working.cancel()
        except BaseExceptionGroup as group:
            first = first_of(group)
            if isinstance(first, sqlite3.Error):
                raise StateError(
                    f"a database of this node: {first}",
                    code="system",
                    hint="make room on its disk and start again; nothing acknowledged is lost",
                ) from group
            raise first from group


class Node:
    """The roles of one process and its listeners."""

    def __init__(self, d: Descriptor, clock: Clock, config: Config) -> None:
        """Use `open`."""
        self._d = d
        self._clock = clock
        self._config = config
        self._metrics = Metrics()
        self._jobs: list[Callable[[], Any]] = []
        self._listeners: list[Listener] = []
        self._network: Network | None = None
        self._mail: MailServer | None = None
        self.urls: dict[str, str] = {}

    @classmethod
    async def open(
        cls,
        home: Home,
        config: Config,
        hook: Hook,
        stack: AsyncExitStack,
        passphrase: str | None = None,
    ) -> "Node":
        """Open everything that the roles need; `stack` closes it. Raises RestanteError."""
        roles = config.list_("node.roles")
        if not roles:
            raise ConfigError("node.roles is empty")
        d = home.read_descriptor()
        clock = adapters.open_clock(config, home)
        node = cls(d, clock, config)
        if "mailserver" in roles:
            node._open_mail(home, stack)
        if "validator" not in roles and roles != ["gateway"]:
            await node._open_network(home, stack)
        if "validator" in roles:
            await node._open_validator(home, hook, stack, passphrase)
        elif "proposer" in roles:
            await node._open_proposer(home, hook, stack, passphrase)
        if "gateway" in roles:
            node._open_gateway(home, stack)
        if roles == ["mailserver"]:
            node._open_status(stack)
        if not {"validator", "proposer"} & set(roles):
            node._jobs.append(node._relay)
        for listener in node._listeners:
            listener.listen()
        return node

    async def work(self) -> None:
        """All roles and listeners, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for job in self._jobs:
                tasks.create_task(job())

    def _open_mail(self, home: Home, stack: AsyncExitStack) -> None:
        # It needs what is only installed for Whisper.
        from restante.node.mailserver.opening import open_mail_server

        beside = self._sources(home)
        self._mail = mail = open_mail_server(self._config, home, self._clock, self._d, beside)
        stack.push_async_callback(mail.aclose)
        self._jobs.append(mail.run)

    async def _relay(self) -> None:
        """Take what is live where no role keeps it, so that links are read, and pass it on."""
        network = self._network
        if network is not None:
            async for group in network.arrivals():
                network.judged([judge(raw, ms, self._d, keccak256) for ms, raw in group])

    def _open_status(self, stack: AsyncExitStack) -> None:
        """A listener for a mail server alone, so that its operator can ask it."""
        listener = self._listener("listen", stack)

        def status() -> dict[str, Any]:
            assert self._mail is not None
            troubles = network_reasons(self._network)
            reasons = [{"code": code, "message": message} for code, message in troubles]
            return {
                "window": self._d.window_of(self._clock.now_ms()),
                **network_part(self._network),
                "reasons": self._mail.status()["reasons"] + reasons,
            }

        routes = common_routes(lambda: self._status(status()), None, self._d.max_envelope_bytes)
        app = self._app("mailserver", status, routes + peer_routes(self._network))
        self._jobs.append(lambda: listener.serve(app))
        self.urls["mailserver"] = listener.url

    async def _open_network(self, home: Home, stack: AsyncExitStack) -> None:
        self._network = network = await adapters.open_network(
            self._config, self._clock, home, self._d, self._mail
        )
        if network is None:
            return
        stack.push_async_callback(network.close)
        if enode := network.status().get("enode"):
            self.urls["whisper"] = enode

    async def _open_validator(
        self, home: Home, hook: Hook, stack: AsyncExitStack, passphrase: str | None
    ) -> None:
        d, config = self._d, self._config
        refuse_restored(home)
        key = read_key(home.validator_key, passphrase)
        own = d.validator(key.name)
        if own is None or own.public_key != key.public_key:
            raise ConfigError(
                f"{home.validator_key} is no key of this validator set", code="key-foreign"
            )
        origin = read_key(home.origin_key, passphrase)
        if origin.name != d.origin:
            raise ConfigError(f"{home.origin_key} is of another log", code="key-foreign")
        listener = self._listener("listen", stack)
        stores: list[Store] = adapters.open_stores(config, home, hook)
        state = State.open(home, d, own, [store.name for store in stores], hook)
        stack.callback(state.close)
        engine: Engine = adapters.open_engine(config, home, hook)
        stack.push_async_callback(engine.close)
        client = open_client()
        stack.push_async_callback(client.aclose)
        peers = Peers(d, self._peer_urls(key.name), client, self._clock)
        policy = home.read_policy(d)
        others = Elsewhere(d, policy, state, peers, stores, "adopting")
        refill = make_refill(d, policy, state, peers, stores)
        await caught_up(Adopting(d, state, others, self._clock), refill)
        # That may take long. The network's peers come only now, when what they send is taken soon:
        # whose writes wait for minutes leaves.
        await self._open_network(home, stack)
        proposing = "proposer" in config.list_("node.roles")
        node = ValidatorNode(
            d,
            key,
            state,
            engine,
            self._clock,
            peers,
            keccak256,
            self._pace(),
            pool_max_bytes=config.int_("validator.pool_max_bytes"),
            proposer=read_key(home.proposer_key, passphrase) if proposing else None,
        )
        validating = Validating(
            node,
            key,
            origin,
            policy,
            state,
            self._network,
            stores,
            refill,
            retention_days=config.int_("validator.retention_days"),
            children_kept_s=config.int_("validator.children_kept_s"),
        )
        validating.announce(config.text("listen.url") or listener.url)
        routes = common_routes(
            lambda: self._status(validating.status()),
            validating.hand_in,
            d.max_envelope_bytes,
        )
        routes += peer_routes(self._network) + validating.routes()
        app = self._app("validator", validating.status, routes)
        self._jobs += [validating.run, lambda: listener.serve(app)]
        self.urls["validator"] = listener.url

    async def _open_proposer(
        self, home: Home, hook: Hook, stack: AsyncExitStack, passphrase: str | None
    ) -> None:
        d = self._d
        key = read_key(home.proposer_key, passphrase)
        listener = self._listener("listen", stack)
        if not home.proposer_pool.exists():
            # Nothing was ever promised out of a proposer's pool that is not there.
            Pool.create(
                home.proposer_pool, secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES)
            ).close()
        pool = Pool.open(home.proposer_pool, hook=hook)
        stack.callback(pool.close)
        client = open_client()
        stack.push_async_callback(client.aclose)
        peers = Peers(d, self._peer_urls(""), client, self._clock)
        outsider = Outsider(
            d, key, home.read_policy(d), pool, self._clock, peers, keccak256, self._pace()
        )
        routes = common_routes(
            lambda: self._status(outsider.status()),
            outsider.hand_in,
            d.max_envelope_bytes,
        )
        app = self._app("proposer", outsider.status, routes + peer_routes(self._network))
        self._jobs += [lambda: outsider.run(self._network), lambda: listener.serve(app)]
        self.urls["proposer"] = listener.url

    def _open_gateway(self, home: Home, stack: AsyncExitStack) -> None:
        d, config = self._d, self._config
        listener = self._listener("gateway", stack)
        upstream = Upstream(
            d, home.read_policy(d), self._sources(home), FolderMemory(home.cache / "memory")
        )
        denylist = config.text("gateway.denylist")
        gateway = Gateway(
            d,
            upstream,
            home.cache,
            config.int_("gateway.cache_max_bytes"),
            self._clock,
            home.path / denylist if denylist else None,
        )
        stack.callback(gateway.close)
        routes = common_routes(
            lambda: self._status(gateway.status()), None, d.max_envelope_bytes, gateway.ready
        )
        app = self._app("gateway", gateway.status, routes + gateway.routes())
        self._jobs.append(lambda: listener.serve(app))
        self.urls["gateway"] = listener.url

    def _sources(self, home: Home) -> list[Source]:
        """What the gateway reads: as configured, or the validators, or the archive beside it."""
        named = self._config.list_("gateway.sources")
        if named:
            return [
                parse_source(each if "://" in each else str(home.path / each)) for each in named
            ]
        own: list[Source] = []
        if home.archive.is_dir() or "validator" in self._config.list_("node.roles"):
            # Also where no validator runs any more: what came back from a backup is served.
            own = [FolderSource(home.archive, "own archive")]
        return own + [parse_source(url) for url in self._config.table("peers").values()]

    def _app(
        self, role: str, status: Callable[[], dict[str, Any]], routes: list[BaseRoute]
    ) -> ASGIApp:
        self._metrics.watch(role, status)
        # The archive's route takes every path that none before it took.
        return self._metrics.counting(build_app(self._metrics.routes() + routes, self._clock), role)

    def _listener(self, section: str, stack: AsyncExitStack) -> Listener:
        """A bound one, that listens when all roles are open."""
        config = self._config
        proxies = Proxies(config.list_("listen.trusted_proxies"))
        host, port = config.text(f"{section}.host"), config.int_(f"{section}.port")
        listener = Listener(host, port, proxies)
        stack.callback(listener.close)
        self._listeners.append(listener)
        return listener

    def _pace(self) -> Pace:
        config = self._config
        return Pace(config.int_("validator.grace_s") * 1000, config.int_("validator.step_s") * 1000)

    def _peer_urls(self, own: str) -> dict[str, str]:
        """The other validators' URLs. Raises ConfigError for a name that the set does not have."""
        urls = self._config.table("peers")
        for name in urls:
            if self._d.validator(name) is None:
                known = ", ".join(v.name for v in self._d.validators)
                raise ConfigError(
                    f"peers.{name} is no validator of the set", hint=f"validators: {known}"
                )
        missing = [v.name for v in self._d.validators if v.name != own and v.name not in urls]
        if missing:
            raise ConfigError(
                f"no URL of {', '.join(missing)}", hint="list every validator under [peers]"
            )
        return {name: url for name, url in urls.items() if name != own}

    def _status(self, role: dict[str, Any]) -> dict[str, Any]:
        return {
            "roles": self._config.list_("node.roles"),
            "set": self._d.set_id.hex(),
            "now_ms": self._clock.now_ms(),
            **({"mail": self._mail.status()} if self._mail else {}),
            **role,
        }
