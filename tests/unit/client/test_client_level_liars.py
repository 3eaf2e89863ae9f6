"""Roll-ups and indexes of sources that lie, and of a set that signed what contradicts itself."""

import dataclasses
import random
import shutil
from hashlib import sha256

import pytest

from restante.client import Client, FolderSource, Missing, ProcessMemory, Query, Unverifiable
from restante.errors import ConfigError
from restante.formats import car, cid, dagcbor, index_cut, tiles, varint, whisper
from restante.formats.level import Level, Span, children
from restante.formats.paths import segment_path
from restante.formats.segment import build
from restante.rules.verify import SetFault
from restante.testing.archive_fixture import (
    IndexedChild,
    MadeArchive,
    envelope,
    make_archive,
    make_set,
    member,
)

MADE = make_set(levels=(Level(2), Level(6), Level(24, "index")), rollup_lag=2)
D = MADE.descriptor
TOPIC = b"aaaa"
WINDOWS = 56
TOPICS = [TOPIC, b"bbbb", b"cccc", b"dddd"]
HOUR, DAY = Span(2, 1, 6, 6), Span(3, 0, 0, 24)
FIVE = Span(1, 0, 0, 2)
TAIL = Span(2, 8, 48, 6)
"""An hour of the day whose index does not stand yet."""


def envelopes(seed=3):
    rng = random.Random(seed)
    return {
        w: [envelope(t, D.start_s(w) + i, rng.randbytes(200)) for i, t in enumerate(TOPICS)]
        for w in range(WINDOWS)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("made") / "honest", envelopes(), WINDOWS, made=MADE)


def expected(archive):
    mine = [raw for _, raw in archive.envelopes if whisper.parse(raw).topic == TOPIC]
    return sorted(mine, key=lambda raw: (whisper.parse(raw).sent_s, sha256(raw).digest()))


def segment(span, raws=None):
    """What a span's segment is."""
    members = [
        member(MADE.set_id, w, raw)
        for w in range(span.first, span.stop)
        for raw in (raws or envelopes())[w]
    ]
    bits = D.bucket_bits
    return build(MADE.set_id, members, span.first, span.windows, span.level, bucket_bits=bits)


def copied(archive: MadeArchive, root) -> MadeArchive:
    shutil.copytree(archive.root, root)
    copy = MadeArchive.__new__(MadeArchive)
    copy.__dict__.update(archive.__dict__, root=root)
    return copy


def ask(*archives, mode="bucket", topics=(TOPIC,)):
    """(what came, the summary or the error)."""
    sources = [FolderSource(a.root, a.root.name) for a in archives]
    got = []
    with Client(MADE.policy(), sources, ProcessMemory()) as client:
        answer = client.query(Query(topics, mode=mode))
        try:
            got.extend(found.raw for found in answer)
        except (Unverifiable, Missing, SetFault) as error:
            return got, error
        return got, answer.summary


# --- bytes that are not what the log names ----------------------------------------------------

HOUR_CAR, DAY_CAR, TAIL_CAR = (segment_path(s.level, s.number) for s in (HOUR, DAY, TAIL))
BUNDLE = tiles.entries_path(0, WINDOWS)


def flip(path, at):
    def change(liar):
        data = bytearray(liar.read(path))
        data[at] ^= 1
        liar.write(path, bytes(data))

    return change


def cut(path, length):
    return lambda liar: liar.write(path, liar.read(path)[:length])


def other(path, from_path):
    return lambda liar: liar.write(path, liar.read(from_path))


def named_for(path, block):
    """A CAR whose header names the right root, and whose first section holds something else."""

    def change(liar):
        root, _ = car.read_header(liar.read(path))
        liar.write(path, car.write(root, [(root, block)]))

    return change


def endless_root(path):
    def change(liar):
        head = liar.read(path)[: car.HEADER_BYTES]
        liar.write(path, head + varint.encode(1 << 60) + bytes(700_000))

    return change


def another_hour(liar):
    """The hour of other records: signed by nobody, contradicting its children."""
    forged = segment(HOUR, envelopes(seed=4))
    liar.write(HOUR_CAR, forged.cars()[0])


def reordered(liar):
    entries = tiles.decode_bundle(liar.read(BUNDLE), WINDOWS)
    entries[8], entries[9] = entries[9], entries[8]
    liar.write(BUNDLE, tiles.encode_bundle(entries))


NESTED = b"\x81" * 5_000 + b"\x00"
LIES = {
    "flipped bit in a page read through the index": (flip(HOUR_CAR, -1), "page-hash"),
    "an hour cut in its pages": (cut(HOUR_CAR, -300), "truncated"),
    "an hour that is empty": (cut(HOUR_CAR, 0), "truncated"),
    "another hour's bytes": (other(HOUR_CAR, segment_path(2, 2)), "page-hash"),
    "an hour that contradicts its children": (another_hour, "page-hash"),
    "flipped bit in an hour's root": (flip(TAIL_CAR, 200), "root-hash"),
    "flipped bit in an hour's page": (flip(TAIL_CAR, -1), "page-hash"),
    "an hour cut in its root": (cut(TAIL_CAR, 200), "truncated"),
    "an hour's bytes in the place of another": (other(TAIL_CAR, HOUR_CAR), "wrong-window"),
    "an hour's root as large as can be said": (endless_root(TAIL_CAR), "root-hash"),
    "an hour's root of nested lists": (named_for(TAIL_CAR, NESTED), "root-hash"),
    "flipped bit in an index's root": (flip(DAY_CAR, 200), "root-hash"),
    "flipped bit in an index's block": (flip(DAY_CAR, -1), "index-block"),
    "an index cut in its root": (cut(DAY_CAR, 300), "truncated"),
    "an index cut in its blocks": (cut(DAY_CAR, -10), "truncated"),
    "an index that is empty": (cut(DAY_CAR, 0), "truncated"),
    "another day's index": (other(DAY_CAR, segment_path(3, 1)), "root-hash"),
    "an hour in the place of an index": (other(DAY_CAR, HOUR_CAR), "root-hash"),
    "an index's root as large as can be said": (endless_root(DAY_CAR), "root-hash"),
    "an index's root of nested lists": (named_for(DAY_CAR, NESTED), "root-hash"),
    "a bundle in another order": (reordered, "entry"),
    "a bundle cut": (cut(BUNDLE, -40), "entry"),
    "no hour": (lambda liar: (liar.root / HOUR_CAR).unlink(), "not-found"),
    "no index": (lambda liar: (liar.root / DAY_CAR).unlink(), "not-found"),
}


@pytest.fixture(params=LIES)
def lie(request, made, tmp_path):
    change, code = LIES[request.param]
    liar = copied(made, tmp_path / "liar")
    change(liar)
    return liar, code


@pytest.mark.parametrize("mode", ["bucket", "exact"])
def test_a_liar_is_named_and_the_next_source_gives_the_same_answer(made, lie, mode):
    liar, code = lie
    got, told = ask(liar, made, mode=mode)
    assert got == expected(made)
    assert [(c.source, c.code) for c in told.complaints] == [("liar", code)]
    assert told.exhausted
    got, told = ask(made, liar, mode=mode)
    assert got == expected(made)
    assert told.complaints == ()


@pytest.mark.parametrize("mode", ["bucket", "exact"])
def test_liars_alone_are_not_believed(made, lie, mode):
    liar, code = lie
    got, error = ask(liar, mode=mode)
    if not (liar.root / DAY_CAR).exists():
        # Without the index, the hours' own tables do.
        assert (got, error.exhausted) == (expected(made), True)
        return
    assert got == expected(made)[: len(got)]
    assert error.code == code
    assert isinstance(error, Missing) == (code == "not-found")


# --- what the set itself signed wrongly -------------------------------------------------------


def grown(root, windows=WINDOWS, **forged):
    """An archive whose set signs something else in the place of some roll-ups."""
    archive = MadeArchive(root / "archive", MADE)
    archive.forged |= {globals()[name]: forge for name, forge in forged.items()}
    raws = envelopes()
    for window in range(windows):
        archive.append(raws[window])
    archive.cosign()
    return archive


def forged_index(forge):
    def changed(index):
        root = dataclasses.replace(index.root, **forge(index.root))
        block = root.encode()
        named = cid.cid_of(cid.DAG_CBOR, block)
        return dataclasses.replace(
            index, root_cid=named, root=root, blocks=[(named, block), *index.blocks[1:]]
        )

    return changed


def hiding(right):
    """The index that is right if an hour has no roll-up."""
    hours = [None if s == HOUR else IndexedChild(segment(s)) for s in children(D, DAY)]
    return index_cut.build(MADE.set_id, DAY, hours)


def children_of(change):
    def forge(root):
        told = list(root.children)
        told[1] = change(told)
        return {"children": tuple(told)}

    return forge


FORGED = {
    "an index that hides an hour": (hiding, "index-contradicts-entry"),
    "an index that hides an hour, and has its rows": (
        forged_index(children_of(lambda told: None)),
        "index-block",
    ),
    "an index that names another hour": (
        forged_index(children_of(lambda told: told[1]._replace(cid=told[0].cid))),
        "index-contradicts-entry",
    ),
    "an index of other windows": (
        forged_index(lambda root: {"first_window": 24}),
        "root-contradicts-entry",
    ),
    "an index of other sent times": (
        forged_index(children_of(lambda told: told[1]._replace(sent_min=told[1].sent_max))),
        "index-contradicts-page",
    ),
}


@pytest.mark.parametrize("mode", ["bucket", "exact"])
@pytest.mark.parametrize("name", FORGED)
def test_what_the_set_signed_wrongly_is_the_sets_fault(tmp_path, name, mode):
    forge, code = FORGED[name]
    archive = grown(tmp_path, DAY=forge)
    got, error = ask(archive, copied(archive, tmp_path / "copy"), mode=mode)
    assert isinstance(error, SetFault), error
    assert error.code == code
    assert got == expected(archive)[: len(got)]


@pytest.mark.parametrize("mode", ["bucket", "exact", "all"])
def test_a_roll_up_of_other_windows(tmp_path, mode):
    archive = grown(tmp_path, 7, FIVE=lambda right: segment(Span(0, 0, 0, 1)))
    got, error = ask(archive, mode=mode)
    if mode == "all":  # batches are surely there
        assert got == expected(archive)
    else:
        assert (error.code, type(error)) == ("root-contradicts-entry", SetFault)


def test_an_entry_that_names_what_does_not_come_due(tmp_path):
    archive = MadeArchive(tmp_path / "archive", MADE)
    segment = archive.segment(0, [])
    archive._append_entry(segment.entry((segment.root_cid,)).encode())
    archive.cosign()
    _, error = ask(archive)
    assert (error.code, type(error)) == ("entry", SetFault)


def test_an_index_that_hides_an_hour_whose_entry_is_elsewhere(tmp_path):
    """In a bundle that nobody would have read: it is, before an hour is believed to be none."""
    levels = (Level(150), Level(300, "index"))
    made = make_set(levels=levels, rollup_lag=2)
    d = made.descriptor
    day, hour = Span(2, 0, 0, 300), Span(1, 0, 0, 150)
    archive = MadeArchive(tmp_path / "archive", made)

    def hidden(right):
        hours = [None, IndexedChild(archive.rollups[Span(1, 1, 150, 150)])]
        return index_cut.build(made.set_id, day, hours)

    archive.forged[day] = hidden
    for window in range(303):
        archive.append([envelope(TOPIC, d.start_s(window))] if window % 10 == 0 else [])
    archive.cosign()
    assert archive.rollups[hour] is not None
    for mode in ("bucket", "exact"):
        with Client(made.policy(), [FolderSource(archive.root)], ProcessMemory()) as client:
            answer = client.query(Query((TOPIC,), mode=mode))
            with pytest.raises(SetFault) as caught:
                list(answer)
            assert caught.value.code == "index-contradicts-entry"


def test_an_index_that_is_a_nest_of_lists(tmp_path):
    block = dagcbor.encode([[[]]])
    named = cid.cid_of(cid.DAG_CBOR, block)
    nest = [(named, block)]
    archive = grown(
        tmp_path, DAY=lambda right: dataclasses.replace(right, root_cid=named, blocks=nest)
    )
    _, error = ask(archive, mode="exact")
    assert (error.code, type(error)) == ("root-contradicts-entry", SetFault)


def test_cursors_of_others(made):
    other_set = make_set(seed=1, levels=D.levels, rollup_lag=2)
    with Client(MADE.policy(), [FolderSource(made.root)], ProcessMemory()) as client:
        trusted = client.refresh()
        cursor = trusted.query(Query((TOPIC,))).cursor
        with pytest.raises(ConfigError) as caught:
            trusted.query(Query((b"bbbb",), cursor=cursor))
        assert caught.value.code == "cursor-query"
        from restante.rules.query import plan

        foreign = plan(Query((TOPIC,)), other_set.descriptor, 5).cursor(None)
        with pytest.raises(ConfigError) as caught:
            trusted.query(Query((TOPIC,), cursor=foreign))
        assert caught.value.code == "cursor-set"
