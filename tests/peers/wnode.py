"""wnode of go-ethereum v1.9.20. Start it only where no network is (`alone`)."""

import re
from collections.abc import Sequence
from pathlib import Path

from peers.process import BUILT, START_S, Spoken
from restante.testing.cluster import free_ports

TOPIC = bytes.fromhex("5a4ea131")
PASSWORD = "wwww"
"""What `-test` makes of everything that it would ask for: messages and mail requests alike."""

_ENODE = re.compile(r"enode://[0-9a-f]{128}@")
_SHOWN = re.compile(r"\n(\d+) [\[<][0-9a-f]{40}[\]>]: (.*)\n")


class Wnode(Spoken):
    """One wnode; `text` is everything it printed."""

    def __init__(self, arguments: Sequence[str], ready: str, port: int = 0) -> None:
        self.text = ""
        self._asked = 0
        self.port = port or free_ports(1)[0]
        super().__init__([BUILT / "wnode", *arguments, "-ip", f"127.0.0.1:{self.port}"])
        try:
            self.wait_for(ready, within_s=START_S)
        except BaseException:
            self.stop()
            raise

    def _heard(self, chunk: bytes) -> None:
        self.text += chunk.decode(errors="replace")

    def told(self) -> str:
        return self.text[-2000:]

    @property
    def enode(self) -> str:
        found = _ENODE.search(self.text)
        assert found is not None, self.text
        return f"{found.group()}127.0.0.1:{self.port}"

    @property
    def node_id(self) -> str:
        return self.enode[8:136]

    def wait_for(self, text: str, *, count: int = 1, within_s: float = 15.0) -> None:
        """Until it has printed this so often."""
        self.until(text, lambda: self.text.count(text) >= count, within_s)

    def say(self, line: str) -> None:
        """Type a line: a message, where it is a node that sends."""
        self.write(f"{line}\n".encode())

    def shown(self) -> list[tuple[int, str]]:
        """(sent time, text) of the messages that it decrypted."""
        return [(int(sent), text) for sent, text in _SHOWN.findall(self.text)]

    def wait_shown(self, text: str, within_s: float = 15.0) -> None:
        """Until it shows this message."""
        self.until(text, lambda: text in [each for _, each in self.shown()], within_s)

    def ask_mail(self, lower_s: int, upper_s: int, topic: str = "") -> None:
        """Type what a mail client asks for: the range and the topic (hex; all if empty)."""
        self._asked += 1
        prompts = (("lower limit", lower_s), ("upper limit", upper_s), ("Enter the topic", topic))
        for prompt, answer in prompts:
            self.wait_for(prompt, count=self._asked)
            self.say(str(answer))


def relay(*flags: str, port: int = 0) -> Wnode:
    """Waits for peers, relays, and shows what it can decrypt."""
    return Wnode(["-standalone", "-test", *flags], "Bootstrap Whisper node started", port)


def forwarder(*flags: str, port: int = 0) -> Wnode:
    """Only relays."""
    return Wnode(["-standalone", "-forwarder", *flags], "Bootstrap Whisper node started", port)


def mail_server(folder: Path, *flags: str, port: int = 0) -> Wnode:
    """Archives everything into a folder, and answers mail requests."""
    arguments = ["-standalone", "-mailserver", "-test", "-dbpath", str(folder), *flags]
    return Wnode(arguments, "Bootstrap Whisper node started", port)


def chat(enode: str, *flags: str) -> Wnode:
    """Connects; each line typed is a message to everybody."""
    return Wnode(["-test", "-boot", enode, *flags], "Please type the message")


def mail_client(enode: str, *flags: str) -> Wnode:
    """Connects to a mail server, and asks it for what `ask_mail` says."""
    return Wnode(["-mailclient", "-test", "-boot", enode, *flags], "lower limit")
