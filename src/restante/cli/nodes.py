"""Which running node a command talks to, and its answers over HTTP."""

import json
import os
from pathlib import Path
from typing import Any

from restante.cli.place import node_path
from restante.errors import ConfigError, Refused, RestanteError, Unavailable

_TIMEOUT_S = 10.0
_ANSWER_BYTES = 16 * 1024 * 1024


def node_url(place: str | None, role: str = "listen") -> str:
    """The URL of a node: given as such, or of the node whose folder this is. Raises ConfigError."""
    if place is not None and place.startswith(("http://", "https://")):
        return place.rstrip("/")
    if place is not None and "://" in place:
        raise ConfigError(
            f"not the URL of a node: {place[:200]}", hint="give http://…, https://… or a folder"
        )
    from restante.node.config import load
    from restante.node.home import Home

    home = Home(node_path(place))
    config = load(home.config, os.environ)
    if config.list_("node.roles") == ["gateway"]:
        role = "gateway"
    host, port = config.text(f"{role}.host"), config.int_(f"{role}.port")
    if port == 0:
        raise ConfigError(
            f"{home.config} lets the system choose the port",
            hint="give the URL that `up` printed instead of the folder",
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 where to connect
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_folder(place: str | None) -> bool:
    """Whether the place is a folder, rather than a URL."""
    return place is None or not place.startswith(("http://", "https://"))


def folder(place: str | None) -> Path | None:
    """The node's folder, if that is what the place is."""
    return node_path(place) if is_folder(place) else None


def request(method: str, url: str, body: bytes | None = None) -> Any:
    """The JSON of a node's answer. Raises Unavailable, or what the node refused with."""
    data = fetch(method, url, body)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Unavailable(f"{url} does not answer as a node does", code="not-a-node") from None


def fetch(method: str, url: str, body: bytes | None = None) -> bytes:
    """The bytes of a node's answer. Raises as `request`."""
    import httpx2

    try:
        with (
            httpx2.Client(timeout=_TIMEOUT_S, trust_env=False) as client,
            client.stream(method, url, content=body) as response,
        ):
            parts, size = [], 0
            for part in response.iter_raw():
                size += len(part)
                if size > _ANSWER_BYTES:
                    raise Unavailable(f"{url} answers without end", code="not-a-node")
                parts.append(part)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise Unavailable(
            f"no node at {url}: {error}",
            code="node-unreachable",
            hint="is it running? `restante up` prints where it listens",
        ) from error
    data = b"".join(parts)
    if response.is_success:
        return data
    raise _refusal(response.status_code, data, url)


def _refusal(status: int, data: bytes, url: str) -> RestanteError:
    try:
        found = json.loads(data)
        code, message, hint = found["code"], found["message"], found.get("hint", "")
    except (ValueError, TypeError, KeyError, RecursionError):
        code, message, hint = "http", f"{url} answered {status}", ""
    kind = Unavailable if status >= 500 or status in (404, 429) else Refused
    return kind(str(message), code=str(code), hint=str(hint))
