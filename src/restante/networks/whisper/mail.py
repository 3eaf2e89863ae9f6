"""What a mail server answers: mail, how a request ended, where to go on. Pure.

    127  mail      one envelope, or (to who asked for batches) a list of them
    125  complete  one byte string: request id 32 ‖ hash of the last envelope 32 ‖ cursor 0 or 36
                   or, where it failed, "ERROR=" ‖ request id 32 ‖ text
    124  sync      [[], "", 1, text]: refused, and final

A status-go client leaves a server whose 125 is longer than 100 bytes, and takes a cursor of another
length than 36 for none; geth's client passes 125 over, whatever it says. So envelopes go alone,
each in a 127 of its own, wherever lists were not asked for: that every client takes.

    cursor    W u32 ‖ sent time u32 ‖ first 28 bytes of the id

W is the last window of the answer, so that its pages fit together while the log grows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from restante.errors import InvalidEncoding
from restante.formats import rlp
from restante.formats.whisper import assemble_packet
from restante.rules.query import Place

HASH_BYTES = 32
CURSOR_BYTES = 36
NO_HASH = bytes(HASH_BYTES)
"""What 125 names where nothing was sent."""
_ID_BYTES = CURSOR_BYTES - 8
_ERROR = b"ERROR="


class MailCursor(NamedTuple):
    """Behind which envelope an answer goes on."""

    window: int
    """W: the last window that the answer covers."""
    sent_s: int
    id28: bytes
    """The first 28 bytes of its id, or whatever another server put there."""

    def encode(self) -> bytes:
        """36 bytes."""
        return self.window.to_bytes(4, "big") + self.sent_s.to_bytes(4, "big") + self.id28

    @classmethod
    def parse(cls, data: bytes) -> "MailCursor":
        """Raises InvalidEncoding `mail-cursor` for another length; any 36 bytes are a cursor."""
        if len(data) != CURSOR_BYTES:
            raise InvalidEncoding(f"a cursor of {len(data)} bytes, it has 36", code="mail-cursor")
        return cls(int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), data[8:])

    @classmethod
    def behind(cls, window: int, place: Place) -> "MailCursor":
        """The cursor behind a place of an answer up to `window`."""
        return cls(window, place.sent_s, place.id[:_ID_BYTES])

    @property
    def place(self) -> Place:
        """The place: behind all ids that begin so, of which there is one."""
        return Place(self.sent_s, self.id28 + b"\xff" * (HASH_BYTES - _ID_BYTES))

    def foreign(self, size: int) -> Place | None:
        """Where another server's cursor goes on, None if it is one of ours, at tree size `size`.

        Theirs is `sent time u32 ‖ Whisper hash`: no tree has so many windows. What was sent in that
        second comes again, since they order it by another hash.
        """
        return Place(self.window, bytes(HASH_BYTES)) if self.window >= size else None


def packet(raws: Sequence[bytes]) -> bytes:
    """The payload of 127: one envelope bare, several as a list."""
    return raws[0] if len(raws) == 1 else assemble_packet(list(raws))


def completed(request_id: bytes, last_hash: bytes = NO_HASH, cursor: bytes = b"") -> bytes:
    """The payload of 125 after an answer; `last_hash` is the Whisper hash (Keccak) of its last
    envelope, `cursor` empty when all was sent."""
    if len(request_id) != HASH_BYTES or len(last_hash) != HASH_BYTES:
        raise ValueError("a hash has 32 bytes")
    if len(cursor) not in (0, CURSOR_BYTES):
        raise ValueError("a cursor has 36 bytes")
    return rlp.encode(request_id + last_hash + cursor)


def failed(request_id: bytes, text: str) -> bytes:
    """The payload of 125 where there is no answer."""
    return rlp.encode(_ERROR + request_id + text.encode())


def sync_refused(text: str) -> bytes:
    """The payload of 124 that ends a sync before it began."""
    return rlp.encode([[], b"", rlp.encode_uint(1), text.encode()])
