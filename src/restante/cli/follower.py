"""Waits for an envelope to be in the index, whole windows at a time, and proves it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from restante import limits
from restante.client import Client, ProcessMemory, Query, parse_source, read_policy
from restante.client.follow import Came, follow
from restante.client.sources import sources_of
from restante.errors import Unavailable


class Follower:
    """Notes where the log stands when it is made, which is before the envelope is handed in."""

    def __init__(self, policy_file: Path, url: str | None) -> None:
        """`url` is the node that takes the envelope, if one does; it is asked first. Raises
        ConfigError."""
        policy = read_policy(policy_file)
        others = [source for source in sources_of(policy) if source.name.rstrip("/") != url]
        first = [] if url is None else [parse_source(url)]
        self._client = Client(policy, [*first, *others], ProcessMemory())
        self._since = 0
        with suppress(Unavailable):
            self._since = self._client.refresh().checkpoint.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def wait(self, id_: bytes, timeout_s: float) -> tuple[int, bytes]:
        """(window, proof file) of the envelope. Raises Unavailable `not-in-time`."""
        deadline = time.monotonic() + timeout_s

        def sleep(seconds: float) -> None:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"not in a batch after {timeout_s:.0f} s",
                    code="not-in-time",
                    hint="it may still be",
                )
            time.sleep(seconds)

        query = Query((), since=self._since, mode="all")
        for news in follow(self._client, query, poll_s=limits.FOLLOW_OWN_S, sleep=sleep):
            match news:
                case Came(found) if found.id == id_:
                    proof = self._client.refresh().evidence(found, "all")
                    return found.window, proof.encode()
        raise AssertionError("following ends by an error alone")
