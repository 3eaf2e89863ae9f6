"""A validator set that forgets fast, and one of it that is away for longer."""

from pathlib import Path

from local_set import LocalSet, Party, keccak
from restante.durable import Hook, no_hook
from restante.formats.level import Level
from restante.node.durable.adopting import Adopting, caught_up
from restante.node.durable.archive import Archive
from restante.node.durable.elsewhere import Elsewhere
from restante.node.durable.refill import make_refill
from restante.node.durable.state import State
from restante.node.fsck.check import fsck
from restante.node.home import Home
from restante.node.wire.peers import Peers
from restante.rules.adopt import Adoption
from restante.rules.valid import examine
from restante.rules.window import Pace

LEVELS = (Level(2), Level(4), Level(8, "index"))
K = 4
RETAINED = 12


def a_set(tmp_path: Path) -> LocalSet:
    """n = 4; to be used with RETENTION_EVERY = 1."""
    return LocalSet.create(
        tmp_path,
        4,
        speed=100,
        pace=Pace(500, 500),
        parameters={"ttl_max_s": 1, "slack_s": 80, "levels": LEVELS, "rollup_lag": 1},
    )


def forgetful(party: Party) -> Party:
    """Keep a few windows only."""
    party.validating._retained = RETAINED
    party.validating._children_kept = 2
    return party


async def adopt(local: LocalSet, name: str, hook: Hook = no_hook) -> Adoption | None:
    """What a start does before there is a machine."""
    d, home = local.descriptor, Home(local.root / name)
    key = next(key for key in local.keys if key.name == name)
    state = State.open(home, d, key.vkey(), [], hook)
    try:
        urls = {v.name: f"http://{v.name}" for v in d.validators if v.name != name}
        peers = Peers(d, urls, local.client(), local.clock)
        others = Elsewhere(d, local.policy, state, peers, [], "adopting")
        refill = make_refill(d, local.policy, state, peers, [])
        return await caught_up(Adopting(d, state, others, local.clock), refill)
    finally:
        state.close()


async def away(local: LocalSet) -> int:
    """v4 leaves; the rest go on until they keep nothing of what it missed. Its next window."""
    for party in local.parties.values():
        forgetful(party)
    local.parties["v4"].network.bring(local.envelope(1, ttl_s=1))
    await local.decided(2)
    await local.close("v4")
    left = State.open(Home(local.root / "v4"), local.descriptor, local.keys[3].vkey(), [])
    next_window = left.lock.size()
    left.close()
    archives = [party.state.archive for party in local.parties.values()]
    await local.until(lambda: all(gave_up(a, next_window + 5) for a in archives), 60)
    return next_window


def gave_up(archive: Archive, below: int) -> bool:
    """Whether all before a window has gone: a floor is durable before its files go."""
    levels = (Level(1), *LEVELS[:2])
    return archive.floor >= below and not any(
        n * level.windows < below
        for i, level in enumerate(levels)
        for n in archive.segments.numbers(i)
    )


def require_clean(local: LocalSet, name: str, *but: str) -> None:
    """fsck finds nothing but these."""
    d = local.descriptor
    report = fsck(local.root / name, d, lambda raw: examine(raw, d, keccak))
    assert {finding.code for finding in report.findings} <= set(but), report.findings
