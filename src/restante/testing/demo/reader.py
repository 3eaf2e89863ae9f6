"""The client's part: someone who was away, and has nothing but the set's policy file."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from restante.client import Client, FolderMemory, Query, Summary, parse_source, read_policy
from restante.client.roster import Complaint
from restante.errors import ConfigError
from restante.formats import whisper
from restante.networks.keccak import keccak256
from restante.networks.whisper import crypt

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a trace says should be found. Hashes are Whisper's, in hex."""

    hashes: frozenset[str]
    topics: tuple[bytes, ...]
    keys: dict[str, bytes]
    """Key id → symmetric or private key."""
    messages: tuple[dict[str, Any], ...]
    """Known plaintexts: hash, key, and payload_hex or payload_len and payload_sha256."""

    @classmethod
    def read(cls, trace: Path) -> "Truth":
        """Raises ConfigError `trace-missing`, `trace-malformed`."""
        path = trace / "truth.json"
        try:
            data = json.loads(path.read_bytes())
            keys = {
                each["id"]: bytes.fromhex(each.get("sym_key") or each["private_key"])
                for each in data.get("keys", ())
            }
            return cls(
                frozenset(data["hashes"]),
                tuple(bytes.fromhex(topic) for topic in data["topics"]),
                keys,
                tuple(data.get("decrypt", ())),
            )
        except FileNotFoundError as error:
            raise ConfigError(f"{path} is missing", code="trace-missing") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: {error!r}", code="trace-malformed") from error


@dataclass(slots=True)
class Reading:
    """What the client found, and what was wrong with it."""

    summary: Summary
    faults: list[str] = field(default_factory=list)
    decrypted: int = 0


def read_all(policy_file: Path, urls: list[str], memory: Path, truth: Truth, say: Say) -> Reading:
    """Retrieve every topic of the truth in bucket mode, verify, decrypt, and prove an absence."""
    policy = read_policy(policy_file)
    sources = [parse_source(url) for url in urls]
    with Client(policy, sources, FolderMemory(memory)) as client:
        trusted = client.refresh()
        cosigners = ", ".join(name for name, _ in trusted.checkpoint.cosigners)
        say(f"checkpoint of {trusted.checkpoint.size} windows, cosigned by {cosigners}")
        answer = trusted.query(Query(topics=truth.topics))
        raws: dict[str, bytes] = {}
        counts: Counter[str] = Counter()
        for found in answer:
            hash_ = whisper.whisper_hash(found.raw, keccak256).hex()
            counts[hash_] += 1
            raws[hash_] = found.raw
        reading = Reading(answer.summary)
        reading.faults += _compare(counts, truth)
        reading.decrypted = _decrypt(raws, truth, reading.faults)
        nobody = _unused_topic(truth)
        absence = trusted.absence(nobody)
        if not absence.absent:
            reading.faults.append(f"topic {nobody.hex()}, which nobody used, is not absent")
        say(f"{len(raws)} envelopes of {len(truth.topics)} topics, every byte verified")
        say(f"{reading.decrypted} of {len(truth.messages)} known plaintexts decrypted and equal")
        say(f"topic {nobody.hex()}: proved to have nothing in windows [0, {absence.size})")
    return reading


def stale_run(policy_file: Path, urls: list[str], memory: Path) -> tuple[Complaint, ...]:
    """A second visit, which only asks for the newest checkpoint; what sources did wrong."""
    with Client(
        read_policy(policy_file), [parse_source(url) for url in urls], FolderMemory(memory)
    ) as client:
        return client.refresh().complaints


def _compare(counts: Counter[str], truth: Truth) -> list[str]:
    faults = [f"missing: {hash_}" for hash_ in sorted(truth.hashes - set(counts))]
    faults += [f"not in the truth: {hash_}" for hash_ in sorted(set(counts) - truth.hashes)]
    return faults + [f"doubled: {hash_}" for hash_, count in counts.items() if count > 1]


def _decrypt(raws: dict[str, bytes], truth: Truth, faults: list[str]) -> int:
    good = 0
    for row in truth.messages:
        raw = raws.get(row["hash"])
        if raw is None:
            continue
        key, data = truth.keys[row["key"]], whisper.parse(raw).data
        open_ = crypt.decrypt_asymmetric if row["key"].startswith("asym") else None
        try:
            payload = (open_ or crypt.decrypt_symmetric)(data, key).payload
        except crypt.NotDecrypted as error:
            faults.append(f"not decrypted: {row['hash']}: {error}")
            continue
        expected = (
            row.get("payload_sha256") or sha256(bytes.fromhex(row["payload_hex"])).hexdigest()
        )
        if sha256(payload).hexdigest() != expected:
            faults.append(f"another plaintext: {row['hash']}")
            continue
        good += 1
    return good


def _unused_topic(truth: Truth) -> bytes:
    return next(t for t in (bytes([7, 7, 7, n]) for n in range(256)) if t not in truth.topics)
