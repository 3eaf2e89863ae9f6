"""Bounds on what peers may cost: traces, RLPX, shh/6, old clients' mail."""

# --- trace ---------------------------------------------------------------------------------
# A line may hold a whole packet (16 MiB) in hex, its envelope once more, and the row's names.
TRACE_LINE_MAX_BYTES = 48 * 1024 * 1024
# Rows handed on at once: enough to share one fsync, few enough not to hold the loop (40 ms).
TRACE_GROUP_MAX = 1_024
# A truth file lists every hash of its trace.
TRACE_TRUTH_MAX_BYTES = 64 * 1024 * 1024

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
