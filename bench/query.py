"""A cold query over a month: what it fetches, in how many dependent rounds, and how long it takes.

    python bench/query.py [--directory DIR] [--json]

A client that knows nothing but its policy asks archives of month.py, which it reads from a folder:

- *quiet*, 30 days at 1 envelope/s: 1, 20 and 200 topics in each mode;
- *busy*, a day at 100/s: the same but for mode all, and 20 of the busiest topics;
- 30 days at 100/s, extrapolated: index and pages of the busy day beyond its last windows, 30 times,
  and its last windows; the log of the quiet month, whose size no rate changes. The same way from
  the last day of the quiet month to the whole of it is computed beside, against what was measured;
- *production*, 1.47 million envelopes in 30 days, skewed as they were: a topic with three.

Topics are spread evenly over the ranks, so that most are seldom used, where an index weighs most.
Bytes are split in log (checkpoint, notes, tiles, entries), index (of days, and what stands before
pages), and pages. Baselines: *everything*, the bytes of all envelopes of the range; *matching*,
those of the answer; for the last archive the 5 µs that a wnode takes for every envelope it keeps.
"""

import argparse
import statistics
from dataclasses import asdict
from typing import Any

from month import DAY_WINDOWS, Archives, Month, run, tell
from served import KINDS, Served, ask
from traffic import Traffic

from restante.client import Query
from restante.rules.query import Mode

DAYS = 30
WNODE_S = 5e-6
"""A LevelDB scan of a wnode, per envelope kept, hit or not."""
REPEATS = 5
COUNTS = (1, 20, 200)
ALONE = 5
"""Topics that are asked for one by one where the count is 1: the row is the middle one's."""
AIMS = (
    ("dependent rounds, cold, a month", 10, "at most"),
    ("index MB, exact, a month, 20 topics, 100/s", 12, "at most"),
    ("bytes × matching, exact, a day, 20 busy topics, 100/s", 3, "at most"),
    ("× faster than 5 µs an envelope, one cold topic", 100, "at least"),
)

Row = dict[str, Any]
"""A cost, and `mode`, `topics`, `days`, `times_everything`, `times_matching`."""


def even(traffic: Traffic, count: int) -> tuple[bytes, ...]:
    """So many topics, or all, spread evenly over the ranks."""
    ranked = traffic.ranked
    count = min(count, len(ranked))
    return tuple(ranked[(2 * i + 1) * len(ranked) // (2 * count)] for i in range(count))


def spread(month: Month, mode: Mode, count: int, since: int = 0) -> Row:
    """The row of so many topics, spread evenly over the ranks."""
    traffic = month.plan.traffic
    if count > 1:
        return cold(month, mode, even(traffic, count), since)
    # One topic may share its bucket with a busy one.
    rows = [cold(month, mode, (topic,), since) for topic in even(traffic, ALONE)]
    return sorted(rows, key=lambda row: row["total"])[len(rows) // 2]


def cold(month: Month, mode: Mode, topics: tuple[bytes, ...], since: int = 0) -> Row:
    """One cold query, as a row."""
    cost = ask(Served(month), Query(topics, since=since, mode=mode))
    tell(f"  {mode}, {len(topics)} topics: {cost.total:,} bytes, {cost.seconds:.1f} s")
    share = (month.plan.size - since) / month.plan.size
    return asdict(cost) | {
        "mode": mode,
        "topics": len(topics),
        "days": (month.plan.size - since) / DAY_WINDOWS,
        "times_everything": cost.total / (share * month.facts["bytes"]),
        "times_matching": cost.total / max(1, cost.matching),
    }


def grown(day: Row, tail: Row, log: int, days: int) -> dict[str, int]:
    """Bytes of so many days, of one: `tail` is what the windows after it cost alone."""
    bytes_ = {"log": log}
    for kind in ("index", "pages"):
        a_day = day["bytes_"][kind] - tail["bytes_"][kind]
        bytes_[kind] = days * a_day + tail["bytes_"][kind]
    return bytes_ | {"total": sum(bytes_.values())}


def extrapolate(quiet: list[Row], busy: list[Row], archives: Archives) -> list[Row]:
    """A month at the busy rate, and the same way to the quiet month, against the measured one."""
    found: list[Row] = []
    small, large = archives["quiet"], archives["busy"]
    last = (small.plan.days - 1) * DAY_WINDOWS
    for measured, day in zip(quiet, busy, strict=False):
        mode, count = measured["mode"], measured["topics"]
        log = measured["bytes_"]["log"]
        tail = spread(large, mode, day["topics"], DAY_WINDOWS)
        own_tail = spread(small, mode, count, last + DAY_WINDOWS)
        own = grown(spread(small, mode, count, last), own_tail, log, small.plan.days)
        found.append(
            {"mode": mode, "topics": day["topics"], "bytes_": grown(day, tail, log, DAYS)}
            | {"method_says_of_measured": own["total"] / measured["total"]}
        )
    return found


def fastest(month: Month) -> dict[str, Any]:
    """A topic with three envelopes, in the archive of the most: repeated, by median."""
    envelopes = month.facts["envelopes"]
    modes: tuple[Mode, ...] = ("exact", "bucket")
    rows = {}
    for mode in modes:
        query = Query((month.plan.traffic.cold,), mode=mode)
        costs = [ask(Served(month), query) for _ in range(REPEATS)]
        middle = statistics.median(cost.seconds for cost in costs)
        rows[mode] = asdict(costs[0]) | {
            "seconds": middle,
            "times_faster": WNODE_S * envelopes / middle,
        }
    return {"envelopes": envelopes, "wnode_s": WNODE_S * envelopes, "rows": rows}


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    quiet = archives["quiet"]
    modes: tuple[Mode, ...] = ("exact", "bucket")
    rows = [spread(quiet, mode, count) for mode in modes for count in COUNTS]
    busy = archives["busy"]
    t = busy.plan.traffic
    day = [spread(busy, mode, count) for mode in modes for count in COUNTS]
    extrapolated = extrapolate(rows, day, archives)
    busiest = cold(busy, "exact", tuple(t.ranked[:20]))
    rows.append(cold(quiet, "all", even(quiet.plan.traffic, COUNTS[-1])))
    seldom = fastest(archives["production"])
    aims = (
        max(row["rounds"] for row in rows),
        extrapolated[1]["bytes_"]["index"] / 1e6,
        busiest["times_matching"],
        seldom["rows"]["exact"]["times_faster"],
    )
    return {
        "archives": archives.facts("quiet", "busy", "production"),
        "quiet": rows,
        "busy": day,
        "busiest": busiest,
        "extrapolated": extrapolated,
        "seldom": seldom,
        "aims": [
            {
                "name": name,
                "value": value,
                "aim": aim,
                "kept": value <= aim if bound == "at most" else value >= aim,
                "bound": bound,
            }
            for (name, aim, bound), value in zip(AIMS, aims, strict=True)
        ],
    }


HEAD = (
    f"{'mode':9}{'topics':>7}{'found':>10}{'log':>9}{'index':>9}{'pages':>10}{'total':>10}"
    f"{'× every-':>10}{'× match-':>10}{'requests':>10}{'rounds':>8}{'s':>8}{'link s':>9}"
)
UNITS = f"{'':26}{'MB':>9}{'MB':>9}{'MB':>10}{'MB':>10}{'thing':>10}{'ing':>10}"


def line(row: Row) -> str:
    """A row for people."""
    log, index, pages = (row["bytes_"][kind] / 1e6 for kind in KINDS)
    return (
        f"{row['mode']:9}{row['topics']:>7}{row['envelopes']:>10,}"
        f"{log:>9.2f}{index:>9.2f}{pages:>10.2f}{row['total'] / 1e6:>10.2f}"
        f"{row['times_everything']:>10.4f}{row['times_matching']:>10.1f}{row['requests']:>10,}"
        f"{row['rounds']:>8}{row['seconds']:>8.1f}{row['link_s']:>9.1f}"
    )


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    for name, title in (("quiet", "quiet"), ("busy", "busy")):
        facts = result["archives"][name]
        print(
            f"\n{title}: {facts['envelopes']:,} envelopes of {facts['topics']:,} topics in "
            f"{facts['windows']:,} windows, {facts['bytes'] / 1e6:,.0f} MB (everything)"
        )
        print(f"{HEAD}\n{UNITS}")
        for row in result[name]:
            print(line(row))
        if name == "busy":
            print(line(result["busiest"] | {"mode": "busiest"}))
    print(f"\n{DAYS} days at the busy rate, extrapolated")
    print(
        f"{'mode':9}{'topics':>7}{'log MB':>10}{'index MB':>10}{'pages MB':>10}{'total MB':>10}"
        f"{'so computed, the quiet month has':>36}"
    )
    for row in result["extrapolated"]:
        cells = "".join(f"{row['bytes_'][k] / 1e6:>10.2f}" for k in (*KINDS, "total"))
        says = f"{row['method_says_of_measured']:.2f} × the measured bytes"
        print(f"{row['mode']:9}{row['topics']:>7}{cells}{says:>36}")
    seldom = result["seldom"]
    print(f"\nproduction: {seldom['envelopes']:,} envelopes, a topic with three")
    print(f"{'':28}{'KB':>10}{'requests':>10}{'rounds':>8}{'s':>10}{'× faster':>10}{'link s':>9}")
    print(f"{'5 µs an envelope (baseline)':28}{'':>28}{seldom['wnode_s']:>10.3f}{1:>10.1f}")
    for mode, row in seldom["rows"].items():
        print(
            f"{mode:28}{row['total'] / 1e3:>10.1f}{row['requests']:>10,}{row['rounds']:>8}"
            f"{row['seconds']:>10.3f}{row['times_faster']:>10.1f}{row['link_s']:>9.1f}"
        )
    print()
    for aim in result["aims"]:
        verdict = "holds" if aim["kept"] else "MISSED"
        print(f"{aim['name']:56}{aim['value']:>10.2f}  aim {aim['bound']} {aim['aim']}: {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
