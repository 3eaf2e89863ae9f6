"""Bounds on reading: queries, following, watching."""

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

# --- following, watching ------------------------------------------------------------------
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
