"""`restante inspect`: every object is recognised, nothing is vouched for, secrets stay hidden."""

import json

import pytest
from click.testing import CliRunner

from restante.cli.inspect import inspect
from restante.cli.objects import describe
from restante.errors import InvalidEncoding
from restante.formats import car, cid, tiles, whisper
from restante.formats.contact import ContactNote
from restante.formats.message import Certificate, Proposal
from restante.formats.paths import segment_path
from restante.rules.query import Query, plan
from restante.testing.archive_fixture import envelope, make_archive, make_set

MADE = make_set()
D = MADE.descriptor
POLICY = MADE.policy([("v01", "http://127.0.0.1:8700")])
RAWS = [envelope(b"abcd", D.start_s(2), bytes(300 * i)) for i in range(3)]
CURSOR = plan(Query((b"abcd",)), D, 3).cursor(None)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("inspect"), {2: RAWS}, 4, made=MADE)


def objects(archive):
    segment = archive.segment(2, RAWS)
    key = MADE.validators[0]
    certificate = Certificate(
        MADE.set_id, 2, 2, bytes(32), segment.root_cid, ((b"abcd", bytes(64)),)
    )
    proposal = Proposal.make(
        key,
        set_id=MADE.set_id,
        window=2,
        base_size=2,
        base_root=bytes(32),
        cid=segment.root_cid,
        count=1,
        size_bytes=9,
        ids=(bytes(32),),
    )
    return {
        "checkpoint": archive.note,
        "policy": POLICY.encode(),
        "descriptor": D.encode(),
        "log entry": segment.entry().encode(),
        "bundle, log entry": archive.read(tiles.entries_path(0, 4)),
        "bundle, certificate": tiles.encode_bundle([certificate.encode()] * 2),
        "CAR": archive.read(segment_path(0, 2)),
        "segment root": segment.blocks[0][1],
        "page": segment.blocks[1][1],
        "tile": bytes(range(256)) * 2,
        "watch note": archive.read("watch/v01"),
        "contact note": ContactNote(MADE.set_id, 1, "v01", (("url", "http://x"),)).sign(key),
        "proposal": proposal.encode(),
        "certificate": certificate.encode(),
        "cursor": CURSOR.encode(),
        "envelope": RAWS[0],
        "packet": whisper.assemble_packet(RAWS),
        "directory block": bytes.fromhex("0000000500000009000000ff"),
        "private key": key.text().encode(),
    }


def test_every_object_is_recognised(archive):
    for kind, data in objects(archive).items():
        told = describe(data, POLICY)
        assert told["type"] == kind
        assert told["length"] == len(data)
        json.dumps(told)
    for kind in ("envelope", "descriptor", "CAR", "certificate"):  # also in hex
        data = objects(archive)[kind]
        assert describe(data.hex().encode() + b"\n")["type"] == kind


def test_who_signed(archive):
    told = describe(archive.note, POLICY)
    assert told["satisfies_policy"] is True
    assert [line["verified"] for line in told["signatures"]] == [True] * 4
    assert "verified" not in describe(archive.note)["signatures"][0]
    other = describe(archive.note, make_set(seed=1).policy())
    assert [line["verified"] for line in other["signatures"]] == [None] * 4
    assert str(other["satisfies_policy"]).startswith("no: ")
    few = describe(MADE.checkpoint(4, archive.tree_root, signers=1), POLICY)
    assert few["satisfies_policy"] == "no: 1 known witnesses cosigned, which is no quorum (quorum)"
    assert describe(archive.read("watch/v01"), POLICY)["signatures"][0]["verified"] is True
    altered = archive.note.replace(b"\n4\n", b"\n5\n")
    assert [line["verified"] for line in describe(altered, POLICY)["signatures"]] == [False] * 4


def test_a_private_key_is_not_shown(archive):
    text = MADE.validators[0].text()
    assert text.split("+", 4)[4] not in json.dumps(describe(text.encode()))


def test_a_forged_proposal_says_so(archive):
    data = bytearray(objects(archive)["proposal"])
    assert describe(bytes(data))["signed"] is True
    data[-40] ^= 1
    assert describe(bytes(data))["signed"] is False


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello", b"\xff" * 50, bytes(5_000)])
def test_what_is_nothing_known(data):
    with pytest.raises(InvalidEncoding) as caught:
        describe(data)
    assert caught.value.code == "unknown-object"


def run(*arguments, **more):
    return CliRunner().invoke(inspect, list(map(str, arguments)), **more)


def test_cars_within_cars_within_cars():
    data = RAWS[0]
    for _ in range(2_000):
        named = cid.cid_of(cid.RAW, data)
        data = car.write(named, [(named, data)])
    assert describe(data)["type"] == "CAR"


def test_where_objects_are_found(archive, tmp_path):
    path = segment_path(0, 2)
    segment = archive.segment(2, RAWS)
    page = segment.blocks[1]
    for arguments in (
        [archive.root / path],
        [path, "--source", archive.root],
    ):
        told = json.loads(run(*arguments, "--json").stdout)
        assert (told["type"], told["root"]) == ("CAR", cid.to_text(segment.root_cid))
    told = json.loads(run(cid.to_text(page[0]), "--source", archive.root, "--json").stdout)
    assert (told["type"], told["cid"]) == ("page", cid.to_text(page[0]))
    (tmp_path / "policy").write_bytes(POLICY.encode())
    shown = run("checkpoint", "--source", archive.root, "--policy", tmp_path / "policy").stdout
    assert "satisfies_policy: yes" in shown
    assert json.loads(run("-", "--json", input=RAWS[0]).stdout)["type"] == "envelope"
    assert json.loads(run(RAWS[0].hex(), "--json").stdout)["type"] == "envelope"
    assert json.loads(run(CURSOR, "--json").stdout)["type"] == "cursor"


def test_exit_codes(archive, tmp_path):
    (tmp_path / "junk").write_bytes(b"\xff" * 9)
    assert run(tmp_path / "junk").exit_code == 1
    assert run("no-such-file.txt").exit_code == 2
    assert run("checkpoint").exit_code == 2
    assert run("http://127.0.0.1:9/nothing").exit_code == 2
    assert run("http://127.0.0.1:9/checkpoint").exit_code == 4
    missing = cid.to_text(cid.cid_of(cid.RAW, b"missing"))
    assert run(missing, "--source", archive.root).exit_code == 4
    assert run("segment/0/099.car", "--source", archive.root).exit_code == 4


def test_nothing_shown_steers_a_terminal(archive):
    shown = run("-", input="quorum none\n#restante contact \u202ex url=http://x\n".encode())
    assert "\u202e" not in shown.output
