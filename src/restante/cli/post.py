"""`restante post`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante.cli.output import reports, show_json
from restante.errors import ConfigError, InvalidEncoding, Refused, RestanteError, Unavailable

if TYPE_CHECKING:
    from restante.formats.descriptor import Descriptor
    from restante.networks.whisper.mine import Progress


_NO_NODE = "a gateway serves the archive only: give the node's own port, which `up` printed"


@click.command()
@click.argument("text", required=False, metavar="[MESSAGE]")
@click.option(
    "--node", metavar="DIR|URL", help="The node; by default the one of RESTANTE_PATH or this user."
)
@click.option("--topic", help="8 hex digits, or a name, hashed as Whisper does.")
@click.option("--topic-name", help="A name, also if it looks like hex.")
@click.option("--file", "file", type=click.File("rb"), help="The message is in this file.")
@click.option(
    "--key-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Encrypt with the symmetric key (64 hex digits) in this file.",
)  # fmt: skip
@click.option(
    "--password-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Encrypt with the password in this file's first line.",
)  # fmt: skip
@click.option("--ask-password", is_flag=True, help="Ask for the password.")
@click.option("--ask-key", is_flag=True, help="Ask for the symmetric key.")
@click.option("--to", "public_key", metavar="HEX", help="Encrypt to this public key (130 digits).")
@click.option(
    "--sign-key-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Sign with the private key (64 hex digits) in this file.",
)  # fmt: skip
@click.option("--ttl", type=click.IntRange(min=1), default=60, show_default=True, help="Seconds.")
@click.option("--wait", is_flag=True, help="Follow it into the index, everything verified.")
@click.option("--timeout", type=float, default=300.0, show_default=True, help="For --wait, in s.")
@click.option(
    "--policy", type=click.Path(dir_okay=False, path_type=Path),
    help="For --wait with a URL: the set's policy file.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def post(
    text: str | None,
    node: str | None,
    topic: str | None,
    topic_name: str | None,
    file: Any,
    key_file: Path | None,
    password_file: Path | None,
    ask_password: bool,
    ask_key: bool,
    public_key: str | None,
    sign_key_file: Path | None,
    ttl: int,
    wait: bool,
    timeout: float,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Make an envelope: encrypt a message, mine its proof of work, hand it to a node.

    Without MESSAGE and --file it is read from standard input. It is encrypted with a password
    (--password-file, --ask-password, or RESTANTE_PASSWORD in the environment), a symmetric key
    (--key-file, --ask-key, or RESTANTE_KEY) or a public key, and signed with the key of
    --sign-key-file or RESTANTE_SIGN_KEY, if any; secrets are never given as arguments.

    --wait follows the log until the envelope is in a batch, reading whole windows, so that nobody
    learns which envelope is waited for.

    \b
    Examples:
      restante post --node ~/restante --topic news --password-file secret --wait 'hello'
      echo hello | restante post --node http://127.0.0.1:8420 --topic 5a4ea131 --key-file key

    Exit codes: 0 ok, 1 refused, 2 usage, 3 verification failed, 4 no node, or not in time.
    """
    from restante.cli.nodes import node_url

    url = node_url(node)
    d = _descriptor(node, url)
    chosen = _topic(topic, topic_name)
    message = _message(text, file)
    data = _encrypt(
        message, key_file, password_file, ask_password, ask_key, public_key, sign_key_file
    )
    follower = _Follower(node, url, policy) if wait else None
    raw = _mine(chosen, data, ttl, d)
    started = time.monotonic()
    found = _hand_in(url, raw)
    result = {"id": found["id"], "topic": chosen.hex(), "bytes": len(raw)}
    if not as_json:
        click.echo(f"handed in: {found['id']} ({len(raw)} bytes, topic {chosen.hex()})")
    if follower is not None:
        window = follower.wait(bytes.fromhex(found["id"]), timeout)
        result["window"] = window
        if not as_json:
            seconds = time.monotonic() - started
            click.echo(f"in the batch of window {window}, verified, after {seconds:.0f} s")
    if as_json:
        show_json(result)


def _descriptor(node: str | None, url: str) -> "Descriptor":
    """The set's parameters: from the node's folder, or what the node says of itself."""
    from restante.cli.nodes import fetch, folder
    from restante.formats.descriptor import Descriptor
    from restante.node.home import Home

    path = folder(node)
    if path is not None:
        return Home(path).read_descriptor()
    try:
        # It only says how much work to do; a wrong one costs work, or a refusal.
        with _of_a_node(url):
            return Descriptor.parse(fetch("GET", f"{url}/descriptor"))
    except InvalidEncoding as error:
        raise Unavailable(
            f"{url} gave no descriptor: {error}", code="not-a-node", hint=_NO_NODE
        ) from error


def _hand_in(url: str, raw: bytes) -> Any:
    from restante.cli.nodes import request

    with _of_a_node(url):
        return request("POST", f"{url}/envelopes", raw)


@contextmanager
def _of_a_node(url: str) -> Iterator[None]:
    """Say of an answer that no node gives that it may be a gateway's."""
    try:
        yield
    except RestanteError as error:
        if error.code in ("http", "not-found", "method", "not-a-node"):
            raise Unavailable(
                f"{url} takes no envelopes: {error}", code="not-a-node", hint=_NO_NODE
            ) from error
        raise


def _topic(topic: str | None, name: str | None) -> bytes:
    from restante.cli.words import parse_topic, topic_of_name

    if (topic is None) == (name is None):
        raise ConfigError("give one topic", hint="--topic 5a4ea131, or --topic news")
    return parse_topic(topic) if topic is not None else topic_of_name(name or "")


def _message(text: str | None, file: Any) -> bytes:
    if text is not None and file is not None:
        raise ConfigError("give a message or --file, not both")
    if text is not None:
        return text.encode()
    data = (file or sys.stdin.buffer).read()
    assert isinstance(data, bytes)
    return data


def _encrypt(
    message: bytes,
    key_file: Path | None,
    password_file: Path | None,
    ask: bool,
    ask_for_key: bool,
    public_key: str | None,
    sign_key_file: Path | None,
) -> bytes:
    from restante.cli.keys import ask_key, environment_key, read_key, read_secret
    from restante.networks.whisper import crypt

    environment = os.environ.get("RESTANTE_PASSWORD")
    ways = [key_file, password_file, ask or None, ask_for_key or None, public_key]
    if sum(way is not None for way in ways) > 1:
        raise ConfigError("choose one way to encrypt: key, password or public key")
    signer = (
        environment_key("RESTANTE_SIGN_KEY") if sign_key_file is None else read_key(sign_key_file)
    )
    if public_key is not None:
        try:
            to = bytes.fromhex(public_key.removeprefix("0x"))
        except ValueError:
            raise ConfigError("a public key has 130 hex digits") from None
        return crypt.encrypt_asymmetric(message, to, sign_with=signer)
    if key_file is not None:
        key = read_key(key_file)
    elif password_file is not None:
        key = crypt.password_key(read_secret(password_file))
    elif ask:
        key = crypt.password_key(click.prompt("Password", hide_input=True, err=True))
    elif ask_for_key:
        key = ask_key()
    elif environment and os.environ.get("RESTANTE_KEY"):
        raise ConfigError(
            "RESTANTE_PASSWORD and RESTANTE_KEY are both set",
            hint="set one of them, or choose by an option",
        )
    elif (named := environment_key("RESTANTE_KEY")) is not None:
        key = named
    elif environment:
        key = crypt.password_key(environment)
    else:
        raise ConfigError(
            "nothing to encrypt with",
            hint="--password-file, --ask-password, --key-file, --ask-key, --to, or in the "
            "environment RESTANTE_PASSWORD or RESTANTE_KEY",
        )
    return crypt.encrypt_symmetric(message, key, sign_with=signer)


def _mine(topic: bytes, data: bytes, ttl: int, d: "Descriptor") -> bytes:
    """The envelope, its proof of work found. Raises ConfigError."""
    from restante.formats import whisper
    from restante.networks.whisper.mine import mine

    if ttl > d.ttl_max_s:
        raise ConfigError(f"a TTL of {ttl} s; this set keeps at most {d.ttl_max_s}")
    live = sys.stderr.isatty()

    def show(progress: "Progress") -> None:
        if live:
            click.echo(
                f"\rmining: {progress.tries:,} hashes, {progress.expected:,} on average ",
                nl=False,
                err=True,
            )

    expiry = int(time.time()) + ttl
    nonce = mine(expiry, ttl, topic, data, d.pow_floor_millionths, progress=show)
    if live:
        click.echo("\r\x1b[K", nl=False, err=True)
    raw = whisper.assemble(expiry, ttl, topic, data, nonce)
    if len(raw) > d.max_envelope_bytes:
        raise Refused(f"an envelope of {len(raw)} bytes; the set takes {d.max_envelope_bytes}")
    return raw


class _Follower:
    """Reads the log, whole windows at a time, until an envelope is in it."""

    def __init__(self, node: str | None, url: str, policy_file: Path | None) -> None:
        """Notes where the log stands before the envelope is handed in."""
        from restante.cli.nodes import folder
        from restante.client import ProcessMemory, parse_source, read_policy
        from restante.client.sources import sources_of

        path = folder(node)
        if policy_file is None:
            if path is None:
                raise ConfigError("--wait with a URL needs --policy", hint="whose keys to trust")
            policy_file = path / "policy"
        self._policy = read_policy(policy_file)
        named = [parse_source(url)]
        named += [s for s in sources_of(self._policy) if s.name.rstrip("/") != url]
        self._sources = named
        self._memory = ProcessMemory()
        self._since = self._size() or 0

    def _size(self) -> int | None:
        from restante.client import Client

        try:
            return Client(self._policy, self._sources, self._memory).refresh().checkpoint.size
        except Unavailable:
            return None

    def wait(self, id_: bytes, timeout_s: float) -> int:
        """The window whose batch holds the envelope. Raises Unavailable `not-in-time`."""
        from restante.client import Client, Query

        client = Client(self._policy, self._sources, self._memory)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                trusted = client.refresh()
                size = trusted.checkpoint.size
                if size > self._since:
                    for found in trusted.query(Query((), since=self._since, mode="all")):
                        if found.id == id_:
                            return found.window
                    self._since = size
            except Unavailable:
                pass
            time.sleep(0.5)
        raise Unavailable(
            f"not in a batch after {timeout_s:.0f} s", code="not-in-time", hint="it may still be"
        )
