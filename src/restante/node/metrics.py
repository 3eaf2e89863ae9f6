"""`/metrics`: a node's figures in Prometheus' text form (docs/operating.md lists them).

No label has more values than the code, the configuration or HTTP has: roles, classes of routes,
statuses, outcomes, stores, reasons. Nothing tells who asked, or for which topic.
"""

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante import __version__

Status = Callable[[], dict[str, Any]]

# What a node serves, by the first part of the path.
# fmt: off
ROUTES = frozenset({
    "accepts", "bodies", "certificate", "certificates", "checkpoint", "contact", "cosignatures",
    "descriptor", "envelopes", "health", "ipfs", "metrics", "peers", "policy", "pool", "proposals",
    "readiness", "segment", "status", "tile", "watch", "windows",
})
# fmt: on
# Place in the answer of `/status` → name, and what it is.
_GAUGES = {
    "window": ("window", "The window that holds now."),
    "decided": ("window_decided", "The newest window that is decided."),
    "size": (
        "tree_size",
        "Log entries that are committed here, or that the newest checkpoint has.",
    ),
    "cosigned": ("tree_size_cosigned", "The newest tree that this validator cosigned."),
    "published": ("tree_size_published", "The newest tree with a quorum of cosignatures here."),
    "signing": ("signing", "1 while this validator signs."),
    "connected": ("network_connected", "1 while the network feeds this node."),
    "outsiders_waiting": ("outsiders_waiting", "Outsiders' proposals in the queue."),
    "cache_bytes": ("cache_bytes", "What the gateway keeps."),
    "pool.envelopes": ("pool_envelopes", "Envelopes in the pool."),
    "pool.bytes": ("pool_bytes", "The pool's files."),
    "engine.ok": ("engine_up", "1 while the engine answers."),
    "clock.trusted": ("clock_trusted", "1 while the clock agrees with the peers' median."),
    "withheld.cids": ("withheld_cids", "CIDs on the gateway's denylist."),
}


class Metrics(Collector):
    """The figures of one process: every listener counts here, and shows all of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._roles: dict[str, Status] = {}
        self._requests: Counted[tuple[str, str, str]] = Counted()
        self._bytes: Counted[tuple[str, str]] = Counted()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, role: str, status: Status) -> None:
        """Show a role's status, too: what `/status` answers."""
        self._roles[role] = status

    def routes(self) -> list[BaseRoute]:
        async def show(request: Request) -> Response:
            text = generate_latest(self._registry)
            return Response(text, 200, {"Cache-Control": "no-store"}, CONTENT_TYPE_LATEST)

        return [Route("/metrics", show, methods=["GET"])]

    def counting(self, app: ASGIApp, role: str) -> ASGIApp:
        """The app, its requests counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, size = 0, 0

            async def sent(message: Message) -> None:
                nonlocal status, size
                if message["type"] == "http.response.start":
                    status = message["status"]
                elif message["type"] == "http.response.body":
                    size += len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, receive, sent)
            finally:
                route = route_of(scope["path"])
                self._requests[role, route, str(status) if status else "none"] += 1
                self._bytes[role, route] += size

        return counted

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client: what is read off the roles now."""
        yield InfoMetricFamily("restante_build", "This program.", {"version": __version__})
        requests = CounterMetricFamily(
            "restante_requests",
            "Requests answered, by what they were for.",
            labels=["role", "route", "status"],
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        sent = CounterMetricFamily(
            "restante_response_bytes", "Bytes of answers' bodies.", labels=["role", "route"]
        )
        for names, count in self._bytes.items():
            sent.add_metric(names, count)
        yield from (requests, sent)
        found = {role: status() for role, status in self._roles.items()}
        for place, (name, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"restante_{name}", text, labels=["role"])
            for role, status in found.items():
                value = _at(status, place)
                if isinstance(value, int | float):
                    gauge.add_metric([role], float(value))
            if gauge.samples:
                yield gauge
        yield from _of_roles(found)


def route_of(path: str) -> str:
    """The class of a request's path: one of few, whatever is asked for."""
    first, _, rest = path.lstrip("/").partition("/")
    if first == "tile" and rest.startswith("entries/"):
        return "entries"
    return first if first in ROUTES else "other"


def _at(status: dict[str, Any], place: str) -> Any:
    value: Any = status
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _of_roles(found: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    lag = GaugeMetricFamily(
        "restante_lag_seconds", "Since the end of the oldest undecided window.", labels=["role"]
    )
    reception = CounterMetricFamily(
        "restante_reception", "Arrivals, by what became of them.", labels=["role", "outcome"]
    )
    pending = GaugeMetricFamily(
        "restante_store_files_pending", "Files that wait for a store.", labels=["store"]
    )
    failing = GaugeMetricFamily(
        "restante_store_failing", "1 while a store fails.", labels=["store"]
    )
    fetched = CounterMetricFamily(
        "restante_source_requests", "Requests of the gateway to its sources.", labels=["role"]
    )
    late = GaugeMetricFamily(
        "restante_rollups_late", "Roll-ups that a window waits for.", labels=["role"]
    )
    reasons = GaugeMetricFamily(
        "restante_reason", "1 for each thing that is not well.", labels=["role", "code"]
    )
    for role, status in found.items():
        if "lag_ms" in status:
            lag.add_metric([role], status["lag_ms"] / 1000)
        for outcome, count in status.get("reception", {}).items():
            reception.add_metric([role, outcome], count)
        for store, state in status.get("stores", {}).items():
            pending.add_metric([store], state["pending"])
            failing.add_metric([store], float(state["error"] is not None))
        if "requests" in status:
            fetched.add_metric([role], status["requests"])
        codes = Counted(reason["code"] for reason in status["reasons"])
        if "signing" in status:
            late.add_metric([role], codes["rollup-late"])
        for code in codes:
            reasons.add_metric([role, code], 1)
    yield from (lag, reception, pending, failing, fetched, late, reasons)
