"""What is fixed for good when a set is made: the options that say it, and their values."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from restante.formats.level import Level

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--window", "window_s", type=click.IntRange(1, 3600),
        help="Length of a window in seconds (30); fixed for good, as all down to --bucket-bits.",
    ),
    click.option(
        "--levels", metavar="LIST",
        help="Roll-ups, in windows: 10,120,index:2880 by default (5 minutes, an hour, and the "
        "index of a day); none for none.",
    ),
    click.option("--ttl-max", "ttl_max_s", type=int, help="Longest TTL that is kept, s (300)."),
    click.option(
        "--pow-floor", type=float,
        help="Least proof of work (0.2, as geth demands; Status used 0.002).",
    ),
    click.option(
        "--bucket-bits", type=int,
        help="At most so many bits of a topic are told in mode bucket (6): more of them make it "
        "cheaper, and hide less.",
    ),
)  # fmt: skip


def set_parameters(command: F) -> F:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_parameters(given: Mapping[str, Any]) -> dict[str, int]:
    """The descriptor's fields of the options that were given, levels apart."""
    found = {
        name: value
        for name in ("window_s", "ttl_max_s", "bucket_bits")
        if (value := given[name]) is not None
    }
    if given["pow_floor"] is not None:
        found["pow_floor_millionths"] = round(given["pow_floor"] * 1e6)
    return found


def read_levels(text: str | None) -> "tuple[Level, ...]":
    """The levels of the option's text, the default ones without it. Raises ConfigError.

    Whether a set can have them is the descriptor's question.
    """
    from restante.errors import ConfigError
    from restante.formats.level import STANDARD, Level

    if text is None:
        return STANDARD
    if text == "none":
        return ()
    levels: list[Level] = []
    for item in text.split(","):
        kind, separator, number = item.strip().rpartition(":")
        if (separator and kind != "index") or not (number.isascii() and number.isdecimal()):
            raise ConfigError(
                f"not a level: {item}", code="levels", hint="as in 10,120,index:2880, or none"
            )
        levels.append(Level(int(number), "index" if separator else "bodies"))
    return tuple(levels)
