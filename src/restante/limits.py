"""Every named bound, with its reason. A bound that nobody can explain is a bug."""

# --- dagcbor -------------------------------------------------------------------------------
# Objects are small (a proposal of 50,000 ids is 1.6 MB); pages are raw blocks and never come here.
DAGCBOR_MAX_BYTES = 4 * 1024 * 1024
# Our deepest object has four levels; recursion must never meet Python's own limit.
DAGCBOR_MAX_DEPTH = 16
# Items in all, so that a few bytes cannot claim millions.
DAGCBOR_MAX_ITEMS = 262_144

# --- blocks and pages ----------------------------------------------------------------------
# Kubo's and bitswap's common block limit (1 MiB): what every IPFS node takes.
BLOCK_MAX_BYTES = 1024 * 1024
# A page: large enough that hashing beats requests, small enough to fetch for one topic.
PAGE_TARGET_BYTES = 64 * 1024
# The largest envelope any set may admit: a page must hold it with its two varints.
ENVELOPE_MAX_BYTES = BLOCK_MAX_BYTES - 16

# --- rules ---------------------------------------------------------------------------------
# Ids read from one peer's pool per window: two full batches of the largest descriptor. A peer
# that claims more is read on after the next cut-off.
SHARE_IDS_PER_WINDOW = 200_000
# Ids in one page of a pool: 128 KiB of answer.
POOL_PAGE_IDS = 4_096
# Ids of bodies that were examined and refused, remembered so that they are not fetched again.
REFUSED_IDS = 65_536
# Topic keys kept so that a busy topic is hashed once: 65,536 are 8 MB.
TOPIC_KEYS_CACHED = 65_536
# Proposals of one window whose id lists are remembered, so that differences to them can be sent.
PROPOSALS_PER_KEY = 16
PROPOSAL_KEYS = 64
# Ids that one answer names; a proposer comes back for more.
ANSWER_IDS = 50_000
# Rounds a proposer amends; the worst schedule found needed 4.
AMENDMENTS = 16

# --- rlp, whisper --------------------------------------------------------------------------
# devp2p v5 takes no message above 16 MiB uncompressed, and a node that joins a busy peer may be
# sent that much at once (go-ethereum #17560).
RLP_MAX_BYTES = 16 * 1024 * 1024
# Whisper's deepest message has three levels; recursion must never meet Python's own limit.
RLP_MAX_DEPTH = 16
# Items in all, so that a few megabytes of empty strings cannot fill the memory.
RLP_MAX_ITEMS = 524_288
# 16 MiB hold 55,188 of the smallest envelopes that hold a message (304 bytes).
WHISPER_PACKET_MAX_ENVELOPES = 65_536
# geth's MaxMessageSize: 20 + the bytes of data may not exceed it; peers are cut off above it.
WHISPER_MAX_MESSAGE_BYTES = 1024 * 1024

# --- tree, tiles ---------------------------------------------------------------------------
# One entry per window: 2^40 of them take a million years. Tile levels, and all loops over them,
# stay below six.
TREE_SIZE_MAX = 1 << 40
# The length prefix of c2sp.org/tlog-tiles is a u16.
BUNDLE_ENTRY_MAX_BYTES = 65_535
