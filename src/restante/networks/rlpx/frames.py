"""RLPx frames: how messages are cut, encrypted and authenticated once a handshake is done.

    frame  = header 16 ‖ header MAC 16 ‖ body, padded with zeros to 16 ‖ body MAC 16
    header = size of the body 3, big-endian ‖ c2 80 80 ‖ zeros

One AES-256-CTR stream and one running Keccak go each way, over all frames, so a frame that is lost,
repeated or altered breaks the link for good. Before each MAC the hash takes in its own digest,
encrypted and mixed with a seed: the header itself, or the digest after the body. Every envelope of
every peer comes through here: what is made once a link is made once.
"""

from hmac import compare_digest
from typing import NoReturn, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from restante.errors import Invalid
from restante.networks.rlpx.handshake import Secrets

MAX_BYTES = 2**24 - 1

_BLOCK = 16
_HEAD_BYTES = 2 * _BLOCK
_HEADER_DATA = b"\xc2\x80\x80" + bytes(10)


class FrameBroken(Invalid):
    """Bytes that are no frame of this link: `bad-mac`, `frame-size`."""

    code = "frame"


class Mac(Protocol):
    """The part of a running hash that frames need; `digest` leaves it as it is."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Writer:
    """What leaves."""

    def __init__(self, secrets: Secrets) -> None:
        self._encrypt = _aes_ctr(secrets.aes).update
        self._mac: Mac = secrets.egress
        self._seeded = _aes_block(secrets.mac).update
        # The digest as it stands between two frames, which ends one and begins the next.
        self._digest = self._mac.digest()

    def frame(self, body: bytes) -> bytes:
        """The frame that carries `body`, 1 to 2^24 − 1 bytes. Frames must be sent in the order in
        which they are made."""
        size = len(body)
        if not 0 < size <= MAX_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        mac = self._mac
        header = self._encrypt(size.to_bytes(3, "big") + _HEADER_DATA)
        mac.update(_mix(self._seeded(self._digest[:_BLOCK]), header))
        header_mac = mac.digest()[:_BLOCK]
        sealed = self._encrypt(body + bytes(-size % _BLOCK))
        mac.update(sealed)
        seed = mac.digest()[:_BLOCK]
        mac.update(_mix(self._seeded(seed), seed))
        self._digest = mac.digest()
        return b"".join((header, header_mac, sealed, self._digest[:_BLOCK]))


class Reader:
    """What comes, in whatever pieces."""

    def __init__(self, secrets: Secrets) -> None:
        self._decrypt = _aes_ctr(secrets.aes).update
        self._mac: Mac = secrets.ingress
        self._seeded = _aes_block(secrets.mac).update
        self._digest = self._mac.digest()
        self._held = bytearray()
        # Of the frame whose header was read; 0 while a header is awaited.
        self._size = 0
        self.broken: FrameBroken | None = None
        """Why nothing more can be read; what was whole before it has been given out."""

    @property
    def unfinished_bytes(self) -> int:
        """What is held of a frame that is not whole."""
        return len(self._held)

    def take(self, data: bytes, *, most: int = MAX_BYTES, frames: int = MAX_BYTES) -> list[bytes]:
        """The bodies that are whole now, at most `frames` of them; the rest is held, and given by
        the next call. A frame above `most` bytes breaks the link before its body is held."""
        if self.broken is not None:
            return []
        held = self._held
        if held:
            held += data
            if self._size and len(held) < _sealed_bytes(self._size) + _BLOCK:
                return []
            data, self._held = bytes(held), bytearray()
        bodies: list[bytes] = []
        at = 0
        try:
            while len(bodies) < frames:
                if not self._size:
                    if len(data) - at < _HEAD_BYTES:
                        break
                    self._size = self._header(data[at : at + _HEAD_BYTES], most)
                    at += _HEAD_BYTES
                stop = at + _sealed_bytes(self._size) + _BLOCK
                if len(data) < stop:
                    break
                bodies.append(self._body(data[at:stop]))
                at = stop
                self._size = 0
        except FrameBroken as error:
            self.broken = error
            return bodies
        self._held += data[at:]
        return bodies

    def _header(self, head: bytes, most: int) -> int:
        """The size of the body that follows."""
        mac, header = self._mac, head[:_BLOCK]
        mac.update(_mix(self._seeded(self._digest[:_BLOCK]), header))
        if not compare_digest(mac.digest()[:_BLOCK], head[_BLOCK:]):
            _fail("bad-mac", "a frame's header is not authentic")
        size = int.from_bytes(self._decrypt(header)[:3], "big")
        if not 0 < size <= most:
            _fail("frame-size", f"a frame of {size} bytes, at most {most} are taken here")
        return size

    def _body(self, sealed: bytes) -> bytes:
        mac, body = self._mac, sealed[:-_BLOCK]
        mac.update(body)
        seed = mac.digest()[:_BLOCK]
        mac.update(_mix(self._seeded(seed), seed))
        self._digest = mac.digest()
        if not compare_digest(self._digest[:_BLOCK], sealed[-_BLOCK:]):
            _fail("bad-mac", "a frame's body is not authentic")
        return self._decrypt(body)[: self._size]


def _sealed_bytes(size: int) -> int:
    return size + -size % _BLOCK


def _mix(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(_BLOCK, "big")


def _aes_ctr(key: bytes) -> CipherContext:
    """A stream that begins at zero: its key is used for no other."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK))).encryptor()


def _aes_block(key: bytes) -> CipherContext:
    """One block at a time, which is all that MACs need of AES."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305


def _fail(code: str, why: str) -> NoReturn:
    raise FrameBroken(why, code=code)
