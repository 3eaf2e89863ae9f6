"""A line of the log is one line, and in JSON an object with stable names."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from restante.errors import StateError
from restante.node import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("restante")
    before = (root.handlers[:], root.level, own.level)
    yield
    root.handlers[:], root.level, own.level = before


def lines(form: str, emit: object) -> list[str]:
    stream = io.StringIO()
    logs.configure(form, stream)
    emit(logging.getLogger("restante.test"))  # type: ignore[operator]
    return stream.getvalue().splitlines()


def test_json_has_what_every_line_has_and_the_events_own() -> None:
    def emit(log: logging.Logger) -> None:
        log.info("window %d", 7, extra={"fields": {"window": 7, "cid": "bafy…"}})
        log.warning("plain")

    first, second = map(json.loads, lines("json", emit))
    assert list(first)[:4] == ["at_ms", "level", "logger", "message"]
    assert first["message"] == "window 7"
    assert (first["level"], first["logger"]) == ("info", "restante.test")
    assert (first["window"], first["cid"]) == (7, "bafy…")
    assert second["level"] == "warning"
    assert first["at_ms"] <= second["at_ms"]


def test_an_events_fields_do_not_hide_what_every_line_has() -> None:
    def emit(log: logging.Logger) -> None:
        log.info("told", extra={"fields": {"message": "other", "level": "none", "more": 1}})

    (line,) = map(json.loads, lines("json", emit))
    assert (line["message"], line["level"], line["more"]) == ("told", "info", 1)


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_others_send_makes_no_second_line(form: str) -> None:
    hostile = "a\nb\r\x0bc\x1b[31m\u2028d\x85e"
    found = lines(form, lambda log: log.info("source %s", hostile))
    assert len(found) == 1
    assert "\x1b" not in found[0]
    if form == "json":
        assert json.loads(found[0])["message"] == f"source {hostile}"


def test_an_exception_is_part_of_its_line_with_its_code() -> None:
    def emit(log: logging.Logger) -> None:
        try:
            raise StateError("the disk failed", code="pool-write")
        except StateError:
            log.exception("stopped")

    (line,) = map(json.loads, lines("json", emit))
    assert line["code"] == "pool-write"
    assert "StateError: the disk failed" in line["exception"]
    text = lines("text", emit)
    assert text[0].endswith("error: stopped")
    assert text[-1].endswith("StateError: the disk failed")


def test_requests_of_libraries_are_not_logged() -> None:
    def emit(log: logging.Logger) -> None:
        logging.getLogger("httpx2").info("GET http://example/?topic=5a4ea131")
        logging.getLogger("uvicorn.error").info("started")

    assert lines("json", emit) == []
