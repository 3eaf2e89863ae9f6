"""What proves an envelope to a third party, fetched without telling which one it is."""

import dataclasses
import random

import pytest

from restante import limits
from restante.client import Client, FolderSource, Missing, ProcessMemory, Query
from restante.client.aio import AsyncClient
from restante.errors import ConfigError
from restante.formats.level import Level
from restante.formats.page import bucket_of, topic_key
from restante.formats.paths import segment_path
from restante.rules import proof
from restante.testing.archive_fixture import envelope, make_archive, make_set

MODES = ["bucket", "exact", "all"]
SETS = {
    "batches": make_set(),
    "roll-ups": make_set(levels=(Level(2), Level(6)), rollup_lag=2),
    "an index": make_set(levels=(Level(2), Level(6), Level(24, "index")), rollup_lag=2),
}
TOPICS = [bytes([i, 1, 2, 3]) for i in range(24)]
WINDOWS = 60


def made_archive(root, made):
    rng, d = random.Random(7), made.descriptor
    envelopes = {
        w: [
            envelope(rng.choice(TOPICS), d.start_s(w) + i, rng.randbytes(rng.randrange(2_000)))
            for i in range(12)
        ]
        for w in range(WINDOWS)
    }
    return make_archive(root, envelopes, WINDOWS, made=made)


@pytest.fixture(params=["one root", "tables in blocks"])
def small(request, monkeypatch):
    """Also where a root does not hold its tables itself."""
    if request.param == "tables in blocks":
        monkeypatch.setattr(limits, "PAGE_TARGET_BYTES", 3_000)
        monkeypatch.setattr(limits, "PAGE_TABLE_ROWS", 4)
        monkeypatch.setattr(limits, "DIRECTORY_KEYS", 4)


class Recording(FolderSource):
    def __init__(self, root):
        super().__init__(root)
        self.asked = []

    def get(self, path, **range_):
        self.asked.append((path, range_["offset"], range_["length"]))
        return super().get(path, **range_)


def reading(archive):
    source = Recording(archive.root)
    return source, Client(archive.made.policy(), [source], ProcessMemory())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SETS)
def test_every_envelope_of_an_answer_can_be_proved(small, tmp_path, name, mode):
    archive = made_archive(tmp_path, SETS[name])
    policy = archive.made.policy()
    _, client = reading(archive)
    with client:
        trusted = client.refresh()
        answer = list(trusted.query(Query(tuple(TOPICS[:2]), mode=mode)))
        assert answer
        levels = {found.read_from.span.level for found in answer}
        assert len(levels) > 1 or name == "batches" or mode == "all"
        for found in answer:
            proven = proof.verify(policy, trusted.evidence(found, mode).encode())
            assert (proven.id, proven.raw) == (found.id, found.raw)
            assert (proven.topic, proven.sent_s) == (found.topic, found.sent_s)
            assert proven.window == found.window


def test_the_other_face_gives_the_same(tmp_path):
    import asyncio

    archive = made_archive(tmp_path, SETS["an index"])
    _, client = reading(archive)

    async def ask():
        sources = [FolderSource(archive.root)]
        async with AsyncClient(archive.made.policy(), sources, ProcessMemory()) as reader:
            trusted = await reader.refresh()
            found = await anext(trusted.query(Query(tuple(TOPICS[:2]))))
            return await trusted.evidence(found)

    with client:
        trusted = client.refresh()
        found = next(trusted.query(Query(tuple(TOPICS[:2]))))
        assert trusted.evidence(found) == asyncio.run(ask())


def test_whoever_sees_the_fetches_learns_the_bucket_alone(small, tmp_path):
    archive = made_archive(tmp_path, SETS["an index"])
    by_bucket = {}
    depth = max(s.root.depth for span, s in archive.rollups.items() if span.level == 2)
    for topic in TOPICS:
        _, client = reading(archive)
        with client:
            trusted = client.refresh()
            found = [f for f in trusted.query(Query((topic,))) if f.read_from.span.number == 3]
            for one in found[:1] + found[-1:]:
                client_source, again = reading(archive)
                with again:
                    again.refresh().evidence(one)
                bucket = bucket_of(topic_key(archive.made.set_id, topic), depth)
                by_bucket.setdefault(bucket, set()).add(tuple(sorted(client_source.asked, key=str)))
    assert len(by_bucket) > 1
    assert all(len(fetches) == 1 for fetches in by_bucket.values())


def test_proofs_of_one_segment_cost_one_reading(tmp_path):
    archive = made_archive(tmp_path, SETS["an index"])
    source, client = reading(archive)
    with client:
        trusted = client.refresh()
        found = [f for f in trusted.query(Query(TOPICS[:1])) if f.read_from.span.number == 3]
        assert len(found) > 1
        trusted.evidence(found[0])
        source.asked.clear()
        for one in found[1:]:
            trusted.evidence(one)
        assert source.asked == []


def test_a_proof_under_another_checkpoint_than_the_answers(tmp_path):
    """A found envelope is proved by whatever the client trusts later."""
    archive = made_archive(tmp_path, SETS["roll-ups"])
    _, client = reading(archive)
    with client:
        found = next(client.query(Query(TOPICS[:1])))
        archive.append([])
        archive.cosign()
        parts = client.refresh().evidence(found)
        proven = proof.verify(archive.made.policy(), parts.encode())
        assert proven.checkpoint.size == WINDOWS + 1


def test_what_cannot_be_proved(tmp_path):
    archive = made_archive(tmp_path, SETS["batches"])
    _, client = reading(archive)
    with client:
        trusted = client.refresh()
        found = next(trusted.query(Query(TOPICS[:1])))
        for other in (
            dataclasses.replace(found, read_from=None),
            dataclasses.replace(found, id=bytes(32)),
        ):
            with pytest.raises(ConfigError) as caught:
                trusted.evidence(other)
            assert caught.value.code == "proof"
        (archive.root / segment_path(0, found.window)).unlink()
        with pytest.raises(Missing):
            client.refresh().evidence(found)
