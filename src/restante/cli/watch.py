"""`restante watch`: what arrives for some topics, live, and after a break first what was missed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from restante import limits
from restante.cli.output import reports
from restante.cli.printing import JsonLines, TextLines, opener_of
from restante.cli.watched import Place
from restante.cli.words import async_sources_named, parse_enodes, parse_topic, topic_of_name
from restante.errors import ConfigError, InvalidEncoding

if TYPE_CHECKING:
    from restante.rules.query import Mode


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
    "--peer", "peers", multiple=True, metavar="ENODE",
    help="Listen to this Whisper node, too: what it carries is shown at once. Repeatable.",
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
    peers: Sequence[str],
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

    With --peer what a Whisper node carries is shown as it comes, marked live: its work and times
    are checked, but no validator has it yet. It is not shown again once it is sealed; what the
    peer did not bring comes from the index. In mode exact the peer is told the topics (and the
    topics of others that share their bits); else it sends everything, and learns nothing.

    \b
    Examples:
      restante watch --policy policy --topic my-chat --password-file secret
      restante watch --policy policy --topic 5a4ea131 --json | jq -r .id
      restante watch --policy policy --mode all --since 0
      restante watch --policy policy --topic my-chat --peer enode://<node id>@127.0.0.1:30303

    What is wrong with a source is said on standard error, and it is tried again.

    Exit codes: 130 interrupted, 1 failed, 2 usage, 3 the set contradicts itself.
    """
    import asyncio

    from restante.cli.watching import watch as go_on
    from restante.client import FolderMemory, read_policy
    from restante.client.aio import AsyncClient
    from restante.node.waiting import first_of
    from restante.rules.query import Query

    policy = read_policy(policy_file)
    wanted = (*map(parse_topic, topics), *map(topic_of_name, names))
    query = Query(wanted, mode=mode)
    opener = opener_of(key_files, password_files, ask_password, ask_key)
    printer = JsonLines(opener) if as_json else TextLines(opener)
    memory = FolderMemory()
    name = f"{(policy.set_id or b'').hex()[:16]}-{query.hash().hex()[:16]}.json"
    place = Place(state_file or memory.root / "watch" / name)
    enodes = parse_enodes(peers)
    if fresh:
        place.forget()

    async def run() -> None:
        named = async_sources_named(policy, sources, proxy, grace_s=limits.FOLLOW_GRACE_S)
        async with AsyncClient(policy, named, memory) as client:
            await go_on(client, query, since, printer, place, enodes)

    try:
        asyncio.run(run())
    except InvalidEncoding as error:
        raise ConfigError(str(error), code=error.code, hint="--fresh begins anew") from error
    except BaseExceptionGroup as group:
        raise first_of(group) from group
