"""What a client pays after it was away: a minute, an hour, a month, wherever the clock stands.

    python bench/resume.py [--directory DIR] [--json]

A client that was there, so that it has a checkpoint to go on from, comes back to an archive of
month.py and asks for one topic that has an envelope in every window. Sizes of the archive, at which
it comes back, are chosen over a day: beside the windows that end levels, and anywhere. What a
publisher may have released by then is gone.

*exact*, at 1 envelope/s: bytes, requests and dependent rounds, in all and for each new envelope;
the baseline is a minute away, from the same size: *× minute* is how much more a new envelope costs
than then, at the worst of the sizes. *bucket*, at 1, 10 and 100 envelopes/s: bytes for each window
away, against the bytes that the network carried in them.

The archive of 100/s is a day, and keeps the children of roll-ups for its last three hours, since
more is much disk: there the sizes lie within the last two of them, and who was away for longer left
at an hour's end.
"""

import argparse
import random
import statistics
from dataclasses import asdict
from typing import Any

from month import DAY_WINDOWS, Archives, Month, run, tell
from served import Cost, Served, ask

from restante.client import Client, ProcessMemory, Query, read_policy
from restante.rules.query import Mode

AWAY = {
    "1 min": 2,
    "5 min": 10,
    "10 min": 20,
    "1 h": 120,
    "1 h 5 min": 130,
    "6 h": 720,
    "1 d": DAY_WINDOWS,
    "3 d": 3 * DAY_WINDOWS,
    "30 d": 30 * DAY_WINDOWS,
}
"""Windows."""
MINUTE = "1 min"
AIM = 2.0
HOUR = 120
"""Windows."""


def sizes(month: Month, away: int, options: argparse.Namespace) -> list[int]:
    """Tree sizes at which a client comes back; four of them after days, which tell as much."""
    plan = month.plan
    lag, end = plan.descriptor.rollup_lag, plan.size
    kept = end - plan.children
    first = max(end - DAY_WINDOWS, kept + HOUR)
    # The last entry is one that names a day, an hour, five minutes, and the one before each.
    hour = (end - lag) // HOUR * HOUR
    named = hour + lag - HOUR
    chosen = {end, end - 1, hour, hour - HOUR, named, named - 1, named - 10, named - 11}
    rng = random.Random(options.seed)
    chosen |= {rng.randrange(first, end) for _ in range(8)}
    # Where the archive lacks what publishers would still have, a range can only begin with an hour.
    found = [
        size
        for size in sorted(chosen)
        if size >= first and ((since := max(0, size - away)) >= kept or since % HOUR == 0)
    ]
    most = options.sizes if away < DAY_WINDOWS else min(4, options.sizes)
    return found[:: -(-len(found) // most)]


def back(month: Month, mode: Mode, size: int, away: int) -> Cost:
    """What the client pays that comes back at a size."""
    served, memory = Served(month, max(1, size - away)), ProcessMemory()
    with Client(read_policy(month.root / "policy"), [served], memory) as client:
        client.refresh()
    served.size = size
    since = max(0, size - away)
    return ask(served, Query((month.plan.traffic.steady,), since=since, mode=mode), memory)


def exact(month: Month, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each time away: medians over the sizes, and the worst."""
    rows = []
    minute: dict[int, float] = {}
    for name, away in AWAY.items():
        if away > month.plan.size:
            continue
        tell(f"  exact, {name} away")
        at = {size: back(month, "exact", size, away) for size in sizes(month, away, options)}
        each = {size: cost.total / max(1, cost.envelopes) for size, cost in at.items()}
        minute = minute or each
        times = [each[size] / minute[size] for size in each]
        rows.append(
            {
                "away": name,
                "windows": away,
                "sizes": len(at),
                "envelopes": statistics.median(cost.envelopes for cost in at.values()),
                "bytes": statistics.median(cost.total for cost in at.values()),
                "requests": statistics.median(cost.requests for cost in at.values()),
                "rounds": max(cost.rounds for cost in at.values()),
                "bytes_each": statistics.median(each.values()),
                "bytes_each_most": max(each.values()),
                "times_minute": statistics.median(times),
                "times_minute_most": max(times),
                "costs": {size: asdict(cost) for size, cost in at.items()},
            }
        )
    return rows


def bucket(month: Month, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes for each window away, by time away: medians over the sizes, and the worst."""
    a_window = month.facts["bytes"] / month.plan.size
    rows = []
    for name, away in AWAY.items():
        if away > month.plan.size:
            continue
        tell(f"  bucket, {name} away")
        chosen = sizes(month, away, options)
        costs = [back(month, "bucket", size, away) for size in chosen]
        each = [cost.total / min(away, size) for cost, size in zip(costs, chosen, strict=True)]
        rows.append(
            {
                "away": name,
                "windows": away,
                "bytes_a_window": statistics.median(each),
                "bytes_a_window_most": max(each),
                "times_everything": statistics.median(each) / a_window,
                "rounds": max(cost.rounds for cost in costs),
                "requests": statistics.median(cost.requests for cost in costs),
            }
        )
    return rows


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    rows = exact(archives["quiet"], options)
    worst = max(row["times_minute_most"] for row in rows)
    models = ("quiet", "lively", "busy")
    return {
        "archives": archives.facts(*models),
        "exact": rows,
        "bucket": {model: bucket(archives[model], options) for model in models},
        "aim": {"name": "bytes a new envelope, × minute", "value": worst, "aim": AIM}
        | {"kept": worst <= AIM},
    }


def cells(row: dict[str, Any]) -> str:
    """A row of bucket mode, for one rate."""
    median, most = row["bytes_a_window"] / 1e3, row["bytes_a_window_most"] / 1e3
    return f"{median:>12.2f}{most:>10.2f}{row['times_everything']:>8.3f}"


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    rows = result["exact"]
    print(
        f"\nexact, quiet, a hit in every window; median of {rows[0]['sizes']} sizes, and the worst"
    )
    print(
        f"{'away':12}{'envelopes':>11}{'KB':>12}{'requests':>10}{'rounds':>8}"
        f"{'KB each':>10}{'worst':>9}{'× minute':>10}{'worst':>8}"
    )
    for row in rows:
        print(
            f"{row['away']:12}{row['envelopes']:>11,.0f}{row['bytes'] / 1e3:>12,.1f}"
            f"{row['requests']:>10,.0f}{row['rounds']:>8}{row['bytes_each'] / 1e3:>10.2f}"
            f"{row['bytes_each_most'] / 1e3:>9.2f}{row['times_minute']:>10.3f}"
            f"{row['times_minute_most']:>8.3f}"
        )
    print("\nbucket: KB for each window away; × all: of what the network carried in it")
    heads = "".join(f"{name:>12}{'worst':>10}{'× all':>8}" for name in result["bucket"])
    print(f"{'away':12}{heads}")
    for name in AWAY:
        # The month comes first, so that what shorter archives lack is at the end of a line.
        same = [row for found in result["bucket"].values() for row in found if row["away"] == name]
        if same:
            print(f"{name:12}" + "".join(map(cells, same)))
    aim = result["aim"]
    verdict = "holds" if aim["kept"] else "MISSED"
    print(f"\n{aim['name']}, at the worst: {aim['value']:.2f}  aim at most {aim['aim']}: {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, default=16, help="of the archive, at most (16)")
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
