"""Where an envelope goes: to a node and the other validators that its policy names, through
Whisper peers, or both."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from restante import limits
from restante.errors import ConfigError, InvalidEncoding, RestanteError, Unavailable

if TYPE_CHECKING:
    from restante.cli.follower import Follower
    from restante.formats.descriptor import Descriptor
    from restante.networks.rlpx.enode import Enode

NO_NODE = "a gateway serves the archive only: give the node's own port, which `up` printed"


Make = Callable[[int, Callable[[], bool]], bytes]
"""Makes the envelope, given the least work in millionths, and whether it was given up."""


class Handed(NamedTuple):
    """id, raw: of the envelope; to: how many took it, by what they are, and whether it waits for
    the node's first peer; in_words: the same."""

    id: bytes
    raw: bytes
    to: dict[str, int]
    in_words: str


@dataclass(frozen=True, slots=True)
class Target:
    """url: the node's, if there is one; others: the other validators'; peers: Whisper nodes."""

    url: str | None
    policy: Path | None
    descriptor: "Descriptor"
    others: list[str]
    peers: "Sequence[Enode]"

    @classmethod
    def of(
        cls, node: str | None, policy: Path | None, peers: "Sequence[Enode]", *, alone: bool
    ) -> "Target":
        """Of what a command line names. Raises ConfigError, Unavailable."""
        from restante.cli.nodes import folder, node_url

        if peers and node is None:
            if policy is None:
                raise ConfigError("--peer without --node needs --policy", hint="the set's file")
            return cls(None, policy, _descriptor_of(policy), [], peers)
        url = node_url(node)
        path = folder(node)
        policy = policy or (None if path is None else path / "policy")
        others = [] if alone or peers else other_contacts(policy, url)
        return cls(url, policy, read_descriptor(node, url), others, peers)

    def follower(self) -> "Follower":
        """What waits for the envelope; made before that is handed in. Raises ConfigError."""
        from restante.cli.follower import Follower

        if self.policy is None:
            raise ConfigError("--wait with a URL needs --policy", hint="whose keys to trust")
        return Follower(self.policy, self.url)

    def take(self, make: Make) -> Handed:
        """Make the envelope and hand it to all. Raises Unavailable, Refused, NotMined."""
        floor = self.descriptor.pow_floor_millionths
        if not self.peers:
            return self._handed(make(floor, lambda: False), {})
        import asyncio

        raw, taken = asyncio.run(self._through_peers(make, floor))
        return self._handed(raw, {"peers": taken})

    async def _through_peers(self, make: Make, floor: int) -> tuple[bytes, int]:
        from asyncio import to_thread

        from restante.cli.live import Live

        given_up = Event()
        async with Live(self.peers, self.descriptor) as live:
            demanded = await live.connect(most=limits.LIVE_POW_TIMES * floor / 1e6)
            try:
                raw = await to_thread(make, max(floor, ceil(demanded * 1e6)), given_up.is_set)
            finally:
                given_up.set()
            return raw, await live.send(raw)

    def _handed(self, raw: bytes, to: dict[str, int]) -> Handed:
        words = []
        if self.peers:
            words.append(f"sent to {to['peers']} of {len(self.peers)} peers")
        if self.url is not None:
            found = hand_in(self.url, raw)
            words.append("handed in")
            if found.get("peers"):
                words.append(f"sent on to {found['peers']} peers")
            elif found.get("waits"):
                words.append("no peer now: it goes out when one comes, while it lives")
            to |= {"node_peers": int(found.get("peers", 0)), "waits": bool(found.get("waits"))}
        if self.others:
            to["others"] = hand_to_others(self.others, raw)
            words.append(f"also at {to['others']} of {len(self.others)} others")
        elif not any(to.values()) and self.url is None:
            raise Unavailable(
                "no peer took it: it is too large for them, or none was left",
                code="no-peer",
                hint="`restante peers` of a node, or the peer's own log, says what it demands",
            )
        return Handed(
            sha256(raw).digest(),
            raw,
            {"peers": 0, "node_peers": 0, "waits": False, "others": 0, **to},
            ", ".join(words),
        )


def _descriptor_of(policy_file: Path) -> "Descriptor":
    """The set's parameters, verified, from where the policy says that its archive is served."""
    from restante.client import Client, ProcessMemory, read_policy
    from restante.client.sources import sources_of
    from restante.formats.descriptor import Descriptor

    policy, memory = read_policy(policy_file), ProcessMemory()
    with Client(policy, sources_of(policy), memory) as client:
        try:
            return client.refresh().descriptor
        except Unavailable:
            # A young set has signed nothing yet; its parameters are known by the policy's set id.
            data = None if policy.set_id is None else memory.descriptor(policy.set_id)
            if data is None:
                raise
            return Descriptor.parse(data)


def read_descriptor(node: str | None, url: str) -> "Descriptor":
    """The set's parameters: from the node's folder, or what the node says of itself."""
    from restante.cli.nodes import fetch, folder
    from restante.formats.descriptor import Descriptor
    from restante.node.home import Home

    path = folder(node)
    if path is not None:
        return Home(path).read_descriptor()
    try:
        # It only says how much work to do; a wrong one costs work, or a refusal.
        with _of_a_node(url):
            return Descriptor.parse(fetch("GET", f"{url}/descriptor"))
    except InvalidEncoding as error:
        raise Unavailable(
            f"{url} gave no descriptor: {error}", code="not-a-node", hint=NO_NODE
        ) from error


def hand_in(url: str, raw: bytes) -> Any:
    from restante.cli.nodes import request

    with _of_a_node(url):
        return request("POST", f"{url}/envelopes", raw)


@contextmanager
def _of_a_node(url: str) -> Iterator[None]:
    """Say of an answer that no node gives that it may be a gateway's."""
    try:
        yield
    except RestanteError as error:
        if error.code in ("http", "not-found", "method", "not-a-node"):
            raise Unavailable(
                f"{url} takes no envelopes: {error}", code="not-a-node", hint=NO_NODE
            ) from error
        raise


def other_contacts(policy_file: Path | None, url: str) -> list[str]:
    """The URLs that a policy names besides the node's own. Raises ConfigError."""
    if policy_file is None or not policy_file.is_file():
        return []
    from restante.client import read_policy

    urls = dict.fromkeys(each.rstrip("/") for _, each in read_policy(policy_file).contacts)
    return [each for each in urls if each != url]


def hand_to_others(urls: Sequence[str], raw: bytes) -> int:
    """Hand it to these too, at once; how many took it.

    What one validator alone holds at the cut-off may wait for the next window (I1 wants f + 1).
    That one is down or wants none is no error: the node that was named has it.
    """
    if not urls:
        return 0
    with ThreadPoolExecutor(len(urls)) as workers:
        return sum(workers.map(lambda url: _took(url, raw), urls))


def _took(url: str, raw: bytes) -> bool:
    try:
        hand_in(url, raw)
    except RestanteError:
        return False
    return True
