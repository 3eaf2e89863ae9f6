"""RLPx frames: geth's vector, every split, and nothing altered, lost, repeated or inflated."""

import json
import time
from pathlib import Path
from random import Random

import pytest

from restante.networks.keccak import keccak256, new
from restante.networks.rlpx import frames
from restante.networks.rlpx.frames import MAX_BYTES, Reader, Writer
from restante.networks.rlpx.handshake import Secrets

FRAME = json.loads((Path(__file__).parents[2] / "vectors" / "rlpx.json").read_text())["frame"]
AES, MAC = keccak256(b"aes"), keccak256(b"mac")


class Fixed:
    """A hash that always says the same, as in geth's test."""

    def update(self, data: bytes, /) -> None:
        pass

    def digest(self) -> bytes:
        return bytes.fromhex(FRAME["mac_digest"])

    def copy(self) -> "Fixed":
        return self


def pair() -> tuple[Writer, Reader]:
    return Writer(Secrets(AES, MAC, new(b"a"), new(b"b"))), Reader(
        Secrets(AES, MAC, new(b"b"), new(b"a"))
    )


def test_geths_frame() -> None:
    secrets = Secrets(keccak256(b""), keccak256(b""), Fixed(), Fixed())
    body = bytes((FRAME["code"],)) + bytes.fromhex(FRAME["payload"])
    assert Writer(secrets).frame(body).hex() == FRAME["frame"]
    assert Reader(secrets).take(bytes.fromhex(FRAME["frame"])) == [body]


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 31, 32, 33, 255, 256, 65_535, MAX_BYTES])
def test_sizes(size: int) -> None:
    writer, reader = pair()
    body = bytes(size)
    frame = writer.frame(body)
    assert len(frame) == 48 + size + -size % 16
    assert reader.take(frame) == [body]
    assert reader.unfinished_bytes == 0


def test_what_no_frame_can_carry() -> None:
    writer, _ = pair()
    for size in (0, MAX_BYTES + 1):
        with pytest.raises(ValueError, match="bytes"):
            writer.frame(bytes(size))


@pytest.mark.parametrize("seed", range(20))
def test_pieces_make_no_difference(seed: int) -> None:
    random = Random(seed)
    writer, reader = pair()
    bodies = [random.randbytes(random.choice((1, 16, 100, 1_500))) for _ in range(50)]
    stream = b"".join(map(writer.frame, bodies))
    came: list[bytes] = []
    at = 0
    while at < len(stream):
        step = random.choice((1, 5, 16, 31, 32, 33, 700, 5_000))
        most = random.choice((1, 3, frames.MAX_BYTES))
        came += reader.take(stream[at : at + step], frames=most)
        at += step
    came += reader.take(b"")
    assert came == bodies
    assert reader.unfinished_bytes == 0


def test_no_altered_byte_passes() -> None:
    first, second = b"first message", b"the second message, which is longer"
    writer, _ = pair()
    frame, after = writer.frame(first), writer.frame(second)
    for at in range(len(frame)):
        altered = bytearray(frame + after)
        altered[at] ^= 0x40
        _, reader = pair()
        assert reader.take(bytes(altered)) == []
        assert reader.broken is not None
        assert reader.broken.code == "bad-mac"
        # Broken for good, also for what is right.
        assert reader.take(after) == []


def test_what_was_whole_before_the_break_is_given() -> None:
    writer, reader = pair()
    stream = writer.frame(b"good") + bytes(64)
    assert reader.take(stream) == [b"good"]
    assert reader.broken is not None


def test_repeated_lost_and_swapped_frames_break_the_link() -> None:
    for order in ([0, 0], [1], [1, 0], [0, 2]):
        writer, reader = pair()
        made = [writer.frame(bytes((65 + each,)) * 20) for each in range(3)]
        came = reader.take(b"".join(made[each] for each in order))
        assert came == ([b"A" * 20] if order[0] == 0 else [])
        assert reader.broken is not None


def test_a_truncated_frame_waits() -> None:
    writer, _ = pair()
    frame = writer.frame(b"body")
    for stop in range(len(frame)):
        _, reader = pair()
        assert reader.take(frame[:stop]) == []
        assert reader.broken is None
        assert reader.take(frame[stop:]) == [b"body"]


def test_a_lying_size_is_refused_before_its_body_is_held() -> None:
    for size, most in ((0, 100), (101, 100), (MAX_BYTES, 2_048)):
        writer, reader = pair()
        header = writer._encrypt(size.to_bytes(3, "big") + b"\xc2\x80\x80" + bytes(10))
        mac = writer._mac
        mac.update(frames._mix(writer._seeded(mac.digest()[:16]), header))
        assert reader.take(header + mac.digest()[:16] + bytes(5_000), most=most) == []
        assert reader.broken is not None
        assert reader.broken.code == "frame-size"
        assert reader.unfinished_bytes == 0


def test_a_large_frame_in_small_pieces_is_not_copied_at_each() -> None:
    """16 MiB in pieces of 4 KiB: 4,096 of them. Copying what is held each time would be 34 GB."""
    writer, reader = pair()
    body = bytes(MAX_BYTES)
    frame = writer.frame(body)
    came: list[bytes] = []
    began_s = time.process_time()
    for at in range(0, len(frame), 4_096):
        came += reader.take(frame[at : at + 4_096])
    assert came == [body]
    # 0.2 s where it was written.
    assert time.process_time() - began_s < 3
