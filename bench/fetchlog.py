"""What a client's fetches tell of its topic to somebody who sees all of them.

    python bench/fetchlog.py [--samples N] [--directory DIR] [--json]

A real client asks archives of month.py for one topic, and the source writes down every (path,
range). An observer who has this log and the whole archive, and who knows how clients read, looks
for the topics of the archive that would have left the same log: those he cannot tell apart from
the true one. Printed for modes exact and bucket, after a day and after all days of the archive:
how many topics are left, the true one among them (median and 0.05 quantile), and of how many
topics he knows for certain; of topics drawn evenly, and drawn by their traffic. The baseline is an
observer who sees no fetches, to whom all topics of the archive are left.

What each topic would have fetched is computed from the page tables and indexes, for all topics;
the logs of `--samples` real clients a mode are compared with that, page by page and block by block,
and one that differs ends the script.

What this does not say: nothing of *when* a client asks, how much at once and from where; one topic
for each observed client, where several make a fingerprint together; no prior knowledge of who
might use which topic; traffic without conversations, whose bursts tell more in mode exact. And a
topic is not a person: what is counted is topics.
"""

import argparse
import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from month import DAY_WINDOWS, Archives, Month, run, tell
from served import Asked, Served, layout

from restante.client import Client, ProcessMemory, Query, read_policy
from restante.formats import car, index
from restante.formats.level import Span, children, is_index, span, windows_of
from restante.formats.page import bucket_of, bucket_range, parse_page_block, topic_key
from restante.formats.paths import parse_segment_path, segment_path
from restante.formats.root import parse_directory_block
from restante.rules.query import Mode

MODELS = ("still", "quiet", "production", "busy")
MODES: tuple[Mode, ...] = ("exact", "bucket")
MOST_FOUND = 100_000
"""Topics with more envelopes than that are not asked for by a real client: it takes minutes."""


@dataclass(frozen=True)
class Extent:
    """Where something stands in a segment's files."""

    part: int
    start: int
    stop: int


class Segment:
    """A segment of bodies, as the observer knows it."""

    def __init__(self, month: Month, of: Span) -> None:
        path = segment_path(of.level, of.number)
        placed = layout(month.root, path)
        root, head = placed.root, (month.root / path).open("rb").read(placed.pages_start)
        rows, keys = list(root.pages or ()), set(root.directory or ())
        blocks = zip(root.page_blocks or (), placed.page_block_offsets, strict=True)
        for named, at in blocks:
            rows += parse_page_block(head[at : at + named.length])
        listed = zip(root.directory_blocks or (), placed.directory_block_offsets, strict=True)
        for block, at in listed:
            keys.update(parse_directory_block(head[at : at + 4 * block.keys]))
        self._depth = root.depth
        self._firsts = [row.topic_key for row in rows]
        self._keys = keys
        self.extents = []
        for row in rows:
            part, at, length = placed.page_range(row)
            self.extents.append(Extent(part, at, at + length))

    def wanted(self, mode: Mode, key: int) -> range:
        """The pages that a client fetches for a topic key; they follow one another."""
        firsts, depth = self._firsts, self._depth
        if mode == "bucket":
            low, high = bucket_range(depth, key)
            return range(bisect_left(firsts, low), bisect_right(firsts, high))
        if key not in self._keys:
            return range(0)
        first = bisect_left(firsts, key)
        # The page before those that begin with the key may end with it, if the bucket is the same.
        if first and bucket_of(firsts[first - 1], depth) == bucket_of(key, depth):
            first -= 1
        return range(first, bisect_right(firsts, key))


class Index:
    """A day's index, as the observer knows it."""

    def __init__(self, month: Month, of: Span) -> None:
        data = (month.root / segment_path(of.level, of.number)).read_bytes()
        _, at = car.read_header(data)
        _, block, at = car.read_section(data, at, 1 << 18)
        root = index.parse_root(block)
        self._names = list(root.blocks or ())
        for table in root.tables or ():
            _, block, at = car.read_section(data, at)
            self._names += index.parse_table(block)
            assert table.length == len(block)
        self.extents = []
        for name in self._names:
            start = at + car.section_overhead(name.length)
            at = start + name.length
            self.extents.append(Extent(0, start, at))
        self._firsts = [name.topic_key for name in self._names]
        self._depth = min(
            (each.depth for each in root.children if each and each.envelopes), default=0
        )

    def wanted(self, mode: Mode, key: int) -> range:
        """The blocks that a client fetches for a topic key; they follow one another."""
        low, high = bucket_range(self._depth, key) if mode == "bucket" else (key, key)
        # A block has events up to where the next begins, which may share a key with it.
        first = max(0, bisect_left(self._firsts, low, 1) - 1)
        return range(first, bisect_right(self._firsts, high))


class Observed:
    """What a log shows of one segment or index: which of its pieces were fetched."""

    def __init__(self, extents: Sequence[Extent], asked: Iterable[tuple[int, Asked]]) -> None:
        self.fetched: set[int] = set()
        self.anyway: set[int] = set()
        """Those in the first bytes of the file, which are read whatever is looked for."""
        held = list(asked)
        # What begins in the first bytes is asked for from their end on.
        first = max((e.length for part, e in held if (part, e.offset) == (0, 0)), default=0)
        for part, each in held:
            within = {
                n
                for n, extent in enumerate(extents)
                if extent.part == part
                and each.offset <= max(extent.start, 0 if part else min(first, extent.stop - 1))
                and extent.start < each.offset + each.length
                and extent.stop <= each.offset + each.length
                and extent.stop > each.offset
            }
            (self.anyway if (part, each.offset) == (0, 0) else self.fetched).update(within)


def by_segment(log: Iterable[Asked]) -> dict[tuple[int, int], list[tuple[int, Asked]]]:
    """(level, number) → (part, request)."""
    found: dict[tuple[int, int], list[tuple[int, Asked]]] = defaultdict(list)
    for asked in log:
        if asked.path.startswith("segment/") and not asked.missing:
            level, number, part = parse_segment_path(asked.path)
            found[level, number].append((part, asked))
    return found


class Observer:
    """Knows the archive, and how clients read it."""

    def __init__(self, month: Month, logs: dict[Mode, dict[bytes, list[Asked]]]) -> None:
        """`logs` show which segments are read at all; what is not read for a topic follows."""
        self.month = month
        d = self.d = month.plan.descriptor
        touched = {
            at for found in logs.values() for log in found.values() for at in by_segment(log)
        }
        spans = {span(d, level, number) for level, number in touched}
        for of in [of for of in spans if is_index(d, of.level)]:
            spans.update(children(d, of))
        self.known: dict[Span, Segment | Index] = {
            of: (Index if is_index(d, of.level) else Segment)(month, of) for of in sorted(spans)
        }
        self.keys = {topic: topic_key(d.set_id, topic) for topic in month.counts}
        # The first bytes of a file are as many for every topic.
        self._anyway: dict[tuple[Mode, Span], set[int]] = {}
        for mode, found in logs.items():
            for log in found.values():
                for at, asked in by_segment(log).items():
                    of = span(d, *at)
                    seen = Observed(self.known[of].extents, asked)
                    self._anyway.setdefault((mode, of), set()).update(seen.anyway)

    def shown(self, mode: Mode, of: Span, key: int) -> range | frozenset[int]:
        """Which pieces of a segment or index a client of a topic key asks for by themselves."""
        wanted = self.known[of].wanted(mode, key)
        anyway = self._anyway.get((mode, of))
        return frozenset(wanted) - anyway if anyway else wanted

    def check(self, mode: Mode, topic: bytes, log: list[Asked]) -> None:
        """Refuse to speak of clients that read in another way than is known here."""
        asked = by_segment(log)
        for of, known in self.known.items():
            seen = Observed(known.extents, asked.get((of.level, of.number), ()))
            told = self.shown(mode, of, topic_key(self.d.set_id, topic))
            if seen.fetched - seen.anyway != set(told):
                raise SystemExit(
                    f"{mode}, topic {topic.hex()}, segment {of.level}/{of.number}: the client "
                    f"fetched {sorted(seen.fetched)}, expected {sorted(told)}"
                )

    def left(self, mode: Mode, spans: Sequence[Span]) -> dict[bytes, int]:
        """Topic → how many topics would have left the same log of these segments and indexes."""
        trail = dict.fromkeys(self.keys, 0)
        for of in spans:
            for topic, key in self.keys.items():
                trail[topic] = hash((trail[topic], self.shown(mode, of, key)))
        alike = Counter(trail.values())
        return {topic: alike[each] for topic, each in trail.items()}


def told(left: dict[bytes, int], weights: dict[bytes, int]) -> dict[str, float]:
    """Median and 0.05 quantile of the topics left, and how many are known, by weight."""
    ordered = sorted((left[topic], weight) for topic, weight in weights.items())
    total = sum(weight for _, weight in ordered)

    def quantile(q: float) -> int:
        passed = 0
        for count, weight in ordered:
            passed += weight
            if passed >= q * total:
                return count
        return ordered[-1][0]

    unique = sum(weight for count, weight in ordered if count == 1)
    return {"median": quantile(0.5), "p5": quantile(0.05), "unique": unique / total}


def client_logs(month: Month, samples: int, seed: int) -> dict[Mode, dict[bytes, list[Asked]]]:
    """What real clients fetched: of topics drawn evenly and by traffic, half and half."""
    rng = random.Random(seed)
    topics = sorted(topic for topic, count in month.counts.items() if count <= MOST_FOUND)
    weights = [month.counts[topic] for topic in topics]
    even = rng.sample(topics, min(len(topics), samples - samples // 2))
    chosen = dict.fromkeys([*even, *rng.choices(topics, weights, k=samples // 2)])
    logs: dict[Mode, dict[bytes, list[Asked]]] = {mode: {} for mode in MODES}
    policy = read_policy(month.root / "policy")
    for mode in MODES:
        tell(f"  {mode}: {len(chosen)} clients")
        for topic in chosen:
            served = Served(month)
            with Client(policy, [served], ProcessMemory()) as client:
                found = sum(1 for _ in client.query(Query((topic,), mode=mode)))
            assert found == month.counts[topic]
            logs[mode][topic] = served.log
    return logs


def observe(month: Month, samples: int, seed: int) -> dict[str, Any]:
    """Everything about one archive."""
    logs = client_logs(month, samples, seed)
    observer = Observer(month, logs)
    for mode, found in logs.items():
        for topic, log in found.items():
            observer.check(mode, topic, log)
    tell("  the observer")
    d, days = month.plan.descriptor, month.plan.days
    last = range((days - 1) * DAY_WINDOWS, days * DAY_WINDOWS)
    spans = list(observer.known)
    a_day = [of for of in spans if of.first in last and of.stop <= last.stop]
    assert a_day
    assert windows_of(d, len(d.levels)) == DAY_WINDOWS
    even = dict.fromkeys(month.counts, 1)
    rows = []
    for mode in MODES:
        for after, seen in ((1, a_day), (days, spans))[: 1 + (days > 1)]:
            left = observer.left(mode, seen)
            rows.append(
                {"mode": mode, "days": after}
                | {"even": told(left, even), "by_traffic": told(left, dict(month.counts))}
            )
    return {
        "topics": len(month.counts),
        "per_s": month.plan.traffic.per_day / 86_400,
        "bucket_bits": d.bucket_bits,
        "logs_compared": sum(len(found) for found in logs.values()),
        "rows": rows,
    }


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    seed, samples = options.seed, options.samples
    return {
        "networks": {model: observe(archives[model], samples, seed) for model in MODELS},
        "archives": archives.facts(*MODELS),
    }


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    print("\ntopics left to an observer of all fetches, the true one among them")
    print(f"{'':24}{'topics drawn evenly':>30}{'drawn by traffic':>30}{'× all':>9}")
    columns = f"{'median':>10}{'p5':>8}{'known':>12}"
    print(f"{'':24}{columns}{columns}{'(even)':>9}")
    for name, network in result["networks"].items():
        print(
            f"{name}: {network['per_s']:.3g}/s, {network['topics']:,} topics, at most "
            f"{1 << network['bucket_bits']:,} buckets; {network['logs_compared']} logs compared"
        )
        all_topics = f"{network['topics']:>10,}{network['topics']:>8,}{'0.0 %':>12}"
        print(f"  {'no fetches (baseline)':22}{all_topics}{all_topics}{1:>9.4f}")
        for row in network["rows"]:
            cells = "".join(
                f"{row[drawn]['median']:>10,}{row[drawn]['p5']:>8,}"
                f"{100 * row[drawn]['unique']:>10.1f} %"
                for drawn in ("even", "by_traffic")
            )
            share = row["even"]["median"] / network["topics"]
            days = f"{row['days']} day" + "s" * (row["days"] > 1)
            print(f"  {row['mode'] + ', ' + days:22}{cells}{share:>9.4f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24, help="real clients a mode (24)")
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
