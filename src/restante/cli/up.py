"""`restante up`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from restante.cli.output import FAILED, exit_code, reports
from restante.cli.passphrase import VARIABLE, passphrase_file, unlock
from restante.cli.place import node_path

if TYPE_CHECKING:
    from restante.node.config import Config
    from restante.node.home import Home


@click.command()
@click.argument("directory", required=False)
@click.option("--role", help="validator,proposer,gateway,mailserver, or some of them.")
@click.option("--network", help="none, whisper, or trace:FILE[,FILE…].")
@click.option(
    "--peer", "peers", multiple=True, metavar="ENODE",
    help="Observe Whisper through this node, too. Repeatable.",
)  # fmt: skip
@click.option(
    "--whisper-port", type=click.IntRange(0, 65535), help="Where Whisper nodes come; 0: any."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Where peers and `post` come; 0: any.")
@click.option("--gateway-port", type=click.IntRange(0, 65535), help="Where clients read; 0: any.")
@click.option("--clock", help="wall, or replay:FILE.")
@click.option("--log", "log_format", type=click.Choice(["text", "json"]), help="Form of the log.")
@passphrase_file
@reports
def up(
    directory: str | None,
    role: str | None,
    network: str | None,
    peers: tuple[str, ...],
    whisper_port: int | None,
    port: int | None,
    gateway_port: int | None,
    clock: str | None,
    log_format: str | None,
    passphrase_file: Path | None,
) -> None:
    """Run the node in DIRECTORY until Ctrl-C (or SIGTERM), which loses nothing.

    Options go before the environment (RESTANTE_<SECTION>_<KEY>), and that before restante.toml.
    Prints where it listens, then a line per window. Keys under a passphrase are opened once, at the
    start: with --passphrase-file, RESTANTE_PASSPHRASE, node.passphrase_file, or what is typed.

    \b
    Examples:
      restante up ~/restante
      restante up --peer enode://<node id>@192.0.2.7:30303 ~/restante
      restante up --role gateway --gateway-port 8080 ~/gateway
      restante up --role mailserver --peer enode://<node id>@192.0.2.7:30303 ~/gateway
    """
    import asyncio
    import logging

    from restante.errors import RestanteError
    from restante.node import logs
    from restante.node.config import Value, load
    from restante.node.home import Home
    from restante.node.run import run

    home = Home(node_path(directory))
    flags: dict[str, Value] = {}
    if role is not None:
        flags["node.roles"] = [each.strip() for each in role.split(",") if each.strip()]
    if peers and network is None:
        network = "whisper"
    given: dict[str, Value | None] = {
        "network.source": network,
        "whisper.port": whisper_port,
        "listen.port": port,
        "gateway.port": gateway_port,
        "clock.source": clock,
        "log.format": log_format,
    }
    flags |= {name: value for name, value in given.items() if value is not None}
    config = load(home.config, os.environ, flags)
    if peers:
        dialled = [*config.list_("whisper.peers"), *peers]
        config = load(home.config, os.environ, {**flags, "whisper.peers": dialled})
    logs.configure(config.text("log.format"))
    log = logging.getLogger("restante")

    def listening(urls: dict[str, str]) -> None:
        for part, url in urls.items():
            log.info("%s listens at %s", part, url, extra={"fields": {"role": part, "url": url}})

    try:
        # Before the loop, which takes Ctrl-C for its own: somebody may have to type it.
        passphrase = _passphrase(home, config, passphrase_file)
        asyncio.run(run(home, config, listening=listening, passphrase=passphrase))
    except RestanteError as error:
        if config.text("log.format") != "json":
            raise
        fields = {"code": error.code, "hint": error.hint}
        log.error("%s", error, extra={"fields": fields})
        sys.exit(exit_code(error))
    except (OSError, AssertionError) as error:
        # What must be durable is not: stop here, the next start rebuilds from disk.
        log.error("stopped: %s: %s", type(error).__name__, error, exc_info=True)
        sys.exit(FAILED)
    log.info("stopped; nothing that was acknowledged is lost")


def _passphrase(home: "Home", config: "Config", file: Path | None) -> str | None:
    named = config.text("node.passphrase_file")
    if file is None and named and VARIABLE not in os.environ:
        file = home.path / named
    return unlock(home.key_files(config.list_("node.roles")), file)
