"""How a watcher works: the index followed, peers listened to, everything printed once."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from restante import limits
from restante.cli.printing import JsonLines, TextLines, printable
from restante.cli.watched import Place
from restante.client.aio import AsyncClient, AsyncTrusted
from restante.client.aio_follow import follow_async
from restante.client.follow import Behind, Came, Caught, Following, News
from restante.client.shown import Shown
from restante.errors import RestanteError
from restante.rules.query import Found, Query

if TYPE_CHECKING:
    from restante.networks.rlpx.enode import Enode


class Watching:
    """Prints what is new, whichever way it came, and keeps where that leaves the watcher."""

    def __init__(
        self, query: Query, printer: JsonLines | TextLines, place: Place, shown: Shown | None
    ) -> None:
        """`shown` where envelopes come live, too."""
        self._since, self._cursor = query.since, query.cursor
        self._printer = printer
        self._place = place
        self._shown = shown
        self._broken = False
        place.write(self._since, self._cursor)
        if shown is not None:
            place.keep_shown(shown)

    def take(self, news: News | Found) -> None:
        """One piece of news, or an envelope of a peer. What it prints is known as printed when it
        returns: nothing in it awaits, so that Ctrl-C waits for it."""
        match news:
            case Came(found, cursor):
                self._show(found)
                self._reached(cursor)
            case Caught(size, cursor):
                self._reached(cursor)
                if self._shown is not None:
                    self._shown.caught(size)
                    self._place.keep_shown(self._shown)
                if self._broken:
                    click.echo(f"complete again, to window {size - 1}", err=True)
                self._broken = False
            case Behind():
                self._broken = True
                _complain(news)
            case _:
                self._show(news)

    def _show(self, found: Found) -> None:
        if self._shown is not None and not self._shown.first(found.id, found.sent_s):
            return
        self._printer.envelope(found)
        sys.stdout.flush()
        if self._shown is not None:
            self._place.add_shown(found.id, found.sent_s)

    def _reached(self, cursor: str) -> None:
        if cursor != self._cursor:
            self._cursor = cursor
            self._place.write(self._since, cursor)


async def watch(
    client: AsyncClient,
    query: Query,
    since: int | None,
    printer: JsonLines | TextLines,
    place: Place,
    peers: "Sequence[Enode]",
) -> None:
    """Print until interrupted. `since` None: the first time, from now on."""
    begun = place.read()
    if begun is None:
        begun = (await _asked(client)).checkpoint.size if since is None else since, None
    query = replace(query, since=begun[0], cursor=begun[1])
    if not peers:
        watching = Watching(query, printer, place, None)
        async for news in follow_async(client, query):
            watching.take(news)
        return
    from restante.cli.live import Live

    d = (await _asked(client)).descriptor
    watching = Watching(query, printer, place, Shown(d, place.shown()))
    both: asyncio.Queue[News | Found] = asyncio.Queue(limits.WATCH_AHEAD)
    async with Live(peers, d, query) as live, asyncio.TaskGroup() as tasks:
        tasks.create_task(_pass_on(follow_async(client, query), both))
        tasks.create_task(_pass_on(live.envelopes(), both))
        while True:
            watching.take(await both.get())


async def _pass_on(
    source: AsyncIterator[News] | AsyncIterator[Found], to: asyncio.Queue[News | Found]
) -> None:
    async for each in source:
        await to.put(each)


async def _asked(client: AsyncClient) -> AsyncTrusted:
    """The newest checkpoint. Waits until a source gives one."""
    waiting = Following(Query(topics=(), mode="all"))
    while True:
        try:
            return await client.refresh()
        except RestanteError as error:
            for behind in waiting.failed(error):
                _complain(behind)
        await asyncio.sleep(limits.FOLLOW_CHECKPOINT_S)


def _complain(behind: Behind) -> None:
    click.echo(f"nobody answers, trying on: {printable(str(behind.error))}", err=True)
