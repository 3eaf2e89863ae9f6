"""How envelopes and what an answer claims are printed, for people and for machines."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante.cli.output import complain
from restante.errors import ConfigError, RestanteError
from restante.formats import whisper

if TYPE_CHECKING:
    from restante.cli.keys import Opened
    from restante.client import Summary
    from restante.formats.descriptor import Descriptor
    from restante.rules.query import Found

LIVE = -1
"""The window of an envelope that came from a peer, and is in no batch that is known yet."""


def show_time(time_s: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def opener_of(
    key_files: Sequence[Path], password_files: Sequence[Path], ask: bool, ask_key: bool
) -> "Callable[[bytes], Opened | None] | None":
    """What decrypts an envelope's data, if any secret was named."""
    named = os.environ.get("RESTANTE_PASSWORD")
    secrets = (key_files, password_files, ask, ask_key, named, os.environ.get("RESTANTE_KEY"))
    if not any(secrets):
        return None
    try:
        from restante.cli.keys import Opener, environment_key
        from restante.cli.keys import ask_key as prompt_for_key
    except ImportError as error:
        raise ConfigError(
            f"decrypting needs {error.name}", code="extra", hint="install restante[whisper]"
        ) from error

    asked = [click.prompt("Password", hide_input=True, err=True)] if ask else []
    more = [prompt_for_key()] if ask_key else []
    if (key := environment_key("RESTANTE_KEY")) is not None:
        more.append(key)
    words = [*asked, *([named] if named else [])]
    return Opener.of(key_files, password_files, words, more)


def printable(text: str) -> str:
    """The same text with everything escaped that could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JsonLines:
    """One object a line: envelopes, and at the end `summary` or `error`."""

    def __init__(self, opener: "Callable[[bytes], Opened | None] | None") -> None:
        self._open = opener

    def envelope(self, found: "Found", proof: Path | None = None) -> None:
        """One of the answer, and where its proof was saved."""
        value: dict[str, Any] = {
            "id": found.id.hex(),
            "topic": found.topic.hex(),
            "sent_s": found.sent_s,
            "window": None if found.window == LIVE else found.window,
            "raw": found.raw.hex(),
        }
        if self._open is not None:
            opened = self._open(whisper.parse(found.raw).data)
            value["payload"] = None if opened is None else opened.payload.hex()
            value["text"] = None if opened is None else opened.text
            value["signer"] = None if opened is None or not opened.signer else opened.signer.hex()
        if proof is not None:
            value["proof"] = str(proof)
        click.echo(json.dumps(value))

    def summary(self, told: "Summary", d: "Descriptor", since: int) -> None:
        value = {**summary_value(told), "begun": since <= told.size}
        click.echo(json.dumps({"summary": value}))

    def error(self, error: RestanteError, cursor: str) -> None:
        value = {"code": error.code, "message": str(error), "hint": error.hint, "cursor": cursor}
        click.echo(json.dumps({"error": value}))
        complain(error, as_json=True)


def _windows(first: int, end: int) -> str:
    """The windows [first, end) in words."""
    return f"window {first}" if end == first + 1 else f"windows {first} to {end - 1}"


def summary_value(told: "Summary") -> dict[str, Any]:
    """A summary as JSON."""
    return {
        "exhausted": told.exhausted,
        "since": told.since,
        "size": told.size,
        "complete_to_window": told.complete_to_window,
        "final_before_s": told.final_before_s,
        "waits_for": told.waits_for,
        "blind": told.blind,
        "watch_unknown": told.unknown,
        "counts": {topic.hex(): count for topic, count in told.counts.items()},
        "absent": None if told.absent is None else [topic.hex() for topic in told.absent],
        "cursor": told.cursor,
        "requests": told.requests,
        "rounds": told.rounds,
        "bytes_fetched": told.bytes_fetched,
        "complaints": [
            {"source": c.source, "code": c.code, "path": c.path, "detail": c.detail}
            for c in told.complaints
        ],
    }


class TextLines:
    """For a person: a line for each envelope, its text below, then what the answer claims."""

    def __init__(self, opener: "Callable[[bytes], Opened | None] | None") -> None:
        self._open = opener

    def envelope(self, found: "Found", proof: Path | None = None) -> None:
        """One of the answer, and where its proof was saved."""
        click.echo(
            f"{show_time(found.sent_s)}  {found.topic.hex()}  {found.id.hex()[:16]}  "
            f"{'live' if found.window == LIVE else f'window {found.window}'}  "
            f"{len(found.raw)} bytes"
        )
        if proof is not None:
            click.echo(f"    proof: {printable(str(proof))}")
        if self._open is None:
            return
        opened = self._open(whisper.parse(found.raw).data)
        if opened is None:
            click.echo("    (not for these keys)")
        elif opened.text is not None:
            click.echo(f"    {printable(opened.text)}")
        else:
            click.echo(f"    0x{opened.payload.hex()}")

    def summary(self, told: "Summary", d: "Descriptor", since: int) -> None:
        for line in self._lines(told, d, since):
            click.echo(line)

    @staticmethod
    def _lines(told: "Summary", d: "Descriptor", since: int) -> Iterator[str]:
        total = sum(told.counts.values())
        if total:
            yield ""
        yield f"{total} envelope{'' if total == 1 else 's'}; every byte verified"
        if since > told.size:
            yield f"the range has not begun: window {since} is not in the archive yet"
        for topic, count in told.counts.items():
            gone = told.absent is not None and topic in told.absent
            span = f"none, proved for {_windows(told.since, told.size)}"
            yield f"  {topic.hex()}: {span if gone and told.size > told.since else count}"
        if told.size:
            end = show_time(d.end_s(told.complete_to_window))
            yield f"complete to window {told.complete_to_window} (arrivals until {end})"
        else:
            yield "the archive is empty"
        yield f"final for what was sent before {show_time(told.final_before_s)}"
        if told.waits_for is not None:
            first, end_window = told.waits_for
            first = max(first, since)
            until = f"windows {first} on" if end_window is None else _windows(first, end_window)
            yield f"more may come in {until}"
        for a, b in told.blind:
            yield f"blind: {_windows(a, b)}, watched by too few: empty there is not quiet"
        for a, b in told.unknown:
            yield f"watch unknown: {_windows(a, b)}"
        if not told.exhausted:
            yield "stopped at the limit; there may be more"
        yield f"{told.requests} requests in {told.rounds} rounds, {told.bytes_fetched} bytes"
        yield f"cursor: {told.cursor}"

    def error(self, error: RestanteError, cursor: str) -> None:
        complain(error)
        click.echo(f"what was printed before is verified; to go on: --cursor {cursor}", err=True)


def not_here(static: dict[str, Any]) -> str:
    """A line about a configured peer (a row of `static`) that is not reached."""
    key, _, address = static["enode"].removeprefix("enode://").partition("@")
    return printable(f"not here: {key[:16]}…@{address}: {static['error']}")
