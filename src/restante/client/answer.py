"""An answer as a blocking iterator."""

from collections.abc import Iterator

from restante.client.answering import Answering, Summary
from restante.client.drive import Driver
from restante.rules.query import Found


class Answer(Iterator[Found]):
    """The envelopes of a query by (sent time, id), each once; read as it is iterated.

    It reads ahead in bounded memory, and holds the envelopes of K windows and of one segment at
    most. An error ends it (Unverifiable, Missing, SetFault); `cursor` then still goes on behind
    what was returned.
    """

    def __init__(self, answering: Answering, driver: Driver) -> None:
        """Use `Trusted.query`."""
        self._answering = answering
        self._driver = driver

    def __iter__(self) -> "Answer":
        return self

    def __next__(self) -> Found:
        while (found := self._answering.take()) is None:
            if self._answering.summary is not None:
                raise StopIteration
            self._driver.run(self._answering.advance())
        return found

    @property
    def cursor(self) -> str:
        """Goes on behind the envelope returned last."""
        return self._answering.cursor

    @property
    def summary(self) -> Summary:
        """What the answer claims; RuntimeError before its end was reached."""
        if self._answering.summary is None:
            raise RuntimeError("the answer was not read to its end")
        return self._answering.summary

    def close(self) -> None:
        """Read no further."""
        self._answering.close()
