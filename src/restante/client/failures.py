"""How sources fail: what an HTTP source and a folder have in common."""

from restante.errors import Unavailable, VerificationFailed

CODES: dict[str, str] = {
    "not-found": "the source has no such file",
    "below-retention": "the source keeps nothing as old as that any more",
    "withheld": "the source has it and does not give it (HTTP 410 with this code)",
    "source-unreachable": "no connection, or it broke",
    "source-timeout": "no answer in time, or one that drips",
    "source-status": "an answer with a status that helps nobody",
    "source-truncated": "fewer bytes than announced, or another range than asked for",
    "source-protocol": "not HTTP as it must be, or an encoding that nobody asked for",
    "source-too-large": "more bytes than the object can have",
    "source-failed": "a folder that cannot be read",
}
"""Every code that a source fails with, and what it means."""


class SourceFailed(Unavailable):
    """A source did not give what was asked for; another may."""


class BelowRetention(SourceFailed):
    """A source has released what was asked for, with all that is older."""

    code = "below-retention"

    def __init__(self, message: str, lost: tuple[int, int]) -> None:
        super().__init__(message)
        self.lost = lost
        """The windows [a, b) of the range asked for that this source has no more."""


class SourceOverflow(VerificationFailed):
    """A source gave more than the object can have: it is left, as one that lied."""

    code = "source-too-large"


ABSENT = frozenset({"not-found", "below-retention", "withheld"})
"""Codes of a source that does not have, or does not give, one thing: it may have all others."""
