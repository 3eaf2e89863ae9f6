"""One tree of errors.

    RestanteError
      Invalid           the data is wrong: part of normal operation, goes into verdicts
        InvalidEncoding   bytes that no strict parser takes
        Refused           an envelope that reception or R0 refuses; `code` says why
        VerificationFailed  a served object does not verify (exit 3)
      Conflict          a compare-and-swap was lost, or state says otherwise
      Unavailable       the world is down: retry (exit 4)
      ConfigError       the operator's input is wrong (exit 2)
      StateError        durable state is missing, damaged or from a backup: never papered over

`code` is stable: it is the metric label, the JSON field and what documentation lists.
`hint` says what a person can do about it.
"""


class RestanteError(Exception):
    """Base: a message for a person, a stable code for a machine, and a hint."""

    code: str = "error"
    hint: str = ""

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint

    def diagnostics(self) -> str:
        """The message, and the hint on a line of its own where there is one."""
        return f"{self}\nhint: {self.hint}" if self.hint else str(self)


class Invalid(RestanteError):
    """Data from outside is wrong."""

    code = "invalid"


class InvalidEncoding(Invalid):
    """Bytes that the strict parser of their format refuses."""

    code = "encoding"


class Refused(Invalid):
    """An envelope that the reception rules or R0 refuse."""

    code = "refused"


class VerificationFailed(Invalid):
    """A served object contradicts what the policy or a hash demands."""

    code = "verification"


class Conflict(RestanteError):
    """Somebody else was first, or durable state already says otherwise."""

    code = "conflict"


class Unavailable(RestanteError):
    """A peer, store or source cannot be reached or answers nonsense for now."""

    code = "unavailable"


class ConfigError(RestanteError):
    """Configuration or arguments are wrong."""

    code = "config"


class StateError(RestanteError):
    """Durable state is missing, damaged, or older than what peers remember."""

    code = "state"
