"""The client against a dumb oracle: a list, filtered and sorted."""

import random
import shutil
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante import limits
from restante.client import Client, FolderSource, Missing, ProcessMemory, Query
from restante.errors import ConfigError, VerificationFailed
from restante.formats import whisper
from restante.formats.level import Level, body_levels, children, children_kept_until
from restante.formats.paths import segment_path
from restante.testing.archive_fixture import (
    GENESIS_S,
    MadeArchive,
    MadeSet,
    envelope,
    make_archive,
    make_set,
)

MADE = make_set(window_s=30, ttl_max_s=60, slack_s=80)
D = MADE.descriptor
MODES = ["bucket", "exact", "all"]


def leveled(*levels, **parameters):
    """A set with roll-ups of so many windows; a last number below 0 is an index of so many."""
    made = tuple(Level(abs(n), "index" if n < 0 else "bodies") for n in levels)
    fields = {"window_s": 30, "ttl_max_s": 60, "slack_s": 80, "rollup_lag": 2, **parameters}
    return make_set(levels=made, **fields)


SETS = {
    "no levels": MADE,
    "an index over hours": leveled(2, 6, -12),
    "bodies alone": leveled(3, 9),
    "an index over batches": leveled(-4, rollup_lag=1),
    "some over the limit": leveled(2, 4, -16, rollup_limit_bytes=45_000),
    # A day is 24 windows of an hour.
    "children released": leveled(
        2, 6, -12, window_s=3_600, slack_s=7_300, genesis_s=GENESIS_S // 3_600 * 3_600
    ),
}


def random_archive(root: Path, seed: int, windows: int, made: MadeSet = MADE) -> MadeArchive:
    """Windows of 0 to 9 envelopes of few topics, sent anywhere that R0 allows."""
    archive = MadeArchive(root, made)
    grow(archive, random.Random(seed), topics_of(seed), windows)
    return archive


def grow(archive: MadeArchive, rng: random.Random, topics: list[bytes], windows: int) -> None:
    """Append windows up to this size, and publish."""
    d = archive.made.descriptor
    for window in range(archive.size, windows):
        low, high = d.sent_bounds_s(window)
        raws = [
            envelope(rng.choice(topics), rng.randint(low, high), rng.randbytes(rng.choice(SIZES)))
            for _ in range(rng.choice([0, 0, 1, 3, 9]))
        ]
        # Nothing is in two batches (I2); a set without roll-ups would not notice.
        had = {raw for _, raw in archive.envelopes} if d.levels else set()
        archive.append([raw for raw in dict.fromkeys(raws) if raw not in had])
    archive.cosign()
    for key in archive.made.validators:
        archive.watch(key.name)


def release(archive: MadeArchive, early: bool = False) -> None:
    """Remove the children of roll-ups, as soon as a publisher may, or as soon as they stand."""
    d = archive.made.descriptor
    for span, made in archive.rollups.items():
        due = span.level in body_levels(d) and children_kept_until(d, span) < archive.size - 1
        if made is not None and (due or (early and span.level in body_levels(d))):
            archive.release(children(d, span))


# Large ones make depths, several pages, and segments that end behind the client's first request.
SIZES = [0, 1, 100, 5_000, 40_000]


def topics_of(seed: int) -> list[bytes]:
    rng = random.Random(-seed)
    return [rng.randbytes(4) for _ in range(rng.randint(1, 7))]


def oracle(archive: MadeArchive, query: Query, size: int | None = None) -> list[tuple[int, bytes]]:
    """(sent time, id) of what a query must answer at a tree size."""
    out = set()
    for window, raw in archive.envelopes:
        parsed = whisper.parse(raw)
        if (
            query.since <= window < (archive.size if size is None else size)
            and (not query.topics or parsed.topic in query.topics)
            and (query.sent_from_s is None or query.sent_from_s <= parsed.sent_s)
            and (query.sent_to_s is None or parsed.sent_s < query.sent_to_s)
        ):
            out.add((parsed.sent_s, sha256(raw).digest()))
    return sorted(out)


def places(answer) -> list[tuple[int, bytes]]:
    got = []
    for found in answer:
        parsed = whisper.parse(found.raw)
        assert found.id == sha256(found.raw).digest()
        assert (found.topic, found.sent_s) == (parsed.topic, parsed.sent_s)
        got.append((found.sent_s, found.id))
    return got


@st.composite
def queries(draw, d, seed, windows):
    known = topics_of(seed)
    topics = draw(st.lists(st.sampled_from([*known, b"none"]), min_size=1, max_size=3))
    mode = draw(st.sampled_from(MODES))
    if mode == "all" and draw(st.booleans()):
        topics = []
    fields = {"topics": tuple(topics), "mode": mode}
    if draw(st.booleans()):
        fields["since"] = draw(st.integers(0, windows + 2))
    low, high = d.sent_bounds_s(0)[0], d.sent_bounds_s(windows)[1]
    if draw(st.booleans()):
        fields["sent_from_s"] = draw(st.integers(low, high))
    if draw(st.booleans()):
        fields["sent_to_s"] = draw(st.integers(fields.get("sent_from_s", low) + 1, high + 1))
    return Query(**fields)


def client(*roots: Path, memory=None, made: MadeSet = MADE) -> Client:
    sources = [FolderSource(root) for root in roots]
    return Client(made.policy(), sources, memory or ProcessMemory())


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000), split_seed=st.integers(0, 2**32))
def test_every_query_answers_what_the_oracle_answers(name, data, seed, split_seed):
    made = SETS[name]
    windows = data.draw(st.integers(1, 14 if made is MADE else 45))
    query = data.draw(queries(made.descriptor, seed, windows))
    with tempfile.TemporaryDirectory() as folder:
        archive = random_archive(Path(folder), seed, windows, made)
        if name == "children released":
            release(archive)
        expected = oracle(archive, query)
        with client(Path(folder), made=made) as reader:
            trusted = reader.refresh()
            answer = trusted.query(query)
            assert places(answer) == expected
            told = answer.summary
            assert told.exhausted
            assert told.complete_to_window == windows - 1
            assert sum(told.counts.values()) == len(expected)
            assert told.complaints == ()
            held = {raw_topic for _, raw_topic in topics_in(archive, query)}
            assert told.absent is not None
            assert set(told.absent) == set(query.topics) - held
            # Cut anywhere, it goes on where it was cut.
            if expected:
                cut = random.Random(split_seed).randint(1, len(expected))
                assert resumed(trusted, query, cut) == expected


def topics_in(archive, query):
    ids = {id_ for _, id_ in oracle(archive, query)}
    for window, raw in archive.envelopes:
        if sha256(raw).digest() in ids:
            yield window, whisper.parse(raw).topic


def with_fields(query: Query, **fields) -> Query:
    kept = {name: getattr(query, name) for name in Query.__dataclass_fields__}
    return Query(**(kept | fields))


def resumed(trusted, query: Query, limit: int) -> list[tuple[int, bytes]]:
    got, cursor = [], None
    while True:
        answer = trusted.query(with_fields(query, limit=limit, cursor=cursor))
        got += places(answer)
        cursor = answer.summary.cursor
        if answer.summary.exhausted:
            return got
        assert answer.summary.absent is None


@pytest.mark.parametrize("name", [name for name in SETS if name != "no levels"])
@settings(max_examples=12, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_resumed_anywhere_while_roll_ups_arrive(name, data, seed):
    """An answer in pieces of any length, each at another source with another tree size: the same
    envelopes once each, in the same order; and so on with what came after."""
    made, d = SETS[name], SETS[name].descriptor
    rng, topics = random.Random(seed), topics_of(seed)
    sizes = sorted(data.draw(st.lists(st.integers(1, 60), min_size=3, max_size=3)))
    query = data.draw(queries(d, seed, sizes[-1]))
    with tempfile.TemporaryDirectory() as folder:
        archive = MadeArchive(Path(folder) / "growing", made)
        roots = []
        for size in sizes:
            grow(archive, rng, topics, size)
            if name == "children released":
                release(archive, early=data.draw(st.booleans()))
            roots.append(Path(folder) / str(len(roots)))
            shutil.copytree(archive.root, roots[-1])
        with ExitStack() as stack:
            readers = [stack.enter_context(client(root, made=made)) for root in roots]
            states = [reader.refresh() for reader in readers]
            got, cursor, at, done = [], None, 0, []
            while len(done) < 3:
                at = data.draw(st.integers(at, 2))
                limit = data.draw(st.integers(1, 9))
                mode = data.draw(st.sampled_from(MODES if query.topics else ["all"]))
                answer = states[at].query(with_fields(query, limit=limit, cursor=cursor, mode=mode))
                got += places(answer)
                cursor = answer.summary.cursor
                if answer.summary.exhausted:
                    done.append((answer.summary.since, answer.summary.size, got))
                    got = []
            seen = query.since
            for since, size, part in done:
                assert since == min(max(seen, query.since), size)
                mine = with_fields(query, since=seen)
                assert part == oracle(archive, mine, size)
                seen = max(seen, size)


@pytest.mark.parametrize("mode", MODES)
def test_resumed_at_every_split_at_a_source_with_a_larger_tree(tmp_path, mode):
    """What a cursor began at tree size 12 ends there, whatever another source has by then; its
    last cursor asks for exactly the rest."""
    small, large = tmp_path / "small", tmp_path / "large"
    archive = random_archive(small, 5, 12)
    topics = tuple(topics_of(5)[:2])
    query = Query(topics, mode=mode)
    first_part = oracle(archive, query)
    grown = random_archive(large, 5, 17)
    assert grown.envelopes[: len(archive.envelopes)] == archive.envelopes
    everything = oracle(grown, query)
    rest = [place for place in everything if place not in first_part]
    assert first_part
    assert rest
    with client(small) as one, client(large) as other:
        here, there = one.refresh(), other.refresh()
        for split in range(len(first_part) + 1):
            answer = here.query(query)
            got = places(islice(answer, split))
            cursor = answer.cursor
            continued = there.query(with_fields(query, cursor=cursor))
            assert got + places(continued) == first_part
            assert continued.summary.complete_to_window == 11
            after = there.query(with_fields(query, cursor=continued.summary.cursor))
            assert places(after) == rest
            assert (after.summary.since, after.summary.size) == (12, 17)
            # And a cursor of the larger tree waits at the smaller one.
            with pytest.raises(Exception, match="cursor was made at tree size 17") as caught:
                here.query(with_fields(query, cursor=after.summary.cursor))
            assert caught.value.code == "cursor-ahead"


def test_cursors_of_others(tmp_path):
    archive = random_archive(tmp_path, 1, 3)
    with client(archive.root) as reader:
        trusted = reader.refresh()
        cursor = trusted.query(Query((b"aaaa",))).cursor
        with pytest.raises(ConfigError) as caught:
            trusted.query(Query((b"bbbb",), cursor=cursor))
        assert caught.value.code == "cursor-query"


def test_summary_before_the_end_is_a_programming_error(tmp_path):
    archive = random_archive(tmp_path, 1, 3)
    with client(archive.root) as reader:
        answer = reader.query(Query((b"aaaa",)))
        with pytest.raises(RuntimeError):
            answer.summary  # noqa: B018
        assert list(answer) == list(answer) == []
        assert answer.summary.absent == (b"aaaa",)


def test_an_empty_archive(tmp_path):
    make_archive(tmp_path, {}, 0, made=MADE)
    with client(tmp_path) as reader:
        answer = reader.query(Query((b"aaaa",)))
        assert list(answer) == []
        told = answer.summary
        assert (told.complete_to_window, told.waits_for, told.blind) == (-1, (0, None), ())


def test_more_than_one_bundle_of_entries(tmp_path):
    envelopes = {w: [envelope(b"aaaa", D.start_s(w))] for w in (0, 255, 256, 299)}
    make_archive(tmp_path, envelopes, 300, made=MADE)
    with client(tmp_path) as reader:
        assert [f.window for f in reader.query(Query((b"aaaa",)))] == [0, 255, 256, 299]
        late = reader.query(Query((b"aaaa",), since=256))
        assert [f.window for f in late] == [256, 299]


def test_finality_and_what_an_answer_waits_for(tmp_path):
    archive = random_archive(tmp_path, 2, 10)
    final = D.final_before_s(9)
    with client(archive.root) as reader:
        trusted = reader.refresh()
        done = trusted.query(Query((b"aaaa",), sent_to_s=final))
        waiting = trusted.query(Query((b"aaaa",), sent_to_s=final + 1))
        assert list(done) == list(waiting) == []
        assert done.summary.final_before_s == final
        assert done.summary.waits_for is None
        assert waiting.summary.waits_for == (10, 11)


def test_blind_windows(tmp_path):
    archive = make_archive(tmp_path, {}, 10, made=MADE)
    archive.watch("v01", [(2, 5)])
    archive.watch("v02", [(3, 6)])
    archive.watch("v03", [(4, 7)])
    archive.watch("v04", [(0, 1)], floor=0)
    (tmp_path / "watch/v04").unlink()
    with client(tmp_path) as reader:
        answer = reader.query(Query((b"aaaa",)))
        assert list(answer) == []
        # Of three notes, at most f = 1 watched windows 3, 4 and 5.
        assert answer.summary.blind == ((3, 6),)
        assert answer.summary.unknown == ()
        (tmp_path / "watch/v03").unlink()
        answer = reader.query(Query((b"aaaa",), since=4))
        assert list(answer) == []
        assert (answer.summary.blind, answer.summary.unknown) == ((), ((4, 10),))


def test_absence(tmp_path):
    archive = random_archive(tmp_path, 4, 8)
    topic = topics_of(4)[0]
    with client(archive.root) as reader:
        trusted = reader.refresh()
        for mode in MODES:
            assert trusted.absence(b"none", mode=mode).absent
            told = trusted.absence(topic, mode=mode)
            assert not told.absent
            assert (told.since, told.size) == (0, 8)


def test_what_no_source_has_is_an_error_and_never_a_gap(tmp_path):
    envelopes = {w: [envelope(b"aaaa", D.start_s(w))] for w in range(20)}
    archive = make_archive(tmp_path, envelopes, 20, made=MADE)
    (tmp_path / segment_path(0, 9)).unlink()
    with client(tmp_path) as reader:
        trusted = reader.refresh()
        answer = trusted.query(Query((b"aaaa",)))
        got = []
        with pytest.raises(Missing) as caught:
            got.extend(iter(answer))
        assert caught.value.code == "not-found"
        assert "window 9" in str(caught.value)
        # What came before is right, and it goes on from there once the file is back.
        assert [f.window for f in got] == list(range(len(got)))
        archive.append([])
        archive.write(segment_path(0, 9), archive.segment(9, envelopes[9]).cars()[0])
        rest = trusted.query(Query((b"aaaa",), cursor=answer.cursor))
        assert [f.window for f in rest] == list(range(len(got), 20))
        # Outside the range nobody needs it.
        assert trusted.query(Query((b"aaaa",), since=10))


def test_an_answer_may_be_left_half_way(tmp_path):
    archive = random_archive(tmp_path, 3, 14)
    with client(archive.root) as reader:
        answer = reader.query(Query((), mode="all"))
        next(answer)
        answer.close()
    with pytest.raises(ConfigError):
        Client(MADE.policy(), [], ProcessMemory())
    with pytest.raises(ConfigError):
        Client(MADE.policy(), [FolderSource(tmp_path), FolderSource(tmp_path)], ProcessMemory())


def test_fetches_are_coalesced_and_ahead(tmp_path):
    """A window costs one request where its segment is small, however many topics are asked for."""
    envelopes = {
        w: [envelope(bytes([i, 0, 0, 0]), D.start_s(w)) for i in range(9)] for w in range(8)
    }
    make_archive(tmp_path, envelopes, 8, made=MADE)
    with client(tmp_path) as reader:
        answer = reader.query(Query(tuple(bytes([i, 0, 0, 0]) for i in range(9))))
        assert len(list(answer)) == 72
        # descriptor, checkpoint, a tile, a bundle, 8 segments, 4 watch notes
        assert answer.summary.requests == 16
        assert answer.summary.bytes_fetched < 8 * limits.PAGE_TARGET_BYTES


def test_a_policy_without_a_set(tmp_path):
    import dataclasses

    policy = dataclasses.replace(MADE.policy(), set_id=None)
    with (
        Client(policy, [FolderSource(tmp_path)], ProcessMemory()) as reader,
        pytest.raises(VerificationFailed) as caught,
    ):
        reader.refresh()
    assert caught.value.code == "no-set"
