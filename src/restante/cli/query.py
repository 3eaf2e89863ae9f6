"""`restante query`: verified envelopes of topics, from sources that nobody has to trust."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from restante.cli.output import exit_code, reports
from restante.cli.printing import JsonLines, TextLines, opener_of, printable
from restante.cli.words import parse_time, parse_topic, sources_named, topic_of_name
from restante.errors import ConfigError, InvalidEncoding, RestanteError

if TYPE_CHECKING:
    from restante.client import Answer, Trusted
    from restante.rules.query import Found, Mode, Query


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
@click.option(
    "--proofs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save a proof file of each envelope there; see restante verify.",
)
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
    proofs: Path | None,
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
      restante query --policy policy --topic 5a4ea131 --proofs ./proofs

    Secrets may also stand in the environment: RESTANTE_PASSWORD, and a key as RESTANTE_KEY.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 no source served what verifies, 4 unavailable,
    130 interrupted.
    """
    from restante.client import Client, FolderMemory, ProcessMemory, read_policy
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
    opener = opener_of(key_files, password_files, ask_password, ask_key)
    given = sources_named(policy, sources, proxy)
    printer = JsonLines(opener) if as_json else TextLines(opener)
    memory = ProcessMemory() if no_memory else FolderMemory()
    with Client(policy, given, memory) as client:
        trusted = client.refresh()
        try:
            answer = trusted.query(asked)
        except InvalidEncoding as error:
            raise ConfigError(str(error), code=error.code) from error
        _print(answer, printer, trusted, proofs, asked)


def _print(
    answer: "Answer",
    printer: "JsonLines | TextLines",
    trusted: "Trusted",
    proofs: Path | None,
    asked: "Query",
) -> None:
    """The answer, then its summary, or the error that ended it."""
    try:
        for found in answer:
            file = None if proofs is None else _save_proof(trusted, found, proofs, asked.mode)
            printer.envelope(found, file)
    except RestanteError as error:
        printer.error(error, answer.cursor)
        sys.exit(exit_code(error))
    finally:
        for complaint in trusted.complaints:
            click.echo(f"complaint: {printable(str(complaint))}", err=True)
    printer.summary(answer.summary, trusted.descriptor, asked.since)


def _save_proof(trusted: "Trusted", found: "Found", directory: Path, mode: "Mode") -> Path:
    """Save what proves an envelope; the file."""
    from restante.durable import write_file
    from restante.formats.proof import SUFFIX

    file = directory / f"{found.id.hex()}{SUFFIX}"
    write_file(file, trusted.evidence(found, mode).encode())
    return file
