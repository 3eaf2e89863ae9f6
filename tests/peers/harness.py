"""The two harnesses: Whisper of go-ethereum and of status-go, which obey commands."""

import json
from pathlib import Path
from typing import Any

from peers.process import BUILT, START_S, Spoken

WAIT_S = 15.0

STATUS, MESSAGES, POW, BLOOM = 0, 1, 2, 3
BATCH_ACKNOWLEDGED, RESPONSE = 11, 12
SYNC_REQUEST, SYNC_RESPONSE, COMPLETE, REQUEST, DIRECT = 123, 124, 125, 126, 127
"""shh's codes of packets."""


class Harness(Spoken):
    """One peer. `events` is everything it told, in order."""

    def __init__(self, program: str, *flags: str, **options: object) -> None:
        """Start it: `options` are its flags by name, `_` for `-`."""
        given = [f"-{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.events: list[dict[str, Any]] = []
        self._replies: dict[int, dict[str, Any]] = {}
        self._rest = b""
        self._asked = 0
        super().__init__([BUILT / program, *flags, *given])
        try:
            self.enode: str = self.wait("ready", within_s=START_S)["enode"].partition("?")[0]
        except BaseException:
            self.stop()
            raise

    @property
    def node_id(self) -> str:
        """128 hex digits, as peers are named in commands and events."""
        return self.enode.removeprefix("enode://").partition("@")[0]

    def _heard(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "reply" in told:
                self._replies[told["reply"]] = told
            else:
                self.events.append(told)

    def told(self) -> str:
        return "; ".join(json.dumps(event)[:300] for event in self.events[-12:])

    def ask(self, do: str, *, within_s: float = WAIT_S, **arguments: object) -> dict[str, Any]:
        """Give a command; its answer. AssertionError with its error."""
        self._asked += 1
        number = self._asked
        shown = {name: _hex(value) for name, value in arguments.items()}
        self.write(json.dumps({"do": do, "id": number, **shown}).encode() + b"\n")
        reply = self.until(do, lambda: self._replies.pop(number, None), within_s)
        assert "error" not in reply, f"{do}: {reply['error']}"
        return dict(reply)

    def all(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """What it told so far of this kind, with these values."""
        wanted = {"event": event, **{name: _hex(value) for name, value in fields.items()}}.items()
        with self._changed:
            return [told for told in self.events if wanted <= _hashable(told).items()]

    def wait(
        self, event: str, *, count: int = 1, within_s: float = WAIT_S, **fields: object
    ) -> dict[str, Any]:
        """The count-th event of this kind with these values, whether it came already or not."""

        def found() -> list[dict[str, Any]]:
            return self.all(event, **fields)[count - 1 : count]

        happened: dict[str, Any] = self.until(f"{event} {fields}", found, within_s)[0]
        return happened

    def connect(self, enode: str) -> str:
        """Dial, and wait until both have said their status; the peer's node id."""
        self.ask("connect", enode=enode)
        peer = enode.removeprefix("enode://").partition("@")[0]
        self.joined(peer)
        return peer

    def joined(self, peer: str) -> None:
        """Wait until this peer has said its status."""
        self.wait("packet", way="in", peer=peer, code=STATUS)

    def post(self, text: str, **options: object) -> bytes:
        """Post a message; its raw envelope."""
        given = {"password": "wwww", "topic": "5a4ea131", "ttl": 30, "pow": 0.2, **options}
        return bytes.fromhex(self.ask("post", payload=text.encode(), **given)["raw"])

    def packets(self, code: int, way: str = "in") -> list[bytes]:
        """Payloads of what passed with this code."""
        return [bytes.fromhex(e["payload"]) for e in self.all("packet", code=code, way=way)]

    def envelopes(self) -> list[bytes]:
        """Raw envelopes that it took for new and valid, its own among them."""
        return [bytes.fromhex(event["raw"]) for event in self.all("envelope")]

    def wait_envelope(self, raw: bytes, within_s: float = WAIT_S) -> None:
        """Until it holds this envelope."""
        self.wait("envelope", raw=raw, within_s=within_s)


def geth(*flags: str, **options: object) -> Harness:
    """go-ethereum v1.9.20: pow, max_bytes, archive (a folder), password, key; -quiet."""
    return Harness("geth", *flags, **options)


def status(*flags: str, **options: object) -> Harness:
    """status-go v0.49.0: pow, archive, password, private, rate_s, key; -light, -unconfirmed."""
    return Harness("status", *flags, **options)


def mail_server(program: str, folder: Path, **options: object) -> Harness:
    """A harness that archives."""
    return Harness(program, archive=folder, **options)


def _hex(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_hex(each) for each in value]
    return value


def _hashable(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if not isinstance(value, dict | list)}
