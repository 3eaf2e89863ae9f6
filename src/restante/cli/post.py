"""`restante post`."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from restante.cli.output import reports, show_json
from restante.errors import ConfigError, Refused

if TYPE_CHECKING:
    from restante.formats.descriptor import Descriptor
    from restante.networks.whisper.mine import Progress


@click.command()
@click.argument("text", required=False, metavar="[MESSAGE]")
@click.option(
    "--node", metavar="DIR|URL", help="The node; by default the one of RESTANTE_PATH or this user."
)
@click.option(
    "--peer", "peers", multiple=True, metavar="ENODE",
    help="Send it through this Whisper node. Repeatable; then --node is only used if given.",
)  # fmt: skip
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
@click.option("--wait", is_flag=True, help="Follow it into the index, and save a proof of it.")
@click.option(
    "--proof", "proof_file", type=click.Path(dir_okay=False, path_type=Path),
    help="For --wait: where; by default <id>.tlog-proof in this directory.",
)  # fmt: skip
@click.option("--alone", is_flag=True, help="Hand it to this node only.")
@click.option("--timeout", type=float, default=300.0, show_default=True, help="For --wait, in s.")
@click.option(
    "--policy", type=click.Path(dir_okay=False, path_type=Path),
    help="With a URL, or --peer: the set's policy file, for --wait and for the other validators.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def post(
    text: str | None,
    node: str | None,
    peers: tuple[str, ...],
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
    proof_file: Path | None,
    alone: bool,
    timeout: float,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Make an envelope: encrypt a message, mine its proof of work, hand it in, or send it.

    Without MESSAGE and --file it is read from standard input. It is encrypted with a password
    (--password-file, --ask-password, or RESTANTE_PASSWORD in the environment), a symmetric key
    (--key-file, --ask-key, or RESTANTE_KEY) or a public key, and signed with the key of
    --sign-key-file or RESTANTE_SIGN_KEY, if any; secrets are never given as arguments.

    It is handed to the node, which sends it on to its network's peers, and to the other validators
    that the set's policy names, if it is at hand: what f + 1 of them hold at a window's end is in
    that window's batch. --alone leaves them out.

    With --peer it is sent through Whisper nodes, worked for as much as the set and each of these
    demand. Nobody but --node is handed it then: validators observe the network.

    --wait follows the log until the envelope is in a batch, and saves a proof that anybody can
    check offline (restante verify). Whole windows are read for it, so that nobody learns which
    envelope is waited for.

    \b
    Examples:
      restante post --node ~/restante --topic news --password-file secret --wait 'hello'
      restante post --peer enode://<node id>@127.0.0.1:30303 --policy policy --topic news \\
        --password-file secret --wait 'hello'
      echo hello | restante post --node http://127.0.0.1:8420 --topic 5a4ea131 --key-file key

    Exit codes: 0 ok, 1 refused, 2 usage, 3 verification failed, 4 no node, or not in time.
    """
    from restante.cli.handing import Target
    from restante.cli.printing import printable
    from restante.cli.words import parse_enodes
    from restante.durable import write_file
    from restante.formats.proof import SUFFIX

    chosen = _topic(topic, topic_name)
    message = _message(text, file)
    target = Target.of(node, policy, parse_enodes(peers), alone=alone)
    data = _encrypt(
        message, key_file, password_file, ask_password, ask_key, public_key, sign_key_file
    )
    follower = target.follower() if wait else None
    started = time.monotonic()
    handed = target.take(
        lambda floor, stopped: _mine(chosen, data, ttl, target.descriptor, floor, stopped)
    )
    id_, size = handed.id.hex(), len(handed.raw)
    result = {"id": id_, "topic": chosen.hex(), "bytes": size, **handed.to}
    if not as_json:
        click.echo(f"{handed.in_words}: {id_} ({size} bytes, topic {chosen.hex()})")
    if follower is not None:
        file = proof_file or Path(f"{id_[:16]}{SUFFIX}")
        with follower:
            window, proof = follower.wait(handed.id, timeout)
        write_file(file, proof)
        result |= {"window": window, "proof": str(file)}
        if not as_json:
            seconds = time.monotonic() - started
            click.echo(f"in the batch of window {window}, verified, after {seconds:.0f} s")
            click.echo(f"proof: {printable(str(file))}")
    if as_json:
        show_json(result)


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


def _mine(
    topic: bytes, data: bytes, ttl: int, d: "Descriptor", floor: int, stopped: Callable[[], bool]
) -> bytes:
    """The envelope, its proof of work found; `floor` in millionths. Raises ConfigError, NotMined
    once it is `stopped`."""
    from restante.formats import whisper
    from restante.networks.whisper.mine import mine

    if ttl > d.ttl_max_s:
        raise ConfigError(f"a TTL of {ttl} s; this set keeps at most {d.ttl_max_s}")
    live = sys.stderr.isatty()

    def show(progress: "Progress") -> bool:
        if live:
            click.echo(
                f"\rmining: {progress.tries:,} hashes, {progress.expected:,} on average ",
                nl=False,
                err=True,
            )
        return not stopped()

    expiry = int(time.time()) + ttl
    nonce = mine(expiry, ttl, topic, data, floor, progress=show)
    if live:
        click.echo("\r\x1b[K", nl=False, err=True)
    raw = whisper.assemble(expiry, ttl, topic, data, nonce)
    if len(raw) > d.max_envelope_bytes:
        raise Refused(f"an envelope of {len(raw)} bytes; the set takes {d.max_envelope_bytes}")
    return raw
