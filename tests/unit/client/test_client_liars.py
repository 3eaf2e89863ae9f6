"""Sources that lie: each is caught by name, the next one is asked, the answer is the same; with
liars alone there is no answer, and nothing that was returned before is wrong."""

import dataclasses
import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from restante import limits
from restante.cli.query import query as query_command
from restante.client import (
    Client,
    FolderMemory,
    FolderSource,
    Missing,
    ProcessMemory,
    Query,
    Unverifiable,
)
from restante.errors import StateError, VerificationFailed
from restante.formats import cid, tiles, whisper
from restante.formats.contact import WatchNote
from restante.formats.paths import segment_path
from restante.rules.verify import SetFault
from restante.testing.archive_fixture import MadeArchive, envelope, make_archive, make_set

MADE = make_set()
D = MADE.descriptor
TOPIC = b"aaaa"
WINDOWS = 20
QUERY = Query((TOPIC,))


def envelopes(seed: int = 0) -> dict[int, list[bytes]]:
    return {
        w: [envelope(t, D.start_s(w) + i, bytes([w, i, seed]) * 40) for i, t in enumerate(TOPICS)]
        for w in range(WINDOWS)
    }


TOPICS = [TOPIC, b"bbbb", TOPIC, b"cccc"]


@pytest.fixture
def honest(tmp_path):
    return make_archive(tmp_path / "honest", envelopes(), WINDOWS, made=MADE)


def expected(archive: MadeArchive) -> list[bytes]:
    mine = [raw for _, raw in archive.envelopes if whisper.parse(raw).topic == TOPIC]
    return sorted(mine, key=lambda raw: (whisper.parse(raw).sent_s, sha256(raw).digest()))


def ask(*archives, memory=None, query=QUERY):
    """(envelopes, summary) of a query at these folders, the first one asked first."""
    sources = [FolderSource(a.root, a.root.name) for a in archives]
    with Client(MADE.policy(), sources, memory or ProcessMemory()) as client:
        answer = client.query(query)
        return [found.raw for found in answer], answer.summary


def part(*archives):
    """(what came before the error, the error)."""
    sources = [FolderSource(a.root, a.root.name) for a in archives]
    got = []
    with Client(MADE.policy(), sources, ProcessMemory()) as client:
        try:
            got.extend(found.raw for found in client.query(QUERY))
        except (Unverifiable, Missing) as error:
            return got, error
    raise AssertionError("the liars were believed")


# --- what a folder can do wrong -------------------------------------------------------------


def flip(path, at):
    def lie(liar: MadeArchive) -> None:
        data = bytearray(liar.read(path))
        data[at] ^= 1
        liar.write(path, bytes(data))

    return lie


def replaced(path, data):
    return lambda liar: liar.write(path, data(liar) if callable(data) else data)


def cut(path, length):
    return lambda liar: liar.write(path, liar.read(path)[:length])


def gone(path):
    return lambda liar: (liar.root / path).unlink()


def other_set(liar: MadeArchive) -> bytes:
    made = make_set(seed=1)
    return MadeArchive(liar.root.parent / "other", made).segment(7, envelopes()[7]).cars()[0]


def forged_watch(liar: MadeArchive) -> bytes:
    key = dataclasses.replace(MADE.validators[0], name="v02")
    return WatchNote(MADE.set_id, 0, WINDOWS, ()).sign(key)


SEGMENT = segment_path(0, 7)
BUNDLE = tiles.entries_path(0, WINDOWS)
TILE = tiles.tile_path(0, 0, WINDOWS)

LIES = {
    "flipped bit in a page": (flip(SEGMENT, -1), "page-hash"),
    "flipped bit in a root": (flip(SEGMENT, 150), "root-hash"),
    "flipped bit in a directory": (flip(SEGMENT, 260), "root-hash"),
    "flipped bit in the header": (flip(SEGMENT, 20), "root-hash"),
    "flipped bit in an entry": (flip(BUNDLE, 100), "entry"),
    "flipped bit in a tile": (flip(TILE, 100), "tile"),
    "flipped bit in the checkpoint's root": (flip("checkpoint", 45), "bad-signature"),
    "flipped bit in the descriptor": (flip("descriptor", 50), "wrong-set"),
    "a checkpoint with too few cosigners": (
        replaced("checkpoint", lambda a: MADE.checkpoint(a.size, a.tree_root, signers=2)),
        "quorum",
    ),
    "no checkpoint at all": (replaced("checkpoint", b"<html>"), "checkpoint"),
    "another log's checkpoint": (
        replaced("checkpoint", make_set(seed=1).checkpoint(99, bytes(32))),
        "origin",
    ),
    "an endless checkpoint": (
        replaced("checkpoint", bytes(limits.NOTE_MAX_BYTES + 1)),
        "source-too-large",
    ),
    "an endless tile": (replaced(TILE, bytes(10_000)), "source-too-large"),
    "another window's segment": (
        replaced(SEGMENT, lambda a: a.read(segment_path(0, 8))),
        "wrong-window",
    ),
    "another set's segment": (replaced(SEGMENT, other_set), "wrong-set"),
    "another segment of the same window": (
        replaced(SEGMENT, lambda a: a.segment(7, envelopes()[7][1:]).cars()[0]),
        "root-hash",
    ),
    "a segment cut in its pages": (cut(SEGMENT, -5), "truncated"),
    "a segment cut in its root": (cut(SEGMENT, 120), "truncated"),
    "an empty segment": (cut(SEGMENT, 0), "truncated"),
    "a bundle that is cut": (cut(BUNDLE, -1), "entry"),
    "a tile that is cut": (cut(TILE, -32), "tile"),
    "a missing segment": (gone(SEGMENT), "not-found"),
    "a missing bundle": (gone(BUNDLE), "not-found"),
    "a missing checkpoint": (gone("checkpoint"), "not-found"),
    "a watch note of somebody else": (replaced("watch/v01", forged_watch), "watch"),
}


@pytest.fixture(params=LIES)
def lie(request, tmp_path):
    """(a copy of the honest folder that lies, the code it is caught with)."""
    change, code = LIES[request.param]
    liar = make_archive(tmp_path / "liar", envelopes(), WINDOWS, made=MADE)
    change(liar)
    return liar, code


def test_a_liar_is_named_and_the_next_source_gives_the_same_answer(honest, lie):
    liar, code = lie
    got, told = ask(liar, honest)
    assert got == expected(honest)
    assert [(c.source, c.code) for c in told.complaints] == [("liar", code)]
    assert told.exhausted
    assert told.unknown == ()
    # In the other order the liar may go unnoticed, but for what is asked of all.
    got, told = ask(honest, liar)
    assert got == expected(honest)
    assert all(c.source == "liar" for c in told.complaints)


def test_liars_alone_are_not_believed(lie, tmp_path):
    liar, code = lie
    if code == "watch":
        got, told = ask(liar)
        assert got == expected(liar)
        assert told.complaints[0].code == "watch"
        return
    second = MadeArchive(tmp_path / "second", MADE)
    shutil.copytree(liar.root, second.root, dirs_exist_ok=True)
    got, error = part(liar, second)
    assert got == expected(liar)[: len(got)]
    assert error.code == code
    assert isinstance(error, Missing) == (code == "not-found")
    assert {c.source for c in error.complaints} == {"liar", "second"}


def test_the_command_prints_nothing_unverified(lie, tmp_path, honest, monkeypatch):
    liar, code = lie
    monkeypatch.setenv("RESTANTE_PATH", str(tmp_path / "memory"))
    (tmp_path / "policy").write_bytes(MADE.policy().encode())
    arguments = ["--policy", str(tmp_path / "policy"), "--topic", TOPIC.hex(), "--json"]
    run = CliRunner().invoke(query_command, [*arguments, "--source", str(liar.root)])
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    raws = [bytes.fromhex(line["raw"]) for line in lines if "raw" in line]
    assert raws == expected(honest)[: len(raws)]
    if code == "watch":
        assert run.exit_code == 0
    else:
        assert run.exit_code == (4 if code == "not-found" else 3)
        assert "summary" not in (lines[-1] if lines else {})
    assert code in run.stderr
    both = ["--source", str(liar.root), "--source", str(honest.root)]
    run = CliRunner().invoke(query_command, [*arguments, *both])
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.exit_code == 0
    assert [bytes.fromhex(line["raw"]) for line in lines[:-1]] == expected(honest)
    assert [c["code"] for c in lines[-1]["summary"]["complaints"]] == [code]
    assert f"complaint: {liar.root}: {code}" in run.stderr


def test_a_liar_is_left_for_the_rest_of_the_call(honest, tmp_path):
    liar = make_archive(tmp_path / "liar", envelopes(), WINDOWS, made=MADE)
    for window in range(WINDOWS):
        flip(segment_path(0, window), -1)(liar)
    asked = []

    class Watched(FolderSource):
        def get(self, path, **range_):
            asked.append(path)
            return super().get(path, **range_)

    sources = [Watched(liar.root, "liar"), FolderSource(honest.root, "honest")]
    with Client(MADE.policy(), sources, ProcessMemory()) as client:
        trusted = client.refresh()
        assert [f.raw for f in trusted.query(QUERY)] == expected(honest)
        segments = [path for path in asked if path.startswith("segment/")]
        assert len(segments) <= limits.CLIENT_WORKERS  # those already under way
        asked.clear()
        assert [f.raw for f in trusted.query(QUERY)] == expected(honest)
        assert asked == []
        client.refresh()
        assert asked  # another call begins anew


# --- stale and forked -----------------------------------------------------------------------


def behind(tmp_path, size):
    return make_archive(tmp_path / "behind", envelopes(), size, made=MADE)


def test_a_stale_checkpoint_beside_a_newer_one(honest, tmp_path):
    stale = behind(tmp_path, WINDOWS - limits.CHECKPOINT_LAG_WINDOWS - 1)
    got, told = ask(stale, honest)
    assert got == expected(honest)
    assert [(c.source, c.code) for c in told.complaints] == [("behind", "stale-checkpoint")]


def test_a_source_with_ordinary_delay_is_no_liar(honest, tmp_path):
    slow = behind(tmp_path, WINDOWS - limits.CHECKPOINT_LAG_WINDOWS)
    got, told = ask(slow, honest)
    assert got == expected(honest)
    assert told.complaints == ()


def test_nobody_is_led_back_in_time(honest, tmp_path):
    stale = behind(tmp_path, 10)
    memory = ProcessMemory()
    ask(honest, memory=memory)
    with pytest.raises(VerificationFailed) as caught:
        ask(stale, memory=memory)
    assert caught.value.code == "stale-checkpoint"
    # Slightly behind what is known is of no use, and no lie.
    shutil.rmtree(stale.root)
    with pytest.raises(Missing) as missing:
        ask(behind(tmp_path, WINDOWS - 1), memory=memory)
    assert missing.value.code == "stale-checkpoint"


def fork(tmp_path, size, name="fork"):
    """Another history from window 5 on, cosigned by the same keys."""
    mixed = {w: envelopes(seed=1 if w >= 5 else 0)[w] for w in range(WINDOWS)}
    return make_archive(tmp_path / name, mixed, size, made=MADE)


@pytest.mark.parametrize("size", [6, 12, WINDOWS])
def test_a_fork_is_told_by_memory_and_the_evidence_kept(honest, tmp_path, size):
    memory = FolderMemory(tmp_path / "memory")
    known = behind(tmp_path, 10)
    ask(known, memory=memory)
    forked = fork(tmp_path, size)
    for order in ([forked, honest], [honest, forked]):
        got, told = ask(*order, memory=memory)
        assert got == expected(honest)
        (complaint,) = told.complaints
        assert (complaint.source, complaint.code) == ("fork", "split-view")
    (saved, *_) = (tmp_path / "memory").glob("sets/*/evidence-*.json")
    evidence = json.loads(saved.read_text())
    assert str(saved.parent) in complaint.detail
    assert evidence["set"] == MADE.set_id.hex()
    texts = {note.split("\n\n")[0] for note in evidence["notes"]}
    assert len(texts) == 2
    for note in evidence["notes"]:  # each of them satisfies the policy
        MADE.policy().verify_checkpoint(note.encode())


def test_evidence_proves_itself(honest, tmp_path):
    """Whoever has the file can check that the larger tree does not contain the smaller one."""
    memory = FolderMemory(tmp_path / "memory")
    ask(behind(tmp_path, 10), memory=memory)
    with pytest.raises(VerificationFailed) as caught:
        ask(fork(tmp_path, 15), memory=memory)
    assert caught.value.code == "split-view"
    (saved,) = (tmp_path / "memory").glob("sets/*/evidence-*.json")
    evidence = json.loads(saved.read_text())
    files = {path: bytes.fromhex(data) for path, data in evidence["files"].items()}
    small, large = sorted(
        (MADE.policy().verify_checkpoint(note.encode()) for note in evidence["notes"]),
        key=lambda checkpoint: checkpoint.size,
    )
    reader = tiles.TileReader(files.__getitem__, large.size, large.root)
    assert reader.root_at(small.size) != small.root


@pytest.mark.parametrize("size", [12, WINDOWS, WINDOWS - 1])
def test_without_memory_a_fork_is_an_error_and_never_a_choice(honest, tmp_path, size):
    for order in ([0, 1], [1, 0]):
        pair = [honest, fork(tmp_path, size, f"fork{order}")]
        with pytest.raises(VerificationFailed) as caught:
            ask(*(pair[i] for i in order))
        assert caught.value.code == "split-view"


def test_a_fork_beyond_what_is_known_is_an_error_too(honest, tmp_path):
    """Both continue what was remembered: nothing says which one is right."""
    memory = ProcessMemory()
    small = make_archive(tmp_path / "small", envelopes(), 5, made=MADE)
    ask(small, memory=memory)
    with pytest.raises(VerificationFailed) as caught:
        ask(honest, fork(tmp_path, 12), memory=memory)
    assert caught.value.code == "split-view"
    assert len(memory.evidence) == 1


def test_what_the_set_itself_signed_wrongly(tmp_path):
    """A directory that contradicts its page: no source can do better, and none is blamed."""
    archive = MadeArchive(tmp_path / "archive", MADE)
    segment = archive.segment(0, envelopes()[0])
    root = dataclasses.replace(segment.root, directory=segment.root.directory[:-1])
    block = root.encode()
    named = cid.cid_of(cid.DAG_CBOR, block)
    wrong = dataclasses.replace(
        segment, root=root, root_cid=named, blocks=[(named, block), *segment.blocks[1:]]
    )
    archive.append([], wrong)
    archive.cosign()
    with pytest.raises(SetFault) as caught:
        ask(archive, query=Query((), mode="all"))
    assert caught.value.code == "directory-contradicts-page"
    assert "validator set itself" in caught.value.hint


# --- memory ---------------------------------------------------------------------------------


def test_memory_is_kept_and_never_goes_back(honest, tmp_path):
    root = tmp_path / "memory"
    ask(honest, memory=FolderMemory(root))
    known = FolderMemory(root).checkpoint(MADE.policy())
    assert known is not None
    assert known[0].size == WINDOWS
    small = make_archive(tmp_path / "small", envelopes(), 5, made=MADE)
    FolderMemory(root).accept(
        MADE.policy(), MADE.policy().verify_checkpoint(small.note), small.note
    )
    again = FolderMemory(root).checkpoint(MADE.policy())
    assert again == known
    assert FolderMemory(root).descriptor(MADE.set_id) == D.encode()


def test_a_damaged_memory_is_not_passed_over(honest, tmp_path):
    root = tmp_path / "memory"
    ask(honest, memory=FolderMemory(root))
    (file,) = root.glob("sets/*/checkpoint")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StateError) as caught:
        ask(honest, memory=FolderMemory(root))
    assert caught.value.code == "memory"
    (descriptor,) = root.glob("sets/*/descriptor")
    descriptor.write_bytes(b"junk")  # rebuilt from a source, since its hash says what it is
    file.unlink()
    assert ask(honest, memory=FolderMemory(root))[0] == expected(honest)


def test_memory_where_nothing_can_be_written(honest, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as caught:
        ask(honest, memory=FolderMemory(tmp_path / "file"))
    assert caught.value.code == "memory"
    assert "RESTANTE_PATH" in caught.value.hint


def test_where_memory_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTANTE_PATH", str(tmp_path))
    assert FolderMemory().root == tmp_path
    monkeypatch.delenv("RESTANTE_PATH")
    assert FolderMemory().root.name == "restante"
    assert isinstance(FolderMemory().root, Path)
