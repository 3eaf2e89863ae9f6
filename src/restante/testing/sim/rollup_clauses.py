"""How what is said of roll-ups is switched off: see `clauses`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import merge as merged
from types import SimpleNamespace
from typing import Any
from unittest import mock

from restante import limits
from restante.formats import cut, index_cut, merge
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span, due_at
from restante.formats.merge import Child, Merging
from restante.formats.segment import Segment
from restante.rules import commit, pending, rollup
from restante.rules.cosign import Cosigner, Signed
from restante.rules.pending import PendingRollUps
from restante.rules.validator import Validator
from restante.testing.sim.clauses import Patch

# --- what bytes they are ----------------------------------------------------------------------


def record_dropped() -> list[Patch]:
    counted = Merging._counted

    def without_the_first(self: Merging, records: Iterable[Any]) -> Iterator[Any]:
        every = counted(self, records)
        next(every, None)
        yield from every

    return [(Merging, "_counted", without_the_first)]


def child_twice() -> list[Patch]:
    init = Merging.__init__

    def with_the_first_again(
        self: Merging, d: Descriptor, span: Span, children: Sequence[Child], topic_of: Any
    ) -> None:
        init(self, d, span, children, topic_of)
        self._children = [children[0], *children]
        self._totals = merge.totals_of([child.root for child in self._children])

    return [(Merging, "__init__", with_the_first_again)]


def windows_backwards() -> list[Patch]:
    def backwards(*streams: Iterable[Any], key: Callable[[Any], Any]) -> Iterator[Any]:
        return merged(*reversed(streams), key=key)

    return [(merge, "merge", backwards)]


def page_cut() -> list[Patch]:
    half = SimpleNamespace(**vars(limits) | {"PAGE_TARGET_BYTES": limits.PAGE_TARGET_BYTES // 2})

    def smaller(*arguments: Any) -> Iterator[Any]:
        with mock.patch.object(cut, "limits", half):
            yield from cut.cut(*arguments)

    return [(merge, "cut", smaller)]


def hour_mask() -> list[Patch]:
    def first_hour(child: Any, _: int) -> Iterator[tuple[int, int]]:
        return ((key, 0) for key in child.topic_keys())

    return [(index_cut, "_tagged_keys", first_hour)]


# --- which there are, and where ---------------------------------------------------------------


def late_skipped() -> list[Patch]:
    def what_is_here(self: PendingRollUps, window: int) -> tuple[bytes | None, ...]:
        return tuple(self._results[of] for of in due_at(self._d, window) if of in self._results)

    return [
        (PendingRollUps, "missing", lambda *_: ()),
        (PendingRollUps, "named_by", what_is_here),
    ]


def lag_ignored() -> list[Patch]:
    return [(pending, "due_at", lambda d, window: due_at(d, window - 1))]


def asked_once() -> list[Patch]:
    init = PendingRollUps.__init__

    def from_now_on(self: PendingRollUps, d: Descriptor, window: int) -> None:
        init(self, d, window)
        self._ended = window

    return [(PendingRollUps, "__init__", from_now_on)]


def limit_ignored() -> list[Patch]:
    return [(rollup, "is_made", lambda *_: True)]


def made_by_one() -> list[Patch]:
    is_made = rollup.is_made
    asked: dict[Span, int] = {}

    def third_says_yes(d: Descriptor, of: Span, committed_bytes: int) -> bool:
        asked[of] = asked.get(of, 0) + 1
        return asked[of] == 3 or is_made(d, of, committed_bytes)

    return [(rollup, "is_made", third_says_yes)]


def own_entry() -> list[Patch]:
    def with_its_mark(self: Validator, segment: Segment) -> bytes:
        entry = segment.entry(self.rollups.named_by(self.base.window))
        late = None if entry.sent_max is None else entry.sent_max + self._standing
        return replace(entry, sent_max=late).encode()

    return [(Validator, "_entry", with_its_mark)]


# --- after an absence -------------------------------------------------------------------------


def other_windows_records() -> list[Patch]:
    return [(commit, "of_window", lambda records, _: (raw for _, raw in records))]


def tree_passed_over() -> list[Patch]:
    def with_the_tree(self: Cosigner, tree: Signed) -> None:
        del self._unsigned[: self._unsigned.index(tree) + 1]

    return [(Cosigner, "_pass_over", with_the_tree)]
