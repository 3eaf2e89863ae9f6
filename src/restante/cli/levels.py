"""`--levels`: the roll-ups of a new set."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from restante.formats.level import Level

levels_option = click.option(
    "--levels",
    metavar="LIST",
    help="Roll-ups, in windows: 10,120,index:2880 by default (5 minutes, an hour, and the index of "
    "a day); none for none. Fixed for good.",
)


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
