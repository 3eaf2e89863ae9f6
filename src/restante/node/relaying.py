"""What a node's network relays after a start: what its pool holds and what still lives.

So neither a restart nor `kill -9` within a tick of the network's costs the network an envelope that
was acknowledged here, or one that was posted while no peer was there.
"""

import asyncio

from restante import limits
from restante.formats.descriptor import SENT_AHEAD_S, Descriptor
from restante.node.durable.pool import Pool
from restante.ports import Network
from restante.rules.pool import PoolIndex


async def relay_again(
    network: Network, pool: Pool, index: PoolIndex, d: Descriptor, now_ms: int
) -> None:
    """Hand the network what may still live at `now_ms` of the pool as it is now, a group a turn."""
    stop = index.size
    oldest_ms = now_ms - (d.ttl_max_s + SENT_AHEAD_S) * 1000
    start = max(index.position_at(oldest_ms), stop - limits.SHH_LIVE_ENVELOPES)
    for first in range(start, stop, limits.SHH_GROUP_ENVELOPES):
        last = min(first + limits.SHH_GROUP_ENVELOPES, stop)
        # What was released meanwhile is in the index, and had its chance.
        network.resume([pool.read(position) for position in range(max(first, pool.floor), last)])
        await asyncio.sleep(0)
