"""HTTP sources against a loopback server that does every wrong thing."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from restante import limits
from restante.client import (
    Client,
    FolderSource,
    ProcessMemory,
    Query,
    SourceFailed,
    SourceOverflow,
    parse_source,
)
from restante.client.aio_sources import AsyncHttpSource
from restante.client.failures import CODES
from restante.client.http import HttpSource
from restante.client.sources import sources_of
from restante.errors import ConfigError, InvalidEncoding, VerificationFailed
from restante.formats import cid
from restante.testing.archive_fixture import envelope, make_archive, make_set

BODY = bytes(range(256)) * 40
GRACE_S = 0.4


class Server:
    """One connection after another: reads a request's head, hands it to `answer(send, head)`."""

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.connections = 0
        self.stopped = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while not self.stopped.is_set():
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
            self.threads[-1].start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            data = b""
            while not self.stopped.is_set():
                while b"\r\n\r\n" not in data:
                    more = connection.recv(4096)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head.decode())
                if self.answer(connection.sendall, head.decode()) == "close":
                    return

    def close(self):
        self.stopped.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join(timeout=5)
            assert not thread.is_alive()


class Blocking:
    """An asynchronous source, driven by a loop in a thread of its own."""

    def __init__(self, url, **options):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.source = AsyncHttpSource(url, **options)
        self.name = self.source.name

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def get(self, path, **range_):
        return self.wait(self.source.fetch(path, **range_))

    def close(self):
        if not self.loop.is_closed():
            self.wait(self.source.aclose())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(5)
            self.loop.close()


FACES = {"threads": HttpSource, "asyncio": Blocking}


@pytest.fixture(params=FACES)
def face(request):
    """Both kinds of sources answer alike."""
    return FACES[request.param]


@pytest.fixture
def serve(request):
    """Start a server, and a source of it with short time-outs, of the test's face if it has one."""
    opened = []
    names = request.fixturenames
    kind = request.getfixturevalue("face") if "face" in names else HttpSource

    def start(answer, **options):
        server = Server(answer)
        options = {"grace_s": GRACE_S, "min_bytes_per_s": 100_000, **options}
        source = kind(server.url, **options)
        opened.extend([source, server])
        return source, server

    yield start
    for each in opened:
        each.close()


def response(status, body=b"", *headers, length=None):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def asked_range(head):
    for line in head.split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "range":
            first, _, last = value.removeprefix("bytes=").partition("-")
            return int(first), int(last) if last else len(BODY) - 1
    return None


def good(send, head):
    """A server as it should be."""
    asked = asked_range(head)
    if asked is None:
        send(response("200 OK", BODY))
        return
    first, last = asked
    if first >= len(BODY):
        send(response("416 Range Not Satisfiable"))
        return
    part = BODY[first : last + 1]
    end = first + len(part) - 1
    send(response("206 Partial", part, f"Content-Range: bytes {first}-{end}/{len(BODY)}"))


def test_whole_files_and_ranges(face, serve):
    source, server = serve(good)
    assert source.get("checkpoint", max_bytes=1 << 20) == BODY
    assert source.get("checkpoint", offset=5, length=7, max_bytes=99) == BODY[5:12]
    assert source.get("checkpoint", offset=5, max_bytes=1 << 20) == BODY[5:]
    assert source.get("checkpoint", length=9, max_bytes=9) == BODY[:9]
    # At and behind the end there is less, or nothing.
    assert source.get("checkpoint", offset=len(BODY) - 3, length=9, max_bytes=99) == BODY[-3:]
    assert source.get("checkpoint", offset=len(BODY), length=9, max_bytes=99) == b""
    assert server.connections == 1  # one connection for all of them
    assert all("ccept-Encoding: identity" in head for head in server.heads)


def test_the_base_url_may_have_a_path(serve):
    _, server = serve(good)
    for url in (server.url + "/archives/one", server.url + "/archives/one/"):
        source = HttpSource(url)
        source.get("tile/0/000", max_bytes=1 << 20)
        source.close()
    assert {head.split("\r\n")[0] for head in server.heads} == {
        "GET /archives/one/tile/0/000 HTTP/1.1"
    }


def test_a_server_that_ignores_ranges(face, serve):
    source, _ = serve(lambda send, _: send(response("200 OK", BODY)))
    assert source.get("checkpoint", offset=5, length=7, max_bytes=7) == BODY[5:12]
    assert source.get("checkpoint", offset=len(BODY) + 5, length=7, max_bytes=7) == b""
    with pytest.raises(SourceOverflow):
        source.get("checkpoint", offset=limits.CAR_MAX_BYTES, length=7, max_bytes=7)


def test_paths_are_those_of_an_archive(face, serve):
    source, server = serve(good)
    for path in ("../secret", "checkpoint?x=1", "http://elsewhere/checkpoint", "x y", ""):
        with pytest.raises(InvalidEncoding):
            source.get(path, max_bytes=9)
    assert server.heads == []


def endless(send, head, status=b"200 OK"):
    send(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def endless_without_length(send, head):
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        send(bytes(0x10000))


def endless_headers(send, head):
    send(b"HTTP/1.1 200 OK\r\n")
    while True:
        send(b"X-More: " + b"x" * 1000 + b"\r\n")


def dripping(first, drop):
    def answer(send, head):
        send(first)
        while True:
            time.sleep(0.05)
            send(drop)

    return answer


def silent(send, head):
    time.sleep(GRACE_S * 2)
    return "close"


def fixed(data, *, close=False):
    def answer(send, head):
        send(data)
        return "close" if close else None

    return answer


WRONG = {
    "endless, chunked": (endless, "source-too-large"),
    "endless, without a length": (endless_without_length, "source-too-large"),
    "endless headers": (endless_headers, "source-protocol"),
    "announced as too large": (
        fixed(response("200 OK", bytes(60_000), length=1 << 40)),
        "source-too-large",
    ),
    "a body that drips": (
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"),
        "source-timeout",
    ),
    "headers that drip": (dripping(b"HTTP/1.1 200 OK\r\nX-A: ", b"x"), "source-timeout"),
    "a status line that drips": (dripping(b"HTTP/1.", b"1"), "source-timeout"),
    "chunks that drip": (
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "source-timeout",
    ),
    "a chunk header that drips": (
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        "source-timeout",
    ),
    "silence": (silent, "source-timeout"),
    "fewer bytes than announced": (
        fixed(response("200 OK", BODY, length=len(BODY) + 1), close=True),
        "source-truncated",
    ),
    "chunks without an end": (
        fixed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close=True),
        "source-truncated",
    ),
    "closed at once": (lambda send, head: "close", "source-protocol"),
    "not HTTP": (fixed(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", close=True), "source-protocol"),
    "not found": (fixed(response("404 Not Found")), "not-found"),
    "gone": (fixed(response("410 Gone")), "not-found"),
    "gone, in words": (fixed(response("410 Gone", b'{"code": "gone"}')), "not-found"),
    "gone, in nonsense": (fixed(response("410 Gone", b"[" * 4_000)), "not-found"),
    "gone, without end": (lambda send, head: endless(send, head, b"410 Gone"), "not-found"),
    "withheld": (fixed(response("410 Gone", b'{"code": "withheld"}')), "withheld"),
    "withheld, they say": (fixed(response("404 No", b'{"code": "withheld"}')), "not-found"),
    "broken": (fixed(response("500 Oops")), "source-status"),
    "busy": (fixed(response("503 Busy")), "source-status"),
    "elsewhere": (fixed(response("302 Found", b"", "Location: /checkpoint")), "source-status"),
    "nothing": (fixed(response("204 No Content")), "source-status"),
    "a part of what was asked for whole": (
        fixed(response("206 Partial", b"abc", "Content-Range: bytes 0-2/9")),
        "source-status",
    ),
    "compressed": (
        fixed(response("200 OK", b"\x1f\x8b" + bytes(20), "Content-Encoding: gzip")),
        "source-protocol",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_have_names_and_an_end(face, serve, name):
    answer, code = WRONG[name]
    assert code in CODES
    source, _ = serve(answer)
    started = time.monotonic()
    with pytest.raises((SourceFailed, SourceOverflow)) as caught:
        source.get("checkpoint", max_bytes=50_000)
    assert caught.value.code == code
    assert time.monotonic() - started < GRACE_S + 1.5
    assert source.name in str(caught.value)


@pytest.mark.parametrize(
    "content_range",
    ["bytes 4-10/99", "bytes 6-12/99", "bytes 5-12/99", "bytes */99", "bytes 5-4/9", "x", ""],
)
def test_another_range_than_was_asked_for(face, serve, content_range):
    source, _ = serve(fixed(response("206 P", b"1234567", f"Content-Range: {content_range}")))
    with pytest.raises(SourceFailed) as caught:
        source.get("checkpoint", offset=5, length=7, max_bytes=99)
    assert caught.value.code == "source-truncated"


def test_a_range_that_is_longer_than_it_says(face, serve):
    source, _ = serve(fixed(response("206 P", bytes(70), "Content-Range: bytes 5-11/99")))
    with pytest.raises(SourceOverflow):
        source.get("checkpoint", offset=5, length=7, max_bytes=99)


def test_a_slow_body_that_keeps_the_pace_is_read(face, serve):
    def steady(send, head):
        send(f"HTTP/1.1 200 OK\r\nContent-Length: {40 * 256}\r\n\r\n".encode())
        for at in range(40):
            time.sleep(GRACE_S / 20)
            send(BODY[at * 256 : at * 256 + 256])

    source, _ = serve(steady, min_bytes_per_s=2_000)
    assert source.get("checkpoint", max_bytes=1 << 20) == BODY


def test_nobody_listens(face):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    source = face(url)
    with pytest.raises(SourceFailed) as caught:
        source.get("checkpoint", max_bytes=9)
    assert caught.value.code == "source-unreachable"
    source.close()


def test_a_host_that_no_resolver_takes(face):
    source = face(f"http://{'a' * 300}/")
    with pytest.raises(SourceFailed) as caught:
        source.get("checkpoint", max_bytes=9)
    assert caught.value.code == "source-unreachable"
    source.close()


def test_a_kept_connection_that_was_closed_meanwhile(face, serve):
    def once(send, head):
        good(send, head)
        return "close" if len(server.heads) == 1 else None

    source, server = serve(once)
    for _ in range(3):
        assert source.get("checkpoint", max_bytes=1 << 20) == BODY
    assert server.connections == 2


def test_close_ends_what_is_under_way(serve):
    source, _ = serve(dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"), grace_s=30.0)
    failed = []

    def ask():
        try:
            source.get("checkpoint", max_bytes=9)
        except SourceFailed as error:
            failed.append(error.code)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)
    source.close()
    thread.join(timeout=3)
    assert not thread.is_alive()
    assert failed


def test_blocks_by_cid(serve):
    source, server = serve(lambda send, head: send(response("200 OK", BODY)))
    named = cid.cid_of(cid.RAW, BODY)
    assert source.block(named) == BODY
    assert server.heads[0].startswith(f"GET /ipfs/{cid.to_text(named)}?format=raw ")
    with pytest.raises(VerificationFailed) as caught:
        source.block(cid.cid_of(cid.RAW, b"other"))
    assert caught.value.code == "block-hash"


def test_through_an_http_proxy(face, serve):
    _, proxy = serve(good)
    source = face("http://archive.invalid/base", proxy=proxy.url)
    assert source.get("checkpoint", max_bytes=1 << 20) == BODY
    assert proxy.heads[0].startswith("GET http://archive.invalid/base/checkpoint ")
    source.close()


def socks5(asked, target):
    """A SOCKS5 server (RFC 1928) on loopback for one connection, which goes to `target`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve_one():
        client, _ = listener.accept()
        with client, client.makefile("rb") as reading:
            version, methods = reading.read(2)
            assert (version, 0 in reading.read(methods)) == (5, True)
            client.sendall(b"\x05\x00")
            assert reading.read(4) == b"\x05\x01\x00\x03"  # connect to a name
            name = reading.read(reading.read(1)[0])
            asked.append((name, int.from_bytes(reading.read(2), "big")))
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            with socket.create_connection(target) as upstream:
                back = threading.Thread(target=pump, args=(upstream, client))
                back.start()
                pump(client, upstream)
                back.join()

    thread = threading.Thread(target=serve_one)
    thread.start()
    return listener, thread


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_through_a_socks_proxy(face, serve, scheme):
    _, server = serve(good)
    asked = []
    listener, thread = socks5(asked, server.socket.getsockname())
    with listener:
        source = face(
            "http://archive.invalid/", proxy=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        )
        # The proxy resolves the name: this machine's resolver learns nothing.
        assert source.get("checkpoint", max_bytes=1 << 20) == BODY
        source.close()
        thread.join(5)
    assert asked == [(b"archive.invalid", 80)]


@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_a_proxy_that_is_away(face, scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    source = face("http://archive.invalid/", proxy=f"{scheme}://127.0.0.1:{port}")
    with pytest.raises(SourceFailed) as caught:
        source.get("checkpoint", max_bytes=1)
    assert caught.value.code == "source-unreachable"
    source.close()


@pytest.mark.parametrize(
    "url", ["http://", "ftp://x/", "http://x/?q=1", "http://x/#f", "http://[::", "http://x:99999/"]
)
@pytest.mark.parametrize("kind", [HttpSource, AsyncHttpSource])
def test_what_is_no_base_url(kind, url):
    with pytest.raises(ConfigError):
        kind(url)


@pytest.mark.parametrize("kind", [HttpSource, AsyncHttpSource])
def test_proxies_that_cannot_be_used(kind):
    with pytest.raises(ConfigError) as caught:
        kind("http://x", proxy="gopher://x")
    assert caught.value.code == "proxy"


def test_parse_source(tmp_path):
    assert isinstance(parse_source(str(tmp_path)), FolderSource)
    assert isinstance(parse_source(f"file:{tmp_path}"), FolderSource)
    assert isinstance(parse_source(f"file://{tmp_path}"), FolderSource)
    source = parse_source("https://mail.example/archive")
    assert isinstance(source, HttpSource)
    source.close()
    for text in ("", "file:", "gopher://x", str(tmp_path / "missing")):
        with pytest.raises(ConfigError):
            parse_source(text)


# --- a whole query over HTTP ----------------------------------------------------------------

MADE = make_set()
D = MADE.descriptor


def folder(root):
    """Answers with the files of a folder."""

    def answer(send, head):
        path = root / head.split(" ")[1].lstrip("/")
        if not path.is_file():
            send(response("404 Not Found"))
            return
        data = path.read_bytes()
        asked = asked_range(head)
        if asked is None:
            send(response("200 OK", data))
            return
        part = data[asked[0] : asked[1] + 1]
        end = asked[0] + len(part) - 1
        send(response("206 P", part, f"Content-Range: bytes {asked[0]}-{end}/{len(data)}"))

    return answer


def test_a_slow_liar_costs_its_time_once(face, serve, tmp_path):
    envelopes = {w: [envelope(b"aaaa", D.start_s(w))] for w in range(12)}
    archive = make_archive(tmp_path, envelopes, 12, made=MADE)
    whole = folder(tmp_path)

    def slow_segments(send, head):
        if "/segment/" in head.split(" ")[1]:
            send(b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n\r\n")
            while True:
                time.sleep(0.05)
                send(b"x")
        whole(send, head)

    slow, _ = serve(slow_segments)
    honest, _ = serve(whole)
    contacts = [("v01", slow.name), ("v02", honest.name), ("v02", honest.name)]
    assert [s.name for s in sources_of(MADE.policy(contacts))] == [slow.name, honest.name]
    started = time.monotonic()
    with Client(MADE.policy(), [slow, honest], ProcessMemory()) as client:
        answer = client.query(Query((b"aaaa",)))
        assert [f.raw for f in answer] == [raw for _, raw in archive.envelopes]
        assert [(c.source, c.code) for c in answer.summary.complaints] == [
            (slow.name, "source-timeout")
        ]
    assert time.monotonic() - started < 2 * GRACE_S + 2


def test_a_silent_source_does_not_delay_the_checkpoint(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_PATIENCE_S", 0.1)
    make_archive(tmp_path, {}, 3, made=MADE)
    whole = folder(tmp_path)

    def never(send, head):
        time.sleep(1)

    mute, _ = serve(never, grace_s=20.0)
    memory = ProcessMemory()
    memory.keep_descriptor(MADE.set_id, D.encode())
    honest, _ = serve(whole)
    started = time.monotonic()
    with Client(MADE.policy(), [mute, honest], memory) as client:
        trusted = client.refresh()
        assert trusted.checkpoint.size == 3
        assert [(c.source, c.code) for c in trusted.complaints] == [(mute.name, "source-timeout")]
    assert time.monotonic() - started < 1.0
