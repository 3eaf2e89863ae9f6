"""Our own client on the vectors that other verifiers are written against: the answers, the lies."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restante.client.archive import Client
from restante.client.memory import FolderMemory
from restante.client.sources import FolderSource
from restante.errors import VerificationFailed
from restante.formats.descriptor import Descriptor
from restante.formats.level import Span
from restante.formats.policy import Policy
from restante.rules.cover import Cover
from restante.rules.query import MODES, Mode, Query

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "formats.json").read_text("utf-8"))
ARCHIVE = VECTORS["archive"]
POLICY = Policy.parse(ARCHIVE["policy"].encode())


def written(folder: Path, *layers: dict[str, str | None]) -> Path:
    """An archive's folder of files in base64, later layers over earlier ones."""
    for path, data in (item for layer in layers for item in layer.items()):
        target = folder / path
        target.unlink(missing_ok=True)
        if data is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(data))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "archive", ARCHIVE["files"])


def answers(folder: Path, memory: Path, query: dict[str, Any], mode: Mode) -> Iterator[Any]:
    """What the client finds in the query's windows, in the order of its answer."""
    first, stop = query["windows"]
    asked = Query((bytes.fromhex(query["topic"]),), since=first, mode=mode)
    with Client(POLICY, [FolderSource(folder)], FolderMemory(memory)) as client:
        for found in client.query(asked):
            if found.window < stop:
                yield {"id": found.id.hex(), "sent": found.sent_s, "window": found.window}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ARCHIVE["queries"], ids=lambda query: query["why"])
def test_queries(folder: Path, tmp_path: Path, query: dict[str, Any], mode: Mode) -> None:
    assert list(answers(folder, tmp_path / "memory", query, mode)) == query["found"]


# Lies in what nobody needs who reads these spans through their index.
# What a query does not need is not read: a root behind an index, entries of other windows.
PASSED_OVER = {
    "a bit of a roll-up's root",
    "a roll-up that lacks an envelope of its windows",
    "a roll-up where none comes due",
}
MUTANTS = [mutant for mutant in VECTORS["archive_mutants"] if mutant["why"] not in PASSED_OVER]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant["why"])
def test_an_archive_that_lies(folder: Path, tmp_path: Path, mutant: dict[str, Any]) -> None:
    query = ARCHIVE["queries"][mutant["query"]]
    written(folder, mutant["files"])
    with pytest.raises(VerificationFailed):
        list(answers(folder, tmp_path / "memory", query, "bucket"))


@pytest.mark.parametrize("query", ARCHIVE["queries"], ids=lambda query: query["why"])
def test_the_cover_is_the_fewest(query: dict[str, Any]) -> None:
    d = Descriptor.parse(base64.b64decode(ARCHIVE["files"]["descriptor"]))
    cover = Cover(d, 10, "bucket")
    cover.is_none(Span(1, 2, 4, 2))
    found = [
        [step.span.level, step.span.number] for step in cover.segments(range(*query["windows"]))
    ]
    assert found == query["cover"]
