"""Every durable step fails once before and once after it is on disk; then everything is reopened.

What was acknowledged must be there, nothing may be half there, and the same work must go on to the
same end. One test kills a process at random instants instead.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node_sample import POOL_ID, SALT, Node, SampleSet, Sealed
from restante.durable import no_hook
from restante.engines.local import LocalEngine
from restante.formats.level import Level
from restante.node.durable.archive import Changes
from restante.node.durable.outbox import Outbox
from restante.node.durable.pool import Pool
from restante.node.fsck.check import fsck
from restante.node.fsck.findings import Severity
from restante.stores.folder import FolderStore
from restante.testing.faults import FailAt, InjectedFault, Recorder, from_environment

WINDOWS = 22


class Run:
    """One validator's work over some windows, resumable at any point, as its driver does it."""

    def __init__(self, directory: Path, sealed: list[Sealed], sample: SampleSet) -> None:
        self.directory = directory
        self.windows = sealed
        self.sample = sample
        self.acknowledged: dict[str, int] = {}

    def create(self) -> None:
        Node.create(self.sample, self.directory).close()
        asyncio.run(LocalEngine.create(self.directory / "engine.db").close())
        FolderStore.create("disk", self.directory / "store")

    def work(self, hook: Callable[[str], None]) -> None:
        """Do all that is left to do; a fault inside leaves everything as a crash would."""
        node = Node.open(self.sample, self.directory, hook=hook)
        outbox = Outbox(self.directory / "outbox.db", node.archive, ["disk"], hook=hook)
        engine = LocalEngine.open(self.directory / "engine.db", hook=hook)
        store = FolderStore.open("disk", self.directory / "store", hook=hook)
        try:
            self._start(node, outbox)
            for sealed in self.windows:
                self._window(sealed, node, engine)
                changes = self._commit(sealed, node)
                outbox.enqueue(changes, node.archive.size)
                assert asyncio.run(outbox.flush(store)) or outbox.last_error("disk")
            node.release(4, outbox.enqueue, kept_windows=4)
            assert asyncio.run(outbox.flush(store))
        finally:
            outbox.close()
            node.close()
            asyncio.run(engine.close())

    def _start(self, node: Node, outbox: Outbox) -> None:
        for name, reached in self.acknowledged.items():
            assert self.reached(node, name) >= reached, name
        node.archive.integrate(node.lock)
        outbox.catch_up()

    def _window(self, sealed: Sealed, node: Node, engine: LocalEngine) -> None:
        w = sealed.window
        if w not in node.lock.freezes() and node.lock.size() <= w:
            if node.pool.size <= 3 * w:
                node.observe(sealed)
            else:
                node.lock.freeze(w, node.pool.size)
            self.acknowledge(node)
        slots = asyncio.run(engine.entries(0, 100))
        if sealed.certificate not in [slot.entry for slot in slots]:
            asyncio.run(engine.append(sealed.certificate))
            assert sealed.certificate in [s.entry for s in asyncio.run(engine.entries(0, 100))]

    def _commit(self, sealed: Sealed, node: Node) -> Changes:
        changes = Changes()
        if node.lock.size() == sealed.window:
            changes |= node.commit(sealed)
            self.acknowledge(node)
        newest = node.lock.newest_cosignature()
        if node.archive.size == sealed.window + 1 and (
            newest is None or newest.size <= sealed.window + 1
        ):
            changes |= node.cosign()
            self.acknowledge(node)
        if sealed.window % 6 == 5:
            node.pool.roll()
            node.pool.release(3 * (sealed.window - 2))
            node.lock.prune(sealed.window - 4)
        return changes

    def reached(self, node: Node, name: str) -> int:
        newest = node.lock.newest_cosignature()
        return {
            "pool": node.pool.size,
            "decided": node.lock.size(),
            "cosigned": 0 if newest is None else newest.size,
        }[name]

    def acknowledge(self, node: Node) -> None:
        """What others have been told from here on."""
        for name in ("pool", "decided", "cosigned"):
            self.acknowledged[name] = self.reached(node, name)


@pytest.fixture(scope="module")
def windows() -> tuple[SampleSet, list[Sealed]]:
    sample = SampleSet(levels=(Level(2), Level(4), Level(8, "index")))
    return sample, [sample.next_window() for _ in range(WINDOWS)]


@pytest.fixture(scope="module")
def steps(
    windows: tuple[SampleSet, list[Sealed]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, bytes]]:
    """The steps of a run without faults, and the files it leaves in the store."""
    sample, sealed = windows
    run = Run(tmp_path_factory.mktemp("plain"), sealed, sample)
    run.create()
    recorder = Recorder()
    run.work(recorder)
    assert fsck(run.directory, sample.descriptor, sample.examine).findings == []
    return recorder.steps, files(run.directory / "store")


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


STEPS = (
    "pool.append",
    "pool.roll",
    "pool.release",
    "lock.freeze",
    "lock.accept",
    "lock.commit",
    "lock.cosign",
    "lock.prune",
    "engine.append",
    "archive.segment",
    "archive.rollup",
    "archive.certificate",
    "archive.entries",
    "archive.tile",
    "archive.checkpoint",
    "archive.superseded",
    "archive.release",
    "outbox.enqueue",
    "outbox.done",
    "store.put",
    "store.release",
)


def test_the_list_of_steps_is_complete(steps: tuple[list[str], dict[str, bytes]]) -> None:
    assert {step.rpartition(".")[0] for step in steps[0]} == set(STEPS)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_at_each_step(
    windows: tuple[SampleSet, list[Sealed]],
    steps: tuple[list[str], dict[str, bytes]],
    tmp_path: Path,
    step: str,
    when: str,
) -> None:
    sample, sealed = windows
    name = f"{step}.{when}"
    calls = steps[0].count(name)
    run = Run(tmp_path / "node", sealed, sample)
    run.create()
    struck = 0
    for nth in (1, max(1, calls // 2)):
        # The first always strikes; after it fewer calls may be left than the second waits for.
        try:
            run.work(FailAt(name, nth))
        except InjectedFault:
            struck += 1
        report = fsck(run.directory, sample.descriptor, sample.examine)
        # Behind the lock the archive is rebuilt at start; nothing else may be wrong.
        bad = {f.code for f in report.findings if f.severity > Severity.NOTE}
        assert bad <= {"archive-behind"}, report.findings
    assert struck
    run.work(no_hook)
    assert fsck(run.directory, sample.descriptor, sample.examine).ok
    final = files(run.directory / "store")
    # Partial files may differ: which sizes were published depends on where the crash was.
    for path, data in steps[1].items():
        if ".p/" not in path or path.endswith(f"/{WINDOWS}"):
            assert final[path] == data, path


APPENDER = """
import sys
from pathlib import Path
from restante.node.durable.pool import Pool
from restante.ports import Arrival
pool = Pool.open(Path(sys.argv[1]))
print(pool.size, flush=True)
while True:
    n = pool.size
    raws = [b"%d " % (n + i) * (1 + (n + i) % 700) for i in range(1 + n % 9)]
    pool.append([Arrival(n + i, raw) for i, raw in enumerate(raws)])
    if pool.size % 50 < 9:
        pool.roll()
    print(pool.size, flush=True)
"""


def expected(position: int) -> bytes:
    return b"%d " % position * (1 + position % 700)


def test_kill_9_at_random_instants_of_appends(tmp_path: Path) -> None:
    """Whatever size the child printed is there after the kill, record by record."""
    Pool.create(tmp_path, POOL_ID, SALT).close()
    rng = random.Random(11)
    end = time.monotonic() + 2.0
    rounds = acknowledged = 0
    while rounds < 3 or time.monotonic() < end:
        child = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        acknowledged = max(acknowledged, int(child.stdout.readline()))
        time.sleep(rng.random() * 0.1)
        child.kill()
        output, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL
        # The last line may be torn by the kill itself.
        whole = output[: output.rfind(b"\n") + 1].split()
        acknowledged = max([acknowledged, *map(int, whole)])
        pool = Pool.open(tmp_path, at_least=acknowledged)
        for record in pool.records():
            assert record.raw == expected(record.position)
        pool.close()
        rounds += 1
    assert acknowledged > 50


COMMITTER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from node_sample import Node, SampleSet
from restante.testing.faults import from_environment
sample = SampleSet()
windows = [sample.next_window() for _ in range(4)]
node = Node.open(sample, Path(sys.argv[1]), hook=from_environment())
for sealed in windows:
    if node.lock.size() <= sealed.window:
        node.observe(sealed)
        node.commit(sealed)
        node.cosign()
print("done")
"""


@pytest.mark.parametrize("step", ["lock.commit.before", "archive.tile.before", "pool.append.after"])
def test_a_step_that_kills_its_process(tmp_path: Path, step: str) -> None:
    """Nothing of ours runs after the kill: neither rollback nor clean-up helps."""
    sample = SampleSet()
    Node.create(sample, tmp_path).close()
    tests = str(Path(__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-c", COMMITTER, str(tmp_path), tests],
        env={**os.environ, "RESTANTE_FAULT": f"{step}:2"},
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    report = fsck(tmp_path, sample.descriptor, sample.examine)
    bad = {f.code for f in report.findings if f.severity > Severity.NOTE}
    assert bad <= {"archive-behind"}, report.findings
    node = Node.open(sample, tmp_path)
    node.archive.integrate(node.lock)
    assert node.archive.size == node.lock.size() == (2 if step.startswith("archive") else 1)
    node.close()
    assert fsck(tmp_path, sample.descriptor, sample.examine).ok


@pytest.mark.parametrize("value", ["", "lock.commit.before", "lock.commit.before:0", ":x", "a:-1"])
def test_a_fault_that_nobody_can_mean(value: str) -> None:
    with pytest.raises(ValueError):
        from_environment({"RESTANTE_FAULT": value})


def test_no_fault_unless_asked() -> None:
    assert from_environment({}) is no_hook
