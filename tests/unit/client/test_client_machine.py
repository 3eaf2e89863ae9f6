"""Machines side by side: what one round asks for, what an error ends, how far one reads ahead."""

import pytest

from restante import limits
from restante.client import Client, FolderSource, ProcessMemory, Query
from restante.client.machine import Ask, Running, SourceLeft, carry_on, got, together
from restante.errors import Unavailable
from restante.formats.level import Level
from restante.testing.archive_fixture import envelope, make_archive, make_set


class Anyone:
    name = "anyone"


SOURCE = Anyone()


def ask(path):
    return Ask(SOURCE, path, 9)


def reads(*paths):
    """A machine that reads files one after the other."""
    data = []
    for path in paths:
        (reply,) = yield [ask(path)]
        data.append(got(reply))
    return data


def drive(machine, files):
    """(result, the paths of each round)."""
    rounds, replies = [], None
    try:
        while True:
            asks = next(machine) if replies is None else machine.send(replies)
            rounds.append([a.path for a in asks])
            replies = [files.get(a.path, Unavailable("no", code="not-found")) for a in asks]
    except StopIteration as end:
        return end.value, rounds


FILES = {name: name.encode() for name in "abcdef"}


def test_a_round_is_what_all_of_them_ask_for_next():
    result, rounds = drive(together([reads("a", "b"), reads("c"), reads("d", "e", "f")]), FILES)
    assert result == [[b"a", b"b"], [b"c"], [b"d", b"e", b"f"]]
    assert rounds == [["a", "c", "d"], ["b", "e"], ["f"]]
    assert drive(together([]), FILES) == ([], [])


def test_what_two_ask_for_is_asked_for_once():
    result, rounds = drive(together([reads("a", "b"), reads("a", "c")]), FILES)
    assert result == [[b"a", b"b"], [b"a", b"c"]]
    assert rounds == [["a"], ["b", "c"]]


def test_the_first_error_ends_all():
    left = []

    def waits():
        try:
            yield from reads("a", "b", "c")
        finally:
            left.append(True)

    with pytest.raises(Unavailable):
        drive(together([waits(), reads("nowhere")]), FILES)
    assert left == [True]


def test_who_is_thrown_out_of_a_source_goes_on_elsewhere():
    def stubborn():
        while True:
            try:
                return (yield from reads("a"))
            except SourceLeft:
                continue

    both = Running(together([stubborn(), stubborn()]))
    both.throw(SourceLeft())
    assert not both.done
    drive(carry_on([both]), FILES)
    assert both.result == [[b"a"], [b"a"]]


# --- how far it reads ahead -----------------------------------------------------------------

MADE = make_set(window_s=30, ttl_max_s=30, slack_s=80)
D = MADE.descriptor


class Counting(FolderSource):
    def __init__(self, root):
        super().__init__(root)
        self.segments = []

    def get(self, path, **range_):
        if path.startswith("segment/"):
            self.segments.append(path)
        return super().get(path, **range_)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    envelopes = {w: [envelope(b"aaaa", D.start_s(w), bytes(3_000))] for w in range(200)}
    return make_archive(tmp_path_factory.mktemp("archive"), envelopes, 200, made=MADE)


def test_a_limit_bounds_what_is_fetched(archive):
    source = Counting(archive.root)
    with Client(MADE.policy(), [source], ProcessMemory()) as client:
        trusted = client.refresh()
        assert len(list(trusted.query(Query((b"aaaa",), limit=5)))) == 5
        # An envelope is certain to be next only K windows later.
        assert len(source.segments) <= 2 * (5 + D.recent_windows) + limits.CLIENT_WORKERS
        answer = client.query(Query((b"aaaa",)))
        assert len(list(answer)) == 200
        assert answer.summary.rounds == 3  # checkpoint, entries, segments


def test_bytes_bound_what_is_held(archive, monkeypatch):
    most = 0

    class Heavy(Counting):
        pass

    monkeypatch.setattr(limits, "CLIENT_AHEAD_BYTES", 50_000)
    source = Heavy(archive.root)
    with Client(MADE.policy(), [source], ProcessMemory()) as client:
        answer = client.query(Query((b"aaaa",)))
        for count, _ in enumerate(answer, 1):
            most = max(most, len(source.segments) - count)
        assert count == 200
    # A segment of one envelope is asked for by some 4.6 KB, estimated from its log entry.
    assert most <= 50_000 // 4_000 + D.recent_windows


def test_requests_do_not_grow_with_who_asks_for_the_same(archive):
    with Client(MADE.policy(), [FolderSource(archive.root)], ProcessMemory()) as client:
        answer = client.query(Query((b"aaaa",)))
        assert len(list(answer)) == 200
        # descriptor, checkpoint, the tile and bundle of 200 entries, segments, watch notes
        assert answer.summary.requests == 2 + 2 + 200 + 4
        again = client.refresh().query(Query((b"aaaa",), since=199))
        assert len(list(again)) == 1
        # Nothing changed: the checkpoint alone; then the tile and the bundle, and one segment.
        assert again.summary.requests == 1 + 2 + 1 + 4


def test_an_answer_that_was_closed_goes_no_further(archive):
    with Client(MADE.policy(), [FolderSource(archive.root)], ProcessMemory()) as client:
        answer = client.query(Query((b"aaaa",)))
        first = next(answer)
        cursor = answer.cursor
        answer.close()
        with pytest.raises(RuntimeError):
            list(answer)
        rest = list(client.query(Query((b"aaaa",), cursor=cursor)))
        assert [first.window, *(f.window for f in rest)] == list(range(200))


# --- rounds over roll-ups ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A few hundred windows, and what of a month's shape they can have: days with an index, hours
    of today, batches of the last minutes."""
    made = make_set(
        window_s=30,
        ttl_max_s=30,
        slack_s=80,
        rollup_lag=2,
        levels=(Level(2), Level(6), Level(24, "index")),
    )
    d = made.descriptor
    envelopes = {
        w: [envelope(bytes([i, 0, 0, w % 5]), d.start_s(w), bytes(400)) for i in range(12)]
        for w in range(400)
    }
    with pytest.MonkeyPatch.context() as patch:
        # So that an index has tables, and roots do not come with what they name.
        patch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 400)
        patch.setattr(limits, "INDEX_NAMES", 4)
        return make_archive(tmp_path_factory.mktemp("history"), envelopes, 400, made=made)


@pytest.mark.parametrize("prefix_bytes", [200, 32 * 1024])
@pytest.mark.parametrize("mode", ["bucket", "exact", "all"])
def test_the_rounds_of_a_long_range_are_few(history, monkeypatch, mode, prefix_bytes):
    monkeypatch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 400)
    monkeypatch.setattr(limits, "INDEX_NAMES", 4)
    monkeypatch.setattr(limits, "ROLLUP_PREFIX_BYTES", prefix_bytes)
    topics = (bytes([1, 0, 0, 1]), bytes([7, 0, 0, 3]))
    with Client(history.made.policy(), [FolderSource(history.root)], ProcessMemory()) as client:
        answer = client.query(Query(topics, mode=mode))
        assert len(list(answer)) == 2 * 80
        told = answer.summary
        assert told.complaints == ()
        # checkpoint; entries; roots; the rest of them; tables; blocks; pages
        assert told.rounds <= 7
        if mode != "all":
            # 16 days, 3 hours, and the last minutes: not 400 windows.
            assert told.requests < 250


def test_the_chain_is_no_longer_where_bytes_are_bounded(history, monkeypatch):
    """What only waits for its turn needs no other's answer."""
    monkeypatch.setattr(limits, "CLIENT_AHEAD_BYTES", 5_000)
    topics = (bytes([1, 0, 0, 1]), bytes([7, 0, 0, 3]))
    with Client(history.made.policy(), [FolderSource(history.root)], ProcessMemory()) as client:
        answer = client.query(Query(topics))
        assert len(list(answer)) == 2 * 80
        assert answer.summary.rounds <= 7


def test_pages_wait_for_no_source_that_was_left(history):
    """A liar that is found out by one day's pages is not asked for the pages of the others."""
    asked = []

    class Liar(FolderSource):
        def get(self, path, *, offset=0, length=None, max_bytes):
            data = super().get(path, offset=offset, length=length, max_bytes=max_bytes)
            asked.append(path)
            if path.startswith("segment/2/") and offset:
                return bytes(len(data))
            return data

    sources = [Liar(history.root, "liar"), FolderSource(history.root, "honest")]
    with (
        pytest.MonkeyPatch.context() as patch,
        Client(history.made.policy(), sources, ProcessMemory()) as client,
    ):
        patch.setattr(limits, "CLIENT_AHEAD_BYTES", 30_000)
        patch.setattr(limits, "INDEX_BLOCK_CONTENT_BYTES", 400)
        patch.setattr(limits, "INDEX_NAMES", 4)
        answer = client.query(Query((bytes([1, 0, 0, 1]),)))
        assert len(list(answer)) == 80
        assert [(c.source, c.code) for c in answer.summary.complaints] == [("liar", "page-hash")]
    assert sum(path.startswith("segment/2/") for path in asked) <= 2
