"""The machine's name, which every figure needs beside it.

python bench/machine.py
"""

import os
import platform
from pathlib import Path

from restante.networks import keccak


def cpu_model() -> str:
    """What the kernel calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def filesystem(path: Path) -> str:
    """The type of the file system that holds a path: on tmpfs an fsync costs nothing."""
    try:
        mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    wanted = path.resolve()
    best = (0, "unknown")
    for mount in mounts:
        _, point, kind, *_ = mount.split(" ")
        if wanted.is_relative_to(point):
            best = max(best, (len(point), kind))
    return best[1]


def describe() -> dict[str, str | int]:
    """What figures depend on."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "keccak": keccak.new.__module__.lstrip("_"),
    }


def line() -> str:
    """The same in one line."""
    m = describe()
    return f"{m['cpu']}, {m['cores']} cores, {m['system']}, {m['python']}, keccak by {m['keccak']}"


if __name__ == "__main__":
    print(line())
