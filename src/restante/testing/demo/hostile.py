"""p2, a hostile proposer: everything a node's proposer role is, but for what it proposes.

In odd windows it leaves the envelope with the lowest id out, and does not amend: the lowest of
those that it saw so early that everybody must have seen them before the cut-off, since leaving a
late one out would be lawful. In even ones it amends until nothing is missing, but keeps one
envelope whose nonce is broken. In every fifth window a hundred copies of its proposal go out
besides, half of them under keys made for it.

    python -m restante.testing.demo.hostile NODE-FOLDER
"""

import asyncio
import os
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2

from restante import limits
from restante.errors import Unavailable
from restante.formats import whisper
from restante.formats.keys import SEED_BYTES, SigningKey
from restante.formats.message import Proposal
from restante.networks.keccak import keccak256
from restante.node import logs, run
from restante.node.config import load
from restante.node.home import Home
from restante.node.proposer.outsider import Outsider
from restante.node.wire.peers import Peers
from restante.rules.actions import Action
from restante.rules.base import Base
from restante.rules.pool import Row
from restante.rules.propose import Proposing
from restante.rules.valid import Parameters

COPIES = 100
COPY_EVERY = 5
SURELY_SEEN_MS = 15_000
# Whoever shares an address shares its quota: the hostile ones come from addresses of their own.
ADDRESS, COPYCATS_ADDRESS = "127.0.0.2", "127.0.0.3"
_BROKEN_AT = -7  # a pool position that no row has


class Omitting(Proposing):
    """Leaves the lowest id out, and stands by it."""

    def _choice(self) -> dict[bytes, Row]:
        rows = super()._choice()
        early = self._index.position_at(self._d.end_ms(self.window) - SURELY_SEEN_MS)
        due = [row.id for row in rows.values() if row.position < early]
        rows.pop(min(due, default=b""), None)
        return rows

    def _amend(self) -> list[Action]:
        return []


class Breaking(Proposing):
    """Keeps an envelope with a broken nonce, whatever anybody says."""

    broken: tuple[Row, bytes] | None = None

    def _choice(self) -> dict[bytes, Row]:
        rows = super()._choice()
        if self.broken is None:
            victim = rows[min(rows)]
            self.broken = _break(victim, self._bodies(victim), self._d)
            _, raw = self.broken
            honest = self._bodies
            self._bodies = lambda wanted: raw if wanted.position == _BROKEN_AT else honest(wanted)
        return rows | {self.broken[0].id: self.broken[0]}


def _break(row: Row, raw: bytes, params: Parameters) -> tuple[Row, bytes]:
    """The same envelope under a nonce that is no work, and a row for it."""
    envelope = whisper.parse(raw)
    for nonce in range(envelope.nonce + 1, envelope.nonce + 1000):
        broken = whisper.assemble(
            envelope.expiry_s, envelope.ttl_s, envelope.topic, envelope.data, nonce
        )
        scanned = whisper.scan(broken)
        zeros = whisper.leading_zeros(keccak256(scanned.work + scanned.raw_nonce))
        work_bytes = len(scanned.work)
        if not whisper.has_work(zeros, work_bytes, envelope.ttl_s, params.pow_floor_millionths):
            id_ = sha256(broken).digest()
            return row._replace(id=id_, size_bytes=len(broken), position=_BROKEN_AT), broken
    raise AssertionError("a thousand nonces in a row are not all work")


class HostileOutsider(Outsider):
    """The proposer role, with the machines above."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: list[int] = []
        self._copies: dict[int, Counter[str]] = {}

    def status(self) -> dict[str, Any]:
        """With what the account wants to know: windows without a misdeed, answers to copies."""
        return {**super().status(), "idle": self._idle, "copies": self._copies}

    def _begin(self, base: Base) -> None:
        early = self.index.position_at(self.d.end_ms(base.window) - SURELY_SEEN_MS)
        if not any(base.is_new(row.id) for row in self.index.rows(0, early)):
            self._idle.append(base.window)  # nothing seen early enough to do harm with
            return
        kind = Omitting if base.window % 2 else Breaking
        machine = kind(self.d, self._key, base, self.index, self.intake, self._body)
        self._round = self.new_round(machine, base)
        self._spawn(self._round.run())
        if base.window % COPY_EVERY == 0:
            self._spawn(self._copy(machine))

    def _body_of(self, id_: bytes) -> bytes | None:
        machine = None if self._round is None else self._round.machine
        if isinstance(machine, Breaking) and machine.broken and machine.broken[0].id == id_:
            return machine.broken[1]
        return super()._body_of(id_)

    async def _copy(self, machine: Proposing) -> None:
        """A hundred copies to each validator, over few connections, as fast as they are taken."""
        await asyncio.sleep(0)
        drafts = list(machine.drafts.items())
        if not drafts:
            return
        cid, draft = drafts[0]
        copies = [
            self._sign(machine, key, cid, draft.ids, draft.size_bytes)
            for key in [self._key] * (COPIES // 2)
            + [SigningKey(f"copy{n}", secrets.token_bytes(SEED_BYTES)) for n in range(COPIES // 2)]
        ]
        async with _client(COPYCATS_ADDRESS) as client:
            peers = Peers(
                self.d, {p.name: p.url for p in self._peers.by_name.values()}, client, self._clock
            )
            told = self._copies[machine.window] = Counter()
            await asyncio.gather(*(self._pour(peers, name, copies, told) for name in peers.names))

    async def _pour(
        self, peers: Peers, name: str, copies: Sequence[Proposal], told: Counter[str]
    ) -> None:
        for copy in copies:
            try:
                answer = await peers.propose(name, copy)
            except Unavailable as error:
                told[error.code] += 1
                continue
            told["accept" if answer.kind == "accept" else "refused"] += 1

    def _sign(
        self, machine: Proposing, key: SigningKey, cid: bytes, ids: tuple[bytes, ...], size: int
    ) -> Proposal:
        return Proposal.make(
            key,
            set_id=self.d.set_id,
            window=machine.window,
            base_size=machine.base_size,
            base_root=machine.base_root,
            cid=cid,
            count=len(ids),
            size_bytes=size,
            ids=ids,
        )


def _client(address: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(local_address=address),
        timeout=limits.PEER_TIMEOUT_S,
        trust_env=False,
    )


def main(folder: Path) -> None:
    """Run until ended."""
    home = Home(folder)
    config = load(home.config, os.environ)
    logs.configure(config.text("log.format"))
    with (
        mock.patch.object(run, "Outsider", HostileOutsider),
        mock.patch.object(run, "open_client", return_value=_client(ADDRESS)),
    ):
        asyncio.run(run.run(home, config))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
