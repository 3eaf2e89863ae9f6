"""One link's protocol without its socket: handshake, hello, ping, disconnect, and what is between.

Bytes go in by `receive`, messages come out; bytes to write lie in `outgoing`. Whoever drives it has
the clock: nothing here waits. It ends once, and `left` then says why.

devp2p version 5: codes 0 to 15 are its own, those of the one capability that we offer follow, as
it would be in any set of shared ones that has no other. After hello every payload is a snappy block
where the peer's version is at least 5; the code before it is not compressed.
"""

from dataclasses import dataclass, field

import cramjam

from restante import limits
from restante.errors import Invalid
from restante.formats import rlp
from restante.networks.rlpx import ecies, frames, handshake, reasons
from restante.networks.rlpx.reasons import Left, Reason

VERSION = 5

_SNAPPY_SINCE = 5
_OFFSET = 16
_HELLO, _DISCONNECT, _PING, _PONG = 0, 1, 2, 3
_EMPTY_LIST = b"\xc0"


class MessageBroken(Invalid):
    """A frame whose content is no message: `code`, `snappy`, `message-size`, `hello`; or one too
    many: `flood`."""

    code = "message"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are.

    key: our private key, 32 bytes; client: as in `restante/0.1.0`; capability: name, version, and
    how many codes it has; listen_port: TCP, 0 when nobody can connect to us; node_id: our public
    key, 64 bytes. Raises ConfigError for what is no key.
    """

    key: bytes = field(repr=False)
    client: str
    capability: tuple[str, int, int]
    listen_port: int = 0
    node_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        node_id = ecies.private(self.key).public_key.format(compressed=False)[1:]
        object.__setattr__(self, "node_id", node_id)


class Session:
    """One link, from its first byte.

    ready: hello is done both ways and the capability is shared; frames: whole ones so far, by which
    a driver sees that the peer is alive.
    """

    def __init__(self, identity: Identity, remote_id: bytes | None = None) -> None:
        """`remote_id`: whom we dial; None when we were called. Raises ConfigError where that is
        no key."""
        self.identity = identity
        self.outbound = remote_id is not None
        self.remote_id = remote_id or b""
        self.remote_client = ""
        self.ready = False
        self.left: Left | None = None
        self.frames = 0
        self._codes = identity.capability[2]
        self._patience = limits.RLPX_BASE_FRAMES
        self._snappy = False
        self._out: list[bytes] = []
        self._hand = bytearray()
        self._reader: frames.Reader | None = None
        self._writer: frames.Writer | None = None
        self._initiator: handshake.Initiator | None = None
        if remote_id is not None:
            self._initiator = handshake.Initiator(identity.key, remote_id)
            self._out.append(self._initiator.packet)

    @property
    def unfinished_bytes(self) -> int:
        """What is held of a message that is not whole yet."""
        return len(self._hand) if self._reader is None else self._reader.unfinished_bytes

    def outgoing(self) -> bytes:
        """What must be written now; asked for after every other call."""
        out, self._out = b"".join(self._out), []
        return out

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """The capability's messages that are whole now: code, counted from 0, and payload. What
        came before the link's end is given too."""
        came: list[tuple[int, bytes]] = []
        if self.left is not None:
            return came
        if self._reader is None:
            data = self._shake(data)
        if self._reader is None:
            return came
        if not self.ready:
            self._greet(self._reader, data)
            data = b""
        if self.ready and self.left is None:
            bodies = self._reader.take(data)
            self.frames += len(bodies)
            self._read(bodies, came)
            self._notice(self._reader)
        return came

    def send(self, code: int, payload: bytes) -> None:
        """One of the capability's messages, once ready. Frames are encrypted here, so what is sent
        must be written in this order."""
        if not 0 <= code < self._codes or len(payload) > limits.RLPX_MESSAGE_MAX_BYTES:
            raise ValueError(f"a message with code {code} and {len(payload)} bytes")
        self._write(code + _OFFSET, payload)

    def ping(self) -> None:
        """Asked for at even times: the peer may send some more of devp2p's own frames."""
        if self.ready:
            more = self._patience + limits.RLPX_BASE_FRAMES_A_PING
            self._patience = min(more, limits.RLPX_BASE_FRAMES)
            self._write(_PING, _EMPTY_LIST)

    def leave(self, reason: Reason, left: Left | None = None) -> None:
        """End the link for this reason, and say so to the peer as far as keys are agreed on."""
        if self.left is not None:
            return
        detail = f"we left: {reason.label} ({reason:#04x})"
        self.left = left or Left(reason.label, detail, ours=True, reason=reason)
        if self._writer is None:
            self.left = self.left._replace(reason=None)
        else:
            self._write(_DISCONNECT, reasons.encode(reason))

    # --- the handshake ----------------------------------------------------------------------

    def _shake(self, data: bytes) -> bytes:
        """Take a packet of the handshake, and begin frames once it is whole; what follows it."""
        self._hand += data
        if len(self._hand) < handshake.SIZE_BYTES:
            return b""
        try:
            stop = handshake.packet_bytes(bytes(self._hand[: handshake.SIZE_BYTES]))
            if len(self._hand) < stop:
                return b""
            self._agree(bytes(self._hand[:stop]))
        except handshake.HandshakeFailed as error:
            # No keys, so there is no way to say why.
            self.left = Left(error.code, str(error), ours=True)
            return b""
        rest = bytes(self._hand[stop:])
        self._hand.clear()
        return rest

    def _agree(self, packet: bytes) -> None:
        if self._initiator is not None:
            shared = self._initiator.finish(packet)
        else:
            answer = handshake.answer(self.identity.key, packet)
            self.remote_id, shared = answer.remote_id, answer.secrets
            self._out.append(answer.packet)
        self._reader, self._writer = frames.Reader(shared), frames.Writer(shared)
        name, version, _ = self.identity.capability
        hello: list[rlp.Encodable] = [
            rlp.encode_uint(VERSION),
            self.identity.client.encode(),
            [[name.encode(), rlp.encode_uint(version)]],
            rlp.encode_uint(self.identity.listen_port),
            self.identity.node_id,
        ]
        self._write(_HELLO, rlp.encode(hello))

    # --- hello ------------------------------------------------------------------------------

    def _greet(self, reader: frames.Reader, data: bytes) -> None:
        """Take the first frame, which is a hello or a disconnect; small either way."""
        for body in reader.take(data, most=limits.RLPX_BASE_MAX_BYTES, frames=1):
            self.frames += 1
            try:
                code, payload = _split(body)
                if code == _HELLO:
                    self._hello(payload)
                elif code == _DISCONNECT:
                    self.left = reasons.theirs(reasons.decode(payload))
                else:
                    raise MessageBroken(f"code {code} before hello", code="hello")
            except Invalid as error:
                self._breach(error)
        self._notice(reader)

    def _hello(self, payload: bytes) -> None:
        """What a peer says of itself. Later versions, more items and other capabilities are fine
        (EIP-8). Raises Invalid."""
        version, client, offered, node_id = parse_hello(payload)
        self._snappy = version >= _SNAPPY_SINCE
        self.remote_client = client
        if node_id == self.identity.node_id:
            self.leave(Reason.SELF)
        elif node_id != self.remote_id:
            self.leave(Reason.UNEXPECTED_IDENTITY)
        elif self.identity.capability[:2] not in offered:
            self.leave(Reason.USELESS_PEER)
        else:
            self.ready = True

    # --- messages ---------------------------------------------------------------------------

    def _read(self, bodies: list[bytes], came: list[tuple[int, bytes]]) -> None:
        try:
            for body in bodies:
                code, payload = _split(body)
                if code >= _OFFSET:
                    if code >= _OFFSET + self._codes:
                        raise MessageBroken(f"code {code}, which nobody agreed on", code="code")
                    came.append((code - _OFFSET, self._unpacked(payload)))
                    continue
                if code == _DISCONNECT:
                    self.left = reasons.theirs(self._farewell(payload))
                    return
                # Pings, pongs, and what is passed over bring nothing: no peer needs many.
                self._patience -= 1 + len(payload) // limits.RLPX_BASE_MAX_BYTES
                if self._patience < 0:
                    raise MessageBroken("too much of devp2p's own", code="flood")
                if code == _PING:
                    self._write(_PONG, _EMPTY_LIST)
        except MessageBroken as error:
            self._breach(error)

    def _farewell(self, payload: bytes) -> int | None:
        """The number of a disconnect, compressed as it should be, or not as some do it."""
        try:
            return reasons.decode(self._unpacked(payload))
        except MessageBroken:
            return reasons.decode(payload)

    def _unpacked(self, payload: bytes) -> bytes:
        return uncompress(payload) if self._snappy else payload

    def _write(self, code: int, payload: bytes) -> None:
        assert self._writer is not None, "nothing is sent before keys are agreed on"
        if self._snappy:
            payload = bytes(cramjam.snappy.compress_raw(payload))
        self._out.append(self._writer.frame(rlp.encode(rlp.encode_uint(code)) + payload))

    def _notice(self, reader: frames.Reader) -> None:
        if reader.broken is not None:
            self._breach(reader.broken)

    def _breach(self, error: Invalid) -> None:
        reason = Reason.BREACH_OF_PROTOCOL
        self.leave(reason, Left(error.code, str(error), ours=True, reason=reason))


def uncompress(block: bytes) -> bytes:
    """A snappy block's content. Its length is looked at before anything is taken apart. Raises
    MessageBroken (`snappy`, `message-size`)."""
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > limits.RLPX_MESSAGE_MAX_BYTES:
            raise MessageBroken(f"a message of {size} bytes, unpacked", code="message-size")
        if size > limits.RLPX_SNAPPY_RATIO * len(block):
            raise MessageBroken(f"{len(block)} bytes that claim to be {size}", code="snappy")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise MessageBroken(f"not a snappy block: {error}", code="snappy") from None


def parse_hello(payload: bytes) -> tuple[int, str, set[tuple[str, int]], bytes]:
    """(version, client, capabilities, node id) of a hello. The client's name is made printable.
    Raises Invalid (code `hello`)."""
    try:
        items = rlp.split_list(payload, max_items=limits.RLPX_HELLO_ITEMS)
        if len(items) < 5:
            raise MessageBroken("a hello lacks a field", code="hello")
        version, client, node_id = (_string(items[at]) for at in (0, 1, 4))
        offered = set()
        for each in rlp.split_list(items[2], max_items=limits.RLPX_CAPABILITIES):
            name, number = rlp.split_list(each, max_items=limits.RLPX_HELLO_ITEMS)[:2]
            offered.add((_text(_string(name)), rlp.to_uint(_string(number), 8)))
        return rlp.to_uint(version, 8), _text(client), offered, node_id
    except ValueError:
        raise MessageBroken("a capability is a name and a version", code="hello") from None
    except Invalid as error:
        raise MessageBroken(f"a hello that cannot be read: {error}", code="hello") from None


def _string(encoded: bytes) -> bytes:
    item = rlp.decode(encoded, max_depth=0)
    if not isinstance(item, bytes):
        raise MessageBroken("a list where a hello has a string", code="hello")
    return item


def _text(raw: bytes) -> str:
    """A peer's own words, for rows and logs: short, and nothing in them that moves a cursor."""
    text = raw[: limits.RLPX_CLIENT_BYTES].decode(errors="replace")
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _split(body: bytes) -> tuple[int, bytes]:
    """(code, payload) of a frame's body. Codes have a byte up to 0x7f, two up to 0xff, and nobody
    has more. Raises MessageBroken (`code`)."""
    first = body[0]
    if 0 < first <= 0x7F:
        return first, body[1:]
    if first == 0x80:
        return 0, body[1:]
    if first == 0x81 and len(body) > 1 and body[1] >= 0x80:
        return body[1], body[2:]
    raise MessageBroken("a message without a code", code="code")
