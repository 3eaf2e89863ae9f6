"""Bounds on what bytes may be: blocks, pages, segments, notes, messages."""

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
# Tiles and entry bundles that one reader of a log remembers: 64 of them are about 23 days.
TILES_KEPT = 64

# --- car, entry, page, segment -------------------------------------------------------------
# A part of a segment's CAR holds pages up to this: what stores and proxies take in one request.
CAR_PART_BYTES = 64 * 1024 * 1024
# A part with its header, root, child blocks, and the one page that may stand in it alone.
CAR_MAX_BYTES = CAR_PART_BYTES + 16 * 1024 * 1024
# Two neighbouring pages of a bucket exceed 64 KiB together: some 2,050 pages and a page per bucket.
CAR_MAX_BLOCKS = 131_072
# Parts of one segment: 4 GiB of roll-up, with room.
SEGMENT_MAX_PARTS = 256
# A root is read whole by every client; its tables move into child blocks before it grows further.
SEGMENT_ROOT_MAX_BYTES = 256 * 1024
# Rows in the root, and in one page-table block: some 70 bytes each.
PAGE_TABLE_ROWS = 1024
# Topic keys in the root, and in one directory block: 64 KiB of four bytes each.
DIRECTORY_KEYS = 16_384
# Child blocks a root can name within its own limit.
SEGMENT_MAX_CHILDREN = 4096
# Topic keys have 32 bits; more buckets than pages help nobody.
BUCKET_BITS_MAX = 16
# The longest level is a day of windows; levels above it have no use.
SEGMENT_MAX_WINDOWS = 2880
SEGMENT_MAX_LEVEL = 8
# A roll-up of so many committed bytes always fits SEGMENT_MAX_PARTS and SEGMENT_MAX_CHILDREN: 8 GiB
# of the shortest records are 163 parts, and pages half filled are 320 page-table blocks.
ROLLUP_LIMIT_BYTES = 8 * 1024**3
# Topic keys that a root can name: SEGMENT_MAX_CHILDREN directory blocks of DIRECTORY_KEYS.
ROLLUP_MAX_ENVELOPES = SEGMENT_MAX_CHILDREN * 16_384
# Children of an index: a day has 24 hours; a mask of them has 8 bytes at most.
INDEX_MAX_CHILDREN = 64
# Keys and rows of an index block, so that with its heads it stays below 16 KiB: what exact mode
# pays for one topic and day.
INDEX_BLOCK_CONTENT_BYTES = 16_000
INDEX_BLOCK_MAX_BYTES = 16 * 1024
# Names of index blocks in the root, and in one table of them.
INDEX_NAMES = 1_024
# An index's root: 64 children of some 70 bytes, and 1,024 names or 4,096 tables of some 50.
INDEX_ROOT_MAX_BYTES = 256 * 1024
# What stands before a segment's pages: its root, 4,096 page-table blocks of some 64 KiB, as many
# directory blocks.
SEGMENT_HEAD_MAX_BYTES = 1024**3
# A proof file: a page and a page-table block of 1 MiB each, a root of 256 KiB, and a note; base64.
PROOF_MAX_BYTES = 4 * 1024 * 1024
# Hashes of an inclusion proof: TREE_SIZE_MAX has 40 levels.
PROOF_HASHES = 40
# Windows are counted in u64 fields of statements, and in signed columns of SQLite.
WINDOW_MAX = 2**62
# A log entry has ten short fields; an entry bundle gives it 64 KiB at most.
ENTRY_MAX_BYTES = 4096
# One range request for neighbouring pages: large enough to fill a link, small enough to retry.
PAGE_RANGE_MAX_BYTES = 8 * 1024 * 1024

# --- note, checkpoint, policy --------------------------------------------------------------
# The specification demands 16; a set has at most 16 validators, and outside witnesses may join.
NOTE_MAX_SIGNATURES = 64
# 64 lines of ML-DSA-44 (3.3 KB each), which we pass over, and a text.
NOTE_MAX_BYTES = 256 * 1024
# Key names are short; a name is a file's name and a line's first word.
NOTE_NAME_MAX_BYTES = 255
# Loaded public keys that the process remembers: outsiders' keys are free, so it must be bounded.
PUBLIC_KEYS_KEPT = 256
# c2sp.org/tlog-policy recommends at least 32 of each.
POLICY_MAX_BYTES = 64 * 1024
POLICY_MAX_KEYS = 64
POLICY_MAX_GROUPS = 64
POLICY_MAX_CONTACTS = 64
# URLs in policies and contacts.
URL_MAX_BYTES = 1024
# Proposals and pushes that one proposer sends to one validator in one window.
EXCHANGES_PER_WINDOW = 64

# --- descriptor ----------------------------------------------------------------------------
# 16 vkeys of 100 bytes, and 17 numbers.
DESCRIPTOR_MAX_BYTES = 16 * 1024
# Every validator hears every other; more than 16 is another kind of system.
DESCRIPTOR_VALIDATORS = 16
# A year-3000 clock is wrong, and times in ms stay far below 2^63.
DESCRIPTOR_TIME_MAX_S = 1 << 35
DESCRIPTOR_WINDOW_MAX_S = 3_600
# Two days, the longest that Whisper clients ever kept a message alive.
DESCRIPTOR_TTL_MAX_S = 172_800
# A floor of 10^6 is out of every phone's reach.
DESCRIPTOR_POW_FLOOR_MAX = 10**12
# 400,000 ids are 12.8 MB; a proposal has its own bound of twice that. An hour of such batches has
# no more topics than a root can name (ROLLUP_MAX_ENVELOPES).
DESCRIPTOR_BATCH_ENVELOPES = 400_000
# A batch is rebuilt in memory.
DESCRIPTOR_BATCH_BYTES = 1024**3
# 65,536 buckets of one page each are 4 GiB, more than any segment.
DESCRIPTOR_BUCKET_BITS = 16
DESCRIPTOR_ROLLUP_LAG = 2_880

# --- message -------------------------------------------------------------------------------
# What a signed message needs besides its ids: keys, hashes, names, numbers.
MESSAGE_OVERHEAD_BYTES = 4_096
# A code is a metric label; a hint is one sentence for the operator.
ANSWER_CODE_CHARACTERS = 64
ANSWER_HINT_CHARACTERS = 500
# A day: what asks for longer is a mistake.
ANSWER_RETRY_MAX_MS = 86_400_000
# Bodies asked for at once; the answer is cut by bytes long before.
BODIES_IDS = 50_000
# Cosignatures in one report: every validator's newest, and room for outside witnesses.
REPORT_ITEMS = 64

# --- contact -------------------------------------------------------------------------------
# Contacts and watch notes: a validator that was down every other window for a month has 43,200
# ranges of 14 bytes; one that bad may say less about its past.
CONTACT_MAX_BYTES = 256 * 1024
CONTACT_ENTRIES = 32
WATCH_RANGES = 8_192
