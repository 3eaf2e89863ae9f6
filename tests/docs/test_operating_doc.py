"""docs/operating.md and the example of a proxy say what the code does."""

import re
from pathlib import Path

from click import Group

from restante import limits
from restante.cli.root import root
from restante.node import backup
from restante.node.wire.reception import proposal_max_bytes
from restante.testing.archive_fixture import make_set

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "operating.md").read_text()
NGINX = (DOCS / "examples" / "nginx.conf").read_text()
SOURCES = Path(__file__).parents[2] / "src" / "restante"


def test_commands_and_options_exist() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    seen = 0
    for line in blocks.splitlines():
        for words, rest in re.findall(r"(?<![/.@-])\brestante ((?:set )?[a-z]+)([^#;|&]*)", line):
            command = root
            for word in words.split():
                assert isinstance(command, Group)
                found = command.commands.get(word) or command.get_command(
                    command.make_context("restante", [], resilient_parsing=True), word
                )
                assert found is not None, line
                command = found  # type: ignore[assignment]
            known = {opt for param in command.params for opt in param.opts}
            assert set(re.findall(r"--[a-z-]+", rest)) <= known, line
            seen += 1
    assert seen > 8


def test_what_a_backup_leaves_out_is_told() -> None:
    for names in backup.LEFT_OUT:
        for name in names.split(", "):
            assert f"`{name}`" in TEXT


def test_codes_that_it_names_exist() -> None:
    source = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    codes = (
        "key-lost key-locked lock-behind-peers lock-version block-index outbox engine-diverged "
        "pool-missing backup-version withheld denylist"
    )
    for code in codes.split():
        assert f'"{code}"' in source, code
        assert f"`{code}`" in TEXT or f'"{code}"' in TEXT or f", {code}" in TEXT, code


def test_the_figures_are_the_limits() -> None:
    assert limits.KEY_SCRYPT_LOG_N == 17
    assert "N = 2¹⁷: 128 MiB" in TEXT
    assert f"({limits.ENVELOPE_RATE_PER_S}/s)" in TEXT
    assert (
        f"have {limits.HTTP_CONNECTIONS_PROXIED} of\n  a listener's {limits.HTTP_CONNECTIONS}"
        in TEXT
    )
    assert f"({limits.HTTP_CONNECTIONS_PER_SOURCE} per address in the example)" in TEXT


def megabytes(name: str) -> list[int]:
    return [int(text) for text in re.findall(rf"{name} (\d+)m;", NGINX)]


def test_the_proxy_lets_through_what_the_node_takes() -> None:
    (largest,) = megabytes("client_max_body_size")
    needed = max(
        limits.BODIES_PUSH_BYTES,
        limits.BODIES_IDS * 32 + limits.MESSAGE_OVERHEAD_BYTES,
        proposal_max_bytes(
            make_set(batch_max_envelopes=limits.DESCRIPTOR_BATCH_ENVELOPES).descriptor
        ),
    )
    assert largest * 2**20 >= needed
    (rate,) = re.findall(r"rate=(\d+)r/s", NGINX)
    assert int(rate) > 0
    connections = re.findall(r"limit_conn restante_connections (\d+);", NGINX)
    assert set(connections) == {str(limits.HTTP_CONNECTIONS_PER_SOURCE)}


def test_the_proxy_never_reuses_a_connection_that_the_node_closes() -> None:
    times = re.findall(r"keepalive_timeout (\d+)s;", NGINX)
    assert len(times) == 2
    assert all(int(text) < limits.HTTP_KEEPALIVE_S for text in times)


def test_the_proxy_says_whom_it_sees() -> None:
    told = re.findall(r"proxy_set_header X-Forwarded-For (\S+);", NGINX)
    assert told == ["$remote_addr"] * 2
    assert NGINX.count("proxy_pass") == 4
    assert "proxy_cache " not in NGINX
