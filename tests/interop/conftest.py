"""What tests with real peers need: the programs, and for wnode a network of its own."""

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from peers import alone as own_network
from peers.process import BUILT


def _missing(reason: str) -> NoReturn:
    """Skip; CI, where everything is to be had, fails instead."""
    if os.environ.get("RESTANTE_PEERS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The programs, by `make peers`; asked for before any fixture starts one."""
    if absent := [name for name in ("wnode", "geth", "status") if not (BUILT / name).exists()]:
        _missing(f"real peers are not built ({', '.join(absent)}): make peers, which needs Go 1.26")


@pytest.fixture
def alone() -> Iterator[None]:
    """No network but a loopback. Sockets made before stay outside."""
    try:
        with own_network.alone():
            yield
    except own_network.NotAllowed as error:
        _missing(str(error))
