"""No parser raises anything but its named errors, on mutated and on made-up bytes.

FUZZ_INPUTS sets the inputs per parser of the slow run (100,000); FUZZ_SEED the seed, which is
otherwise the day, so that every day looks elsewhere. A failure prints both and the input.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest

from fuzz.samples import PARSERS
from restante.errors import InvalidEncoding, Refused
from restante.formats import dagcbor
from restante.formats.dagcbor import Link, Value

SEED = int(os.environ.get("FUZZ_SEED", int(time.time()) // 86_400))
INPUTS = int(os.environ.get("FUZZ_INPUTS", "100000"))
QUICK_INPUTS = 2_000

# Heads that claim much: CBOR lengths and floats, RLP lengths, endless varints, extreme integers.
_CLAIMS = [
    b"\xff" * 9,
    b"\x80" * 4,
    b"\x9b\x00\x00\x00\x00\x7f\xff\xff\xff",
    b"\xbb" + b"\xff" * 8,
    b"\x5b" + b"\x00" * 7 + b"\xff",
    b"\x1b" + b"\xff" * 8,
    b"\x3b" + b"\x7f" + b"\xff" * 7,
    b"\xd8\x2a",
    b"\x9f",
    b"\xfb" + b"\x00" * 8,
    b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xf8\x00",
    b"\x00",
    b"\n\n",
]


def _flip(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at] ^= 1 << random.randrange(8)


def _byte(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] = random.choice(
        (0, 1, 0x7F, 0x80, 0xFF, random.randrange(256))
    )


def _truncate(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _drop(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + 1 + random.randrange(8)]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = data[at : at + 1 + random.randrange(40)]


def _inflate(data: bytearray, random: Random) -> None:
    claim = random.choice(_CLAIMS)
    at = random.randrange(len(data))
    data[at : at + random.choice((0, 1, len(claim)))] = claim


def _append(data: bytearray, random: Random) -> None:
    data += random.randbytes(1 + random.randrange(9))


_MUTATIONS: list[Callable[[bytearray, Random], None]] = [
    _flip,
    _flip,
    _byte,
    _truncate,
    _drop,
    _repeat,
    _inflate,
    _append,
]
_LEAVES: list[Value] = [
    *(0, 1, -1, 23, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**64), None, True, False),
    *("", "x", "é" * 40, b"", b"\0" * 4, b"\1" * 32, b"\2" * 36, [], {}, [[]], {"": 0}),
    Link(b"\x01\x55\x12\x20" + bytes(32)),
]


def _change(value: Value, random: Random) -> Value:
    """A well-formed value that differs somewhere: what a decoder takes and an object may not."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        out = dict(value)
        match random.randrange(6):
            case 0:
                del out[key]
            case 1:
                out[random.choice(("", "x", key + "x"))] = random.choice(_LEAVES)
            case _:
                out[key] = _change(value[key], random)
        return out
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        match random.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], random.choice(value), *value[at:]]
            case _:
                return [*value[:at], _change(value[at], random), *value[at + 1 :]]
    if type(value) is int and random.random() < 0.5:
        return max(-(2**64), min(2**64 - 1, value + random.choice((-1, 1, -256, 1 << 20))))
    if isinstance(value, bytes) and value and random.random() < 0.5:
        changed = bytearray(value)
        random.choice(_MUTATIONS)(changed, random)
        return bytes(changed)
    return random.choice(_LEAVES)


def _decoded(sample: bytes) -> Value:
    try:
        return dagcbor.decode(sample)
    except InvalidEncoding:
        return None


def _inputs(samples: list[bytes], random: Random, count: int) -> Iterator[bytes]:
    values = [value for value in map(_decoded, samples) if value not in (None, [], {})]
    for _ in range(count):
        kind = random.random()
        if kind < 0.05:
            yield random.randbytes(random.randrange(80))
        elif kind < 0.30 and values:
            yield dagcbor.encode(_change(random.choice(values), random))
        elif kind < 0.40:
            a, b = random.choice(samples), random.choice(samples)
            yield a[: random.randrange(len(a) + 1)] + b[random.randrange(len(b) + 1) :]
        else:
            data = bytearray(random.choice(samples))
            for _ in range(random.choice((1, 1, 2, 4))):
                if data:
                    random.choice(_MUTATIONS)(data, random)
            yield bytes(data)


def _fuzz(name: str, count: int) -> None:
    parse, samples, allowed = PARSERS[name]
    print(f"FUZZ_SEED={SEED} FUZZ_INPUTS={count}")
    for index, data in enumerate(_inputs(samples, Random(f"{SEED} {name}"), count)):
        try:
            parse(data)
        except allowed:
            continue
        except Exception as error:
            pytest.fail(f"{name}: FUZZ_SEED={SEED} input {index}: {error!r} on {data.hex()}")


@pytest.mark.parametrize("name", PARSERS)
def test_samples_are_valid(name: str) -> None:
    """Mutants of bytes that do not even parse would test little. A judge may refuse what parses."""
    parse, samples, _ = PARSERS[name]
    assert samples
    for sample in samples:
        with suppress(Refused):
            parse(sample)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_only_its_errors(name: str) -> None:
    _fuzz(name, QUICK_INPUTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_only_its_errors_on_many_inputs(name: str) -> None:
    _fuzz(name, INPUTS)
