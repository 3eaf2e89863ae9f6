"""`init` and `set`: what they write is what `up` needs, and mistakes are refused at once."""

import re
from pathlib import Path

import click
import pytest

from restante.cli.root import root
from restante.engines.local import LocalEngine
from restante.errors import ConfigError, RestanteError, StateError
from restante.node.adapters import open_engine
from restante.node.config import load
from restante.node.home import Home


def run(*arguments: object) -> None:
    root.main([str(each) for each in arguments], standalone_mode=False)


def refused(*arguments: object) -> RestanteError:
    with pytest.raises(SystemExit) as raised:
        run(*arguments)
    error = raised.value.__context__
    assert isinstance(error, RestanteError)
    return error


def vkeys(tmp_path: Path, capsys: pytest.CaptureFixture[str], *names: str) -> list[str]:
    capsys.readouterr()
    for name in names:
        run("set", "key", name, tmp_path / name)
    found = capsys.readouterr().out.split()
    return [each for vkey in found for each in ("--validator", vkey)]


def make_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], contacts: dict[str, str], *names: str
) -> Path:
    files = tmp_path / "set"
    given = [each for name, url in contacts.items() for each in ("--contact", f"{name}={url}")]
    run("set", "create", files, "--name", "x", *vkeys(tmp_path, capsys, *names), *given)
    return files


URLS = {f"v{n}": f"http://127.0.0.1:850{n}" for n in range(1, 5)}


def test_join_writes_a_configuration_that_needs_no_edit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_set(tmp_path, capsys, URLS, *URLS)
    LocalEngine.open(files / "engine.db")._close()
    home = Home(tmp_path / "v2")
    run("set", "join", home.path, "--set", files)
    assert "first:" not in capsys.readouterr().out
    config = load(home.config, {})
    assert config.table("peers") == {n: u for n, u in URLS.items() if n != "v2"}
    assert (config.text("listen.host"), config.int_("listen.port")) == ("127.0.0.1", 8502)
    assert config.text("listen.url") == URLS["v2"]
    assert config.text("engine.source") == "local:../set/engine.db"
    assert (home.path / config.table("stores")["folder"].removeprefix("folder:")).is_dir()
    from restante.durable import no_hook

    engine = open_engine(config, home, no_hook)
    assert isinstance(engine, LocalEngine)
    engine._close()
    assert isinstance(refused("set", "join", home.path, "--set", files), StateError)


def test_join_says_what_is_left_where_there_are_no_contacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_set(tmp_path, capsys, {"v1": "https://v1.example"}, *URLS)
    home = Home(tmp_path / "v1")
    peer = ("--peer", "v2=http://127.0.0.1:9002")
    assert "no validator" in str(
        refused("set", "join", home.path, "--set", files, "--peer", "v9=http://127.0.0.1:1")
    )
    run("set", "join", home.path, "--set", files, "--port", 9001, *peer)
    assert "name the URLs of v3, v4 under [peers]" in capsys.readouterr().out
    config = load(home.config, {})
    # A proxy's URL says nothing of where the node itself listens.
    assert (config.text("listen.host"), config.int_("listen.port")) == ("127.0.0.1", 9001)
    assert config.table("peers") == {"v2": "http://127.0.0.1:9002"}


def test_a_contact_of_no_validator_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = vkeys(tmp_path, capsys, "v1")
    error = refused(
        "set", "create", tmp_path / "set", "--name", "x", *keys, "--contact", "v9=http://127.0.0.1"
    )
    assert (error.code, error.hint) == ("contact", "validators: v1")
    assert not (tmp_path / "set").exists()


def test_roles_apart_need_no_secret_and_overwrite_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_set(tmp_path, capsys, URLS, *URLS)
    (files / "origin.key").unlink()
    for role, has_key in (("gateway", False), ("proposer,gateway", True)):
        home = Home(tmp_path / role)
        run("init", "--set", files, "--role", role, home.path)
        config = load(home.config, {})
        assert config.table("peers") == URLS
        assert config.list_("node.roles") == role.split(",")
        assert home.proposer_key.exists() is has_key
        assert home.read_policy(home.read_descriptor()).contacts
        before = home.config.read_bytes()
        assert refused("init", "--set", files, "--role", role, home.path).code == "exists"
        assert home.config.read_bytes() == before
    assert "set join" in refused("init", "--set", files, "--role", "validator", tmp_path / "n").hint
    for wrong in (["--role", "gatway"], [], ["--role", "gateway", "--peer", "v9=http://h"]):
        assert isinstance(refused("init", "--set", files, *wrong, tmp_path / "n"), ConfigError)
    assert isinstance(refused("init", "--role", "gateway", tmp_path / "n"), ConfigError)
    assert not (tmp_path / "n").exists()


def test_a_proposer_needs_every_url_and_a_gateway_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_set(tmp_path, capsys, {"v1": URLS["v1"]}, "v1", "v2", "v3", "v4")
    error = refused("init", "--set", files, "--role", "proposer", tmp_path / "p")
    assert "v2, v3, v4" in str(error)
    run("init", "--set", files, "--role", "gateway", tmp_path / "gw")
    others = [each for n in ("v2", "v3", "v4") for each in ("--peer", f"{n}={URLS[n]}")]
    run("init", "--set", files, "--role", "proposer", *others, tmp_path / "p")
    assert load(Home(tmp_path / "p").config, {}).table("peers") == URLS


def test_a_network_that_is_not_there_is_refused_at_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("foo", "trace:", "trace:missing.jsonl", "none,none"):
        assert isinstance(refused("init", "--network", wrong, tmp_path / "n"), ConfigError)
        assert not (tmp_path / "n").exists()
    (tmp_path / "observer1.jsonl").write_text("")
    run("init", "--network", "trace:observer1.jsonl", tmp_path / "n")
    source = load(Home(tmp_path / "n").config, {}).text("network.source")
    assert source == f"trace:{tmp_path / 'observer1.jsonl'}"


def test_the_readme_names_commands_and_options_that_exist() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    seen = 0
    for line in blocks.splitlines():
        for part in re.findall(r"(?<![/.-])\brestante ((?:set )?[a-z]+)([^#;|&)]*)", line):
            command = root
            for word in part[0].split():
                found = command.get_command(click.Context(root), word)  # type: ignore[arg-type, attr-defined]
                assert found is not None, line
                command = found
            known = {opt for param in command.params for opt in param.opts}
            assert set(re.findall(r"--[a-z-]+", part[1])) <= known, line
            seen += 1
    assert seen > 5


def test_a_mail_server_observes_whisper_unless_told_otherwise_and_then_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_set(tmp_path, capsys, URLS, *URLS)
    run("init", tmp_path / "mail", "--set", files, "--role", "gateway,mailserver")
    assert load(Home(tmp_path / "mail").config, {}).text("network.source") == "whisper"
    run("init", tmp_path / "gateway", "--set", files, "--role", "gateway")
    assert load(Home(tmp_path / "gateway").config, {}).text("network.source") == "none"
    other = tmp_path / "other"
    mail = ("--set", files, "--role", "mailserver", "--network", "none")
    assert refused("init", other, *mail).code == "mail-network"
    assert not other.exists()
    assert "no such role: mailsever" in str(
        refused("init", other, "--set", files, "--role", "mailsever")
    )
