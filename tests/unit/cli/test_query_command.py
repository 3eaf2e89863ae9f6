"""`restante query`: options, output, decryption, exit codes."""

import json
import sys

import pytest
from click.testing import CliRunner

import restante.cli.keys
import restante.networks.whisper.crypt
from restante.cli.printing import printable
from restante.cli.query import query
from restante.cli.words import parse_time, parse_topic
from restante.errors import ConfigError
from restante.networks.whisper import crypt
from restante.testing.archive_fixture import envelope, make_archive, make_set

MADE = make_set()
D = MADE.descriptor
TOPIC = crypt.topic_of_name("news")
KEY, PRIVATE, PASSWORD = b"\x11" * 32, b"\x22" * 32, "correct horse"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("query")
    sealed = [
        crypt.encrypt_symmetric("caf\u00e9 \x1b[31mred".encode(), KEY),
        crypt.encrypt_symmetric(b"by password", crypt.password_key(PASSWORD)),
        crypt.encrypt_asymmetric(b"\xff\x00", crypt.public_key(PRIVATE), sign_with=KEY),
        b"nobody can read this",
    ]
    envelopes = {i: [envelope(TOPIC, D.start_s(i), data)] for i, data in enumerate(sealed)}
    make_archive(root / "archive", envelopes, 6, made=MADE)
    (root / "policy").write_bytes(MADE.policy().encode())
    (root / "key").write_text(KEY.hex() + "\n")
    (root / "private").write_text("0x" + PRIVATE.hex())
    (root / "password").write_text(PASSWORD + "\n")
    (root / "junk").write_text("not a key\n")
    return root


def run(place, *arguments, env=None, **more):
    base = ["--policy", str(place / "policy"), "--source", str(place / "archive"), "--no-memory"]
    return CliRunner().invoke(query, [*base, *map(str, arguments)], env=env, **more)


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_text_for_a_person(place):
    result = run(place, "--topic", "news", "--topic", "ffffffff", "--key-file", place / "key")
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert "café \\x1b[31mred" in out  # no stranger steers the terminal
    assert "\x1b" not in out
    assert "(not for these keys)" in out
    assert "4 envelopes; every byte verified" in out
    assert "ffffffff: none, proved for windows 0 to 5" in out
    assert "complete to window 5" in out
    assert "final for what was sent before" in out
    assert result.stderr == ""


def test_json_is_one_object_a_line_and_a_summary(place):
    result = run(place, "--topic-name", "news", "--json", "--limit", 3)
    *found, last = rows(result)
    assert [row["window"] for row in found] == [0, 1, 2]
    assert all(set(row) == {"id", "topic", "sent_s", "window", "raw"} for row in found)
    told = last["summary"]
    assert (told["exhausted"], told["counts"]) == (False, {TOPIC.hex(): 3})
    more = rows(run(place, "--topic-name", "news", "--json", "--cursor", told["cursor"]))
    assert [row["window"] for row in more[:-1]] == [3]
    assert more[-1]["summary"]["complete_to_window"] == 5


def test_every_kind_of_secret(place):
    secrets = ["--key-file", place / "key", "--key-file", place / "private"]
    secrets += ["--password-file", place / "password"]
    *found, _ = rows(run(place, "--topic", TOPIC.hex(), "--json", *secrets))
    assert [row["text"] for row in found] == ["café \x1b[31mred", "by password", None, None]
    assert found[2]["payload"] == "ff00"
    assert found[2]["signer"] == crypt.public_key(KEY).hex()
    assert found[3]["payload"] is None
    by_environment = run(place, "--topic", "news", env={"RESTANTE_PASSWORD": PASSWORD})
    assert "by password" in by_environment.stdout
    asked = run(place, "--topic", "news", "--ask-password", input=f"{PASSWORD}\n")
    assert "by password" in asked.stdout
    assert PASSWORD not in asked.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "query"),
        (("--topic", "news", "--since", "1", "--from", "5"), "query"),
        (("--topic", "news", "--from", "yesterday"), "time"),
        (("--topic", "news", "--from", "9", "--to", "9"), "query"),
        (("--topic", "news", "--cursor", "junk"), "cursor"),
        (("--topic", "news", "--key-file", "JUNK"), "key-file"),
        (("--topic", "news", "--key-file", "MISSING"), "key-file"),
        (("--topic", "news", "--source", "MISSING"), "source"),
        (("--topic", "news", "--policy", "JUNK"), "policy"),
        (("--topic", "news", "--policy", "MISSING"), "policy"),
    ],
)
def test_usage_errors(place, arguments, code):
    named = {"JUNK": str(place / "junk"), "MISSING": str(place / "missing")}
    result = run(place, *(named.get(each, each) for each in arguments), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr.splitlines()[-1])["error"]["code"] == code
    assert "not a key" not in result.output
    assert result.stdout == ""


def test_a_source_that_is_away_is_unavailable(place):
    arguments = ["--policy", str(place / "policy"), "--no-memory", "--topic", "news"]
    result = CliRunner().invoke(query, [*arguments, "--source", "http://127.0.0.1:9"])
    assert result.exit_code == 4
    assert "source-unreachable" in result.stderr
    assert CliRunner().invoke(query, arguments).exit_code == 2  # this policy has no contacts


def test_an_error_half_way_says_where_to_go_on(place, tmp_path):
    archive = make_archive(
        tmp_path, {i: [envelope(TOPIC, D.start_s(i))] for i in range(40)}, 40, made=MADE
    )
    (archive.root / "segment/0/035.car").write_bytes(b"")
    base = ["--policy", str(place / "policy"), "--source", str(tmp_path), "--no-memory"]
    result = CliRunner().invoke(query, [*base, "--topic", "news", "--json"])
    assert result.exit_code == 3
    *found, last = rows(result)
    assert last["error"]["code"] == "truncated"
    archive.write(
        "segment/0/035.car", archive.segment(35, [envelope(TOPIC, D.start_s(35))]).cars()[0]
    )
    cursor = ["--cursor", last["error"]["cursor"]]
    *rest, _ = rows(CliRunner().invoke(query, [*base, "--topic", "news", "--json", *cursor]))
    assert [row["window"] for row in found + rest] == list(range(40))
    text = CliRunner().invoke(query, [*base, "--topic", "news", *cursor])
    assert text.exit_code == 0


def test_decrypting_needs_an_extra(place, monkeypatch):
    # What is imported anew takes its place in the package, too: to be given back afterwards.
    monkeypatch.setattr(restante.networks, "whisper", restante.networks.whisper)
    monkeypatch.setattr(restante.cli, "keys", restante.cli.keys)
    for module in [name for name in sys.modules if name.startswith("restante.networks.whisper")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "restante.cli.keys", raising=False)
    monkeypatch.setitem(sys.modules, "coincurve", None)
    result = run(place, "--topic", TOPIC.hex(), "--key-file", place / "key")
    assert result.exit_code == 2
    assert "restante[whisper]" in result.stderr
    assert run(place, "--topic", TOPIC.hex()).exit_code == 0


def test_times():
    assert parse_time("1795365000") == 1_795_365_000
    assert parse_time("2026-11-22T16:30:00Z") == 1_795_365_000
    assert parse_time("2026-11-22T17:30:00+01:00") == 1_795_365_000
    assert parse_time("2026-11-22T16:30") == 1_795_365_000
    with pytest.raises(ConfigError):
        parse_time("-5")


def test_topics():
    assert parse_topic("5a4ea131") == parse_topic("0x5A4EA131") == bytes.fromhex("5a4ea131")
    assert parse_topic("5a4ea13") == crypt.topic_of_name("5a4ea13")


def test_printable():
    assert printable("a\x1b\u202e\x00é\n") == "a\\x1b\\u202e\\x00é\\n"


def test_help_names_modes_and_exit_codes():
    text = CliRunner().invoke(query, ["--help"]).stdout
    for word in ("bucket", "exact", "Examples:", "130 interrupted", "RESTANTE_PASSWORD"):
        assert word in text


def test_a_key_of_the_environment_or_a_prompt(place):
    asked = ("--topic", TOPIC.hex(), "--json")
    texts = lambda result: [row.get("text") for row in rows(result)]  # noqa: E731
    named = run(place, *asked, env={"RESTANTE_KEY": KEY.hex()})
    typed = run(place, *asked, "--ask-key", input=KEY.hex() + "\n")
    for result in (named, typed):
        assert result.exit_code == 0, result.output
        assert texts(result).count("caf\u00e9 \x1b[31mred") == 1
        assert KEY.hex() not in result.output
    private = run(place, *asked, env={"RESTANTE_KEY": PRIVATE.hex()})
    assert [row.get("payload") for row in rows(private)].count("ff00") == 1
    wrong = run(place, *asked, env={"RESTANTE_KEY": "5ecret"})
    assert isinstance(wrong.exception, SystemExit)
    assert wrong.exit_code == 2
    assert "RESTANTE_KEY does not hold 64 hex digits" in wrong.stderr
    assert "5ecret" not in wrong.output


def test_a_range_that_has_not_begun(place):
    result = run(place, "--topic", TOPIC.hex(), "--since", "9")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "0 envelopes; every byte verified"
    assert lines[1] == "the range has not begun: window 9 is not in the archive yet"
    assert "more may come in windows 9 on" in lines
    told = rows(run(place, "--topic", TOPIC.hex(), "--since", "9", "--json"))[-1]["summary"]
    assert told["begun"] is False
    # The cursor skips nothing of the range and brings nothing from before it.
    again = run(place, "--topic", TOPIC.hex(), "--since", "9", "--cursor", told["cursor"])
    assert again.stdout.splitlines()[1] == lines[1]


def test_one_is_said_as_one(place):
    result = run(place, "--topic", TOPIC.hex(), "--limit", "1")
    assert "\n1 envelope; every byte verified\n" in result.stdout
    assert "windows 0 to 0" not in result.stdout
