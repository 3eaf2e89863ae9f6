"""What nodes ask of a validator, beside the archive's files."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from restante import limits
from restante.formats import cid as cids
from restante.formats.exchange import BodiesRequest, encode_bodies
from restante.formats.message import Certificate
from restante.formats.note import PUBLIC_KEY_BYTES
from restante.formats.tiles import WIDTH
from restante.formats.tree import HASH_BYTES
from restante.networks.source import source_of
from restante.node.validator.cosignatures import Cosignatures
from restante.node.validator.driver import ValidatorNode
from restante.node.wire.http import RequestRefused, dag_cbor, error_response, number, read_body
from restante.node.wire.peers import BODIES_TYPE
from restante.node.wire.quota import Rate
from restante.node.wire.reception import Reception, check_window, parse_hex, proposal_max_bytes
from restante.node.wire.routes_network import HandedIn, told_to

HandIn = Callable[[bytes], HandedIn]
Status = Callable[[], dict[str, Any]]
Ready = Callable[[], Awaitable[list[dict[str, str]]]]
# While one of these holds, a validator signs nothing, and a proposer proposes nothing.
_BLOCKING = frozenset({"starting", "lag", "clock", "engine-unavailable", "log"})


class NodeRoutes:
    """One validator's routes for other nodes."""

    def __init__(
        self, node: ValidatorNode, reception: Reception, cosignatures: Cosignatures
    ) -> None:
        self._node = node
        self._reception = reception
        self._cosignatures = cosignatures

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/pool", self._pool, methods=["GET"]),
            Route("/bodies", self._bodies, methods=["POST"]),
            Route("/proposals", self._propose, methods=["POST"]),
            Route("/proposals/bodies", self._push, methods=["POST"]),
            Route("/accepts", self._accepts, methods=["POST"]),
            Route("/certificates/{window}", self._certificate, methods=["GET"]),
            Route("/cosignatures", self._report, methods=["GET"]),
            Route("/windows", self._windows, methods=["GET"]),
        ]

    async def _pool(self, request: Request) -> Response:
        after = number(request, "after", 0, 2**62)
        limit = number(request, "limit", limits.POOL_PAGE_IDS, 2**62)
        page = self._node.pool_page(after, max(1, min(limit, limits.POOL_PAGE_IDS)))
        return dag_cbor(page.encode())

    async def _bodies(self, request: Request) -> Response:
        max_bytes = limits.BODIES_IDS * HASH_BYTES + limits.MESSAGE_OVERHEAD_BYTES
        asked = BodiesRequest.parse(await read_body(request, max_bytes))
        data = encode_bodies(self._node.bodies(asked.ids))
        return Response(data, 200, {"Cache-Control": "no-store"}, BODIES_TYPE)

    async def _propose(self, request: Request) -> Response:
        data = await read_body(request, proposal_max_bytes(self._node.d))
        answer = await self._reception.proposal(data, _address(request))
        return dag_cbor(answer.encode())

    async def _push(self, request: Request) -> Response:
        key = parse_hex(request.query_params.get("key", ""), PUBLIC_KEY_BYTES, "key")
        cid = cids.require(parse_hex(request.query_params.get("cid", ""), cids.CID_BYTES, "cid"))
        data = await read_body(request, limits.BODIES_PUSH_BYTES)
        answer = await self._reception.bodies(data, key, cid, _address(request))
        return dag_cbor(answer.encode())

    async def _accepts(self, request: Request) -> Response:
        data = await read_body(request, limits.MESSAGE_OVERHEAD_BYTES)
        node = self._node
        parsed = Certificate.parse(data, node.d.set_id)
        base_window = node.machine.base.window
        check_window(parsed.window, node.d, base_window, node.clock.now_ms())
        if parsed.window < base_window:
            raise RequestRefused(
                409, "decided", f"window {parsed.window} is decided", "nothing is left to do"
            )
        node.certificate(data)
        return Response(None, 204)

    async def _certificate(self, request: Request) -> Response:
        text = request.path_params["window"]
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise RequestRefused(400, "parameter", "a window is a number")
        decision = self._node.state.lock.decision(int(text))
        if decision is None:
            raise RequestRefused(
                404,
                "not-found",
                "no such certificate here",
                f"bundles of {WIDTH} are at certificate/",
            )
        return dag_cbor(decision.certificate)

    async def _windows(self, request: Request) -> Response:
        since = number(request, "since", 0, 2**62)
        return _json({"windows": self._node.journal.since(since)})

    async def _report(self, request: Request) -> Response:
        return dag_cbor(self._cosignatures.report().encode())


def common_routes(
    status: Status,
    hand_in: HandIn | None,
    max_envelope_bytes: int,
    ready: Ready | None = None,
) -> list[BaseRoute]:
    """Routes of every role: status, health, readiness, and handing in envelopes where that is
    possible. `ready` answers why the role cannot do its work yet; else its status says it."""

    async def show(request: Request) -> Response:
        return _json(told_to(request, status()))

    async def health(request: Request) -> Response:
        return _well(status()["reasons"])

    async def readiness(request: Request) -> Response:
        return _well(blocking(status()) if ready is None else await ready())

    rate = Rate(limits.ENVELOPE_RATE_PER_S, limits.ENVELOPE_BURST, limits.ENVELOPE_SOURCES)

    async def envelopes(request: Request) -> Response:
        if hand_in is None:
            response = error_response(
                405,
                "method",
                "no envelopes are handed in here",
                "post to the port of a validator or a proposer",
            )
            response.headers["Allow"] = "GET, HEAD"
            return response
        if not rate.take(_address(request), time.monotonic()):
            raise RequestRefused(
                429, "rate", f"at most {limits.ENVELOPE_RATE_PER_S} envelopes/s are taken from you"
            )
        raw = await read_body(request, max_envelope_bytes)
        done = hand_in(raw)
        return _json({"id": done.id.hex(), "peers": done.peers, "waits": done.waits}, 202)

    return [
        Route("/status", show, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/readiness", readiness, methods=["GET"]),
        Route("/envelopes", envelopes, methods=["POST"]),
    ]


def blocking(status: dict[str, Any]) -> list[dict[str, str]]:
    """Those reasons of a status for which the role does not do its work.

    A full pool or a failing store is none: other validators do not wait for them.
    """
    reasons: list[dict[str, str]] = status["reasons"]
    found = [reason for reason in reasons if reason["code"] in _BLOCKING]
    # What halted a validator has a code of its own.
    return found or ([] if status.get("signing", True) else reasons)


def _well(reasons: list[dict[str, str]]) -> Response:
    if not reasons:
        return _json({"ok": True, "reasons": []})
    hint = "docs/node.md says what to do about each reason"
    return _json({"ok": False, "reasons": reasons, "hint": hint}, 503)


def _json(value: dict[str, Any], code: int = 200) -> Response:
    data = json.dumps(value, ensure_ascii=False)
    return Response(data, code, {"Cache-Control": "no-store"}, "application/json")


def _address(request: Request) -> str:
    """Whom a request is counted for."""
    return source_of(request.client.host) if request.client is not None else ""
