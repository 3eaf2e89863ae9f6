"""`restante dev judge`: what reception and R0 say of envelopes in a file."""

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, BinaryIO, cast

import click

from restante.cli.output import FAILED
from restante.errors import ConfigError, InvalidEncoding, Refused
from restante.formats import whisper
from restante.formats.whisper import Keccak
from restante.networks import trace
from restante.rules import valid

ROW_HINT = "a row is a JSON object with rlp or packet (hex), and sent_ms or arrival_ms, one a line"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--at", "at_ms", type=click.IntRange(min=0), help="Judge all at this unix ms.")
def judge(file: str, as_json: bool, at_ms: int | None) -> None:
    """Judge the Whisper envelopes of FILE (JSONL, gzipped or not; - is standard input).

    A row holds `rlp` (an envelope in hex) or `packet` (a whole code-1 payload, of which every
    envelope must pass), and the time to judge it at, `sent_ms` or `arrival_ms`. Each is judged
    as on reception (geth's checks in geth's order, then TTL 0 and TTL over the cap), then by R0
    in the window that holds the time, with the default parameters.

    \b
    Examples:
      restante dev judge traces/whisper/invalid.jsonl
      restante dev judge --json traces/whisper/observer1.jsonl.gz
      restante dev judge --at 1795366010165 - < envelopes.jsonl

    With --json a row that cannot be read is a line too, its code row-unreadable.

    Exit codes: 0 every line was judged (a refusal is a result), 1 a line could not be read.
    """
    from restante.networks.keccak import keccak256

    name = "<stdin>" if file == "-" else file
    accepted = refused = unreadable = 0
    try:
        with click.open_file(file, "rb") as stream:
            for number, line in trace.read_lines(cast(BinaryIO, stream), name):
                try:
                    row = trace.parse_row(line, name, number)
                    verdict = judge_row(row, at_ms, keccak256)
                except ConfigError as error:
                    unreadable += 1
                    _complain(error, name, number)
                    _show_unreadable(error, number, as_json)
                    continue
                accepted += verdict["accepted"]
                refused += not verdict["accepted"]
                _show({"line": number, **verdict}, as_json)
    except ConfigError as error:  # the stream itself is damaged: nothing more can be read
        unreadable += 1
        _complain(error, name)
        _show_unreadable(error, None, as_json)
    if not as_json:
        click.echo(f"{accepted} accepted, {refused} refused, {unreadable} unreadable")
    if unreadable:
        sys.exit(FAILED)


def judge_row(row: dict[str, Any], at_ms: int | None, keccak: Keccak) -> dict[str, Any]:
    """The verdict on one row: accepted, rule, code, detail, severity, window, envelopes,
    id and whisper_hash (of the first refused envelope, else of the first). Raises ConfigError
    for a row that holds no envelope or no time."""
    now_ms = _time_of(row, at_ms)
    window = valid.window_of(now_ms, valid.DEFAULTS)
    verdict: dict[str, Any] = dict.fromkeys(
        ("accepted", "rule", "code", "detail", "severity", "window", "envelopes")
    )
    verdict |= {"accepted": False, "window": window, "id": None, "whisper_hash": None}
    try:
        raws = _envelopes_of(row)
    except InvalidEncoding as error:
        return verdict | {"rule": "packet", "code": error.code, "detail": str(error)}
    verdict["envelopes"] = len(raws)
    for raw in raws:
        refusal = _judge_envelope(raw, now_ms, window, keccak)
        if refusal is not None:
            return verdict | _names(raw, keccak) | refusal
    return verdict | {"accepted": True} | (_names(raws[0], keccak) if raws else {})


def _judge_envelope(raw: bytes, now_ms: int, window: int, keccak: Keccak) -> dict[str, Any] | None:
    """None if reception at that time and R0 in that window take it, else why not."""
    rule = "reception"
    try:
        valid.receive(raw, now_ms, valid.DEFAULTS, keccak)
        rule = "R0"
        facts = valid.examine(raw, valid.DEFAULTS, keccak)
        valid.check_window(facts.sent_s, window, valid.DEFAULTS)
    except Refused as error:
        severity = getattr(error, "severity", None)
        return {"rule": rule, "code": error.code, "detail": str(error), "severity": severity}
    return None


def _envelopes_of(row: dict[str, Any]) -> Sequence[bytes]:
    if "packet" in row:
        return whisper.parse_packet(_hex(row, "packet"))
    if "rlp" in row:
        return [_hex(row, "rlp")]
    raise ConfigError("the row has neither rlp nor packet", hint="put the envelope's hex in rlp")


def _hex(row: dict[str, Any], field: str) -> bytes:
    try:
        return trace.unhex(row[field])
    except (TypeError, ValueError):
        raise ConfigError(f"{field} is not hex", hint="two hex digits a byte, no 0x") from None


def _time_of(row: dict[str, Any], at_ms: int | None) -> int:
    if at_ms is not None:
        return at_ms
    time_ms = row.get("sent_ms", row.get("arrival_ms"))
    if type(time_ms) is not int or time_ms < 0:
        raise ConfigError(
            "the row has no time", hint="give sent_ms or arrival_ms as unix ms, or use --at"
        )
    return time_ms


def _names(raw: bytes, keccak: Keccak) -> dict[str, Any]:
    hash_ = whisper.whisper_hash(raw, keccak)
    return {"id": sha256(raw).hexdigest(), "whisper_hash": hash_.hex()}


def _show(verdict: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(verdict))
    elif verdict["accepted"]:
        click.echo(f"{verdict['line']}: accepted")
    else:
        click.echo(
            f"{verdict['line']}: refused by {verdict['rule']}, "
            f"{verdict['code']}: {verdict['detail']}"
        )


def _show_unreadable(error: ConfigError, number: int | None, as_json: bool) -> None:
    """A line of output also for a row that could not be read, so that none is lost."""
    if as_json:
        told = {"line": number, "accepted": False, "code": "row-unreadable", "detail": str(error)}
        click.echo(json.dumps(told))


def _complain(error: ConfigError, name: str, number: int | None = None) -> None:
    hint = ROW_HINT if isinstance(error, trace.TraceMalformed) else error.hint
    where = "" if number is None or str(error).startswith(name) else f"{name}, line {number}: "
    click.echo(f"error: {where}{error}\nhint: {hint}", err=True)
