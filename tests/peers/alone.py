"""A network of one's own: nothing but a loopback interface, and nobody else on it."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

HINT = "needs root, or: unshare -Urn sh -c 'ip link set lo up && make test'"

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


class NotAllowed(Exception):
    """This process may make no network namespace; what it says is for the skip."""


@contextmanager
def alone() -> Iterator[None]:
    """Take this thread, and what it starts meanwhile, out of every network.

    Only the calling thread moves, and it returns at the end: tests before and after, in the same
    process, see what they always see. Raises NotAllowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Whoever may not come back must not leave, either.
        if libc.setns(before, _CLONE_NEWNET) or libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise NotAllowed(f"no network namespace may be made ({reason}): {HINT}")
        try:
            _raise_loopback()
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot return to the network")
    finally:
        os.close(before)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
