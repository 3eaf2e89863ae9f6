"""Whom an address is counted for, wherever sources have quotas: links, HTTP, mail."""

from ipaddress import IPv6Address, ip_address


def source_of(host: str) -> str:
    """An address itself, or its /64, as one IPv6 customer has that many; without its zone. What is
    no address stands for itself."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))
