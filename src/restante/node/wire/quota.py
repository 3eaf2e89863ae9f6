"""Who is heard when: quotas without identities. Pure: no I/O, no time.

Keys are free, so outsiders share one bounded queue, served in turn by source address and then by
key. A flood changes when outsiders are heard, never when a window is decided: validators' own
proposals do not stand in this queue.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from restante import limits
from restante.formats.message import Answer

T = TypeVar("T")


class Rate:
    """A token bucket for each source: `burst` at once, then `per_s`."""

    def __init__(self, per_s: float, burst: int, sources: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._sources = sources
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str, now_s: float) -> bool:
        """Whether this source may have another one; `now_s` never goes back."""
        left, then_s = self._left.pop(source, (float(self._burst), now_s))
        left = min(self._burst, left + (now_s - then_s) * self._per_s)
        taken = left >= 1
        self._left[source] = left - taken, now_s
        if len(self._left) > self._sources:
            self._left.popitem(last=False)
        return taken


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One request in the queue."""

    address: str
    key: bytes
    size_bytes: int
    work: T


class Queue(Generic[T]):
    """Bounded in entries and bytes, in all and for one address; round-robin."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, OrderedDict[bytes, deque[Waiting[T]]]] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return self._counts.total()

    def put(self, item: Waiting[T]) -> list[Waiting[T]]:
        """Queue an item; answers what has to give way: perhaps others, perhaps the item itself.

        Where the queue is full, the address with the most entries gives its newest one.
        """
        if self._counts[item.address] >= limits.OUTSIDER_QUEUE_PER_ADDRESS:
            return [item]
        keys = self._by_address.setdefault(item.address, OrderedDict())
        keys.setdefault(item.key, deque()).append(item)
        self._counts[item.address] += 1
        self._bytes += item.size_bytes
        dropped = []
        while len(self) > limits.OUTSIDER_QUEUE or self._bytes > limits.OUTSIDER_QUEUE_BYTES:
            dropped.append(self._drop_from(max(self._counts, key=lambda a: self._counts[a])))
        return dropped

    def get(self) -> Waiting[T] | None:
        """The next in turn."""
        if not self._by_address:
            return None
        address, keys = next(iter(self._by_address.items()))
        key, items = next(iter(keys.items()))
        item = items.popleft()
        self._by_address.move_to_end(address)
        keys.move_to_end(key)
        self._took(item)
        return item

    def _drop_from(self, address: str) -> Waiting[T]:
        keys = self._by_address[address]
        longest = max(keys, key=lambda key: len(keys[key]))
        item = keys[longest].pop()
        self._took(item)
        return item

    def _took(self, item: Waiting[T]) -> None:
        self._bytes -= item.size_bytes
        self._counts[item.address] -= 1
        keys = self._by_address[item.address]
        if not keys[item.key]:
            del keys[item.key]
        if not keys:
            del self._by_address[item.address]
            del self._counts[item.address]


class WindowQuota:
    """What outsiders may still cost in one window. A new base needs a new one."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._barred: set[str | bytes] = set()
        self._builds: Counter[str] = Counter()
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()

    def refusal(self, address: str, key: bytes) -> Answer | None:
        """Why this outsider is not heard in this window any more."""
        if address in self._barred or key in self._barred:
            return Answer.refused(
                "barred", "a proposal of this key or address named a wrong CID in this window"
            )
        return None

    def may_build(self, address: str) -> bool:
        """Whether another set may be built for this address."""
        return (
            self._builds.total() < limits.OUTSIDER_BUILDS
            and self._builds[address] < limits.OUTSIDER_BUILDS_PER_ADDRESS
        )

    def known(self, digest: bytes) -> Answer | None:
        """The answer that this very message got before: a repetition costs one look-up."""
        return self._answers.get(digest)

    def judged(
        self, address: str, key: bytes, digest: bytes, answer: Answer, builds: int
    ) -> Answer:
        """Account for a verdict; answers what the outsider is told."""
        self._builds[address] += builds
        if answer.kind == "invalid" and answer.code == "cid":
            # Anyone can read a pool and name its ids: a wrong CID must not be tried twice.
            if len(self._barred) < limits.OUTSIDER_BARRED:
                self._barred |= {address, key}
        elif answer.kind == "need" and len(answer.ids) > limits.OUTSIDER_UNKNOWN_IDS:
            answer = Answer.refused(
                "too-many-unknown",
                f"at most {limits.OUTSIDER_UNKNOWN_IDS} bodies may be unknown here",
            )
        if answer.kind in ("accept", "missing", "invalid", "refused"):
            self._answers[digest] = answer
            if len(self._answers) > limits.OUTSIDER_ANSWERS:
                self._answers.popitem(last=False)
        return answer
