"""Following a query with asyncio: see `restante.client.follow`."""

import asyncio
from collections.abc import AsyncIterator

from restante import limits
from restante.client.aio import AsyncClient
from restante.client.follow import Came, Following, News
from restante.errors import RestanteError
from restante.rules.query import Query


async def follow_async(
    client: AsyncClient, query: Query, *, poll_s: float = limits.FOLLOW_CHECKPOINT_S
) -> AsyncIterator[News]:
    """See `restante.client.follow.follow`."""
    following = Following(query)
    while True:
        try:
            trusted = await client.refresh()
            size = trusted.checkpoint.size
            following.answered()
            if following.grown(size):
                answer = trusted.query(following.query)
                async for found in answer:
                    yield Came(found, answer.cursor)
                    following.had(answer.cursor)
                for caught in following.caught(size, answer.summary.cursor):
                    yield caught
        except RestanteError as error:
            for behind in following.failed(error):
                yield behind
        await asyncio.sleep(poll_s)
