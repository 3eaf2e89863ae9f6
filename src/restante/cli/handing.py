"""Handing an envelope to a node, and to the other validators that its policy names."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restante.errors import InvalidEncoding, RestanteError, Unavailable

if TYPE_CHECKING:
    from restante.formats.descriptor import Descriptor

NO_NODE = "a gateway serves the archive only: give the node's own port, which `up` printed"


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
