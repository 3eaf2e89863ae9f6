"""Validators make roll-ups beside everything, all of them the same, and wait for those that are
late; who was away comes back from what its peers still hold (R4, R6)."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from local_set import GENESIS_S, LocalSet, Party, SpeedClock, keccak, opened
from restante.errors import Unavailable
from restante.formats import car, whisper
from restante.formats import cid as cids
from restante.formats.level import Level, Span, span
from restante.formats.page import Member
from restante.formats.paths import segment_path
from restante.formats.segment import Segment, build, read_cars
from restante.node.durable.rollups import RollUps
from restante.node.fsck.check import fsck
from restante.rules.valid import examine
from restante.rules.window import Pace
from restante.stores.folder import FolderStore

QUICK = Pace(grace_ms=1_000, step_ms=1_000)
LEVELS = (Level(2), Level(4), Level(8, "index"))
# K = 4 windows; roll-ups come due three windows after their span.
SMALL: dict[str, Any] = {
    "levels": LEVELS, "rollup_lag": 3, "ttl_max_s": 50, "slack_s": 80, "bucket_bits": 3,
}  # fmt: skip


def go(scenario: Coroutine[Any, Any, None], timeout_s: float = 60) -> None:
    asyncio.run(asyncio.wait_for(scenario, timeout_s))


def envelope(local: LocalSet, window: int, number: int) -> bytes:
    return local.envelope(number, sent_s=local.descriptor.start_s(window))


async def feed(local: LocalSet, *names: str, windows: range) -> None:
    """Some envelopes in every second window, to the named validators."""
    for window in windows:
        await local.until(lambda w=window: local.clock.now_ms() >= local.descriptor.start_ms(w))
        if window % 2 == 0:
            raws = [envelope(local, window, 100 * window + n) for n in range(5)]
            for name in names:
                local.parties[name].network.bring(*raws)


def members(local: LocalSet, name: str, window: int) -> list[Member]:
    archive = local.parties[name].state.archive
    contents = read_cars(
        archive.segment(window),
        local.descriptor,
        lambda raw: whisper.parse(raw).topic,
        lambda raw: whisper.parse(raw).sent_s,
    )
    return contents.members


def expected(local: LocalSet, name: str, of: Span) -> Segment:
    """The roll-up, built at once from all its envelopes."""
    d = local.descriptor
    found = [m for window in range(of.first, of.stop) for m in members(local, name, window)]
    return build(d.set_id, found, of.first, of.windows, of.level, bucket_bits=d.bucket_bits)


def named(party: Party) -> dict[Span, bytes | None]:
    """What the log names above level 0."""
    archive = party.state.archive
    return {of: cid for of, cid in archive.named(0, archive.stop) if of.level}


def clean(local: LocalSet, *names: str) -> None:
    d = local.descriptor
    for name in names:
        report = fsck(local.root / name, d, lambda raw: examine(raw, d, keccak))
        assert report.ok, (name, report.findings)


def test_all_validators_install_the_same_roll_ups(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK, parameters=SMALL, speed=120)
        store = FolderStore.create("folder", tmp_path / "store")
        names = [key.name for key in local.keys]
        async with opened(local):
            await local.close("v1")
            local.open("v1", stores=[store])
            await feed(local, *names, windows=range(8))
            await local.decided(11)
            d, v1 = local.descriptor, local.parties["v1"]
            log = named(v1)
            assert log.keys() >= {span(d, 1, 3), span(d, 2, 1), span(d, 3, 0)}
            for of, cid in log.items():
                assert cid is not None
                roots = {named(p).get(of, cid) for p in local.parties.values()}
                assert roots == {cid}
                if of.level < 3:
                    built = expected(local, "v1", of)
                    assert built.root_cid == cid
                    segments = v1.state.archive.segments
                    assert segments.parts(of.level, of.number) == built.cars()
            # Served by path and by CID, and in the store.
            index = log[span(d, 3, 0)]
            assert index is not None
            path = segment_path(3, 0)
            async with local.client() as client:
                for name in names:
                    data = (await client.get(f"http://{name}/{path}")).content
                    assert car.read_header(data)[0] == index
                    block = await client.get(f"http://{name}/ipfs/{cids.to_text(index)}?format=raw")
                    assert cids.cid_of(cids.DAG_CBOR, block.content) == index
            await local.until(lambda: v1.state.outbox.pending("folder") == 0)
            assert await store.get(path) == v1.state.archive.read(path)
            await local.until(lambda: v1.validating.status()["reasons"] == [])
        clean(local, *names)

    go(scenario())


def test_a_late_roll_up_delays_its_window_and_is_never_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a child is damaged: it is fetched again, and then the window goes on."""
    failing = True
    make = RollUps.make

    def late(self: RollUps, of: Span, *args: Any, **kwargs: Any) -> bytes:
        if failing and self is local.parties["v1"].state.rollups and of.level == 1:
            # The batch that it is to be made of has rotted on this disk alone.
            path = local.root / "v1/archive" / segment_path(0, of.first)
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        return make(self, of, *args, **kwargs)

    monkeypatch.setattr(RollUps, "make", late)

    async def scenario() -> None:
        nonlocal failing
        async with opened(local):
            v1 = local.parties["v1"]
            mend, v1.node.rolling.mend = v1.node.rolling.mend, _nothing
            await feed(local, *names, windows=range(6))
            await local.decided(7, "v2", "v3", "v4")
            # The first roll-up is due in window 4: v1 has all windows before it, and waits.
            assert v1.state.archive.size == 4
            assert v1.node.machine.waits_for_rollups == (span(d, 1, 0),)
            reasons = {r["code"]: r["message"] for r in v1.validating.status()["reasons"]}
            assert "segment/0/000.car" in reasons["rollup-late"]
            failing = False
            v1.node.rolling.mend = mend
            await local.until(lambda: v1.node.rolling.trouble is None)
            await local.decided(9)
            assert len({p.state.archive.root(9) for p in local.parties.values()}) == 1
            await local.until(lambda: v1.validating.status()["reasons"] == [])
        clean(local, "v1")

    local = LocalSet.create(tmp_path, 4, pace=QUICK, parameters=SMALL, speed=120)
    d, names = local.descriptor, [key.name for key in local.keys]
    go(scenario())


async def _nothing(spans: Any) -> None:
    pass


def test_who_was_away_for_long_comes_back_from_roll_ups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R6: batches and five-minute segments were released everywhere; the hours' records make the
    same batches again (R3), and the same roll-ups; sizes that k cosigned are passed over."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK, parameters=SMALL, speed=150)
        names = [key.name for key in local.keys]
        kept = {"children_kept_s": 60}
        async with opened(local, **kept):
            await local.decided(1)
            await local.close("v4")
            away = local.clock.now_ms()
            since = local.descriptor.window_of(away)
            await feed(local, "v1", "v2", "v3", windows=range(since + 1, since + 12))
            await local.decided(since + 22, timeout_s=60)
            archives = [local.parties[name].state.archive for name in ("v1", "v2", "v3")]
            lost = range(since + 1, since + 9)
            await local.until(
                lambda: not any(a.has_segment(window) for a in archives for window in lost)
            )
            assert not any(a.segments.has(1, since // 2 + 2) for a in archives)
            # What k cosigned is told a little after it is decided.
            others = [local.parties[name].validating for name in ("v1", "v2", "v3")]
            await local.until(lambda: all(v.status()["published"] > since + 12 for v in others))
            caplog.set_level("INFO", "restante")
            v4 = local.open("v4", **kept)
            before = v4.node.machine.cosigner.newest
            target = local.parties["v1"].node.machine.base.window + 2
            await local.decided(target, timeout_s=60)
            assert any("come out of a roll-up" in r.message for r in caplog.records)
            assert any("away for" in r.message for r in caplog.records)
            size = min(p.state.archive.size for p in local.parties.values())
            assert len({p.state.archive.root(size) for p in local.parties.values()}) == 1
            # What it made anew it has, and will give up as the others did.
            await local.until(
                lambda: (
                    {of: cid for of, cid in named(v4).items() if of.stop < size}
                    == {of: cid for of, cid in named(local.parties["v1"]).items() if of.stop < size}
                )
            )
            signed = [c.size for c in v4.state.lock.cosignatures() if c.size <= size]
            assert before is not None
            assert len(signed) < size - 4, "trees that k cosigned were passed over"
            # It is one of the k again.
            await local.close("v1")
            await local.decided(target + 4, timeout_s=60)
        clean(local, *names)

    go(scenario(), 150)


ALONE: dict[str, Any] = {**SMALL, "rollup_lag": 4}


def later(local: LocalSet, windows: int) -> LocalSet:
    """The same set, so many windows after genesis."""
    clock = SpeedClock(GENESIS_S * 1000 + windows * 30_000, 1.0)
    return LocalSet(local.root, local.descriptor, local.keys, local.origin, clock, local.pace)


def test_a_set_of_one_catches_up_over_roll_ups(tmp_path: Path) -> None:
    """Groups end where a roll-up is asked for; nothing is lost, also where the process ends at any
    of them, and what was installed before is found and not made again."""

    async def scenario() -> None:
        local = LocalSet.create(
            tmp_path, 1, speed=1.0, start_s=29.0, pace=Pace(100, 100), parameters=ALONE
        )
        async with opened(local):
            raw = local.envelope(1)
            local.parties["v1"].validating.hand_in(raw)
            await local.decided(0)
        made: list[Span] = []
        make = RollUps.make

        def counted(self: RollUps, of: Span, *args: Any, **kwargs: Any) -> bytes:
            cid = make(self, of, *args, **kwargs)
            made.append(of)
            if len(made) % 7 == 0:
                raise OSError("the disk fails, after it was made")
            return cid

        now = later(local, 60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RollUps, "make", counted)
            lives = 0
            while True:
                party = now.open("v1")
                lives += 1
                try:
                    await now.decided(58, timeout_s=40)
                    break
                except BaseExceptionGroup as group:
                    assert group.subgroup(OSError) is not None  # noqa: PT017 any number of lives
                    await now.close("v1")
        assert lives > 3
        assert len(made) == len(set(made)), "nothing was made twice"
        assert set(made) >= {of for of in named(party) if of.stop <= 58}
        assert members(now, "v1", 0)[0].raw == raw
        for of, cid in named(party).items():
            if of.level < 3:
                assert expected(now, "v1", of).root_cid == cid
        await now.close("v1")
        clean(now, "v1")

    go(scenario(), 120)


def test_a_set_of_one_waits_for_a_child_that_is_lost(tmp_path: Path) -> None:
    """Nobody gives it back but the own store; everything else goes on meanwhile."""

    async def scenario() -> None:
        local = LocalSet.create(
            tmp_path, 1, speed=1.0, start_s=59.0, pace=Pace(100, 100), parameters=ALONE
        )
        store = FolderStore.create("folder", tmp_path / "store")
        party = local.open("v1", stores=[store])
        await local.decided(0)
        await local.until(lambda: party.state.outbox.pending("folder") == 0)
        await local.close("v1")
        # The store is away, and the archive has lost the first window's batch (K = 5).
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        now = later(local, 30)
        party = now.open("v1", run=False, stores=[store])
        (tmp_path / "v1/archive/segment/0/000.car").unlink()
        party.task = asyncio.ensure_future(party.validating.run())
        await now.until(lambda: party.node.machine.waits_for_rollups != ())
        assert party.state.archive.size == 5, "the roll-up of windows 0 and 1 is due in window 5"
        frozen = party.node.machine.last_frozen
        codes = [r["code"] for r in party.validating.status()["reasons"]]
        assert "rollup-late" in codes
        assert "segments-missing" in codes
        party.validating.hand_in(now.envelope(7))
        assert frozen >= 28
        (tmp_path / "elsewhere").rename(tmp_path / "store")
        await now.decided(28, timeout_s=40)
        await now.until(lambda: party.validating.status()["reasons"] == [])
        await now.close("v1")
        clean(now, "v1")

    go(scenario(), 90)


def test_a_lost_batch_comes_out_of_the_own_roll_up(tmp_path: Path) -> None:
    """Also where there is neither a store nor a peer (R3)."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=QUICK, parameters=SMALL, speed=120)
        async with opened(local):
            await feed(local, "v1", windows=range(6))
            await local.decided(9)
        before = {p: p.read_bytes() for p in (tmp_path / "v1/archive/segment").rglob("*.car")}
        for path in ("0/000.car", "0/003.car", "1/001.car"):
            (tmp_path / "v1/archive/segment" / path).unlink()
        party = local.open("v1")
        await local.until(lambda: all(path.exists() for path in before))
        assert {p: p.read_bytes() for p in before} == before
        await local.until(lambda: party.validating.status()["reasons"] == [])
        await local.close("v1")
        clean(local, "v1")

    go(scenario())


def test_a_peer_that_lies_about_a_roll_up_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody has as a batch comes from the peer whose roll-up verifies, and no more is read of
    another than its first wrong block."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK, parameters=SMALL, speed=120)
        names = [key.name for key in local.keys]
        async with opened(local):
            await feed(local, *names, windows=range(6))
            await local.decided(9)
            v4 = local.parties["v4"]
            decision = v4.state.lock.decision(2)
            assert decision is not None
            honest = members(local, "v4", 2)
            for name in names:
                folder = tmp_path / name / "archive/segment"
                (folder / "0/002.car").unlink()
                if name == "v4":
                    (folder / "1/001.car").unlink()
                    (folder / "2/000.car").unlink()
            # v1 has altered a page, v2 has another roll-up there.
            path = tmp_path / "v1/archive/segment/1/001.car"
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
            path = tmp_path / "v2/archive/segment/1/001.car"
            path.write_bytes((tmp_path / "v2/archive/segment/1/002.car").read_bytes())
            caplog.set_level("INFO", "restante")
            segment, raws = await v4.validating._fetch(2, decision.cid)
            assert segment.root_cid == decision.cid
            assert raws == [member.raw for member in honest]
            assert "come out of a roll-up of v3" in caplog.text
            # The other window of that roll-up costs nobody anything.
            asked = len(local.router.requests)
            other = v4.state.lock.decision(3)
            assert other is not None
            segment, _ = await v4.validating._elsewhere.batch(3, other.cid)
            assert segment.root_cid == other.cid
            assert not any(
                path.startswith("/segment") for _, _, path in local.router.requests[asked:]
            )
            # A batch that is decided and nowhere is said to be so.
            nowhere = decision.cid[:-1] + bytes([decision.cid[-1] ^ 1])
            with pytest.raises(Unavailable):
                await v4.validating._elsewhere.batch(2, nowhere)

    go(scenario())


def test_a_child_that_no_entry_names_yet_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The five minutes that end with the hour rot between the making of the two: there is nobody
    who could know them but this validator."""
    make, struck = RollUps.make, 0

    def rotten(self: RollUps, of: Span, *args: Any, **kwargs: Any) -> bytes:
        nonlocal struck
        if of == Span(2, 1, 4, 4) and not struck:
            struck += 1
            path = tmp_path / "v1/archive" / segment_path(1, 3)
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        return make(self, of, *args, **kwargs)

    monkeypatch.setattr(RollUps, "make", rotten)

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=QUICK, parameters=SMALL, speed=120)
        async with opened(local):
            await feed(local, "v1", windows=range(9))
            await local.decided(12)
            assert struck
        clean(local, "v1")

    go(scenario())
