"""`/health` says whether all is well, `/readiness` whether the node does its work."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_set import LocalSet, opened
from restante import limits
from restante.client import ProcessMemory
from restante.client.sources import FolderSource
from restante.node.clock import WallClock
from restante.node.gateway.role import Gateway
from restante.node.gateway.upstream import Upstream
from restante.node.wire.http import build_app
from restante.node.wire.routes_node import common_routes
from restante.rules.window import Pace
from restante.testing.archive_fixture import make_archive


def answers(status: dict[str, Any]) -> dict[str, tuple[int, list[str]]]:
    """Path → (status, codes of its reasons)."""

    async def ask() -> dict[str, tuple[int, list[str]]]:
        app = build_app(common_routes(lambda: status, None, 1), WallClock())
        transport = httpx2.ASGITransport(app)
        found = {}
        async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
            for path in ("health", "readiness"):
                response = await client.get(f"/{path}")
                body = response.json()
                assert body["ok"] is (response.status_code == 200)
                assert response.headers["cache-control"] == "no-store"
                found[path] = response.status_code, [r["code"] for r in body["reasons"]]
        return found

    return asyncio.run(ask())


def reasons(*codes: str) -> list[dict[str, str]]:
    return [{"code": code, "message": code} for code in codes]


def test_what_keeps_a_role_from_its_work() -> None:
    assert answers({"reasons": []}) == {"health": (200, []), "readiness": (200, [])}
    for code in ("starting", "lag", "clock", "engine-unavailable", "log"):
        found = answers({"reasons": reasons(code), "signing": code != "starting"})
        assert found == {"health": (503, [code]), "readiness": (503, [code])}
    for code in ("store-unavailable", "pool-full", "segments-missing", "split-view"):
        found = answers({"reasons": reasons(code), "signing": True})
        assert found == {"health": (503, [code]), "readiness": (200, [])}
    # What halted it has a code of its own, whatever that is.
    found = answers({"reasons": reasons("lock-behind-peers", "pool-full"), "signing": False})
    assert found["readiness"] == (503, ["lock-behind-peers", "pool-full"])


def test_a_validator_is_ready_once_its_peers_have_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = LocalSet.create(tmp_path, 4, pace=Pace(1_000, 1_000))
        local.router.down = {"v2", "v3", "v4"}
        async with opened(local), local.client() as client:
            response = await client.get("http://v1/readiness")
            assert response.status_code == 503
            assert "starting" in {r["code"] for r in response.json()["reasons"]}
            local.router.down = set()
            await local.decided(0)
            response = await client.get("http://v1/readiness")
            assert (response.status_code, response.json()["reasons"]) == (200, [])

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_gateway_is_ready_with_a_checkpoint_however_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that stands still is no reason to take its history away from clients."""
    monkeypatch.setattr(limits, "GATEWAY_ABSENT_S", 0.0)
    monkeypatch.setattr(limits, "GATEWAY_FRESH_S", 0.0)
    made = make_archive(tmp_path / "archive", {}, 2)

    async def scenario() -> None:
        d, policy = made.made.descriptor, made.made.policy()
        folder = tmp_path / "archive"
        source = FolderSource(folder)
        upstream = Upstream(d, policy, [source], ProcessMemory())
        gateway = Gateway(d, upstream, tmp_path / "cache", 2**30, WallClock())
        app = build_app(common_routes(gateway.status, None, 1, gateway.ready), WallClock())
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            (folder / "checkpoint").rename(folder / "away")
            response = await client.get("/readiness")
            assert response.status_code == 503
            assert response.json()["reasons"][0]["code"] == "not-found"
            (folder / "away").rename(folder / "checkpoint")
            assert (await client.get("/readiness")).status_code == 200
            (folder / "checkpoint").unlink()
            assert (await client.get("/readiness")).status_code == 200, "it has one"
        gateway.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
