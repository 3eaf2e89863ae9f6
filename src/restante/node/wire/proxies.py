"""Whom a request comes from where a reverse proxy stands in front of a listener.

A proxy that the operator trusts is believed about the address before it, and that one, if it is a
trusted proxy too, about the next: the last address in X-Forwarded-For that is no trusted proxy's
counts. From anybody else the header says nothing, since anybody can write it.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from restante.errors import ConfigError

_HEADER = b"x-forwarded-for"


class Proxies:
    """The addresses and networks of trusted proxies."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ConfigError `proxies` for what is neither, or is everybody."""
        self._networks: list[IPv4Network | IPv6Network] = []
        for text in networks:
            try:
                network = ip_network(text)
            except ValueError as error:
                raise ConfigError(
                    f"listen.trusted_proxies: {error}",
                    code="proxies",
                    hint="addresses or networks, as in 127.0.0.1, 10.0.0.0/24 or fd00::/64",
                ) from None
            if network.prefixlen == 0:
                raise ConfigError(
                    f"listen.trusted_proxies: {text} is everybody",
                    code="proxies",
                    hint="then anybody could write any address: name the proxies",
                )
            self._networks.append(network)

    def trusts(self, host: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        if not self._networks:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Who asks: `peer`, or the address that trusted proxies say it was before them."""
        client = peer
        for text in reversed(forwarded.split(",") if forwarded else []):
            if not self.trusts(client):
                return client
            address = _address(text.strip())
            if address is None:
                # Whoever let this through counts for it.
                return client
            client = address
        return client


def _address(text: str) -> str | None:
    """The address of an entry: bare, with a port, or in brackets; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


class Forwarded:
    """An app whose requests have the address of who asks for `client`."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and self._proxies.trusts(client[0]):
            values = [value for name, value in scope["headers"] if name == _HEADER]
            forwarded = b",".join(values).decode("latin-1")
            scope["client"] = (self._proxies.client_of(client[0], forwarded), 0)
        await self._app(scope, receive, send)
