"""The client: sources and a policy in, verified answers out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from restante import limits
from restante.client.answer import Answer
from restante.client.memory import FolderMemory, Memory
from restante.client.reading import Reader
from restante.client.refresh import Refresher
from restante.client.roster import Complaint, Roster
from restante.client.sources import Source, sources_of
from restante.errors import ConfigError
from restante.formats.descriptor import Descriptor
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.rules.query import Mode, Query, plan
from restante.rules.verify import TrustedArchive


@dataclass(frozen=True, slots=True)
class Absence:
    """What the archive says of a topic that may not be there."""

    topic: bytes
    absent: bool
    """Whether the covered windows hold nothing of it in the range."""
    since: int
    size: int
    """It speaks of windows [since, size)."""
    final_before_s: int
    waits_for: tuple[int, int | None] | None
    blind: tuple[tuple[int, int], ...]
    unknown: tuple[tuple[int, int], ...]
    """As in `Summary`: what was not watched was perhaps not heard."""


class Trusted:
    """One verified state of an archive, and the sources that may serve it."""

    def __init__(
        self, archive: TrustedArchive, note: bytes, roster: Roster, workers: ThreadPoolExecutor
    ) -> None:
        """Use `Client.refresh`."""
        self._archive = archive
        self._roster = roster
        self._workers = workers
        self.note = note
        """The checkpoint's note, as it was served."""

    @property
    def descriptor(self) -> Descriptor:
        """The set's parameters."""
        return self._archive.descriptor

    @property
    def checkpoint(self) -> VerifiedCheckpoint:
        """The newest checkpoint that was accepted."""
        return self._archive.checkpoint

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """What was held against sources since the refresh."""
        return self._roster.complaints

    def query(self, query: Query) -> Answer:
        """The answer to a query, read as it is iterated.

        Raises what `rules.query.plan` raises for its cursor; while iterating Unverifiable, Missing,
        SetFault.
        """
        made = plan(query, self.descriptor, self.checkpoint.size)
        reader = Reader(self._archive, self._roster, self._workers)
        return Answer(made, reader, self._roster, self._workers)

    def absence(
        self,
        topic: bytes,
        *,
        since: int = 0,
        sent_from_s: int | None = None,
        sent_to_s: int | None = None,
        mode: Mode = "bucket",
    ) -> Absence:
        """Whether a range holds nothing of a topic, proved by pages (`bucket`, `all`) or by the
        directories (`exact`). Raises as `query` and its answer do."""
        query = Query((topic,), since, sent_from_s, sent_to_s, mode, limit=1)
        answer = self.query(query)
        found = list(answer)
        told = answer.summary
        return Absence(
            topic,
            not found,
            told.since,
            told.size,
            told.final_before_s,
            told.waits_for,
            told.blind,
            told.unknown,
        )


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
        if not self.sources:
            raise ConfigError(
                "no source to ask",
                code="source",
                hint="name a URL or a folder; this policy file has no contacts",
            )
        if len({source.name for source in self.sources}) != len(self.sources):
            raise ConfigError("a source is named twice", code="source")
        self.memory = FolderMemory() if memory is None else memory
        self._workers = ThreadPoolExecutor(limits.CLIENT_WORKERS, "restante-client")

    def refresh(self) -> Trusted:
        """The newest checkpoint that satisfies the policy and continues the remembered one.

        Raises Unverifiable, Missing, SetFault; VerificationFailed `split-view`, `no-set`;
        StateError `memory`.
        """
        roster = Roster(self.sources)
        archive, note = Refresher(self.policy, roster, self.memory, self._workers).run()
        return Trusted(archive, note, roster, self._workers)

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
