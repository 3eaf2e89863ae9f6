"""Seeds that differ by day are named at the end of every run, so that it can be made again."""

import os
import time

import pytest
from hypothesis import HealthCheck, settings

SEEDS = {
    "SIM_SEED": time.strftime("%Y%m%d", time.gmtime()),
    "FUZZ_SEED": str(int(time.time()) // 86_400),
}

# How fast a machine is decides nothing here.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Fix the seeds once, for this process and its workers: midnight may pass meanwhile."""
    for name, value in SEEDS.items():
        os.environ.setdefault(name, value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seeds = " ".join(f"{name}={os.environ[name]}" for name in SEEDS)
    terminalreporter.write_line(f"seeds of this run: {seeds}")
