"""Which checkpoint is the newest that can be trusted, and who contradicts it."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass, field

from restante import limits
from restante.client.failures import SourceFailed
from restante.client.memory import Evidence, Memory
from restante.client.roster import Roster, Standing
from restante.client.sources import Source
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats.checkpoint import Checkpoint
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.rules.verify import TrustedArchive, check_note

PATH = "checkpoint"
TILE_MAX_BYTES = 256 * 32


@dataclass(slots=True)
class Candidate:
    """One checkpoint that satisfies the policy, and the sources that serve it."""

    checkpoint: VerifiedCheckpoint
    note: bytes
    sources: list[Source] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of comparing a candidate with an older checkpoint."""

    archive: TrustedArchive
    files: dict[str, bytes] | None
    """None if the two agree; else the tiles that show that they do not."""


class Refresher:
    """One refresh: all sources are asked at once, and what they say is compared."""

    def __init__(self, policy: Policy, roster: Roster, memory: Memory, workers: Executor) -> None:
        self._policy = policy
        self._roster = roster
        self._memory = memory
        self._workers = workers
        self._set_id = policy.set_id or b""
        # Refuses a policy that names no set.
        TrustedArchive(policy)
        remembered = memory.checkpoint(policy)
        self._known = None if remembered is None else remembered[0].checkpoint
        self._known_note = b"" if remembered is None else remembered[1]
        self._descriptor = b""

    def run(self) -> tuple[TrustedArchive, bytes]:
        """(the archive with its accepted checkpoint, the note).

        Raises Unverifiable, Missing; VerificationFailed `split-view` when two checkpoints satisfy
        the policy, contradict each other, and memory cannot say which is the impostor.
        """
        self._descriptor = self._fetch_descriptor()
        chosen: tuple[TrustedArchive, Candidate] | None = None
        for candidate in self._candidates():
            if chosen is not None:
                self._compare(chosen[1], candidate)
            elif (archive := self._try(candidate)) is not None:
                chosen = archive, candidate
        if chosen is None:
            raise self._roster.failure("a checkpoint that can be trusted", self._roster.complaints)
        archive, candidate = chosen
        self._memory.accept(self._policy, candidate.checkpoint, candidate.note)
        return archive, candidate.note

    def _fetch_descriptor(self) -> bytes:
        kept = self._memory.descriptor(self._set_id)
        if kept is not None:
            TrustedArchive(self._policy).update_descriptor(kept)
            return kept

        def ask(source: Source) -> bytes:
            data = self._roster.fetch(source, "descriptor", limits.DESCRIPTOR_MAX_BYTES)
            TrustedArchive(self._policy).update_descriptor(data)
            return data

        data = self._roster.first_verified("the set's descriptor", "descriptor", ask)
        self._memory.keep_descriptor(self._set_id, data)
        return data

    def _candidates(self) -> list[Candidate]:
        """The distinct checkpoints of all sources, the largest first."""
        found: dict[Checkpoint, Candidate] = {}
        for source, checkpoint, note in self._answers():
            candidate = found.setdefault(checkpoint.checkpoint, Candidate(checkpoint, note))
            candidate.sources.append(source)
        return sorted(found.values(), key=lambda each: -each.checkpoint.size)

    def _answers(self) -> Iterator[tuple[Source, VerifiedCheckpoint, bytes]]:
        """What the sources serve, in their order, without those that are much slower."""

        def ask(source: Source) -> tuple[VerifiedCheckpoint, bytes]:
            note = self._roster.fetch(source, PATH, limits.NOTE_MAX_BYTES)
            return check_note(self._policy, note), note

        asked = [(self._workers.submit(ask, each), each) for each in self._roster.candidates()]
        pending = {future for future, _ in asked}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            if any(future.exception() is None for future in done):
                pending = wait(pending, timeout=limits.CHECKPOINT_PATIENCE_S).not_done
                break
        for future, source in asked:
            try:
                if not future.done():
                    future.cancel()
                    raise SourceFailed("much slower than other sources", code="source-timeout")
                yield (source, *future.result())
            except (Invalid, Unavailable) as error:
                self._roster.complain(source, error, PATH)

    def _trial(self, older: Checkpoint | None, newer: Candidate) -> Trial:
        """Whether a candidate continues an older checkpoint.

        Raises as `first_verified`, and VerificationFailed `origin`, `stale-checkpoint`.
        """
        archive = TrustedArchive(self._policy, older)
        archive.update_descriptor(self._descriptor)
        try:
            archive.update_checkpoint(newer.note)
        except VerificationFailed as error:
            if error.code != "split-view":
                raise
            return Trial(archive, {})  # two roots of one size need no tiles to contradict

        def ask(source: Source) -> Trial:
            files: dict[str, bytes] = {}

            def get(path: str) -> bytes:
                files[path] = self._roster.fetch(source, path, TILE_MAX_BYTES)
                return files[path]

            try:
                archive.accept(get)
            except VerificationFailed as error:
                # The tiles are right, so this is no fault of the source that gave them.
                if error.code != "split-view":
                    raise
                return Trial(archive, files)
            return Trial(archive, None)

        what = f"the tiles of tree size {newer.checkpoint.size}"
        return self._roster.first_verified(what, "tile", ask, newer.sources)

    def _try(self, candidate: Candidate) -> TrustedArchive | None:
        """The archive under this checkpoint, if it continues what is remembered."""
        try:
            trial = self._trial(self._known, candidate)
        except VerificationFailed as error:
            self._blame(candidate, self._stale(candidate, error))
            return None
        except Unavailable:
            return None  # complained about where it was asked for
        if trial.files is None:
            return trial.archive
        self._blame(candidate, self._split(candidate, self._known_note, trial.files))
        return None

    def _stale(
        self, candidate: Candidate, error: VerificationFailed
    ) -> VerificationFailed | Unavailable:
        """Slightly behind what is remembered is a delay, not a lie, and of no use all the same."""
        behind = 0 if self._known is None else self._known.size - candidate.checkpoint.size
        if error.code == "stale-checkpoint" and behind <= limits.CHECKPOINT_LAG_WINDOWS:
            return Unavailable(str(error), code="stale-checkpoint")
        return error

    def _split(
        self, candidate: Candidate, note: bytes, files: dict[str, bytes]
    ) -> VerificationFailed:
        reason = (
            f"the checkpoint of size {candidate.checkpoint.size} contradicts one that was accepted"
        )
        evidence = Evidence(reason, (note, candidate.note), files)
        path = self._memory.keep_evidence(self._set_id, evidence)
        return VerificationFailed(
            f"{reason}; both satisfy the policy; evidence: {path}",
            code="split-view",
            hint="more than f validators signed both: give the evidence to the set's operators",
        )

    def _blame(self, candidate: Candidate, error: VerificationFailed | Unavailable) -> None:
        for source in candidate.sources:
            self._roster.complain(source, error, PATH)

    def _compare(self, chosen: Candidate, other: Candidate) -> None:
        """Demand that a checkpoint no newer than the chosen one agrees with it."""
        behind = chosen.checkpoint.size - other.checkpoint.size
        trial = self._trial(other.checkpoint.checkpoint, chosen)
        if trial.files is not None:
            # Asked before the source is left: perhaps nobody else has the tiles of this tree.
            impostor = self._contradicts_memory(other)
            split = self._split(other, chosen.note, trial.files)
            self._blame(other, split)
            if not impostor:
                raise split
        elif behind > limits.CHECKPOINT_LAG_WINDOWS:
            size = other.checkpoint.size
            stale = f"a checkpoint of size {size}, {behind} behind the newest"
            self._blame(other, VerificationFailed(stale, code="stale-checkpoint"))
        elif behind:
            for source in other.sources:
                self._roster.set_standing(source, Standing.BEHIND)

    def _contradicts_memory(self, other: Candidate) -> bool:
        """Whether what is remembered says which of two contradicting checkpoints is the impostor.

        The chosen one continues what is remembered.
        """
        if self._known is None:
            return False
        # One that is not even as large as the known tree, in which the chosen one proved to be.
        if other.checkpoint.size <= self._known.size:
            return True
        try:
            return self._trial(self._known, other).files is not None
        except (Invalid, Unavailable):
            return False
