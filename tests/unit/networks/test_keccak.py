"""Keccak-256 against a plain implementation of the permutation, written from FIPS 202."""

from hypothesis import given
from hypothesis import strategies as st

from restante.networks import keccak

MASK = 2**64 - 1
RATE = 136


def rotl(value: int, by: int) -> int:
    by %= 64
    return ((value << by) | (value >> (64 - by))) & MASK if by else value


def round_constants() -> list[int]:
    """FIPS 202 §3.2.5: a linear feedback shift register gives the bits."""
    bits, state = [], 1
    for _ in range(255):
        bits.append(state & 1)
        state = (state << 1) ^ (0x171 if state & 0x80 else 0)
    return [sum(bits[(7 * index + j) % 255] << (2**j - 1) for j in range(7)) for index in range(24)]


def permute(lanes: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    for constant in round_constants():
        parity = [0] * 5
        for (x, _), lane in lanes.items():
            parity[x] ^= lane
        lanes = {
            (x, y): lane ^ parity[(x - 1) % 5] ^ rotl(parity[(x + 1) % 5], 1)
            for (x, y), lane in lanes.items()
        }
        moved, x, y = {(0, 0): lanes[0, 0]}, 1, 0
        for t in range(24):
            moved[y, (2 * x + 3 * y) % 5] = rotl(lanes[x, y], (t + 1) * (t + 2) // 2)
            x, y = y, (2 * x + 3 * y) % 5
        lanes = {
            (x, y): moved[x, y] ^ (~moved[(x + 1) % 5, y] & MASK & moved[(x + 2) % 5, y])
            for x, y in moved
        }
        lanes[0, 0] ^= constant
    return lanes


def plain_keccak256(data: bytes) -> bytes:
    padded = bytearray(data + b"\x01" + bytes(-(len(data) + 1) % RATE))
    padded[-1] |= 0x80
    lanes = {(x, y): 0 for x in range(5) for y in range(5)}
    for start in range(0, len(padded), RATE):
        for index in range(RATE // 8):
            at = start + 8 * index
            lanes[index % 5, index // 5] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = permute(lanes)
    return b"".join(lanes[index, 0].to_bytes(8, "little") for index in range(4))


@given(st.binary(max_size=300) | st.integers(130, 140).map(bytes))
def test_is_keccak_and_not_sha3(data: bytes) -> None:
    assert keccak.keccak256(data) == plain_keccak256(data)


def test_a_copied_state_goes_on_alone() -> None:
    state = keccak.new(b"ab")
    branch = state.copy()
    branch.update(b"c")
    assert branch.digest() == keccak.keccak256(b"abc")
    assert state.digest() == keccak.keccak256(b"ab")


def test_the_published_vector() -> None:
    digest = "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    assert keccak.keccak256(b"abc").hex() == digest
