"""An archive copied and verified: from another node's folder, and from a gateway over HTTP.

    python bench/mirror.py [--directory DIR] [--json]

What `restante mirror` does: every byte is verified from the policy down, and every segment is built
anew of its own records, so that only what hashes to the same CID is kept. The archive of month.py
holds a day at 2.3 envelopes/s, with the batches and the five minutes of its last three hours; an
envelope counts once in each segment that has it. The gateway is a process of its own (restante up
--role gateway, its cache empty), whose CPU is not in the figures but shares the machine.

Baseline: the aim of 10,000 envelopes/s.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from month import Archives, Month, Plan, month, run, tell, tiny
from traffic import Traffic

from restante.client import Client, ProcessMemory, parse_source, read_policy
from restante.node.config import Value, template
from restante.node.mirror import Mirror
from restante.testing.cluster import free_ports

AIM_PER_S = 10_000
PLAN = Plan(Traffic(200_000, 2_000), days=1, children=360)


def copy(made: Month, source: str) -> dict[str, Any]:
    """One copy into an empty folder."""
    policy = read_policy(made.root / "policy")
    with tempfile.TemporaryDirectory() as name:
        cpu_s, started = _cpu_s(), time.perf_counter()
        with Client(policy, [parse_source(source)], ProcessMemory()) as client:
            copied = Mirror(client, Path(name) / "copy").copy()
        seconds = time.perf_counter() - started
    return {
        "segments": copied.segments,
        "envelopes": copied.envelopes,
        "megabytes": copied.bytes_ / 1e6,
        "gone": copied.gone,
        "seconds": seconds,
        "cpu_s": _cpu_s() - cpu_s,
        "per_s": copied.envelopes / seconds,
        "times_aim": copied.envelopes / seconds / AIM_PER_S,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def over_http(made: Month, directory: Path) -> dict[str, Any]:
    """A copy from a gateway that reads the archive's folder."""
    port, _ = free_ports(2)
    for name in ("descriptor", "policy"):
        (directory / name).write_bytes((made.root / name).read_bytes())
    values: dict[str, Value] = {
        "node.roles": ["gateway"],
        "gateway.port": port,
        "gateway.sources": [str(made.root)],
    }
    (directory / "restante.toml").write_text(template(values))
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "restante.cli.main", "up", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as gateway:
        try:
            _wait(url)
            return copy(made, url)
        finally:
            os.kill(gateway.pid, signal.SIGINT)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{url}/checkpoint", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def measure(archives: Archives, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed by `--json`."""
    plan = replace(PLAN, traffic=replace(PLAN.traffic, seed=options.seed))
    made = month(tiny(plan, 1) if options.tiny else plan, archives.directory, tell)
    rows = {"folder": copy(made, str(made.root))}
    with tempfile.TemporaryDirectory() as name:
        rows["gateway"] = over_http(made, Path(name))
    return {"envelopes": made.facts["envelopes"], "rows": rows}


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(f"an archive of {result['envelopes']:,} envelopes, copied and verified\n")
    print(f"{'from':10}{'segments':>10}{'records':>11}{'MB':>8}{'s':>8}{'CPU s':>8}", end="")
    print(f"{'records/s':>12}{'× aim':>8}")
    for name, row in result["rows"].items():
        print(
            f"{name:10}{row['segments']:>10,}{row['envelopes']:>11,}{row['megabytes']:>8.0f}"
            f"{row['seconds']:>8.1f}{row['cpu_s']:>8.1f}{row['per_s']:>12,.0f}"
            f"{row['times_aim']:>8.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    return run(parser, measure, show)


if __name__ == "__main__":
    raise SystemExit(main())
