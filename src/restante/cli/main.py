"""The entry point: it runs a command, and turns how that ends into a message and an exit code."""

import sys


def main() -> None:
    """The entry point."""
    # Everything else is imported inside: an interruption in the first moments ends cleanly too.
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _run() -> int:
    """Run the command of the arguments; its exit code."""
    import os

    import click

    from restante.cli.output import FAILED, INTERRUPTED, complain, complaint_of, exit_code
    from restante.cli.root import root
    from restante.errors import RestanteError

    if "_RESTANTE_COMPLETE" in os.environ:
        from restante.cli.completion import complete

        return complete(root)
    try:
        # Outside of click's standalone mode `Context.exit(code)` returns the code.
        code = root.main(prog_name="restante", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except RestanteError as error:
        complain(error)
        return exit_code(error)
    except (OSError, ImportError) as error:
        if not isinstance(error, BrokenPipeError):  # as in `restante query … | head`
            complain(complaint_of(error))
        if isinstance(error, OSError) and not error.filename:
            # Perhaps standard output: what it still holds would fail again as Python ends.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
