"""The descriptor: one encoding, one set id, and no set that cannot keep its promises."""

from hashlib import sha256
from typing import Any

import pytest

from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import dagcbor
from restante.formats.descriptor import Descriptor
from restante.formats.keys import SigningKey
from restante.formats.note import ED25519, VerifierKey

KEYS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(7)]


def a_set(n: int = 4, f: int = 1, **changes: Any) -> Descriptor:
    fields: dict[str, Any] = {
        "origin": "example.org/log/0123456789abcdef",
        "genesis_s": 1_699_999_980,
        "f": f,
        "validators": tuple(key.vkey() for key in KEYS[:n]),
    }
    return Descriptor(**(fields | changes))


def test_it_round_trips_and_its_hash_is_the_set_id() -> None:
    for one in (a_set(), a_set(1, 0), a_set(7, 2, window_s=2, slack_s=24, genesis_s=4)):
        assert Descriptor.parse(one.encode()) == one
        assert one.set_id == sha256(one.encode()).digest()
    assert a_set().set_id != a_set(origin="other").set_id


def test_the_defaults_are_the_designs_and_every_field_is_hashed() -> None:
    fields = dagcbor.decode(a_set().encode())
    assert fields == {
        "version": 1,
        "origin": "example.org/log/0123456789abcdef",
        "genesis_s": 1_699_999_980,
        "window_s": 30,
        "f": 1,
        "validators": [key.vkey().text() for key in KEYS[:4]],
        "network": "whisper-v6",
        "ttl_max_s": 300,
        "slack_s": 90,
        "pow_floor_millionths": 200_000,
        "max_envelope_bytes": 1_048_560,
        "batch_max_envelopes": 50_000,
        "batch_max_bytes": 67_108_864,
        "bucket_bits": 6,
        "levels": [],
        "rollup_lag": 10,
        "rollup_limit_bytes": 4_294_967_296,
        "start": None,
    }


V = [key.vkey() for key in KEYS]


@pytest.mark.parametrize(
    "changes",
    [
        {"f": 2},
        {"f": -1},
        {"f": 0, "validators": ()},
        {"validators": (V[1], V[0], V[2], V[3])},
        {"validators": (V[0], V[0], V[1], V[2])},
        {"validators": (V[0], V[1], V[2], VerifierKey("v9", V[0].kind, V[0].public_key))},
        {"validators": (V[0], V[1], V[2], V[3].of_kind(ED25519))},
        {"validators": (*V[:3], VerifierKey("v/../x", V[3].kind, V[3].public_key))},
        {"validators": (*V[:3], VerifierKey("validators", V[3].kind, V[3].public_key))},
        {"validators": (VerifierKey("none", V[3].kind, V[3].public_key), *V[:3])},
        {"genesis_s": 1_699_999_981},
        {"genesis_s": -30},
        {"slack_s": 79},
        {"window_s": 0},
        {"ttl_max_s": 0},
        {"pow_floor_millionths": -1},
        {"max_envelope_bytes": limits.ENVELOPE_MAX_BYTES + 1},
        {"max_envelope_bytes": 0},
        {"batch_max_bytes": 1_048_559},
        {"batch_max_envelopes": 0},
        {"batch_max_envelopes": limits.DESCRIPTOR_BATCH_ENVELOPES + 1},
        {"bucket_bits": 17},
        {"rollup_lag": 0},
        {"origin": "two words"},
        {"origin": ""},
        {"origin": "a+b"},
        {"network": "Whisper v6"},
    ],
    ids=str,
)
def test_sets_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEncoding):
        a_set(**changes)


def test_slack_and_faults_may_be_at_their_bounds() -> None:
    assert a_set(slack_s=80).slack_s == 80
    assert (a_set(7, 2).n, a_set(7, 2).k) == (7, 5)
    assert (a_set(1, 0).n, a_set(1, 0).k) == (1, 1)
    many = tuple(SigningKey(f"w{i:02}", bytes([i + 50]) * 32).vkey() for i in range(17))
    assert a_set(f=5, validators=many[:16]).k == 11
    with pytest.raises(InvalidEncoding):
        a_set(f=5, validators=many)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("version", 2, "version"),
        ("levels", [10], "levels"),
        ("start", {}, "succession"),
        ("more", 1, "unknown field"),
        ("f", True, "integer"),
        ("f", 1 << 63, "integer"),
        ("validators", [7], "vkey"),
        ("validators", "v0", "list"),
        ("validators", ["nobody"], "verifier key"),
        ("origin", b"x", "text"),
    ],
)
def test_other_fields_are_refused_by_name(key: str, value: Any, words: str) -> None:
    fields = dagcbor.decode(a_set().encode())
    assert isinstance(fields, dict)
    with pytest.raises(InvalidEncoding, match=words):
        Descriptor.parse(dagcbor.encode({**fields, key: value}))
    if key in fields:
        del fields[key]
        with pytest.raises(InvalidEncoding):
            Descriptor.parse(dagcbor.encode(fields))


def test_every_altered_byte_is_refused_or_is_another_set() -> None:
    data = a_set().encode()
    for at in range(len(data)):
        for change in (1, 0x80):
            altered = bytearray(data)
            altered[at] ^= change
            try:
                other = Descriptor.parse(bytes(altered))
            except InvalidEncoding:
                continue
            assert other.encode() == bytes(altered)
            assert other.set_id != a_set().set_id


def test_windows_tile_time_from_genesis() -> None:
    d = a_set()
    assert d.start_s(0) == d.genesis_s
    assert d.end_s(0) == d.start_s(1) == d.genesis_s + 30
    for w in (-2, 0, 1, 7):
        assert d.window_of(d.start_ms(w)) == d.window_of(d.end_ms(w) - 1) == w
        assert d.last_due(d.end_ms(w)) == w
        assert d.last_due(d.end_ms(w) - 1) == w - 1


def test_sent_times_and_windows_agree_with_r0_spelled_out() -> None:
    d = a_set(window_s=30, slack_s=80, ttl_max_s=100)
    base = d.genesis_s

    def allowed(sent_s: int, w: int) -> bool:
        return base + 30 * w - 100 - 80 <= sent_s <= base + 30 * (w + 1) + 10

    for sent_s in range(base - 200, base + 200):
        windows = [w for w in range(40) if allowed(sent_s, w)]
        assert list(d.windows_for_sent(sent_s, sent_s)) == windows
        assert len(windows) <= d.recent_windows + 1
        for w in range(10):
            low, high = d.sent_bounds_s(w)
            assert (low <= sent_s <= high) == allowed(sent_s, w)
            later = any(allowed(sent_s, other) for other in range(w + 1, 40))
            assert (sent_s >= d.final_before_s(w)) or not later
    assert len(d.windows_for_sent(base + 120, base + 120)) <= d.recent_windows + 1
    assert list(d.windows_for_sent(base - 999, base - 500)) == []
    assert d.recent_windows == (100 + 80 + 10) // 30 + 1


def test_k_covers_exactly_the_windows_that_may_share_an_envelope() -> None:
    for slack in (80, 89, 90, 91, 119, 120):
        d = a_set(slack_s=slack)
        most = max(
            len(d.windows_for_sent(s, s))
            for s in range(d.genesis_s + 3000, d.genesis_s + 3000 + d.window_s)
        )
        assert most == d.recent_windows + 1


def test_validators_are_found_by_name_and_by_id() -> None:
    d = a_set()
    assert d.validator("v2") == V[2]
    assert d.validator("v9") is None
    assert d.validator_by_id(V[3].key_id) == V[3]
    assert d.validator_by_id(V[3].of_kind(ED25519).key_id) is None
