"""Faults at named durable steps: before anything of the step is on disk, or after all of it is.

A step's name is what `restante.durable` calls its hook with, such as `lock.decide.before`.
"""

import os
import signal
from collections.abc import Mapping

from restante.durable import Hook, no_hook

VARIABLE = "RESTANTE_FAULT"


class InjectedFault(Exception):
    """The process is meant to be dead here: nothing in production catches this."""


class Recorder:
    """A hook that only notes which steps were reached, in order."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)


class FailAt:
    """A hook that raises InjectedFault at the nth call (from 1) of one step."""

    def __init__(self, name: str, nth: int = 1) -> None:
        self.name = name
        self.left = nth

    def __call__(self, step: str) -> None:
        if step == self.name:
            self.left -= 1
            if self.left == 0:
                self.strike()

    def strike(self) -> None:
        raise InjectedFault(self.name)


class KillAt(FailAt):
    """A hook that kills its own process, as `kill -9` does: no handler and no `finally` runs."""

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def from_environment(environ: Mapping[str, str] = os.environ) -> Hook:
    """The hook that RESTANTE_FAULT=<step>:<nth> asks for; no hook when it is not set.

    For child processes that a test starts. Raises ValueError on another form.
    """
    value = environ.get(VARIABLE)
    if value is None:
        return no_hook
    name, separator, nth = value.rpartition(":")
    if not separator or not nth.isdecimal() or int(nth) < 1:
        raise ValueError(f"{VARIABLE} is <step>:<nth>, not {value!r}")
    return KillAt(name, int(nth))
