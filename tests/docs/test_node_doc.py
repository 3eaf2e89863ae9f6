"""docs/node.md names every option, route and code that there is."""

import re
from pathlib import Path

from restante.node.config import OPTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "node.md").read_text()
SOURCES = Path(__file__).parents[2] / "src" / "restante" / "node"


def test_every_option_is_documented() -> None:
    missing = [option.name for option in OPTIONS if f"`{option.name}`" not in TEXT]
    assert missing == []


def test_every_route_is_documented() -> None:
    names = ("wire/routes_network", "wire/routes_node", "metrics")
    sources = [SOURCES / f"{name}.py" for name in names]
    text = "".join(path.read_text() for path in sources)
    paths = set(re.findall(r'Route\(\s*"(/[^"]*)"', text))
    assert {"/proposals", "/readiness", "/metrics"} <= paths
    for path in paths:
        assert path.replace("{window}", "<window>") in TEXT, path


def test_every_code_that_routes_answer_is_documented() -> None:
    codes: set[str] = set()
    names = ("wire/http", "wire/routes_archive", "wire/routes_network", "wire/routes_node")
    for name in (*names, "wire/reception", "gateway/denylist"):
        source = (SOURCES / f"{name}.py").read_text()
        codes |= set(re.findall(r'RequestRefused\(\s*\d+,\s*"([a-z-]+)"', source))
    assert len(codes) > 10
    missing = [code for code in sorted(codes) if f"`{code}`" not in TEXT]
    assert missing == []


def test_every_reason_of_status_is_documented() -> None:
    source = (SOURCES / "validator" / "role.py").read_text()
    codes = set(re.findall(r'\(\s*"([a-z-]+)",\s*f?"', source))
    assert {"lag", "clock", "starting"} <= codes
    missing = [code for code in sorted(codes) if f"`{code}`" not in TEXT]
    assert missing == []
