"""A validator that was away until no peer kept what it missed: it takes over what k cosigned."""

import asyncio
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from away_set import K, a_set, adopt, away, forgetful, gave_up, require_clean
from local_set import id_of, opened
from node_sample import Node, SampleSet, Sealed
from restante import limits
from restante.durable import read_range
from restante.errors import StateError
from restante.formats import tiles
from restante.formats.checkpoint import Checkpoint
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, Note
from restante.formats.paths import segment_path
from restante.formats.policy import Policy
from restante.node.durable.adopting import Adopting
from restante.node.durable.archive import count_leaves
from restante.node.durable.elsewhere import Elsewhere
from restante.node.durable.refill import Refill
from restante.node.durable.segments import absent
from restante.node.durable.state import State
from restante.node.fsck.check import fsck
from restante.node.home import Home
from restante.node.wire.http import Listener
from restante.node.wire.peers import Peers, open_client
from restante.rules.adopt import Adoption
from restante.rules.cosign import SplitTree


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETENTION_EVERY", 1)
    # On a busy machine the peers' checkpoint may be late.
    monkeypatch.setattr(limits, "ADOPT_ASKS", 60)
    # What peers give up while it is asked for is no longer missing.
    monkeypatch.setattr(limits, "REFILL_LOOK_EVERY", 1)


def test_it_comes_back_and_signs_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.lost_from == next_window < adopted.floor <= adopted.size - K
            # The rest comes beside the work, as what an archive has lost.
            require_clean(local, "v4", "segment-missing", "rollup-missing", "segment-unreleased")
            v4 = forgetful(local.open("v4"))
            assert v4.node.machine.base.size == adopted.size
            assert v4.validating.status()["adopted"]["lost"] == [next_window, adopted.floor]
            late = local.envelope(2, ttl_s=1)
            v4.network.bring(late)
            await local.until(lambda: not v4.node.machine.base.is_new(id_of(late)))
            await local.decided(adopted.size + 10)
            sizes = [each.size for each in v4.state.lock.cosignatures(adopted.size)]
            assert min(sizes) > adopted.size, "k have signed that one"
            archive, keeping = v4.state.archive, v4.state.keeping
            await local.until(lambda: not keeping.missing(archive.floor, archive.stop))
            await local.until(lambda: v4.validating.status()["reasons"] == [])
            await local.close("v4")
            require_clean(local, "v4", "segment-unreleased")
            # A restart goes on from there.
            assert await adopt(local, "v4") is None
            v4 = forgetful(local.open("v4"))
            await local.decided(v4.node.machine.base.size + 2)

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_one_peer_that_keeps_it_is_enough_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And a peer's word that it keeps it is worth nothing."""

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            keeper = local.parties["v3"]
            for party in local.parties.values():
                if party is not keeper:
                    forgetful(party)
            await local.decided(2)
            await local.close("v4")
            others = [local.parties[name].state.archive for name in ("v1", "v2")]
            await local.until(lambda: all(gave_up(archive, 9) for archive in others), 60)
            assert await adopt(local, "v4") is None
            # Now it only says so: the first byte of every file is there, and nothing more.
            forgetful(keeper)
            await local.until(lambda: gave_up(keeper.state.archive, 9), 60)
            inner = local.router.apps["v3"]

            async def claiming(scope: Any, receive: Any, send: Any) -> None:
                if (b"range", b"bytes=0-0") not in scope["headers"]:
                    await inner(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 206, "headers": []})
                await send({"type": "http.response.body", "body": b"\0"})

            local.router.apps["v3"] = claiming
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.floor > adopted.lost_from
            assert "v3 claims to have window" in caplog.text

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_one_peer_alone_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ADOPT_ASKS", 5)

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            local.router.down |= {"v2", "v3"}
            assert await adopt(local, "v4") is None
            local.router.down.clear()
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.lost_from == next_window

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_what_was_adopted_is_given_up_before_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a newer tree stands in its place, and all that was lost is told as one."""
    monkeypatch.setattr(limits, "RECENT_ASKS", 1)

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            archive = local.parties["v1"].state.archive
            until: list[int] = []

            def slow(request: httpx2.Request) -> None:
                whole = request.headers.get("range") != "bytes=0-0"
                if whole and request.url.path.startswith("/segment/"):
                    until[:] = until or [archive.stop]
                    if archive.floor <= until[0]:
                        raise httpx2.ConnectError("slow", request=request)

            local.router.before = slow
            adopted = await adopt(local, "v4")
            assert adopted is not None
            assert adopted.size > until[0]
            assert adopted.lost_from == next_window
            v4 = forgetful(local.open("v4"))
            assert v4.state.lock.adoptions() == [adopted]
            await local.decided(adopted.size + 2)
            await local.until(lambda: v4.validating.status()["reasons"] == [])
            await local.close("v4")
            require_clean(local, "v4", "segment-missing", "rollup-missing", "segment-unreleased")

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_lost_archive_is_adopted_again(tmp_path: Path) -> None:
    """The lock cannot make the tree again from its decisions alone."""

    async def scenario() -> None:
        local = a_set(tmp_path)
        async with opened(local):
            next_window = await away(local)
            first = await adopt(local, "v4")
            assert first is not None
            shutil.rmtree(tmp_path / "v4" / "archive")
            again = await adopt(local, "v4")
            assert again is not None
            assert again.lost_from == next_window
            assert again.size >= first.size
            v4 = forgetful(local.open("v4"))
            await local.decided(again.size + 2)
            archive, keeping = v4.state.archive, v4.state.keeping
            await local.until(lambda: not keeping.missing(archive.floor, archive.stop))
            await local.close("v4")
            require_clean(local, "v4", "segment-unreleased")

    asyncio.run(asyncio.wait_for(scenario(), 120))


# --- long logs, without a set at work


class Late:
    """A clock long after everything."""

    def now_ms(self) -> int:
        return 1_600_000_000_000

    async def sleep_until(self, when_ms: int) -> None:
        raise AssertionError


class Folders:
    """Peers that serve one folder; some give other bytes for some paths."""

    names = ("v1", "v2", "v3")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.altered: dict[str, str] = {}
        self.silent_at: dict[str, str] = {}
        self.kept: dict[str, dict[str, bytes]] = {}

    async def read(self, name: str, path: str, offset: int, length: int) -> bytes:
        if path.startswith(self.silent_at.get(name, "-")):
            await asyncio.Event().wait()
        if name in self.kept and length == 1:
            return b"\0"
        if path in self.kept.get(name, {}):
            return self.kept[name][path][offset : offset + length]
        data = read_range(self.directory / path, offset, length)
        if data is None:
            raise absent(path)
        return bytes(len(data)) if path.startswith(self.altered.get(name, "-")) else data


def keep(node: Node, windows: list[Sealed]) -> None:
    """As many commits, at once."""
    archive, lock = node.archive, node.lock
    for each in windows:
        archive.put_segment(each.window, each.cars)
    archive.put_certificates(0, [each.certificate for each in windows])
    with lock.transaction():
        for each in windows:
            cid = each.segment.root_cid
            lock.decide(each.window, each.window + 1, cid, each.certificate, each.entry)
    archive.append_entries(0, [each.entry for each in windows])


class Long:
    """A log of some windows, all of whose keepers keep the newest alone, and v0, away early."""

    SIZE, FLOOR = 540, 500

    def __init__(self, path: Path, left: int) -> None:
        self.sample = sample = SampleSet(per_window=1)
        self.home = Home(path / "v0")
        peer, own = Node.create(sample, path / "peer"), Node.create(sample, self.home.path)
        sealed = [sample.next_window() for _ in range(self.SIZE)]
        keep(peer, sealed)
        # What shows that one has window `left`, and no other.
        archive = path / "peer" / "archive"
        paths = (segment_path(0, left), tiles.entries_path(left // tiles.WIDTH))
        self.first_alone = {each: (archive / each).read_bytes() for each in paths}
        peer.release(self.FLOOR)
        keep(own, sealed[:left])
        if left:
            own.cosign()
        origin = SigningKey(sample.descriptor.origin, bytes([9]) * 32)
        d = sample.descriptor
        self.policy = Policy.of_validators(origin.vkey(ED25519), d.validators, d.k, d.set_id)
        text = Checkpoint(d.origin, self.SIZE, sample.frontier.root()).text()
        lines = [key.cosignature(text, 1) for key in sample.keys[:3]]
        peer.archive.put_checkpoint(Note(text, (origin.note_signature(text), *lines)).encode())
        peer.close()
        own.close()
        self.peers = Folders(archive)

    def open(self) -> State:
        return State.open(self.home, self.sample.descriptor, self.sample.keys[0].vkey(), [])

    def elsewhere(self, state: State) -> Elsewhere:
        d, peers = self.sample.descriptor, self.peers
        return Elsewhere(d, self.policy, state, peers, [], "test")  # type: ignore[arg-type]

    async def adopt(self, state: State) -> Adoption | None:
        return await Adopting(self.sample.descriptor, state, self.elsewhere(state), Late()).run()

    def codes(self) -> set[str]:
        report = fsck(self.home.path, self.sample.descriptor, self.sample.examine)
        return {finding.code for finding in report.findings}


@pytest.mark.parametrize("left", [0, 37, 256, 300])
def test_a_log_of_several_bundles(tmp_path: Path, left: int) -> None:
    long = Long(tmp_path, left)
    state = long.open()
    # One of them lies about the tree; the next one is asked.
    long.peers.altered = {"v1": "tile/0/"}

    async def scenario() -> None:
        adopted = await long.adopt(state)
        assert adopted is not None
        assert (adopted.lost_from, adopted.floor, adopted.size) == (left, long.FLOOR, long.SIZE)
        archive = state.archive
        assert (archive.floor, archive.size) == (long.FLOOR, long.SIZE)
        assert archive.root() == long.sample.frontier.root()
        assert len(list(archive.entries(long.FLOOR, long.SIZE))) == long.SIZE - long.FLOOR
        if left:
            reader = tiles.TileReader(archive.read, long.SIZE, archive.root())
            assert reader.root_at(left) == state.lock.newest_cosignature().root  # type: ignore[union-attr]
        refill = Refill(state, long.elsewhere(state))

        async def release() -> None:
            await state.release(0, 1 << 40)

        await refill.run(release)
        assert refill.missing == []
        assert state.restored().adopted == long.sample.frontier

    asyncio.run(scenario())
    state.close()
    assert count_leaves(long.home.archive) == long.SIZE
    assert not (long.home.archive / "segment/0/000.car").exists()
    assert not (long.home.archive / tiles.entries_path(0)).exists()
    assert long.codes() <= {"leftover"}
    # Without its index the archive knows where it begins, by the lock.
    for path in (long.home.archive / ".state").glob("blocks.db*"):
        path.unlink()
    state = long.open()
    assert state.archive.floor == long.FLOOR
    state.close()


def test_a_peer_that_kept_the_first_window_alone_holds_nobody_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = Long(tmp_path, 37)
    state = long.open()
    long.peers.kept = {"v1": long.first_alone}
    adopted = asyncio.run(long.adopt(state))
    state.close()
    assert adopted is not None
    assert (adopted.lost_from, adopted.floor) == (37, long.FLOOR)
    assert "v1 claims to have window" in caplog.text
    assert "v1 claims to have window 37," not in caplog.text


@pytest.mark.parametrize("path", ["checkpoint", "tile/entries/", "segment/"])
def test_a_silent_peer_holds_nobody_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(limits, "ADOPT_ANSWER_S", 0.2)
    long = Long(tmp_path, 37)
    state = long.open()
    long.peers.silent_at = {"v3": path}
    adopted = asyncio.run(asyncio.wait_for(long.adopt(state), 60))
    state.close()
    assert adopted is not None
    assert adopted.floor == long.FLOOR


def test_validators_that_start_together_wait_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers in the same state are bound and do not listen yet: they refuse, no time is waited."""
    monkeypatch.setattr(limits, "ADOPT_ASKS", 5)
    monkeypatch.setattr(limits, "ADOPT_ANSWER_S", 3600.0)
    monkeypatch.setattr(limits, "PEER_TIMEOUT_S", 3600.0)
    monkeypatch.setattr(limits, "PEER_DEADLINE_S", 3600.0)
    long = Long(tmp_path, 37)
    state = long.open()

    async def scenario() -> None:
        listeners = {name: Listener("127.0.0.1", 0) for name in Folders.names}
        client = open_client()
        urls = {name: each.url for name, each in listeners.items()}
        d = long.sample.descriptor
        long.peers = Peers(d, urls, client, Late())  # type: ignore[assignment]
        assert await long.adopt(state) is None
        await client.aclose()
        for listener in listeners.values():
            listener.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    state.close()


def test_one_that_signed_another_history_adopts_nothing(tmp_path: Path) -> None:
    long = Long(tmp_path, 0)
    other = SampleSet(per_window=0)
    shutil.rmtree(long.home.path)
    own = Node.create(other, long.home.path)
    keep(own, [other.next_window() for _ in range(3)])
    own.cosign()
    own.close()
    state = long.open()
    with pytest.raises(SplitTree):
        asyncio.run(long.adopt(state))
    assert state.lock.adopted() is None
    assert state.archive.size == 3
    state.close()


def test_the_lock_takes_no_adoption_that_is_behind_it(tmp_path: Path) -> None:
    long = Long(tmp_path, 37)
    state = long.open()
    note = b"note"
    with pytest.raises(StateError) as caught:
        state.lock.adopt(Adoption(36, bytes(32), 20, 30, note))
    assert caught.value.code == "adoption-behind"
    made = Adoption(500, bytes(32), 450, 37, note)
    state.lock.adopt(made)
    assert state.lock.adopted() == made
    assert state.lock.size() == 500
    assert state.adopting
    newer = Adoption(600, bytes(32), 450, 37, note)
    state.lock.adopt(newer)
    assert state.lock.adoptions() == [newer]
    with pytest.raises(StateError):
        state.lock.adopt(made)
    with pytest.raises(StateError) as caught:
        state.lock.decide(599, 1, b"", b"", b"")
    state.lock.decide(600, 1, b"cid", b"certificate", b"entry")
    state.close()
    assert {"adoption", "archive-behind"} <= long.codes()


def test_an_older_program_refuses_a_lock_with_an_adoption(tmp_path: Path) -> None:
    long = Long(tmp_path, 3)
    state = long.open()
    state.lock.adopt(Adoption(500, bytes(32), 450, 3, b""))
    state.close()
    with sqlite3.connect(long.home.lock / "lock.db") as db:
        assert db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() == (2,)
    db.close()
