"""Retrieve from an archive and trust no one who serves it.

    from pathlib import Path
    from restante.client import Client, Query, parse_source, read_policy

    with Client(read_policy(Path("policy")), [parse_source("https://mail.example")]) as client:
        answer = client.query(Query(topics=(bytes.fromhex("5a4ea131"),)))
        for found in answer:
            print(found.sent_s, found.id.hex())
        print(answer.summary.complete_to_window, answer.summary.final_before_s)

Installed alone, the package is this client: importing it loads no server code.
"""

from restante.client.answer import Answer
from restante.client.answering import Summary
from restante.client.archive import Client, Trusted
from restante.client.failures import SourceFailed, SourceOverflow
from restante.client.memory import FolderMemory, Memory, ProcessMemory
from restante.client.roster import Complaint, Missing, Unverifiable
from restante.client.sources import (
    FolderSource,
    Source,
    parse_source,
    read_policy,
)
from restante.client.state import Absence
from restante.rules.query import Found, Query

__all__ = [
    "Absence",
    "Answer",
    "Client",
    "Complaint",
    "FolderMemory",
    "FolderSource",
    "Found",
    "Memory",
    "Missing",
    "ProcessMemory",
    "Query",
    "Source",
    "SourceFailed",
    "SourceOverflow",
    "Summary",
    "Trusted",
    "Unverifiable",
    "parse_source",
    "read_policy",
]
