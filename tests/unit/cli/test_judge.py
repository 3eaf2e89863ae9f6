"""`dev judge`: one line a row, exit codes, and errors that name the line."""

import gzip
import json
from pathlib import Path

from click.testing import CliRunner

from restante.cli.judge import judge

TRACE = Path(__file__).parents[3] / "traces" / "whisper"


def test_json_has_an_object_for_each_line() -> None:
    result = CliRunner().invoke(judge, ["--json", str(TRACE / "invalid.jsonl")])
    assert result.exit_code == 0
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert [verdict["line"] for verdict in verdicts] == list(range(1, 63))
    accepted = [verdict["line"] for verdict in verdicts if verdict["accepted"]]
    assert accepted == [1, 26, *range(56, 63)]
    for verdict in verdicts:
        assert (verdict["code"] is None) == verdict["accepted"]
    first = verdicts[0]
    assert first["whisper_hash"] == (
        "828fff9d98ecc5e53b0c2609b437052dcdc8fa1d8e9cfff2893556ab24bf0f27"
    )
    assert first["window"] == 1795366010 // 30
    assert verdicts[54]["envelopes"] == 2
    assert verdicts[54]["code"] == "low-pow"


def test_gzip_and_arrival_time() -> None:
    result = CliRunner().invoke(judge, [str(TRACE / "observer2.jsonl.gz")])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "2030 accepted, 0 refused, 0 unreadable"


def test_another_time() -> None:
    line = gzip.decompress((TRACE / "observer1.jsonl.gz").read_bytes()).splitlines()[0]
    arrival_ms = json.loads(line)["arrival_ms"]
    for at_ms, text in [
        (arrival_ms, "1: accepted"),
        (arrival_ms - 60_000, "1: refused by reception, future"),
        (arrival_ms + 3_600_000, "1: refused by reception, very-old"),
    ]:
        result = CliRunner().invoke(judge, ["--at", str(at_ms), "-"], input=line)
        assert result.exit_code == 0
        assert result.stdout.startswith(text)


def test_lines_that_cannot_be_read_are_named_and_the_rest_is_judged() -> None:
    good = (TRACE / "invalid.jsonl").read_text().splitlines()[0]
    bad = [
        "not json",
        '{"rlp": "c0"}',
        '{"sent_ms": 1}',
        '{"rlp": "0x", "sent_ms": 1}',
        '{"packet": 7, "sent_ms": 1}',
        '{"rlp": "c0", "sent_ms": true}',
        "",
        "[1]",
    ]
    result = CliRunner().invoke(judge, ["--json", "-"], input="\n".join([*bad, good]) + "\n")
    assert result.exit_code == 1
    *unread, verdict = [json.loads(line) for line in result.stdout.splitlines()]
    assert {(row["accepted"], row["code"]) for row in unread} == {(False, "row-unreadable")}
    assert verdict["line"] == 9
    assert verdict["accepted"]
    for number in range(1, 9):
        assert f"line {number}: " in result.stderr
    assert result.stderr.count("hint: ") == 8


def test_damaged_gzip_is_a_failure() -> None:
    data = gzip.compress((TRACE / "invalid.jsonl").read_bytes())[:-9]
    result = CliRunner().invoke(judge, ["-"], input=data)
    assert result.exit_code == 1
    assert "damaged gzip" in result.stderr


def test_an_empty_packet_is_legal() -> None:
    result = CliRunner().invoke(judge, ["--json", "-"], input='{"packet":"c0","sent_ms":1}')
    verdict = json.loads(result.stdout)
    assert verdict["accepted"]
    assert verdict["envelopes"] == 0


def test_a_missing_file_is_a_usage_error() -> None:
    assert CliRunner().invoke(judge, ["/nonexistent"]).exit_code == 2
