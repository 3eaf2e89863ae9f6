"""Installed alone, the package is the client: importing it loads no server, node or database."""

import subprocess
import sys

FORBIDDEN = ("restante.node", "starlette", "uvicorn", "sqlite3", "coincurve", "sha3")


def loaded(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_client_loads_no_server_code():
    modules = loaded("import restante.client, restante.client.http")
    assert "restante.client.archive" in modules
    for name in FORBIDDEN:
        assert not {m for m in modules if m == name or m.startswith(name + ".")}, name


def test_the_library_without_http_loads_no_http():
    assert "httpx2" not in loaded("import restante.client")


def test_the_commands_load_little_until_they_run():
    modules = loaded("import restante.cli.query, restante.cli.inspect")
    assert not {"httpx2", "coincurve", "restante.node"} & modules
