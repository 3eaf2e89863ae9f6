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

# --- trace ---------------------------------------------------------------------------------
# A line may hold a whole packet (16 MiB) in hex, its envelope once more, and the row's names.
TRACE_LINE_MAX_BYTES = 48 * 1024 * 1024
# Rows handed on at once: enough to share one fsync, few enough not to hold the loop (40 ms).
TRACE_GROUP_MAX = 1_024
# A truth file lists every hash of its trace.
TRACE_TRUTH_MAX_BYTES = 64 * 1024 * 1024

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
# Windows that n = 1 commits under one fsync (design §8).
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

# --- query, client -------------------------------------------------------------------------
# A query's topics are looked up in every segment of its range.
QUERY_TOPICS = 1_024
# Whisper's topics have 4 bytes; other networks' are names.
TOPIC_MAX_BYTES = 255
# A cursor has some 200 bytes.
CURSOR_CHARACTERS = 1_024
# A checkpoint that is behind the newest by no more may be its source's ordinary delay.
CHECKPOINT_LAG_WINDOWS = 3
# Once one source has given a valid checkpoint, the others have this long to give theirs.
CHECKPOINT_PATIENCE_S = 3.0
# Requests carried out at once; and objects that a query begins with, until it has seen that its
# sources serve what is right and how much of its limit they fill.
CLIENT_WORKERS = 8
# Objects (segments, indexes) read ahead of the one that is answered next: quiet windows are small.
CLIENT_AHEAD = 1_024
# Bytes that are read ahead: what a client holds besides the envelopes of its answer.
CLIENT_AHEAD_BYTES = 32 * 1024 * 1024
# Entry bundles of one round, and those remembered: a month's roll-ups stand in some 35.
LOG_BUNDLES_AT_ONCE = 32
LOG_BUNDLES_KEPT = 64
# The root of an hour of 1,000 topics and 300 pages, or of an index of 600 blocks.
ROLLUP_PREFIX_BYTES = 32 * 1024
# Requests of one byte by which a client finds out from where on a source has files, in one round.
RETENTION_PROBES = 8
# An error's body, read for its code alone.
SOURCE_ERROR_BYTES = 4_096
# Segments whose blocks are kept while proofs of one answer are made.
PROOF_SEGMENTS_KEPT = 4
# Complaints that one call lists; beyond them a liar only repeats itself.
COMPLAINTS_KEPT = 1_000
# An answer must begin, and a slow one be done, within this time, plus what its bytes need at least.
SOURCE_GRACE_S = 15.0
SOURCE_CONNECT_S = 5.0
# Below 16 KiB/s a page takes longer than another source does.
SOURCE_MIN_BYTES_PER_S = 16 * 1024
# Decisions read at once at a start.
ENTRIES_AT_ONCE = 1_024
# Bodies pushed or handed on at once; the rest is asked for again.
BODIES_PUSH_BYTES = 16 * 1024 * 1024
# How often the engine is asked for new entries: a thirtieth of a window at 60 times real speed.
ENGINE_POLL_S = 0.02
# The same while no window is to be decided: 1 % of a core less.
ENGINE_IDLE_POLL_S = 0.2
# A peer, engine or network that failed is tried again after at least and at most this long.
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
# Attempts to hand a certificate to one validator; it also comes by the engine.
CERTIFICATE_ATTEMPTS = 5

# --- journal -------------------------------------------------------------------------------
# Windows whose story is kept for `status`: an hour.
JOURNAL_WINDOWS = 120
# Proposers (and sets of each) that one window's story names: keys are free.
JOURNAL_PROPOSERS = 64
# From an own cosignature to the first reading of the peers', and how often it is repeated: they
# need a few file writes as we did.
COSIGNATURE_FIRST_S = 0.03
COSIGNATURE_ROUNDS = 8
# Without a new tree of our own, peers are still read now and then.
COSIGNATURE_IDLE_S = 30.0
# Looks at the network's connection in one window.
WATCH_LOOKS = 15
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

# How often who follows a query asks for a newer checkpoint: a quarter of what is promised between a
# window's checkpoint and its being shown. An answer that has not begun by then is asked for anew.
FOLLOW_CHECKPOINT_S = 1.0
FOLLOW_GRACE_S = 3.0
# The same for one who waits for an envelope of its own, which is over soon.
FOLLOW_OWN_S = 0.25
# Ids that a watcher remembers having shown, so that what came live is not shown again when it is
# sealed: five minutes of 300/s, some 10 MB.
WATCH_SHOWN_IDS = 100_000
# What may wait to be printed, of the index and of peers together.
WATCH_AHEAD = 256
# How long a command waits for Whisper peers to answer, or to take what it sends; and how often it
# says that there is none.
LIVE_CONNECT_S = 10.0
LIVE_PATIENCE_S = 5.0
# A peer that demands so many times the set's own work is not worked for.
LIVE_POW_TIMES = 10

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
# How often an adoption says how far it is.
ADOPT_TOLD_EVERY_S = 10.0
# Blocks of roll-ups whose places a gateway remembers, at 49 bytes: three hours of 4 GiB.
GATEWAY_SECTIONS = 200_000

# --- networks/whisper: shh/6 with peers ----------------------------------------------------------
# A status, PoW requirement, filter or rate-limit message has at most some 100 bytes.
SHH_CONTROL_MAX_BYTES = 4_096
# A messages response names at most every envelope of one of our packets (SHH_PACKET_BYTES).
SHH_RESPONSE_MAX_BYTES = 1024 * 1024
SHH_RESPONSE_MAX_ITEMS = 8_192
# Every shh peer sends its Status at once; geth gives its whole handshake as long.
SHH_STATUS_S = 5.0
# geth's broadcast tick; and how soon a peer is served again that had no room for all.
SHH_TICK_S = 0.3
SHH_TICK_BUSY_S = 0.05
# A packet that is relayed closes above this: a peer that reads 15 kB/s has it before anything in it
# is so old (20 s past its expiry) that geth would cut us off. One envelope may be larger, below the
# 1 MiB that every peer takes.
SHH_PACKET_BYTES = 256 * 1024
# While so much is not written out, a peer is given nothing more: it has its envelopes in time.
SHH_BACKLOG_BYTES = 256 * 1024
# Relayed to one peer in one tick, where its link takes it at once.
SHH_TICK_BYTES = 4 * 1024 * 1024
# Envelopes looked at for one peer in one tick, 4 to 9 ms during which nobody else has a turn; and
# for all of them, 16 to 36 ms of every 66 at least: peers that join walk through all that lives.
SHH_TICK_LOOKS = 4_096
SHH_TICK_LOOKS_ALL = 16_384
# Envelopes that a peer may have looked at once more since it wants what it did not want before: all
# that lives twice over, and then 3 % of a core. geth's light clients change their filter with each
# topic that they join; who does nothing else waits for what lives, and is given what is new.
SHH_REWIND_LOOKS = 524_288
SHH_REWIND_LOOKS_PER_S = 16_384
# Envelopes kept for peers that join or are slow: a window of 300,000 in 26 s, some 60 MB besides
# their bytes. Beyond these the oldest are relayed no more.
SHH_LIVE_ENVELOPES = 262_144
SHH_LIVE_BYTES = 256 * 1024 * 1024
# Ids remembered after that, so that a repeat costs one hash: twice so many are 50 MB.
SHH_FADED_IDS = 262_144
# Envelopes that wait for their time (sent ahead of the clock, or worked scantily) for one peer; at
# most half of a tick's looks are for these.
SHH_HELD = 8_192
# What peers brought and reception has not judged: a peer is not read while more of it waits than is
# free of this. One packet of each (16 MiB) may still come in above its share, so nobody is read
# while there is more in all than the second figure.
SHH_QUEUE_BYTES = 32 * 1024 * 1024
SHH_QUEUE_ALL_BYTES = 64 * 1024 * 1024
# What an envelope costs in memory besides its bytes: small ones must not be free.
SHH_ENVELOPE_OVERHEAD_BYTES = 300
# The garbage collector of a node looks for cycles after so many new objects, some 10 MB at most: a
# group of arrivals is 5,000 that are not garbage, and Python's own 700 would look at them all.
COLLECTED_AFTER_OBJECTS = 20_000
# Arrivals handed on at once: enough to share one fsync, few enough not to hold the loop.
SHH_GROUP_ENVELOPES = 1_024
SHH_GROUP_BYTES = 4 * 1024 * 1024
# Under load groups are at least so far apart, so that they share their fsyncs.
SHH_LINGER_S = 0.02
# What a peer may make us do for nothing, in units of one hash (3 µs): a repeat of its own is one,
# a refused envelope ten, a message that brings nothing ten, each with one more for every 1,000
# bytes; a new filter five hundred. The burst is several packets of 16 MiB, or 10,000 envelopes that
# only our own rules refuse; the rate, 0.6 % of a core.
SHH_USELESS_BURST = 100_000
SHH_USELESS_PER_S = 2_000
# Requests to the mail server by one peer: clients ask for page after page, each a round trip.
SHH_REQUESTS_PER_S = 5
SHH_REQUESTS_BURST = 50
# Peers that left, as `restante peers` shows them.
SHH_DEPARTED = 64
# Inbound peers at once, unless the operator says otherwise: geth's own default.
SHH_PEERS = 50
# A static peer is dialled again after at least and at most so long, half as much again by lot: the
# first within a client's patience, the last seldom enough for a host that is gone.
SHH_REDIAL_FIRST_S = 0.5
SHH_REDIAL_MAX_S = 30.0
# A link that held so long was good: dialling begins anew with the shortest pause.
SHH_LINK_GOOD_S = 30.0
# Ages by which the clock is judged, of each peer, and of each in one group of arrivals: enough to
# tell, and nothing to pay for. What a peer brings at first is its old pool.
SKEW_AGES = 32
SKEW_AGES_A_GROUP = 8
SKEW_FRESH_AFTER_S = 5.0
# What a peer brings within so long is one age: a peer that was cut off itself, and heals, brings
# all that lived on within a few ticks.
SKEW_MOMENT_S = 1.0
# An older word says nothing of the clock as it is now.
SKEW_MEMORY_S = 600.0
# Ages that one peer must have given before it counts.
SKEW_MIN_AGES = 5
# Topics whose bloom bits are remembered: where peers filter, an envelope is tested for each.
BLOOM_TOPICS_CACHED = 16_384

# --- rlpx ----------------------------------------------------------------------------------------
# An auth has some 300 bytes and 100 to 300 of padding (EIP-8); the rest is room for later versions.
RLPX_HANDSHAKE_MAX_BYTES = 2_048
# geth's bound on hello and all that comes before both sides have agreed.
RLPX_BASE_MAX_BYTES = 2_048
# devp2p v5: uncompressed, before anything is taken apart.
RLPX_MESSAGE_MAX_BYTES = 16 * 1024 * 1024
# What snappy can make of a byte: a copy of three bytes stands for 64. Lengths that claim more lie.
RLPX_SNAPPY_RATIO = 22
# Fields of a hello, its capabilities, and the name that a peer gives itself: geth offers four.
RLPX_HELLO_ITEMS = 32
RLPX_CAPABILITIES = 64
RLPX_CLIENT_BYTES = 256
# 128 digits, a host name of 253 characters and what is around them.
RLPX_ENODE_CHARACTERS = 512
# From the connection to hello, in all: geth's handshake time-out.
RLPX_CONNECT_S = 5.0
RLPX_HANDSHAKE_S = 5.0
# geth's figures: a ping, and the silence after which a peer is gone. Silent is who ends no message,
# so a byte a second is silence too.
RLPX_PING_S = 15.0
RLPX_SILENT_S = 30.0
# Frames of devp2p's own (ping, pong, what is passed over; one more for each RLPX_BASE_MAX_BYTES)
# that a peer may send at once, and again with each of our pings: it owes a pong and a ping of its
# own for each, and those of two hours during which a full pool kept us from reading.
RLPX_BASE_FRAMES = 1_024
RLPX_BASE_FRAMES_A_PING = 16
# Who takes less than this in this time does not read: geth's write time-out, and what keeps a drip
# from counting as reading.
RLPX_STALL_S = 20.0
RLPX_STALL_BYTES = 64 * 1024
# What may wait for one peer: room for a few packets below 1 MiB. Mail waits for `backlog_bytes`.
RLPX_BACKLOG_BYTES = 8 * 1024 * 1024
# Until the other end has read why we leave.
RLPX_CLOSE_S = 2.0
# Inbound peers at once: geth's default for all. Those that are configured come on top.
RLPX_INBOUND = 50
RLPX_INBOUND_PER_ADDRESS = 8
# Connections that are not peers, yet or any more: twice 50 peers that return at once.
RLPX_HANDSHAKES = 128
RLPX_HANDSHAKES_PER_ADDRESS = 16
# Inbound connections of one address: a burst, and one each second; and how long one that broke the
# protocol is not heard. geth waits 30 s between any two. Loopback and private networks are exempt.
RLPX_ACCEPT_BURST = 16
RLPX_ACCEPT_PER_S = 1.0
RLPX_BARRED_S = 30.0
# Addresses remembered for that; those forgotten first have been quiet for longest.
RLPX_ADDRESSES = 4_096
# Bytes of messages that are not whole yet, of all peers: four of the largest. Less than a read's
# worth is not counted.
RLPX_UNFINISHED_BYTES = 64 * 1024 * 1024
RLPX_UNFINISHED_FREE_BYTES = 256 * 1024

# --- mail server ---------------------------------------------------------------------------------
# A request is one envelope of at most a few topics; 1,024 of them and a full filter have 6 KB.
MAIL_REQUEST_BYTES = 64 * 1024
# status-go's page: what 0 stands for, and what no request may exceed.
MAIL_PAGE = 1_000
# What "until now" reaches ahead, as in status-go.
MAIL_AHEAD_S = 60
# Envelopes of one batched packet: half of what a peer takes, and room for one of any size alone.
MAIL_BATCH_BYTES = 512 * 1024
# What may wait for one peer before its mail waits too: enough to keep a link busy.
MAIL_BACKLOG_BYTES = 1024 * 1024
# A peer that takes less than this of its mail in this time does not read, as with any link.
MAIL_STALL_S = RLPX_STALL_S
MAIL_STALL_BYTES = RLPX_STALL_BYTES
MAIL_POLL_S = 0.01
# What a page may wait for a slow reader in all, while others wait for their turn.
MAIL_PATIENCE_S = 5.0
# How often those are looked at that wait for their own reading.
MAIL_LOOK_S = 0.5
# One page, as long as status-go pushes; a request that cannot be paged, which brings everything.
MAIL_PAGE_S = 60.0
MAIL_UNPAGED_S = 300.0
# Requests that wait, in all, of one peer, of one address.
MAIL_QUEUE = 512
MAIL_QUEUE_PER_PEER = 8
MAIL_QUEUE_PER_ADDRESS = 64
# Requests that are answered at once, in all, of one address, and such as cannot be paged: each
# holds what the client reads ahead (CLIENT_AHEAD_BYTES).
MAIL_RUNNING = 8
MAIL_RUNNING_PER_ADDRESS = 4
MAIL_RUNNING_UNPAGED = 4
# Requests of one address: a key costs nothing, and each request up to 0.3 ms before it is refused.
MAIL_REQUESTS_PER_S = 20
MAIL_REQUESTS_BURST = 200
MAIL_ADDRESSES = 4_096
# Envelopes handed on between two looks at what else there is to do: some 2 ms.
MAIL_AT_ONCE = 64
# How often the index is asked for a newer checkpoint, in real time: a fifteenth of a window.
MAIL_REFRESH_S = 2.0
# Windows read at first, an hour; each time twice as many, while too little is found.
MAIL_SLICE_WINDOWS = 120
# But where all is read, no more than this, so that little is held however much the network carries.
MAIL_SLICE_ALL_WINDOWS = 240
# Windows of a chapter of the topic book: a day.
MAIL_CHAPTER_WINDOWS = 2_880
# (day, topic) pairs that the topic book holds: some 50 MB. Older days are forgotten first.
MAIL_TOPICS = 400_000
# The book's file, at some 20 bytes a pair; it is written so often at most.
MAIL_BOOK_BYTES = 32 * 1024 * 1024
MAIL_BOOK_EVERY_S = 600.0
# What the sources did not give to be learnt is asked for again after this.
MAIL_LEARN_RETRY_S = 60.0
# Times during which the index stood still that are remembered, and their file.
MAIL_STALLS = 4_096
MAIL_STALLS_BYTES = 1024 * 1024
