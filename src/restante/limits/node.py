"""Bounds on durable state, HTTP, quotas, roll-ups and the gateway."""

from restante.limits.formats import CAR_MAX_BLOCKS

# --- durable state: pool, lock, archive, local engine, folder store --------------------------
# A pool file: what is released goes by whole files, so this is the disk held in vain at most.
POOL_FILE_BYTES = 16 * 1024 * 1024
# A certificate of 16 validators has 1.5 KB; every validator reads whatever junk comes first.
ENGINE_ENTRY_BYTES = 16 * 1024
# Entries in one answer of an engine: at most 4 MiB.
ENGINE_PAGE_ENTRIES = 256
# How long a writer of a shared SQLite file waits for the others before it says unavailable.
SQLITE_BUSY_S = 10.0
# The longest archive path has 60 characters and a name.
ARCHIVE_PATH_CHARACTERS = 255
# Windows that n = 1 commits under one fsync.
COMMIT_GROUP_WINDOWS = 256
# Sizes whose partial tiles and bundles stay: a client may hold a checkpoint that old, in windows.
PARTIALS_KEPT = 20
# A descriptor, policy, note or checkpoint: none has reason to come near it.
NAMED_FILE_BYTES = 256 * 1024
# A failing store is asked again after at least and at most this long.
OUTBOX_RETRY_FIRST_S = 0.5
OUTBOX_RETRY_MAX_S = 60.0
# Findings of fsck that are listed one by one; beyond them a rotten disk only repeats itself.
FSCK_FINDINGS = 1_000

# --- deciding ------------------------------------------------------------------------------
# Decisions read at once at a start.
ENTRIES_AT_ONCE = 1_024
# Bodies pushed or handed on at once; the rest is asked for again.
BODIES_PUSH_BYTES = 16 * 1024 * 1024
# How often the engine is asked for new entries: a thirtieth of a window at 60 times real speed.
ENGINE_POLL_S = 0.02
# The same while no window is to be decided: 1 % of a core less.
ENGINE_IDLE_POLL_S = 0.2
# The same by a set of one, which knows what it appends: only junk is seen later.
ENGINE_ALONE_POLL_S = 1.0
# A peer, engine or network that failed is tried again after at least and at most this long.
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
# Attempts to hand a certificate to one validator; it also comes by the engine.
CERTIFICATE_ATTEMPTS = 5

# --- node: configuration, HTTP, peers, quotas ------------------------------------------------
# A configuration with every option and two dozen peers has some 5 KB.
CONFIG_MAX_BYTES = 256 * 1024
# A validator that takes longer to connect or to send the next bytes is asked again later.
PEER_CONNECT_S = 2.0
PEER_TIMEOUT_S = 10.0
# A whole answer, also a dripping one: 64 MiB at 2 MB/s.
PEER_DEADLINE_S = 40.0
# 15 peers, each with a proposal, a page, bodies and a read under way.
PEER_CONNECTIONS = 64
# Longer than a window, so that connections last.
PEER_KEEPALIVE_S = 60.0
# The largest answer to a proposal names ANSWER_IDS ids and their positions.
ANSWER_BYTES = 2 * 1024 * 1024
# Bodies in one answer and in one push; asked again for the rest.
BODIES_ANSWER_BYTES = 16 * 1024 * 1024

# --- journal -------------------------------------------------------------------------------
# Windows whose story is kept for `status`: an hour.
JOURNAL_WINDOWS = 120
# Proposers (and sets of each) that one window's story names: keys are free.
JOURNAL_PROPOSERS = 64

# --- cosignatures, the watch ------------------------------------------------------------------
# From an own cosignature to the first reading of the peers', and how often it is repeated: they
# need a few file writes as we did.
COSIGNATURE_FIRST_S = 0.03
COSIGNATURE_ROUNDS = 8
# Without a new tree of our own, peers are still read now and then.
COSIGNATURE_IDLE_S = 30.0
# Looks at the network's connection in one window.
WATCH_LOOKS = 15

# --- HTTP ----------------------------------------------------------------------------------
# A whole request body must have come by then.
BODY_DEADLINE_S = 30.0
# Connections at once; beyond them the least useful one is closed (node/wire/connections.py).
HTTP_CONNECTIONS = 512
# Connections that say nothing are closed; longer than a window, so that peers' last.
HTTP_KEEPALIVE_S = 75
# After a stop, requests under way may finish for so long.
HTTP_GRACE_S = 3
# Larger files are read and sent in pieces of this.
HTTP_PIECE_BYTES = 1024 * 1024
# A block by CID: pages and roots.
IPFS_CAR_BLOCKS = CAR_MAX_BLOCKS

# --- outsiders' proposals ------------------------------------------------------------------
# Outsiders' proposals that wait, in all, of one address, and their bytes: keys and ids are free.
OUTSIDER_QUEUE = 256
OUTSIDER_QUEUE_PER_ADDRESS = 32
OUTSIDER_QUEUE_BYTES = 64 * 1024 * 1024
# Sets built for outsiders in one window, in all and for one address: each may cost 0.4 s.
OUTSIDER_BUILDS = 16
OUTSIDER_BUILDS_PER_ADDRESS = 4
# Bodies that one outsider's proposal may make us fetch: what a third of a full batch may lack.
OUTSIDER_UNKNOWN_IDS = 16_384
# Addresses and keys barred, and answers remembered, in one window.
OUTSIDER_BARRED = 4_096
OUTSIDER_ANSWERS = 1_024
# How often an outsider looks for a newer checkpoint while it waits for one, at most.
FOLLOW_POLL_S = 0.05

# Segments that a mirror reads at once: enough to hide a long way, few enough not to be a flood.
MIRROR_WORKERS = 8

# --- gateway -------------------------------------------------------------------------------
# How old a checkpoint may be that is served without asking the sources: real time.
GATEWAY_FRESH_S = 0.5
# What no source had is not asked for again within this time, and so many such paths are kept.
GATEWAY_ABSENT_S = 0.5
GATEWAY_ABSENT = 4_096
# Sources asked at once.
GATEWAY_WORKERS = 8

# --- retention -----------------------------------------------------------------------------
# Windows between two looks at what may go: half an hour.
RETENTION_EVERY = 60

# --- node/wire: what one source may cost a listener -----------------------------------------------

# Connections of one address, or of one IPv6 /64: an eighth of all, and what one peer opens at most
# (PEER_CONNECTIONS). A reverse proxy that is not trusted counts as one source.
HTTP_CONNECTIONS_PER_SOURCE = 64
# Connections of all trusted proxies together: half of all, so that peers always find a place.
HTTP_CONNECTIONS_PROXIED = 256
# A request head is one packet or two; whoever needs longer only holds a place.
HTTP_HEAD_S = 10.0
# A reader that does not empty what was written for it by then is gone: a piece at 17 kB/s; bodies
# at 1 MB/s, for which peers themselves wait PEER_DEADLINE_S.
HTTP_STALL_S = 60.0
# The same line about connections is logged once in so long.
HTTP_LOG_S = 10.0
# Envelopes handed in by one source: Whisper's whole network sends fewer, and a burst is a backlog.
ENVELOPE_RATE_PER_S = 200
ENVELOPE_BURST = 1_000
# Sources whose rate is remembered; those forgotten first have long had their burst back.
ENVELOPE_SOURCES = 4_096

# --- operating: keys, denylist, proxies, backups ------------------------------------------------
# scrypt at N = 2^17 takes 128 MiB and some 0.4 s, once at a start: OWASP's figure for passphrases.
KEY_SCRYPT_LOG_N = 17
# 1 GiB: what other age tools write is 2^18.
KEY_SCRYPT_LOG_N_MAX = 20
# A key in its text form, sealed and armored, has some 600 bytes.
KEY_FILE_BYTES = 4096
PASSPHRASE_FILE_BYTES = 4096
# A log outruns a backup of its few partial files only where windows are very short.
BACKUP_TRIES = 8
# CIDs that a gateway withholds, and the file that names them, with room for comments.
DENYLIST_CIDS = 100_000
DENYLIST_BYTES = 32 * 1024**2
# How often that file is looked at.
DENYLIST_LOOK_S = 1.0

# --- roll-ups in a node --------------------------------------------------------------------------
# Rows of a large segment that the block index takes under one hold: others wait some 20 ms.
BLOCK_INDEX_GROUP = 4_096
# Batches that are indexed before a node is at work: what a crash can leave. A lost index is made
# anew beside everything.
INDEX_AT_START = COMMIT_GROUP_WINDOWS
# Records of a roll-up that are held while it is taken apart into its windows.
SPOOL_BYTES = 16 * 1024 * 1024
# Attempts at lost segments between two looks for all of them: some five minutes.
REFILL_LOOK_EVERY = 60
# Who did not answer is asked last for so long.
SILENT_S = 30.0
# Spans of a level that are released at once: at most so many times its children's files.
RELEASE_GROUP = 64
# Rows of a page table whose pages are read together, neighbours in one request.
PAGES_AT_ONCE = 256
# Windows behind which a start asks the peers for the tree that k cosigned, and how often it asks.
AWAY_WINDOWS = 4
AWAY_ASKS = 8
# How often a start that is behind asks whether anybody keeps its next window still: some 3 s where
# all answer or refuse. One that is silent costs twice ADOPT_ANSWER_S more each time.
ADOPT_ASKS = 5
ADOPT_ANSWER_S = 2.0
# How often a start asks for the batches that count for *new* before it asks whether they were given
# up: some 3 s.
RECENT_ASKS = 5
# How often an adoption says how far it is.
ADOPT_TOLD_EVERY_S = 10.0
# Blocks of roll-ups whose places a gateway remembers, at 49 bytes: three hours of 4 GiB.
GATEWAY_SECTIONS = 200_000
