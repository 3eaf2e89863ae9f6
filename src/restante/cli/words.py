"""Words of a command line that several commands take: topics, times, and where to ask."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from restante import limits
from restante.errors import ConfigError
from restante.formats import whisper

if TYPE_CHECKING:
    from restante.client.aio_sources import AsyncSource
    from restante.client.sources import Source
    from restante.formats.policy import Policy
    from restante.networks.rlpx.enode import Enode

_HEX_TOPIC = re.compile("(?:0x)?([0-9a-fA-F]{8})", re.ASCII)
_SECONDS = re.compile("[0-9]{1,12}", re.ASCII)


def parse_time(text: str) -> int:
    """Unix seconds of a number of them or of ISO 8601 (UTC where no offset is given).

    Raises ConfigError `time`.
    """
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"not a time: {text[:60]!r}",
            code="time",
            hint="unix seconds, or as in 2026-11-22T16:30:00Z",
        ) from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def parse_topic(text: str) -> bytes:
    """The topic of 8 hex digits, else of a name as Whisper hashes it."""
    match = _HEX_TOPIC.fullmatch(text)
    return bytes.fromhex(match[1]) if match else topic_of_name(text)


def topic_of_name(name: str) -> bytes:
    """The first four bytes of the name's Keccak-256."""
    from restante.networks.keccak import keccak256

    return keccak256(name.encode())[: whisper.TOPIC_BYTES]


def parse_enodes(texts: Sequence[str]) -> "list[Enode]":
    """Peers of a command line, each once. Raises ConfigError `enode`."""
    if not texts:
        return []
    from restante.networks.rlpx.enode import Enode

    return list(dict.fromkeys(Enode.parse(text) for text in texts))


def sources_named(
    policy: "Policy",
    named: Sequence[str],
    proxy: str | None,
    *,
    grace_s: float = limits.SOURCE_GRACE_S,
) -> "list[Source]":
    """The sources that options name, else those of the policy file.

    `grace_s` is how long an answer may take to begin.
    """
    from restante.client.sources import parse_source, sources_of

    if named:
        return [parse_source(text, proxy=proxy, grace_s=grace_s) for text in named]
    return sources_of(policy, proxy=proxy, grace_s=grace_s)


def async_sources_named(
    policy: "Policy",
    named: Sequence[str],
    proxy: str | None,
    *,
    grace_s: float = limits.SOURCE_GRACE_S,
) -> "list[AsyncSource]":
    """As `sources_named`, for asyncio."""
    from restante.client.aio_sources import async_sources_of, parse_async_source

    if named:
        return [parse_async_source(text, proxy=proxy, grace_s=grace_s) for text in named]
    return async_sources_of(policy, proxy=proxy, grace_s=grace_s)
