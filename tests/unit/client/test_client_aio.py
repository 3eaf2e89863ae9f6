"""The asynchronous face: the same machines, so the same answers; what is its own is tested here."""

import asyncio
import threading

import pytest

from restante import limits
from restante.client import Client, FolderSource, Missing, ProcessMemory, Query
from restante.client.aio import AsyncClient, InThread, parse_async_source
from restante.errors import ConfigError, VerificationFailed
from restante.formats.paths import segment_path
from restante.testing.archive_fixture import envelope, make_archive, make_set

MADE = make_set()
D = MADE.descriptor
TOPIC = b"aaaa"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    envelopes = {w: [envelope(TOPIC, D.start_s(w), bytes([w]))] for w in range(30)}
    return make_archive(tmp_path_factory.mktemp("archive"), envelopes, 30, made=MADE)


def client(*sources, memory=None):
    return AsyncClient(MADE.policy(), sources, memory or ProcessMemory())


def test_the_same_answer_as_the_blocking_face(archive):
    async def ask():
        async with client(FolderSource(archive.root)) as reader:
            trusted = await reader.refresh()
            answer = trusted.query(Query((TOPIC,)))
            found = [each async for each in answer]
            absent = await trusted.absence(b"none")
            return found, answer.summary, absent, trusted.checkpoint

    found, told, absent, checkpoint = asyncio.run(ask())
    with Client(MADE.policy(), [FolderSource(archive.root)], ProcessMemory()) as reader:
        trusted = reader.refresh()
        answer = trusted.query(Query((TOPIC,)))
        assert list(answer) == found
        assert answer.summary == told
        assert trusted.absence(b"none") == absent
        assert trusted.checkpoint == checkpoint
    assert absent.absent


def test_sources_of_both_kinds(archive, tmp_path):
    async def ask(*sources):
        async with client(*sources) as reader:
            return [each.window async for each in await reader.query(Query((TOPIC,)))]

    native = parse_async_source(str(archive.root))
    assert isinstance(native, InThread)
    assert asyncio.run(ask(native)) == list(range(30))
    with pytest.raises(ConfigError):
        client()
    with pytest.raises(ConfigError):
        client(FolderSource(tmp_path), FolderSource(tmp_path))


def test_errors_and_cursors(archive, tmp_path):
    broken = make_archive(tmp_path, {w: [envelope(TOPIC, D.start_s(w))] for w in range(30)}, 30)
    (tmp_path / segment_path(0, 20)).unlink()

    async def ask():
        async with client(FolderSource(tmp_path)) as reader:
            answer = (await reader.refresh()).query(Query((TOPIC,)))
            with pytest.raises(RuntimeError):
                answer.summary  # noqa: B018
            got = []
            with pytest.raises(Missing) as caught:
                got.extend([each.window async for each in answer])
            assert caught.value.code == "not-found"
            with pytest.raises(Missing):
                await anext(answer)
            return answer.cursor

    cursor = asyncio.run(ask())
    broken.write(segment_path(0, 20), broken.segment(20, broken.envelopes[20][1:]).cars()[0])
    assert cursor


def test_cancelled_while_it_reads(archive):
    """The answer is over, and the loop goes on; a cursor still resumes it."""
    stuck, asked = threading.Event(), threading.Event()

    class Stuck(FolderSource):
        def get(self, path, **range_):
            if path == segment_path(0, 29) and not stuck.is_set():
                asked.set()
                stuck.wait(10)
            return super().get(path, **range_)

    async def ask():
        async with client(Stuck(archive.root)) as reader:
            answer = (await reader.refresh()).query(Query((TOPIC,)))
            first = await anext(answer)
            got = [first.window]

            async def rest():
                got.extend([each.window async for each in answer])

            task = asyncio.create_task(rest())
            await asyncio.to_thread(asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stuck.set()
            with pytest.raises(RuntimeError):
                await anext(answer)
            again = (await reader.refresh()).query(Query((TOPIC,), cursor=answer.cursor))
            return [answer.cursor, [each.window async for each in again]]

    _, windows = asyncio.run(ask())
    assert windows[-1] == 29


def test_one_that_is_slow_does_not_delay_the_checkpoint(archive, monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_PATIENCE_S", 0.05)

    class Mute:
        name = "mute"

        async def fetch(self, path, **range_):
            await asyncio.sleep(60)

        async def aclose(self):
            pass

    memory = ProcessMemory()
    memory.keep_descriptor(MADE.set_id, D.encode())

    async def ask():
        async with client(Mute(), FolderSource(archive.root), memory=memory) as reader:
            return (await reader.refresh()).complaints

    assert [(c.source, c.code) for c in asyncio.run(ask())] == [("mute", "source-timeout")]


def test_a_policy_without_a_set(archive):
    import dataclasses

    async def ask():
        policy = dataclasses.replace(MADE.policy(), set_id=None)
        async with AsyncClient(policy, [FolderSource(archive.root)], ProcessMemory()) as reader:
            await reader.refresh()

    with pytest.raises(VerificationFailed) as caught:
        asyncio.run(ask())
    assert caught.value.code == "no-set"
