"""What a node says of its network: how many peers were given what is handed in, how the network is,
and, on its own machine, who the peers are."""

import json
from ipaddress import ip_address
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from restante.errors import Unavailable
from restante.node.wire.http import RequestRefused
from restante.ports import Network


class HandedIn(NamedTuple):
    """id: of an envelope that is pooled durably; peers: of the network that it was queued for;
    waits: whether no peer is there now, and it goes out when one comes."""

    id: bytes
    peers: int
    waits: bool = False

    @classmethod
    def of(cls, id_: bytes, network: Network | None, raw: bytes) -> "HandedIn":
        """Send what is pooled on to the network. Where that cannot be, R7 takes it to the other
        validators all the same."""
        if network is None:
            return cls(id_, 0)
        try:
            peers = network.send(raw)
        except Unavailable:
            return cls(id_, 0)
        return cls(id_, peers, waits=not network.connected)


def network_part(network: Network | None) -> dict[str, Any]:
    """What `/status` tells of the network, if that has peers."""
    found = {} if network is None else network.status()
    return {"network": found} if found else {}


def told_to(request: Request, status: dict[str, Any]) -> dict[str, Any]:
    """A role's status as this asker may have it: with whom a node speaks is nobody's business but
    its operator's."""
    network = status.get("network")
    if network is None or _is_local(request):
        return status
    return status | {"network": {k: v for k, v in network.items() if k != "static"}}


def _is_local(request: Request) -> bool:
    host = request.client.host if request.client is not None else ""
    return bool(host) and ip_address(host).is_loopback


def network_reasons(network: Network | None) -> list[tuple[str, str]]:
    """What is not well with the network: (code, message)."""
    return [] if network is None else network.reasons()


def peer_routes(network: Network | None) -> list[BaseRoute]:
    """Who the peers are, as told on the node's own machine alone."""

    async def show(request: Request) -> Response:
        if not _is_local(request):
            raise RequestRefused(
                403, "not-local", "peers are told on the node's own machine only", "ask there"
            )
        status = {} if network is None else network.status()
        found = {
            "enode": status.get("enode") or "",
            "peers": [] if network is None else network.peers(),
            "static": status.get("static", []),
        }
        data = json.dumps(found, ensure_ascii=False)
        return Response(data, 200, {"Cache-Control": "no-store"}, "application/json")

    return [Route("/peers", show, methods=["GET"])]
