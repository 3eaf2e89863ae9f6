"""`docs/formats.md` says what the code does: every example, field, limit and content type in it."""

import json
import re
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from restante import limits
from restante.errors import Invalid, InvalidEncoding, Refused, VerificationFailed
from restante.formats import (
    car,
    cid,
    dagcbor,
    entry,
    index,
    level,
    note,
    page,
    tree,
    varint,
    whisper,
)
from restante.formats.answer import Answer
from restante.formats.checkpoint import Checkpoint, verify_cosignature
from restante.formats.contact import ContactNote, WatchNote
from restante.formats.descriptor import _BOUNDS, Descriptor
from restante.formats.exchange import BodiesRequest, CosignatureReport, PoolPage, parse_bodies
from restante.formats.keys import SigningKey
from restante.formats.level import Span
from restante.formats.message import Certificate, Proposal
from restante.formats.note import VerifierKey
from restante.formats.paths import check_path
from restante.formats.policy import Policy
from restante.formats.proof import ProofFile
from restante.formats.root import (
    check_rollup_root,
    check_root,
    parse_directory_block,
    parse_root,
)
from restante.formats.segment import parse_page_block, read_cars
from restante.networks.keccak import keccak256
from restante.node.wire import peers, routes_archive, routes_node
from restante.rules import proof, valid

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "vectors"))

import format_levels  # noqa: E402
import make_formats  # noqa: E402

PAGE = make_formats.DOC.read_text("utf-8")
EXAMPLES = make_formats.examples()
VECTORS = json.loads(make_formats.JSON.read_text("utf-8"))
SET = make_formats.SET
POLICY = Policy.parse(EXAMPLES["policy"].data)
LEVELS = format_levels.SET
LEVELS_POLICY = Policy.parse(EXAMPLES["levels-policy"].data)
ROLLUP, INDEX = Span(1, 0, 0, 2), Span(2, 0, 0, 4)


def _root(data: bytes) -> None:
    root = parse_root(data)
    batch = entry.LogEntry(
        root.first_window, b"", root.count, root.bytes_, root.sent_min, root.sent_max
    )
    check_root(root, batch, set_id=root.set_id, bucket_bits=SET.bucket_bits)


def _segment(data: bytes, d: Descriptor = SET) -> None:
    read_cars(
        [data], d, lambda raw: whisper.parse(raw).topic, lambda raw: whisper.parse(raw).sent_s
    )


def _entry(data: bytes, d: Descriptor = SET) -> None:
    entry.check_rollups(entry.parse(data), d)


def _rollup_root(data: bytes) -> None:
    check_rollup_root(
        parse_root(data), ROLLUP, set_id=LEVELS.set_id, bucket_bits=LEVELS.bucket_bits
    )


def _index_car(data: bytes) -> None:
    """Read from its root down, every block by its name."""
    root_cid, blocks = car.read(data)
    root = index.parse_root(blocks[0][1])
    assert blocks[0][0] == root_cid
    assert (root.level, root.first_window, root.windows) == (
        INDEX.level,
        INDEX.first,
        INDEX.windows,
    )
    for name, (_, block) in zip(root.blocks or (), blocks[1:], strict=True):
        index.check_block(name, block, root)


def _bundle(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    from restante.formats.tiles import decode_bundle

    return lambda data: [parse(item) for item in decode_bundle(data, 2)]


def _report(data: bytes) -> None:
    for item in CosignatureReport.parse(data).items:
        key = SET.validator_by_id(item.key_id)
        assert key is not None
        item.verify(key, SET.origin)


def _r0(data: bytes, window: int = make_formats.WINDOW) -> None:
    facts = valid.examine(data, SET, keccak256)
    valid.check_window(facts.sent_s, window, SET)


def _proposal(data: bytes) -> None:
    Proposal.parse(data, SET.set_id).verify(SET.set_id)


def _certificate(data: bytes) -> None:
    Certificate.parse(data, SET.set_id).verify(SET)


def _varint(data: bytes) -> None:
    value, end = varint.decode(data)
    assert varint.encode(value) == data[:end] == data


def _vkey(data: bytes) -> None:
    VerifierKey.parse(data.decode().rstrip("\n"))


# A format of `formats.json`'s refusals, or an example's name → the strict reader of its bytes.
READERS: dict[str, Callable[[bytes], object]] = {
    "dagcbor": dagcbor.decode,
    "varint": _varint,
    "cid-text": lambda data: cid.from_text(data.decode().strip()),
    "index-root.cid": lambda data: cid.from_text(data.decode().strip()),
    "rollup-root.cid": lambda data: cid.from_text(data.decode().strip()),
    "page.cid": lambda data: cid.from_text(data.decode().strip()),
    "root.cid": lambda data: cid.from_text(data.decode().strip()),
    "quiet-root.cid": lambda data: cid.from_text(data.decode().strip()),
    "car": car.read,
    "car-small": car.read,
    "segment": _segment,
    "vkey-v0": _vkey,
    "vkey-v0-notes": _vkey,
    "vkey-log": _vkey,
    "private-key-v0": lambda data: SigningKey.parse(data.decode().rstrip("\n")),
    "descriptor": Descriptor.parse,
    "envelope": _r0,
    "envelope-1": _r0,
    "envelope-2": _r0,
    "envelope-3": _r0,
    "page": lambda data: page.parse(data, make_formats.WINDOW, 1),
    "page-table-block": parse_page_block,
    "directory-block": parse_directory_block,
    "root": _root,
    "quiet-root": _root,
    "entry": _entry,
    "quiet-entry": _entry,
    "levels-descriptor": Descriptor.parse,
    **{f"levels-envelope-{n}": whisper.parse for n in (1, 2, 3)},
    "levels-entry": lambda data: _entry(data, LEVELS),
    **{f"levels-entry-{n}": lambda data: _entry(data, LEVELS) for n in (2, 4, 6)},
    "levels-policy": Policy.parse,
    "rollup-root": _rollup_root,
    "rollup-car": lambda data: _segment(data, LEVELS),
    "index-root": index.parse_root,
    "index-table": index.parse_table,
    "index-block": lambda data: index.parse_block(data, INDEX.first, INDEX.windows, 2),
    "index-car": _index_car,
    "proof": lambda data: proof.verify(LEVELS_POLICY, data),
    "proof-of-rollup": lambda data: proof.verify(LEVELS_POLICY, data),
    "entry-bundle": _bundle(entry.parse),
    "certificate-bundle": _bundle(lambda item: Certificate.parse(item, SET.set_id).verify(SET)),
    "checkpoint-text": lambda data: Checkpoint.parse_text(data.decode()),
    "checkpoint": lambda data: POLICY.verify_checkpoint(data),
    "cosignature": lambda data: verify_cosignature(
        EXAMPLES["checkpoint-text"].data.decode(), SET.validators[0], data
    ),
    "policy": Policy.parse,
    "contact": lambda data: ContactNote.open(data, SET),
    "watch": lambda data: WatchNote.open(data, SET, "v0"),
    "proposal": _proposal,
    "proposal-difference": _proposal,
    "accept-signature": lambda data: SET.validators[0].verify(
        EXAMPLES["accept-statement"].data, data
    ),
    "answer": Answer.parse,
    "certificate": _certificate,
    "pool-page": PoolPage.parse,
    "bodies-request": BodiesRequest.parse,
    "bodies": parse_bodies,
    "cosignatures": _report,
}
# Shown, and read through another example: notations, and what is no object of its own.
NOT_READ = {
    "varint",
    "cid",
    "set-id",
    "levels-set-id",
    "tree",
    "tile",
    "cosigned",
    "accept-statement",
}


def _reader(name: str) -> Callable[[bytes], object]:
    return READERS["answer" if name.startswith("answer-") else name]


# --- examples -----------------------------------------------------------------------------------


def test_every_example_of_the_page_is_what_the_code_gives() -> None:
    shown = {name: (kind, lines) for name, kind, lines in make_formats.blocks(PAGE)}
    made = {name: (example.kind, example.lines()) for name, example in EXAMPLES.items()}
    assert shown == made
    assert len(shown) == len(make_formats.blocks(PAGE))


def test_no_block_of_bytes_goes_without_a_name() -> None:
    fences = re.findall(r"^```(.*)$", PAGE, re.M)
    named = [fence for fence in fences if re.fullmatch(r"(hex|text) name=[a-z0-9.-]+", fence)]
    assert fences == [each for fence in named for each in (fence, "")]


def test_the_vectors_are_what_the_code_gives() -> None:
    assert make_formats.JSON.read_text("utf-8") == make_formats.vectors()


@pytest.mark.parametrize(
    "name",
    [name for name in EXAMPLES if not name.endswith((".notation", ".facts"))],
)
def test_a_strict_reader_takes_the_example(name: str) -> None:
    if name in NOT_READ:
        return
    _reader(name)(EXAMPLES[name].data)


@pytest.mark.parametrize(
    ("kind", "why", "data"),
    [(row["format"], row["why"], bytes.fromhex(row["hex"])) for row in VECTORS["refused"]],
)
def test_a_strict_reader_refuses(kind: str, why: str, data: bytes) -> None:
    if kind == "envelope":
        code = why.partition(":")[0]
        with pytest.raises(Refused) as refusal:
            _r0(data, 20 if "in window 20" in why else make_formats.WINDOW)
        assert refusal.value.code == code
        return
    expected = InvalidEncoding if kind in ("dagcbor", "varint", "cid-text", "root") else Invalid
    with pytest.raises(expected):
        _reader(kind)(data)


def test_every_format_has_refusals() -> None:
    """A format that no row refuses would let a lax reader pass."""
    kinds = {row["format"] for row in VECTORS["refused"]}
    unread = {name for name in READERS if name not in kinds and not name.endswith(".cid")}
    assert unread == {
        *("vkey-v0", "vkey-v0-notes", "vkey-log", "private-key-v0", "car-small", "cosignature"),
        *("envelope-1", "envelope-2", "envelope-3", "quiet-root", "quiet-entry", "entry-bundle"),
        *("certificate-bundle", "proposal-difference", "accept-signature", "bodies-request"),
        *("levels-descriptor", "levels-envelope-1", "levels-envelope-2", "levels-envelope-3"),
        *("levels-entry-2", "levels-entry-4", "levels-entry-6", "levels-policy", "rollup-car"),
        # Of proof files the vectors have their own list; the index's file has the readers above.
        *("index-car", "proof", "proof-of-rollup"),
    }


def test_proof_files() -> None:
    given = VECTORS["proofs"]
    policies = {name: Policy.parse(text.encode()) for name, text in given["policies"].items()}
    for row in given["proofs"].values():
        proven = proof.verify(policies[row["policy"]], row["file"].encode())
        assert row["proves"] == {
            "id": proven.id.hex(),
            "topic": proven.topic.hex(),
            "sent": proven.sent_s,
            "window": proven.window,
            "envelope": proven.raw.hex(),
        }
    assert ProofFile.parse(given["proofs"]["page-blocks"]["file"].encode()).page_block is not None
    assert given["proofs"]["batch"]["file"] == EXAMPLES["proof"].data.decode()
    assert given["proofs"]["rollup"]["file"] == EXAMPLES["proof-of-rollup"].data.decode()


@pytest.mark.parametrize(
    ("why", "policy", "file"),
    [(row["why"], row["policy"], row["file"]) for row in VECTORS["proofs"]["refused"]],
    ids=[f"{row['why']}: {row['what']}" for row in VECTORS["proofs"]["refused"]],
)
def test_a_proof_file_that_must_fail(why: str, policy: str, file: str) -> None:
    trusted = Policy.parse(VECTORS["proofs"]["policies"][policy].encode())
    with pytest.raises(VerificationFailed) as refusal:
        proof.verify(trusted, file.encode())
    assert refusal.value.code == why


def test_every_code_of_a_proof_file_is_listed_and_provoked() -> None:
    listed = {
        row[0].strip("`") for row in _table_after("the first step that fails names the refusal:\n")
    }
    assert listed == set(proof.CODES) == {row["why"] for row in VECTORS["proofs"]["refused"]}


def test_trees() -> None:
    given = VECTORS["trees"]
    leaves = [tree.leaf_hash(i.to_bytes(4, "big")) for i in range(257)]
    for size, root in given["roots"].items():
        if int(size) <= len(leaves):
            assert tree.root(leaves[: int(size)]).hex() == root
    for row in given["inclusion"]:
        leaf = tree.leaf_hash(row["index"].to_bytes(4, "big"))
        proof = [bytes.fromhex(h) for h in row["proof"]]
        root = bytes.fromhex(given["roots"][str(row["size"])])
        tree.verify_inclusion(leaf, row["index"], row["size"], proof, root)
    for row in given["consistency"]:
        proof = [bytes.fromhex(h) for h in row["proof"]]
        roots = [bytes.fromhex(given["roots"].get(str(row[k]), "")) for k in ("old", "size")]
        if all(roots):
            tree.verify_consistency(row["old"], row["size"], *roots, proof)


# --- tables -------------------------------------------------------------------------------------


def _table_after(mark: str) -> list[list[str]]:
    """The cells of the rows of the table behind a mark."""
    _, found, rest = PAGE.partition(f"{mark}\n")
    assert found, mark
    rows = []
    for line in rest.strip("\n").splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows[2:]


def _first_names(mark: str) -> list[str]:
    return [row[0].strip("`") for row in _table_after(mark)]


MAPS = ["descriptor", "root", "index-root", "entry", "proposal", "certificate", "pool-page"]


@pytest.mark.parametrize("name", [*MAPS, "bodies-request", "cosignatures"])
def test_the_table_lists_the_fields(name: str) -> None:
    value = dagcbor.decode(EXAMPLES[name].data)
    assert isinstance(value, dict)
    # A root names its blocks in one of two ways.
    listed = set(_first_names(f"<!-- fields: {name} -->"))
    assert listed == set(value)


def test_the_table_lists_the_fields_of_a_proof() -> None:
    line = EXAMPLES["proof"].data.decode().split("\n")[1]
    value = dagcbor.decode(note.decode_base64(line.removeprefix("extra ")))
    assert isinstance(value, dict)
    assert _first_names("<!-- fields: proof -->") == [
        *("version", "kind", "descriptor", "entry", "root", "page_block", "page", "id")
    ]
    assert set(value) == set(_first_names("<!-- fields: proof -->"))


def test_the_tables_list_the_fields_of_a_proposals_body() -> None:
    bodies = []
    for name in ("proposal", "proposal-difference"):
        value = dagcbor.decode(EXAMPLES[name].data)
        assert isinstance(value, dict)
        body = value["body"]
        assert isinstance(body, dict)
        bodies.append(set(body))
    listed = set(_first_names("<!-- fields: proposal body -->"))
    assert listed == bodies[0]
    assert bodies[1] - listed == {"against", "add", "drop"}
    assert listed - bodies[1] == {"ids"}


def test_every_mark_of_fields_is_tested() -> None:
    marks = set(re.findall(r"<!-- fields: (.*?) -->", PAGE))
    assert marks == {*MAPS, "bodies-request", "cosignatures", "proposal body", "proof"}


def _number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize(("field", "bounds"), list(_BOUNDS.items()))
def test_the_bounds_of_the_descriptor(field: str, bounds: tuple[int, int]) -> None:
    (row,) = [row for row in _table_after("<!-- fields: descriptor -->") if row[0] == f"`{field}`"]
    match = re.match(r"([\d,]+)…([\d,]+)", row[2])
    assert match, row
    assert (_number(match[1]), _number(match[2])) == bounds


def test_every_listed_limit_is_the_codes() -> None:
    rows = _table_after(
        "Beyond the descriptor's own bounds (section 3). A reader refuses what exceeds them.\n"
    )
    assert len(rows) > 50
    assert {row[0].strip("`"): _number(row[1]) for row in rows} == {
        row[0].strip("`"): getattr(limits, row[0].strip("`")) for row in rows
    }


def test_every_limit_of_the_formats_is_listed() -> None:
    sources = (ROOT / "src" / "restante" / "formats").glob("*.py")
    used = {name for path in sources for name in re.findall(r"limits\.([A-Z_]+)", path.read_text())}
    # How much a process remembers, and how a client cuts its requests: no bytes depend on these.
    own = {"PUBLIC_KEYS_KEPT", "TILES_KEPT", "PAGE_RANGE_MAX_BYTES"}
    listed = set(re.findall(r"^\| `([A-Z][A-Z_]+)` \|", PAGE, re.M))
    assert used - own <= listed
    mentioned = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE))
    assert mentioned == listed


def test_numbers_that_the_text_repeats() -> None:
    assert "`level` | int | 0…8;" in PAGE
    assert limits.SEGMENT_MAX_LEVEL == 8
    assert "`windows` | int | 1…2,880;" in PAGE
    assert limits.SEGMENT_MAX_WINDOWS == 2880
    assert "`first_window` | int | 0…2^62" in PAGE
    assert limits.WINDOW_MAX == 2**62
    assert "first 327,680 bytes of part 0" in PAGE
    from restante.formats.layout import PREFIX_BYTES

    assert PREFIX_BYTES == 327_680
    largest = car.HEADER_BYTES + car.section_bytes(limits.SEGMENT_ROOT_MAX_BYTES)
    assert car.HEADER_BYTES == 59
    assert largest <= PREFIX_BYTES
    assert f"Part 0 of the example, {len(EXAMPLES['car'].data)} bytes" in PAGE
    assert f"over {len(EXAMPLES['accept-statement'].data)} bytes:" in PAGE


def test_numbers_of_levels_and_index() -> None:
    standard = json.dumps(level.encode(level.STANDARD))
    assert f"New sets have `{standard}`" in PAGE
    assert f"D = ⌈{level.DAY_S:,} / `window_s`⌉" in PAGE
    assert level.children_kept_until(LEVELS, ROLLUP) == 2 + -(-level.DAY_S // LEVELS.window_s)
    assert f"a *row*, {index.ROW.size} bytes" in PAGE
    assert f"| list | 1…{limits.INDEX_MAX_CHILDREN} items" in PAGE
    assert f"names of blocks, at most {limits.INDEX_NAMES:,};" in PAGE
    largest = car.HEADER_BYTES + car.section_bytes(limits.INDEX_ROOT_MAX_BYTES)
    assert largest <= 327_680
    assert limits.BLOCK_MAX_BYTES == 1_048_576
    assert (
        "| bytes or null | the page-table block that has the page's row, at most 1,048,576" in PAGE
    )


def test_the_spans_of_the_second_example() -> None:
    """The table of spans is what the descriptor gives, and none is what the entries add up to."""
    archive = format_levels.worked()
    shown = {}
    for span, windows, named, note_ in _table_after("In its log of ten windows:\n"):
        number = tuple(map(int, span.strip("()").split(",")))
        first, last = (int(n) for n in re.split(", | to ", windows))
        shown[number] = (first, last, int(named), note_)
    ended = [each for w in range(format_levels.SIZE) for each in level.ended_by(LEVELS, w)]
    assert {
        (s.level, s.number): (s.first, s.stop - 1, level.entry_window(LEVELS, s)) for s in ended
    } == {number: row[:3] for number, row in shown.items()}
    total = sum(archive.entries[w].bytes_ for w in (4, 5))
    assert shown[1, 2][3] == f"none: {total:,} bytes"
    assert archive.entries[6].rollups == (None,)


def test_every_refusal_of_r0_is_listed() -> None:
    _, _, rest = PAGE.partition("**R0**, in this order")
    table = rest.partition("Only *whether*")[0]
    listed = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)*)`", table)) - {"w"}
    reception = {"future", "expired", "very-old", "rlp-too-large"}
    assert listed == set(valid.CODES) - reception


def test_every_answer_is_listed() -> None:
    shown = {name.removeprefix("answer-") for name in EXAMPLES if name.startswith("answer-")}
    for kind in shown:
        assert re.search(rf"^\| `{kind}` \|", PAGE, re.M), kind
    from restante.formats import answer

    assert shown == set(answer._ANSWERS)


PATHS = {
    "checkpoint": "checkpoint",
    "descriptor": "descriptor",
    "policy": "policy",
    "watch/<name>": "watch/v0",
    "contact/<name>": "contact/v0",
    "tile/<l>/<n>": "tile/0/x001/x234/067.p/5",
    "tile/entries/<n>": "tile/entries/005",
    "certificate/<n>": "certificate/005.p/255",
    "segment/<level>/<n>.car": "segment/0/x001/234.car",
    "segment/<level>/<n>.<part>.car": "segment/0/000.1.car",
}


def test_paths_content_types_and_what_may_change() -> None:
    rows = _table_after(
        "A folder of files, the same on a disk, a web server, or a content-addressed store. "
        "All but those marked\n\\* are immutable once written.\n"
    )
    seen = set()
    for names, media_type, _ in rows:
        for name in re.findall(r"`(.*?)`", names):
            path = check_path(PATHS[name])
            seen.add(name)
            assert routes_archive.media_type(path) == media_type.strip("`")
            assert routes_archive.is_mutable(path) == ("\\*" in names)
    assert seen == set(PATHS)


def test_the_routes_are_served() -> None:
    source = Path(routes_node.__file__).read_text("utf-8")
    _, _, rest = PAGE.partition("## 10. Messages")
    listed = re.findall(r"^\| `(GET|POST) (/[a-z/]*)(\S*)` \|", rest, re.M)
    assert len(listed) == 7
    for method, path, _ in listed:
        pattern = rf'Route\("{path.rstrip("/")}(/\{{window\}})?", [a-z_.]+, methods=\["{method}"\]'
        assert re.search(pattern, source), path
    for constant in (peers.DAG_CBOR_TYPE, peers.BODIES_TYPE, peers.TIME_HEADER):
        assert f"`{constant}`" in rest


def test_the_examples_belong_together() -> None:
    """What the text says of them: one set, a quiet window, then three envelopes on two topics."""
    assert sha256(EXAMPLES["descriptor"].data).digest() == EXAMPLES["set-id"].data == SET.set_id
    worked = make_formats.worked()
    assert [len(segment.rows) for segment in worked.segments] == [0, 1]
    assert len({facts.topic for facts in worked.facts}) == 2
    signed = POLICY.verify_checkpoint(EXAMPLES["checkpoint"].data)
    assert signed.root == tree.root(worked.leaves)
    assert note.verify(
        note.Note.parse(EXAMPLES["watch"].data), [SET.validators[0].of_kind(note.ED25519)]
    )


def test_a_changed_example_is_noticed() -> None:
    """The comparison itself can fail: a digit of any block makes a difference."""
    name, _, lines = make_formats.blocks(PAGE)[-1]
    changed = PAGE.replace(lines[-1], lines[-1][:-1] + ("0" if lines[-1][-1] != "0" else "1"))
    assert make_formats.filled(changed, EXAMPLES) == PAGE != changed, name


def test_verification_failed_is_an_invalid_error() -> None:
    """Both are what `Invalid` above stands for."""
    assert issubclass(VerificationFailed, Invalid)
    assert issubclass(InvalidEncoding, Invalid)
