"""Where a peer is and which key it has: `enode://<128 hex digits>@host:port`."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

import coincurve

from restante import limits
from restante.errors import ConfigError

NODE_ID_BYTES = 64

# `discport` is where its discovery listens, which a configured peer does not need.
_FORM = re.compile(
    r"enode://([0-9a-fA-F]{128})@(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]{1,253}):([0-9]{1,5})"
    r"(?:\?discport=[0-9]{1,5})?"
)
# RFC 1035, 2.3.4; what resolves names raises no error of its own for others (IDNA's codec does).
_LABEL = re.compile(r"[0-9A-Za-z_-]{1,63}")
_HINT = "enode://<128 hex digits of the public key>@<host>:<port>, as the peer prints it"


@dataclass(frozen=True, slots=True)
class Enode:
    """node_id: 64 bytes, the uncompressed public key without its 0x04; host: a name, an IPv4
    address, or an IPv6 address without brackets; port: TCP, 1 to 65,535."""

    node_id: bytes
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Enode":
        """Raises ConfigError (code `enode`)."""
        if len(text) > limits.RLPX_ENODE_CHARACTERS:
            raise _wrong(f"an enode of {len(text)} characters")
        found = _FORM.fullmatch(text)
        if found is None:
            raise _wrong(f"not an enode: {text!r}")
        node_id, host, port = bytes.fromhex(found[1]), found[2], int(found[3])
        if not 0 < port < 65_536:
            raise _wrong(f"nothing can be reached at port {port}")
        if host.startswith("["):
            host = host[1:-1]
            try:
                IPv6Address(host)
            except ValueError:
                raise _wrong(f"not an IPv6 address: {host!r}") from None
        elif not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
            why = f"no host has this name: {host!r}"
            raise _wrong(why, "1 to 63 characters stand between the dots of a host's name")
        try:
            coincurve.PublicKey(b"\x04" + node_id)
        except ValueError:
            raise _wrong("the enode's key is not a point of the curve") from None
        return cls(node_id, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"enode://{self.node_id.hex()}@{host}:{self.port}"


def _wrong(why: str, more: str = "") -> ConfigError:
    return ConfigError(why, code="enode", hint=f"{_HINT}; {more}" if more else _HINT)
