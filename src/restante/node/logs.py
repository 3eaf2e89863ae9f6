"""Logs: a line per event for people, or a JSON object per line. Never payloads or keys.

Every object has `at_ms`, `level`, `logger` and `message`; docs/operating.md lists what else there
may be. Names are only ever added. A line is one line whatever stands in it: what others send can
end up in a message.
"""

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

from restante.errors import RestanteError

# What ends a line somewhere: ASCII controls, and Unicode's line and paragraph ends.
_ENDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.gmtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        message = _ENDS.sub(lambda end: repr(end[0])[1:-1], record.getMessage())
        line = f"{at} {level}{message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # An event's own fields never take these places.
        line |= getattr(record, "fields", {}) | line
        if record.exc_info:
            error = record.exc_info[1]
            if isinstance(error, RestanteError):
                line["code"] = error.code
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(form: str, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard output) as `text` or `json`."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("restante").setLevel(logging.INFO)
    # These would log every request, and a URL at most.
    for noisy in ("httpx2", "httpcore2", "uvicorn", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
