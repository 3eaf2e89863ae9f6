"""`restante watch`: what arrives for some topics, live, and after a break first what was missed."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from restante import limits
from restante.cli.output import reports
from restante.cli.printing import JsonLines, TextLines, opener_of, printable
from restante.cli.words import parse_topic, sources_named, topic_of_name
from restante.errors import ConfigError, InvalidEncoding, RestanteError, StateError

if TYPE_CHECKING:
    from restante.client import Client
    from restante.client.follow import Behind
    from restante.rules.query import Mode, Query


@click.command()
@click.option(
    "--policy", "policy_file", required=True, envvar="RESTANTE_POLICY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The set's policy file: whose keys are trusted, and where its archive is served.",
)  # fmt: skip
@click.option(
    "--source", "sources", multiple=True, metavar="URL|DIR",
    help="Ask here, in this order, instead of the policy file's contacts. Repeatable.",
)  # fmt: skip
@click.option("--proxy", metavar="URL", help="HTTP or SOCKS proxy (socks5://…) for all sources.")
@click.option(
    "--topic", "topics", multiple=True, metavar="HEX|NAME",
    help="8 hex digits, or a name, hashed as Whisper does. Repeatable; none only with --mode all.",
)  # fmt: skip
@click.option("--topic-name", "names", multiple=True, help="A name, also if it looks like hex.")
@click.option(
    "--mode", type=click.Choice(["bucket", "exact", "all"]), default="bucket", show_default=True,
    help="What is fetched, and so what an observer learns; see restante query --help.",
)  # fmt: skip
@click.option(
    "--since", type=click.IntRange(min=0), metavar="SIZE",
    help="The first time: from window SIZE on, instead of from now on.",
)  # fmt: skip
@click.option(
    "--state", "state_file", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep here how far was printed, instead of in this user's state directory.",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Forget how far was printed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--key-file", "key_files", multiple=True, type=click.Path(dir_okay=False, path_type=Path),
    help="Decrypt with the key (64 hex digits: symmetric or private) in this file. Repeatable.",
)  # fmt: skip
@click.option(
    "--password-file", "password_files", multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Decrypt with the password in this file's first line. Repeatable.",
)  # fmt: skip
@click.option("--ask-password", is_flag=True, help="Ask for a password to decrypt with.")
@click.option("--ask-key", is_flag=True, help="Ask for a key to decrypt with.")
@reports
def watch(
    policy_file: Path,
    sources: Sequence[str],
    proxy: str | None,
    topics: Sequence[str],
    names: Sequence[str],
    mode: "Mode",
    since: int | None,
    state_file: Path | None,
    fresh: bool,
    as_json: bool,
    key_files: Sequence[Path],
    password_files: Sequence[Path],
    ask_password: bool,
    ask_key: bool,
) -> None:
    """Print what arrives for the topics given, until Ctrl-C.

    A window's envelopes come once the window is sealed, everything verified. After a broken link
    or a restart first comes what the index holds since the last checkpoint, nothing twice: how
    far was printed is kept on disk, for each set of topics (after a kill the last line may come
    again). The first time it begins now, or at --since.

    \b
    Examples:
      restante watch --policy policy --topic my-chat --password-file secret
      restante watch --policy policy --topic 5a4ea131 --json | jq -r .id
      restante watch --policy policy --mode all --since 0

    What is wrong with a source is said on standard error, and it is tried again.

    Exit codes: 130 interrupted, 1 failed, 2 usage, 3 the set contradicts itself.
    """
    from restante.client import Client, FolderMemory, read_policy
    from restante.rules.query import Query

    policy = read_policy(policy_file)
    wanted = (*map(parse_topic, topics), *map(topic_of_name, names))
    query = Query(wanted, mode=mode)
    opener = opener_of(key_files, password_files, ask_password, ask_key)
    named = sources_named(policy, sources, proxy, grace_s=limits.FOLLOW_GRACE_S)
    printer = JsonLines(opener) if as_json else TextLines(opener)
    memory = FolderMemory()
    name = f"{(policy.set_id or b'').hex()[:16]}-{query.hash().hex()[:16]}.json"
    place = Place(state_file or memory.root / "watch" / name)
    if fresh:
        place.forget()
    with Client(policy, named, memory) as client:
        begun = place.read()
        if begun is None:
            begun = (_size(client) if since is None else since), None
        _follow(client, replace(query, since=begun[0], cursor=begun[1]), printer, place)


class Place:
    """How far was printed: the tree size that was begun at, and a cursor. A file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[int, str | None] | None:
        """(tree size, cursor); None the first time. Raises StateError `watch-state`."""
        try:
            with self._path.open("rb") as file:
                value = json.loads(file.read(2 * limits.CURSOR_CHARACTERS))
            if value["version"] != 1:
                raise ValueError(f"version {value['version']}")
            since, cursor = value["since"], value["cursor"]
            possible = type(since) is int and 0 <= since <= limits.TREE_SIZE_MAX
            if not possible or not isinstance(cursor, str | None):
                raise ValueError("no tree size and cursor")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise StateError(
                f"{self._path} does not say how far was printed: {error}",
                code="watch-state",
                hint="--fresh begins anew",
            ) from error
        return since, cursor

    def write(self, since: int, cursor: str | None) -> None:
        """Keep it, durably."""
        value = {"version": 1, "since": since, "cursor": cursor}
        from restante.durable import write_file

        write_file(self._path, json.dumps(value).encode())

    def forget(self) -> None:
        """Begin anew."""
        self._path.unlink(missing_ok=True)


def _size(client: "Client") -> int:
    """The tree size of now: from there on everything is new. Waits until a source answers."""
    from restante.client.follow import Following
    from restante.rules.query import Query

    waiting = Following(Query(topics=(), mode="all"))
    while True:
        try:
            return client.refresh().checkpoint.size
        except RestanteError as error:
            for behind in waiting.failed(error):
                _complain(behind)
        time.sleep(limits.FOLLOW_CHECKPOINT_S)


def _follow(client: "Client", query: "Query", printer: JsonLines | TextLines, place: Place) -> None:
    from restante.client.follow import Behind, Came, Caught, follow

    place.write(query.since, query.cursor)
    broken = False
    try:
        for news in follow(client, query):
            match news:
                case Came(found, cursor):
                    with _uninterrupted():
                        printer.envelope(found)
                        sys.stdout.flush()
                        place.write(query.since, cursor)
                case Caught(size, cursor):
                    place.write(query.since, cursor)
                    if broken:
                        click.echo(f"complete again, to window {size - 1}", err=True)
                    broken = False
                case Behind():
                    broken = True
                    _complain(news)
    except InvalidEncoding as error:
        raise ConfigError(str(error), code=error.code, hint="--fresh begins anew") from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: what was printed must be known as printed."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _complain(behind: "Behind") -> None:
    click.echo(f"nobody answers, trying on: {printable(str(behind.error))}", err=True)
