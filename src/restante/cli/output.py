"""How commands end: exit codes, and errors for people or machines.

0 ok, 1 failed, 2 usage or configuration, 3 verification failed, 4 unavailable, 130 interrupted.
"""

import errno
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

import click

from restante.errors import ConfigError, RestanteError, StateError, Unavailable, VerificationFailed

P = ParamSpec("P")
R = TypeVar("R")

FAILED, USAGE, VERIFICATION, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130


def exit_code(error: RestanteError) -> int:
    """The exit code of an error."""
    match error:
        case ConfigError():
            return USAGE
        case VerificationFailed():
            return VERIFICATION
        case Unavailable():
            return UNAVAILABLE
    return FAILED


def complain(error: RestanteError, as_json: bool = False) -> None:
    """Print an error to standard error."""
    if as_json:
        fields = {"code": error.code, "message": str(error), "hint": error.hint}
        click.echo(json.dumps({"error": fields}, ensure_ascii=False), err=True)
        return
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def complaint_of(error: OSError | ImportError) -> RestanteError:
    """What the system or Python's import says, as one of our errors."""
    if isinstance(error, ImportError):
        return ConfigError(
            f"this command needs {error.name or error}",
            code="extra",
            hint="install restante[node,whisper], which has everything",
        )
    where = f"{error.filename}: " if error.filename is not None else ""
    return StateError(
        f"{where}{error.strerror or error}", code="system", hint=_HINTS.get(error.errno or 0, "")
    )


_HINTS = {
    errno.EACCES: "choose a place that this user may write to",
    errno.EPERM: "choose a place that this user may write to",
    errno.EROFS: "choose a place that can be written to",
    errno.EEXIST: "choose another place, or remove what is there",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.ENOSPC: "make room where it writes",
    errno.EPIPE: "whoever read the output has stopped",
    errno.EADDRINUSE: "another process listens there: choose another port",
}


@contextmanager
def reporting(as_json: bool = False) -> Iterator[None]:
    """Turn our errors into a message and an exit code."""
    try:
        yield
    except RestanteError as error:
        complain(error, as_json)
        sys.exit(exit_code(error))
    except (OSError, ImportError) as error:
        if not as_json:
            raise  # `main` says it
        complain(complaint_of(error), as_json)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


def reports(command: Callable[P, R]) -> Callable[P, R]:
    """`reporting`, for a command whose option `as_json` says which form its errors take."""

    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with reporting(bool(kwargs.get("as_json"))):
            return command(*args, **kwargs)

    return update_wrapper(wrapped, command)


def show_json(value: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))
