"""Passphrases of key files: from a file, the environment or a prompt, never from an argument."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from restante.cli.output import reports, show_json
from restante.cli.place import node_path

VARIABLE = "RESTANTE_PASSPHRASE"
NEW_VARIABLE = "RESTANTE_NEW_PASSPHRASE"


def passphrase_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--passphrase-file`."""
    return click.option(
        "--passphrase-file", type=click.Path(dir_okay=False, path_type=Path),
        help=f"A file whose first line is the keys' passphrase; else {VARIABLE}, or a prompt.",
    )(command)  # fmt: skip


def unlock(keys: Sequence[Path], file: Path | None) -> str | None:
    """The passphrase of those key files that are sealed; None where none is.

    Raises ConfigError `key-locked` where nobody can be asked, and as `node.home.read_key`.
    """
    from restante.errors import ConfigError
    from restante.node.home import UNLOCK_HINT, is_sealed

    sealed = [path for path in keys if is_sealed(path)]
    if not sealed:
        return None
    if (found := _given(file, VARIABLE)) is not None:
        return found
    names = ", ".join(path.name for path in sealed)
    if not sys.stdin.isatty():
        raise ConfigError(f"{names} under a passphrase", code="key-locked", hint=UNLOCK_HINT)
    return _ask(f"Passphrase of {names}")


def choose(file: Path | None, variable: str = VARIABLE) -> str:
    """A passphrase for keys that are to be sealed; typed twice where it is typed.

    Raises ConfigError `passphrase`, `key-locked`.
    """
    from restante.errors import ConfigError

    if (found := _given(file, variable)) is not None:
        return found
    if not sys.stdin.isatty():
        raise ConfigError(
            "there is no passphrase to seal the keys with",
            code="key-locked",
            hint=f"set {variable}, or name a file",
        )
    return _ask("New passphrase", confirm=True)


def _given(file: Path | None, variable: str) -> str | None:
    """Of a file or the environment. Raises ConfigError `passphrase`, which quotes nothing."""
    from restante import limits
    from restante.errors import ConfigError

    if file is None:
        return os.environ.get(variable) or None
    try:
        with file.open("rb") as opened:
            lines = opened.read(limits.PASSPHRASE_FILE_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}", code="passphrase") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8", code="passphrase") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{file} has no first line", code="passphrase")
    return lines[0]


def _ask(what: str, confirm: bool = False) -> str:
    typed: str = click.prompt(what, hide_input=True, err=True, confirmation_prompt=confirm)
    return typed


@click.command()
@click.argument("place", required=False, metavar="[DIR|FILE]")
@passphrase_file
@click.option(
    "--new-passphrase-file", "new_file", type=click.Path(dir_okay=False, path_type=Path),
    help=f"The same for the new one; else {NEW_VARIABLE}, or a prompt.",
)  # fmt: skip
@click.option("--remove", is_flag=True, help="Leave the keys without a passphrase.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@reports
def passphrase(
    place: str | None,
    passphrase_file: Path | None,
    new_file: Path | None,
    remove: bool,
    as_json: bool,
) -> None:
    """Put the keys of the node in DIR (or one key file) under a passphrase, or under another one.

    A sealed key is an age file (age-encryption.org): `age -d` opens it too. The key itself stays
    the same, and a running node goes on. Earlier bytes may still be found on the disk and in
    copies: a key that must never have stood there in clear is made with `init --seal` or
    `set key --seal`. Nobody can open a key whose passphrase is forgotten.

    \b
    Examples:
      restante passphrase ~/restante
      restante passphrase --new-passphrase-file next ~/restante/validator.key
    """
    from restante.errors import ConfigError
    from restante.node.home import Home, change_passphrase

    given = node_path(place)
    keys = [given] if given.is_file() else Home(given).key_files()
    if not keys:
        raise ConfigError(
            f"there is no key in {given}", code="key-missing", hint="name a node's folder or a key"
        )
    old = unlock(keys, passphrase_file)
    new = None if remove else choose(new_file, NEW_VARIABLE)
    for key in keys:
        change_passphrase(key, old, new)
    if as_json:
        show_json({"keys": [str(key) for key in keys], "sealed": new is not None})
        return
    for key in keys:
        click.echo(f"{key}: {'without a passphrase' if new is None else 'under a new passphrase'}")
