"""`restante dev …`: what builds and breaks the system itself."""

from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "demo": "The whole system on a recorded trace, hostile parties among it.",
    "sim": "Seeded simulation of the rules on virtual time.",
    "judge": "What reception and R0 say of the envelopes in a file.",
}


class _Dev(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"restante.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from restante.cli.completion import named

        # Not `Group`'s, which imports every command for its help.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*named(COMMANDS, incomplete), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Dev)
def dev() -> None:
    """Demo, simulation, judging of envelopes."""
