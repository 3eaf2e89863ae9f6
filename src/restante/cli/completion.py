"""`restante completion`, and what a shell that runs its script is answered.

The scripts are click's. They run this tool with the line so far at every press of Tab, so nothing
is imported but the command that is being typed.
"""

import re
from collections.abc import Mapping

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

PROGRAM, VARIABLE = "restante", "_RESTANTE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

# What a parameter takes, by the words that its place in the usage line shows.
_FOLDERS = frozenset({"DIR", "DIRECTORY"})
_FILES = frozenset({"FILE", "OBJECT"})


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, choices and file names in a SHELL.

    \b
    Examples, for this session:
      eval "$(restante completion bash)"
      eval "$(restante completion zsh)"          # after compinit
      restante completion fish | source

    \b
    For every session:
      restante completion bash > ~/.local/share/bash-completion/completions/restante
      restante completion zsh > "${fpath[1]}/_restante"
      restante completion fish > ~/.config/fish/completions/restante.fish

    bash must be 4.4 or newer; its folder of completions needs the package bash-completion.
    """
    from restante.cli.root import root

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(root, {}, PROGRAM, VARIABLE).source(), nl=False)


def complete(root: click.Command) -> int:
    """Answer the shell that asks in the environment; the exit code.

    Nothing is complained about: a person is typing, and the line is not finished.
    """
    try:
        code = root.main(args=[], prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
    except (Exception, SystemExit) as ended:
        code = ended.code if isinstance(ended, SystemExit) else 1
    return code if isinstance(code, int) else 1


def named(commands: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    """The commands (name → one line) that begin so, without importing any of them."""
    return [
        CompletionItem(name, help=line)
        for name, line in commands.items()
        if name.startswith(incomplete)
    ]


def places(command: click.Command) -> click.Command:
    """The same command, for completion: what its usage line calls a DIR or a FILE is one."""
    for each in command.params:
        name = each.human_readable_name.upper() if isinstance(each, click.Argument) else ""
        words = set(re.findall("[A-Z]+", each.metavar or name))
        if each.type is click.STRING and words & (_FOLDERS | _FILES):
            each.type = click.Path(file_okay=bool(words & _FILES))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            places(below)
    return command


class _Bash(BashComplete):
    """`--mode=e` reaches us as the words `--mode`, `=` and `e`: bash breaks words there."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [each for each in args if each != "="], incomplete


add_completion_class(_Bash)
