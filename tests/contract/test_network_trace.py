"""Trace replay passes the network contract."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.network_contract import FIRST_MS, NetworkContract, Start, StepClock
from restante.networks.trace import Source, TraceNetwork
from restante.ports import Network


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def begin(raws: Sequence[bytes], clock: StepClock) -> Network:
        path = tmp_path / "observer1.jsonl"
        with path.open("w") as file:
            for index, raw in enumerate(raws):
                row = {"arrival_ms": FIRST_MS + 1000 * index, "rlp": raw.hex()}
                file.write(json.dumps(row) + "\n")
        return TraceNetwork([Source(path)], clock)

    return begin


class TestTraceNetwork(NetworkContract):
    pass
