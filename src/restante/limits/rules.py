"""Bounds on what a role remembers, asks and waits for."""

# --- rules ---------------------------------------------------------------------------------
# Pages read from one peer's pool per window: more than two full batches of the largest descriptor.
# A peer that claims more, or begins anew again and again, is read on after the next cut-off.
SHARE_ASKS_PER_WINDOW = 64
# How long after a cut-off peers' pools are read: what is still on its way comes by itself, and what
# does not is here before the grace ends and proposals come.
SHARE_AFTER_MS = 2_000
# How long an amendment waits for validators that have not answered: most answer in some 10 ms.
PATIENCE_MS = 1_000
# When a peer that failed, or was not ready, is asked again.
RETRY_MS = 1_000
# How long one holder of a body is waited for before the next is asked.
FETCH_MS = 2_000
# When a proposer should come back to a validator that knows no better time.
NOT_YET_MS = 1_000
# Ids in one page of a pool: 128 KiB of answer.
POOL_PAGE_IDS = 4_096
# Ids of bodies that were examined and refused, remembered so that they are not fetched again.
REFUSED_IDS = 65_536
# Topic keys kept so that a busy topic is hashed once: 65,536 are 8 MB.
TOPIC_KEYS_CACHED = 65_536
# Proposals of one window that are remembered by key, so that bodies can be pushed for them.
PROPOSALS_PER_KEY = 16
PROPOSAL_KEYS = 64
# Id lists remembered in one window, so that differences to them can be sent; and ids in them all:
# 200,000 are some 25 MB. Outsiders and validators have such a room each.
ID_LISTS = 256
ID_LISTS_IDS = 200_000
# Sets that are built for one key in one window: every amendment of two rounds.
BUILDS_PER_KEY = 34
# Ids that one answer names; a proposer comes back for more.
ANSWER_IDS = 50_000
# Rounds a proposer amends; the worst schedule found needed 4.
AMENDMENTS = 16
