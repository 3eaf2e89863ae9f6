"""`/metrics`: what it shows, in few labels, and that nothing else comes into it."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from local_set import LocalSet, opened
from restante.formats.paths import segment_path
from restante.node.clock import WallClock
from restante.node.metrics import ROUTES, Metrics, route_of
from restante.node.wire.http import build_app
from restante.node.wire.routes_node import common_routes
from restante.rules.window import Pace
from restante.stores.folder import FolderStore

DOC = Path(__file__).parents[3] / "docs" / "operating.md"


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def get(app: Any, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
        return await client.get(path)


def test_a_validators_figures(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 1, pace=Pace(1_000, 1_000))
        store = FolderStore.create("disk", tmp_path / "store")
        async with opened(local, stores=[store]):
            party = local.parties["v1"]
            raws = [local.envelope(number) for number in range(3)]
            for raw in raws:
                party.validating.hand_in(raw)
            party.network.bring(raws[0], b"junk")
            await local.decided(1)
            validating, metrics = party.validating, Metrics()
            metrics.watch("validator", validating.status)
            routes = common_routes(validating.status, None, 10) + metrics.routes()
            plain = build_app(routes + validating.routes(), local.clock)
            app = metrics.counting(plain, "validator")
            part = (await get(app, f"/{segment_path(0, 0)}")).content
            await get(app, "/segment/0/999.car")
            await get(app, "/nothing/of/ours?topic=5a4ea131")
            response = await get(app, "/metrics")
            assert response.headers["content-type"].startswith("text/plain; version=")
            found = samples(response.text)
            status = validating.status()
            role = {"role": "validator"}
            assert of(found, "restante_window_decided", **role) >= 1
            assert of(found, "restante_tree_size", **role) >= 2
            assert of(found, "restante_lag_seconds", **role) >= 0
            assert of(found, "restante_pool_envelopes", **role) == status["pool"]["envelopes"]
            assert of(found, "restante_pool_bytes", **role) > 0
            assert of(found, "restante_signing", **role) == 1
            assert of(found, "restante_engine_up", **role) == 1
            assert of(found, "restante_store_files_pending", store="disk") >= 0
            assert of(found, "restante_store_failing", store="disk") == 0
            outcomes = {
                dict(labels)["outcome"]: value
                for (name, labels), value in found.items()
                if name == "restante_reception_total"
            }
            assert outcomes == status["reception"]
            assert outcomes["repeat"] == 1
            requests = {"role": "validator", "route": "segment"}
            assert of(found, "restante_requests_total", **requests, status="200") == 1
            assert of(found, "restante_requests_total", **requests, status="404") == 1
            unknown = {"role": "validator", "route": "other"}
            assert of(found, "restante_requests_total", **unknown, status="404") == 1
            assert of(found, "restante_response_bytes_total", **requests) > len(part)
            assert of(found, "restante_build_info", version="0.1.0") == 1
            assert "5a4ea131" not in response.text
            assert "127.0.0.1" not in response.text
            documented(response.text)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def documented(text: str) -> None:
    """Every family that is ours stands in the documentation."""
    names = {f.name for f in text_string_to_metric_families(text) if f.name.startswith("restante")}
    told = DOC.read_text()
    assert [name for name in sorted(names) if f"`{name}" not in told] == []


def test_what_is_not_well_has_a_row_while_it_is_not() -> None:
    reasons: list[dict[str, str]] = []
    metrics = Metrics()
    status: dict[str, Any] = {"reasons": reasons, "signing": True, "size": 7}
    metrics.watch("validator", lambda: status)
    app = build_app(metrics.routes(), WallClock())

    def look() -> dict[Any, float]:
        return samples(asyncio.run(get(app, "/metrics")).text)

    assert not [name for name, _ in look() if name == "restante_reason"]
    assert of(look(), "restante_rollups_late", role="validator") == 0
    # Two reasons of one code are one row.
    reasons += [{"code": "split-view", "message": name} for name in ("v1", "v2")]
    reasons.append({"code": "rollup-late", "message": "windows 0 to 119"})
    found = look()
    assert of(found, "restante_reason", role="validator", code="split-view") == 1
    assert of(found, "restante_rollups_late", role="validator") == 1
    assert of(found, "restante_tree_size", role="validator") == 7


def test_roles_of_one_process_stand_side_by_side() -> None:
    metrics = Metrics()
    for role, size in (("validator", 5), ("gateway", 4)):
        metrics.watch(role, lambda size=size: {"reasons": [], "size": size})  # type: ignore[misc]
    found = samples(asyncio.run(get(build_app(metrics.routes(), WallClock()), "/metrics")).text)
    assert of(found, "restante_tree_size", role="validator") == 5
    assert of(found, "restante_tree_size", role="gateway") == 4


def test_an_answer_that_breaks_off_is_counted() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise ValueError("gone")

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("nothing was sent")

    metrics = Metrics()

    async def take(message: Any) -> None:
        """A server that sends nothing on."""

    async def none() -> Any:
        return {"type": "http.request"}

    for app, path in ((broken, "/segment/0/000.car"), (nothing, "/tile/entries/000")):
        with pytest.raises(ValueError, match=r"gone|nothing"):
            asyncio.run(metrics.counting(app, "v")({"type": "http", "path": path}, none, take))
    found = samples(asyncio.run(get(build_app(metrics.routes(), WallClock()), "/metrics")).text)
    assert of(found, "restante_requests_total", role="v", route="segment", status="200") == 1
    assert of(found, "restante_response_bytes_total", role="v", route="segment") == 5
    assert of(found, "restante_requests_total", role="v", route="entries", status="none") == 1


@given(st.text() | st.sampled_from(sorted(ROUTES)).map(lambda name: f"/{name}/x"))
def test_whatever_is_asked_for_there_are_few_classes(path: str) -> None:
    assert route_of(path) in ROUTES | {"entries", "other"}


def test_every_route_has_a_class() -> None:
    sources = Path(__file__).parents[3] / "src" / "restante" / "node"
    text = "".join(
        path.read_text() for path in (sources / "wire").glob("routes_*.py")
    ) + (sources / "metrics.py").read_text()  # fmt: skip
    paths = set(re.findall(r'Route\(\s*"(/[^"{]*)', text)) - {"/"}
    assert {"/readiness", "/metrics", "/ipfs/"} <= paths
    assert [path for path in sorted(paths) if route_of(path) == "other"] == []
    for path in ("checkpoint", "descriptor", "policy", "watch/v1", "contact/v1", "tile/0/000",
                 "certificate/000", "segment/0/000.car"):  # fmt: skip
        assert route_of(f"/{path}") == path.split("/")[0]
