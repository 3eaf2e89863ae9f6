"""A TCP link that can be cut: what goes over it is held back, and nothing is refused.

As when a phone leaves the network: connections stay open and silent, new ones hang.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

_CHUNK = 64 * 1024


class Link:
    """Forwards connections on a loopback port to another one."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._up = threading.Event()
        self._up.set()
        self._sockets: list[socket.socket] = []
        self._closed = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """Hold everything back from now on."""
        self._up.clear()

    def mend(self) -> None:
        """Let go on what still waits, and everything new."""
        self._up.set()

    def close(self) -> None:
        self._closed = True
        self._up.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(20)
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                continue
            self._sockets.append(near)
            self._up.wait()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._sockets.append(far)
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            for each in other:
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(1.0):
                    assert isinstance(key.fileobj, socket.socket)
                    self._up.wait()
                    data = key.fileobj.recv(_CHUNK)
                    if not data:
                        return
                    other[key.fileobj].sendall(data)
        for each in other:
            each.close()


@contextlib.contextmanager
def link(target: int) -> Iterator[Link]:
    """A link that is up, until the end of the `with`."""
    made = Link(target)
    try:
        yield made
    finally:
        made.close()
