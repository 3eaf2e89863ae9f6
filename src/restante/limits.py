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
