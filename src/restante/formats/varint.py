"""Unsigned LEB128 as multiformats restricts it: minimal, at most 9 bytes (63 bits)."""

from restante.errors import InvalidEncoding

VARINT_MAX_BYTES = 9


def encode(n: int) -> bytes:
    """The minimal form of `n`, 0 <= n < 2**63."""
    if not 0 <= n < 1 << 63:
        raise ValueError("a varint holds 63 bits")
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def size(n: int) -> int:
    """How many bytes `encode(n)` has."""
    return 1 if n < 0x80 else (n.bit_length() + 6) // 7


def decode(data: bytes, offset: int = 0, max_bytes: int = VARINT_MAX_BYTES) -> tuple[int, int]:
    """(value, offset of what follows). Raises InvalidEncoding if truncated, long or not minimal."""
    # One byte or two, which nearly all have; a second one of zero is not minimal.
    left = min(max_bytes, len(data) - offset)
    if left > 0 and data[offset] < 0x80:
        return data[offset], offset + 1
    if left > 1 and 0 < data[offset + 1] < 0x80:
        return data[offset] & 0x7F | data[offset + 1] << 7, offset + 2
    value = shift = 0
    for at in range(offset, min(offset + max_bytes, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and at > offset:
                raise InvalidEncoding("a varint is not minimal")
            return value, at + 1
        shift += 7
    raise InvalidEncoding("a varint is truncated or too long")
