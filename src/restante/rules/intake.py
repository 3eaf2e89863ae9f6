"""Reception: bytes become rows once, and everything after works on rows."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Literal, NamedTuple

from restante import limits
from restante.errors import InvalidEncoding, Refused
from restante.formats.descriptor import Descriptor
from restante.formats.page import topic_key
from restante.formats.whisper import Keccak
from restante.rules import valid
from restante.rules.pool import PoolIndex, Row
from restante.rules.valid import EnvelopeRefused, Facts

Record = tuple[int, bytes]  # arrival_ms, raw


class Verdict(NamedTuple):
    """What reception said of one arrival.

    code: `accepted`, `repeat`, or what it was refused with (rules.valid.CODES);
    severity: what geth does with the peer that sent it; facts: of an accepted one.
    """

    code: str
    severity: Literal["disconnect", "drop", ""] = ""
    facts: Facts | None = None


REPEAT = Verdict("repeat")


def judge(
    raw: bytes, arrival_ms: int, d: Descriptor, keccak: Keccak, id_: bytes | None = None
) -> Verdict:
    """What reception says of an arrival; `id_` as in `valid.receive`."""
    try:
        facts = valid.receive(raw, arrival_ms, d, keccak, id_)
    except EnvelopeRefused as refusal:
        return Verdict(refusal.code, refusal.severity)
    return Verdict("accepted", "", facts)


class Intake:
    """Judges what comes in, drops repeats before any work, and gives rows to the pool's index."""

    def __init__(self, d: Descriptor, keccak: Keccak, index: PoolIndex) -> None:
        self._d = d
        self._keccak = keccak
        self._index = index
        self._topic_keys: dict[bytes, int] = {}
        self._refused: OrderedDict[bytes, str] = OrderedDict()
        # Bodies of what was appended last, by position: what came before is durable by then.
        self._fresh: dict[int, bytes] = {}
        self.outcomes: Counter[str] = Counter()
        self.verdicts: list[Verdict] = []
        """Of what was last observed, in its order."""

    def bodies(self, durable: Callable[[Row], bytes]) -> Callable[[Row], bytes]:
        """Bodies of rows, those too whose `Append` this very handler only answers."""

        def body(row: Row) -> bytes:
            fresh = self._fresh.get(row.position)
            return durable(row) if fresh is None else fresh

        return body

    def is_settled(self, id_: bytes) -> bool:
        """Whether the body need not be fetched: it is pooled, or known to be invalid."""
        return id_ in self._index or id_ in self._refused

    def is_refused(self, id_: bytes) -> bool:
        return id_ in self._refused

    def observe(self, arrivals: Iterable[Record]) -> list[Record]:
        """Apply the reception rules at each envelope's own arrival; answer what was pooled."""
        pooled: list[Record] = []
        taken: dict[bytes, Facts] = {}
        verdicts = self.verdicts = []
        newest_ms = self._index.newest_arrival_ms
        for arrival_ms, raw in arrivals:
            id_ = sha256(raw).digest()
            if id_ in self._index or id_ in taken:
                verdicts.append(REPEAT)
                continue
            verdict = judge(raw, arrival_ms, self._d, self._keccak, id_)
            verdicts.append(verdict)
            if verdict.facts is not None:
                taken[id_] = verdict.facts
                newest_ms = max(newest_ms, arrival_ms)
                pooled.append((newest_ms, raw))
        self._append(taken, pooled)
        self.outcomes.update(verdict.code for verdict in verdicts)
        return pooled

    def admit(
        self, raws: Iterable[bytes], windows: range, arrival_ms: int
    ) -> tuple[list[Record], list[bytes]]:
        """Apply R0 alone to bodies that came by a proposal or by R7.

        Answers what was pooled, and the ids that R0 forbids in all of `windows`.
        """
        pooled: list[Record] = []
        taken: dict[bytes, Facts] = {}
        forbidden: list[bytes] = []
        arrival_ms = max(arrival_ms, self._index.newest_arrival_ms)
        for raw in raws:
            id_ = sha256(raw).digest()
            if id_ in self._index or id_ in taken:
                continue
            facts = self.examine(raw)
            if facts and any(valid.in_window(facts.sent_s, w, self._d) for w in windows):
                taken[id_] = facts
                pooled.append((arrival_ms, raw))
            else:
                forbidden.append(id_)
        self._append(taken, pooled)
        return pooled, forbidden

    def examine(self, raw: bytes) -> Facts | None:
        """The part of R0 that no window changes; a refusal is remembered by id, for good."""
        try:
            return valid.examine(raw, self._d, self._keccak)
        except (Refused, InvalidEncoding) as refusal:
            self.outcomes[refusal.code] += 1
            self._remember_refused(sha256(raw).digest(), refusal.code)
            return None

    def restore(self, arrival_ms: int, raw: bytes) -> None:
        """Give a pooled record its row again after a restart."""
        facts = valid.examine(raw, self._d, self._keccak)
        self._index.append([facts], [self._topic_key(facts.topic)], [arrival_ms])

    def _append(self, taken: dict[bytes, Facts], pooled: list[Record]) -> None:
        """Rows for what was taken, by id; `pooled`: its records, in the same order."""
        index = self._index
        self._fresh = dict(enumerate((raw for _, raw in pooled), index.size))
        for id_ in self._refused.keys() & taken:
            del self._refused[id_]
        facts = list(taken.values())
        keys = [self._topic_key(each.topic) for each in facts]
        index.append(facts, keys, [arrival_ms for arrival_ms, _ in pooled])

    def _topic_key(self, topic: bytes) -> int:
        key = self._topic_keys.get(topic)
        if key is None:
            if len(self._topic_keys) >= limits.TOPIC_KEYS_CACHED:
                self._topic_keys.clear()
            key = self._topic_keys[topic] = topic_key(self._d.set_id, topic)
        return key

    def _remember_refused(self, id_: bytes, code: str) -> None:
        self._refused[id_] = code
        if len(self._refused) > limits.REFUSED_IDS:
            self._refused.popitem(last=False)
