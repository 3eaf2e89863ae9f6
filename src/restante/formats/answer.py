"""What a validator says to a proposal (step 3)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor
from restante.formats.dagcbor import Fields, Value
from restante.formats.exchange import join_ids, split_ids
from restante.formats.note import KEY_ID_BYTES, SIGNATURE_BYTES
from restante.formats.tree import HASH_BYTES

VERSION = 1
_CODE = re.compile(f"[a-z0-9-]{{1,{limits.ANSWER_CODE_CHARACTERS}}}", re.ASCII)
_ANSWERS = ("accept", "missing", "need", "invalid", "not-yet", "conflict", "resend", "refused")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a validator says to a proposal. Unsigned but for the accept's own signature."""

    kind: str
    """accept | missing | need | invalid | not-yet | conflict | resend | refused."""
    key_id: bytes = b""
    """accept: the validator's cosigner key id, 4 bytes."""
    signature: bytes = b""
    """accept: over `accept_statement`, 64 bytes."""
    ids: tuple[bytes, ...] = ()
    """missing: due ids that the batch leaves out; need: ids whose bodies lack here, in any order;
    invalid: ids that R0 or *new* forbids, perhaps none."""
    positions: tuple[int, ...] = ()
    """need: the places of `ids` in the proposal's list, or empty."""
    code: str = ""
    """invalid, refused: a stable word."""
    hint: str = ""
    """refused: a sentence for a person."""
    retry_ms: int = 0
    """not-yet: when to ask again."""
    window: int = 0
    """conflict: the window that is being decided here."""
    base_size: int = 0
    base_root: bytes = b""

    @classmethod
    def accept(cls, key_id: bytes, signature: bytes) -> "Answer":
        """The batch may be committed."""
        return cls("accept", key_id=key_id, signature=signature)

    @classmethod
    def missing(cls, ids: Iterable[bytes]) -> "Answer":
        """These due envelopes are not in it."""
        return cls("missing", ids=tuple(ids))

    @classmethod
    def need(cls, ids: Iterable[bytes], positions: Iterable[int] = ()) -> "Answer":
        """The bodies of these are not here."""
        return cls("need", ids=tuple(ids), positions=tuple(positions))

    @classmethod
    def invalid(cls, ids: Iterable[bytes] = (), *, code: str) -> "Answer":
        """The batch is wrong, because of these ids or as a whole."""
        return cls("invalid", ids=tuple(ids), code=code)

    @classmethod
    def not_yet(cls, retry_ms: int) -> "Answer":
        """No verdict before this many milliseconds from now."""
        return cls("not-yet", retry_ms=retry_ms)

    @classmethod
    def conflict(cls, window: int, base_size: int, base_root: bytes) -> "Answer":
        """This validator is on another base."""
        return cls("conflict", window=window, base_size=base_size, base_root=base_root)

    @classmethod
    def resend(cls) -> "Answer":
        """The list that the proposal differs from was forgotten: send it in full."""
        return cls("resend")

    @classmethod
    def refused(cls, code: str, hint: str = "") -> "Answer":
        """Not considered at all (quota, barred key, malformed)."""
        return cls("refused", code=code, hint=hint[: limits.ANSWER_HINT_CHARACTERS])

    def encode(self) -> bytes:
        """Its bytes."""
        fields: dict[str, dict[str, Value]] = {
            "accept": {"key": self.key_id, "signature": self.signature},
            "missing": {"ids": join_ids(self.ids)},
            "need": {"ids": join_ids(self.ids), "positions": list(self.positions)},
            "invalid": {"ids": join_ids(self.ids), "code": self.code},
            "not-yet": {"retry_ms": self.retry_ms},
            "conflict": {
                "window": self.window,
                "base_size": self.base_size,
                "base_root": self.base_root,
            },
            "resend": {},
            "refused": {"code": self.code, "hint": self.hint},
        }
        return dagcbor.encode({"version": VERSION, "answer": self.kind, **fields[self.kind]})

    @classmethod
    def parse(cls, data: bytes, max_ids: int = limits.ANSWER_IDS) -> "Answer":
        """The answer of its bytes. Raises InvalidEncoding."""
        max_bytes = (HASH_BYTES + 5) * max_ids + limits.MESSAGE_OVERHEAD_BYTES
        fields = Fields.decode(data, "answer", max_bytes=max_bytes)
        fields.version(VERSION)
        kind = fields.text("answer", 16)
        if kind not in _ANSWERS:
            raise InvalidEncoding("answer: unknown kind")
        answer = cls._of_kind(kind, fields, max_ids)
        fields.done()
        return answer

    @classmethod
    def _of_kind(cls, kind: str, fields: Fields, max_ids: int) -> "Answer":
        match kind:
            case "accept":
                key_id = fields.bytes_("key", size=KEY_ID_BYTES)
                return cls.accept(key_id, fields.bytes_("signature", size=SIGNATURE_BYTES))
            case "missing":
                return cls.missing(_named(fields, max_ids))
            case "need":
                ids = _named(fields, max_ids)
                positions = fields.list_("positions", max_ids)
                whole = [at for at in positions if dagcbor.is_int(at) and at >= 0]
                if len(whole) != len(positions) or len(whole) not in (0, len(ids)):
                    raise InvalidEncoding("answer: positions are not those of the ids")
                return cls.need(ids, whole)
            case "invalid":
                return cls.invalid(split_ids(fields, "ids", max_ids), code=_code(fields))
            case "not-yet":
                return cls.not_yet(fields.uint("retry_ms", limits.ANSWER_RETRY_MAX_MS))
            case "conflict":
                return cls.conflict(
                    fields.uint("window", limits.TREE_SIZE_MAX),
                    fields.uint("base_size", limits.TREE_SIZE_MAX),
                    fields.bytes_("base_root", size=HASH_BYTES),
                )
            case "refused":
                code = _code(fields)
                return cls.refused(code, fields.text("hint", limits.ANSWER_HINT_CHARACTERS))
            case _:
                return cls.resend()


def _named(fields: Fields, max_ids: int) -> tuple[bytes, ...]:
    ids = split_ids(fields, "ids", max_ids)
    if not ids:
        raise InvalidEncoding(f"{fields.what}: it names no id")
    return ids


def _code(fields: Fields) -> str:
    code = fields.text("code", limits.ANSWER_CODE_CHARACTERS)
    if not _CODE.fullmatch(code):
        raise InvalidEncoding(f"{fields.what}: not a code")
    return code
