"""Old mail clients, unchanged, against our mail server: wnode, and geth's and status-go's code."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from interop.observer import envelope
from peers import harness, wnode
from peers.harness import COMPLETE, DIRECT, SYNC_RESPONSE, Harness
from restante import limits
from restante.client import Client, Missing, ProcessMemory, Query, parse_source, read_policy
from restante.formats import rlp, whisper
from restante.networks.keccak import keccak256
from restante.networks.whisper import bloom, crypt
from restante.testing.cluster import Cluster, Process, free_ports, running

PRIVATE = bytes([7]) * 32
OTHER, QUIRKY = b"\x99\x88\x77\x01", bytes.fromhex("1716941b")
EVERYTHING = b"\xff" * 64
FLOOR_MILLIONTHS = 2_000
COMPLETED = "mailserver.request.completed"
REQUEST = {"password": wnode.PASSWORD, "ttl": 50, "pow": 0.002}


@dataclass
class Served:
    """A node of ours that is a mail server, and what its index holds."""

    process: Process
    enode: str
    policy: Path
    gateway: str
    raws: list[bytes]
    """By sent time, and id within a second: the order of answers."""

    @property
    def lower_s(self) -> int:
        return sent_s(self.raws[0])

    @property
    def upper_s(self) -> int:
        return sent_s(self.raws[-1])

    def of(self, *topics: bytes) -> list[bytes]:
        return [raw for raw in self.raws if whisper.topic_of(raw) in topics]

    def wait_sealed(self, count: int, within_s: float = 30.0) -> None:
        """Until the index holds so many."""
        policy, deadline = read_policy(self.policy), time.monotonic() + within_s
        with Client(policy, [parse_source(self.gateway)], ProcessMemory()) as client:
            while len(self.raws) < count:
                assert time.monotonic() < deadline, f"{len(self.raws)} of {count} sealed"
                try:
                    found = list(client.query(Query((), mode="all")))
                except Missing:
                    # Nothing is in the index yet, not even a checkpoint.
                    time.sleep(0.1)
                else:
                    self.raws = sorted((each.raw for each in found), key=place)


def sent_s(raw: bytes) -> int:
    found = whisper.scan(raw)
    return found.expiry_s - found.ttl_s


def place(raw: bytes) -> tuple[int, bytes]:
    return sent_s(raw), sha256(raw).digest()


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Served]:
    """A validator, gateway and mail server in one process."""
    gateway_port, whisper_port = free_ports(2)
    (path / "password").write_text(wnode.PASSWORD)
    for name, secret in (("password", wnode.PASSWORD), ("key", PRIVATE.hex())):
        (path / name).write_text(secret)
        (path / name).chmod(0o600)
    cluster = Cluster.create(
        path / "set",
        1,
        parameters={"window_s": 1, "pow_floor_millionths": FLOOR_MILLIONTHS},
        values={
            "node.roles": ["validator", "gateway", "mailserver"],
            "validator.grace_s": 0,
            "validator.step_s": 1,
            "gateway.port": gateway_port,
            "network.source": "whisper",
            "whisper.port": whisper_port,
            "mailserver.password_file": str(path / "password"),
            "mailserver.key_file": str(path / "key"),
        },
    )
    ((name, url),) = cluster.urls.items()
    process = Process.start(cluster.path / name, url)
    with running([process]):
        process.wait_ready()
        gateway = f"http://127.0.0.1:{gateway_port}"
        enode = process.status()["network"]["enode"]
        yield Served(process, enode, cluster.policy, gateway, [])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Five envelopes of three topics, all dead: they come by mail only. Two of wnode's topic."""
    with serving(tmp_path_factory.mktemp("served")) as served:
        with harness.geth(pow=0.002) as author:
            author.connect(served.enode)
            for i, topic in enumerate([wnode.TOPIC, OTHER, wnode.TOPIC, QUIRKY, OTHER]):
                author.post(f"mail {i}", topic=topic, ttl=2, pow=0.002)
                time.sleep(0.6)
            served.wait_sealed(5)
        time.sleep(2 * limits.MAIL_REFRESH_S)
        yield served


def mail(client: Harness) -> list[bytes]:
    """What came by code 127, in order: an envelope's first item is a string, a batch's a list."""
    found: list[bytes] = []
    for payload in client.packets(DIRECT):
        first = rlp.split_list(payload, max_items=10_000)[0]
        found += [payload] if first[0] < 0xC0 else whisper.parse_packet(payload)
    return found


def ask(client: Harness, served: Served, **request: object) -> list[bytes]:
    """Ask in one form, and wait until the client says that it is complete; what came."""
    peer = client.connect(served.enode)
    made = client.ask("request", peer=peer, **{**REQUEST, **request})
    ended = client.wait("mail", what=COMPLETED)
    assert ended["hash"] == made["hash"]
    assert "error" not in ended, ended["error"]
    return mail(client)


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def forms(lower_s: int, upper_s: int, filter_: bytes) -> dict[str, tuple[bytes, bool]]:
    """Payloads of old clients, and whether they name the filter; b"" lets status-go write it."""
    cursor = u32(max(0, lower_s - 1)) + bytes(32)  # status-go's own: sent time, hash, and topic
    lower, upper, limit = (rlp.encode_uint(n) for n in (lower_s, upper_s, 100))
    return {
        "raw 8": (u32(lower_s, upper_s), False),
        "raw 72": (u32(lower_s, upper_s) + filter_, True),
        "raw 76": (u32(lower_s, upper_s) + filter_ + u32(100), True),
        "raw 112": (u32(lower_s, upper_s) + filter_ + u32(100) + cursor, True),
        "raw 116": (u32(lower_s, upper_s) + filter_ + u32(100) + cursor + bytes(4), True),
        "RLP 5": (rlp.encode([lower, upper, filter_, limit, b""]), True),
        "RLP 6": (rlp.encode([lower, upper, filter_, limit, b"", b""]), True),
        "RLP 7": (b"", True),
    }


@pytest.mark.parametrize("form", forms(0, 0, b""))
def test_status_go_is_answered_in_each_form(form: str, served: Served) -> None:
    """The client is status-go's own code: what it makes of the answer is its word."""
    filter_ = bloom.encode(bloom.of_topics([wnode.TOPIC]))
    payload, filtered = forms(served.lower_s, served.upper_s, filter_)[form]
    wanted = served.of(wnode.TOPIC) if filtered else served.raws
    with harness.status(pow=0.002) as client:
        client.ask("subscribe", password=wnode.PASSWORD, topics=[wnode.TOPIC], direct=True)
        own = {"lower": served.lower_s, "upper": served.upper_s, "bloom": filter_, "limit": 100}
        assert ask(client, served, payload=payload, **own) == wanted
        # Bare, each in a packet of its own, as every client takes them.
        assert client.packets(DIRECT) == wanted
        client.wait("message", count=2)
        shown = [bytes.fromhex(event["payload"]) for event in client.all("message")]
        assert shown == [b"mail 0", b"mail 2"]
        assert not client.all("lost")


def test_status_go_pages_in_batches(served: Served) -> None:
    with harness.status(pow=0.002) as client:
        peer = client.connect(served.enode)
        cursor, sizes = b"", []
        for page in range(1, 4):
            before = len(mail(client))
            own = {"lower": served.lower_s, "upper": served.upper_s, "bloom": EVERYTHING}
            paged = {"limit": 2, "batch": True, "cursor": cursor}
            client.ask("request", peer=peer, **REQUEST, **own, **paged)
            ended = client.wait("mail", what=COMPLETED, count=page)
            cursor = bytes.fromhex(ended["cursor"])
            assert ended["last"] == keccak256(mail(client)[-1]).hex()
            sizes.append(len(mail(client)) - before)
        assert sizes == [2, 2, 1]
        assert cursor == b""
        assert mail(client) == served.raws
        assert len(client.packets(DIRECT)) < len(served.raws), "lists were asked for"


def test_status_go_asks_by_the_plain_list(served: Served) -> None:
    with harness.status(pow=0.002) as client:
        peer = client.connect(served.enode)
        name = bytes(range(32))
        own = {"lower": served.lower_s, "upper": served.upper_s, "bloom": EVERYTHING, "limit": 10}
        client.ask("request-plain", peer=peer, request=name, **own)
        assert client.wait("mail", what=COMPLETED)["hash"] == name.hex()
        assert mail(client) == served.raws


def test_status_go_encrypts_to_the_servers_key(served: Served) -> None:
    public = crypt.public_key(PRIVATE)[1:]
    with harness.status(pow=0.002) as client:
        payload = u32(served.lower_s, served.upper_s)
        assert ask(client, served, payload=payload, password="", public=public) == served.raws


@pytest.mark.parametrize("upper_s", [0, 0xFFFFFFFF])
def test_an_open_end_is_now(upper_s: int, served: Served) -> None:
    """Old servers' upper + 1 overflows at ffffffff, which a wnode sends for a typed 0."""
    with harness.status(pow=0.002) as client:
        assert ask(client, served, payload=u32(served.lower_s, upper_s)) == served.raws


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"limit": 1001, "bloom": EVERYTHING}, "request is invalid: limit exceeds the maximum"),
        ({"limit": 10, "bloom": b""}, "request is invalid: bloom filter is empty"),
        ({"bloom": EVERYTHING, "unsigned": True}, "wrong signature of p2p request"),
        ({"bloom": EVERYTHING, "password": "wrong"}, "failed to decrypt p2p request"),
        ({"payload": u32(20, 10)}, "query range is invalid: from > to (20 > 10)"),
    ],
)
def test_status_go_understands_what_is_wrong(
    request_: dict[str, object], said: str, served: Served
) -> None:
    with harness.status(pow=0.002) as client:
        peer = client.connect(served.enode)
        own = {"lower": served.lower_s, "upper": served.upper_s}
        made = client.ask("request", peer=peer, **{**REQUEST, **own, **request_})
        ended = client.wait("mail", what=COMPLETED)
        assert ended["hash"] == made["hash"]
        assert said in ended["error"]
        assert not mail(client)
        assert not client.all("lost")


def test_syncing_is_refused_politely(served: Served) -> None:
    with harness.status(pow=0.002) as client:
        peer = client.connect(served.enode)
        client.ask("trust", peer=peer)
        own = {"lower": served.lower_s, "upper": served.upper_s, "bloom": EVERYTHING, "limit": 10}
        client.ask("sync", peer=peer, **own)
        client.wait("packet", way="in", code=SYNC_RESPONSE)
        assert client.wait("mail", what="mailserver.sync.finished")["error"]
        assert not client.all("lost")


def test_geth_is_answered_byte_for_byte(served: Served) -> None:
    """Its filter of one topic is made by its own rule, which forgets a bit of this one."""
    filter_ = bloom.encode(bloom.sample(QUIRKY))
    with harness.geth(pow=0.002) as client:
        peer = client.connect(served.enode)
        payload = u32(served.lower_s, served.upper_s) + filter_
        client.ask("request", peer=peer, payload=payload, **REQUEST)
        client.wait("packet", way="in", code=COMPLETE)
        assert client.packets(DIRECT) == served.of(QUIRKY)
        assert not client.all("lost")


def test_a_wnode_reads_its_mail(alone: None, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with harness.geth(pow=0.002) as author:
            author.connect(served.enode)
            raw = author.post("kept for you", ttl=2, pow=0.002)
            served.wait_sealed(1)
        time.sleep(max(0.0, sent_s(raw) + 4 - time.time()))  # it is dead: it comes by mail only
        with wnode.mail_client(served.enode) as client:
            client.ask_mail(sent_s(raw) - 10, 0)
            client.wait_shown("kept for you")
            assert [sent for sent, _ in client.shown()] == [sent_s(raw)]


@pytest.mark.slow
def test_what_came_late_is_found_by_who_asked_before(tmp_path: Path) -> None:
    """status-legacy#6814: it was sent before the time up to which the client has asked, and reached
    the server only afterwards. An older server keeps it to itself for ever."""
    with serving(tmp_path) as served, harness.status(pow=0.002) as client:
        peer = client.connect(served.enode)
        client.ask("subscribe", password=wnode.PASSWORD, topics=[wnode.TOPIC], direct=True)
        asked_to_s = int(time.time())
        first = {"lower": asked_to_s - 600, "upper": asked_to_s, "bloom": EVERYTHING}
        client.ask("request", peer=peer, **REQUEST, **first)
        client.wait("mail", what=COMPLETED)
        assert mail(client) == []
        time.sleep(3)
        with harness.geth(pow=0.002) as author:
            author.connect(served.enode)
            late = envelope(b"late", sent_s=asked_to_s - 20, ttl_s=40)
            author.ask("post-raw", raws=[late])
            served.wait_sealed(1)
        time.sleep(2 * limits.MAIL_REFRESH_S)
        again = {"lower": asked_to_s, "upper": 0, "bloom": EVERYTHING}
        client.ask("request", peer=peer, **REQUEST, **again)
        client.wait("mail", what=COMPLETED, count=2)
        assert mail(client) == [late]
