"""The commands. Each command is imported only when it runs, so that --help stays fast."""

from importlib import import_module
from typing import TYPE_CHECKING

import click

from restante import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# name → (section, module of restante.cli, attribute, one line)
COMMANDS = {
    "init": ("node", "init", "init", "Make a node of your own: keys, configuration, storage."),
    "up": ("node", "up", "up", "Run a node until Ctrl-C."),
    "backup": ("node", "backup", "backup", "Copy what may be kept of a node."),
    "restore": ("node", "backup", "restore", "Put a backup back, and say what is lost."),
    "passphrase": ("node", "passphrase", "passphrase", "Put a node's keys under a passphrase."),
    "post": ("messages", "post", "post", "Make an envelope and hand it to a node."),
    "query": ("messages", "query", "query", "Retrieve envelopes, everything verified."),
    "watch": ("messages", "watch", "watch", "Print what arrives, live, and what was missed."),
    "verify": ("messages", "verify", "verify", "Check proof files, offline."),
    "mirror": ("archive", "mirror", "mirror", "Copy an archive, verified, for anybody to serve."),
    "inspect": ("look", "inspect", "inspect", "Show any object or CID."),
    "status": ("look", "status", "status", "Say how a node is; fails when it is not well."),
    "peers": ("look", "peers", "peers", "Show the network's peers of a node."),
    "fsck": ("look", "fsck", "fsck", "Prove a node's folder from its bytes."),
    "set": ("validator sets", "sets", "set_", "Make validator keys and sets; join one."),
    "completion": ("shell", "completion", "completion", "Complete words in bash, zsh or fish."),
    "dev": ("development", "dev", "dev", "Demo, simulation, judging of envelopes."),
}


class Commands(click.Group):
    """The root group, in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        _, module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"restante.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        if ctx.resilient_parsing:
            from restante.cli.completion import places

            return places(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from restante.cli.completion import named

        lines = {name: entry[3] for name, entry in COMMANDS.items()}
        # Not `Group`'s, which imports every command for its help.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*named(lines, incomplete), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry[0] for entry in COMMANDS.values()):
            rows = [(name, entry[3]) for name, entry in COMMANDS.items() if entry[0] == section]
            with formatter.section(section.capitalize()):
                formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="restante")
def root() -> None:
    """Restante keeps a gossip network's messages until their addressees call for them.

    \b
    Alone on this machine:
      restante init ~/restante
      restante up ~/restante
      restante post --node ~/restante --topic news --password-file secret --wait 'hello'
      restante query --policy ~/restante/policy --topic news --password-file secret

    Exit codes: 0 ok, 1 failed, 2 usage, 3 verification failed, 4 unavailable, 130 interrupted.
    """
