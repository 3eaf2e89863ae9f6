"""What a node's network relays after a start: what its pool holds and what still lives.

So neither a restart nor `kill -9` within a tick of the network's costs the network an envelope that
was acknowledged here, or one that was posted while no peer was there.
"""

import asyncio
from bisect import bisect_right
from itertools import accumulate

from restante import limits
from restante.formats.descriptor import SENT_AHEAD_S, Descriptor
from restante.node.durable.pool import Pool
from restante.ports import Network
from restante.rules.pool import PoolIndex


async def relay_again(
    network: Network, pool: Pool, index: PoolIndex, d: Descriptor, now_ms: int
) -> None:
    """Hand the network what may still live at `now_ms` of the pool as it is now, a group a turn;
    the newest, where that is more than a network keeps."""
    oldest_ms = now_ms - (d.ttl_max_s + SENT_AHEAD_S) * 1000
    start = max(index.position_at(oldest_ms), index.size - limits.SHH_LIVE_ENVELOPES)
    rows = list(index.rows(start, index.size))
    sums_bytes = list(accumulate(row.size_bytes for row in reversed(rows)))
    newest = rows[len(rows) - bisect_right(sums_bytes, limits.SHH_LIVE_BYTES) :]
    group: list[bytes] = []
    size_bytes = 0
    for row in newest:
        if row.position < pool.floor:
            continue  # released meanwhile: it is in the index, and had its chance
        group.append(pool.read(row.position))
        size_bytes += row.size_bytes
        if len(group) == limits.SHH_GROUP_ENVELOPES or size_bytes >= limits.SHH_GROUP_BYTES:
            network.resume(group)
            group, size_bytes = [], 0
            await asyncio.sleep(0)
    network.resume(group)
