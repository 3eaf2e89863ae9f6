"""`restante query`: verified envelopes of topics, from sources that nobody has to trust."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante.cli.output import complain, exit_code, reports
from restante.errors import ConfigError, InvalidEncoding, RestanteError
from restante.formats import whisper

if TYPE_CHECKING:
    from restante.cli.keys import Opened
    from restante.client import Answer, Complaint, Summary
    from restante.formats.descriptor import Descriptor
    from restante.rules.query import Found, Mode

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
    from restante.networks.whisper.keccak import keccak256

    return keccak256(name.encode())[: whisper.TOPIC_BYTES]


def show_time(time_s: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@click.command(short_help="Retrieve the envelopes of topics, verified.")
@click.option(
    "--policy",
    "policy_file",
    required=True,
    envvar="RESTANTE_POLICY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The set's policy file: whose keys are trusted, and where its archive is served.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="URL|DIR",
    help="Ask here, in this order, instead of the policy file's contacts. Repeatable.",
)
@click.option("--proxy", metavar="URL", help="HTTP or SOCKS proxy (socks5://…) for all sources.")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="HEX|NAME",
    help="8 hex digits, or a name, hashed as Whisper does. Repeatable; none only with --mode all.",
)
@click.option("--topic-name", "names", multiple=True, help="A name, also if it looks like hex.")
@click.option("--since", type=click.IntRange(min=0), metavar="SIZE", help="From window SIZE on.")
@click.option("--from", "sent_from", metavar="T", help="Sent at T or later.")
@click.option("--to", "sent_to", metavar="T", help="Sent before T.")
@click.option(
    "--mode",
    # `MODES` of rules/query, which would be loaded at every press of Tab.
    type=click.Choice(("bucket", "exact", "all")),
    default="bucket",
    show_default=True,
    help="What is fetched, and so what an observer learns; see above.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many envelopes.")
@click.option("--cursor", help="Go on where an earlier answer of the same query ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, then the summary.")
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Decrypt with the key (64 hex digits: symmetric or private) in this file. Repeatable.",
)
@click.option(
    "--password-file",
    "password_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Decrypt with the password in this file's first line. Repeatable.",
)
@click.option("--ask-password", is_flag=True, help="Ask for a password to decrypt with.")
@click.option("--ask-key", is_flag=True, help="Ask for a key to decrypt with.")
@click.option("--no-memory", is_flag=True, help="Neither use nor keep the last checkpoint.")
@reports
def query(
    policy_file: Path,
    sources: Sequence[str],
    proxy: str | None,
    topics: Sequence[str],
    names: Sequence[str],
    since: int | None,
    sent_from: str | None,
    sent_to: str | None,
    mode: "Mode",
    limit: int | None,
    cursor: str | None,
    as_json: bool,
    key_files: Sequence[Path],
    password_files: Sequence[Path],
    ask_password: bool,
    ask_key: bool,
    no_memory: bool,
) -> None:
    """Retrieve the envelopes of topics from an archive.

    Nothing is printed that was not verified from the policy's keys down: a source that lies is
    named on standard error, and the next one is asked. Times are unix seconds or ISO 8601.

    \b
    Modes, what they cost, and what one who sees all your fetches learns:
      bucket  In every window of the range the pages of the topic's bucket, hit or not: a page
              or more for each window. Learns the bucket, which many topics share.
      exact   Only pages of windows that have the topic: cheapest. Learns the topic.
      all     Everything in the range. Learns the range alone.

    \b
    Examples:
      restante query --policy policy --topic 5a4ea131
      restante query --policy policy --topic my-chat --password-file secret --from 2026-11-22
      restante query --policy policy --source http://127.0.0.1:8700 --topic 5a4ea131 --json
      restante query --policy policy --mode all --since 1200 --limit 50

    Secrets may also stand in the environment: RESTANTE_PASSWORD, and a key as RESTANTE_KEY.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 no source served what verifies, 4 unavailable,
    130 interrupted.
    """
    from restante.client import Client, FolderMemory, ProcessMemory, parse_source, read_policy
    from restante.rules.query import Query

    if since is not None and (sent_from or sent_to):
        raise ConfigError("give --since or a range of times, not both", code="query")
    policy = read_policy(policy_file)
    asked = Query(
        topics=(*map(parse_topic, topics), *map(topic_of_name, names)),
        since=since or 0,
        sent_from_s=None if sent_from is None else parse_time(sent_from),
        sent_to_s=None if sent_to is None else parse_time(sent_to),
        mode=mode,
        limit=limit,
        cursor=cursor,
    )
    opener = _opener(key_files, password_files, ask_password, ask_key)
    given = [parse_source(text, proxy=proxy) for text in sources] if sources else None
    if given is None and proxy is not None:
        from restante.client.sources import sources_of

        given = sources_of(policy, proxy=proxy)
    printer = _Json(opener) if as_json else _Text(opener)
    memory = ProcessMemory() if no_memory else FolderMemory()
    with Client(policy, given, memory) as client:
        trusted = client.refresh()
        try:
            answer = trusted.query(asked)
        except InvalidEncoding as error:
            raise ConfigError(str(error), code=error.code) from error
        _print(answer, printer, trusted.descriptor, lambda: trusted.complaints, asked.since)


def _print(
    answer: "Answer",
    printer: "_Json | _Text",
    d: "Descriptor",
    complaints: "Callable[[], Sequence[Complaint]]",
    since: int,
) -> None:
    """The answer, then its summary, or the error that ended it."""
    try:
        for found in answer:
            printer.envelope(found)
    except RestanteError as error:
        printer.error(error, answer.cursor)
        sys.exit(exit_code(error))
    finally:
        for complaint in complaints():
            click.echo(f"complaint: {printable(str(complaint))}", err=True)
    printer.summary(answer.summary, d, since)


def _opener(
    key_files: Sequence[Path], password_files: Sequence[Path], ask: bool, ask_key: bool
) -> "Callable[[bytes], Opened | None] | None":
    """What decrypts an envelope's data, if any secret was named."""
    import os

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


class _Json:
    """One object a line: envelopes, and at the end `summary` or `error`."""

    def __init__(self, opener: "Callable[[bytes], Opened | None] | None") -> None:
        self._open = opener

    def envelope(self, found: "Found") -> None:
        value: dict[str, Any] = {
            "id": found.id.hex(),
            "topic": found.topic.hex(),
            "sent_s": found.sent_s,
            "window": found.window,
            "raw": found.raw.hex(),
        }
        if self._open is not None:
            opened = self._open(whisper.parse(found.raw).data)
            value["payload"] = None if opened is None else opened.payload.hex()
            value["text"] = None if opened is None else opened.text
            value["signer"] = None if opened is None or not opened.signer else opened.signer.hex()
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
        "bytes_fetched": told.bytes_fetched,
        "complaints": [
            {"source": c.source, "code": c.code, "path": c.path, "detail": c.detail}
            for c in told.complaints
        ],
    }


class _Text:
    """For a person: a line for each envelope, its text below, then what the answer claims."""

    def __init__(self, opener: "Callable[[bytes], Opened | None] | None") -> None:
        self._open = opener

    def envelope(self, found: "Found") -> None:
        click.echo(
            f"{show_time(found.sent_s)}  {found.topic.hex()}  {found.id.hex()[:16]}  "
            f"window {found.window}  {len(found.raw)} bytes"
        )
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
        yield f"{told.requests} requests, {told.bytes_fetched} bytes"
        yield f"cursor: {told.cursor}"

    def error(self, error: RestanteError, cursor: str) -> None:
        complain(error)
        click.echo(f"what was printed before is verified; to go on: --cursor {cursor}", err=True)
