"""Backups: whole at every instant, without lock state, and restored as what they are."""

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from restante import durable, limits
from restante.cli.root import root
from restante.client import Client, ProcessMemory, Query
from restante.client.sources import FolderSource
from restante.errors import ConfigError, StateError
from restante.formats import tiles
from restante.formats.level import Level
from restante.formats.note import COSIGNATURE_V1, ED25519
from restante.formats.paths import segment_path
from restante.node import backup as backups
from restante.node import setup
from restante.node.backup import make, refuse_restored, restore
from restante.node.config import template
from restante.node.home import Home, write_key
from restante.testing.archive_fixture import GENESIS_S, MadeArchive, envelope, make_set

TOPIC = b"\x5a\x4e\xa1\x31"


class Grown(MadeArchive):
    """An archive that grows as a node's: with certificates, old partial files gone."""

    def grow(self, windows: int) -> None:
        for window in range(self.size, self.size + windows):
            at_s = GENESIS_S + 30 * window
            self.append([envelope(TOPIC, at_s, b"%d" % window)])
            for n, width in tiles.bundles_for_growth(window, window + 1):
                self.write(tiles.certificate_path(n, width), b"certificate of %d" % width)
        self.cosign()
        edge = {tile.path for tile in tiles.right_edge(self.size)}
        edge |= {
            name(tile.n, tile.width)
            for tile in tiles.right_edge(self.size)
            for name in (tiles.entries_path, tiles.certificate_path)
        }
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if ".p/" in name and name not in edge:
                path.unlink()


@pytest.fixture
def node(tmp_path: Path) -> Home:
    """A validator's folder with all that `init` and `up` leave in one."""
    home = Home(tmp_path / "node")
    made = make_set(n=4)
    setup.write_set(home.path, made.descriptor, made.policy(), made.log_key)
    write_key(home.validator_key, made.validators[0], COSIGNATURE_V1)
    write_key(home.proposer_key, setup.new_key("p"), ED25519)
    setup.create_validator(home, made.descriptor, made.validators[0])
    home.config.write_text(template({"node.roles": ["validator"], "listen.port": 8501}))
    (home.cache / "memory" / "sets").mkdir(parents=True)
    (home.cache / "memory" / "sets" / "evidence-1.json").write_text("{}")
    (home.cache / "files").mkdir()
    for name in ("engine.db", "outbox.db", "cache/blocks.db"):
        (home.path / name).write_text("sqlite")
    return home


@pytest.fixture
def log(node: Home) -> Grown:
    grown = Grown(node.archive, make_set(n=4))
    grown.grow(5)
    return grown


def read(archive: Path, log: Grown) -> list[bytes]:
    """Every envelope that a client finds there, all of it verified."""
    with Client(log.made.policy(), [FolderSource(archive)], ProcessMemory()) as client:
        answer = client.query(Query((), mode="all"))
        found = [each.raw for each in answer]
        assert answer.summary.complaints == ()
        return found


def names(path: Path) -> set[str]:
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


def test_what_is_in_it_and_what_never_is(tmp_path: Path, node: Home, log: Grown) -> None:
    target = tmp_path / "backup"
    manifest, copied = make(node, target, keys=False)
    assert (manifest.size, manifest.keys, manifest.roles) == (5, [], ["validator"])
    found = names(target)
    assert {"restante.toml", "descriptor", "policy", "backup.json"} <= found
    assert "memory/sets/evidence-1.json" in found
    assert not any(name.endswith(".key") for name in found)
    top = {name.split("/")[0] for name in found}
    assert top == {"restante.toml", "descriptor", "policy", "backup.json", "memory", "archive"}
    assert not any("lock" in name or name.endswith(".db") for name in found)
    assert copied.files > 10
    assert len(read(target / "archive", log)) == 5


def test_keys_come_on_request_as_they_stand(tmp_path: Path, node: Home, log: Grown) -> None:
    target = tmp_path / "backup"
    manifest, _ = make(node, target, keys=True)
    assert manifest.keys == ["validator.key", "origin.key", "proposer.key"]
    for name in manifest.keys:
        assert (target / name).read_bytes() == (node.path / name).read_bytes()
        assert stat.S_IMODE((target / name).stat().st_mode) == 0o600
    # A later run without them leaves those that are there, and says so.
    assert make(node, target, keys=False)[0].keys == manifest.keys


def test_a_second_run_copies_what_is_new_and_keeps_what_was_released(
    tmp_path: Path, node: Home, log: Grown
) -> None:
    target = tmp_path / "backup"
    make(node, target, keys=False)
    before = names(target / "archive")
    log.grow(300)
    (node.archive / segment_path(0, 1)).unlink()
    manifest, copied = make(node, target, keys=False)
    assert (manifest.size, copied.kept) == (305, 4)
    found = names(target / "archive")
    assert segment_path(0, 1) in found
    assert tiles.tile_path(0, 0, 5) not in found, "what no newer reader asks for goes"
    assert tiles.tile_path(0, 0) in found
    assert before - found == {
        path(0, 5) for path in (lambda n, w: tiles.tile_path(0, n, w), tiles.entries_path,
                                tiles.certificate_path)
    }  # fmt: skip
    assert len(read(target / "archive", log)) == 305
    _, again = make(node, target, keys=False)
    assert again.files < 12, "settings and the checkpoint"


def test_what_a_roll_up_of_the_copy_holds_goes_with_the_nodes_own(
    tmp_path: Path, node: Home, log: Grown
) -> None:
    d = replace(log.made.descriptor, levels=(Level(2), Level(4), Level(8, "index")))
    source, target = node.archive, tmp_path / "copy"
    goes = [(0, 0), (0, 0, 1), (0, 2), (0, 5), (1, 0)]
    # 0/9 has no roll-up here; of an index, which holds no records, no child goes.
    stays = [(0, 1), (0, 9), (1, 2), (2, 0), (3, 0)]
    paths = [segment_path(*each) for each in goes + stays]
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(path)
    shutil.rmtree(source / "segment")
    (source / segment_path(0, 1)).parent.mkdir(parents=True)
    (source / segment_path(0, 1)).write_text("not released yet")
    backups._drop_merged(source, target, d)
    left = {path for path in paths if (target / path).exists()}
    assert left == {segment_path(*each) for each in stays}


def test_a_backup_that_breaks_off_anywhere_is_still_whole(
    tmp_path: Path, node: Home, log: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    make(node, target, keys=True)
    log.grow(20)
    kept = tmp_path / "kept"
    shutil.copytree(target, kept)
    step, done = 0, False
    while not done:
        shutil.rmtree(target)
        shutil.copytree(kept, target)
        left = step

        def writes(
            *given: object, write: Callable[..., None] = durable.write_file, **more: object
        ) -> None:
            nonlocal left
            if left == 0:
                raise OSError(28, "No space left on device")
            left -= 1
            write(*given, **more)

        with monkeypatch.context() as patched:
            patched.setattr(backups, "write_file", writes)
            try:
                make(node, target, keys=True)
                done = True
            except OSError:
                step += 1
        assert len(read(target / "archive", log)) in (5, 25)
        if step % 5 == 0:
            shutil.rmtree(tmp_path / "restored", ignore_errors=True)
            restore(target, Home(tmp_path / "restored"))
    assert step > 30
    assert len(read(target / "archive", log)) == 25


def test_one_that_was_never_whole_is_not_restored_but_can_be_completed(
    tmp_path: Path, node: Home, log: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    with monkeypatch.context() as patched:
        patched.setattr(backups, "_copy_archive", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(node, target, keys=False)
    with pytest.raises(StateError) as raised:
        restore(target, Home(tmp_path / "restored"))
    assert raised.value.code == "backup-incomplete"
    assert not (tmp_path / "restored").exists()
    assert make(node, target, keys=False)[0].size == 5


def test_a_log_that_grows_meanwhile_is_copied_as_of_its_checkpoint(
    tmp_path: Path, node: Home, log: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partial files of the checkpoint that was read go while they are copied."""
    target, copy, grown = tmp_path / "backup", backups._copy, []

    def slow(*given: object, **more: object) -> bool:
        if more.get("edge") and not grown:
            grown.append(log.grow(1))
        return copy(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(backups, "_copy", slow)
    assert make(node, target, keys=False)[0].size == 6
    assert len(read(target / "archive", log)) == 6
    monkeypatch.setattr(limits, "BACKUP_TRIES", 1)
    grown.clear()
    with pytest.raises(StateError) as raised:
        make(node, target, keys=False)
    assert raised.value.code == "backup-differs"
    assert len(read(target / "archive", log)) == 6, "what was there stands"


def test_places_that_are_no_backups(tmp_path: Path, node: Home, log: Grown) -> None:
    for target in (node.path, node.path / "backup", tmp_path, node.archive):
        with pytest.raises(ConfigError) as raised:
            make(node, target, keys=False)
        assert raised.value.code == "backup-target"
    assert not (node.path / "backup").exists()
    other = Home(tmp_path / "other")
    setup.create_node(other, "solo", {})
    with pytest.raises(ConfigError):
        make(node, other.path, keys=False)
    make(other, tmp_path / "backup", keys=False)
    with pytest.raises(StateError) as raised2:
        make(node, tmp_path / "backup", keys=False)
    assert raised2.value.code == "backup-other"


def test_a_node_older_than_its_backup_or_another_log_is_not_copied_over_it(
    tmp_path: Path, node: Home, log: Grown
) -> None:
    target, old = tmp_path / "backup", tmp_path / "old"
    shutil.copytree(node.archive, old)
    log.grow(3)
    make(node, target, keys=False)
    shutil.rmtree(node.archive)
    old.rename(node.archive)
    with pytest.raises(StateError) as raised:
        make(node, target, keys=False)
    assert raised.value.code == "backup-differs"
    assert len(read(target / "archive", log)) == 8


def test_damage_is_not_copied_as_if_it_were_whole(tmp_path: Path, node: Home, log: Grown) -> None:
    tile = node.archive / tiles.tile_path(0, 0, 5)
    data = tile.read_bytes()
    for damaged in (data[:-1] + b"x", data[:-32]):
        tile.write_bytes(damaged)
        with pytest.raises(StateError) as raised:
            make(node, tmp_path / "backup", keys=False)
        assert raised.value.code == "backup-differs"
    tile.unlink()
    with pytest.raises(StateError) as raised:
        make(node, tmp_path / "backup", keys=False)
    assert raised.value.code == "backup-differs"
    assert not (tmp_path / "backup" / "archive" / "checkpoint").exists()


def test_what_is_restored_serves_and_never_signs(tmp_path: Path, node: Home, log: Grown) -> None:
    target = tmp_path / "backup"
    make(node, target, keys=True)
    shutil.rmtree(node.path)
    home = Home(tmp_path / "restored")
    manifest, d = restore(target, home)
    assert manifest.size == 5
    assert d == log.made.descriptor
    assert stat.S_IMODE(home.validator_key.stat().st_mode) == 0o600
    assert (home.cache / "memory" / "sets" / "evidence-1.json").exists()
    assert len(read(home.archive, log)) == 5
    assert not home.lock.exists()
    assert not home.pool.exists()
    for path in (home, Home(target)):
        for refused in (refuse_restored, setup.join):
            with pytest.raises(StateError) as raised:
                refused(path)
            assert raised.value.code == "key-lost"
            assert "--role gateway" in raised.value.hint
    with pytest.raises(StateError) as raised:
        restore(target, home)
    assert raised.value.code == "exists"


def test_lock_state_that_somebody_put_into_a_backup_is_refused(
    tmp_path: Path, node: Home, log: Grown
) -> None:
    target = tmp_path / "backup"
    make(node, target, keys=True)
    shutil.copytree(node.lock, target / "lock")
    with pytest.raises(StateError) as raised:
        restore(target, Home(tmp_path / "restored"))
    assert raised.value.code == "backup-lock"
    assert not (tmp_path / "restored").exists()


def test_what_is_no_backup_of_this_version_is_refused(
    tmp_path: Path, node: Home, log: Grown
) -> None:
    target = tmp_path / "backup"
    make(node, target, keys=False)
    good = json.loads((target / "backup.json").read_text())
    cases: list[tuple[object, str]] = [
        ({**good, "version": 2}, "backup-version"),
        ({**good, "kind": "other"}, "backup-format"),
        ({**good, "size": "5"}, "backup-format"),
        ({**good, "more": 1}, "backup-format"),
        ([], "backup-format"),
    ]
    for value, code in cases:
        (target / "backup.json").write_text(json.dumps(value))
        with pytest.raises(StateError) as raised:
            restore(target, Home(tmp_path / "restored"))
        assert raised.value.code == code
        with pytest.raises(StateError):
            make(node, target, keys=False)
    (target / "backup.json").unlink()
    with pytest.raises(ConfigError):
        restore(target, Home(tmp_path / "restored"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, [str(each) for each in arguments])


def test_the_commands_say_what_is_left_out_and_lost(tmp_path: Path, node: Home, log: Grown) -> None:
    told = run("backup", "--to", tmp_path / "backup", node.path)
    assert told.exit_code == 0, told.output
    assert "tree size 5" in told.output
    for name in ("lock/", "pool/", "engine.db", "the keys"):
        assert f"left out: {name}" in told.output
    told = run("backup", "--keys", "--to", tmp_path / "backup", node.path)
    assert "validator.key, origin.key, proposer.key in clear" in told.output
    told = run("restore", tmp_path / "backup", tmp_path / "restored")
    assert told.exit_code == 0, told.output
    assert "LOST: lock/" in told.output
    assert "the other 3 of 4 validators go on" in told.output
    assert "0 more may fail" in told.output
    assert "--role gateway --gateway-port 8501" in told.output
    found = json.loads(run("backup", "--json", "--to", tmp_path / "b2", node.path).output)
    assert (found["size"], found["keys"]) == (5, [])
    assert "lock/" in found["left_out"]
    assert run("backup", "--to", node.path, node.path).exit_code == 2
    assert run("backup", "--to", tmp_path / "b3", tmp_path / "none").exit_code == 2


def test_a_set_of_one_ends_with_its_lock(tmp_path: Path) -> None:
    setup.create_node(Home(tmp_path / "solo"), "solo", {"listen.port": 8420})
    assert run("backup", "--to", tmp_path / "backup", tmp_path / "solo").exit_code == 0
    told = run("restore", tmp_path / "backup", tmp_path / "restored").output
    assert "a set of one ends here" in told
    assert "from window 0 on" in told


def test_a_gateway_is_whole_again(tmp_path: Path, node: Home, log: Grown) -> None:
    gateway = Home(tmp_path / "gateway")
    peers = {"v01": "http://127.0.0.1:1"}
    setup.create_outside(
        gateway, node.path, "g", {"node.roles": ["gateway", "proposer"], "peers": {
            f"v0{n}": f"http://127.0.0.1:{n}" for n in range(1, 5)} | peers},
    )  # fmt: skip
    assert run("backup", "--keys", "--to", tmp_path / "backup", gateway.path).exit_code == 0
    told = run("restore", tmp_path / "backup", tmp_path / "restored")
    assert "next: restante up" in told.output
    assert "LOST" not in told.output
    assert names(tmp_path / "restored") == names(gateway.path) | {"restored.json"}


def test_lock_state_carries_the_mark_that_backup_tools_know(node: Home) -> None:
    assert "Never restore" in (node.lock / ".nobackup").read_text()
