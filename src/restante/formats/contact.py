"""Contact and watch notes: what one validator says of itself, signed by its key as type 0x01.

    restante/contact/v1 | set id in hex | sequence | name | `<kind> <value>` lines
    restante/watch/v1   | set id in hex | `<floor> <size>` | `<a> <b>` lines

A descriptor names a validator's key as a cosigner's (0x04); the same public key and name give the
0x01 key. The first line keeps such a note apart from every other thing that the key signs.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats import note
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, Note, check_name

_CONTACT = "restante/contact/v1"
_WATCH = "restante/watch/v1"
_NUMBER = re.compile("0|[1-9][0-9]{0,12}", re.ASCII)
_KIND = re.compile("[a-z][a-z0-9-]{0,31}", re.ASCII)
_URL = re.compile("https?://[\x21-\x7e]+", re.ASCII)
_WORD = re.compile("[\x21-\x7e]+", re.ASCII)


def check_url(text: str) -> str:
    """The same text, if it is an http(s) URL in printable ASCII. Raises InvalidEncoding."""
    if len(text) > limits.URL_MAX_BYTES or not _URL.fullmatch(text):
        raise InvalidEncoding("not an http URL")
    return text


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > limits.TREE_SIZE_MAX:
        raise InvalidEncoding("not a number of a note")
    return int(text)


def _lines(data: bytes, title: str, set_id: bytes) -> tuple[Note, list[str]]:
    """(note, lines after the set id). Raises InvalidEncoding."""
    if len(data) > limits.CONTACT_MAX_BYTES:
        raise InvalidEncoding("a validator's note is too large")
    parsed = Note.parse(data)
    first, *lines = parsed.text[:-1].split("\n")
    if first != title or not lines:
        raise InvalidEncoding(f"not a note of {title}")
    if lines[0] != set_id.hex():
        raise InvalidEncoding("a note of another validator set", code="unknown-set")
    return parsed, lines[1:]


def _verify(parsed: Note, name: str, descriptor: Descriptor) -> None:
    key = descriptor.validator(name)
    if key is None:
        raise VerificationFailed(f"{name} is no validator of the set", code="no-signature")
    note.verify(parsed, [key.of_kind(ED25519)])


@dataclass(frozen=True, slots=True)
class ContactNote:
    """Where a validator is reached and publishes."""

    set_id: bytes
    sequence: int
    """The higher of two notes of one validator is the newer."""
    name: str
    """The validator's."""
    entries: tuple[tuple[str, str], ...]
    """(kind, value) in the validator's order of preference; readers pass over unknown kinds."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 0 <= self.sequence <= limits.TREE_SIZE_MAX:
            raise InvalidEncoding("contact: a sequence number is out of bounds")
        if len(self.entries) > limits.CONTACT_ENTRIES:
            raise InvalidEncoding("contact: too many entries")
        if len(set(self.entries)) != len(self.entries):
            raise InvalidEncoding("contact: an entry stands twice")
        for kind, value in self.entries:
            if kind == "url":
                check_url(value)
            if (
                not _KIND.fullmatch(kind)
                or not _WORD.fullmatch(value)
                or len(value) > limits.URL_MAX_BYTES
            ):
                raise InvalidEncoding("contact: not an entry")

    @property
    def urls(self) -> tuple[str, ...]:
        """Where its archive and its routes are served over HTTP."""
        return tuple(value for kind, value in self.entries if kind == "url")

    def text(self) -> str:
        """The note's text."""
        lines = [_CONTACT, self.set_id.hex(), str(self.sequence), self.name]
        lines += [f"{kind} {value}" for kind, value in self.entries]
        return "\n".join(lines) + "\n"

    def sign(self, key: SigningKey) -> bytes:
        """The signed note."""
        return Note(self.text(), (key.note_signature(self.text()),)).encode()

    @classmethod
    def open(cls, data: bytes, descriptor: Descriptor) -> "ContactNote":
        """The contact, once the validator that it names is known to have signed it.

        Raises InvalidEncoding; VerificationFailed (`no-signature`, `bad-signature`).
        """
        parsed, lines = _lines(data, _CONTACT, descriptor.set_id)
        if len(lines) < 2:
            raise InvalidEncoding("contact: it has no sequence and name")
        entries = []
        for line in lines[2:]:
            kind, separator, value = line.partition(" ")
            if not separator:
                raise InvalidEncoding("contact: not an entry")
            entries.append((kind, value))
        contact = cls(descriptor.set_id, _number(lines[0]), lines[1], tuple(entries))
        _verify(parsed, contact.name, descriptor)
        return contact


@dataclass(frozen=True, slots=True)
class WatchNote:
    """Which windows a validator did not watch. It speaks to [floor, size) alone."""

    set_id: bytes
    floor: int
    size: int
    unwatched: tuple[tuple[int, int], ...]
    """Half-open ranges of windows within [floor, size): ascending, apart, none of them empty."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.size <= limits.TREE_SIZE_MAX:
            raise InvalidEncoding("watch: not a range of windows")
        if len(self.unwatched) > limits.WATCH_RANGES:
            raise InvalidEncoding("watch: too many ranges")
        if any(not self.floor <= a < b <= self.size for a, b in self.unwatched):
            raise InvalidEncoding("watch: a range is empty, or outside what the note speaks to")
        if any(one[1] >= other[0] for one, other in pairwise(self.unwatched)):
            raise InvalidEncoding("watch: ranges are not ascending, or touch")

    def watched(self, window: int) -> bool | None:
        """Whether the validator watched a window; None where the note does not speak."""
        if not self.floor <= window < self.size:
            return None
        return not any(a <= window < b for a, b in self.unwatched)

    def text(self) -> str:
        """The note's text."""
        lines = [_WATCH, self.set_id.hex(), f"{self.floor} {self.size}"]
        lines += [f"{a} {b}" for a, b in self.unwatched]
        return "\n".join(lines) + "\n"

    def sign(self, key: SigningKey) -> bytes:
        """The signed note."""
        return Note(self.text(), (key.note_signature(self.text()),)).encode()

    @classmethod
    def open(cls, data: bytes, descriptor: Descriptor, name: str) -> "WatchNote":
        """The watch note at `watch/<name>`, once that validator is known to have signed it.

        Raises InvalidEncoding; VerificationFailed (`no-signature`, `bad-signature`).
        """
        parsed, lines = _lines(data, _WATCH, descriptor.set_id)
        if not 0 < len(lines) <= limits.WATCH_RANGES + 1:
            raise InvalidEncoding("watch: no range, or too many")
        (floor, size), *unwatched = [_pair(line) for line in lines]
        watch = cls(descriptor.set_id, floor, size, tuple(unwatched))
        _verify(parsed, name, descriptor)
        return watch


def _pair(line: str) -> tuple[int, int]:
    first, separator, second = line.partition(" ")
    if not separator:
        raise InvalidEncoding("watch: not a range")
    return _number(first), _number(second)
