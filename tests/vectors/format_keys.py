"""The keys of the examples, from fixed seeds."""

from restante.formats.keys import SigningKey

VALIDATORS = [SigningKey(f"v{i}", bytes([i + 1]) * 32) for i in range(4)]
LOG = SigningKey("example.org/restante/0123456789abcdef", bytes([5]) * 32)
PROPOSER = SigningKey("p1", bytes([6]) * 32)
LEVELS_LOG = SigningKey("example.org/restante/fedcba9876543210", bytes([7]) * 32)
ONE_LOG = SigningKey("example.org/restante/00112233aabbccdd", bytes([8]) * 32)
