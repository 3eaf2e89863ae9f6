"""How commands end: one exit code for each kind of error, and the error said to a person.

0 ok, 1 failed, 2 usage, 3 verification failed, 4 unavailable, 130 interrupted.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from restante.errors import ConfigError, RestanteError, Unavailable, VerificationFailed

P = ParamSpec("P")
T = TypeVar("T")

OK, FAILED, USAGE, UNVERIFIED, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130


def exit_code(error: RestanteError) -> int:
    """The exit code of an error."""
    match error:
        case VerificationFailed():
            return UNVERIFIED
        case Unavailable():
            return UNAVAILABLE
        case ConfigError():
            return USAGE
    return FAILED


def complain(error: RestanteError) -> None:
    """Say an error, its code and its hint on standard error."""
    click.echo(f"error ({error.code}): {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def exits(command: Callable[P, T]) -> Callable[P, T]:
    """A command's function whose errors end in a message and an exit code, never in a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except RestanteError as error:
            complain(error)
            sys.exit(exit_code(error))
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has enough; the interpreter's own flush must not fail too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)

    return run
