"""Trust in a few lines: c2sp.org/tlog-policy (text of 2026-06), and which checkpoints satisfy it.

Ours has one `log` line, whose key (type 0x01, name = origin) only authenticates the name, and a
`witness` line per validator (type 0x04), of which the quorum wants k. Comment lines that begin with
`#restante` carry what a client needs to start: the set id, and where validators are reached. The
specification takes any octets for names; here a policy is UTF-8.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from restante import limits
from restante.errors import InvalidEncoding, VerificationFailed
from restante.formats.checkpoint import Checkpoint, cosignature_time_s
from restante.formats.contact import check_url
from restante.formats.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    Signature,
    VerifierKey,
    verified_signatures,
)

NONE = "none"
"""The quorum that wants nobody; no witness or group has this name."""

_COUNT = re.compile("[1-9][0-9]{0,3}", re.ASCII)
_SET = re.compile("[0-9a-f]{64}", re.ASCII)
_MARK = "#restante"


@dataclass(frozen=True, slots=True)
class Listed:
    """A log or witness of a policy."""

    name: str
    """A witness's name within the policy; of a log, its key's."""
    key: VerifierKey
    url: str = ""
    """Where it is reached, by no rule of ours; empty if the line has none."""


@dataclass(frozen=True, slots=True)
class Group:
    """At least `k` of the members, which are witnesses and earlier groups."""

    name: str
    k: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that satisfied the policy that was asked."""

    origin: str
    size: int
    root: bytes
    cosigners: tuple[tuple[str, int], ...]
    """(witness name, newest time it cosigned in Unix seconds), in the policy's order."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The tree alone."""
        return Checkpoint(self.origin, self.size, self.root)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which logs and witnesses are known, and how many must have signed."""

    logs: tuple[Listed, ...]
    witnesses: tuple[Listed, ...]
    groups: tuple[Group, ...]
    """In order of definition: members come before the group that lists them."""
    quorum: str
    """A witness, a group, or `none`."""
    set_id: bytes | None = None
    """The validator set's, 32 bytes, where the policy names it."""
    contacts: tuple[tuple[str, str], ...] = ()
    """(name, URL) of who serves the log."""

    def __post_init__(self) -> None:
        self._check_keys(self.logs, ED25519, "log")
        self._check_keys(self.witnesses, COSIGNATURE_V1, "witness")
        keys = self._keys()
        if len({(key.name, key.key_id) for key in keys}) != len(keys):
            raise InvalidEncoding("policy: two keys share name and key id")
        if len(self.groups) > limits.POLICY_MAX_GROUPS:
            raise InvalidEncoding("policy: too many groups")
        defined = {NONE}
        used: set[str] = set()
        for name in (each.name for each in self.witnesses):
            _define(name, defined)
        for group in self.groups:
            if not 1 <= group.k <= len(group.members):
                raise InvalidEncoding(f"policy: group {group.name} wants more than it has")
            for member in group.members:
                # Each name in one group at most: a witness counts in only one way.
                if member == NONE or member not in defined or member in used:
                    raise InvalidEncoding(f"policy: {member} cannot be a member of {group.name}")
                used.add(member)
            _define(group.name, defined)
        if self.quorum not in defined:
            raise InvalidEncoding(f"policy: {self.quorum} is not defined")
        if self.set_id is not None and len(self.set_id) != 32:
            raise InvalidEncoding("policy: a set id has 32 bytes")
        if len(self.contacts) > limits.POLICY_MAX_CONTACTS:
            raise InvalidEncoding("policy: too many contacts")
        for name, url in self.contacts:
            _word(name), check_url(url)

    @staticmethod
    def _check_keys(listed: Sequence[Listed], kind: int, what: str) -> None:
        if len(listed) > limits.POLICY_MAX_KEYS:
            raise InvalidEncoding(f"policy: too many {what} lines")
        if any(each.key.kind != kind for each in listed):
            raise InvalidEncoding(f"policy: the key of a {what} has the wrong type")
        if len({each.key.public_key for each in listed}) != len(listed):
            raise InvalidEncoding(f"policy: two {what} lines have one key")
        for each in listed:
            if each.url:
                _word(each.url)

    @classmethod
    def of_validators(
        cls,
        log: VerifierKey,
        validators: Iterable[VerifierKey],
        k: int,
        set_id: bytes,
        contacts: Iterable[tuple[str, str]] = (),
    ) -> "Policy":
        """The policy of a validator set: k of its n validators."""
        witnesses = tuple(Listed(key.name, key) for key in validators)
        group = Group("validators", k, tuple(each.name for each in witnesses))
        return cls(
            (Listed(log.name, log),), witnesses, (group,), group.name, set_id, tuple(contacts)
        )

    # --- the file ---------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The policy file."""
        lines = [] if self.set_id is None else [f"{_MARK} set {self.set_id.hex()}"]
        lines += [_joined("log", each.key.text(), each.url) for each in self.logs]
        lines += [
            _joined("witness", each.name, each.key.text(), each.url) for each in self.witnesses
        ]
        lines += [_joined("group", each.name, str(each.k), *each.members) for each in self.groups]
        lines += [f"quorum {self.quorum}"]
        lines += [f"{_MARK} contact {name} url={url}" for name, url in self.contacts]
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Policy":
        """The policy of its file. Raises InvalidEncoding."""
        reader = _Reader()
        for number, line in enumerate(_lines(data), 1):
            try:
                reader.line(line)
            except InvalidEncoding as error:
                raise InvalidEncoding(f"policy, line {number}: {error}") from error
        if reader.quorum is None:
            raise InvalidEncoding("policy: it has no quorum line")
        return cls(
            tuple(reader.logs),
            tuple(reader.witnesses),
            tuple(reader.groups),
            reader.quorum,
            reader.set_id,
            tuple(reader.contacts),
        )

    # --- checkpoints ------------------------------------------------------------------------

    def satisfied(self, cosigners: Iterable[str]) -> bool:
        """Whether these witnesses (by their names here) meet the quorum."""
        met = {each.name for each in self.witnesses}.intersection(cosigners) | {NONE}
        for group in self.groups:
            if sum(member in met for member in group.members) >= group.k:
                met.add(group.name)
        return self.quorum in met

    def verify_checkpoint(self, data: bytes) -> VerifiedCheckpoint:
        """The checkpoint of a note that satisfies this policy.

        Distinct keys count, not lines; unknown keys do not. Raises InvalidEncoding (also
        `extension-lines`); VerificationFailed: `origin`, `log-signature`, `quorum`,
        `bad-signature`.
        """
        note = Note.parse(data)
        tree = self._checkpoint(note)
        signed = verified_signatures(note, self._keys())
        if not any(key.kind == ED25519 and key.name == tree.origin for key, _ in signed):
            raise VerificationFailed("no log of the policy signed", code="log-signature")
        times: dict[VerifierKey, int] = {}
        for key, signature in signed:
            if key.kind == COSIGNATURE_V1:
                times[key] = max(times.get(key, 0), cosignature_time_s(signature.value))
        cosigners = tuple(
            (each.name, times[each.key]) for each in self.witnesses if each.key in times
        )
        if not self.satisfied(name for name, _ in cosigners):
            raise VerificationFailed(
                f"{len(cosigners)} known witnesses cosigned, which is no quorum", code="quorum"
            )
        return VerifiedCheckpoint(tree.origin, tree.size, tree.root, cosigners)

    def _keys(self) -> list[VerifierKey]:
        return [each.key for each in (*self.logs, *self.witnesses)]

    def _checkpoint(self, note: Note) -> Checkpoint:
        tree = Checkpoint.parse_text(note.text)
        if not any(log.key.name == tree.origin for log in self.logs):
            raise VerificationFailed("the checkpoint is of no log of the policy", code="origin")
        return tree


def merge(notes: Sequence[bytes], policy: Policy) -> bytes:
    """One note with the verified lines of several of the same checkpoint, the newest per key.

    A bad line is left out and costs its note nothing else: one liar among those whose notes are
    merged must not undo the rest. Lines stand in the policy's order, unknown keys' are dropped;
    whether the result satisfies the policy is asked afterwards. Raises InvalidEncoding for what is
    no checkpoint; VerificationFailed: `origin`, `no-signature`, `merge` if the trees differ.
    """
    parsed = [Note.parse(data) for data in notes]
    texts = {note.text for note in parsed}
    if len(texts) != 1:
        raise VerificationFailed("the notes are not of one checkpoint", code="merge")
    policy._checkpoint(parsed[0])
    text = parsed[0].text
    keys = {(key.name, key.key_id): key for key in policy._keys()}
    best: dict[VerifierKey, Signature] = {}
    for signature in (each for note in parsed for each in note.signatures):
        key = keys.get((signature.name, signature.key_id))
        if key is None or not key.verifies(text, signature.value):
            continue
        # A cosignature begins with its time, big-endian: the greater bytes are the newer.
        if key not in best or signature.value > best[key].value:
            best[key] = signature
    if not best:
        raise VerificationFailed("no known key signed the checkpoint", code="no-signature")
    return Note(text, tuple(best[key] for key in policy._keys() if key in best)).encode()


class _Reader:
    """The lines of a policy file, one after another."""

    def __init__(self) -> None:
        self.logs: list[Listed] = []
        self.witnesses: list[Listed] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self.set_id: bytes | None = None
        self.contacts: list[tuple[str, str]] = []
        self._names = {NONE}

    def line(self, line: str) -> None:
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        match words:
            case []:
                pass
            case [mark, *rest] if mark == _MARK:
                self._ours(rest)
            case [first, *_] if first.startswith("#"):
                pass
            case ["log", vkey]:
                self._log(vkey, "")
            case ["log", vkey, url]:
                self._log(vkey, url)
            case ["witness", name, vkey]:
                self._witness(name, vkey, "")
            case ["witness", name, vkey, url]:
                self._witness(name, vkey, url)
            case ["group", name, count, *members] if members:
                self._group(name, count, members)
            case ["quorum", name] if self.quorum is None:
                # Defined on a line before this one: a later definition is another policy.
                if name not in self._names:
                    raise InvalidEncoding(f"{name} is not defined above")
                self.quorum = name
            case _:
                raise InvalidEncoding("not a line of a policy")

    def _log(self, vkey: str, url: str) -> None:
        key = VerifierKey.parse(vkey)
        self.logs.append(Listed(key.name, key, url))

    def _witness(self, name: str, vkey: str, url: str) -> None:
        _define(name, self._names)
        self.witnesses.append(Listed(name, VerifierKey.parse(vkey), url))

    def _group(self, name: str, count: str, members: list[str]) -> None:
        if not self._names.issuperset(members):
            raise InvalidEncoding("a group lists what is not defined above")
        _define(name, self._names)
        wanted = {"any": "1", "all": str(len(members))}.get(count, count)
        if not _COUNT.fullmatch(wanted):
            raise InvalidEncoding("a group wants any, all or a number of its members")
        self.groups.append(Group(name, int(wanted), tuple(members)))

    def _ours(self, words: list[str]) -> None:
        match words:
            case ["set", hexadecimal] if self.set_id is None and _SET.fullmatch(hexadecimal):
                self.set_id = bytes.fromhex(hexadecimal)
            case ["contact", name, url] if url.startswith("url="):
                self.contacts.append((name, url.removeprefix("url=")))
            case _:
                raise InvalidEncoding(f"not a {_MARK} line that is known here")


def _lines(data: bytes) -> list[str]:
    if len(data) > limits.POLICY_MAX_BYTES:
        raise InvalidEncoding("a policy is too large")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidEncoding("a policy is not UTF-8") from error
    if not text.endswith("\n"):
        # What was cut off could be a digit of the quorum.
        raise InvalidEncoding("a policy ends in LF")
    if any((c < " " and c not in "\t\n") or c == "\x7f" for c in text):
        raise InvalidEncoding("a policy holds a control character (perhaps CR)")
    return text[:-1].split("\n")


def _define(name: str, defined: set[str]) -> None:
    if name in defined:
        raise InvalidEncoding(f"policy: {name} is defined twice")
    defined.add(_word(name))


def _word(text: str) -> str:
    """The same text, if it can stand between spaces in a line: any key name can."""
    if (
        not 0 < len(text) <= limits.URL_MAX_BYTES
        or any(c <= " " or c == "\x7f" for c in text)
        or not text.isprintable()
    ):
        raise InvalidEncoding("policy: not a name or URL")
    return text


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)
