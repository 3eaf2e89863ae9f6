"""verify/verify.mjs on sources of every kind: folders, servers, liars, publishers that gave up."""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from foreign.test_verify_mjs import VECTORS, VERIFIER, node
from restante.formats import whisper
from restante.formats.index_cut import build as build_index
from restante.formats.level import Level, Span
from restante.testing.archive_fixture import envelope, make_archive, make_set
from restante.testing.cluster import Cluster, Process, free_ports, running

__all__ = ["node"]  # the fixture

Rows = list[dict[str, Any]]
Ask = Callable[..., tuple[int, Rows]]


@pytest.fixture
def ask(node: str) -> Ask:
    """A query by the verifier: (exit code, rows: envelopes, then their sum or what was refused)."""

    def asked(policy: Path, source: object, topic: str, *more: str) -> tuple[int, Rows]:
        command = [node, VERIFIER, "query", "--policy", policy, "--source", source]
        done = subprocess.run(
            [*map(str, command), "--topic", topic, "--json", *more],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (0, 3), done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return asked


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(VECTORS.read_text())
    return made


@pytest.fixture
def archive(tmp_path: Path, vectors: dict[str, Any]) -> Path:
    """The small archive of the vectors as a folder; its policy beside it."""
    folder = tmp_path / "archive"
    for path, data in vectors["archive"]["files"].items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(data))
    (tmp_path / "policy").write_text(vectors["archive"]["policy"])
    return folder


def facts(rows: Rows) -> list[tuple[str, int, int]]:
    return [(row["id"], row["sent"], row["window"]) for row in rows if "envelope" in row]


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_answers(ask: Ask, archive: Path, vectors: dict[str, Any]) -> None:
    policy = archive.parent / "policy"
    whole = [query for query in vectors["archive"]["queries"] if query["windows"] == [0, 10]]
    assert len(whole) == 4
    for query in whole:
        code, rows = ask(policy, archive, query["topic"])
        wanted = [(each["id"], each["sent"], each["window"]) for each in query["found"]]
        assert (code, facts(rows)) == (0, wanted)
        assert all(row["topic"] == query["topic"] for row in rows)
        assert (rows[-1]["found"], rows[-1]["complete_to"]) == (len(wanted), 9)
        assert ("absence is proved for windows 0…9" in rows[-1]["says"]) == (not wanted)
    everywhere = [(each["id"], each["sent"], each["window"]) for each in whole[0]["found"]]
    code, rows = ask(policy, archive, "a1b2c3d4", "--since", "4")
    assert (code, facts(rows)) == (0, [row for row in everywhere if row[2] >= 4])
    for wrong in (("--since", "11"), ("--since=-1",), ("--since", "x")):
        assert ask(policy, archive, "a1b2c3d4", *wrong)[1][0]["refused"] == "query"
    assert ask(policy, archive, "A1B2C3D4")[1][0]["refused"] == "query"
    assert ask(policy, archive / "none", "a1b2c3d4")[1][0]["refused"] == "not-found"


def test_a_changed_bit_anywhere_is_refused_or_changes_nothing(ask: Ask, archive: Path) -> None:
    """Of every file, at several places: a lie is never believed."""
    policy = archive.parent / "policy"
    truth = facts(ask(policy, archive, "a1b2c3d4")[1])
    assert truth
    refused = set()
    for file in sorted(path for path in archive.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for at in (len(data) // 2, len(data) - 2):
            file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            code, rows = ask(policy, archive, "a1b2c3d4")
            if code == 0:
                assert facts(rows) == truth, (file, at)
            else:
                refused.add(file.relative_to(archive).as_posix().split("/")[0])
                assert rows[-1]["refused"]
        file.write_bytes(data)
    assert refused >= {"checkpoint", "descriptor", "tile", "segment"}


def test_a_window_of_many_topics(ask: Ask, tmp_path: Path) -> None:
    """Its directory is in blocks."""
    made = make_set()
    start = made.descriptor.start_s(1)
    busy = [envelope(n.to_bytes(4, "big"), start + n % 20) for n in range(16_500)]
    make_archive(tmp_path, {1: busy}, 3, made=made)
    for topic, count in (("00000007", 1), ("00004000", 1), ("0000ffff", 0)):
        code, rows = ask(tmp_path / "policy", tmp_path, topic)
        assert (code, rows[-1].get("found"), rows[-1].get("complete_to")) == (0, count, 2), rows


@pytest.mark.slow
def test_a_window_of_many_pages_in_two_files(ask: Ask, tmp_path: Path) -> None:
    """Its page table is in blocks, and some of its pages are in a second part."""
    made = make_set()
    start = made.descriptor.start_s(1)
    data = [n.to_bytes(4, "big") + bytes(33_000) for n in range(2_100)]
    raws = [envelope((n % 97).to_bytes(4, "big"), start, data[n]) for n in range(2_100)]
    make_archive(tmp_path, {1: raws}, 2, made=made)
    assert (tmp_path / "segment/0/001.1.car").is_file()
    total = 0
    for topic in range(98):
        code, rows = ask(tmp_path / "policy", tmp_path, topic.to_bytes(4, "big").hex())
        assert code == 0, rows
        total += rows[-1]["found"]
    assert total == 2_100


def test_what_a_publisher_gave_up_is_read_in_its_roll_up(ask: Ask, tmp_path: Path) -> None:
    """Windows of an hour, so that a day has 24: batches and the smaller roll-ups of days ago are
    gone, and below a floor everything is. Wherever one asks from, nothing else is found."""
    levels = (Level(2), Level(4), Level(8, "index"))
    made = make_set(
        genesis_s=1_800_000_000, window_s=3_600, slack_s=7_300, rollup_lag=1, levels=levels
    )
    windows, day = 60, 24
    topic = b"\x00\x00\x00\x07"
    raws = {
        w: [envelope(each, made.descriptor.start_s(w)) for each in (topic, b"beta")]
        for w in range(0, windows, 3)
    }
    archive = make_archive(tmp_path, raws, windows, made=made)

    def gone(number: int, width: int) -> bool:
        """Whether an entry names the roll-up above, and has done so for more than a day."""
        above = (number // 2 + 1) * 2 * width
        return above - 1 + 1 + day + 1 < windows

    released = [
        Span(level, n, n * width, width)
        for level, width in ((0, 1), (1, 2))
        for n in range(windows // width)
        if gone(n, width)
    ]
    assert len(released) > 40
    archive.release(released)
    policy = tmp_path / "policy"
    for since in (0, 1, 3, 6, 7, 17, 30, 35, 36, 41, 59, 60):
        code, rows = ask(policy, tmp_path, topic.hex(), "--since", str(since))
        assert code == 0, (since, rows)
        assert sorted(row[2] for row in facts(rows)) == [w for w in raws if w >= since]
    archive.retain(18)
    for since, code in ((0, 3), (11, 3), (18, 0), (19, 0)):
        got, rows = ask(policy, tmp_path, topic.hex(), "--since", str(since))
        assert got == code, (since, rows)
        assert code == 0 or rows[-1]["refused"] == "not-found"


@pytest.mark.slow
def test_every_byte_of_a_proof_and_an_index_with_tables(
    node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(VECTORS.parent))
    import format_indexes

    tables = [format_indexes.Table(number) for number in range(format_indexes.CHILDREN)]
    index = build_index(format_indexes.SET_ID, Span(2, 0, 0, 2 * format_indexes.CHILDREN), tables)
    file = tmp_path / "index.car"
    file.write_bytes(index.car())
    script = Path(__file__).parent / "verify_vectors.mjs"
    done = subprocess.run(
        [node, str(script), str(VERIFIER), str(VECTORS), "1", str(file)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert sum(", byte " in name for name in told["counts"]) > 20_000
    assert sum(": pages" in name for name in told["counts"]) == 8


# --- servers --------------------------------------------------------------------------------------


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Whole(SimpleHTTPRequestHandler):
    """A server that knows no ranges."""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Hostile(BaseHTTPRequestHandler):
    """Serves the folder, but for one path, of which it does what `deed` says."""

    folder = Path()
    path_of_deed = ""
    deed = ""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        if path == self.path_of_deed:
            with suppress(OSError):  # it hangs up, as it should
                getattr(self, self.deed)()
            return
        file = self.folder / path
        if not file.is_file():
            self.send_error(404)
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        data = file.read_bytes()[first : last + 1]
        self.send_response(206 if data else 416)
        self.end_headers()
        self.wfile.write(data)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(65_536))

    def dripping(self) -> None:
        self.send_response(206)
        self.end_headers()
        while True:
            self.wfile.write(b"\x82")
            time.sleep(0.05)

    def nested(self) -> None:
        self.send_response(206)
        self.end_headers()
        self.wfile.write(b"\x81" * 16_000)

    def redirecting(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/policy")
        self.end_headers()

    def failing(self) -> None:
        self.send_error(500)

    def withheld(self) -> None:
        self.send_error(410)

    def empty(self) -> None:
        self.send_response(206)
        self.end_headers()


def hostile(archive: Path, path: str, deed: str) -> type[Hostile]:
    return type("Handler", (Hostile,), {"folder": archive, "path_of_deed": path, "deed": deed})


def test_a_server_without_ranges_will_do(ask: Ask, archive: Path, vectors: dict[str, Any]) -> None:
    with serving(partial(Whole, directory=str(archive))) as url:
        code, rows = ask(archive.parent / "policy", url + "/", "00000001")
    (query,) = [each for each in vectors["archive"]["queries"] if each["why"] == "another one"]
    assert code == 0
    assert [row[0] for row in facts(rows)] == [each["id"] for each in query["found"]]


@pytest.mark.parametrize(
    ("path", "deed", "code"),
    [
        ("checkpoint", "endless", "too-large"),
        ("descriptor", "nested", "wrong-set"),
        ("descriptor", "endless", "too-large"),
        ("tile/0/000.p/10", "endless", "too-large"),
        ("tile/entries/000.p/10", "endless", "too-large"),
        ("segment/0/008.car", "endless", "car"),
        ("segment/0/008.car", "empty", "car"),
        ("segment/2/000.car", "redirecting", "unavailable"),
        ("segment/2/000.car", "failing", "unavailable"),
        ("segment/2/000.car", "withheld", "withheld"),
    ],
)
def test_a_hostile_source_gets_an_error_with_a_name(
    ask: Ask, archive: Path, path: str, deed: str, code: str
) -> None:
    with serving(hostile(archive, path, deed)) as url:
        got, rows = ask(archive.parent / "policy", url, "a1b2c3d4")
    assert (got, rows[-1]["refused"]) == (3, code)


def test_a_source_that_drips_is_left(node: str, archive: Path) -> None:
    code = f"""
        const v = await import({json.dumps(VERIFIER.as_uri())});
        const get = v.httpGetter(process.argv[1], 300);
        await v.query({json.dumps((archive.parent / "policy").read_text())}, get, 'a1b2c3d4')
          .catch((e) => console.log(e instanceof v.Refused, e.code));
    """
    with serving(hostile(archive, "checkpoint", "dripping")) as url:
        done = subprocess.run(
            [node, "--input-type=module", "-e", code, url],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.split() == ["true", "unavailable"], done.stderr


# --- a set of four with small levels --------------------------------------------------------------

LIVE = {"window_s": 1, "pow_floor_millionths": 0, "rollup_lag": 2}
LEVELS = (Level(2), Level(4, "index"))
WINDOWS = 10
POSTED = 15


def hand_in(url: str, topic: bytes, number: int) -> None:
    raw = whisper.assemble(int(time.time()) + 50, 50, topic, b"%d" % number, number)
    response = httpx2.post(f"{url}/envelopes", content=raw, timeout=5, trust_env=False)
    assert response.status_code == 202, response.text


def ours(policy: Path, url: str, topic: str, proofs: Path) -> list[str]:
    """The ids that our client finds; it saves a proof file of each."""
    done = subprocess.run(
        [sys.executable, "-m", "restante.cli.main", "query", "--policy", str(policy), "--source",
         url, "--topic", topic, "--no-memory", "--json", "--proofs", str(proofs)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()[:-1]]


def test_it_agrees_with_our_client_on_four_validators_with_day_indexes(
    node: str, ask: Ask, tmp_path: Path
) -> None:
    """Through a gateway, over roll-ups and indexes: topics present and absent, and the proof files
    that our client saves; also the folder that a validator publishes."""
    cluster = Cluster.create(
        tmp_path,
        4,
        parameters=LIVE,
        levels=LEVELS,
        values={"validator.grace_s": 0, "validator.step_s": 1},
    )
    (port,) = free_ports(1)
    validators = [Process.start(tmp_path / name, url) for name, url in cluster.urls.items()]
    home = cluster.add("gw", ["gateway"], {"gateway.port": port})
    gateway = Process.start(home, f"http://127.0.0.1:{port}")
    topics = [bytes([0, 0, 0, n]) for n in range(3)]
    with running([*validators, gateway]):
        for process in (*validators, gateway):
            process.wait_ready()
        for number in range(POSTED):
            hand_in(validators[number % 4].url, topics[number % 3], number)
            time.sleep(0.2)
        last = max(each.status()["decided"] for each in validators) + 4
        deadline = time.monotonic() + 60
        while min(each.status()["published"] for each in validators) < max(WINDOWS, last):
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.2)
        proofs = tmp_path / "proofs"
        proofs.mkdir()
        for topic in (*(topic.hex() for topic in topics), "fffffff0"):
            mine = ours(cluster.policy, gateway.url, topic, proofs)
            code, rows = ask(cluster.policy, gateway.url, topic)
            assert code == 0, rows
            assert rows[-1]["complete_to"] >= WINDOWS - 1
            assert [row[0] for row in facts(rows)] == mine
            assert len(mine) == (POSTED // 3 if topic != "fffffff0" else 0)
        code, rows = ask(cluster.policy, tmp_path / "v1" / "archive", "00000001")
        assert (code, len(facts(rows))) == (0, POSTED // 3)
    files = sorted(map(str, proofs.glob("*.tlog-proof")))
    assert len(files) == POSTED
    done = subprocess.run(
        [node, str(VERIFIER), "proof", "--policy", str(cluster.policy), "--json", *files],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    proved = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert proved == [Path(file).stem for file in files]
