"""`restante up`."""

import os
import sys

import click

from restante.cli.output import FAILED, reports
from restante.cli.place import node_path


@click.command()
@click.argument("directory", required=False)
@click.option("--role", help="validator,proposer,gateway, or some of them.")
@click.option("--network", help="none, or trace:FILE[,FILE…].")
@click.option("--port", type=click.IntRange(0, 65535), help="Where peers and `post` come; 0: any.")
@click.option("--gateway-port", type=click.IntRange(0, 65535), help="Where clients read; 0: any.")
@click.option("--clock", help="wall, or replay:FILE.")
@click.option("--log", "log_format", type=click.Choice(["text", "json"]), help="Form of the log.")
@reports
def up(
    directory: str | None,
    role: str | None,
    network: str | None,
    port: int | None,
    gateway_port: int | None,
    clock: str | None,
    log_format: str | None,
) -> None:
    """Run the node in DIRECTORY until Ctrl-C (or SIGTERM), which loses nothing.

    Options go before the environment (RESTANTE_<SECTION>_<KEY>), and that before restante.toml.
    Prints where it listens, then a line per window.

    \b
    Examples:
      restante up ~/restante
      restante up --role gateway --gateway-port 8080 ~/gateway
    """
    import asyncio
    import logging

    from restante.node import logs
    from restante.node.config import Value, load
    from restante.node.home import Home
    from restante.node.run import run

    home = Home(node_path(directory))
    flags: dict[str, Value] = {}
    if role is not None:
        flags["node.roles"] = [each.strip() for each in role.split(",") if each.strip()]
    given: dict[str, Value | None] = {
        "network.source": network,
        "listen.port": port,
        "gateway.port": gateway_port,
        "clock.source": clock,
        "log.format": log_format,
    }
    flags |= {name: value for name, value in given.items() if value is not None}
    config = load(home.config, os.environ, flags)
    logs.configure(config.text("log.format"))
    log = logging.getLogger("restante")

    def listening(urls: dict[str, str]) -> None:
        for part, url in urls.items():
            log.info("%s listens at %s", part, url, extra={"fields": {"role": part, "url": url}})

    try:
        asyncio.run(run(home, config, listening=listening))
    except (OSError, AssertionError) as error:
        # What must be durable is not: stop here, the next start rebuilds from disk.
        log.error("stopped: %s: %s", type(error).__name__, error, exc_info=True)
        sys.exit(FAILED)
    log.info("stopped; nothing that was acknowledged is lost")
