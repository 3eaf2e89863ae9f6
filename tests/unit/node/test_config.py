"""One table of options: file, environment and flags agree with it, and mistakes are named."""

import tomllib
from pathlib import Path

import pytest

from restante.errors import ConfigError
from restante.node.config import OPTIONS, Value, load, parse, template


def write(path: Path, text: str) -> Path:
    file = path / "restante.toml"
    file.write_text(text)
    return file


def test_the_template_holds_every_option_with_its_default(tmp_path: Path) -> None:
    text = template()
    found = parse(write(tmp_path, text))
    for option in OPTIONS:
        if option.key:
            assert found[option.name] == option.default
            assert option.help in text
    assert "(restart required)" in text
    assert found["peers"] == {}
    assert all(len(line) <= 110 for line in text.splitlines())


def test_the_template_takes_values(tmp_path: Path) -> None:
    values: dict[str, Value] = {
        "peers": {"v2": "http://127.0.0.1:1", "odd name": 'http://x/"'},
        "network.source": 'trace:a\\b"c.jsonl',
        "listen.port": 1234,
        "node.roles": ["gateway"],
    }
    found = parse(write(tmp_path, template(values)))
    for name, value in values.items():
        assert found[name] == value
    tomllib.loads(template(values))


def test_precedence_is_default_file_environment_flag(tmp_path: Path) -> None:
    file = write(tmp_path, "[listen]\nport = 1\nhost = 'file'\n[validator]\ngrace_s = 9\n")
    environ = {"RESTANTE_LISTEN_PORT": "2", "RESTANTE_NODE_ROLES": "gateway, proposer"}
    config = load(file, environ, {"listen.port": 3})
    assert config.int_("listen.port") == 3
    assert config.text("listen.host") == "file"
    assert config.int_("validator.grace_s") == 9
    assert config.int_("validator.step_s") == 10
    assert config.list_("node.roles") == ["gateway", "proposer"]
    assert config.table("stores") == {}
    assert config.origins["listen.port"] == "flag"
    assert config.origins["node.roles"] == "RESTANTE_NODE_ROLES"
    assert config.origins["validator.step_s"] == "default"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[listen]\nprot = 1\n", "unknown listen.prot", "listen.port"),
        ("[lisen]\nport = 1\n", "unknown lisen", "listen"),
        ("[listen]\nport = '1'\n", "is a number", ""),
        ("[listen]\nport = true\n", "is a number", ""),
        ("[listen]\nport = 70000\n", "is not in", ""),
        ("[node]\nroles = ['validater']\n", "unknown validater", "validator"),
        ("[node]\nroles = [1]\n", "not a text", ""),
        ("[peers]\nv1 = 3\n", "not a text", ""),
        ("[log]\nformat = 'xml'\n", "text or json", ""),
        ("listen = 3\n", "is a section", ""),
        ("listen = [\n", "restante.toml", ""),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(write(tmp_path, text))
    assert hint in raised.value.hint


def test_a_missing_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(tmp_path / "none")
    assert raised.value.code == "not-a-node"
    assert "init" in raised.value.hint


def test_a_bad_environment_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RESTANTE_LISTEN_PORT"):
        load(None, {"RESTANTE_LISTEN_PORT": "many"})
    with pytest.raises(ConfigError, match="RESTANTE_LISTEN_PORT"):
        load(None, {"RESTANTE_LISTEN_PORT": "-1"})
