"""Sets the stage: keys, a validator set, configurations, and the times of the replay."""

import socket
from dataclasses import dataclass
from pathlib import Path

from restante.durable import make_directories, write_file
from restante.engines.local import LocalEngine
from restante.errors import ConfigError
from restante.formats.descriptor import Descriptor
from restante.formats.note import COSIGNATURE_V1, ED25519
from restante.networks.trace import Source, read_arrivals, sources
from restante.node import setup
from restante.node.config import Value, template
from restante.node.home import Home, write_key
from restante.stores.folder import FolderStore

# Who observes through whose eyes: views differ, as they do on a living network.
VIEWS = {
    "v1": ("observer1",),
    "v2": ("observer2",),
    "v3": ("observer3",),
    "v4": ("observer1", "observer3"),
    "p1": ("observer1",),
    "p2": ("observer2",),
}
VALIDATORS = ("v1", "v2", "v3", "v4")
PROPOSERS = ("p1", "p2")
GATEWAY = "gateway"
LIAR = "liar"
# Outside the range from which the system takes ports for passing connections.
_PORTS = range(20_000, 30_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that stands ready before anyone starts."""

    root: Path
    trace: Path
    descriptor: Descriptor
    policy: Path
    clock: Path
    """The replay clock's record."""
    ports: dict[str, int]
    """Name → port on loopback."""
    start_ms: int
    """Virtual time at which the play begins: observers are connected from then on."""
    last_window: int
    """The window of the last arrival at any observer."""

    def home(self, name: str) -> Path:
        return self.root / name

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def lie(self) -> Path:
        """Holds the name of the liar's present lie."""
        return self.root / "lie"


def build(root: Path, trace: Path) -> Scene:
    """Write every file of the play below `root`, from the trace in a folder.

    Genesis is the first window that begins while all observers are connected, so that every window
    is watched; what arrived earlier is due in it. Raises ConfigError for what is no trace.
    """
    found = {name: sources(trace, VIEWS[name]) for name in VIEWS}
    every = [source for each in found.values() for source in each]
    start_ms, last_ms = _span(every)
    keys = {name: setup.new_key(name) for name in VALIDATORS}
    genesis_s = -(-(start_ms // 1000 + 1) // 30) * 30
    ports = _free_ports([*VALIDATORS, *PROPOSERS, GATEWAY, LIAR])
    contacts = [(name, f"http://127.0.0.1:{ports[name]}") for name in VALIDATORS]
    d, policy, origin = setup.new_set(
        "demo.restante",
        [key.vkey() for key in keys.values()],
        1,
        genesis_s=genesis_s,
        contacts=contacts,
    )
    shared = root / "shared"
    setup.write_set(shared, d, policy, origin)
    LocalEngine.create(shared / "engine.db")._close()
    scene = Scene(
        root,
        trace,
        d,
        shared / "policy",
        shared / "clock",
        ports,
        start_ms,
        d.window_of(last_ms),
    )
    for name in (*VALIDATORS, *PROPOSERS, GATEWAY):
        home = Home(scene.home(name))
        make_directories(home.path)
        write_file(home.descriptor, d.encode())
        write_file(home.policy, policy.encode())
        if name in VALIDATORS:
            write_key(home.validator_key, keys[name], COSIGNATURE_V1)
            write_key(home.origin_key, origin, ED25519)
            setup.create_validator(home, d, keys[name])
            FolderStore.create("folder", home.stores / "folder")
        if name in PROPOSERS:
            write_key(home.proposer_key, setup.new_key(name), ED25519)
        write_file(home.config, template(_values(scene, name, found.get(name, []))).encode())
    write_file(scene.lie, b"flip\n")
    return scene


def _values(scene: Scene, name: str, observed: list[Source]) -> dict[str, Value]:
    role = "validator" if name in VALIDATORS else "proposer" if name in PROPOSERS else "gateway"
    values: dict[str, Value] = {
        "node.roles": [role],
        "listen.port": scene.ports[name],
        "gateway.port": scene.ports[name],
        "clock.source": f"replay:{scene.clock}",
        "engine.source": f"local:{scene.root / 'shared' / 'engine.db'}",
        "network.source": "none",
        "peers": {peer: scene.url(peer) for peer in VALIDATORS if peer != name},
        "log.format": "json",
    }
    if observed:
        values["network.source"] = "trace:" + ",".join(str(s.path.resolve()) for s in observed)
    if role == "validator":
        values["stores"] = {"folder": "folder:stores/folder"}
    return values


def _span(every: list[Source]) -> tuple[int, int]:
    """When all observers are connected and before anything arrives; when the last envelope does."""
    first_ms, last_ms = 2**62, 0
    for path in {source.path for source in every}:
        for row in read_arrivals(path):
            first_ms, last_ms = min(first_ms, row.arrival_ms), max(last_ms, row.arrival_ms)
    if last_ms == 0:
        raise ConfigError("the trace is empty", code="trace-empty")
    connected = [s.connected_ms[0][0] for s in every if s.connected_ms]
    return max(connected, default=first_ms - 1000), last_ms


def _free_ports(names: list[str]) -> dict[str, int]:
    """A free port for each name; the candidates only go up, so that no two are the same."""
    ports: dict[str, int] = {}
    candidates = iter(_PORTS)
    for name in names:
        for port in candidates:
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            ports[name] = port
            break
        else:
            raise ConfigError("no free port on loopback", code="ports")
    return ports
