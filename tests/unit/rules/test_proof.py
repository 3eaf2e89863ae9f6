"""Proof files: what they prove, that nothing in one is passed over, and every way to fail."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import pytest

from restante import limits
from restante.errors import VerificationFailed
from restante.formats import cid as cids
from restante.formats import dagcbor, tree
from restante.formats.checkpoint import Checkpoint
from restante.formats.cut import page_table
from restante.formats.entry import LogEntry
from restante.formats.level import Level, Span, due_at
from restante.formats.note import Note, Signature
from restante.formats.policy import Policy
from restante.formats.proof import ProofFile
from restante.formats.segment import Segment, build
from restante.rules.proof import CODES, trimmed, verify
from restante.testing.archive_fixture import MadeSet, envelope, make_set, member

MADE = make_set(levels=(Level(2), Level(4, "index")), rollup_lag=1)
D = MADE.descriptor
POLICY = MADE.policy()
TOPICS = (b"abcd", b"efgh", b"ijkl")
RAWS = [
    (window, envelope(topic, D.start_s(window) + n, bytes([window, n]) * 40))
    for window in range(2)
    for n, topic in enumerate(TOPICS * 3)
]
BATCH, ROLLUP = Span(0, 0, 0, 1), Span(1, 0, 0, 2)


@contextmanager
def small_tables() -> Iterator[None]:
    """Three records to a page, two rows to a table: page-table blocks without megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "PAGE_TARGET_BYTES", 400)
        patch.setattr(limits, "PAGE_TABLE_ROWS", 2)
        yield


class Log(NamedTuple):
    """Three windows, in the entry of the last of which a roll-up comes due."""

    entries: list[LogEntry]
    segments: dict[Span, Segment]

    @classmethod
    def of(cls, change: Callable[[Segment], Segment] = lambda segment: segment) -> "Log":
        """`change` makes the roll-up another one before it is signed."""
        members = [member(D.set_id, window, raw) for window, raw in RAWS]
        segments = {
            of: build(
                D.set_id,
                [each for each in members if each.window in of],
                *of[2:],
                of.level,
                bucket_bits=D.bucket_bits,
            )
            for of in (BATCH, Span(0, 1, 1, 1), Span(0, 2, 2, 1), ROLLUP)
        }
        segments[ROLLUP] = change(segments[ROLLUP])
        assert due_at(D, 2) == [ROLLUP]
        rollups = [(), (), (segments[ROLLUP].root_cid,)]
        entries = [segments[Span(0, w, w, 1)].entry(rollups[w]) for w in range(3)]
        return cls(entries, segments)

    def leaves(self) -> list[bytes]:
        return [tree.leaf_hash(entry.encode()) for entry in self.entries]

    def proof(self, index: int, of: Span, raw: bytes) -> ProofFile:
        segment = self.segments[of]
        rows, _, blocks = page_table(segment.rows)
        pages = dict(segment.blocks)
        number, page = next(
            (n, pages[row.cid]) for n, row in enumerate(segment.rows) if raw in pages[row.cid]
        )
        leaves = self.leaves()
        return ProofFile(
            index=index,
            hashes=tuple(
                tree.inclusion_proof(
                    index,
                    len(leaves),
                    lambda level, n: tree.root(leaves[n << level :][: 1 << level]),
                )
            ),
            checkpoint=MADE.checkpoint(len(leaves), tree.root(leaves)),
            descriptor=D.encode(),
            entry=self.entries[index].encode(),
            root=segment.blocks[0][1],
            page_block=None if rows is not None else blocks[number // limits.PAGE_TABLE_ROWS][1],
            page=page,
            id=sha256(raw).digest(),
        )


LOG = Log.of()
OF_BATCH, OF_ROLLUP = LOG.proof(0, BATCH, RAWS[4][1]), LOG.proof(2, ROLLUP, RAWS[4][1])
with small_tables():
    BLOCKS_LOG = Log.of()
    OF_BATCH_BLOCK = BLOCKS_LOG.proof(0, BATCH, RAWS[4][1])
    OF_ROLLUP_BLOCK = BLOCKS_LOG.proof(2, ROLLUP, RAWS[4][1])
FILES = {
    "batch": OF_BATCH,
    "roll-up": OF_ROLLUP,
    "batch, page-table block": OF_BATCH_BLOCK,
    "roll-up, page-table block": OF_ROLLUP_BLOCK,
}


def refusals(files: Iterable[bytes]) -> set[str | None]:
    """The codes of what is refused, and None for a file that holds."""

    def refusal(data: bytes) -> str | None:
        try:
            verify(POLICY, data)
        except VerificationFailed as error:
            return error.code
        return None

    return {refusal(data) for data in files}


@pytest.mark.parametrize("name", FILES)
def test_what_a_proof_proves(name: str) -> None:
    proof = FILES[name]
    assert (proof.page_block is not None) == ("block" in name)
    with tables_of(name):
        proven = verify(POLICY, proof.encode())
    window, raw = RAWS[4]
    assert (proven.window, proven.raw, proven.id) == (window, raw, sha256(raw).digest())
    assert proven.topic == TOPICS[1]
    assert proven.sent_s == D.start_s(0) + 4
    assert proven.descriptor == D
    assert proven.checkpoint.size == 3
    assert [name for name, _ in proven.checkpoint.cosigners] == ["v01", "v02", "v03"]


def tables_of(name: str) -> AbstractContextManager[object]:
    return small_tables() if "block" in name else nullcontext()


def cut_or_doubled(data: bytes, at: int) -> list[bytes]:
    return [data[:at] + data[at + 1 :], data[: at + 1] + data[at:]]


@pytest.mark.parametrize("name", FILES)
def test_every_byte_matters(name: str) -> None:
    """Changed, doubled or left out: whichever byte it is, the file fails by a named code."""
    data = FILES[name].encode()
    flipped = (data[:at] + bytes([byte ^ 1]) + data[at + 1 :] for at, byte in enumerate(data))
    with tables_of(name):
        assert refusals([data]) == {None}
        assert refusals(flipped) <= CODES.keys()
        for at in range(len(data)):
            assert refusals(cut_or_doubled(data, at)) <= CODES.keys()


@pytest.mark.parametrize("name", FILES)
def test_every_other_value_of_some_bytes(name: str) -> None:
    data = FILES[name].encode()
    with tables_of(name):
        for at in range(0, len(data), 499):
            others = set(range(256)) - {data[at]}
            changed = (data[:at] + bytes([value]) + data[at + 1 :] for value in others)
            assert refusals(changed) <= CODES.keys()


# --- every code -----------------------------------------------------------------------------------


def note_of(proof: ProofFile) -> Note:
    return Note.parse(proof.checkpoint)


def signed_by(*lines: Signature, text: str | None = None) -> bytes:
    note = note_of(OF_ROLLUP)
    return replace(OF_ROLLUP, checkpoint=Note(text or note.text, lines).encode()).encode()


LOG_LINE, *COSIGNED = note_of(OF_ROLLUP).signatures
OTHER: MadeSet = make_set(seed=1)
OTHER_POLICY = OTHER.policy()
TWO_LOGS = replace(POLICY, logs=(*POLICY.logs, *OTHER_POLICY.logs))


def other_network() -> tuple[Policy, bytes]:
    other = make_set(network="pigeon-v1").descriptor
    policy = replace(POLICY, set_id=other.set_id)
    return policy, replace(OF_ROLLUP, descriptor=other.encode()).encode()


def of_another_log() -> bytes:
    """A checkpoint of a log that the policy knows, and the descriptor of another one's set."""
    leaves = LOG.leaves()
    text = Checkpoint(OTHER.descriptor.origin, len(leaves), tree.root(leaves)).text()
    lines = [key.cosignature(text, 9) for key in MADE.validators[: D.k]]
    return signed_by(OTHER.log_key.note_signature(text), *lines, text=text)


def signed(index: int, entry: LogEntry, **changes: object) -> bytes:
    """The roll-up's proof in a log in which another entry stands, signed and all."""
    entries = [entry if w == index else own for w, own in enumerate(LOG.entries)]
    proof = Log(entries, LOG.segments).proof(2, ROLLUP, RAWS[4][1])
    return replace(proof, **changes).encode()  # type: ignore[arg-type]


def signed_root(**fields: object) -> bytes:
    """The roll-up's proof with another root, which its entry names."""

    def change(segment: Segment) -> Segment:
        root = replace(segment.root, **fields)  # type: ignore[arg-type]
        block = root.encode()
        cid = cids.cid_of(cids.DAG_CBOR, block)
        return Segment(cid, root, segment.rows, [(cid, block), *segment.blocks[1:]])

    return Log.of(change).proof(2, ROLLUP, RAWS[4][1]).encode()


def altered(text: bytes, old: bytes, new: bytes) -> bytes:
    assert old in text
    return text.replace(old, new, 1)


TEXT = OF_ROLLUP.encode()
ENTRY = LOG.entries[2]
ROW = LOG.segments[ROLLUP].rows[0]
ROOTS = [LOG.segments[of].blocks[0][1] for of in (BATCH, Span(0, 1, 1, 1))]
BAD_LINE = replace(COSIGNED[0], value=b"\1" + COSIGNED[0].value[1:])
STRANGE_LINE = OTHER.validators[0].cosignature(note_of(OF_ROLLUP).text, 1)
OTHER_KEY = replace(COSIGNED[2], key_id=b"\0\0\0\0")


def changed(proof: ProofFile = OF_ROLLUP, **fields: object) -> bytes:
    return replace(proof, **fields).encode()  # type: ignore[arg-type]


# (code, what is wrong, file), under the set's policy.
FAILURES: list[tuple[str, str, bytes]] = [
    ("proof", "nothing", b""),
    ("proof", "a proof of another kind", altered(TEXT, b"extra ", b"index ")),
    ("checkpoint", "no note", changed(checkpoint=b"")),
    ("checkpoint", "four lines", signed_by(LOG_LINE, text="a\n1\nb\nc\n")),
    ("origin", "an unknown log", altered(TEXT, b"restante.test", b"restanto.test")),
    ("log-signature", "without the log's line", signed_by(*COSIGNED)),
    ("bad-signature", "of another time", signed_by(LOG_LINE, BAD_LINE, *COSIGNED[1:])),
    ("unknown-signature", "a stranger's line", signed_by(LOG_LINE, *COSIGNED, STRANGE_LINE)),
    ("unknown-signature", "a line twice", signed_by(LOG_LINE, *COSIGNED, COSIGNED[2])),
    ("unknown-signature", "a known name", signed_by(LOG_LINE, *COSIGNED[:2], OTHER_KEY)),
    ("quorum", "two of three", signed_by(LOG_LINE, *COSIGNED[:2])),
    ("inclusion", "another index", changed(index=1)),
    ("inclusion", "a hash too many", changed(hashes=(*OF_ROLLUP.hashes, bytes(32)))),
    ("entry", "of another window", signed(2, replace(ENTRY, window=3))),
    ("entry", "no roll-up where one comes due", signed(2, replace(ENTRY, rollups=()))),
    ("root", "a batch's, for a roll-up", changed(root=ROOTS[0])),
    ("root", "another batch's", changed(OF_BATCH, root=ROOTS[1])),
    ("root", "one, where the entry names none", signed(2, replace(ENTRY, rollups=(None,)))),
    ("root", "of another level", signed_root(level=2)),
    ("root", "of another depth", signed_root(depth=0, bytes_=70_000)),
    ("page-table", "another segment's page", changed(page=OF_BATCH.page)),
    ("page-table", "a block too many", changed(page_block=dagcbor.encode([]))),
    ("page", "of fewer records", signed_root(count=17, pages=(ROW._replace(records=17),))),
    ("absent", "an id that is elsewhere", changed(id=bytes(32))),
]
OTHER_POLICIES: list[tuple[str, str, Policy, bytes]] = [
    ("no-set", "a policy of no set", replace(POLICY, set_id=None), TEXT),
    ("wrong-set", "another set's policy", OTHER_POLICY, TEXT),
    ("descriptor", "a network that nobody reads", *other_network()),
    ("origin", "another log of the policy", TWO_LOGS, of_another_log()),
]
ALL = [(code, why, POLICY, data) for code, why, data in FAILURES] + OTHER_POLICIES


@pytest.mark.parametrize(
    ("code", "policy", "data"),
    [(code, policy, data) for code, _, policy, data in ALL],
    ids=[f"{code}: {why}" for code, why, *_ in ALL],
)
def test_a_proof_that_fails(code: str, policy: Policy, data: bytes) -> None:
    with pytest.raises(VerificationFailed) as error:
        verify(policy, data)
    assert error.value.code == code


def test_every_code_is_provoked() -> None:
    assert {code for code, *_ in ALL} == set(CODES)


@pytest.mark.parametrize(
    "change",
    [
        {"page_block": None},
        {"page_block": OF_BATCH_BLOCK.page_block},
        {"page_block": dagcbor.encode([])},
    ],
)
def test_a_page_table_block_that_the_root_does_not_name(change: dict[str, bytes | None]) -> None:
    data = changed(OF_ROLLUP_BLOCK, **change)
    with small_tables(), pytest.raises(VerificationFailed) as error:
        verify(POLICY, data)
    assert error.value.code == "page-table"


def test_an_envelope_that_is_outside_its_window_proves_nothing() -> None:
    """The validators signed what R0 forbids."""
    late = envelope(b"abcd", D.start_s(0) + 400)
    segment = build(D.set_id, [member(D.set_id, 0, late)], 0, bucket_bits=D.bucket_bits)
    log = Log([segment.entry(), *LOG.entries[1:]], {BATCH: segment})
    with pytest.raises(VerificationFailed) as error:
        verify(POLICY, log.proof(0, BATCH, late).encode())
    assert error.value.code == "page"


# --- in years, and with what lines ----------------------------------------------------------------


def test_a_proof_holds_whatever_the_year(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock is read, and a cosignature's time is only what the cosigner says."""

    def nobody_asks() -> float:
        raise AssertionError("a clock was read")

    for name in ("time", "time_ns", "monotonic"):
        monkeypatch.setattr(time, name, nobody_asks)
    text = note_of(OF_ROLLUP).text
    for time_s in (1, D.genesis_s, 1 << 40):
        lines = [key.cosignature(text, time_s) for key in MADE.validators[: D.k]]
        proven = verify(POLICY, signed_by(LOG_LINE, *lines))
        assert [at for _, at in proven.checkpoint.cosigners] == [time_s] * 3


def test_other_keys_lines_are_left_out() -> None:
    text = note_of(OF_ROLLUP).text
    stranger = OTHER.validators[0].cosignature(text, 1)
    again = MADE.validators[0].cosignature(text, 5)
    loose = Note(text, (stranger, LOG_LINE, *COSIGNED, again, stranger)).encode()
    assert POLICY.verify_checkpoint(loose)
    assert trimmed(POLICY, loose) == OF_ROLLUP.checkpoint
    assert trimmed(POLICY, OF_ROLLUP.checkpoint) == OF_ROLLUP.checkpoint
    with pytest.raises(VerificationFailed) as error:
        verify(POLICY, changed(checkpoint=loose))
    assert error.value.code == "unknown-signature"


def test_more_than_a_quorum_may_have_signed() -> None:
    text = note_of(OF_ROLLUP).text
    lines = [key.cosignature(text, 7) for key in MADE.validators]
    assert len(verify(POLICY, signed_by(LOG_LINE, *lines)).checkpoint.cosigners) == 4
