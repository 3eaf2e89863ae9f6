"""The mail server over real archives and the real client: who gets what, in which order."""

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest

from restante import limits
from restante.client import FolderSource
from restante.errors import ConfigError
from restante.formats import rlp, whisper
from restante.formats.level import STANDARD, span
from restante.formats.page import topic_key
from restante.formats.paths import segment_path
from restante.networks.keccak import keccak256
from restante.networks.whisper import bloom, crypt
from restante.networks.whisper.mail_request import MailKeys
from restante.node.mailserver.index import IndexPlace
from restante.node.mailserver.role import MailServer
from restante.testing.archive_fixture import envelope, make_archive, make_set

MADE = make_set(levels=STANDARD, rollup_lag=2)
D = MADE.descriptor
WINDOWS = 300
RARE, BUSY, OTHER = bytes.fromhex("5a4ea131"), bytes.fromhex("f8946aac"), bytes.fromhex("9c22ff5f")
# An affected topic: two of its bits fall into one byte, and geth tests one of them alone.
QUIRKY = bytes.fromhex("1716941b")
PASSWORD = b"k" * 32
SIGNER = b"\x11" * 32
START, END = D.start_s(0), D.start_s(WINDOWS)
KEYS = MailKeys(PASSWORD)


def traffic():
    """Windows → envelopes: busy everywhere, rare in every 50th, some that come late."""
    held = {}
    for window in range(WINDOWS):
        start_s = D.start_s(window)
        own = [envelope(BUSY, start_s + n, b"%d" % n) for n in range(3)]
        if window % 50 == 7:
            own.append(envelope(RARE, start_s + 5, b"rare"))
        if window % 100 == 30:
            own.append(envelope(QUIRKY, start_s + 5, b"quirky"))
        if window % 60 == 40:
            own.append(envelope(OTHER, start_s - 300, b"late", ttl_s=300))
        held[window] = own
    return held


TRAFFIC = traffic()
ALL = sorted(
    (whisper.parse(raw).sent_s, sha256(raw).digest(), window, raw)
    for window, raws in TRAFFIC.items()
    for raw in raws
)


def expected(lower_s, upper_s, topics=None, margin_s=90):
    """A dumb list's answer: in the range, or in a window that was not surely sealed at `lower`."""
    late = D.window_of((lower_s - margin_s) * 1000)
    return [
        raw
        for sent_s, _, window, raw in ALL
        if sent_s <= upper_s
        and (sent_s >= lower_s or window >= late)
        and (topics is None or whisper.topic_of(raw) in topics)
    ]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"), TRAFFIC, WINDOWS, made=MADE)


class Clock:
    """A wall clock that stands a minute behind the archive's end."""

    def __init__(self, now_s=None):
        self.now_s = END + 40 if now_s is None else now_s

    def now_ms(self):
        return self.now_s * 1000

    async def sleep_until(self, when_ms):
        raise AssertionError("a mail server waits for nothing but real time")


class Peer:
    """A peer that notes what it is sent."""

    def __init__(self, number=0, *, address="192.0.2.1:30303"):
        self.node_id = bytes([number]) * 64
        self.address = address
        self.backlog_bytes = 0
        self.gone = False
        self.sent = []
        self.reads = True
        self.ends = asyncio.Event()

    def send(self, code, payload):
        self.sent.append((code, payload))
        if not self.reads:
            self.backlog_bytes += len(payload)
        if code == 125:
            self.ends.set()

    @property
    def mail(self):
        """Envelopes, in order."""
        return [
            raw
            for code, payload in self.sent
            if code == 127
            for raw in ([payload] if _is_bare(payload) else whisper.parse_packet(payload))
        ]

    @property
    def end(self):
        """What the last 125 holds."""
        assert self.sent[-1][0] == 125
        return rlp.decode(self.sent[-1][1])

    async def asks(self, server, payload):
        """Ask, and wait for the end."""
        self.sent.clear()
        self.ends.clear()
        server.request(self, payload)
        await asyncio.wait_for(self.ends.wait(), 20)
        return self.mail


def _is_bare(payload):
    try:
        whisper.scan(payload)
    except Exception:
        return False
    return True


def wrapped(content, sign_with=SIGNER):
    data = crypt.encrypt_symmetric(content, PASSWORD, sign_with=sign_with)
    return whisper.assemble(1_795_400_000, 50, bytes(4), data, 5)


def raw_request(lower_s, upper_s, *topics):
    times = lower_s.to_bytes(4, "big") + upper_s.to_bytes(4, "big")
    return wrapped(times + (bloom.encode(bloom.of_topics(topics)) if topics else b""))


def paged(lower_s, upper_s, limit, *topics, cursor=b"", batch=False, named=()):
    filter_ = bloom.encode(bloom.of_topics(topics) if topics else bloom.FULL)
    numbers = [rlp.encode_uint(n) for n in (lower_s, upper_s, limit)]
    flag = b"\x01" if batch else b""
    return wrapped(rlp.encode([*numbers[:2], filter_, list(named), numbers[2], cursor, flag]))


def place_of(archive, directory, sources=None):
    sources = sources or [FolderSource(archive.root)]
    return IndexPlace(D, MADE.policy(), sources, directory)


@asynccontextmanager
async def serving(archive, directory, *, sources=None, clock=None, learnt=True, **options):
    place = place_of(archive, directory, sources)
    server = MailServer(place, clock or Clock(), KEYS, **options)
    running = asyncio.ensure_future(server.run())
    try:
        while not running.done():
            await asyncio.sleep(0.01)
            if server.index.error or (
                server.index.status()["size"]
                and not (learnt and server.index.book.low and not server.index.book.full)
            ):
                break
        yield server
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.aclose()


def run(archive, tmp_path, work, **options):
    async def within():
        async with serving(archive, tmp_path, **options) as server:
            return await work(server)

    return asyncio.run(within())


RANGES = {
    "everything": (0, 0),
    "the last hour": (END - 3_600, END),
    "a stretch in the middle": (START + 4_321, START + 6_543),
    "a second": (START + 3_001, START + 3_001),
    "before all": (0, START - 1_000),
    "after all": (END + 5_000, END + 6_000),
}


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("name", RANGES)
def test_answers_are_a_dumb_lists(archive, tmp_path, name, learnt, monkeypatch):
    """With the topic book and without it, for every way to ask."""
    lower_s, upper_s = RANGES[name]
    until_s = upper_s or END + 100
    if not learnt:
        monkeypatch.setattr(limits, "MAIL_TOPICS", 0)

    async def work(server):
        peer = Peer()
        everything = expected(lower_s, until_s)
        assert await peer.asks(server, raw_request(lower_s, upper_s)) == everything
        last = keccak256(everything[-1]) if everything else bytes(32)
        assert peer.end[32:] == last
        for topics in ((RARE,), (QUIRKY,), (RARE, OTHER), (BUSY, RARE), (b"none",)):
            matching = expected(lower_s, until_s, topics)
            assert await peer.asks(server, raw_request(lower_s, upper_s, *topics)) == matching
            one = await peer.asks(server, paged(lower_s, upper_s, 0, named=topics))
            assert one == matching
            assert await peer.asks(server, paged(lower_s, upper_s, 1000, *topics)) == matching
            assert len(peer.end) == 64
        assert not server.status()["reasons"]

    run(archive, tmp_path, work, learnt=learnt)


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("batch", [True, False])
def test_pages_fit_together(archive, tmp_path, limit, batch):
    topics = (RARE, OTHER, QUIRKY) if limit == 1 else ()

    async def work(server):
        peer, got, cursor = Peer(), [], b""
        while True:
            request = paged(START + 3_000, END, limit, *topics, cursor=cursor, batch=batch)
            page = await peer.asks(server, request)
            assert len(page) <= limit
            packets = sum(code == 127 for code, _ in peer.sent)
            assert packets == (min(1, len(page)) if batch else len(page))
            got += page
            cursor = peer.end[64:]
            assert len(cursor) in (0, 36)
            if not cursor:
                return got

    assert run(archive, tmp_path, work) == expected(START + 3_000, END, topics or None)


def test_a_page_is_pinned_to_its_tree_while_the_log_grows(tmp_path):
    """What comes between two pages, also such as was sent early, is not of this answer."""
    archive = make_archive(tmp_path / "archive", {w: TRAFFIC[w] for w in range(20)}, 20, made=MADE)

    async def work(server):
        peer = Peer()
        first = await peer.asks(server, paged(START, END, 30))
        cursor = peer.end[64:]
        for _ in range(5):
            late = envelope(RARE, D.start_s(archive.size) - 200, b"late", ttl_s=300)
            archive.append([late])
        archive.cosign()
        await server.index.refresh()
        rest = await peer.asks(server, paged(START, END, 1000, cursor=cursor))
        assert first + rest == [raw for _, _, w, raw in ALL if w < 20]
        newer = await peer.asks(server, paged(START, END, 1000, RARE))
        assert len(newer) == 1 + 5

    run(archive, tmp_path / "state", work)


def test_another_servers_cursor(archive, tmp_path):
    """A client that changes its server goes on at the second where it was."""

    async def work(server):
        at_s = START + 5_000
        cursor = at_s.to_bytes(4, "big") + b"\xee" * 32
        page = await Peer().asks(server, paged(START, END, 1000, cursor=cursor))
        assert page == [raw for sent_s, _, _, raw in ALL if sent_s >= at_s]

    run(archive, tmp_path, work)


def test_late_envelopes_are_found_by_who_asks_from_where_it_ended(tmp_path):
    """status-legacy#6814: sent and asked for before it reached the index."""
    archive = make_archive(tmp_path / "archive", {w: TRAFFIC[w] for w in range(20)}, 20, made=MADE)
    clock = Clock(D.start_s(20) + 10)

    async def work(server):
        peer = Peer()
        seen = set(await peer.asks(server, paged(START, 0, 1000)))
        asked_s = clock.now_s
        # Sent four minutes before that request, arrived after it.
        late = envelope(RARE, asked_s - 240, b"late", ttl_s=300)
        archive.append([late])
        archive.cosign()
        await server.index.refresh()
        seen.update(await peer.asks(server, paged(asked_s, 0, 1000, RARE)))
        assert late in seen

    run(archive, tmp_path / "state", work, clock=clock)


def test_what_a_stalled_index_withheld_is_found_afterwards(tmp_path):
    """The engine stood still for half an hour: windows that ended long before a request, sealed
    long after it. The next one brings them, also after a restart."""
    archive = make_archive(tmp_path / "archive", {w: TRAFFIC[w] for w in range(20)}, 20, made=MADE)
    clock = Clock(D.start_s(20) + 40)
    asked_s = D.start_s(80)

    async def while_it_stands_still(server):
        peer = Peer()
        seen = await peer.asks(server, paged(START, 0, 1000))
        for now_s in range(clock.now_s, asked_s + 1, 30):
            clock.now_s = now_s
            server.index._note()
        return seen

    seen = run(archive, tmp_path / "state", while_it_stands_still, clock=clock)
    for window in range(20, 90):
        archive.append(TRAFFIC[window])
    archive.cosign()
    clock.now_s = D.start_s(90) + 40

    async def afterwards(server):
        return await Peer().asks(server, paged(asked_s, 0, 1000))

    found = run(archive, tmp_path / "state", afterwards, clock=clock)
    held = [raw for window in range(90) for raw in TRAFFIC[window]]
    assert set(held) <= {*seen, *found}
    assert not set(expected(0, END, [BUSY])[:30]) & set(found)


def test_refusals_and_their_counts(archive, tmp_path):
    async def work(server):
        peer = Peer()
        for payload, text in (
            (wrapped(b"\0" * 8, sign_with=None), b"wrong signature of p2p request"),
            (
                paged(START, END, 1001),
                b"request is invalid: limit exceeds the maximum allowed value",
            ),
        ):
            await peer.asks(server, payload)
            assert peer.end == b"ERROR=" + keccak256(payload) + text
        peer.sent.clear()
        for payload in (b"", b"\xc0", b"\x00" * 100_000):
            server.request(peer, payload)
        assert not peer.sent
        server.sync_request(peer, b"whatever")
        assert peer.sent[0][0] == 124
        envelopes, cursor, final, text = rlp.decode(peer.sent[0][1])
        assert (envelopes, cursor, final) == ([], b"", b"\x01")
        assert b"does not sync" in text
        counts = server.status()["counts"]
        assert counts["unsigned"] == counts["invalid"] == counts["sync-refused"] == 1
        assert counts["malformed"] == 3

    run(archive, tmp_path, work)


def test_the_operators_rate_limit(archive, tmp_path):
    async def work(server):
        peer = Peer(1)
        assert await peer.asks(server, paged(START, END, 1))
        await peer.asks(server, paged(START, END, 2))
        assert peer.end[38:] == b"rate limit exceeded"
        assert await Peer(2).asks(server, paged(START, END, 1))

    run(archive, tmp_path, work, rate_limit_s=60)


def test_floods_are_bounded_and_others_are_served(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAIL_REQUESTS_BURST", 1000)

    async def work(server):
        flooding = [Peer(n, address="192.0.2.9:1") for n in range(40)]
        for peer in flooding:
            for _ in range(10):
                server.request(peer, paged(START, END, 5))
        refused = [peer for peer in flooding if peer.sent]
        assert len(refused) == 40
        assert server.status()["waiting"] <= limits.MAIL_QUEUE_PER_ADDRESS
        assert await Peer(99).asks(server, paged(START, END, 5))
        assert server.status()["counts"]["queue-full"] >= 40 * 10 - 64

    run(archive, tmp_path, work)


def test_one_address_is_heard_so_often(archive, tmp_path, monkeypatch):
    async def work(server):
        for n in range(limits.MAIL_REQUESTS_BURST + 50):
            server.request(Peer(n % 250, address=f"[2001:db8::{n:x}]:1"), b"\xc0")
        assert server.status()["counts"]["too-many-of-address"] >= 40

    run(archive, tmp_path, work)


def test_who_leaves_or_never_reads_costs_little(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAIL_BACKLOG_BYTES", 1_000)
    monkeypatch.setattr(limits, "MAIL_STALL_S", 0.05)

    async def work(server):
        never, gone = Peer(1), Peer(2)
        never.reads, gone.gone = False, True
        for peer in (never, gone):
            server.request(peer, paged(START, END, 1000))
        while not (server.counts["peer-never-reads"] and server.counts["peer-gone"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not gone.sent
        assert never.backlog_bytes < 2_000
        assert await Peer(3).asks(server, paged(START, END, 5))
        assert server.status()["running"] == 0

    run(archive, tmp_path, work)


def test_a_slow_reader_gets_everything(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAIL_BACKLOG_BYTES", 1_000)

    async def work(server):
        peer = Peer(1)
        peer.reads = False

        async def drain():
            while True:
                peer.backlog_bytes = max(0, peer.backlog_bytes - 2_000)
                await asyncio.sleep(0.001)

        draining = asyncio.ensure_future(drain())
        try:
            assert await peer.asks(server, raw_request(0, 0)) == expected(0, END)
        finally:
            draining.cancel()

    run(archive, tmp_path, work)


def test_slow_readers_hold_up_nobody(archive, tmp_path, monkeypatch):
    """All places are taken by peers that read a little now and then: the page of each ends early,
    with a cursor, once somebody else waits; and no place is theirs again before they have read."""
    monkeypatch.setattr(limits, "MAIL_BACKLOG_BYTES", 1_000)
    monkeypatch.setattr(limits, "MAIL_STALL_BYTES", 1)
    monkeypatch.setattr(limits, "MAIL_PATIENCE_S", 0.05)
    monkeypatch.setattr(limits, "MAIL_LOOK_S", 0.01)

    async def work(server):
        slow = [Peer(n, address=f"192.0.2.{n // 4}:{n}") for n in range(limits.MAIL_RUNNING)]
        for peer in slow:
            peer.reads = False
            for _ in range(2):
                server.request(peer, paged(START, END, 1000))

        async def drip():
            while True:
                for peer in slow:
                    peer.backlog_bytes -= peer.backlog_bytes > 600
                await asyncio.sleep(0.001)

        dripping = asyncio.ensure_future(drip())
        try:
            honest = Peer(99, address="198.51.100.1:5")
            assert await honest.asks(server, paged(START, END, 5))
            for peer in slow:
                await asyncio.wait_for(peer.ends.wait(), 20)
                assert peer.end[64:], "it can go on from a cursor"
                assert 0 < len(peer.mail) < len(expected(START, END))
            assert server.status()["running"] == 0
            assert server.status()["waiting"] == len(slow)
            dripping.cancel()
            for peer in slow:
                peer.backlog_bytes, peer.reads = 0, True
            while server.status()["counts"].get("answered", 0) < len(slow):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            dripping.cancel()

    run(archive, tmp_path, work)


def test_who_reads_next_to_nothing_is_left(archive, tmp_path, monkeypatch):
    """A byte now and then is not reading."""
    monkeypatch.setattr(limits, "MAIL_BACKLOG_BYTES", 1_000)
    monkeypatch.setattr(limits, "MAIL_STALL_S", 0.1)
    monkeypatch.setattr(limits, "MAIL_STALL_BYTES", 400)

    async def work(server):
        peer = Peer(1)
        peer.reads = False
        server.request(peer, raw_request(0, 0))
        while not server.counts["peer-never-reads"]:
            peer.backlog_bytes -= peer.backlog_bytes > 600
            await asyncio.sleep(0.01)

    run(archive, tmp_path, work)


def test_nothing_unverified_is_handed_out(tmp_path):
    """A source that alters pages: an error with the old form, and no byte of it."""
    archive = make_archive(tmp_path / "archive", {w: TRAFFIC[w] for w in range(20)}, 20, made=MADE)
    path = segment_path(0, 19)
    data = bytearray(archive.read(path))
    data[-5] ^= 1
    archive.write(path, bytes(data))

    async def work(server):
        peer = Peer()
        page = await peer.asks(server, raw_request(START + 400, END))
        assert set(page) <= {raw for w in range(19) for raw in TRAFFIC[w]}
        assert peer.end.startswith(b"ERROR=")
        assert b"page-hash" in peer.end
        assert server.status()["reasons"][0]["code"] == "page-hash"

    run(archive, tmp_path / "state", work)


def test_below_a_sources_retention_it_serves_what_is_left(tmp_path):
    archive = make_archive(tmp_path / "archive", TRAFFIC, WINDOWS, made=MADE)
    archive.retain(260)
    gone = {raw for window in range(260) for raw in TRAFFIC[window]}

    async def work(server):
        for topics in ((), (BUSY,), (OTHER,)):
            wanted = [raw for raw in expected(0, END, topics or None) if raw not in gone]
            assert wanted
            assert await Peer().asks(server, raw_request(0, 0, *topics)) == wanted
            assert await Peer().asks(server, paged(0, 0, 1000, named=topics)) == wanted

    run(archive, tmp_path / "state", work)


def test_the_topic_book_spares_reading(archive, tmp_path):
    """A filter for a rare topic reads the pages of that topic, once all topics are known."""
    reads = []

    class Counting(FolderSource):
        def get(self, path, **options):
            data = super().get(path, **options)
            if path.startswith("segment/"):
                reads.append(len(data))
            return data

    async def work(server):
        reads.clear()
        assert await Peer().asks(server, raw_request(0, 0, b"none")) == []
        assert not reads
        assert await Peer().asks(server, raw_request(0, 0, RARE)) == expected(0, END, [RARE])
        status = server.status()
        assert (status["topics"], status["topics_windows"], status["learning"]) == (
            4,
            WINDOWS,
            False,
        )
        # Learnt once: a crash now leaves them learnt.
        while not (tmp_path / "topics.json").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    run(archive, tmp_path, work, sources=[Counting(archive.root)])
    # The next start knows them from its file.
    assert (tmp_path / "topics.json").stat().st_size > 50
    started = MailServer(place_of(archive, tmp_path), Clock(), KEYS)
    assert started.index.book.knows(range(WINDOWS))


class Remote:
    """Somebody else's source, who notes what is read; it is no folder to the client."""

    name = "https://archive.example"

    def __init__(self, root):
        self.folder = FolderSource(root)
        self.reads = []

    def get(self, path, **options):
        self.reads.append((path, options.get("offset", 0), options.get("length")))
        return self.folder.get(path, **options)

    def close(self):
        pass


class Folder(FolderSource):
    """A folder that notes the same."""

    def __init__(self, root):
        super().__init__(root)
        self.reads = []

    def get(self, path, **options):
        self.reads.append((path, options.get("offset", 0), options.get("length")))
        return super().get(path, **options)


@pytest.mark.parametrize("own", [True, False])
def test_a_stranger_that_serves_the_index_learns_buckets_alone(tmp_path, own):
    """Two topics of one bucket, one of them in some windows, one in others."""
    topics = [sha256(b"%d" % n).digest()[:4] for n in range(1_000)]
    one, other = [topic for topic in topics if topic_key(D.set_id, topic) < 2**26][:2]
    held = {}
    for window in range(6):
        own_topics = [(one, other)[window % 2], *topics[window + 100 : window + 130]]
        held[window] = [
            envelope(topic, D.start_s(window) + 1, bytes(60_000)) for topic in own_topics
        ]
    archive = make_archive(tmp_path / "archive", held, 6, made=MADE)
    source = (Folder if own else Remote)(archive.root)

    async def work(server):
        assert server.status()["by_topic"] == ("exact" if own else "bucket")
        reads = []
        for topic in (one, other):
            for payload in (paged(0, 0, 1000, named=[topic]), paged(0, 0, 1000, topic)):
                source.reads.clear()
                got = await Peer().asks(server, payload)
                assert [whisper.topic_of(raw) for raw in got] == [topic] * 3
                reads.append(
                    sorted(read for read in source.reads if read[0].startswith("segment/"))
                )
        return reads

    reads = run(archive, tmp_path / "state", work, sources=[source])
    assert reads[0]
    assert reads[0] == reads[1]
    assert reads[2] == reads[3]
    assert (reads[0] == reads[2]) is not own


def test_no_source_yet(tmp_path):
    (tmp_path / "empty").mkdir()

    async def work(server):
        peer = Peer()
        await peer.asks(server, raw_request(0, 0))
        assert peer.end[38:] == b"history is not available now (no-index)"
        assert server.status()["reasons"]

    run(None, tmp_path / "state", work, sources=[FolderSource(tmp_path / "empty")])


def test_a_key_is_needed(archive, tmp_path):
    with pytest.raises(ConfigError) as caught:
        MailServer(place_of(archive, tmp_path), Clock(), MailKeys())
    assert caught.value.code == "mail-key"
    assert span(D, 1, 0).windows == 10
