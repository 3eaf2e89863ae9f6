"""Validators at work in one process: decide, share, start, halt."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from local_set import GENESIS_S, LocalSet, Skewed, id_of, opened
from restante.errors import StateError
from restante.formats import entry as entries
from restante.formats.keys import SigningKey
from restante.node.durable.state import State
from restante.node.home import Home
from restante.rules.intake import REPEAT, Verdict
from restante.rules.window import Pace

QUICK = Pace(grace_ms=2_000, step_ms=2_000)


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_four_validators_decide_and_publish_the_same_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK)
        async with opened(local):
            seen = [local.envelope(i) for i in range(20)]
            for number, party in enumerate(local.parties.values()):
                party.network.bring(*seen[number:])
            await local.decided(1)
            roots = {p.state.archive.root(2) for p in local.parties.values()}
            assert len(roots) == 1
            assert local.members("v1", 0) == {id_of(raw) for raw in seen}
            note = local.parties["v3"].state.archive.read("checkpoint")
            assert local.policy.verify_checkpoint(note).size >= 1

    go(scenario())


def test_the_network_hears_what_reception_said_once_it_is_durable(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1)
        async with opened(local):
            party = local.parties["v1"]
            raw = local.envelope(1)
            durable: list[int] = []
            hear = party.network.judged

            def judged(verdicts: Sequence[Verdict]) -> None:
                durable.append(party.state.pool.size)
                hear(verdicts)

            party.network.judged = judged  # type: ignore[method-assign]
            party.network.bring(raw, b"junk", raw)
            await local.until(lambda: len(party.network.verdicts) == 3)
            first, junk, again = party.network.verdicts
            assert (first.code, first.facts and first.facts.id) == ("accepted", id_of(raw))
            assert (junk.code, junk.severity) == ("rlp-not-list", "disconnect")
            assert again == REPEAT
            assert durable == [1]

    go(scenario())


def test_a_proposer_role_beside_the_validator_proposes_after_the_grace(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=Pace(grace_ms=1_000, step_ms=600_000))
        async with opened(local, proposer=SigningKey("p", bytes([77]) * 32)):
            await asyncio.sleep(0.05)
            raw = local.envelope(1)
            local.parties["v1"].validating.hand_in(raw)
            await local.decided(0)
            assert local.members("v1", 0) == {id_of(raw)}
            assert local.parties["v1"].network.sent == [raw]

    go(scenario())


def test_a_late_envelope_of_one_validator_reaches_the_next_batch(tmp_path: Path) -> None:
    """I4: what one honest validator got after the cut-off is in the next window's batch (R7)."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(grace_ms=6_000, step_ms=3_000))
        async with opened(local):
            await local.until(lambda: local.clock.now_ms() > local.descriptor.end_ms(0) + 200)
            raw = local.envelope(1)
            local.parties["v2"].network.bring(raw)
            await local.decided(1)
            assert id_of(raw) in local.members("v3", 0) | local.members("v3", 1)

    go(scenario())


def test_one_validator_down_is_not_waited_for_and_catches_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK)
        async with opened(local):
            await local.decided(0)
            await local.close("v4")
            raws = [local.envelope(i) for i in range(5)]
            local.parties["v1"].network.bring(*raws)
            await local.decided(3)
            local.open("v4")
            await local.decided(4)
            # It had none of the bodies: the batches came from its peers.
            sizes = [p.state.archive.size for p in local.parties.values()]
            size = min(sizes)
            assert len({p.state.archive.root(size) for p in local.parties.values()}) == 1
            note = local.parties["v4"].state.lock.heartbeats(0)
            assert 2 not in note  # it did not watch while it was down

    go(scenario())


def test_a_lock_state_out_of_a_backup_never_signs_again(tmp_path: Path) -> None:
    """The start rule: peers remember our newest cosignature, the lock does not."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK)
        async with opened(local):
            await local.decided(0)
            await local.close("v1")
            old = {
                file: (tmp_path / "v1" / file).read_bytes()
                for file in ("lock/lock.db", "lock/lock.db-wal")
                if (tmp_path / "v1" / file).exists()
            }
            local.open("v1")
            await local.decided(2)
            # The peers have read what v1 signed by now.
            own = local.keys[0].vkey().key_id

            def remembered() -> bool:
                items = [
                    p.validating.cosignatures.report().of_key(own)
                    for name, p in local.parties.items()
                    if name != "v1"
                ]
                return all(item is not None and item.size >= 3 for item in items)

            await local.until(remembered)
            await local.close("v1")
            for file in ("lock/lock.db", "lock/lock.db-wal", "lock/lock.db-shm"):
                (tmp_path / "v1" / file).unlink(missing_ok=True)
            for file, data in old.items():
                (tmp_path / "v1" / file).write_bytes(data)
            with pytest.raises(StateError) as raised:
                local.open("v1")
            assert raised.value.code == "lock-behind-archive"
            # Also with the archive of the same backup, which would look whole to us alone.
            import shutil

            from restante.node.durable.archive import Archive

            shutil.rmtree(tmp_path / "v1" / "archive")
            Archive.create(tmp_path / "v1" / "archive", local.descriptor).close()
            for window in (0, 1):
                data = local.parties["v2"].state.archive.segment(window)
                archive = Archive.open(tmp_path / "v1" / "archive", local.descriptor)
                archive.put_segment(window, data)
                archive.close()
            party = local.open("v1")
            await local.until(lambda: party.node.machine.halted is not None)
            assert party.node.machine.halted is not None
            assert party.node.machine.halted.code == "lock-behind-peers"
            assert party.validating.status()["reasons"][0]["code"] == "lock-behind-peers"
            assert not party.validating.status()["signing"]

    go(scenario())


def test_nothing_is_signed_before_peers_have_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=QUICK)
        party = local.open("v1")
        await asyncio.sleep(0.8)  # 48 s of virtual time: windows have passed
        assert not party.node.machine.cosigner.ready
        assert party.state.lock.accepts(0) == []
        assert next(r["code"] for r in party.validating.status()["reasons"]) == "starting"
        # It serves reads at once.
        async with local.client() as client:
            assert (await client.get("http://v1/cosignatures")).status_code == 200
            assert (await client.get("http://v1/descriptor")).status_code == 200
        for name in ("v2", "v3", "v4"):
            local.open(name)
        await local.decided(0)
        for name in list(local.parties):
            await local.close(name)

    go(scenario())


def test_an_engine_that_is_behind_or_differs_is_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=QUICK)
        async with opened(local):
            await local.decided(1)
        from restante.engines.local import LocalEngine

        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"engine.db{suffix}").unlink(missing_ok=True)
        LocalEngine.create(tmp_path / "engine.db")._close()
        party = local.open("v1")
        assert party.task is not None
        with pytest.raises(BaseExceptionGroup) as raised:
            await party.task
        party.task = None
        assert raised.group_contains(StateError, match="engine does not hold")
        await local.close("v1")

    go(scenario())


def test_up_only_opens_lock_state(tmp_path: Path) -> None:
    local = LocalSet.create(tmp_path, 1)
    import shutil

    shutil.rmtree(tmp_path / "v1" / "lock")
    with pytest.raises(StateError) as raised:
        State.open(Home(tmp_path / "v1"), local.descriptor, local.keys[0].vkey(), [])
    assert raised.value.code == "lock-missing"
    assert not (tmp_path / "v1" / "lock").exists()


def test_a_wrong_clock_gives_no_verdict(tmp_path: Path) -> None:
    """§7: the whole interval to the median of the peers lies outside N/30."""

    async def scenario() -> None:
        # At real speed a round trip inside the process takes milliseconds.
        local = LocalSet.create(tmp_path, 4, speed=1.0, start_s=28.5, pace=Pace(100, 100))
        for name in ("v1", "v2", "v3"):
            local.open(name)
        wrong = local.open("v4", clock=Skewed(local.clock, 5_000))
        await local.until(lambda: not wrong.node.machine.clock_trusted)
        codes = [r["code"] for r in wrong.validating.status()["reasons"]]
        assert "clock" in codes
        # The others do not need it.
        await local.decided(0, "v1", "v2", "v3")
        assert wrong.state.lock.accepts(0) == []
        assert all(local.parties[n].node.machine.clock_trusted for n in ("v1", "v2", "v3"))
        for name in list(local.parties):
            await local.close(name)

    go(scenario())


def test_a_set_of_one_decides_passed_windows_in_groups(tmp_path: Path) -> None:
    """After a long absence: in sequence, without waiting, few fsyncs (§8)."""

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, speed=1.0, start_s=29.0, pace=Pace(100, 100))
        async with opened(local):
            raw = local.envelope(1)
            local.parties["v1"].validating.hand_in(raw)
            await local.decided(0)
        # A day later; one envelope came just before the process ended.
        later = LocalSet(
            tmp_path,
            local.descriptor,
            local.keys,
            local.origin,
            type(local.clock)(GENESIS_S * 1000 + 290 * 30_000, 1.0),
            local.pace,
        )
        syncs: list[str] = []
        party = later.open("v1", run=False)
        party.state.lock._hook = lambda step: syncs.append(step)
        party.task = asyncio.ensure_future(party.validating.run())
        await later.decided(288, timeout_s=45)
        assert syncs.count("lock.group.after") <= 4
        assert party.state.archive.size >= 289
        # Every one has its entry, its segment and its certificate.
        for window in (1, 150, 288):
            assert entries.parse(party.state.archive.entry(window)).count == 0
            assert party.state.archive.has_segment(window)
            assert party.state.archive.certificate(window)
        await later.close("v1")

    go(scenario())


def test_a_restart_between_accept_and_commit_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=QUICK)
        raws: list[bytes] = []
        for round_ in range(4):
            party = local.open("v1")
            raw = local.envelope(round_)
            raws.append(raw)
            party.validating.hand_in(raw)
            await asyncio.sleep(0.37)
            await local.close("v1")
        local.open("v1")
        await local.decided((local.clock.now_ms() // 1000 - GENESIS_S) // 30)
        size = local.parties["v1"].state.archive.size
        found = set().union(*(local.members("v1", w) for w in range(size)))
        assert {id_of(raw) for raw in raws} <= found
        await local.close("v1")

    go(scenario())
