"""Which checkpoint is the newest that can be trusted, and who contradicts it."""

from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from restante import limits
from restante.client.log import with_files
from restante.client.machine import Ask, Machine, Named, Reply, got, together
from restante.client.memory import Evidence, Memory
from restante.client.roster import Standing, Standings, Target, fetch
from restante.errors import Invalid, Unavailable, VerificationFailed
from restante.formats.checkpoint import Checkpoint
from restante.formats.policy import Policy, VerifiedCheckpoint
from restante.rules.verify import TrustedArchive, check_note

T = TypeVar("T")
U = TypeVar("U")

PATH = "checkpoint"


@dataclass(slots=True)
class Candidate:
    """One checkpoint that satisfies the policy, and the sources that serve it."""

    checkpoint: VerifiedCheckpoint
    note: bytes
    sources: list[Named] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of comparing a candidate with an older checkpoint."""

    archive: TrustedArchive
    files: dict[str, bytes] | None
    """None if the two agree; else the tiles that show that they do not."""


class Refresher:
    """One refresh: all sources are asked at once, and what they say is compared.

    The memory is asked and told directly, in between: it may block.
    """

    def __init__(self, policy: Policy, standings: Standings, memory: Memory) -> None:
        self._policy = policy
        self._standings = standings
        self._memory = memory
        self._set_id = policy.set_id or b""
        self._known: Checkpoint | None = None
        self._known_note = b""
        self._descriptor = b""

    def run(self) -> Machine[tuple[TrustedArchive, bytes]]:
        """(the archive with its accepted checkpoint, the note).

        Raises Unverifiable, Missing; VerificationFailed `no-set`, `split-view` when two checkpoints
        satisfy the policy, contradict each other, and memory cannot say which is the impostor;
        StateError.
        """
        TrustedArchive(self._policy)  # refuses a policy that names no set
        remembered = self._memory.checkpoint(self._policy)
        if remembered is not None:
            self._known, self._known_note = remembered[0].checkpoint, remembered[1]
        return (yield from self._standings.counted(self._run()))

    def _run(self) -> Machine[tuple[TrustedArchive, bytes]]:
        # What is asked for first needs no other's answer.
        self._descriptor, notes = yield from _both(self._fetch_descriptor(), self._notes())
        chosen: tuple[TrustedArchive, Candidate] | None = None
        for candidate in self._candidates(notes):
            if chosen is not None:
                yield from self._compare(chosen[1], candidate)
            elif (archive := (yield from self._try(candidate))) is not None:
                chosen = archive, candidate
        if chosen is None:
            held = self._standings.complaints
            raise self._standings.failure("a checkpoint that can be trusted", held)
        archive, candidate = chosen
        self._memory.accept(self._policy, candidate.checkpoint, candidate.note)
        return archive, candidate.note

    def _fetch_descriptor(self) -> Machine[bytes]:
        kept = self._memory.descriptor(self._set_id)
        if kept is not None:
            TrustedArchive(self._policy).update_descriptor(kept)
            return kept

        def attempt(source: Named) -> Machine[bytes]:
            data = yield from fetch(source, "descriptor", limits.DESCRIPTOR_MAX_BYTES)
            TrustedArchive(self._policy).update_descriptor(data)
            return data

        target = Target("the set's descriptor", "descriptor")
        data = yield from self._standings.verified(target, attempt)
        self._memory.keep_descriptor(self._set_id, data)
        return data

    def _notes(self) -> Machine[list[tuple[Named, Reply]]]:
        """What all sources serve as their checkpoint, without those that are much slower."""
        sources = self._standings.candidates()
        asks = [Ask(each, PATH, limits.NOTE_MAX_BYTES, enough=self._is_good) for each in sources]
        return list(zip(sources, (yield asks), strict=True))

    def _is_good(self, note: bytes) -> bool:
        try:
            check_note(self._policy, note)
        except Invalid:
            return False
        return True

    def _candidates(self, notes: list[tuple[Named, Reply]]) -> list[Candidate]:
        """The distinct checkpoints of all sources, the largest first."""
        found: dict[Checkpoint, Candidate] = {}
        for source, reply in notes:
            try:
                note = got(reply)
                checkpoint = check_note(self._policy, note)
            except (Invalid, Unavailable) as error:
                self._standings.complain(source, error, PATH)
                continue
            candidate = found.setdefault(checkpoint.checkpoint, Candidate(checkpoint, note))
            candidate.sources.append(source)
        return sorted(found.values(), key=lambda each: -each.checkpoint.size)

    def _trial(self, older: Checkpoint | None, newer: Candidate) -> Machine[Trial]:
        """Whether a candidate continues an older checkpoint.

        Raises as `Standings.verified`, and VerificationFailed `origin`, `stale-checkpoint`.
        """
        archive = TrustedArchive(self._policy, older)
        archive.update_descriptor(self._descriptor)
        try:
            archive.update_checkpoint(newer.note)
        except VerificationFailed as error:
            if error.code != "split-view":
                raise
            return Trial(archive, {})  # two roots of one size need no tiles to contradict

        def attempt(source: Named) -> Machine[Trial]:
            files: dict[str, Reply] = {}
            try:
                yield from with_files(source, archive.wanted_for_accept(), archive.accept, files)
            except VerificationFailed as error:
                # The tiles are right, so this is no fault of the source that gave them.
                if error.code != "split-view":
                    raise
                return Trial(archive, {p: r for p, r in files.items() if isinstance(r, bytes)})
            return Trial(archive, None)

        target = Target(f"the tiles of tree size {newer.checkpoint.size}", "tile")
        return (yield from self._standings.verified(target, attempt, newer.sources))

    def _try(self, candidate: Candidate) -> Machine[TrustedArchive | None]:
        """The archive under this checkpoint, if it continues what is remembered."""
        try:
            trial = yield from self._trial(self._known, candidate)
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
            self._standings.complain(source, error, PATH)

    def _compare(self, chosen: Candidate, other: Candidate) -> Machine[None]:
        """Demand that a checkpoint no newer than the chosen one agrees with it."""
        behind = chosen.checkpoint.size - other.checkpoint.size
        trial = yield from self._trial(other.checkpoint.checkpoint, chosen)
        if trial.files is not None:
            # Asked before the source is left: perhaps nobody else has the tiles of this tree.
            impostor = yield from self._contradicts_memory(other)
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
                self._standings.set_standing(source, Standing.BEHIND)

    def _contradicts_memory(self, other: Candidate) -> Machine[bool]:
        """Whether what is remembered says which of two contradicting checkpoints is the impostor.

        The chosen one continues what is remembered.
        """
        if self._known is None:
            return False
        # One that is not even as large as the known tree, in which the chosen one proved to be.
        if other.checkpoint.size <= self._known.size:
            return True
        try:
            return (yield from self._trial(self._known, other)).files is not None
        except (Invalid, Unavailable):
            return False


def _both(one: Machine[T], other: Machine[U]) -> Machine[tuple[T, U]]:
    """Two machines side by side."""
    pair: list[Machine[Any]] = [one, other]
    first, second = yield from together(pair)
    return cast(T, first), cast(U, second)
