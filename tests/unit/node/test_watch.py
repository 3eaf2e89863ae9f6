"""Watched is only what was heard from a window's first instant to its last."""

import asyncio
from pathlib import Path

import pytest

from local_set import GENESIS_S, LocalSet, Party
from restante import limits
from restante.formats.contact import WatchNote
from restante.rules.window import Pace


def note_of(local: LocalSet, party: Party) -> WatchNote:
    data = party.state.archive.read(f"watch/{party.name}")
    return WatchNote.open(data, local.descriptor, party.name)


def test_a_cut_connection_leaves_its_windows_unwatched(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, start_s=-9, pace=Pace(1_000, 1_000))
        party = local.open("v1")
        await local.until(lambda: 0 in party.state.lock.heartbeats(0))
        party.network.connected = False
        await local.until(lambda: local.clock.now_ms() > local.descriptor.start_ms(2) + 6_000)
        party.network.connected = True
        await local.decided(4)
        heartbeats = party.state.lock.heartbeats(0)
        assert [heartbeats[window] for window in range(4)] == [True, False, False, True]
        note = note_of(local, party)
        assert note.unwatched == ((1, 3),)
        assert (note.watched(0), note.watched(1), note.watched(3)) == (True, False, True)
        await local.close("v1")

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_window_that_began_before_the_start_was_not_watched(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, start_s=10, pace=Pace(1_000, 1_000))
        party = local.open("v1")
        await local.decided(1)
        assert party.state.lock.heartbeats(0)[0] is False
        await local.close("v1")
        await asyncio.sleep(1.1)  # two windows pass
        later = (local.clock.now_ms() // 1000 - GENESIS_S) // 30
        # Past its first instants: a start at a window's very edge may watch it.
        await local.clock.sleep_until(local.descriptor.start_ms(later) + 15_000)
        party = local.open("v1")
        await local.decided(later)
        note = note_of(local, party)
        assert note.watched(later) is False
        assert note.watched(later - 1) is False, "what has no heartbeat was not watched"
        await local.close("v1")

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_note_speaks_of_no_more_ranges_than_it_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WATCH_RANGES", 3)

    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1)
        party = local.open("v1", run=False)
        for window in range(20):
            party.validating.watch.note(window, window % 2 == 0)
        party.validating.watch.publish(20)
        note = note_of(local, party)
        assert note.unwatched == ((15, 16), (17, 18), (19, 20))
        assert note.watched(3) is None, "it says nothing of what it has no room for"
        # What is not decided yet, or has no heartbeat yet, is not spoken of.
        party.validating.watch.publish(25)
        assert note_of(local, party).size == 20
        party.validating.watch.publish(18)
        assert note_of(local, party).unwatched == ((13, 14), (15, 16), (17, 18))
        await local.close("v1")
        # A restart reads the same from disk.
        party = local.open("v1", run=False)
        party.validating.watch.publish(20)
        assert note_of(local, party) == note
        await local.close("v1")

    asyncio.run(scenario())
