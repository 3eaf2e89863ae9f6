"""The client: sources and a policy in, verified answers out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from restante import limits
from restante.client.answer import Answer
from restante.client.drive import Driver
from restante.client.memory import FolderMemory, Memory
from restante.client.roster import Complaint, Standings
from restante.client.sources import Source, require_sources, sources_of
from restante.client.state import Absence, State, absence_query, refresh
from restante.formats.descriptor import Descriptor
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.formats.proof import ProofFile
from restante.rules.query import Found, Mode, Query


class Trusted:
    """One verified state of an archive, and the sources that may serve it."""

    def __init__(self, state: State, driver: Driver) -> None:
        """Use `Client.refresh`."""
        self._state = state
        self._driver = driver

    @property
    def note(self) -> bytes:
        """The checkpoint's note, as it was served."""
        return self._state.note

    @property
    def descriptor(self) -> Descriptor:
        """The set's parameters."""
        return self._state.archive.descriptor

    @property
    def checkpoint(self) -> VerifiedCheckpoint:
        """The newest checkpoint that was accepted."""
        return self._state.archive.checkpoint

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """What was held against sources since the refresh."""
        return self._state.standings.complaints

    def query(self, query: Query) -> Answer:
        """The answer to a query, read as it is iterated.

        Raises what `rules.query.plan` raises for its cursor; while iterating Unverifiable, Missing,
        SetFault.
        """
        return Answer(self._state.query(query), self._driver)

    def absence(
        self,
        topic: bytes,
        *,
        since: int = 0,
        sent_from_s: int | None = None,
        sent_to_s: int | None = None,
        mode: Mode = "bucket",
    ) -> Absence:
        """Whether a range holds nothing of a topic, proved by pages (`bucket`, `all`) or by
        directories and indexes (`exact`). Raises as `query` and its answer do."""
        answer = self.query(absence_query(topic, since, sent_from_s, sent_to_s, mode))
        for _ in answer:
            pass
        return Absence.of(topic, answer.summary)

    def evidence(self, found: Found, mode: Mode = "bucket") -> ProofFile:
        """What proves to anyone that an envelope of an answer is kept; `encode()` is the file.

        Give the mode of the query: what that reads of the envelope's segment is read again, so that
        whoever sees it learns no more than the query told, but that something there is proved.
        Raises Unverifiable, Missing, SetFault; ConfigError `proof` for what no answer gave.
        """
        return self._driver.run(self._state.prove(found, mode))


class Client:
    """An archive's reader, which trusts the keys of its policy and no source.

    `sources` are asked in their order, all of them for the checkpoint; without them, the contacts
    of the policy file. `memory` is what a split view is caught by: by default a folder of the
    user's.
    Close it, or use it in a `with` statement; closing it closes its sources.
    """

    def __init__(
        self,
        policy: Policy,
        sources: Sequence[Source] | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Raises ConfigError `source` if there is no source, or one twice."""
        self.policy = policy
        self.sources = list(sources_of(policy) if sources is None else sources)
        require_sources(self.sources)
        self.memory = FolderMemory() if memory is None else memory
        self._workers = ThreadPoolExecutor(limits.CLIENT_WORKERS, "restante-client")
        self._driver = Driver(self._workers)

    def refresh(self) -> Trusted:
        """The newest checkpoint that satisfies the policy and continues the remembered one.

        Raises Unverifiable, Missing, SetFault; VerificationFailed `split-view`, `no-set`;
        StateError `memory`.
        """
        machine = refresh(self.policy, Standings(self.sources), self.memory)
        return Trusted(self._driver.run(machine), self._driver)

    def query(self, query: Query) -> Answer:
        """Refresh, and answer a query. Raises as `refresh` and `Trusted.query`."""
        return self.refresh().query(query)

    def close(self) -> None:
        """Give up everything, also what is under way in other threads."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        for source in self.sources:
            source.close()
        self._workers.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
